import uuid
from dataclasses import replace

import pytest

from router.control import audit, contacts, conversations
from router.control.desk import Desk
from router.domain.errors import Rejected
from router.domain.ports import Tx
from tests.integration.control.desk_scene import LUA, SOL, open_conversation

pytestmark = pytest.mark.postgres


async def test_an_opt_out_holds_for_every_address_and_is_audited(desk: Desk) -> None:
    conversation = await open_conversation(desk)
    other = await open_conversation(desk)

    async def join(tx: Tx) -> None:
        identity = await tx.identity(other.identity_id)
        assert identity is not None
        await tx.save_identity(replace(identity, contact_id=conversation.contact_id))

    await desk.store.transact(join)
    wanted = conversation.contact_id
    assert (await contacts.one(desk, wanted, SOL))["opted_out"] is False
    said = await contacts.opt_out(desk, wanted, True, reason=" pediu ", by="user:ana@sol.example", tenant=SOL)
    assert said["opted_out"] is True
    assert [one["opted_out"] for one in said["identities"]] == [True, True]
    assert (await conversations.one(desk, conversation.id, SOL))["opted_out"] is True
    again = await contacts.opt_out(desk, wanted, True, reason="outra vez", by="cli", tenant=SOL)
    assert again["opted_out"] is True
    lifted = await contacts.opt_out(desk, wanted, False, reason="voltou", by="cli", tenant=SOL)
    assert lifted["opted_out"] is False
    acts = [(one["act"], one["subject"], one["tenant"]) for one in await audit.listing(desk)]
    assert acts == [("contact.opt_in", str(wanted), SOL), ("contact.opt_out", str(wanted), SOL)]
    assert await audit.verify(desk) is None
    assert "ana@sol.example" not in str(await audit.listing(desk))


async def test_anothers_contact_does_not_exist(desk: Desk) -> None:
    theirs = await open_conversation(desk, "wa-lua")
    for attempt in (
        contacts.one(desk, theirs.contact_id, SOL),
        contacts.opt_out(desk, theirs.contact_id, True, reason="r", by="cli", tenant=SOL),
        contacts.one(desk, uuid.uuid4()),
    ):
        with pytest.raises(Rejected, match="no such contact"):
            await attempt
    assert (await contacts.one(desk, theirs.contact_id, LUA))["opted_out"] is False
    with pytest.raises(Rejected, match="reason"):
        await contacts.opt_out(desk, theirs.contact_id, True, reason=" ", by="cli")
