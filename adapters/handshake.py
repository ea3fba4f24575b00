"""Our own public address, called as a provider would call it before it posts there."""

import hmac
import secrets

import httpx

from adapters.transport import exchange
from router.domain.job import Outcome, Result


async def handshake(client: httpx.AsyncClient, url: str, verify_token: str) -> Result:
    """Meta's verification GET to `url`. OK: the challenge came back, so the way in from outside is ours.

    PERMANENT: somebody answers, but not so: "http_<status>", or "challenge" (a page of something else). Otherwise as
    `exchange`. Redirects are not followed, as Meta does not follow them.
    """
    challenge = secrets.token_hex(16)
    asked = {"hub.mode": "subscribe", "hub.challenge": challenge, "hub.verify_token": verify_token}
    answer = await exchange(client, "GET", url, headers={}, params=asked)
    if isinstance(answer, Result):
        return answer
    if not answer.ok:
        return Result(Outcome.PERMANENT, code=f"http_{answer.status}")
    if not hmac.compare_digest(answer.body, challenge.encode()):
        return Result(Outcome.PERMANENT, code="challenge")
    return Result(Outcome.OK)
