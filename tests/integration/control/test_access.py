import pytest

from router.control import access, audit
from router.control.desk import Desk
from router.domain.errors import Rejected
from tests.integration.control.desk_scene import SOL

pytestmark = pytest.mark.postgres


async def refused(awaitable: object) -> tuple[str, int]:
    with pytest.raises(Rejected) as raised:
        await awaitable  # type: ignore[misc]
    return raised.value.code, raised.value.status


async def test_a_key_opens_until_it_is_revoked(desk: Desk) -> None:
    made = await access.create_key(desk, "site", SOL, "messages:write, webhook")
    assert set(made) == {"id", "name", "key", "scopes"}
    assert made["scopes"] == ["messages:write", "webhook"]
    token = made["key"]
    found = await access.key(desk, token)
    assert found is not None
    assert (found.id, found.name, found.tenant) == (made["id"], "site", SOL)
    assert found.allows("messages:write")
    assert not found.allows("messages:read")
    prefix, name, secret = token.split("_", 2)
    wrong = (
        "", "x", token[:-1], token + "a", f"{prefix}_{name}_{secret[::-1]}", f"abc_{name}_{secret}", f"fgk_zz_{secret}",
        f"fgk_{'0' * 32}_{secret}", "\udcff", f"fgk_{name}_\x00",
    )  # fmt: skip
    for other in wrong:
        assert await access.key(desk, other) is None
    stored = await desk.store.engine.fetchrow("select * from api_keys")
    assert secret not in str(stored)
    await access.revoke(desk, made["id"])
    assert await access.key(desk, token) is None
    assert await refused(access.revoke(desk, made["id"])) == ("unknown_key", 404)
    assert await refused(access.revoke(desk, "nonsense")) == ("unknown_key", 404)
    listed = (await access.keys(desk))[0]
    assert listed["revoked_at"] is not None
    assert "key" not in listed
    assert [row["act"] for row in await audit.listing(desk)] == ["key.revoke", "key.create"]


async def test_scopes_and_tenants_of_keys(desk: Desk) -> None:
    every = await access.create_key(desk, "all", "all", ["all"])
    found = await access.key(desk, every["key"])
    assert found is not None
    assert found.tenant == "*"
    assert found.allows("users:write")
    for scopes in ("", "all,webhook", "messages", "messages:delete", "webhook:read"):
        assert await refused(access.create_key(desk, "k", SOL, scopes)) == ("invalid_scope", 422)
    assert await refused(access.create_key(desk, " ", SOL, "all")) == ("invalid_name", 422)
    assert await refused(access.create_key(desk, "k", "a b", "all")) == ("invalid_tenant", 422)
    assert await access.keys(desk, tenant=SOL) == []


async def test_people_log_in_and_out(desk: Desk) -> None:
    password = await access.create_user(desk, " Ana@Sol.BR ", SOL, "agent")
    token = await access.login(desk, "ana@sol.br", password)
    assert token is not None
    assert await access.session(desk, token) == access.User("ana@sol.br", SOL, "agent")
    assert await access.session(desk, token[:-1]) is None
    assert await access.login(desk, "ana@sol.br", password + "x") is None
    assert await access.login(desk, "bia@sol.br", password) is None
    assert await access.login(desk, "a\x00\udcff", "\udcff") is None
    stored = str(await desk.store.engine.fetch("select * from console_users, console_sessions"))
    assert password not in stored
    assert token not in stored
    await access.logout(desk, token)
    assert await access.session(desk, token) is None
    other = await access.login(desk, "ANA@sol.br", password) or ""
    await desk.store.engine.execute("update console_sessions set expires_at = now()")
    assert await access.session(desk, other) is None
    assert "ana@sol.br" not in str(await audit.listing(desk))


async def test_users_that_cannot_be(desk: Desk) -> None:
    await access.create_user(desk, "ana@sol.br", "all", "admin")
    assert await refused(access.create_user(desk, "ANA@sol.br", SOL, "agent")) == ("user_exists", 409)
    assert await refused(access.create_user(desk, "b@sol.br", SOL, "boss")) == ("unknown_role", 422)
    for email in ("ana", "@", "a@b@c", "a b@c", "a@"):
        assert await refused(access.create_user(desk, email, SOL, "agent")) == ("invalid_email", 422)
    assert [(user["email"], user["tenant"], user["role"]) for user in await access.users(desk)] == [
        ("ana@sol.br", "*", "admin")
    ]
    assert await access.users(desk, tenant=SOL) == []
