"""PUT /v1/users: contact, mapping and Rocket.Chat's user, over a real database."""

import asyncio
import re
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import FastAPI

from router.control import audit
from router.control.desk import Desk
from router.domain.errors import StoreError
from router.domain.ports import NOT_THEIRS, Finding, Refusal, Tx
from router.storage.queries import users
from router.storage.queries.link import link_of
from tests.integration.api.conftest import Key
from tests.integration.control.desk_scene import LUA, SOL, open_conversation

pytestmark = pytest.mark.postgres

RC_ANA = "rc-0"
NUMBER = "5531996880001"
ANA = {"name": "Ana", "phone": "+55 (31) 99688-0001", "email": "Ana@example.org"}


@dataclass
class Admin:
    """Rocket.Chat's users by e-mail."""

    refusal: Refusal | None = None
    users: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    async def standing(self) -> dict[str, Any]:
        raise NotImplementedError

    async def check(self, webhook_url: str | None) -> list[Finding]:
        raise NotImplementedError

    async def setup(self, webhook_url: str, *, dry_run: bool, replace: bool = False) -> list[Finding]:
        raise NotImplementedError

    async def create_user(self, *, name: str, email: str, username: str, adopt: bool = True) -> str | Refusal:
        self.asked.append((name, email, username))
        if self.refusal:
            return self.refusal
        known = self.users.setdefault(email.lower(), username)
        return f"rc-{list(self.users).index(email.lower())}" if adopt or known == username else NOT_THEIRS


@pytest.fixture
def admin(app: FastAPI, desk: Desk) -> Admin:
    made = Admin()
    app.state.desk = replace(desk, admin=made)
    return made


