"""Documents as Rocket.Chat writes them, one or more a collection, and anything BSON can hold."""

from typing import Any

import bson
from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS
from hypothesis import strategies as st

from adapters.rocketchat.documents import Documents
from migration.collections import Copied, treatment
from migration.documents import CODEC, Mask

AT = 1_700_000_000_123
TOKEN = "qz7visitortokenqz7qz7qz7"
READER = Documents()
MASK = Mask(b"k" * 32)

U = {"_id": "agent00000000001a", "username": "ana.recepcao", "name": "Ana"}
TEXT = {
    "_id": "m0000000000000001", "rid": "room0000000000001", "msg": "Olá, bom dia!", "ts": DatetimeMS(AT), "u": U,
    "_updatedAt": DatetimeMS(AT + 5), "urls": [], "mentions": [], "channels": [], "md": [{"type": "PARAGRAPH"}],
}  # fmt: skip
FILE = {"_id": "Up1", "name": "exame de sangue.jpg", "type": "image/jpeg", "size": 71224.0}
PHOTO = {
    **TEXT, "msg": "", "token": TOKEN, "alias": "Maria", "file": FILE,
    "files": [FILE, {"_id": "Up2", "name": "thumb-exame de sangue.jpg", "type": "image/jpeg"}],
    "fileUpload": {"publicFilePath": f"https://chat.example/file-upload/Up1/x.jpg?token={TOKEN}", "type": "image/jpeg"},
    "attachments": [
        {"ts": "1970-01-01T00:00:00.000Z", "title": "exame de sangue.jpg", "description": "meu exame",
         "title_link": "/file-upload/Up1/exame%20de%20sangue.jpg", "image_url": "/file-upload/Up2/x.jpg"},
    ],
}  # fmt: skip
ENCRYPTED = {**TEXT, "t": "e2e", "msg": "kid0cGxhaW4=", "e2e": "pending", "content": {"algorithm": "rc.v1"}}
NAVIGATION = {
    **TEXT, "t": "livechat_navigation_history", "msg": "Agendar",
    "navigation": {"page": {"title": "Agendar", "change": "url"}, "token": TOKEN},
}  # fmt: skip
LIVECHAT = {
    "_id": "room0000000000001", "t": "l", "fname": "Maria", "ts": DatetimeMS(AT), "lm": DatetimeMS(AT + 100), "open": True,
    "_updatedAt": DatetimeMS(AT + 200), "msgs": Int64(4), "usersCount": 1.0, "departmentId": "dep1", "contactId": "con1",
    "v": {"_id": "vis1", "username": "guest-2", "token": TOKEN, "name": "Maria", "phone": [{"phoneNumber": "+5511999990000"}],
          "lastMessageTs": DatetimeMS(AT + 90)},
    "source": {"type": "app", "id": "app-uuid", "alias": "WhatsApp"}, "servedBy": U, "u": U,
    "lastMessage": {**TEXT, "token": TOKEN}, "metrics": {"v": {"lq": DatetimeMS(AT)}},
}  # fmt: skip
CHANNEL = {
    "_id": "GENERAL", "t": "c", "name": "general", "fname": "General", "ts": DatetimeMS(AT), "u": U, "joinCode": "s3nha",
    "e2eKeyId": "k3yid", "usernames": [], "msgs": 12, "customFields": {"a.b": 1, "$c": ObjectId("0" * 24)},
}  # fmt: skip
UPLOAD = {
    "_id": "Up1", "name": "exame.jpg", "size": Int64(149467), "type": "image/jpeg", "rid": "room0000000000001",
    "visitorToken": TOKEN, "token": "08397aB979", "store": "AmazonS3:Uploads", "complete": True, "uploadedAt": DatetimeMS(AT),
    "_updatedAt": DatetimeMS(AT), "path": "/ufs/AmazonS3:Uploads/Up1/exame.jpg", "AmazonS3": {"path": "u/uploads/r/Up1"},
    "identify": {"format": "jpeg", "size": {"width": 1500, "height": 750}},
}  # fmt: skip
USER = {
    "_id": "agent00000000001a", "createdAt": DatetimeMS(AT), "username": "ana.recepcao", "name": "Ana", "type": "user",
    "services": {"password": {"bcrypt": "$2b$10$b"}, "resume": {"loginTokens": [{"hashedToken": "hash"}]}},
    "e2e": {"private_key": "{}", "public_key": "{}"}, "oauth": {"authorizedClients": ["x"]}, "inviteToken": "convite",
    "emails": [{"address": "ana@clinica.example", "verified": True}], "roles": ["livechat-agent"], "utcOffset": -3,
    "statusText": "almoço", "avatarETag": None, "__rooms": ["GENERAL"], "_updatedAt": DatetimeMS(AT), "active": True,
}  # fmt: skip
VISITOR = {
    "_id": "vis1", "username": "guest-2", "ts": DatetimeMS(AT), "token": TOKEN, "name": "Maria", "phone": None,
    "visitorEmails": [{"address": "maria@example.com"}], "lastChat": {"_id": "room0000000000001", "ts": DatetimeMS(AT)},
    "activity": ["2023-11"], "_updatedAt": DatetimeMS(AT),
}  # fmt: skip
CONTACT = {
    "_id": "con1", "name": "Maria", "phones": [{"phoneNumber": "+5511999990000"}], "createdAt": DatetimeMS(AT),
    "channels": [{"name": "sms", "visitor": {"visitorId": "vis1", "source": {"type": "sms"}}}],
}  # fmt: skip
INQUIRY = {
    "_id": "inq1", "rid": "room0000000000001", "name": "Maria", "ts": DatetimeMS(AT), "status": "queued", "message": "oi",
    "v": {"_id": "vis1", "token": TOKEN}, "lastMessage": {**TEXT, "token": TOKEN},
}  # fmt: skip
SUBSCRIPTION = {
    "_id": "sub1", "rid": "GENERAL", "u": U, "t": "c", "name": "general", "fname": "General", "ts": DatetimeMS(AT),
    "ls": DatetimeMS(AT), "E2EKey": "chave", "E2ESuggestedKey": "chave2", "oldRoomKeys": [{"E2EKey": "chave3"}], "unread": 0,
}  # fmt: skip

