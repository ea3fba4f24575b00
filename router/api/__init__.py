"""HTTP: the providers' webhooks as bare ASGI in front, everything else in FastAPI."""
