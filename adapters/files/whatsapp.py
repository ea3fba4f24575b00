"""WhatsApp's media API: Meta's own, and 360dialog's in front of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import quote

import httpx

from adapters.files.address import Origin, origin_of, origins
from adapters.files.fetch import Promise, Source
from adapters.native import graph
from adapters.native.whatsapp import dialog360
from adapters.payload import identifier, text
from adapters.transport import Answer, exchange, repeatable
from router.domain.channel import Channel
from router.domain.job import Outcome, Result
from router.domain.media import Media

_NO_OBJECT = "100"  # the Graph API's word for an id it does not know, or knows no more
_HOSTS = (".fbsbx.com", ".facebook.com", ".whatsapp.net")  # Meta's own; files are at lookaside.fbsbx.com
_GONE = {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}


@dataclass(frozen=True, slots=True)
class Located:
    """Where the bytes are now, and what the provider says of them."""

    source: Source
    promise: Promise
    size: int | None


@dataclass(frozen=True, slots=True)
class MediaApi:
    """One channel's media API. `read`: what its refusals mean. `replaced`: the address it names is asked at the API's
    own host (360dialog)."""

    base_url: str
    upload_url: str
    headers: Mapping[str, str] = field(repr=False)
    read: Callable[[Answer], Result]
    params: Mapping[str, str] = field(default_factory=dict)
    replaced: bool = False

    @property
    def trusted(self) -> frozenset[Origin]:
        """What the operator configured."""
        return origins(self.base_url)

    async def locate(self, client: httpx.AsyncClient, media: Media) -> Located | Result:
        """Ask for the address of a media id; it serves for minutes."""
        answer = await exchange(
            client,
            "GET",
            f"{self.base_url}/{quote(media.ref, safe='')}",
            headers=self.headers,
            params=self.params or None,
        )
        if isinstance(answer, Result):
            return repeatable(answer)
        if not answer.ok:
            return self._refused(answer)
        document = answer.document()
        url = text(document.get("url"))
        if url is None:
            return Result(Outcome.RETRY, code="no_url")
        try:
            source = self._source(httpx.URL(url))
        except httpx.InvalidURL:
            return Result(Outcome.PERMANENT, code="address")
        promise = Promise(
            text(document.get("mime_type")) or media.mime, (media.sha256, text(document.get("sha256")))
        )
        size = identifier(document.get("file_size")) or ""
        return Located(source, promise, int(size) if size.isdecimal() else None)

    def uploaded(self, answer: Answer) -> Result:
        """OK with the media id, or why not. Sending a file again is harmless: nothing here is UNKNOWN."""
        if answer.ok:
            found = identifier(answer.document().get("id"))
            return Result(Outcome.OK, found) if found else Result(Outcome.RETRY, code="no_id")
        if answer.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return Result(Outcome.PERMANENT, code="too_large")
        return repeatable(self.read(answer))

    def _refused(self, answer: Answer) -> Result:
        result = repeatable(self.read(answer))
        gone = answer.status in _GONE or result.code == _NO_OBJECT
        return Result(Outcome.PERMANENT, code="gone") if gone else result

    def _source(self, url: httpx.URL) -> Source:
        if self.replaced:
            base = httpx.URL(self.base_url)
            url = url.copy_with(scheme=base.scheme, host=base.host, port=base.port)
        # Our key leaves to Meta itself, encrypted, or to the very origin it was configured for.
        ours = origin_of(url) in self.trusted or _metas(url)
        return Source(str(url), self.headers if ours else {}, self.trusted)


def _metas(url: httpx.URL) -> bool:
    scheme, host, port = origin_of(url)
    return (scheme, port) == ("https", 443) and f".{host}".endswith(_HOSTS)


def media_api(channel: Channel) -> MediaApi | Result:
    """PERMANENT "unsupported": the channel's provider hands its files over in another way."""
    native = channel.native
    provider = native.get("provider", "cloud")
    if channel.kind != "whatsapp" or provider not in {"cloud", dialog360.NAME}:
        return Result(Outcome.PERMANENT, code="unsupported", asked=False)
    partner = provider == dialog360.NAME
    base = (native.get("base_url") or (dialog360.BASE_URL if partner else graph.BASE_URL)).rstrip("/")
    if partner:
        if key := native.get("api_key") or native.get("access_token"):
            return MediaApi(base, f"{base}/media", {"D360-API-KEY": key}, dialog360.result, replaced=True)
    elif (number := native.get("phone_number_id")) and (token := native.get("access_token")):
        upload = f"{base}/{quote(number, safe='')}/media"
        headers = {"Authorization": f"Bearer {token}"}
        return MediaApi(base, upload, headers, graph.result, {"phone_number_id": number})
    return Result(Outcome.CHANNEL, code="configuration", asked=False)
