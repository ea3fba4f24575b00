"""Rocket.Chat's REST API, as far as the router calls it, with our own count of its rate limit."""

from adapters.rocketchat.rest.client import Client
from adapters.rocketchat.rest.port import RocketChatRest, User
from adapters.rocketchat.rest.rooms import phones, token_digest
from adapters.rocketchat.rest.sender import TEXT_LENGTH, RocketChatSender

__all__ = [
    "TEXT_LENGTH",
    "Client",
    "RocketChatRest",
    "RocketChatSender",
    "User",
    "phones",
    "token_digest",
]
