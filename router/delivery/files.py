"""Files on their way: what the other side told of is fetched before it forgets, what a message carries is handed over
before the message leaves. Both may be repeated freely; the bytes never pass through here."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from flags.stage import Path
from router.delivery.claim import Claim
from router.delivery.ends import Ends
from router.domain.errors import LeaseLost
from router.domain.job import JobState, Outcome, Result
from router.domain.media import Media, MediaState, Origin, Stored
from router.domain.message import Direction, Message
from router.domain.ports import Fact, Tx
from router.domain.sending import upload_target

ROOM_UPLOAD = timedelta(hours=20)
"""Rocket.Chat keeps a file that no message has taken up for a day."""
FETCH_CAP_SECONDS = 900.0


class Transfers(Ends):
    """Fetches and uploads."""

    async def _fetch(self, claim: Claim) -> None:
        """A FETCH job: into the file store, or a placeholder for what is gone."""
        media, channel = claim.media, self._channels.get(claim.job.channel)
        if media is None:
            return
        result, stored = Result(Outcome.PERMANENT, code="channel_removed"), None
        if channel is not None:
            result, stored = await self._files.fetch(channel, media)
        self._meter.record(await self._store.transact(lambda tx: self._fetched(tx, claim, result, stored)))

    async def _fetched(self, tx: Tx, claim: Claim, result: Result, stored: Stored | None) -> list[Fact]:
        now = await tx.now()
        media = await self._kept(tx, claim, result, stored, now)
        try:
            job = await tx.fenced(claim.job)
        except LeaseLost:
            return []
        await self._breathe(tx, job, result, now)
        if media is None or media.state is not MediaState.WAITING:
            await tx.finish_job(job, JobState.DONE)
            return self._counted(job.channel, Direction.INBOUND, media)
        due = now + timedelta(seconds=min(self._wait(job, result), FETCH_CAP_SECONDS))
        await tx.save_job(replace(job, state=JobState.READY, due_at=due, lease_until=None, error=result.code))
        return []

    async def _kept(
        self, tx: Tx, claim: Claim, result: Result, stored: Stored | None, now: datetime
    ) -> Media | None:
        """Write down what a fetch found; true whoever holds the lease now."""
        media = await tx.media(claim.media.id, lock=True) if claim.media is not None else None
        if media is None or media.state is MediaState.STORED:
            return media
        if result.outcome is Outcome.OK and stored is not None:
            media = replace(
                media, state=MediaState.STORED, sha256=stored.sha256, size=stored.size, mime=stored.mime,
                stored_at=now, error_code=None,
            )  # fmt: skip
        elif result.outcome is Outcome.PERMANENT:
            state = MediaState.GONE if result.code in ("gone", "channel_removed") else MediaState.REFUSED
            media = replace(media, state=state, error_code=result.code)
        elif media.expires_at is not None and media.expires_at <= now:
            media = replace(media, state=MediaState.GONE, error_code="expired")
        else:
            return media
        await tx.save_media(media)
        return media

    async def _prepare(self, claim: Claim) -> None:
        """The errand before a send: fetch what a caller only named, then give it to the path's own side."""
        media, message = claim.media, claim.message
        if media is None or message is None:
            return
        channel, stored = self._channels[claim.job.channel], None
        path = claim.job.path or message.path
        fetching = media.state is MediaState.WAITING
        if fetching:
            result, stored = await self._files.fetch(channel, media)
            # A stranger's host may not hold the lane for as long as it likes.
            result = replace(result, retry_after=None)
        else:
            result = await self._files.upload(path, channel, media, claim.room_id)
        self._meter.record(
            await self._store.transact(lambda tx: self._prepared(tx, claim, message, result, stored))
        )

    async def _prepared(
        self, tx: Tx, claim: Claim, message: Message, result: Result, stored: Stored | None
    ) -> Sequence[Fact]:
        row = await tx.message(message.id)
        now = await tx.now()
        media = await self._uploaded(tx, claim, result, stored, now)
        try:
            job = await tx.fenced(claim.job)
        except LeaseLost:
            return []
        if media is None and result.outcome in (Outcome.OK, Outcome.CHANNEL):
            # An upload's answer is about the side that takes the message, too; that it takes long is about the file.
            await self._breathe(tx, job, result, now)
        if row is None or job.state is not JobState.RUNNING:
            return []
        facts = self._counted(job.channel, Direction.OUTBOUND, media) if media is not None else []
        if result.outcome is Outcome.OK:
            await tx.save_job(
                replace(job, state=JobState.READY, due_at=now, lease_until=None, attempts=job.attempts - 1)
            )
        elif result.outcome is Outcome.PERMANENT or self._exhausted(job, result, now):
            return facts + await self._give_up(tx, job, row, result.code or "media", now)
        else:
            await self._again(tx, job, result, now)
        await self._follow(tx, row)
        return facts

    async def _follow(self, tx: Tx, message: Message) -> None:
        """Nothing of the message has left: when its conversation has moved meanwhile, the send moves along."""
        conversation = await tx.conversation(message.conversation_id, lock=False)
        job = await tx.job_of_message(message.id)
        if conversation is not None and job is not None and job.pin_version != conversation.pin_version:
            await self._pins.take_send(tx, job, conversation)

    async def _uploaded(
        self, tx: Tx, claim: Claim, result: Result, stored: Stored | None, now: datetime
    ) -> Media | None:
        """Keep what came of it: the fetched file (returned), or the other side's name for an uploaded one (None)."""
        media, message = claim.media, claim.message
        if media is None or message is None or media.state is MediaState.WAITING:
            return await self._kept(tx, claim, result, stored, now)
        if result.outcome is Outcome.OK and result.external_id is not None and media.sha256 is not None:
            channel, path = self._channels[claim.job.channel], claim.job.path or message.path
            days = timedelta(days=self._kinds[channel.kind].rules(channel).upload_days)
            until = now + (ROOM_UPLOAD if path is Path.ROCKETCHAT else days)
            target = upload_target(path, channel, claim.room_id, message.id)
            await tx.save_upload(channel.slug, target, media.sha256, result.external_id, until)
        return None

    def _counted(self, slug: str, direction: Direction, media: Media | None) -> list[Fact]:
        channel = self._channels.get(slug)
        if media is None or channel is None or media.origin is Origin.UPLOAD:
            return []
        return [("media_total", 1, (channel.kind, direction, media.state))]