async def put(client: httpx.AsyncClient, headers: dict[str, str], user: UUID, **body: Any) -> Any:
    answer = await client.put(f"/v1/users/{user}", headers=headers, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def rows(desk: Desk, sql: str, *values: Any) -> list[dict[str, Any]]:
    return [dict(row) for row in await desk.store.engine.fetch(sql, *values)]


async def test_a_user_is_told_twice(client: httpx.AsyncClient, desk: Desk, key: Key, admin: Admin) -> None:
    headers, user = await key(SOL, "users:write", "contacts:read"), uuid4()
    first = await put(client, headers, user, **ANA)
    assert first["id_user"] == str(user)
    assert first["rocketchat"] == {"state": "mapped", "rc_user_id": RC_ANA}
    assert await put(client, headers, user, **ANA) == first
    ((name, email, username),) = admin.asked
    assert (name, email) == ("Ana", "Ana@example.org")
    assert re.fullmatch(r"ana-[0-9a-f]{12}", username)
    contact = (await client.get(f"/v1/contacts/{first['contact_id']}", headers=headers)).json()
    assert (contact["name"], contact["user_id"], contact["tenant"]) == ("Ana", str(user), SOL)
    assert [(one["kind"], one["addresses"]) for one in contact["identities"]] == [
        ("whatsapp", [{"kind": "wa_id", "value": NUMBER}]),
        ("email", [{"kind": "email", "value": "Ana@example.org"}]),
    ]
    assert await rows(desk, "select id_user from tb_users") == [{"id_user": user}]
    mapped = await rows(desk, "select rc_user_id, id_user, ds_canal from tb_rocketchat_user_mapping")
    assert mapped == [{"rc_user_id": RC_ANA, "id_user": user, "ds_canal": f"api:{SOL}"}]


async def test_it_is_audited_without_what_was_said(
    client: httpx.AsyncClient, desk: Desk, key: Key, admin: Admin
) -> None:
    user = uuid4()
    await put(client, await key(SOL, "users:write"), user, **ANA)
    told = [one for one in await audit.listing(desk) if one["subject"] == str(user)]
    assert [(one["act"], one["tenant"]) for one in told] == [("user.map", SOL), ("user.put", SOL)]
    assert told[1]["detail"]["given"] == ["email", "name", "phone"]
    assert not any(word in repr(told) for word in ("example.org", NUMBER, "Ana"))
    assert await audit.verify(desk) is None


async def test_what_came_at_the_same_time_is_one_contact(
    client: httpx.AsyncClient, desk: Desk, key: Key, admin: Admin
) -> None:
    headers, user = await key(SOL, "users:write"), uuid4()
    answers = await asyncio.gather(*(put(client, headers, user, name="Ana") for _ in range(5)))
    assert len({one["contact_id"] for one in answers}) == 1
    assert await desk.store.engine.fetchval("select count(*) from contacts") == 1


async def test_a_row_of_the_clinics_stays_as_it_is(
    client: httpx.AsyncClient, dsn: str, key: Key, admin: Admin
) -> None:
    import asyncpg

    user = uuid4()
    owner = await asyncpg.connect(dsn)
    try:
        await owner.execute(
            "insert into tb_users (id_user, nm_completo, ds_origem, st_tipo_usuario) values ($1, 'Ana Maria', 'site', 'paciente')",
            user,
        )  # fmt: skip
        await put(client, await key(SOL, "users:write"), user, name="Outra")
        row = await owner.fetchrow("select nm_completo, ds_origem from tb_users where id_user = $1", user)
        assert row is not None
        assert tuple(row) == ("Ana Maria", "site")
        made = uuid4()
        await put(client, await key(SOL, "users:write"), made)
        row = await owner.fetchrow("select nm_completo, ds_origem from tb_users where id_user = $1", made)
        assert row is not None
        assert tuple(row) == ("Sem nome", "api")
    finally:
        await owner.close()


async def test_more_is_learned_each_time(
    client: httpx.AsyncClient, desk: Desk, key: Key, admin: Admin
) -> None:
    headers, user = await key(SOL, "users:write", "contacts:read", "messages:write"), uuid4()
    bare = await put(client, headers, user)
    assert bare["rocketchat"] == {
        "state": "refused",
        "code": "no_email",
        "detail": "a user of Rocket.Chat needs an e-mail: send one",
    }
    for more in ({"phone": NUMBER}, {"email": "ana@example.org"}, {"name": "Ana"}, {"phone": "553188880001"}):
        assert (await put(client, headers, user, **more))["contact_id"] == bare["contact_id"]
    contact = (await client.get(f"/v1/contacts/{bare['contact_id']}", headers=headers)).json()
    assert contact["name"] == "Ana"
    assert [one["kind"] for one in contact["identities"]] == ["whatsapp", "email", "whatsapp"]


async def test_somebody_who_wrote_first(
    client: httpx.AsyncClient, desk: Desk, key: Key, admin: Admin
) -> None:
    headers = await key(SOL, "users:write", "contacts:read")
    conversation = await open_conversation(desk, "wa-sol", number=NUMBER)
    theirs = (await client.get(f"/v1/contacts/{conversation.contact_id}", headers=headers)).json()["user_id"]
    told = await put(client, headers, UUID(theirs), phone=NUMBER)
    assert told["contact_id"] == str(conversation.contact_id)
    taken = await client.put(f"/v1/users/{uuid4()}", headers=headers, json={"phone": NUMBER})
    assert (taken.status_code, taken.json()["code"]) == (409, "identity_taken")
    assert theirs in taken.json()["detail"]
    assert await desk.store.engine.fetchval("select count(*) from contacts") == 1


async def _wrote_first(desk: Desk) -> tuple[UUID, UUID]:
    """(contact, the user we made for it), known to Rocket.Chat as `visitor`."""
    conversation = await open_conversation(desk, "wa-sol", number=NUMBER)

    async def work(tx: Tx) -> UUID:
        contact = await tx.contact(conversation.contact_id)
        assert contact is not None
        assert contact.user_id is not None
        await tx.map_rocketchat_user("visitor", contact.user_id, "whatsapp")
        return contact.user_id

    return conversation.contact_id, await desk.store.transact(work)


async def test_the_clinics_id_adopts_who_wrote_first(
    client: httpx.AsyncClient, desk: Desk, key: Key, admin: Admin
) -> None:
    headers, user = await key(SOL, "users:write", "contacts:read"), uuid4()
    contact, made = await _wrote_first(desk)
    told = await put(client, headers, user, **ANA)
    assert (told["contact_id"], told["rocketchat"]["state"]) == (str(contact), "mapped")
    assert await put(client, headers, user, **ANA) == told
    seen = (await client.get(f"/v1/contacts/{contact}", headers=headers)).json()
    assert (seen["user_id"], seen["name"]) == (str(user), "Ana")
    assert await rows(desk, "select id_user from tb_users") == [{"id_user": user}]
    mapped = await rows(
        desk, "select rc_user_id, id_user from tb_rocketchat_user_mapping order by rc_user_id"
    )
    assert mapped == [{"rc_user_id": RC_ANA, "id_user": user}, {"rc_user_id": "visitor", "id_user": user}]
    acts = [one for one in await audit.listing(desk) if one["subject"] == str(user)]
    assert sorted(one["act"] for one in acts) == ["user.adopt", "user.map", "user.put", "user.put"]
    adopted = next(one for one in acts if one["act"] == "user.adopt")
    assert adopted["detail"] == {"contact_id": str(contact), "instead_of": str(made), "dropped": True}
    for other in (uuid4(), made):
        taken = await client.put(f"/v1/users/{other}", headers=headers, json={"phone": NUMBER})
        assert (taken.status_code, taken.json()["code"]) == (409, "identity_taken")
    assert await rows(desk, "select id_user from tb_users") == [{"id_user": user}]


async def test_one_of_two_ids_adopts(client: httpx.AsyncClient, desk: Desk, key: Key, admin: Admin) -> None:
    headers = await key(SOL, "users:write")
    await _wrote_first(desk)
    answers = await asyncio.gather(
        *(client.put(f"/v1/users/{uuid4()}", headers=headers, json={"phone": NUMBER}) for _ in range(4))
    )
    assert sorted(one.status_code for one in answers) == [200, 409, 409, 409]
    assert await desk.store.engine.fetchval("select count(*) from contacts where not user_made") == 1
    assert len(await rows(desk, "select id_user from tb_users")) == 1


@pytest.mark.parametrize(
    "theirs",
    [
        "create table tb_agendamentos as select $1::uuid as id_user",
        "create table tb_laudos (paciente uuid references tb_users on delete cascade); insert into tb_laudos values ($1)",
        "update tb_users set nm_completo = 'Ana Maria de Souza' where id_user = $1",
        "alter table tb_users add column nr_cpf text; update tb_users set nr_cpf = '1' where id_user = $1",
        "update tb_users set ds_origem = 'site' where id_user = $1",
        "update tb_users set st_tipo_usuario = 'medico' where id_user = $1",
    ],
)
async def test_a_user_we_made_stays_once_the_clinic_uses_it(
    client: httpx.AsyncClient, desk: Desk, dsn: str, key: Key, admin: Admin, theirs: str
) -> None:
    import asyncpg

    contact, made = await _wrote_first(desk)
    owner = await asyncpg.connect(dsn)
    try:
        await owner.execute(theirs.replace("$1", f"'{made}'"))
        before = await owner.fetchrow("select to_jsonb(u) from tb_users u where id_user = $1", made)
        told = await put(client, await key(SOL, "users:write"), uuid4(), phone=NUMBER)
        assert told["contact_id"] == str(contact)
        after = await owner.fetchrow("select to_jsonb(u) from tb_users u where id_user = $1", made)
        assert before == after is not None
        for table in ("tb_agendamentos", "tb_laudos"):
            if await owner.fetchval("select to_regclass($1)", table):
                assert await owner.fetchval(f"select count(*) from {table}") == 1  # noqa: S608 - one of two names
    finally:
        await owner.close()
    act = next(one for one in await audit.listing(desk) if one["act"] == "user.adopt")
    assert act["detail"]["dropped"] is False


async def test_a_user_another_contact_has_stays(
    client: httpx.AsyncClient, desk: Desk, key: Key, admin: Admin
) -> None:
    _, made = await _wrote_first(desk)
    await put(client, await key(LUA, "users:write"), made)
    told = await put(client, await key(SOL, "users:write"), uuid4(), phone=NUMBER)
    assert {one["id_user"] for one in await rows(desk, "select id_user from tb_users")} == {
        made,
        UUID(told["id_user"]),
    }


async def test_nobody_but_the_engine_deletes_a_user(desk: Desk) -> None:
    _, made = await _wrote_first(desk)
    with pytest.raises(StoreError):
        await desk.store.transact(lambda tx: users.drop_user(tx, made, None), tenant=SOL)
    with pytest.raises(StoreError):
        await desk.store.transact(lambda tx: link_of(tx).execute("delete from tb_users"))


async def test_two_people_are_not_made_one(
    client: httpx.AsyncClient, desk: Desk, key: Key, admin: Admin
) -> None:
    headers, one, other = await key(SOL, "users:write"), uuid4(), uuid4()
    await put(client, headers, one, phone=NUMBER)
    await put(client, headers, other, email="ana@example.org")
    for user in (one, other, uuid4()):
        body = {"phone": NUMBER, "email": "ANA@example.org"}
        answer = await client.put(f"/v1/users/{user}", headers=headers, json=body)
        assert (answer.status_code, answer.json()["code"]) == (409, "identity_taken")


async def test_tenants_do_not_meet(client: httpx.AsyncClient, key: Key, admin: Admin) -> None:
    user = uuid4()
    sol = await put(client, await key(SOL, "users:write"), user, **ANA)
    lua = await put(client, await key(LUA, "users:write"), user, **ANA)
    assert sol["contact_id"] != lua["contact_id"]
    everybody = await key(None, "users:write")
    assert (await put(client, everybody, user, tenant=SOL))["contact_id"] == sol["contact_id"]
    seen = await client.get(f"/v1/contacts/{lua['contact_id']}", headers=await key(SOL, "contacts:read"))
    assert seen.status_code == 404


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"phone": "a pedido"}, "invalid_phone"),
        ({"phone": "BR.123"}, "invalid_phone"),
        ({"email": "ana"}, "invalid_email"),
        ({"email": "ana@@example.org"}, "invalid_email"),
        ({"email": "ana maria@example.org"}, "invalid_email"),
    ],
)
async def test_malformed(
    client: httpx.AsyncClient, desk: Desk, key: Key, admin: Admin, body: dict[str, str], code: str
) -> None:
    answer = await client.put(f"/v1/users/{uuid4()}", headers=await key(SOL, "users:write"), json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert await desk.store.engine.fetchval("select count(*) from contacts") == 0
    assert admin.asked == []


async def test_a_refusal_of_rocketchat_is_no_failure_of_ours(
    client: httpx.AsyncClient, desk: Desk, key: Key, admin: Admin
) -> None:
    admin.refusal = Refusal("two_factor", "make a token")
    headers, user = await key(SOL, "users:write"), uuid4()
    told = await put(client, headers, user, **ANA)
    assert told["rocketchat"] == {"state": "refused", "code": "two_factor", "detail": "make a token"}
    admin.refusal = None
    assert (await put(client, headers, user, **ANA))["rocketchat"]["state"] == "mapped"


async def test_without_a_rocketchat(client: httpx.AsyncClient, key: Key) -> None:
    told = await put(client, await key(SOL, "users:write"), uuid4(), **ANA)
    assert told["rocketchat"] == {"state": "not_configured"}


def refused(told: dict[str, Any]) -> bool:
    """In the words that tell nobody whose it is."""
    return bool(
        told["rocketchat"] == {"state": "refused", "code": "identity_taken", "detail": NOT_THEIRS.detail}
        and RC_ANA not in repr(told)
    )


async def test_a_user_of_rocketchat_stays_whose_it_is(
    client: httpx.AsyncClient, desk: Desk, key: Key, admin: Admin
) -> None:
    sol, lua, one = await key(SOL, "users:write"), await key(LUA, "users:write"), uuid4()
    first = await put(client, sol, one, **ANA)
    assert refused(await put(client, lua, one, email="ana@example.org"))  # with the same id even
    everybody = await key(None, "users:write")
    assert refused(await put(client, everybody, one, tenant=LUA, email="ana@example.org"))
    mapped = await rows(desk, "select rc_user_id, id_user, ds_canal from tb_rocketchat_user_mapping")
    assert mapped == [{"rc_user_id": RC_ANA, "id_user": one, "ds_canal": f"api:{SOL}"}]
    assert await put(client, sol, one, **ANA) == first


@pytest.mark.parametrize("ds_canal", [f"api:{SOL}", "api"])
async def test_another_tenant_does_not_learn_it(
    client: httpx.AsyncClient, desk: Desk, key: Key, admin: Admin, ds_canal: str
) -> None:
    """`api` alone is how it was kept before."""
    sol, user = await key(SOL, "users:write"), uuid4()
    first = await put(client, sol, user, **ANA)
    await desk.store.engine.execute("update tb_rocketchat_user_mapping set ds_canal = $1", ds_canal)
    assert await put(client, sol, user) == first
    told = await put(client, await key(LUA, "users:write"), user)
    assert told["rocketchat"]["code"] == "no_email"
    assert RC_ANA not in repr(told)


async def test_an_email_alone_does_not_make_an_existing_user_ones_own(
    client: httpx.AsyncClient, desk: Desk, key: Key, admin: Admin
) -> None:
    admin.users["ana@example.org"] = "aninha"
    lua, other, one = await key(LUA, "users:write"), uuid4(), uuid4()
    assert refused(await put(client, lua, other, email="ana@example.org"))
    assert await rows(desk, "select * from tb_rocketchat_user_mapping") == []
    vouched = await put(client, await key(None, "users:write"), one, tenant=SOL, **ANA)
    assert vouched["rocketchat"] == {"state": "mapped", "rc_user_id": RC_ANA}
    assert await put(client, await key(SOL, "users:write"), one, **ANA) == vouched
    assert refused(await put(client, lua, other, email="ana@example.org"))


async def test_the_second_of_two_with_one_email_is_told_so(
    client: httpx.AsyncClient, key: Key, admin: Admin
) -> None:
    first = await put(client, await key(LUA, "users:write"), uuid4(), email="ana@example.org")
    assert first["rocketchat"]["state"] == "mapped"
    second = await put(client, await key(SOL, "users:write"), uuid4(), **ANA)
    assert refused(second)
    assert second["contact_id"]


async def test_a_clinic_alone_takes_who_is_there(
    client: httpx.AsyncClient, app: FastAPI, desk: Desk, key: Key, admin: Admin
) -> None:
    own = {slug: one for slug, one in desk.channels.items() if one.tenant == SOL}
    app.state.desk = replace(app.state.desk, channels=own)
    admin.users["ana@example.org"] = "aninha"
    told = await put(client, await key(SOL, "users:write"), uuid4(), **ANA)
    assert told["rocketchat"] == {"state": "mapped", "rc_user_id": RC_ANA}
    assert admin.asked[0][2] == "ana"


async def test_a_mapping_of_the_clinics_own_holds(
    client: httpx.AsyncClient, desk: Desk, key: Key, admin: Admin
) -> None:
    one = uuid4()
    await put(client, await key(SOL, "users:write"), one)
    await desk.store.engine.execute(
        "insert into tb_rocketchat_user_mapping (rc_user_id, id_user) values ($1, $2)", RC_ANA, one
    )
    assert refused(await put(client, await key(LUA, "users:write"), uuid4(), email="ana@example.org"))
    told = await put(client, await key(None, "users:write"), one, tenant=SOL, **ANA)
    assert told["rocketchat"] == {"state": "mapped", "rc_user_id": RC_ANA}


async def test_a_long_tenant_has_a_canal_too() -> None:
    assert users.canal("sol") == "api:sol"
    assert len({users.canal("s" * 63), users.canal("s" * 62 + "t"), users.canal("s" * 46)}) == 3
    assert len(users.canal("s" * 63)) <= 50


async def test_a_phone_needs_a_channel(client: httpx.AsyncClient, app: FastAPI, desk: Desk, key: Key) -> None:
    app.state.desk = replace(
        desk, channels={slug: one for slug, one in desk.channels.items() if one.kind == "sms"}
    )
    answer = await client.put(
        f"/v1/users/{uuid4()}", headers=await key(SOL, "users:write"), json={"phone": NUMBER}
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_channel")
