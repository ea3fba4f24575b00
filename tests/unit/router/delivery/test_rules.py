"""The rules at send time, as the heart carries them out: windows, opt-outs, paces, long texts."""

import itertools
from dataclasses import replace

import pytest

from flags.stage import Path, Stage
from router.domain.errors import Rejected
from router.domain.job import Outcome, Result
from router.domain.message import Content, Status
from tests.unit.router.heart import ANA, Heart

HOUR = 3600.0
TEMPLATE = Content("template", None, {"template": {"name": "lembrete", "language": {"code": "pt_BR"}}})


async def test_a_free_text_needs_an_open_window_and_a_template_does_not() -> None:
    heart = Heart(window_hours=24)
    with pytest.raises(Rejected) as refused:
        await heart.says("olá")
    assert refused.value.code == "window_closed"
    await heart.says(TEMPLATE)
    await heart.hears("oi")
    await heart.says("agora sim")
    await heart.run()
    assert [sent.content.kind for sent in heart.native.sent] == ["template", "text"]


async def test_the_window_is_the_persons_not_the_conversations() -> None:
    heart = Heart(window_hours=24)
    await heart.hears("oi")
    await heart.store.transact(lambda tx: heart.facade.close(tx, heart.conversations[0], "agent"))
    await heart.says("ainda posso")
    assert len(heart.conversations) == 2
    heart.clock.seconds += 24 * HOUR
    with pytest.raises(Rejected):
        await heart.says("tarde demais")


async def test_a_window_that_closes_while_a_send_waits_stops_it() -> None:
    heart = Heart(window_hours=24)
    await heart.hears("oi")
    heart.native.answer = Result(Outcome.RETRY, code="131000")
    message = await heart.says("resposta")
    await heart.run()
    heart.clock.seconds += 25 * HOUR
    heart.native.answer = Result(Outcome.OK, "wamid.x")
    await heart.run()
    stored = heart.store.tables.messages[message.id]
    assert (stored.status, stored.error_code) == (Status.FAILED, "window_closed")
    assert len(heart.native.sent) == 1


async def test_an_unknown_send_is_not_called_failed_because_its_window_closed() -> None:
    heart = Heart(window_hours=24)
    await heart.hears("oi")
    heart.native.answer = Result(Outcome.UNKNOWN, code="timeout")
    message = await heart.says("resposta")
    await heart.run()
    heart.clock.seconds += 25 * HOUR
    await heart.run(seconds=60)
    stored = heart.store.tables.messages[message.id]
    assert (stored.status, stored.error_code) == (Status.UNKNOWN, "unknown")
    assert len(heart.native.sent) == 1


async def test_sair_stops_what_is_queued_and_what_comes_and_voltar_takes_it_back() -> None:
    heart = Heart()
    await heart.hears("oi")
    heart.native.answer = Result(Outcome.RETRY, code="131000")
    queued = await heart.says("na fila")
    await heart.run()
    heart.native.answer = Result(Outcome.OK, "wamid.x")
    await heart.hears("SAIR")
    await heart.run(seconds=30)
    stored = heart.store.tables.messages[queued.id]
    assert (stored.status, stored.error_code) == (Status.FAILED, "opted_out")
    with pytest.raises(Rejected) as refused:
        await heart.says(TEMPLATE)
    assert refused.value.code == "opted_out"
    await heart.hears("quero parar de fumar")
    with pytest.raises(Rejected):
        await heart.says("ainda não")
    await heart.hears("Voltar")
    await heart.says("bem-vinda de volta")
    assert [fact[2] for fact in heart.meter.facts if fact[0] == "opt_outs_total"] == [
        ("whatsapp", "out"),
        ("whatsapp", "in"),
    ]


async def test_sair_also_binds_what_goes_through_rocketchat() -> None:
    heart = Heart()
    heart.flags.stage = Stage.ROCKETCHAT
    await heart.hears("SAIR")
    conversation = replace(heart.conversations[0], room_id="room")
    await heart.store.transact(lambda tx: tx.save_conversation(conversation))
    with pytest.raises(Rejected) as refused:
        await heart.says("oi")
    assert refused.value.code == "opted_out"


