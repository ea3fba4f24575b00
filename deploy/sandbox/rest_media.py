"""Files into a room, in Rocket.Chat's two steps: rooms.media/{rid}, rooms.mediaConfirm/{rid}/{fileId}."""

import time

from deploy.sandbox.calls import Call, Failed, Routes
from deploy.sandbox.configuration import Configuration
from deploy.sandbox.rocketchat import RocketChat
from deploy.sandbox.workspace import Document, Workspace


class RoomMedia:
    """A file is confirmed once, in the room and by the user it was uploaded for, within the day."""

    def __init__(self, config: Configuration, workspace: Workspace, chat: RocketChat) -> None:
        self._config, self._workspace, self._chat = config, workspace, chat
        self.routes: Routes = {
            ("POST", "rooms.media"): self._upload,
            ("POST", "rooms.mediaConfirm"): self._confirm,
        }

    def _upload(self, call: Call) -> Document:
        settings = self._config.rocketchat
        if call.tail[0] not in self._workspace.rooms:
            raise Failed("Invalid room", "error-invalid-room")
        if call.file is None:
            raise Failed("File required", "invalid-field")
        if len(call.file.data) > settings.max_file_bytes:
            raise Failed("File is too large", "error-file-too-large")
        if call.file.mime in settings.refused_types:
            raise Failed("File type is not accepted", "error-invalid-file-type")
        sent = call.file
        upload = self._workspace.add_upload(call.tail[0], call.user["_id"], sent.name, sent.mime, sent.data)
        return {"file": {"_id": upload.id, "url": upload.path}}

    def _confirm(self, call: Call) -> Document:
        rid, file_id = (*call.tail, "")[:2]
        upload = self._workspace.uploads.get(file_id)
        late = upload and time.time() - upload.at > self._config.rocketchat.media_confirm_seconds
        if (
            upload is None
            or upload.confirmed
            or late
            or (upload.rid, upload.user_id) != (rid, call.user["_id"])
        ):
            raise Failed("", "invalid-file")
        room = self._workspace.rooms[rid]
        if not room.is_open:
            raise Failed("Room is closed", "room-closed")
        upload.name = call.text("fileName") or upload.name
        text = call.text("msg") or call.text("description")
        return {"message": self._chat.say(room, call.user, text, by="api", upload=upload)}
