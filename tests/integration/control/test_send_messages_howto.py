"""docs/how-to/send-messages.md: what it shows is taken, by the real kind; and every refusal it names is one of ours."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest

from adapters.native.whatsapp import WhatsApp
from router.control import contents, flags, media, messages
from router.control.desk import Desk
from router.domain.ports import Kind
from tests.integration.control.desk_scene import SOL, heard, open_conversation, order, say, stream

pytestmark = pytest.mark.postgres
ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/how-to/send-messages.md").read_text("utf-8")


def bodies() -> dict[str, dict[str, Any]]:
    """The examples of the table, by their first cell."""
    table = PAGE.partition("## What can be said")[2].partition("##")[0]
    found = re.findall(r"^\| ([^|]+) \| `(\{.+?\})`(?: \(.*\))? \|$", table, re.MULTILINE)
    return {name: json.loads(body.replace("{…, ", "{")) for name, body in found}


def _filled(value: Any, ids: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {
            name: ids[name] if one == "0198…" else _filled(one, ids)
            for name, one in value.items()
            if name not in {"channel", "to"}
        }
    return value


async def test_each_example_is_taken(desk: Desk) -> None:
    cast("dict[str, Kind]", desk.kinds)["whatsapp"] = WhatsApp()
    await flags.set_stage(desk, "whatsapp", stage="native", reason="go", by="cli")
    talk = await open_conversation(desk)
    await heard(desk, talk, datetime.now(UTC))
    said = str((await say(desk, talk, "oi", external_id="wamid.1")).id)
    file = await media.upload(desk, stream(b"%PDF1"), tenant=SOL)
    ids = {"reply_to": said, "message_id": said, "media_id": file["id"]}
    shown = bodies()
    assert {name for body in shown.values() for name in contents.READERS if name in body} == set(
        contents.READERS
    )
    for name, body in shown.items():
        wanted = {**_filled(body, ids), "conversation_id": str(talk.id)}
        status, _ = await messages.send(
            desk, key_id=str(uuid4()), tenant=SOL, idempotency_key=None, **order(**wanted)
        )
        assert status == 202, name


def test_every_code_it_names_is_in_the_code() -> None:
    table = PAGE.partition("## When it is refused")[2]
    named = {
        code
        for row in re.findall(r"^\| \d+ \| (.+?) \|", table, re.MULTILINE)
        for code in re.findall(r"`(\w+)`", row)
    }
    source = "".join(
        path.read_text("utf-8") for folder in ("router", "adapters") for path in (ROOT / folder).rglob("*.py")
    )
    assert len(named) > 15
    assert {code for code in named if f'"{code}"' not in source} == set()
