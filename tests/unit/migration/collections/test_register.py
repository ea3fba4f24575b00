import os
from pathlib import Path

import bson
import pytest

from migration.collections import Bytes, Copied, Left, treatment
from migration.collections.register import REGISTER
from migration.documents import CODEC
from router.storage.archive.shape import FILES, MESSAGES, RECORDS, ROOMS
from tests.unit.migration.collections.shapes import MASK, READER
from tests.unit.migration.collections.test_total import fits

SHARED = Path(os.environ.get("FIGUEIRA_SHARED", "../shared"))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("rocketchat_room", ROOMS),
        ("rocketchat_message", MESSAGES),
        ("rocketchat_uploads", FILES),
        *((name, RECORDS) for name in (
            "users", "rocketchat_livechat_visitor", "rocketchat_livechat_contact", "rocketchat_livechat_department",
            "rocketchat_livechat_department_agents", "rocketchat_livechat_inquiry", "rocketchat_livechat_custom_field",
            "rocketchat_livechat_trigger", "rocketchat_livechat_tag", "rocketchat_livechat_priority",
            "rocketchat_omnichannel_service_level_agreements", "rocketchat_livechat_unit_monitors",
            "rocketchat_livechat_business_hours", "rocketchat_subscription", "rocketchat_message_read_receipt",
            "rocketchat_read_receipts", "rocketchat_canned_response", "rocketchat_team", "rocketchat_team_member",
        )),
    ],
)  # fmt: skip
def test_what_is_copied(name: str, shape: object) -> None:
    what = treatment(name)
    assert isinstance(what, Copied)
    assert what.shape is shape


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("rocketchat_settings", "secret"),
        ("rocketchat_email_inbox", "secret"),
        ("rocketchat_oauth_access_tokens", "secret"),
        ("rocketchat_credential_tokens", "secret"),
        ("rocketchat_apps_logs", "secret"),
        ("meteor_accounts_loginServiceConfiguration", "secret"),
        ("_raix_push_app_tokens", "secret"),
        ("rocketchat__trash", "trash"),
        ("rocketchat_sessions", "transient"),
        ("usersSessions", "transient"),
        ("rocketchat_notification_queue", "transient"),
        ("rocketchat_cron_history", "transient"),
        ("rocketchat_raw_imports", "transient"),
        ("migrations", "transient"),
        ("system.profile", "transient"),
        ("oplog", "transient"),
        ("rocketchat_avatars.chunks", "presentation"),
        ("custom_emoji.files", "presentation"),
        ("rocketchat_custom_sounds", "presentation"),
        ("a_stranger", "unknown_collection"),
    ],
)
def test_what_is_left(name: str, reason: str) -> None:
    assert treatment(name) == Left(reason)


def test_the_bytes_of_uploads() -> None:
    assert treatment("rocketchat_uploads.files") == Bytes("files")
    assert treatment("rocketchat_uploads.chunks") == Bytes("chunks")


def test_no_other_reasons() -> None:
    reasons = {what.reason for what in REGISTER.values() if isinstance(what, Left)}
    assert reasons == {"secret", "trash", "transient", "presentation"}


def test_a_real_dump_is_mapped_whole() -> None:
    folder = SHARED / "data" / "rocketchat-dump"
    if not folder.is_dir():
        pytest.skip(f"NO SHARED DUMP at {folder}: set FIGUEIRA_SHARED")
    rows: dict[str, int] = {}
    for path in sorted(folder.glob("*.bson")):
        what = treatment(path.stem)
        assert what != Left("unknown_collection"), path.stem
        if not isinstance(what, Copied):
            continue
        for document in bson.decode_all(path.read_bytes(), CODEC):
            raw = MASK(bson.encode(document))
            row = what.map(READER, path.stem, document, what.clean(raw) if what.clean else raw)
            fits(what.shape, row)
            rows[path.stem] = rows.get(path.stem, 0) + 1
    assert rows == {"rocketchat_message": 87, "rocketchat_room": 16, "rocketchat_uploads": 4, "users": 6}
