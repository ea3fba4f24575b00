"""What arrives: `split` takes a provider's event apart, `rooms` and `sweep` hear what Rocket.Chat did."""

from router.ingest.rooms import Rooms
from router.ingest.split import Ingest
from router.ingest.sweep import Sweep, Swept

__all__ = ["Ingest", "Rooms", "Sweep", "Swept"]
