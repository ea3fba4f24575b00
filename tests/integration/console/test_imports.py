"""The page of imports: what the tables say, in Portuguese, for who may see every clinic's."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from fastapi import FastAPI

from router.control import imports
from router.control.desk import Desk
from router.domain.errors import Rejected
from router.storage.archive import Archive, open_archive
from router.storage.archive.model import Account, Chunk, Refused, Run, RunState
from router.storage.postgres import PostgresStore
from tests.integration.console.conftest import Enter
from tests.integration.control.desk_scene import CHANNELS, LUA, SOL, make_desk

pytestmark = pytest.mark.postgres

PAGE = "/console/imports"
NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
async def archive(dsn: str) -> AsyncIterator[Archive]:
    async with open_archive(dsn, pool_size=1) as opened:
        yield opened


@pytest.fixture
async def desk(postgres_store: PostgresStore, archive: Archive) -> Desk:
    return replace(await make_desk(postgres_store), history=archive)


async def copied(archive: Archive, name: str, account: Account, *, parts: int = 2, live: bool = False) -> Run:
    """An import of one collection, whose first part is done."""
    token_at = NOW - timedelta(seconds=90) if live else None
    run = await archive.start("chat.example/rocketchat", live=live, options={}, token_at=token_at)
    await archive.plan(run.id, name, [{"n": number} for number in range(parts)])
    part = await archive.claim(run.id, [name], uuid4(), timedelta(seconds=30))
    assert part is not None
    part = await archive.add(part, Chunk(None, [], account, "1"), merge=True)
    await archive.finish(part)
    return run


ACCOUNT = Account(source=12_345, written=12_340, skipped={"filtered": 2}, rejected=2, erased=1)


def refused(code: str = "nul") -> Refused:
    return Refused(
        "rocketchat_message", f"id:{code}", code, "77", code, "msg holds a NUL character", b"segredo"
    )


async def test_without_an_import_it_says_how_to_begin(enter: Enter) -> None:
    page = await (await enter("all", "admin")).page(PAGE)
    assert "Nenhuma importação ainda" in page
    assert "figueira migrate inspect" in page


async def test_every_collection_with_its_fates(enter: Enter, archive: Archive) -> None:
    run = await copied(archive, "rocketchat_message", ACCOUNT)
    await archive.refuse([refused()], run.id)
    visit = await enter("all", "product")
    for path in (PAGE, f"{PAGE}/agora"):
        page = await visit.page(path)
        for said in (
            "mensagens", "12.345", "12.340", "2: fora do que foi pedido", "1/2", "em andamento", "chat.example/rocketchat",
            "texto com o caractere NUL",
        ):  # fmt: skip
            assert said in page, said
        assert "segredo" not in page
        assert ("<html" in page) is (path == PAGE)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (RunState.STOPPED, "import --resume"),
        (RunState.LOST, "import --restart"),
        (RunState.DONE, "concluída"),
    ],
)
async def test_a_run_that_is_over_says_what_comes_next(
    state: RunState, said: str, enter: Enter, archive: Archive
) -> None:
    run = await copied(archive, "users", ACCOUNT)
    await archive.set_state(run.id, state)
    assert said in await (await enter("all", "auditor")).page(PAGE)


async def test_runs_before_are_listed(enter: Enter, archive: Archive) -> None:
    visit = await enter("all", "admin")
    await copied(archive, "users", ACCOUNT)
    assert "Importações anteriores" not in await visit.page(PAGE)
    await copied(archive, "users", ACCOUNT)
    assert "Importações anteriores" in await visit.page(PAGE)


async def test_a_live_copy_says_how_far_it_is_behind(enter: Enter, archive: Archive) -> None:
    await copied(archive, "users", ACCOUNT, live=True)
    assert "atrás da origem" in await (await enter("all", "admin")).page(PAGE)


async def test_names_from_the_source_are_only_text(enter: Enter, archive: Archive) -> None:
    await copied(archive, "<script>x</script>", ACCOUNT)
    page = await (await enter("all", "admin")).page(PAGE)
    assert "<script>x" not in page
    assert "&lt;script&gt;x" in page


@pytest.mark.parametrize(
    ("tenant", "role", "sees"),
    [("all", "admin", True), ("all", "auditor", True), ("all", "product", True), ("all", "agent", False), (SOL, "admin", False)],
)  # fmt: skip
async def test_who_sees_it(tenant: str, role: str, sees: bool, enter: Enter) -> None:
    visit = await enter(tenant, role)
    assert (f'href="{PAGE}"' in await visit.page("/console")) is sees
    for path in (PAGE, f"{PAGE}/agora"):
        await visit.page(path, 200 if sees else 403)


async def test_the_only_clinic_sees_its_own_history(desk: Desk, enter: Enter, app: FastAPI) -> None:
    visit = await enter(SOL, "admin")
    alone = {slug: channel for slug, channel in CHANNELS.items() if channel.tenant != LUA}
    app.state.desk = replace(desk, channels=alone)
    assert f'href="{PAGE}"' in await visit.page(PAGE)


async def test_a_desk_that_looks_at_no_imports_has_an_empty_page(
    desk: Desk, enter: Enter, app: FastAPI
) -> None:
    visit = await enter("all", "admin")
    app.state.desk = replace(desk, history=None)
    assert "Nenhuma importação ainda" in await visit.page(PAGE)


# the status that CLI and page share ------------------------------------------------------------------------------


async def test_status_adds_up(archive: Archive) -> None:
    nothing = await imports.status(archive, NOW)
    assert (nothing["run"], nothing["collections"], nothing["differences"]) == (None, {}, 0)
    run = await copied(archive, "users", ACCOUNT, live=True)
    await archive.refuse([refused(), refused("orphan")], run.id)
    found = await imports.status(archive, NOW)
    assert found["run"]["id"] == str(run.id)
    assert found["run"]["lag_seconds"] == 90.0
    one = found["collections"]["users"]
    assert one["source"] == one["written"] + one["skipped"] + one["rejected"] + one["erased"]
    assert (one["parts"], one["parts_done"], found["changed"], found["differences"]) == (2, 1, 0, 2)
    assert [(each["code"], each["open"]) for each in found["rejects"]] == [("nul", 1), ("orphan", 1)]
    with pytest.raises(Rejected, match="there is no import"):
        await imports.status(archive, NOW, uuid4())


async def test_rejects_are_named_without_what_is_in_them(archive: Archive) -> None:
    run = await copied(archive, "users", ACCOUNT)
    await archive.refuse([refused()], run.id)
    found = await imports.rejects(archive)
    assert found["counts"] == [{"collection": "rocketchat_message", "code": "nul", "open": 1}]
    assert found["items"][0]["position"] == "77"
    assert "segredo" not in str(found)
