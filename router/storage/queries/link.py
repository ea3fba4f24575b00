"""What the queries share: the connection under a transaction, and conditions with numbered parameters."""

from typing import TYPE_CHECKING, Any

from router.domain.ports import Tx
from router.storage.postgres.base import Base

if TYPE_CHECKING:
    from router.storage.postgres.base import Link

Row = dict[str, Any]


def link_of(tx: Tx) -> "Link":
    """The connection of a transaction of PostgresStore. Raises TypeError for any other."""
    if not isinstance(tx, Base):
        raise TypeError("these queries run on PostgreSQL only")
    return tx._link  # noqa: SLF001  the same package's own transaction


async def rows(tx: Tx, sql: str, *values: object) -> list[Row]:
    """All rows, as dicts."""
    return [dict(row) for row in await link_of(tx).fetch(sql, *values)]


async def row(tx: Tx, sql: str, *values: object) -> Row | None:
    """The first row, as a dict."""
    found = await link_of(tx).fetchrow(sql, *values)
    return dict(found) if found else None


def like(text: str) -> str:
    """A pattern for ILIKE that finds `text` anywhere, with its own % and _ taken literally."""
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


class Where:
    """Conditions joined by `and`; `{}` in one stands for its value's parameter. A value of None asks for nothing."""

    def __init__(self) -> None:
        self.values: list[object] = []
        self._parts: list[str] = []

    def add(self, condition: str, *values: object) -> "Where":
        """`condition` with one `{}` for each value."""
        if not values or values[0] is not None:
            first = len(self.values) + 1
            self._parts.append(condition.format(*(f"${first + place}" for place in range(len(values)))))
            self.values += values
        return self

    @property
    def sql(self) -> str:
        """` where …`, or nothing."""
        return f" where {' and '.join(self._parts)}" if self._parts else ""
