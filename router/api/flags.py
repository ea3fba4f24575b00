"""Flags over HTTP. They belong to the whole installation: who is bound to one tenant sees and sets its own rules only."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import Depends, Header, Query, Request, Response

from flags.change import shape
from flags.ports import Flag
from router.api.auth import AtDesk, Caller, Needs, guarded
from router.api.models import FlagChanged, FlagItem, FlagRequest, Limit, Name, OverrideRequest, Page
from router.control import flags
from router.control.desk import Desk
from router.control.flags import FlagChange
from router.domain.errors import Rejected

router = guarded("flags")

Reads = Annotated[Caller, Depends(Needs("flags:read"))]
Writes = Annotated[Caller, Depends(Needs("flags:write"))]
IfMatch = Annotated[str | None, Header(alias="If-Match", max_length=100)]
ReasonQuery = Annotated[str, Query(max_length=500)]

_REVISION: Final = re.compile(r'"?([0-9]{1,18})"?')


@router.get("/flags", response_model=Page[FlagItem])
async def listing(desk: AtDesk, caller: Reads) -> Any:
    """The flag of every kind the register knows."""
    return {"items": [_seen(desk, caller, flag) for flag in await flags.listing(desk)], "next_cursor": None}


@router.get("/flags/{kind}", response_model=FlagItem)
async def one(desk: AtDesk, caller: Reads, kind: str, response: Response) -> Any:
    """One flag; its revision is the ETag."""
    flag = await flags.show(desk, _known(desk, kind))
    response.headers["ETag"] = f'"{flag.revision}"'
    return _seen(desk, caller, flag)


@router.get("/flags/{kind}/history", response_model=Page[FlagItem])
async def history(desk: AtDesk, caller: Reads, kind: str, limit: Limit = 100) -> Any:
    """Past revisions, newest first."""
    past = await flags.history(desk, _known(desk, kind), limit)
    return {"items": [_seen(desk, caller, flag) for flag in past], "next_cursor": None}


@router.put("/flags/{kind}", response_model=FlagChanged)
async def put(
    desk: AtDesk, caller: Writes, kind: str, body: FlagRequest, response: Response, if_match: IfMatch = None
) -> Any:
    """Set the stage, or a rule. With If-Match, 412 when the revision has moved."""
    _own_tenant_only(caller, body.tenants, others=bool(body.channels or body.contact_class))
    done = await flags.set_stage(
        desk,
        _known(desk, kind),
        stage=body.stage.value,
        percent=body.percent,
        tenants=tuple(body.tenants),
        channels=tuple(body.channels),
        contact_class=body.contact_class,
        reason=body.reason,
        by=caller.by,
        expected=_expected(if_match),
        now=body.now,
        dry_run=body.dry_run,
    )
    return _changed(desk, caller, done, response)


@router.delete("/flags/{kind}", response_model=FlagChanged)
async def delete(
    desk: AtDesk,
    caller: Writes,
    kind: str,
    request: Request,
    response: Response,
    tenant: Annotated[list[Name] | None, Query()] = None,
    channel: Annotated[list[Name] | None, Query()] = None,
    contact_class: Annotated[Name | None, Query(alias="class")] = None,
    reason: ReasonQuery = "cleared over HTTP",
    if_match: IfMatch = None,
) -> Any:
    """Take the named rules away; without a name, every rule. The stage stays."""
    unknown = set(request.query_params) - {"tenant", "channel", "class", "reason"}
    if unknown:  # passed over, a misspelt selector would clear every rule
        raise Rejected("invalid", "a query parameter is unknown: tenant, channel, class and reason are taken")
    _own_tenant_only(caller, tenant or [], others=bool(channel or contact_class))
    done = await flags.clear(
        desk,
        _known(desk, kind),
        tenants=tuple(tenant or ()),
        channels=tuple(channel or ()),
        contact_class=contact_class,
        reason=reason,
        by=caller.by,
        expected=_expected(if_match),
    )
    return _changed(desk, caller, done, response)


@router.post("/flags/{kind}/kill", response_model=FlagChanged)
async def kill(desk: AtDesk, caller: Writes, kind: str, body: OverrideRequest, response: Response) -> Any:
    """New conversations to Rocket.Chat, before every rule; open ones too with `now`."""
    _own_tenant_only(caller, [], others=False)
    done = await flags.kill(desk, _known(desk, kind), reason=body.reason, by=caller.by, now=body.now)
    return _changed(desk, caller, done, response)


@router.post("/flags/{kind}/release", response_model=FlagChanged)
async def release(desk: AtDesk, caller: Writes, kind: str, body: OverrideRequest, response: Response) -> Any:
    """End the override: the stage and the rules decide again. Nothing is moved back by it."""
    _own_tenant_only(caller, [], others=False)
    if body.now:
        raise Rejected("unsupported", "release moves no open conversation: leave `now` out", 422)
    done = await flags.release(desk, _known(desk, kind), reason=body.reason, by=caller.by)
    return _changed(desk, caller, done, response)


# who may, who sees -----------------------------------------------------------------------------------------


def _known(desk: Desk, kind: str) -> str:
    if kind not in desk.kinds:
        raise Rejected("unknown_kind", "there is no such kind", 404)
    return kind


def _own_tenant_only(caller: Caller, tenants: list[str], *, others: bool) -> None:
    """A caller bound to a tenant may change the rule of that tenant, and nothing else. Raises Rejected 403."""
    if caller.bound is not None and (others or tenants != [caller.bound]):
        raise Rejected("other_tenant", "this key may only set the rule of its own tenant: name it alone", 403)


def _expected(if_match: str | None) -> int | None:
    """The revision of an If-Match, quoted or bare. What is no revision of ours matches none: Rejected 412."""
    if if_match is None or if_match.strip() == "*":
        return None
    found = _REVISION.fullmatch(if_match.strip())
    if found is None:
        raise Rejected("revision_moved", "If-Match is no revision of this flag: read it again", 412)
    return int(found[1])


def _changed(desk: Desk, caller: Caller, done: FlagChange, response: Response) -> dict[str, Any]:
    response.headers["ETag"] = f'"{done.flag.revision}"'
    more = {"warnings": list(done.warnings), "moved": done.moved, "dry_run": done.dry_run}
    return {**_seen(desk, caller, done.flag), **more}


def _seen(desk: Desk, caller: Caller, flag: Flag) -> dict[str, Any]:
    """The flag as the caller may see it: of the rules only those for its own tenant, of the words only its own."""
    whole = shape(flag)
    if caller.bound is None:
        return whole
    own = {
        "tenant": {caller.bound},
        "channel": {slug for slug, channel in desk.channels.items() if channel.tenant == caller.bound},
    }
    whole["strategies"] = [one for rule in whole["strategies"] if (one := _own_part(rule, own)) is not None]
    if flag.updated_by != caller.by:
        whole |= {"updated_by": "", "reason": ""}
    whole["override"] = redacted(flag.override)
    return whole


def redacted(override: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """That there is one, but not whose and why: it may be about another tenant."""
    return None if override is None else {"stage": override.get("stage"), "at": override.get("at")}


def _own_part(rule: dict[str, Any], own: Mapping[str, set[str]]) -> dict[str, Any] | None:
    """A rule without the names of others; None when it names nobody the caller may know. Classes are everybody's."""
    if rule["rule"] not in own:
        return rule
    values = [value for value in rule["values"] if value in own[rule["rule"]]]
    return {**rule, "values": values} if values else None
