from typing import Any

import orjson
import pytest
from bson import Int64
from bson.datetime_ms import DatetimeMS

from migration.documents import Reject
from tests.unit.migration.collections.shapes import (
    AT,
    CONTACT,
    DOCUMENTS,
    INQUIRY,
    SUBSCRIPTION,
    TOKEN,
    UPLOAD,
    USER,
    VISITOR,
    row,
)

SAMPLES = dict(DOCUMENTS)


def told(collection: str, document: dict[str, Any]) -> tuple[Any, ...]:
    found = row(collection, document)
    assert (found["collection"], found["source_id"]) == (collection, document["_id"])
    return tuple(found[name] for name in ("kind", "name", "room_id", "user_id", "at"))


def extra(collection: str, document: dict[str, Any]) -> dict[str, Any]:
    return dict(orjson.loads(row(collection, document)["extra"]))


def test_a_user_without_secrets() -> None:
    assert told("users", USER) == ("user", "Ana", None, None, AT)
    assert set(extra("users", USER)) == {"username", "emails", "roles", "utcOffset", "statusText", "active"}
    for secret in (b"bcrypt", b"private_key", b"convite", b"authorizedClients"):
        assert secret not in row("users", USER)["raw"]


def test_bots_and_apps_and_who_has_no_name() -> None:
    assert told("users", {"_id": "rocket.cat", "type": "bot", "username": "rocket.cat"}) == (
        "bot", "rocket.cat", None, None, None,
    )  # fmt: skip
    assert told("users", {"_id": "x"}) == (None, None, None, None, None)


def test_visitors_and_contacts() -> None:
    collection = "rocketchat_livechat_visitor"
    assert told(collection, VISITOR) == (None, "Maria", None, None, AT)
    assert extra(collection, VISITOR)["visitorEmails"] == [{"address": "maria@example.com"}]
    assert told("rocketchat_livechat_contact", CONTACT) == (None, "Maria", None, None, AT)


def test_a_visitor_who_was_forgotten() -> None:
    hollow = {"_id": "vis1", "disabled": True, "_updatedAt": DatetimeMS(AT)}
    assert told("rocketchat_livechat_visitor", hollow) == (None, None, None, None, None)
    nulled = {**hollow, "name": None, "phone": None, "token": None, "username": None}
    assert extra("rocketchat_livechat_visitor", nulled) == {"disabled": True}


@pytest.mark.parametrize(
    ("collection", "expected"),
    [
        ("rocketchat_livechat_inquiry", ("queued", "Maria", "room0000000000001", None, AT)),
        ("rocketchat_subscription", ("c", "General", "GENERAL", "agent00000000001a", AT)),
        ("rocketchat_livechat_department", ("d", "Recepção", None, None, None)),
        ("rocketchat_livechat_department_agents", (None, "ana", None, "a1", None)),
        ("rocketchat_livechat_unit_monitors", (None, "ana", None, "a1", None)),
        ("rocketchat_livechat_custom_field", ("visitor", "CPF", None, None, None)),
        ("rocketchat_livechat_trigger", (None, "Ajuda", None, None, None)),
        ("rocketchat_livechat_tag", (None, "retorno", None, None, None)),
        ("rocketchat_livechat_priority", (None, "Highest", None, None, None)),
        ("rocketchat_livechat_business_hours", ("default", None, None, None, AT)),
        ("rocketchat_omnichannel_service_level_agreements", (None, "1 h", None, None, None)),
        ("rocketchat_livechat_agent_activity", (None, None, None, "a1", AT)),
        ("rocketchat_livechat_page_visited", (None, None, None, None, AT)),
        ("rocketchat_message_read_receipt", (None, None, "r1", "a1", AT)),
        ("rocketchat_read_receipts", (None, None, "r1", None, AT)),
        ("rocketchat_message_reads", (None, None, None, "a1", AT)),
        ("rocketchat_canned_response", ("global", "oi", None, None, AT)),
        ("rocketchat_team", ("0", "clinica", "r1", None, AT)),
        ("rocketchat_team_member", (None, None, None, "a1", AT)),
        ("rocketchat_roles", ("Users", "livechat-agent", None, None, None)),
        ("rocketchat_video_conference", ("livechat", None, "r1", "agent00000000001a", AT)),
        ("rocketchat_reports", (None, None, None, "a1", AT)),
        ("rocketchat_audit_log", ("audit", None, None, "agent00000000001a", AT)),
    ],
)
def test_where_the_columns_are(collection: str, expected: tuple[Any, ...]) -> None:
    assert told(collection, SAMPLES[collection]) == expected


