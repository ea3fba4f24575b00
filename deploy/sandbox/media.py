"""WhatsApp's files over HTTP: ``/media``, ``/{media-id}`` and the address a file is fetched from; one row each."""

from collections.abc import Callable
from urllib.parse import quote

from aiohttp import web

from deploy.sandbox.access import Access
from deploy.sandbox.configuration import Configuration
from deploy.sandbox.faults import Facts, Faults, Rule, acts, answered, respond
from deploy.sandbox.files import File, FileStore
from deploy.sandbox.graph import Door
from deploy.sandbox.record import Record, Row
from deploy.sandbox.shapes import Refused, error_answer, fault_refusal, json_object, unknown_object

_MEGABYTE = 1024 * 1024
_TYPES = frozenset(
    {
        "audio/aac", "audio/amr", "audio/mp4", "audio/mpeg", "audio/ogg",
        "image/jpeg", "image/png", "image/webp", "video/3gpp", "video/mp4",
        "text/plain", "application/pdf", "application/msword", "application/vnd.ms-excel",
        "application/vnd.ms-powerpoint",
        "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    }
)  # fmt: skip
_LIMITS = {"image": 5 * _MEGABYTE, "audio": 16 * _MEGABYTE, "video": 16 * _MEGABYTE}


class Media:
    """What is asked of files, by whichever door; and Rocket.Chat's app, which asks in-process."""

    def __init__(
        self, config: Configuration, record: Record, faults: Faults, files: FileStore, access: Access
    ) -> None:
        self._config, self._record, self._faults = config, record, faults
        self._files, self._access = files, access
        self._door = Door(access.number, error_answer)

    # at Meta's address ---------------------------------------------------------------------------------------

    async def upload(self, request: web.Request) -> web.StreamResponse:
        """POST /graph/{version}/{phone_number_id}/media, multipart: {id}."""
        return await self.take(request, request.match_info["phone_number_id"], self._door)

    async def describe(self, request: web.Request) -> web.StreamResponse:
        """GET /graph/{version}/{media-id}: {url, mime_type, sha256 (hex), file_size, id, messaging_product}."""
        origin = f"{request.scheme}://{request.host}"
        return await self.show(request, request.match_info["node"], origin, self._door)

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """DELETE /graph/{version}/{media-id}: {success}."""
        return await self.forget(request, request.match_info["node"], self._door)

    async def download(self, request: web.Request) -> web.StreamResponse:
        """GET /whatsapp_business/attachments/?mid&ext&hash: the bytes, for the token or key of the file's number."""
        file = self._files.linked(request.query.get("mid", ""), request.query.get("hash", ""))

        def answer() -> web.Response:
            if file is None:
                raise Refused(100, "The media address has run out", status=404)
            number = self._config.numbers.get(file.number_id)
            admit = self._access.key if number and number.provider == "360dialog" else self._access.number
            admit(request, file.number_id)
            name = quote(file.filename or file.id)
            headers = {
                "Content-Type": file.mime,
                "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
            }
            return web.Response(body=file.data, headers=headers)

        media_id = request.query.get("mid", "")
        number_id = file.number_id if file else ""
        return await self._do(request, "download", number_id, media_id, file, answer, error_answer)

    # by any door ---------------------------------------------------------------------------------------------

    async def take(self, request: web.Request, number_id: str, door: Door) -> web.StreamResponse:
        """An upload: multipart with messaging_product, file and, where the file does not say it, type."""
        form = await request.post() if request.content_type == "multipart/form-data" else {}
        part = form.get("file")
        field = part if isinstance(part, web.FileField) else None
        data = field.file.read() if field else b""
        mime = field.content_type if field else ""
        if mime in {"", "application/octet-stream"}:
            mime = str(form.get("type") or mime)

        def answer() -> web.Response:
            door.admit(request, number_id)
            if form.get("messaging_product") != "whatsapp" or field is None:
                raise Refused(
                    100, "Invalid parameter", "messaging_product and file are required", rule="media"
                )
            name = field.filename or None
            return web.json_response({"id": self._kept(number_id, data, mime, "native", name).id})

        return await self._do(request, "upload", number_id, None, (data, mime), answer, door.refuse)

    async def show(self, request: web.Request, media_id: str, origin: str, door: Door) -> web.StreamResponse:
        """What is known of a file, and where it can be fetched for a while."""
        file = self._files.find(media_id)

        def answer() -> web.Response:
            owned = self._owned(request, media_id, file, door)
            query = self._files.link(owned, self._config.media_url_seconds)
            shown = {
                "url": f"{origin}/whatsapp_business/attachments/?{query}",
                "mime_type": owned.mime,
                "sha256": owned.sha256,
                "file_size": len(owned.data),
                "id": owned.id,
                "messaging_product": "whatsapp",
            }
            return web.json_response(shown)

        number_id = file.number_id if file else ""
        return await self._do(request, "get", number_id, media_id, file, answer, door.refuse)

    async def forget(self, request: web.Request, media_id: str, door: Door) -> web.StreamResponse:
        """Delete a file."""
        file = self._files.find(media_id)

        def answer() -> web.Response:
            self._files.remove(self._owned(request, media_id, file, door))
            return web.json_response({"success": True})

        number_id = file.number_id if file else ""
        return await self._do(request, "delete", number_id, media_id, file, answer, door.refuse)

    # for Rocket.Chat's app -----------------------------------------------------------------------------------

    def fetch(self, media_id: str, number_id: str) -> File | None:
        """The file of a customer's message; None when it cannot be had."""
        file = self._files.find(media_id)
        if file is None:
            return None  # a message made up without bytes: nothing is fetched
        for step in ("get", "download"):
            rule = self._faults.take(f"graph.media.{step}", Facts((), "", number_id, "rocketchat"))
            status = answered(rule)
            refused = None if status == 200 else 2
            self._note(step, number_id, media_id, file, "rocketchat", rule, status, refused)
            if refused:
                return None
        return file

    def keep(self, number_id: str, data: bytes, mime: str, filename: str | None) -> File | None:
        """Upload what an agent sends; None when WhatsApp does not take it."""
        rule = self._faults.take("graph.media.upload", Facts((), "", number_id, "rocketchat"))
        try:
            if rule:
                raise fault_refusal(rule)
            file = self._kept(number_id, data, mime, "rocketchat", filename)
        except Refused as refused:
            self._note(
                "upload", number_id, None, (data, mime), "rocketchat", rule, refused.status, refused.code
            )
            return None
        self._note("upload", number_id, file.id, file, "rocketchat", None, 200, None)
        return file

    # -----------------------------------------------------------------------------------------------------------

    def _kept(self, number_id: str, data: bytes, mime: str, by: str, filename: str | None) -> File:
        kind = mime.partition(";")[0].strip().lower()
        if kind not in _TYPES:
            raise Refused(
                100,
                "Invalid parameter",
                f"Param file must be of a type WhatsApp takes, not {kind}",
                rule="media",
            )
        limit = (
            _MEGABYTE // 2 if kind == "image/webp" else _LIMITS.get(kind.partition("/")[0], 100 * _MEGABYTE)
        )
        if not 0 < len(data) <= limit:
            raise Refused(
                131053, "Media upload error", f"the file must have 1 to {limit} bytes", rule="media"
            )
        return self._files.add(number_id, data, mime, by, filename)

    def _owned(self, request: web.Request, media_id: str, file: File | None, door: Door) -> File:
        wanted = request.query.get("phone_number_id")
        if file is None or (wanted is not None and wanted != file.number_id):
            raise unknown_object(media_id, request.method.lower())
        door.admit(request, file.number_id)
        return file

    async def _do(
        self,
        request: web.Request,
        step: str,
        number_id: str,
        media_id: str | None,
        of: File | tuple[bytes, str] | None,
        answer: Callable[[], web.Response],
        refuse: Callable[[Refused], web.Response],
    ) -> web.StreamResponse:
        """Do one step under its faults; whatever comes of it is a row."""
        rule = self._faults.take(f"graph.media.{step}", Facts((), "", number_id))

        async def act() -> web.Response:
            made = media_id
            try:
                response = answer()
            except Refused as refused:
                self._note(step, number_id, media_id, of, "native", rule, refused.status, refused.code)
                return refuse(refused)
            if step == "upload":
                made = str(json_object(response.body if isinstance(response.body, bytes) else b"").get("id"))
            self._note(step, number_id, made, of, "native", rule, answered(rule), None)
            return response

        def refuse_all(rule: Rule) -> web.Response:
            return refuse(fault_refusal(rule))

        if rule and not acts(rule) and rule.fault != "down":
            code = fault_refusal(rule).code if answered(rule) else None
            self._note(step, number_id, media_id, of, "native", rule, answered(rule), code)
        return await respond(request, rule, act, refuse_all)

    def _note(
        self,
        step: str,
        number_id: str,
        media_id: str | None,
        of: File | tuple[bytes, str] | None,
        by: str,
        rule: Rule | None,
        status: int | None,
        code: int | None,
    ) -> None:
        file = of if isinstance(of, File) else File("", "", of[0], of[1], by) if of else None
        row: Row = {
            "action": step,
            "phone_number_id": number_id,
            "media_id": media_id,
            "by": by,
            "sha256": file.sha256 if file else None,
            "size": len(file.data) if file else None,
            "mime": file.mime if file else None,
            "acted": acts(rule) and code is None,
            "answered": status,
            "code": code,
            "fault": rule.fault if rule else None,
        }
        self._record.add("media", row)