DOCUMENTS: list[tuple[str, dict[str, Any]]] = [
    *(("rocketchat_message", one) for one in (TEXT, PHOTO, ENCRYPTED, NAVIGATION)),
    *(("rocketchat_room", one) for one in (LIVECHAT, CHANNEL)),
    ("rocketchat_uploads", UPLOAD),
    ("users", USER),
    ("rocketchat_livechat_visitor", VISITOR),
    ("rocketchat_livechat_contact", CONTACT),
    ("rocketchat_livechat_inquiry", INQUIRY),
    ("rocketchat_subscription", SUBSCRIPTION),
    ("rocketchat_livechat_department", {"_id": "dep1", "name": "Recepção", "type": "d", "numAgents": 2.0}),
    ("rocketchat_livechat_department_agents", {"_id": "da1", "agentId": "a1", "username": "ana", "departmentId": "dep1"}),
    ("rocketchat_livechat_unit_monitors", {"_id": "um1", "monitorId": "a1", "username": "ana", "unitId": "u1"}),
    ("rocketchat_livechat_custom_field", {"_id": "cpf", "label": "CPF", "scope": "visitor", "visibility": "visible"}),
    ("rocketchat_livechat_trigger", {"_id": "tr1", "name": "Ajuda", "conditions": [], "actions": []}),
    ("rocketchat_livechat_tag", {"_id": "tag1", "name": "retorno", "departments": []}),
    ("rocketchat_livechat_priority", {"_id": "p1", "i18n": "Highest", "sortItem": 1, "dirty": False}),
    ("rocketchat_livechat_business_hours", {"_id": "bh1", "type": "default", "name": "", "ts": DatetimeMS(AT)}),
    ("rocketchat_omnichannel_service_level_agreements", {"_id": "sla1", "name": "1 h", "dueTimeInMinutes": 60}),
    ("rocketchat_livechat_agent_activity", {"_id": "aa1", "agentId": "a1", "date": 20231114, "lastStartedAt": DatetimeMS(AT)}),
    ("rocketchat_livechat_page_visited", {"_id": "pv1", "token": TOKEN, "page": {"title": "x"}, "ts": DatetimeMS(AT)}),
    ("rocketchat_message_read_receipt", {"_id": "rr1", "messageId": "m1", "roomId": "r1", "userId": "a1", "ts": DatetimeMS(AT)}),
    ("rocketchat_read_receipts", {"_id": "rr2", "messageId": "m1", "roomId": "r1", "token": TOKEN, "ts": DatetimeMS(AT)}),
    ("rocketchat_message_reads", {"_id": "mr1", "tmid": "m1", "userId": "a1", "ls": DatetimeMS(AT)}),
    ("rocketchat_canned_response", {"_id": "cr1", "shortcut": "oi", "text": "Olá!", "scope": "global", "_createdAt": DatetimeMS(AT)}),
    ("rocketchat_team", {"_id": "t1", "name": "clinica", "type": 0, "roomId": "r1", "createdAt": DatetimeMS(AT)}),
    ("rocketchat_team_member", {"_id": "tm1", "teamId": "t1", "userId": "a1", "createdAt": DatetimeMS(AT)}),
    ("rocketchat_roles", {"_id": "livechat-agent", "name": "livechat-agent", "scope": "Users", "protected": True}),
    ("rocketchat_video_conference", {"_id": "vc1", "type": "livechat", "rid": "r1", "createdBy": U, "createdAt": DatetimeMS(AT)}),
    ("rocketchat_reports", {"_id": "rep1", "userId": "a1", "message": TEXT, "ts": DatetimeMS(AT)}),
    ("rocketchat_audit_log", {"_id": "al1", "type": "audit", "u": U, "ts": DatetimeMS(AT), "fields": {"msg": "x"}}),
]  # fmt: skip


