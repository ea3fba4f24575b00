"""The cut-in: let a channel's provider post to us instead of to Rocket.Chat, watch that it goes on, set it back.

The order is the promise: the way in is proved, Rocket.Chat's open rooms are known and pinned, and what stood there is
kept in a committed row, before the first byte moves. Afterwards the provider is asked again: what counts is what it
says, not that it took the call.
"""

from router.control.callbacks.drift import check_drift, drift_loop_once
from router.control.callbacks.look import show
from router.control.callbacks.move import restore, set_callback

__all__ = ["check_drift", "drift_loop_once", "restore", "set_callback", "show"]
