"""Split: what an accepted event becomes. Providers' events in `split`, Rocket.Chat's own in `rooms`."""

from router.ingest.rooms import Rooms
from router.ingest.split import Ingest

__all__ = ["Ingest", "Rooms"]
