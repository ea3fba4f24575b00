"""Events, messages, the files they carry."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from router.domain.errors import Conflict
from router.domain.job import Event, EventState
from router.domain.media import Media
from router.domain.message import Direction, Message, Status, advance
from router.storage.memory.base import Base


# ruff: noqa: ARG002 - the signatures are the port's; what only PostgreSQL needs is not used here
class Messages(Base):
    """The event, message and file parts of Tx."""

    # events ------------------------------------------------------------------------------------------------

    async def lock_channel(self, slug: str) -> bool:
        return True

    def _unsplit(self, slug: str) -> list[Event]:
        waiting = (self._t.events[event_id] for _, event_id in sorted(self._t.unsplit.items()))
        return [event for event in waiting if event.channel == slug]

    async def waiting_events(self, slug: str, limit: int) -> Sequence[Event]:
        waiting = self._unsplit(slug)[:limit]
        if waiting and waiting[0].tries:
            return waiting[:1]
        failed = next((place for place, event in enumerate(waiting) if event.tries), len(waiting))
        return waiting[:failed]

    async def event(self, event_id: UUID, received_at: datetime) -> Event | None:
        return self._t.events.get(event_id)

    async def mark_split(self, event: Event, state: EventState, reason: str | None = None) -> None:
        self._set(self._t.events, event.id, replace(self._t.events[event.id], state=state))
        self._drop(self._t.unsplit, event.seq)
        if reason is not None:
            self._set(self._t.reasons, event.id, reason)

    async def settle_event(self, event_id: UUID, received_at: datetime, state: EventState) -> None:
        event = self._t.events[event_id]
        if event.state is EventState.WAITING:
            self._set(self._t.events, event_id, replace(event, state=state))

    async def backlog(self, slug: str) -> int:
        return sum(1 for event_id in self._t.unsplit.values() if self._t.events[event_id].channel == slug)

    # messages ----------------------------------------------------------------------------------------------

    async def known(self, slug: str, external_ids: Collection[str]) -> set[str]:
        return {external_id for external_id in external_ids if (slug, external_id) in self._t.external}

    async def message(self, message_id: UUID, *, lock: bool = True) -> Message | None:
        return self._t.messages.get(message_id)

    async def message_by_external(self, slug: str, external_id: str) -> Message | None:
        found = self._t.external.get((slug, external_id))
        return self._t.messages[found] if found else None

    async def message_by_source(self, source_id: str, *, lock: bool = True) -> Message | None:
        found = self._t.source.get(source_id)
        return self._t.messages[found] if found else None

    async def unclaimed(
        self, conversation_id: UUID, direction: Direction, at: datetime, within: timedelta, *, key: str
    ) -> Sequence[Message]:
        def apart(row: Message) -> timedelta:
            dates = (
                [row.sent_at]
                if direction is Direction.OUTBOUND
                else [row.sent_at, row.handled_at or self._now]
            )
            return min(abs(date - at) for date in dates)

        ids = self._t.by_conversation.get(conversation_id, ())
        rows = [row for row in map(self._t.messages.__getitem__, ids) if row.direction is direction]
        fitting = [row for row in rows if getattr(row, key) is None and apart(row) <= within]

        def near(row: Message) -> timedelta:
            inbound = direction is Direction.INBOUND
            return abs((row.handled_at or self._now if inbound else row.sent_at) - at)

        return sorted(fitting, key=lambda row: (near(row), row.seq))

    async def add_message(self, message: Message) -> Message:
        message = replace(message, seq=self._next_seq())
        self._keys(message)
        self._set(self._t.messages, message.id, message)
        rows = self._t.by_conversation.get(message.conversation_id, ())
        self._set(self._t.by_conversation, message.conversation_id, (*rows, message.id))
        return message

    async def save_message(self, message: Message) -> None:
        self._keys(message)
        self._set(self._t.messages, message.id, message)

    def _keys(self, message: Message) -> None:
        if message.external_id is not None:
            self._key(self._t.external, (message.channel, message.external_id), message.id)
        if message.source_id is not None:
            self._key(self._t.source, message.source_id, message.id)

    def _key(self, table: dict[Any, UUID], key: Any, message_id: UUID) -> None:
        if table.get(key, message_id) != message_id:
            raise Conflict
        self._set(table, key, message_id)

    async def mark_handled(self, message_ids: Collection[UUID], at: datetime) -> None:
        for message_id in message_ids:
            message = self._t.messages[message_id]
            if message.handled_at is None:
                self._set(self._t.messages, message_id, replace(message, handled_at=at))

    async def note_outcome(self, slug: str, external_id: str, status: Status, at: datetime) -> None:
        before = self._t.outcomes.get((slug, external_id), status)
        self._set(self._t.outcomes, (slug, external_id), advance(before, status))

    async def touch_statuses(self, slug: str, at: datetime) -> None:
        self._set(self._t.statuses_at, slug, at)

    async def last_status_at(self, slug: str) -> datetime | None:
        return self._t.statuses_at.get(slug)

    async def first_billed(self, slug: str, external_id: str, category: str) -> bool:
        if (slug, external_id) in self._t.billed:
            return False
        self._set(self._t.billed, (slug, external_id), category)
        return True

    # files -------------------------------------------------------------------------------------------------

    async def add_media(self, media: Media) -> None:
        self._set(self._t.media, media.id, media)

    async def media(self, media_id: UUID, *, lock: bool = False) -> Media | None:
        return self._t.media.get(media_id)

    async def media_of(self, message_id: UUID) -> Sequence[Media]:
        return [media for media in self._t.media.values() if media.message_id == message_id]

    async def save_media(self, media: Media) -> None:
        self._set(self._t.media, media.id, media)

    async def uploaded(self, slug: str, target: str, sha256: str, *, expired: bool = False) -> str | None:
        file_id, expires_at = self._t.uploads.get((slug, target, sha256), (None, self._now))
        return file_id if expired or expires_at > self._now else None

    async def save_upload(
        self, slug: str, target: str, sha256: str, file_id: str, expires_at: datetime
    ) -> None:
        self._set(self._t.uploads, (slug, target, sha256), (file_id, expires_at))