def copied(collection: str) -> Copied:
    found = treatment(collection)
    assert isinstance(found, Copied)
    return found


def row(collection: str, document: dict[str, Any]) -> dict[str, Any]:
    """The row by column, mapped as the loader does it, from the document's own bytes."""
    what, raw = copied(collection), bson.encode(document)
    kept = (what.clean or bytes)(MASK(raw))
    values = what.map(READER, collection, dict(bson.decode(raw, CODEC)), kept)
    return dict(zip(what.shape.names, values, strict=True))


VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(max_size=6)
    | st.sampled_from(["a\x00b", "2024-01-01", "0001-01-01T00:00:00+14:00", "x?token=abc", "", "l", "e2e"])
    | st.integers(-(2**63), 2**63 - 1).map(DatetimeMS)
    | st.sampled_from([
        ObjectId("a" * 24), Binary(b"\x00\xff"), Binary(b"x" * 16, 4), Decimal128("1.5"), Decimal128("NaN"), Regex("a+", "i"),
        Timestamp(1, 2), Code("x()"), Code("y()", {"z": 1}), MinKey(), MaxKey(), Int64(7), DBRef("c", "a\x00b"),
    ]),
    lambda deeper: st.lists(deeper, max_size=3)
    | st.dictionaries(
        st.sampled_from(["_id", "token", "type", "path", "u", "a.b", "$d", "phoneNumber", "title", "x"]), deeper, max_size=3
    ),
    max_leaves=8,
)  # fmt: skip
"""What BSON holds, as the decoder gives it."""
