"""What Rocket.Chat's settings say, judged: one Finding for each thing that must hold. Pure; no secret in what it says."""

import hmac
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from adapters.payload import items, mapping, text
from adapters.rocketchat.rest.answers import TOO_MANY, TOTP, Reply
from router.domain.job import Outcome
from router.domain.ports import Finding

BYPASS: Final = "api-bypass-rate-limit"
# Each line: any of these will do; what it is for.
PERMISSIONS: Final[Sequence[tuple[tuple[str, ...], str]]] = (
    (("view-l-room",), "reading rooms"),
    (("view-livechat-rooms",), "the sweep of all rooms"),
    (("close-livechat-room",), "closing a room at all"),
    (("close-others-livechat-room",), "closing the room of a conversation that moved"),
    (("view-livechat-manager",), "the omnichannel webhook"),
    (("create-user",), "PUT /v1/users"),
    (("view-full-other-user-info",), "PUT /v1/users: whether who has an e-mail is a patient"),
    (("manage-outgoing-integrations", "manage-own-outgoing-integrations"), "the webhook of team rooms"),
    ((BYPASS,), "more than 10 calls a minute of a kind"),
    (("view-privileged-setting",), "seeing the rate limit"),
)
EVENTS: Final = {
    "Livechat_webhook_on_start": "LivechatWebhookOnStart",
    "Livechat_webhook_on_close": "LivechatWebhookOnClose",
    "Livechat_webhook_on_chat_taken": "LivechatWebhookOnChatTaken",
    "Livechat_webhook_on_forward": "LivechatWebhookOnForward",
    "Livechat_webhook_on_offline_msg": "LivechatWebhookOnOfflineMsg",
    "Livechat_webhook_on_visitor_message": "LivechatWebhookOnVisitorMessage",
    "Livechat_webhook_on_agent_message": "LivechatWebhookOnAgentMessage",
}
"""The settings that must be on, and what omnichannel/integrations calls them."""
CHANNELS: Final = ("all_public_channels", "all_private_groups", "all_direct_messages")

_SETUP: Final = "run `figueira rocketchat setup`, or set it under Omnichannel > Webhooks"
_REPLACE: Final = (
    "a workspace has one such address: `figueira rocketchat setup --replace` puts ours there, and who is called now will"
    " not be; what stood there is kept in the audit log"
)
_TIMEOUT: Final = "Livechat_http_timeout"
_LOGIN_MEND: Final = (
    'make a personal access token of this user with "ignore two factor authentication" and put it into'
    " [rocketchat] user_id and auth_token"
)
_WHY: Final = {
    "unauthorized": ("the token is not accepted", _LOGIN_MEND),
    "forbidden": ("the user may not see it", "give the user a role with the permissions named below"),
    "two_factor": ("it asks for a second factor", _LOGIN_MEND),
    "licence_limit": ("the licence does not allow it", "see Workspace > Subscription in Rocket.Chat"),
    "rate_limited": ("too many calls", f"wait a minute, or give the user's role {BYPASS}"),
    "unreachable": ("it cannot be reached", "check [rocketchat] base_url and the network"),
    "invalid": ("it refuses the call", "check that [rocketchat] base_url is Rocket.Chat's own address"),
}
_STATUS_UNAUTHORIZED, _STATUS_FORBIDDEN = 401, 403


def refusal_code(reply: Reply) -> str:
    """Why a call was not carried out, as `router.domain.ports.Refusal` names it. The status decides: up to version 7
    a 403 says "unauthorized" too."""
    code = reply.result.code or ""
    if code in TOTP:
        return "two_factor"
    if code == "licence-limit":
        return "licence_limit"
    if code == TOO_MANY:
        return "rate_limited"
    if reply.status == _STATUS_UNAUTHORIZED:
        return "unauthorized"
    if reply.status == _STATUS_FORBIDDEN or code in {"error-action-not-allowed", "error-not-allowed"}:
        return "forbidden"
    return "invalid" if reply.result.outcome is Outcome.PERMANENT else "unreachable"


