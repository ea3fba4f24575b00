"""Who may call the WhatsApp stand-in: Meta's tokens and 360dialog's keys."""

from aiohttp import web

from deploy.sandbox.configuration import Configuration, Number
from deploy.sandbox.shapes import Refused, unknown_object


class Access:
    """Raises Refused for a caller who is not let in."""

    def __init__(self, config: Configuration) -> None:
        self._config = config

    def number(self, request: web.Request, number_id: str) -> None:
        """A Bearer token for a number of Meta's."""
        number = self._config.numbers.get(number_id)
        self._token(request, [number] if number else [])
        if self._config.numbers and (number is None or number.provider != "cloud"):
            raise Refused(100, f"Unsupported post request. Object with ID '{number_id}' does not exist")

    def waba(self, request: web.Request, waba_id: str) -> list[Number]:
        """The numbers of a WABA, for whoever holds a token of one of them."""
        numbers = [
            one for one in self._config.numbers.values() if one.waba_id == waba_id and one.provider == "cloud"
        ]
        self._token(request, numbers)
        if not numbers:
            raise unknown_object(waba_id)
        return numbers

    def app(self, request: web.Request, app_id: str) -> None:
        """The token of an app, ``app_id|app_secret``; as a header or as access_token in the query."""
        secret = self.app_secret(app_id)
        name, bar, given = (_bearer(request) or request.query.get("access_token", "")).partition("|")
        if not bar or name != app_id or not given or (secret and given != secret):
            raise Refused(190, "Invalid OAuth access token", status=401)
        known = {number.app_id for number in self._config.numbers.values()} | self._config.apps.keys()
        if app_id not in known:
            raise unknown_object(app_id)

    def app_secret(self, app_id: str) -> str:
        """What an app's webhooks are signed with: its own secret, or that of its numbers."""
        app = self._config.apps.get(app_id)
        if app and app.app_secret:
            return app.app_secret
        secrets = (one.app_secret for one in self._config.numbers.values() if one.app_id == app_id)
        return next((secret for secret in secrets if secret), "")

    def keyed(self, request: web.Request) -> str | None:
        """The 360dialog number whose D360-API-KEY was shown."""
        key = request.headers.get("D360-API-KEY", "")
        found = (
            number_id
            for number_id, number in self._config.numbers.items()
            if number.provider == "360dialog" and key and number.api_key == key
        )
        return next(found, None)

    def key(self, request: web.Request, number_id: str) -> None:
        """A D360-API-KEY of exactly this number."""
        if not number_id or self.keyed(request) != number_id:
            raise Refused(190, "Invalid api_key", status=401)

    @staticmethod
    def _token(request: web.Request, numbers: list[Number]) -> None:
        token = _bearer(request)
        wanted = {number.access_token for number in numbers if number.access_token}
        if not token or (wanted and token not in wanted):
            raise Refused(190, "Invalid OAuth access token", status=401)


def _bearer(request: web.Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
