"""The way out on the legacy path: what is said into a room leaves the workspace through the room's own app."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from adapters.rocketchat.rest.port import RocketChatRest
from flags.stage import Path
from router.domain.channel import Channel
from router.domain.job import Outcome, Result
from router.domain.media import KINDS
from router.domain.ports import Outbound, Permit

TEXT_LENGTH: Final = 5000  # Message_MaxAllowedSize as installed

_NO_PERMIT: Final = Result(Outcome.RETRY, code="permit", asked=False)
_NO_FILE: Final = {"invalid-file", "error-invalid-file"}
# Rocket.Chat knows emoji by name only. Those of WhatsApp's own row, and what else is usual under a clinic's messages.
_NAMES: Final = {
    "👍": "thumbsup", "👎": "thumbsdown", "❤": "heart", "😂": "joy", "😮": "open_mouth", "😢": "cry", "🙏": "pray",
    "👏": "clap", "🎉": "tada", "🔥": "fire", "✅": "white_check_mark", "😊": "blush", "😍": "heart_eyes", "😀": "grinning",
    "😁": "grin", "😉": "wink", "😅": "sweat_smile", "😘": "kissing_heart", "🙌": "raised_hands", "👌": "ok_hand",
    "💪": "muscle", "👋": "wave", "👀": "eyes", "💯": "100", "😡": "rage", "😭": "sob", "🤔": "thinking", "🌹": "rose",
    "🥰": "smiling_face_with_3_hearts", "🤝": "handshake", "⭐": "star", "☺": "relaxed", "🙂": "slight_smile",
    "❌": "x", "💙": "blue_heart", "💚": "green_heart", "💛": "yellow_heart", "💜": "purple_heart",
}  # fmt: skip
_SKIN: Final = {chr(code): None for code in range(0x1F3FB, 0x1F400)} | {"\ufe0f": None}


class RocketChatSender:
    """Implements `router.domain.ports.Sender`: a message by an agent. `external_id` stays None: the provider's id comes
    with its status or echo.

    Text carries our `_id`. A file cannot, so one that may have arrived (`repeat`) is looked for before it is confirmed
    again: that makes both repeatable.
    """

    idempotent = True

    def __init__(self, rest: RocketChatRest, monotonic: Callable[[], float]) -> None:
        self._rest, self._monotonic = rest, monotonic

    async def send(self, permit: Permit, outbound: Outbound) -> Result:
        refused = _unsendable(outbound)
        if refused is not None:
            return refused
        if permit.path != Path.ROCKETCHAT or self._over(permit):
            return _NO_PERMIT
        if outbound.content.kind == "reaction":
            return await self._reaction(permit, outbound)
        if outbound.content.kind in KINDS:
            return await self._file(permit, str(outbound.room_id), str(outbound.file_id), outbound)
        words = outbound.content.text or ""
        return await self._rest.send_message(str(outbound.room_id), str(outbound.source_id), words)

    async def mark(self, channel: Channel, external_id: str, *, typing: bool) -> Result:  # noqa: ARG002 - the port's
        """Rocket.Chat's own app marks what its agents read."""
        return _here("unsupported")

    def _over(self, permit: Permit) -> bool:
        return self._monotonic() >= permit.expires

    async def _file(self, permit: Permit, room_id: str, file_id: str, outbound: Outbound) -> Result:
        if outbound.repeat:
            looked, there = await self._rest.shows_file(room_id, file_id)
            if there or looked.outcome is not Outcome.OK:
                return _undecided(looked)
            if self._over(permit):
                return _NO_PERMIT  # looking took its time, and the lease may be another's by now
        result = await self._rest.confirm_file(room_id, file_id, outbound.content.text)
        if result.code not in _NO_FILE:
            return result
        # Gone after 24 hours, or confirmed already.
        looked, there = await self._rest.shows_file(room_id, file_id)
        return _undecided(looked) if there or looked.outcome is not Outcome.OK else result

    async def _reaction(self, permit: Permit, outbound: Outbound) -> Result:
        message_id = str(outbound.context_id)
        emoji = outbound.content.text
        if not emoji:
            return await self._take_back(permit, message_id)
        return await self._rest.react(message_id, _named(emoji) or "")

    async def _take_back(self, permit: Permit, message_id: str) -> Result:
        result, ours = await self._rest.reactions(message_id)
        for emoji in ours:
            if self._over(permit):
                return _NO_PERMIT
            result = await self._rest.unreact(message_id, emoji)
            if result.outcome is not Outcome.OK:
                break
        return result


def _here(code: str) -> Result:
    """Refused on our side: Rocket.Chat was not asked."""
    return Result(Outcome.PERMANENT, code=code, asked=False)


def _undecided(looked: Result) -> Result:
    """A look-up that was refused proves nothing of what it looked for: it may be tried again."""
    if looked.outcome is Outcome.PERMANENT:
        return replace(looked, outcome=Outcome.RETRY)
    return looked


def _unsendable(outbound: Outbound) -> Result | None:
    said = outbound.content
    if said.kind == "reaction":
        return _unsendable_reaction(outbound)
    if not (said.kind in KINDS or (said.kind == "text" and said.text)):
        return _here("unsupported")
    if len(said.text or "") > TEXT_LENGTH:
        return _here("too_long")
    if outbound.room_id is None:
        return Result(Outcome.RETRY, code="no_room", asked=False)
    if said.kind == "text" and outbound.source_id is None:
        # Without it a repeat would be a second message.
        return _here("no_source_id")
    if said.kind in KINDS and outbound.file_id is None:
        return _here("no_file")
    return None


def _unsendable_reaction(outbound: Outbound) -> Result | None:
    if outbound.context_id is None:
        return _here("no_context")
    if outbound.content.text and _named(outbound.content.text) is None:
        return _here("unsupported")
    return None


def _named(emoji: str) -> str | None:
    """The short name of an emoji, without its colons; skin tones and variants are the same one. None: not known."""
    bare = emoji.strip()
    if bare.startswith(":") and bare.endswith(":") and bare.strip(":"):
        return bare.strip(":")
    return _NAMES.get("".join(sign for sign in bare if sign not in _SKIN))
