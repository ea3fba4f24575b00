"""The way out to Meta or 360dialog: messages, and the marks that somebody read or is writing."""

from typing import Any

from adapters.native import graph
from adapters.native.whatsapp import dialog360
from router.domain.channel import Channel
from router.domain.job import Outcome, Result


def endpoint(channel: Channel) -> graph.Endpoint | None:
    """Of the channel's provider. None: a key or the number's id is missing."""
    return dialog360.endpoint(channel) if dialog360.serves(channel) else graph.endpoint(channel)


class WhatsAppSender(graph.GraphSender):
    """Implements `router.domain.ports.Sender`."""

    async def mark(self, channel: Channel, external_id: str, *, typing: bool) -> Result:
        """WhatsApp shows the writing until a message comes, for 25 seconds at most."""
        to = self._endpoint(channel)
        if to is None:
            return Result(Outcome.CHANNEL, code="configuration", asked=False)
        body: dict[str, Any] = {
            "messaging_product": "whatsapp",
            "status": "read",
            "message_id": external_id,
            **({"typing_indicator": {"type": "text"}} if typing else {}),
        }
        answer = await self._post(to, graph.written(body))
        if isinstance(answer, Result):
            return answer
        return Result(Outcome.OK) if answer.ok else to.read(answer)
