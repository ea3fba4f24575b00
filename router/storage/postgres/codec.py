"""How values cross the border to PostgreSQL: JSON by orjson, plain UUIDs, text that PostgreSQL can hold."""

import json
import re
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson

if TYPE_CHECKING:
    import asyncpg

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_REPLACEMENT = "\ufffd"


def clean(text: str) -> str:
    """NUL and lone surrogates, which PostgreSQL's text cannot hold, as U+FFFD. The event's raw body keeps them."""
    return _UNSTORABLE.sub(_REPLACEMENT, text) if _UNSTORABLE.search(text) else text


def clean_or_none(text: str | None) -> str | None:
    """`clean`, where there is a text."""
    return None if text is None else clean(text)


def to_json(value: Any) -> bytes:
    """JSON that jsonb takes, whatever a provider sent."""
    try:
        dumped = orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:  # lone surrogates, integers beyond 64 bits
        return json.dumps(_cleaned(value), ensure_ascii=False).encode()
    return orjson.dumps(_cleaned(value)) if b"\\u0000" in dumped else dumped


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(str(key)): _cleaned(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(item) for item in value]
    return value


def _encode_jsonb(value: Any) -> bytes:
    return b"\x01" + to_json(value)  # the version of jsonb's binary form


def _decode_jsonb(data: bytes) -> Any:
    return orjson.loads(data[1:])


def _encode_uuid(value: UUID) -> bytes:
    return value.bytes


def _decode_uuid(data: bytes) -> UUID:
    return UUID(bytes=bytes(data))


async def prepare(link: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Codecs of a new connection."""
    await link.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=_encode_jsonb, decoder=_decode_jsonb, format="binary"
    )
    await link.set_type_codec(
        "json", schema="pg_catalog", encoder=to_json, decoder=orjson.loads, format="binary"
    )
    # asyncpg's own subclass of UUID is not what orjson and others take for one.
    await link.set_type_codec(
        "uuid", schema="pg_catalog", encoder=_encode_uuid, decoder=_decode_uuid, format="binary"
    )
