"""Documents into the archive: sorted by pure code, then written with their account and the checkpoint in one transaction."""

from migration.load.landing import Erasures, Loader, Sink, Taken
from migration.load.ports import Archive
from migration.load.sorting import Batch, Options, Sorter

__all__ = ["Archive", "Batch", "Erasures", "Loader", "Options", "Sink", "Sorter", "Taken"]
