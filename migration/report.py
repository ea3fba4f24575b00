"""Counts as the commands' `--json` writes them."""

from collections.abc import Mapping
from typing import Any

from router.storage.archive.model import Account


def report(counts: Mapping[str, Account], *, differences: int = 0) -> dict[str, Any]:
    """`counts` by the collection's name in the source. `changed`: rows inserted, updated or deleted; `differences`:
    what verify found, documents whose two sides are not the same."""
    return {
        "collections": {name: _collection(counts[name]) for name in sorted(counts)},
        "changed": sum(account.changed for account in counts.values()),
        "differences": differences,
    }


def _collection(account: Account) -> dict[str, Any]:
    return {
        "source": account.source,
        "written": account.written,
        "skipped": sum(account.skipped.values()),
        "rejected": account.rejected,
        "erased": account.erased,
        "skipped_by_reason": {reason: account.skipped[reason] for reason in sorted(account.skipped)},
    }
