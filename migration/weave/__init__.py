"""Livechat rooms of the archive made into people, conversations and messages: silently, with their original times.

What live traffic has already stays as it is: a message is looked up by its `_id`, then claimed by content as the webhook
and the sweep claim it, and only then inserted. Nothing is sent, nothing is due, nothing is unread.
"""

from migration.weave.weave import Weave, Woven

__all__ = ["Weave", "Woven"]
