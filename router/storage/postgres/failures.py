"""PostgreSQL's and asyncpg's errors as the product's. Messages name the class and the constraint, never a value:
PostgreSQL's own text may quote a phone number."""

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from router.domain.errors import Conflict, FigueiraError, StoreError, Unavailable

_AGAIN = frozenset({"23505", "40001", "40P01"})  # unique_violation, serialization_failure, deadlock_detected
# Connection, resources, operator intervention, I/O; a server in recovery; a lock or statement time-out.
_AWAY_CLASSES = ("08", "53", "57", "58")
_AWAY = frozenset({"25006", "25P03", "55P03", "3D000", "28000", "28P01"})


def translate(error: Exception) -> FigueiraError:
    """The domain's word for what asyncpg raised."""
    if not isinstance(error, asyncpg.PostgresError):
        return Unavailable(f"the database cannot be reached ({type(error).__name__})")
    state = error.sqlstate or ""
    what = f"{type(error).__name__} {state}"
    if state in _AGAIN:
        return Conflict(f"{what} {error.constraint_name or ''}".rstrip())
    if state in _AWAY or state.startswith(_AWAY_CLASSES):
        return Unavailable(f"the database cannot be reached ({what})")
    return StoreError(f"the database refused a statement ({what} {error.table_name or ''})")


@contextmanager
def translated() -> Iterator[None]:
    """Nothing of asyncpg leaves the block."""
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InternalClientError) as error:
        raise translate(error) from None  # the original's text may quote a row
    except (OSError, asyncpg.InterfaceError, TimeoutError) as error:
        raise translate(error) from error
