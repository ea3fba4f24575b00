"""The edges: each module speaks one outside protocol and implements the ports of `router.domain.ports`.

Only `router.app` and `router.cli` name an adapter; everything else is handed one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from adapters.native import whatsapp
from adapters.native.callbacks import WhatsAppCallbacks
from router.domain.ports import Callbacks, Kind, Sender


@dataclass(frozen=True, slots=True)
class Adapter:
    """What the composition root needs of one kind. `sender` takes the shared client and a monotonic clock; `callbacks`
    is None where the provider's address cannot be set from here."""

    kind: Callable[[], Kind]
    sender: Callable[[httpx.AsyncClient, Callable[[], float]], Sender]
    capabilities: Mapping[str, Any]
    callbacks: Callable[[httpx.AsyncClient], Callbacks] | None = None


# THE REGISTER: one line a kind.
KINDS: dict[str, Adapter] = {
    "whatsapp": Adapter(whatsapp.WhatsApp, whatsapp.sender, whatsapp.CAPABILITIES, WhatsAppCallbacks),
}