async def test_a_number_sends_no_faster_than_its_rate_and_in_order() -> None:
    heart = Heart(per_second=1)
    people = [f"551198888{number:04d}" for number in range(10)]
    for wa in people:
        await heart.hears("oi", wa=wa)
        await heart.says(f"para {wa}", wa=wa)
    await heart.run()
    assert len(heart.native.sent) == 1
    await heart.run(seconds=4, most=500)
    assert len(heart.native.sent) == 5
    await heart.run(seconds=5, most=500)
    assert len(heart.native.sent) == 10


async def test_one_person_gets_a_burst_and_then_one_each_few_seconds() -> None:
    heart = Heart(pair_seconds=6, pair_burst=3)
    await heart.hears("oi")
    for number in range(5):
        await heart.says(f"parte {number}")
    await heart.run()
    assert len(heart.native.sent) == 3
    await heart.run(seconds=5, most=500)
    assert len(heart.native.sent) == 3
    await heart.run(seconds=8, most=500)
    assert [sent.content.text for sent in heart.native.sent] == [f"parte {number}" for number in range(5)]


async def test_what_waited_for_an_outage_does_not_leave_all_at_once() -> None:
    heart = Heart(per_second=1)
    for number in range(6):
        wa = f"551198888{number:04d}"
        await heart.hears("oi", wa=wa)
        await heart.says(f"para {wa}", wa=wa)
    claims = [await heart.delivery.claim() for _ in range(6)]  # one goes, five have their moments: 1 s to 5 s
    heart.native.answer = Result(Outcome.CHANNEL, code="190")
    for claim in claims:
        if claim is not None and claim.permit is not None:
            await heart.delivery.carry_out(claim)
    assert len(heart.native.sent) == 1
    heart.clock.seconds += heart.policy.channel_ill_seconds + 1
    heart.native.answer = Result(Outcome.OK, "wamid.x")
    await heart.run(most=500)
    assert len(heart.native.sent) <= 3  # their moments passed while the account was ill: they get new ones
    await heart.run(seconds=10, most=500)
    assert len(heart.native.sent) == 7


async def test_too_fast_for_the_recipient_waits_4_16_64_seconds_and_gives_nothing_up() -> None:
    heart = Heart()
    await heart.hears("oi")
    heart.native.answer = Result(Outcome.PACED, code="131056")
    await heart.says("devagar")
    times: list[float] = []

    async def note(_: object) -> None:
        times.append(heart.clock.seconds)

    heart.native.meanwhile = note
    await heart.run(seconds=90, most=500)
    gaps = [round(later - earlier) for earlier, later in itertools.pairwise(times)]
    assert gaps == [4, 16, 64]
    assert not heart.store.tables.dead_letters
    heart.native.answer = Result(Outcome.OK, "wamid.x")
    await heart.run(seconds=300, most=500)
    assert heart.messages[-1].status is Status.SENT


async def test_a_long_text_becomes_messages_in_order() -> None:
    heart = Heart(text_limit=20)
    await heart.hears("oi")
    first = await heart.says("Primeira frase aqui. Segunda frase aqui. Fim.")
    await heart.run()
    assert [sent.content.text for sent in heart.native.sent] == [
        "Primeira frase aqui.",
        "Segunda frase aqui.",
        "Fim.",
    ]
    rows = [row for row in heart.messages if row.metadata]
    assert first.metadata["chunks"] == [str(row.id) for row in rows]
    assert [row.metadata["chunk"] for row in rows] == [[1, 3], [2, 3], [3, 3]]


async def test_a_first_contact_by_template_goes_native_where_the_channel_says_so() -> None:
    heart = Heart()
    heart.flags.stage = Stage.ROCKETCHAT
    with pytest.raises(Rejected) as refused:
        await heart.says(TEMPLATE)
    assert refused.value.code == "unsupported"
    heart.channels["wa"] = replace(heart.channels["wa"], first_contact="native")
    await heart.says(TEMPLATE, wa="5511977776666")
    await heart.run()
    conversation = heart.conversations[-1]
    assert conversation.path is Path.NATIVE
    assert heart.store.tables.decisions[conversation.id][0].reason.endswith("written to first: native")
    assert len(heart.native.sent) == 1


