"""WhatsApp's files: customers' photos, uploads, addresses that run out, and what goes wrong with them."""

import asyncio
import base64
import hashlib
from typing import Any

import aiohttp
import pytest

from tests.integration.sandbox.process import BEARER, NUMBER, WA_ID, Client, Receiver, until

JPEG = b"\xff\xd8\xff\xe0 a photo"
UPLOAD = f"/graph/v23.0/{NUMBER}/media"
PRODUCT = {"messaging_product": "whatsapp"}


async def photo(client: Client, kind: str = "image", **media: object) -> dict[str, Any]:
    told = {"content_base64": base64.b64encode(JPEG).decode(), "mime": "image/jpeg", **media}
    message = {"type": kind, kind: {"caption": "minha pele"}} if kind == "image" else {"type": kind}
    given = {"phone_number_id": NUMBER, "from": WA_ID, "message": message, "media": told}
    answer: dict[str, Any] = await client.control("patient", given)
    return answer


async def test_a_patients_photo_is_told_and_fetched(client: Client, receiver: Receiver) -> None:
    told = await photo(client)
    (message,) = receiver.values()[0]["messages"]
    digest = hashlib.sha256(JPEG)
    assert message["image"] == {
        "mime_type": "image/jpeg",
        "sha256": base64.b64encode(digest.digest()).decode(),
        "id": told["media_id"],
        "caption": "minha pele",
    }
    status, known = await client.call("GET", f"/graph/v23.0/{told['media_id']}", None, **BEARER)
    assert (status, known["sha256"], known["file_size"]) == (200, digest.hexdigest(), len(JPEG))
    assert (known["id"], known["mime_type"]) == (told["media_id"], "image/jpeg")
    assert (await client.fetch(known["url"]))[0] == 401
    assert await client.fetch(known["url"], **BEARER) == (200, JPEG)
    rows = await client.record("media")
    assert [(row["action"], row["answered"], row["code"]) for row in rows] == [
        ("get", 200, None),
        ("download", 401, 190),
        ("download", 200, None),
    ]
    assert rows[2]["sha256"] == digest.hexdigest()


async def test_voice_and_document_carry_what_is_theirs(client: Client, receiver: Receiver) -> None:
    await photo(client, "audio", mime="audio/ogg; codecs=opus", voice=True)
    await photo(client, "document", size=200_000, mime="application/pdf", filename="laudo.pdf")
    audio, document = (value["messages"][0] for value in receiver.values())
    assert (audio["audio"]["voice"], audio["audio"]["mime_type"]) == (True, "audio/ogg; codecs=opus")
    assert document["document"]["filename"] == "laudo.pdf"
    path = f"/control/media/{document['document']['id']}"
    assert (await client.fetch(path))[1].startswith(JPEG)  # content_base64 wins over size


async def test_an_address_runs_out_and_a_foreign_number_is_refused(client: Client) -> None:
    await client.control("configure", {"media_url_seconds": 0.05})
    told = await photo(client)
    path = f"/graph/v23.0/{told['media_id']}"
    _, known = await client.call("GET", path, None, **BEARER)
    await asyncio.sleep(0.1)
    assert (await client.fetch(known["url"], **BEARER))[0] == 404
    status, answer = await client.call("GET", f"{path}?phone_number_id=999", None, **BEARER)
    assert (status, answer["error"]["code"], answer["error"]["error_subcode"]) == (400, 100, 33)
    assert (await client.call("DELETE", path, None, **BEARER))[1] == {"success": True}
    assert (await client.call("GET", path, None, **BEARER))[0] == 400


async def test_an_upload_is_sent_and_recorded_with_its_bytes(client: Client) -> None:
    status, made = await client.upload(UPLOAD, JPEG, "image/jpeg", PRODUCT, **BEARER)
    assert (status, set(made)) == (200, {"id"})
    assert (await client.send(type="image", image={"id": made["id"], "caption": "antes"}))[0] == 200
    (row,) = await client.record("graph")
    assert (row["media_id"], row["media_size"], row["media_mime"]) == (made["id"], len(JPEG), "image/jpeg")
    assert row["media_sha256"] == hashlib.sha256(JPEG).hexdigest()
    (kept,) = await client.record("media")
    assert (kept["action"], kept["media_id"], kept["by"]) == ("upload", made["id"], "native")
    assert (await client.send(type="image", image={"link": "https://example.com/a.jpg"}))[0] == 200