def unseen(name: str, reply: Reply, *, fatal: bool = False) -> Finding:
    """What could not be read; `fatal`: that itself is the fault."""
    why, mend = _WHY[refusal_code(reply)]
    return Finding(name, False if fatal else None, f"{why} ({reply.result.code})", mend)


def version(reply: Reply) -> Finding:
    """Of the workspace."""
    told = text(reply.document.get("version")) or text(mapping(reply.document.get("info")).get("version"))
    if not reply.ok:
        return unseen("version", reply, fatal=refusal_code(reply) == "unreachable")
    if told is None:
        return Finding("version", None, "not told", "look under Workspace in Rocket.Chat")
    return Finding("version", True, told)


def user(reply: Reply) -> Finding:
    """Whether our token is accepted, and whose it is."""
    if not reply.ok:
        return unseen("user", reply, fatal=True)
    roles = ", ".join(sorted(roles_of(reply))) or "no role"
    return Finding("user", True, f"{text(reply.document.get('username')) or '?'} ({roles})")


def roles_of(reply: Reply) -> set[str]:
    """Of `me`."""
    return {role for role in items(reply.document.get("roles")) if isinstance(role, str)}


def permissions(reply: Reply, roles: set[str]) -> Iterator[Finding]:
    """One for each thing the user must be allowed to do."""
    if not reply.ok:
        yield unseen("permissions", reply)
        return
    may = allowed(reply, roles)
    for names, purpose in PERMISSIONS:
        has = next((name for name in names if name in may), None)
        mend = (
            ""
            if has
            else f"give a role of the user {' or '.join(names)} (Workspace > Permissions): {purpose}"
        )
        yield Finding(
            f"permission {names[0]}", has is not None, has or f"missing: {' or '.join(names)}", mend
        )


def allowed(reply: Reply, roles: set[str]) -> set[str]:
    """The permissions that any of the roles has."""
    granted = (one for one in items(reply.document.get("update")) if isinstance(one, dict))
    return {str(one.get("_id")) for one in granted if roles & set(map(str, items(one.get("roles"))))}


# the omnichannel webhook -----------------------------------------------------------------------------------


def settings_of(reply: Reply) -> dict[str, Any]:
    """Value by setting."""
    told = (one for one in items(reply.document.get("settings")) if isinstance(one, dict))
    return {str(one.get("_id")): one.get("value") for one in told}


def webhook(settings: Mapping[str, Any], url: str | None, token: str | None) -> Iterator[Finding]:
    """Address, secret and events of the omnichannel webhook."""
    if url is not None:
        yield _address(text(settings.get("Livechat_webhookUrl")), url)
    yield _secret(settings.get("Livechat_secret_token"), token)
    off = [name for name in EVENTS if settings.get(name) is not True]
    mend = _SETUP if off else ""
    yield Finding("webhook_events", not off, f"off: {', '.join(off)}" if off else "all on", mend)


def foreign(settings: Mapping[str, Any], url: str) -> bool:
    """Whether the webhook calls somebody else."""
    now = text(settings.get("Livechat_webhookUrl"))
    return now is not None and not same(now, url)