async def test_an_answer_names_the_message_it_answers() -> None:
    heart = Heart()
    await heart.hears("qual o horário?")
    asked = heart.messages[0]
    await heart.says(Content("text", "às 9h", {"reply_to": str(asked.id)}))
    await heart.run()
    assert heart.native.sent[0].context_id == asked.external_id
    with pytest.raises(Rejected) as refused:
        await heart.says(Content("reaction", "👍", {"message_id": "não é um id", "emoji": "👍"}))
    assert refused.value.code == "unknown_message"


async def test_a_message_of_somebody_else_cannot_be_answered() -> None:
    heart = Heart()
    await heart.hears("oi")
    await heart.hears("oi", wa="5511977776666")
    other = heart.messages[0]
    with pytest.raises(Rejected) as refused:
        await heart.says(Content("text", "x", {"reply_to": str(other.id)}), wa="5511977776666")
    assert refused.value.code == "unknown_message"
    assert ANA  # the first contact's number is Ana's


async def test_a_read_mark_is_told_natively_only() -> None:
    heart = Heart()
    await heart.hears("oi")
    message, conversation = heart.messages[0], heart.conversations[0]
    await heart.store.transact(lambda tx: heart.compose.mark(tx, conversation, message, typing=True))
    await heart.run()
    assert heart.native.marked == [(message.external_id, True)]
    other = replace(conversation, path=Path.ROCKETCHAT)
    await heart.store.transact(lambda tx: heart.compose.mark(tx, other, message, typing=False))
    await heart.run()
    assert len(heart.native.marked) == 1


async def test_a_read_mark_that_never_works_is_dropped_quietly() -> None:
    heart = Heart()
    await heart.hears("oi")
    message, conversation = heart.messages[0], heart.conversations[0]
    heart.native.answer = Result(Outcome.UNKNOWN, code="timeout")
    await heart.store.transact(lambda tx: heart.compose.mark(tx, conversation, message, typing=False))
    await heart.run(seconds=3600, most=500)
    assert not heart.store.tables.dead_letters
    assert not heart.store.tables.active


async def test_each_billable_message_counts_once() -> None:
    heart = Heart()
    await heart.hears("oi")
    pricing = {"billable": True, "pricing_model": "PMP", "category": "utility", "type": "regular"}
    from tests.simulation.payloads import meta, status

    for number, name in enumerate(("sent", "delivered", "read")):
        field, names, item = status(ANA, "wamid.T", name, 0, None)
        await heart.accept(meta("100", [(field, names, {**item, "pricing": pricing})], number))
    billed = [fact for fact in heart.meter.facts if fact[0] == "billable_total"]
    assert billed == [("billable_total", 1, ("whatsapp", "utility"))]


async def test_a_template_leaves_where_it_was_taken_in_because_rocketchat_could_not_carry_it() -> None:
    heart = Heart()
    await heart.hears("oi")
    heart.native.answer = Result(Outcome.RETRY, code="131000")
    await heart.says(TEMPLATE)
    await heart.run()
    await heart.move(Path.ROCKETCHAT)
    heart.native.answer = Result(Outcome.OK, "wamid.x")
    await heart.run(seconds=5)
    assert not heart.room.sent
    assert heart.messages[-1].status is Status.SENT


async def test_while_events_wait_to_be_read_a_window_is_not_called_closed() -> None:
    heart = Heart(window_hours=24)
    split, waiting = heart.ingest.split, heart.store

    async def later(slug: str) -> int:
        return 0

    heart.ingest.split = later  # type: ignore[method-assign]
    await heart.hears("oi")
    message = await heart.says("olá")
    await heart.run()
    assert not heart.native.sent
    heart.ingest.split = split  # type: ignore[method-assign]
    for slug in await waiting.waiting_channels():
        while await heart.ingest.split(slug):
            pass
    await heart.run(seconds=3)
    assert heart.store.tables.messages[message.id].status is Status.SENT


async def test_what_was_read_meanwhile_and_opened_no_window_fails_the_send() -> None:
    heart = Heart(window_hours=24)
    split = heart.ingest.split

    async def later(slug: str) -> int:
        return 0

    heart.ingest.split = later  # type: ignore[method-assign]
    await heart.hears("oi", wa="5511977776666")
    message = await heart.says("olá")
    heart.ingest.split = split  # type: ignore[method-assign]
    while await heart.ingest.split("wa"):
        pass
    await heart.run(seconds=3)
    stored = heart.store.tables.messages[message.id]
    assert (stored.status, stored.error_code) == (Status.FAILED, "window_closed")