@pytest.mark.parametrize(
    ("part", "code"), [({"id": "1"}, 100), ({"caption": "x"}, 131009), ({"link": "ftp://a"}, 131009)]
)
async def test_an_unknown_file_is_not_sent(client: Client, part: dict[str, str], code: int) -> None:
    status, answer = await client.send(type="image", image=part)
    assert (status, answer["error"]["code"]) == (400, code)
    assert await client.record("graph") == []
    assert [row["rule"] for row in await client.record("refused")] == ["media"]


async def test_uploads_are_checked_as_meta_does(client: Client) -> None:
    assert (await client.upload(UPLOAD, JPEG, "image/gif", PRODUCT, **BEARER))[1]["error"]["code"] == 100
    assert (await client.upload(UPLOAD, JPEG, "image/jpeg", {}, **BEARER))[0] == 400
    assert (await client.upload(UPLOAD, JPEG, "image/jpeg", PRODUCT))[0] == 401
    large = bytes(5 * 1024 * 1024 + 1)
    assert (await client.upload(UPLOAD, large, "image/png", PRODUCT, **BEARER))[1]["error"]["code"] == 131053
    rows = await client.record("media")
    assert [row["code"] for row in rows] == [100, 100, 190, 131053]
    assert not any(row["acted"] for row in rows)


async def test_media_faults(client: Client) -> None:
    told = await photo(client)
    path = f"/graph/v23.0/{told['media_id']}"
    await client.fault("status", "graph.media.get", status=404, times=1)
    assert (await client.call("GET", path, None, **BEARER))[0] == 404
    _, known = await client.call("GET", path, None, **BEARER)
    await client.fault("wrong_bytes", "graph.media.download", times=1)
    status, wrong = await client.fetch(known["url"], **BEARER)
    assert (status, len(wrong)) == (200, len(JPEG))
    assert wrong != JPEG
    await client.fault("half_answer", "graph.media.download", times=1)
    with pytest.raises(aiohttp.ClientError):
        await client.fetch(known["url"], **BEARER)
    await client.fault("reset_before", "graph.media.upload", times=1)
    with pytest.raises(aiohttp.ClientError):
        await client.upload(UPLOAD, JPEG, "image/jpeg", PRODUCT, **BEARER)
    await client.fault("reset_after", "graph.media.upload", times=1)
    with pytest.raises(aiohttp.ClientError):
        await client.upload(UPLOAD, JPEG, "image/jpeg", PRODUCT, **BEARER)
    rows = await client.record("media")
    assert [(row["action"], row["acted"], row["answered"]) for row in rows] == [
        ("get", False, 404),
        ("get", True, 200),
        ("download", True, 200),
        ("download", True, None),
        ("upload", False, None),
        ("upload", True, None),
    ]


async def test_an_endless_download_goes_on_until_the_caller_leaves(client: Client) -> None:
    told = await photo(client)
    _, known = await client.call("GET", f"/graph/v23.0/{told['media_id']}", None, **BEARER)
    await client.fault("endless", "graph.media.download", seconds=20, times=1)
    got = 0
    async with client.session.get(known["url"], headers=BEARER) as response:
        async for chunk in response.content.iter_chunked(1 << 16):
            got += len(chunk)
            if got > 3 << 20:
                break
    assert got > 3 << 20


async def test_statuses_name_the_category_and_prices_can_be_set(client: Client, receiver: Receiver) -> None:
    await client.control(
        "configure",
        {
            "templates": {"retorno": {"body": 1, "category": "marketing"}},
            "pricing": {"marketing": {"type": "free_entry_point", "billable": False}},
        },
    )
    component = {"type": "body", "parameters": [{"type": "text", "text": "Ana"}]}
    template = {"name": "retorno", "language": {"code": "pt_BR"}, "components": [component]}
    assert (await client.send(type="template", template=template))[0] == 200
    await until(receiver.got, 1)
    pricing = receiver.values()[0]["statuses"][0]["pricing"]
    assert pricing == {
        "billable": False,
        "pricing_model": "PMP",
        "category": "marketing",
        "type": "free_entry_point",
    }
