"""What people and programs need of Rocket.Chat beside its messages: is it set up, set it up, make a user."""

from adapters.rocketchat.admin.workspace import Admin

__all__ = ["Admin"]
