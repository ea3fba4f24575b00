"""A user of Rocket.Chat for somebody the clinic told of: the one with that e-mail, made when there is none."""

import secrets
from collections.abc import Mapping
from typing import Any, Final

from adapters.payload import identifier, items, mapping, text
from adapters.rocketchat.admin.findings import refusal_code
from adapters.rocketchat.rest.answers import Reply
from adapters.rocketchat.rest.client import Client
from router.domain.job import Outcome
from router.domain.ports import Refusal

SUFFIXES: Final = ("", "-2", "-3", "-4")
"""Tried in this order when a user name is taken."""

_PASSWORD_BYTES: Final = 32
_DETAIL: Final = {
    "two_factor": "Rocket.Chat asks for a second factor: [rocketchat] auth_token must be a personal access token made"
    ' with "ignore two factor authentication"',
    "licence_limit": "the workspace's licence allows no more users",
    "forbidden": "the user of [rocketchat] lacks the permission create-user",
    "unauthorized": "[rocketchat] user_id and auth_token are not accepted",
    "rate_limited": "Rocket.Chat's rate limit: try again in a minute",
    "unreachable": "Rocket.Chat does not answer: try again",
    "invalid": "Rocket.Chat refuses these values",
}
_TAKEN: Final = "error-field-unavailable"
_IN_USE: Final = "already in use"


async def create_user(client: Client, *, name: str, email: str, username: str) -> str | Refusal:
    """The id. Looked up before it is made, and again when no answer came, so that a repeat makes no second one.

    Versions before 8.4 find nobody by e-mail; there the user name, which follows from the e-mail, is what is found.
    """
    found = await _by(client, "email", email, email)
    if isinstance(found, str | Refusal):
        return found
    for suffix in SUFFIXES:
        wanted = f"{username}{suffix}"
        reply = await client.call("POST", "users.create", body=_body(name, email, wanted))
        made = identifier(mapping(reply.document.get("user")).get("_id"))
        if reply.ok and made is not None:
            return made
        taken = _is_taken(reply)
        if not taken and reply.result.outcome is not Outcome.UNKNOWN:
            return _refused(reply)
        known = await _by(client, "username", wanted, email)
        if isinstance(known, str | Refusal):
            return known
        if not taken:
            return _refused(reply)
        if not known:
            return Refusal(
                "invalid", "a user of Rocket.Chat has this e-mail, but this version finds nobody by it"
            )
    return Refusal("invalid", "the user name and its variants are taken in Rocket.Chat")


def _body(name: str, email: str, username: str) -> dict[str, Any]:
    return {
        "name": name,
        "email": email,
        "username": username,
        "password": secrets.token_urlsafe(_PASSWORD_BYTES),
        "roles": ["user"],
        "verified": True,
        "active": True,
        "requirePasswordChange": False,
        "sendWelcomeEmail": False,
        "joinDefaultChannels": False,
    }


async def _by(client: Client, key: str, value: str, email: str) -> str | Refusal | bool:
    """The id of the user found so who has this e-mail; True: it is somebody else's; False: nobody is found so."""
    reply = await client.read("users.info", {key: value})
    if not reply.ok:
        code = refusal_code(reply)
        # "User not found.", or an older version that knows no such key.
        return False if code == "invalid" else Refusal(code, _DETAIL[code])
    user = mapping(reply.document.get("user"))
    user_id = identifier(user.get("_id"))
    # Who may not see e-mails is not shown them, so what was found by one is not checked against it.
    if user_id is not None and (key == "email" or email.lower() in _addresses(user)):
        return user_id
    return user_id is not None


def _addresses(user: Mapping[str, Any]) -> set[str]:
    told = (text(mapping(one).get("address")) for one in items(user.get("emails")))
    return {address.lower() for address in told if address}


def _is_taken(reply: Reply) -> bool:
    words = text(reply.document.get("error")) or ""
    return reply.result.code == _TAKEN or _IN_USE in words


def _refused(reply: Reply) -> Refusal:
    code = refusal_code(reply)
    said = f" ({reply.result.code})" if code == "invalid" and reply.result.code else ""
    return Refusal(code, f"{_DETAIL[code]}{said}")
