"""The legacy path: forwarding, the REST client and the parser of Rocket.Chat's own webhooks."""
