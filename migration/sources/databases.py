"""Which of a dump's databases is Rocket.Chat's, and what the collections are called."""

from collections.abc import Iterable
from typing import Final

Namespace = tuple[str, str]
"""Database and collection; the database is "" for what belongs to none (the oplog)."""

_SYSTEM: Final = frozenset({"", "admin", "config", "local"})


def home(namespaces: Iterable[Namespace]) -> str | None:
    """Rocket.Chat's database: the one with `users` and the most `rocketchat_…` collections. None: there is none at all."""
    collections: dict[str, set[str]] = {}
    for database, collection in namespaces:
        collections.setdefault(database, set()).add(collection)

    def likeness(database: str) -> tuple[bool, int, bool]:
        names = collections[database]
        own = sum(name.startswith("rocketchat_") for name in names)
        return ("users" in names and own > 0, own, database not in _SYSTEM)

    best = max(sorted(collections), key=likeness, default=None)
    return best or None


def named(namespaces: Iterable[Namespace]) -> dict[str, Namespace]:
    """Each collection by its name: that of Rocket.Chat's database by its own, others as `database.collection`."""
    found = sorted(set(namespaces))
    main = home(found)
    names: dict[str, Namespace] = {collection: (db, collection) for db, collection in found if db == main}
    for database, collection in found:
        if database != main:
            name = f"{database}.{collection}" if database or collection in names else collection
            names[name] = (database, collection)
    return dict(sorted(names.items()))