def test_what_has_no_column_is_still_there() -> None:
    assert extra("rocketchat_livechat_inquiry", INQUIRY) == {"message": "oi", "v": {"_id": "vis1"}}
    kept = extra("rocketchat_subscription", SUBSCRIPTION)
    assert kept == {
        "u": {"_id": "agent00000000001a", "username": "ana.recepcao", "name": "Ana"}, "name": "general", "unread": 0,
        "ls": "2023-11-14T22:13:20.123Z",
    }  # fmt: skip
    assert (
        row("rocketchat_read_receipts", SAMPLES["rocketchat_read_receipts"])["extra"] == b'{"messageId":"m1"}'
    )


def test_dates_that_other_hands_wrote() -> None:
    assert told("rocketchat_livechat_visitor", {"_id": "v", "ts": "2023-11-14T22:13:20.123Z"})[-1] == AT
    with pytest.raises(Reject, match="ts is str and no date"):
        row("rocketchat_livechat_visitor", {"_id": "v", "ts": "ontem"})


def test_an_upload() -> None:
    found = row("rocketchat_uploads", UPLOAD)
    assert {name: found[name] for name in found if name not in {"extra", "raw"}} == {
        "source_id": "Up1", "room_id": "room0000000000001", "user_id": None, "name": "exame.jpg", "mime": "image/jpeg",
        "size": 149467, "store": "AmazonS3:Uploads", "path": "u/uploads/r/Up1", "uploaded_at": AT, "updated_at": AT,
        "complete": True,
    }  # fmt: skip
    assert orjson.loads(found["extra"])["path"] == "/ufs/AmazonS3:Uploads/Up1/exame.jpg"
    assert TOKEN.encode() not in found["extra"] + found["raw"]


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"AmazonS3": None}, "/ufs/AmazonS3:Uploads/Up1/exame.jpg"),
        ({"AmazonS3": None, "GoogleStorage": {"path": "g"}}, "g"),
        ({"AmazonS3": None, "Webdav": {"path": "w"}}, "w"),
        ({"AmazonS3": None, "s3": {"path": "s"}}, "s"),
        ({"AmazonS3": {}}, "/ufs/AmazonS3:Uploads/Up1/exame.jpg"),
        ({"AmazonS3": {"other": 1}}, "/ufs/AmazonS3:Uploads/Up1/exame.jpg"),
        ({"AmazonS3": None, "path": None}, None),
    ],
)
def test_where_an_upload_is(fields: dict[str, Any], path: str | None) -> None:
    assert row("rocketchat_uploads", {**UPLOAD, **fields})["path"] == path


@pytest.mark.parametrize("size", [5, Int64(5), 5.0])
def test_sizes_of_all_kinds(size: Any) -> None:
    assert row("rocketchat_uploads", {**UPLOAD, "size": size})["size"] == 5


def test_an_upload_that_is_odd() -> None:
    for fields, code in (
        ({"size": float("nan")}, "wrong_type"),
        ({"complete": 1}, "wrong_type"),
        ({"name": "\x00"}, "nul"),
    ):
        with pytest.raises(Reject) as caught:
            row("rocketchat_uploads", {**UPLOAD, **fields})
        assert caught.value.code == code
