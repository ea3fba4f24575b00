"""Rocket.Chat's documents as its database has them, read by the code that reads its webhooks and its REST history: the
same message must say the same on every road, or it is taken for two."""

from collections.abc import Mapping
from typing import Any

from adapters.rocketchat import said
from adapters.rocketchat.rest.rooms import room_info
from router.domain.message import Attachment, Content
from router.domain.ports import RoomInfo


class Documents:
    """Implements `migration.collections.Reader`. Dates are {"$date": milliseconds}."""

    def info(self, room: Mapping[str, Any]) -> RoomInfo:
        """A room of type `l`."""
        return room_info(room)

    def content(self, message: Mapping[str, Any]) -> Content:
        """Kind and text; `data` without secrets."""
        return said.content(message)

    def files(self, message: Mapping[str, Any]) -> tuple[Attachment, ...]:
        """The files, without the small pictures made of them."""
        return said.files(message)

    def file_ids(self, message: Mapping[str, Any]) -> tuple[str, ...]:
        """The upload of each of `files`: its path is …/<id>/<name>, and the name is quoted."""
        return tuple(file.ref.split("/")[-2] for file in said.files(message))
