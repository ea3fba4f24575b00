"""A user of Rocket.Chat for somebody the clinic told of: the one with that e-mail, made when there is none."""

import hashlib
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from adapters.payload import identifier, items, mapping, text
from adapters.rocketchat.admin.findings import refusal_code
from adapters.rocketchat.rest.answers import Reply
from adapters.rocketchat.rest.client import Client
from router.domain.job import Outcome
from router.domain.ports import NOT_THEIRS, Refusal

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
_SUFFIX: Final = 10  # hex digits
_ROLES: Final = {"user", "guest", "anonymous", "livechat-guest"}
_TYPES: Final = {None, "user"}
_UNSEEN: Final = (
    "the user of [rocketchat] lacks the permission view-full-other-user-info: it must see the roles of who has this"
    " e-mail before it takes them for a patient"
)
_TAKEN: Final = "error-field-unavailable"
_IN_USE: Final = "already in use"


async def create_user(
    client: Client, *, name: str, email: str, username: str, adopt: bool = True, ours: Collection[str] = ()
) -> str | Refusal:
    """The id. Looked up before it is made, and again when no answer came, so that a repeat makes no second one. When
    `username` is another's, the name gets a suffix that follows from the e-mail, so that a repeat finds it too.

    Without `adopt`, who has the e-mail under another user name than these two is identity_taken. Whoever is more than a
    patient, or is one of `ours` (ids), is not_a_patient. Versions before 8.4 find nobody by e-mail; there the user name
    is what is found.
    """
    names = named(username, email)
    person = _Person(client, email, frozenset(ours), None if adopt else names)
    found = await person.by("email", email)
    if isinstance(found, str | Refusal):
        return found
    for wanted in names:
        reply = await client.call("POST", "users.create", body=_body(name, email, wanted))
        made = identifier(mapping(reply.document.get("user")).get("_id"))
        if reply.ok and made is not None:
            return made
        taken = _is_taken(reply)
        if not taken and reply.result.outcome is not Outcome.UNKNOWN:
            return _refused(reply)
        known = await person.by("username", wanted)
        if isinstance(known, str | Refusal):
            return known
        if not taken:
            return _refused(reply)
        if not known:
            return Refusal(
                "invalid", "a user of Rocket.Chat has this e-mail, but this version finds nobody by it"
            )
    return Refusal("invalid", "the user name is taken in Rocket.Chat, with its suffix too")


def named(username: str, email: str) -> tuple[str, str]:
    """The user names tried for an e-mail, in this order."""
    return username, f"{username}-{hashlib.sha256(email.lower().encode()).hexdigest()[:_SUFFIX]}"


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


@dataclass(frozen=True, slots=True)
class _Person:
    """Who is looked for. `names`: the only user names they may have; None: any."""

    client: Client
    email: str
    ours: frozenset[str]
    names: Collection[str] | None

    async def by(self, key: str, value: str) -> str | Refusal | bool:
        """The id of the user found so who has this e-mail; True: it is somebody else's; False: nobody is found so."""
        reply = await self.client.read("users.info", {key: value})
        if not reply.ok:
            code = refusal_code(reply)
            # "User not found.", or an older version that knows no such key.
            return False if code == "invalid" else Refusal(code, _DETAIL[code])
        user = mapping(reply.document.get("user"))
        user_id = identifier(user.get("_id"))
        # Who may not see e-mails is not shown them, so what was found by one is not checked against it.
        if user_id is None or not (key == "email" or self.email.lower() in _addresses(user)):
            return user_id is not None
        if self.names is not None and user.get("username") not in self.names:
            return NOT_THEIRS
        return self._patient(user_id, user) or user_id

    def _patient(self, user_id: str, user: Mapping[str, Any]) -> Refusal | None:
        """None, unless the user is more than a patient: mapped to one, an agent's words would be a patient's."""
        roles = user.get("roles")
        if not isinstance(roles, list):
            return Refusal("forbidden", _UNSEEN)
        more = set(map(str, roles)) - _ROLES or user.get("type") not in _TYPES
        if more or user_id in {*self.ours, self.client.user_id}:
            return Refusal(
                "not_a_patient", "Rocket.Chat's user with this e-mail is more than a patient there"
            )
        return None


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
