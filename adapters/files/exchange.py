"""Files in and out, by where they come from and where they go."""

import asyncio
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import aclosing
from typing import Final

import httpx

from adapters.files.address import Resolve, resolve
from adapters.files.content import UNKNOWN, plain
from adapters.files.fetch import PHASES, Fetcher, Promise, Source
from adapters.files.form import form
from adapters.files.limits import whatsapp_refuses
from adapters.files.rooms import Workspace
from adapters.files.whatsapp import MediaApi, media_api
from adapters.transport import Answer, exchange, repeatable
from flags.stage import Path
from router.domain.channel import Channel
from router.domain.errors import Unavailable
from router.domain.job import Outcome, Result
from router.domain.media import Media, Origin, Stored
from router.domain.ports import FileStore

_EXPIRED: Final = {"http_401", "http_403", "gone"}  # how an address says that its minutes are over
_NOT_CONFIGURED: Final = Result(Outcome.PERMANENT, code="rocketchat_not_configured", asked=False)
_ANSWER_SECONDS: Final = 60.0  # a large file is looked at before it is answered for


class FileExchange:
    """Implements `router.domain.ports.Files`. `limit` in bytes; `seconds` for the whole of one fetch or upload."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        store: FileStore,
        *,
        rocketchat: Workspace | None,
        limit: int,
        seconds: float,
        allow_hosts: Collection[str] = (),
        resolve: Resolve = resolve,
    ) -> None:
        self._client, self._store, self._rocketchat = client, store, rocketchat
        self._limit, self._seconds = limit, seconds
        self._fetcher = Fetcher(client, store, limit=limit, allow_hosts=allow_hosts, resolve=resolve)

    # in ------------------------------------------------------------------------------------------------------

    async def fetch(self, channel: Channel, media: Media) -> tuple[Result, Stored | None]:
        """As the port says; also PERMANENT "empty_file", "unsupported", "http_<status>"."""
        try:
            async with asyncio.timeout(self._seconds):
                return await self._fetch(channel, media)
        except TimeoutError:
            return Result(Outcome.RETRY, code="timeout"), None

    async def _fetch(self, channel: Channel, media: Media) -> tuple[Result, Stored | None]:
        if media.origin is Origin.PROVIDER:
            api = media_api(channel)
            return (api, None) if isinstance(api, Result) else await self._from_provider(api, media)
        if media.origin is Origin.ROCKETCHAT:
            return await self._from_rocketchat(media)
        if media.origin is Origin.URL:
            # A caller's word: what is configured for our own use is no place to send us to.
            return await self._fetcher.fetch(Source(media.ref), Promise(media.mime, (media.sha256,)))
        return Result(Outcome.PERMANENT, code="unsupported", asked=False), None

    async def _from_provider(self, api: MediaApi, media: Media) -> tuple[Result, Stored | None]:
        result, stored = Result(Outcome.RETRY), None
        for _ in range(2):  # an address that has run out is asked for again, once
            located = await api.locate(self._client, media)
            if isinstance(located, Result):
                return located, None
            if located.size is not None and located.size > self._limit:
                return Result(Outcome.PERMANENT, code="too_large"), None
            result, stored = await self._fetcher.fetch(located.source, located.promise)
            if result.code not in _EXPIRED:
                return result, stored
        if result.outcome is Outcome.CHANNEL:
            # The same key has just opened the API: it is this file that cannot be had now.
            return Result(Outcome.RETRY, code=result.code), None
        return result, stored

    async def _from_rocketchat(self, media: Media) -> tuple[Result, Stored | None]:
        if self._rocketchat is None:
            return _NOT_CONFIGURED, None
        source = self._rocketchat.source(media.ref)
        if source is None:
            return Result(Outcome.PERMANENT, code="address", asked=False), None
        result, stored = await self._fetcher.fetch(source, Promise(media.mime, (media.sha256,)))
        if result.outcome is Outcome.CHANNEL:
            result = await self._rocketchat.blamed(self._client)
        return result, stored

    # out -----------------------------------------------------------------------------------------------------

    async def upload(self, path: str, channel: Channel, media: Media, room_id: str | None) -> Result:
        """As the port says. PERMANENT: "not_stored", "too_large", "type", "unsupported", or the other side's code."""
        try:
            async with asyncio.timeout(self._seconds):
                if path == Path.NATIVE:
                    return await self._to_provider(channel, media)
                return await self._to_room(media, room_id)
        except TimeoutError:
            return Result(Outcome.RETRY, code="timeout")
        except Unavailable:
            return Result(Outcome.RETRY, code="store", asked=False)
        except LookupError:
            return Result(Outcome.PERMANENT, code="not_stored", asked=False)

    async def _to_provider(self, channel: Channel, media: Media) -> Result:
        api = media_api(channel)
        if isinstance(api, Result):
            return api
        size = await self._size(media)
        if refusal := whatsapp_refuses(media.mime, size):
            return Result(Outcome.PERMANENT, code=refusal, asked=False)
        fields = {"messaging_product": "whatsapp", "type": plain(media.mime) or UNKNOWN}
        answer = await self._posted(api.upload_url, api.headers, fields, media, size)
        return repeatable(answer) if isinstance(answer, Result) else api.uploaded(answer)

    async def _to_room(self, media: Media, room_id: str | None) -> Result:
        if self._rocketchat is None:
            return _NOT_CONFIGURED
        if not room_id:
            return Result(Outcome.RETRY, code="no_room", asked=False)
        url, size = self._rocketchat.upload_url(room_id), await self._size(media)
        answer = await self._posted(url, self._rocketchat.headers, {}, media, size)
        if isinstance(answer, Result):
            return repeatable(answer)
        return await self._rocketchat.uploaded(self._client, answer)

    async def _size(self, media: Media) -> int:
        if media.size is not None:
            return media.size
        async with aclosing(self._bytes(media)) as chunks:
            return sum([len(chunk) async for chunk in chunks])

    async def _bytes(self, media: Media) -> AsyncGenerator[bytes, None]:
        if media.sha256 is None:
            raise LookupError("the file is not stored")
        async for chunk in self._store.open(media.sha256):
            yield chunk

    async def _posted(
        self, url: str, headers: Mapping[str, str], fields: Mapping[str, str], media: Media, size: int
    ) -> Answer | Result:
        """The file as a form. Raises what the store raises."""
        body = form(fields, name=media.name, mime=plain(media.mime) or UNKNOWN, size=size)
        async with aclosing(self._bytes(media)) as chunks, aclosing(body.stream(chunks)) as content:
            return await exchange(
                self._client,
                "POST",
                url,
                headers={**headers, **body.headers},
                content=content,
                timeout=httpx.Timeout(PHASES.write, connect=PHASES.connect, read=_ANSWER_SECONDS),
                seconds=self._seconds,
            )
