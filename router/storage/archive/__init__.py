"""What was copied from Rocket.Chat's MongoDB: its documents, the runs that copied them, and what was refused."""

from router.storage.archive.store import Archive, BadRows, open_archive

__all__ = ["Archive", "BadRows", "open_archive"]
