"""The token that proves a session's change was meant: derived from the session, so there is nothing to keep."""

import hashlib
import hmac

from router.control.desk import Desk

HEADER = "X-Figueira-Csrf"
"""Where a session's POST, PUT and DELETE carry it (a form of the console: field `csrf`)."""


def token(desk: Desk, session: str) -> str:
    """For the session with this token. A page of another origin can make a browser send the cookie, but not read
    this."""
    text = f"csrf\x00{session}".encode("utf-8", "surrogatepass")
    return hmac.digest(desk.secrets.session, text, hashlib.sha256).hex()


def holds(desk: Desk, session: str, given: str) -> bool:
    """Constant time."""
    return hmac.compare_digest(token(desk, session).encode(), given.encode("utf-8", "surrogatepass"))
