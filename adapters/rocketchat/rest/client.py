"""One call of Rocket.Chat's REST API, made as our user and within our own count of its rate limit."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import httpx

from adapters.rocketchat.budget import Budget
from adapters.rocketchat.rest.answers import TOO_MANY, Reply, judged, repeatable
from adapters.transport import Answer, exchange
from router.domain.job import Outcome, Result
from router.domain.ports import Clock


class Client:
    """`base_url` is the workspace's, without /api/v1. Raises nothing; nothing it returns shows a token in its repr."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        base_url: str,
        user_id: str,
        auth_token: str,
        clock: Clock,
        budget: Budget | None = None,
    ) -> None:
        self.clock, self.user_id = clock, user_id
        self._http = http
        self._base = base_url.rstrip("/")
        self._headers = {"X-User-Id": user_id, "X-Auth-Token": auth_token}
        self._budget = budget or Budget()

    async def read(
        self,
        route: str,
        params: Mapping[str, str] | None = None,
        *,
        tail: str = "",
        under: str = "/api/v1/",
    ) -> Reply:
        """GET, which may be repeated: not knowing is RETRY."""
        reply = await self.call("GET", route, tail=tail, params=params, under=under)
        return replace(reply, result=repeatable(reply.result))

    async def call(
        self,
        method: str,
        route: str,
        *,
        tail: str = "",
        params: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        under: str = "/api/v1/",
    ) -> Reply:
        """`route` is what the rate limit counts by; `tail` is the rest of the path, quoted."""
        key = f"{method} {route}"
        if wait := self._budget.take(key, self.clock.monotonic()):
            return Reply(Result(Outcome.RETRY, code=TOO_MANY, retry_after=wait, asked=False))
        seen: Mapping[str, str] = {}
        try:
            answer = await exchange(
                self._http,
                method,
                f"{self._base}{under}{route}{tail}",
                headers={**self._headers, "Content-Type": "application/json"} if body else self._headers,
                params=params,
                content=json.dumps(body).encode("ascii") if body else None,
            )
            if isinstance(answer, Answer):
                seen = answer.headers
        finally:
            now = self.clock.monotonic()
            self._budget.done(key, now, seen, self.clock.now().timestamp())
        if isinstance(answer, Result):
            return Reply(answer)
        document = answer.document()
        result = judged(answer.status, document)
        if result.code == TOO_MANY:
            wait = self._budget.refused(key, now, result.retry_after)
            result = Result(Outcome.RETRY, code=TOO_MANY, retry_after=wait)
        return Reply(result, document, answer.status, seen)
