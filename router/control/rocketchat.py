"""Is Rocket.Chat set up for the router, and setting it up."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from router.control import audit
from router.control.desk import Desk
from router.domain.channel import RESERVED
from router.domain.errors import ConfigurationError
from router.domain.ports import Finding, RocketChatAdmin, Tx

WEBHOOK: Final = f"/webhooks/{RESERVED}"

_NO_ADMIN: Final = (
    "[rocketchat] user_id and auth_token are not set: make a personal access token there and name both"
)
_NO_URL: Final = "set FIGUEIRA_PUBLIC_URL to the address at which Rocket.Chat reaches this router"


async def check(desk: Desk) -> dict[str, Any]:
    """{"findings": [{name, ok, seen, mend}], "ok"}; `ok` of a finding is null when it cannot be seen from here, which
    is no failure. Raises ConfigurationError without REST access to Rocket.Chat."""
    admin, url = _admin(desk), webhook_url(desk)
    found = list(await admin.check(url))
    if url is None:
        found.insert(0, Finding("public_url", False, "not set", _NO_URL))
    return _told(found)


async def setup(desk: Desk, *, dry_run: bool, by: str, replace: bool = False) -> dict[str, Any]:
    """As `check`, of what was set, or with `dry_run` would be. A webhook that calls another system is left alone unless
    `replace`; what stood there is audited before anything is set. Raises ConfigurationError, also without a public URL.
    """
    admin, url = _admin(desk), webhook_url(desk)
    if url is None:
        raise ConfigurationError(f"public_url: {_NO_URL}")
    if not dry_run:
        await _record(desk, "rocketchat.prepare", by, {"replace": replace, "former": await admin.standing()})
    found = await admin.setup(url, dry_run=dry_run, replace=replace)
    if not dry_run:
        await _record(desk, "rocketchat.setup", by, {one.name: one.ok for one in found})
    return _told(found)


async def _record(desk: Desk, act: str, by: str, detail: Mapping[str, Any]) -> None:
    async def work(tx: Tx) -> None:
        await audit.record(desk, tx, act=act, subject=RESERVED, by=by, detail=detail)

    await desk.store.transact(work)


def webhook_url(desk: Desk) -> str | None:
    """Where Rocket.Chat is to post; None while the router's own address is not known."""
    return f"{desk.public_url.rstrip('/')}{WEBHOOK}" if desk.public_url else None


def _admin(desk: Desk) -> RocketChatAdmin:
    if desk.admin is None:
        raise ConfigurationError(_NO_ADMIN)
    return desk.admin


def _told(found: Sequence[Finding]) -> dict[str, Any]:
    return {"findings": [asdict(one) for one in found], "ok": all(one.ok is not False for one in found)}
