"""In which order collections are copied. What is in a room is told by its room; chunks of a file by their file."""

from typing import Final

from migration.collections import Bytes, Copied, Left
from router.storage.archive.shape import MESSAGES, ROOMS

STAGES: Final = range(5)
"""Rooms; whatever is about rooms and persons; messages; which files there are in GridFS; their chunks. Every part of a
stage is done before the next one begins."""


def stage(what: Copied | Left | Bytes) -> int:
    """The stage of a collection that is treated so."""
    if isinstance(what, Bytes):
        return 3 if what.role == "files" else 4
    if isinstance(what, Copied) and what.shape is ROOMS:
        return 0
    return 2 if isinstance(what, Copied) and what.shape is MESSAGES else 1