def standing(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the omnichannel webhook is set to, without its secret: {url, shortened, events, timeout}; `shortened`: the
    address has more, which may be secret."""
    url = text(settings.get("Livechat_webhookUrl"))
    return {
        "url": shown(url) if url else None,
        "shortened": url is not None and not same(url, shown(url)),
        "events": [name for name in EVENTS if settings.get(name) is True],
        "timeout": settings.get(_TIMEOUT) if isinstance(settings.get(_TIMEOUT), int) else None,
    }


def _address(now: str | None, url: str) -> Finding:
    if now is not None and same(now, url):
        return Finding("webhook_url", True, shown(url))
    if now is None:
        return Finding("webhook_url", False, "empty", _SETUP)
    return Finding("webhook_url", False, f"{shown(now)}, not {shown(url)}", _REPLACE)


def _secret(now: Any, token: str | None) -> Finding:
    name = "webhook_secret"
    if not token:
        mend = "set [rocketchat] webhook_token to a long random text, then run `figueira rocketchat setup`"
        return Finding(name, False, "[rocketchat] webhook_token is not set", mend)
    if not isinstance(now, str):
        return Finding(name, None, "Rocket.Chat does not show it", "compare it under Omnichannel > Webhooks")
    if not now:
        return Finding(name, False, "empty: the webhook comes without its header and is refused", _SETUP)
    equal = hmac.compare_digest(now.strip().encode(), token.encode())
    return Finding(name, equal, "the same as ours" if equal else "another than ours", "" if equal else _SETUP)


# the integration of team rooms -----------------------------------------------------------------------------


def integration(found: Sequence[Mapping[str, Any]], url: str, token: str | None) -> Finding:
    """The outgoing integration that tells of team rooms and direct messages."""
    name = "integration"
    if not token:
        return Finding(
            name, None, "[rocketchat] integration_token is not set: team rooms are not told of",
            "set it to a long random text, then run `figueira rocketchat setup`",
        )  # fmt: skip
    ours = [one for one in found if _posts_to(one, url)]
    if not ours:
        return Finding(name, False, f"none posts to {shown(url)}", "run `figueira rocketchat setup`")
    wrong = min((_faults(one, token) for one in ours), key=len)
    mend = f"change it under Workspace > Integrations: {', '.join(wrong)}" if wrong else ""
    return Finding(name, not wrong, ", ".join(wrong) or "as it should be", mend)


def _posts_to(one: Mapping[str, Any], url: str) -> bool:
    urls = [text(given) for given in items(one.get("urls"))]
    return one.get("type") == "webhook-outgoing" and any(given and same(given, url) for given in urls)


def _faults(one: Mapping[str, Any], token: str) -> list[str]:
    given = one.get("channel")
    told = {given} if isinstance(given, str) else {name for name in items(given) if isinstance(name, str)}
    channels = {name.strip() for each in told for name in each.split(",")}
    missing = [name for name in CHANNELS if name not in channels]
    checks = (
        (one.get("enabled") is True, "it is disabled"),
        (one.get("event") in {None, "sendMessage"}, "its event is not Message Sent"),
        (hmac.compare_digest(str(one.get("token") or "").encode(), token.encode()), "its token is another"),
        (not missing, f"it leaves out {', '.join(missing)}"),
    )
    return [fault for holds, fault in checks if not holds]


# limits ----------------------------------------------------------------------------------------------------


def rate_limit(setting: Reply, may: set[str], replies: Sequence[Reply]) -> Finding:
    """Whether our calls are counted. The histories of rooms are read as their visitors, and always are."""
    name = "rate_limit"
    if setting.ok and setting.document.get("value") is False:
        return Finding(name, True, "off")
    if BYPASS in may:
        return Finding(name, True, "on; this user is not counted, except where it reads a room's history")
    limits = (reply.headers.get("X-RateLimit-Limit") for reply in replies)
    limit = next((one for one in limits if one), None)
    if limit is None and not setting.ok:
        return unseen(name, setting)
    seen = f"{limit} calls a minute of each kind" if limit else "on"
    mend = f"give a role of the user {BYPASS}, or raise API_Enable_Rate_Limiter_Limit_Calls_Default"
    return Finding(name, False, seen, mend)


def proxies() -> Finding:
    """Nothing tells it from outside."""
    return Finding(
        "forwarded_count", None, "HTTP_FORWARDED_COUNT cannot be seen from here",
        "add one to HTTP_FORWARDED_COUNT where Rocket.Chat runs, or all patients share one address and one rate limit",
    )  # fmt: skip


def same(one: str, other: str) -> bool:
    """The same address, a slash at its end apart."""
    return one.strip().rstrip("/") == other.strip().rstrip("/")


def shown(url: str | None) -> str:
    """An address without what may be secret in it."""
    parts = urlsplit(url or "")
    return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"
