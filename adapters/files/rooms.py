"""Files of Rocket.Chat: where they are, whose right it was, and what it says of one handed to a room."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

import httpx

from adapters.files.address import origins
from adapters.files.fetch import Source
from adapters.payload import identifier, mapping, text
from adapters.transport import Answer, exchange, repeatable, retry_after
from router.domain.job import Outcome, Result

_CODE: Final = re.compile(r"error-[a-z-]{1,80}")
_OURS: Final = {"error-file-too-large": "too_large", "error-invalid-file-type": "type"}
_WAIT: Final = re.compile(r"wait (\d{1,6}) seconds?")
_NOT_US: Final = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}


@dataclass(frozen=True, slots=True)
class Workspace:
    """Rocket.Chat's address, without a slash at its end, and the user whose REST calls we make."""

    base_url: str
    user_id: str = field(repr=False)
    auth_token: str = field(repr=False)

    @property
    def headers(self) -> Mapping[str, str]:
        """Who asks."""
        return {"X-User-Id": self.user_id, "X-Auth-Token": self.auth_token}

    def source(self, ref: str) -> Source | None:
        """Where a file is; None when that is not on this Rocket.Chat."""
        url = ref if "://" in ref else f"{self.base_url}/{ref.lstrip('/')}"
        ours = origins(self.base_url)
        return Source(url, self.headers, ours) if origins(url) & ours else None

    def upload_url(self, room_id: str) -> str:
        """Where a file for a room goes."""
        return f"{self.base_url}/api/v1/rooms.media/{quote(room_id, safe='')}"

    async def blamed(self, client: httpx.AsyncClient) -> Result:
        """Rocket.Chat answers 403 to a token it does not know and to a room this user is not in: ask which it was.
        CHANNEL "unauthorized", or PERMANENT "forbidden"."""
        answer = await exchange(client, "GET", f"{self.base_url}/api/v1/me", headers=self.headers)
        if isinstance(answer, Result):
            return repeatable(answer)
        if answer.status in _NOT_US:
            return Result(Outcome.CHANNEL, code="unauthorized")
        return Result(Outcome.PERMANENT if answer.ok else Outcome.RETRY, code="forbidden")

    async def uploaded(self, client: httpx.AsyncClient, answer: Answer) -> Result:
        """OK with the file's id, or why not."""
        return await self.blamed(client) if answer.status in _NOT_US else _taken(answer)


def _taken(answer: Answer) -> Result:
    document = answer.document()
    if answer.ok and document.get("success") is not False:
        found = identifier(mapping(document.get("file")).get("_id"))
        return Result(Outcome.OK, found) if found else Result(Outcome.RETRY, code="no_id")
    words = (
        f"{text(document.get('errorType'))} {text(document.get('error')) or text(document.get('message'))}"
    )
    named = _CODE.search(words)
    code = _OURS.get(named[0], named[0]) if named else f"http_{answer.status}"
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS or code == "error-too-many-requests":
        wait = _WAIT.search(words)
        seconds = float(wait[1]) if wait else retry_after(answer.headers)
        return Result(Outcome.RETRY, code="error-too-many-requests", retry_after=seconds)
    if answer.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return Result(Outcome.PERMANENT, code="too_large")
    if answer.status == HTTPStatus.REQUEST_TIMEOUT or answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Result(Outcome.RETRY, code=code, retry_after=retry_after(answer.headers))
    return Result(Outcome.PERMANENT, code=code)
