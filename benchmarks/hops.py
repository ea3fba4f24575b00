"""How long one message takes to the other side, natively and by way of Rocket.Chat: the same rounds, the same work.

In: from the start of the provider's POST to our 200, and to where the message can be read: our committed row natively,
the stand-in's Rocket.Chat on the other path. Out: from the start of POST /v1/messages to our 202, and to the provider.
The stand-in's Rocket.Chat does no work of its own, so its figures are a floor; `--assume S` has it wait S seconds before
each piece of work, which is an assumption and no measurement. `python -m benchmarks hops`
"""

import argparse
import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.bodies import SECRET, signed
from benchmarks.rounds import Report, alternate, medians, paired, percentile
from benchmarks.servers import Ground, fetch, free_port, ground

PER_SECOND = 20
PEOPLE = 50
PATIENCE_SECONDS = 30.0
PATHS = ("native", "rocketchat")
SLUGS = {"native": "sol", "rocketchat": "lua"}
"""The channel that is on each path."""
NUMBERS = {"native": "106540352242922", "rocketchat": "106540352242923"}
TOKEN, USER, KEY_SCOPES = "an-invented-token", "figueira-bot", "messages:write"
_SETTLED = """
select external_id as key, extract(epoch from pg_xact_commit_timestamp(xmin))::float8 as at from messages
where external_id like $1 and path = 'native' and handled_at is not null
"""
WORDS = {
    "accepted_in": "in: the provider's POST to our 200",
    "there_in": "in: to where it can be read",
    "accepted_out": "out: POST /v1/messages to our 202",
    "there_out": "out: to the provider",
}
SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}

Times = dict[str, float]


@dataclass(frozen=True)
class Place:
    """Where everything listens, and the key of the clinic's software."""

    dsn: str
    product: str
    sandbox: str
    key: str


def _settings(sandbox: str) -> str:
    head = f"""
[rocketchat]
base_url = "{sandbox}/rocketchat"
user_id = "{USER}"
auth_token = "{TOKEN}"
bot_user_id = "{USER}"
webhook_token = "{TOKEN}"
sources = {{ {", ".join(f'"{slug}-app" = "{slug}"' for slug in SLUGS.values())} }}
"""
    channels = [
        f"""
[channels.{SLUGS[path]}]
kind = "whatsapp"
tenant = "clinica-sol"
[channels.{SLUGS[path]}.native]
base_url = "{sandbox}/graph/v23.0"
phone_number_id = "{number}"
access_token = "{TOKEN}"
app_secret = "{SECRET}"
verify_token = "{TOKEN}"
[channels.{SLUGS[path]}.rocketchat]
webhook_url = "{sandbox}/rocketchat/api/apps/public/{SLUGS[path]}-app/webhook"
"""
        for path, number in NUMBERS.items()
    ]
    return head + "".join(channels)


def _introduction(product: str) -> dict[str, Any]:
    """What the sandbox must know."""
    numbers = {
        number: {
            "callback_url": f"{product}/webhooks/{SLUGS[path]}",
            "app_secret": SECRET,
            "access_token": TOKEN,
        }
        for path, number in NUMBERS.items()
    }
    apps = {
        f"{SLUGS[path]}-app": {"phone_number_id": number, "app_secret": SECRET}
        for path, number in NUMBERS.items()
    }
    return {
        "numbers": numbers,
        "rocketchat": {
            "webhook_url": f"{product}/webhooks/rocketchat", "webhook_token": TOKEN, "app": apps,
            "user_id": USER, "auth_token": TOKEN,
        },
    }  # fmt: skip


def _person(path: str, turn: int) -> str:
    return f"55119{PATHS.index(path)}{turn % PEOPLE:07d}"


class Hops:
    """One slice: its messages, each timed from the start of its POST."""

    def __init__(self, place: Place, session: aiohttp.ClientSession, path: str, number: int) -> None:
        self._place, self._session, self._path, self._tag = place, session, path, f"{number:04d}"
        self.began: Times = {}
        self.accepted: Times = {}

    async def inward(self, turn: int) -> None:
        """The provider's POST."""
        key = f"wamid.{self._tag}.{self._path}.{turn:06d}"
        body, signature = signed(_person(self._path, turn), key, NUMBERS[self._path], int(time.time()))
        url = f"{self._place.product}/webhooks/{SLUGS[self._path]}"
        headers = {"Content-Type": "application/json", "X-Hub-Signature-256": signature}
        await self._post(key, 200, url, data=body, headers=headers)

    async def outward(self, turn: int) -> None:
        """The clinic's software answers."""
        key = f"hop {self._tag} {turn}"
        body = {"channel": SLUGS[self._path], "to": _person(self._path, turn), "text": key}
        headers = {"Authorization": f"Bearer {self._place.key}"}
        await self._post(key, 202, f"{self._place.product}/v1/messages", json=body, headers=headers)

    async def seeded(self, turn: int) -> None:
        """A first answer, once the person's message is read and, on Rocket.Chat, its room is known."""
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return await self.outward(turn)
            except RuntimeError:
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(0.2)

    async def _post(self, key: str, wanted: int, url: str, **given: Any) -> None:
        self.began[key] = time.time()
        async with self._session.post(url, **given) as answer:
            said = await answer.text()
            self.accepted[key] = time.time()
        if answer.status != wanted:
            raise RuntimeError(f"{answer.status} instead of {wanted}: {said[:200]}")

    async def paced(self, act: Callable[[int], Awaitable[None]], count: int) -> None:
        """Start `act` PER_SECOND times a second, whatever it takes; wait for all."""
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for turn in range(count):
                await asyncio.sleep(max(began + turn / PER_SECOND - time.perf_counter(), 0))
                group.create_task(_run(act, turn))

    async def arrived(self, ask: Callable[[], Awaitable[Times]]) -> Times:
        """When each was there; waits for all."""
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            found = await ask()
            if self.began.keys() <= found.keys():
                return found
            if time.monotonic() > until:
                raise RuntimeError(
                    f"{len(self.began.keys() - found.keys())} of {len(self.began)} never arrived"
                )
            await asyncio.sleep(0.3)

    async def at_us(self) -> Times:
        rows = await fetch(self._place.dsn, _SETTLED, f"wamid.{self._tag}.%")
        return {str(row["key"]): float(row["at"]) for row in rows}

    async def at_sandbox(self, kind: str, key: str, by: str) -> Times:
        """By a column of the sandbox's record, which counts whole milliseconds: half of one is added."""
        async with self._session.get(f"{self._place.sandbox}/control/record/{kind}") as answer:
            items = (await answer.json())["items"]
        return {
            str(item[key]): datetime.fromisoformat(item["at"]).timestamp() + 0.0005
            for item in items if item["by"] == by
        }  # fmt: skip

    def figures(self, direction: str, there: Times) -> dict[str, float]:
        """Milliseconds."""
        ends = {f"accepted_{direction}": self.accepted, f"there_{direction}": there}
        told: dict[str, float] = {}
        for hop, at in ends.items():
            spans = sorted(1000 * (at[key] - began) for key, began in self.began.items())
            told |= {f"{hop}_{name}": percentile(spans, share) for name, share in SHARES.items()}
        return told


async def _run(act: Callable[[int], Awaitable[None]], turn: int) -> None:
    await act(turn)


async def _slice(place: Place, path: str, count: int, number: int) -> dict[str, float]:
    """Inward, then outward."""
    async with aiohttp.ClientSession() as session:
        await (await session.delete(f"{place.sandbox}/control/record")).read()
        heard = Hops(place, session, path, number)
        await heard.paced(heard.inward, count)
        read = (
            heard.at_us if path == "native" else partial(heard.at_sandbox, "rocketchat", "wamid", "visitor")
        )
        figures = heard.figures("in", await heard.arrived(read))
        said = Hops(place, session, path, number)
        await said.paced(said.outward, count)
        return figures | said.figures(
            "out", await said.arrived(partial(said.at_sandbox, "graph", "text", path))
        )


async def _prepare(place: Place, assume: float) -> None:
    """Everybody writes once and is answered; then, if so assumed, Rocket.Chat takes its time."""
    async with aiohttp.ClientSession() as session:
        for number, path in enumerate(PATHS, start=9000):
            hops = Hops(place, session, path, number)
            for turn in range(PEOPLE):
                await hops.inward(turn)
            for turn in range(PEOPLE):
                await hops.seeded(turn)
        rules = [
            {"target": target, "fault": "late", "seconds": assume}
            for target in ("rocketchat.app", "rocketchat.rest.chat.sendMessage")
        ]
        if assume:
            async with session.post(f"{place.sandbox}/control/faults", json=rules) as answer:
                answer.raise_for_status()


def _started(ground: Ground, stack: ExitStack) -> Place:
    """The sandbox, a web and a worker; the flag sends one channel natively."""
    port, stand_in = free_port(), free_port()
    product, sandbox = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{stand_in}"
    (ground.home / "figueira.toml").write_text(_settings(sandbox))
    other = stack.enter_context(ground.process("deploy.sandbox", "--port", str(stand_in)))
    ground.wait(other, stand_in)
    stack.enter_context(ground.process("router.cli", "serve", "--role", "worker"))
    web = stack.enter_context(ground.process("router.cli", "serve", "--role", "web", "--port", str(port)))
    ground.wait(web, port)
    change = ("flags", "set", "whatsapp", "native", "--channel", SLUGS["native"])
    ground.figueira(*change, "--reason", "benchmark", "--wait")
    made = ground.figueira(
        "keys", "create", "hops", "--tenant", "clinica-sol", "--scopes", KEY_SCOPES, "--json"
    )
    return Place(ground.dsn, product, sandbox, str(json.loads(made)["key"]))


async def _introduce(place: Place) -> None:
    async with aiohttp.ClientSession() as session:
        told = _introduction(place.product)
        async with session.post(f"{place.sandbox}/control/configure", json=told) as answer:
            answer.raise_for_status()


def run(rounds: int, seconds: float, assume: float = 0.0) -> Report:
    """Milliseconds of each hop on both paths; how many times the native path's Rocket.Chat's takes."""
    before = os.getloadavg()[0]
    with ground(commit_times=True) as own, ExitStack() as stack:
        place = _started(own, stack)
        asyncio.run(_introduce(place))
        asyncio.run(_prepare(place, assume))
        count = int(PER_SECOND * seconds)
        arms = {path: partial(_measured, place, path, count) for path in PATHS}
        found = alternate(arms, rounds)
    ratios = [
        paired(found, f"{hop}_{name}", "rocketchat", "native")
        for hop in WORDS
        for name in SHARES
    ]  # fmt: skip
    name = "hops" if not assume else f"hops, assumed: {assume:g} s of work in Rocket.Chat"
    return Report(name, rounds, seconds, medians(found), ratios, (before, os.getloadavg()[0]))


def _measured(place: Place, path: str, count: int, number: int) -> Mapping[str, float]:
    return asyncio.run(_slice(place, path, count, number))


def table(report: Report) -> str:
    """The figures as Markdown."""
    before, after = report.load
    ratios = {ratio.what: ratio for ratio in report.ratios}
    head = (
        f"{report.name}: {report.rounds} rounds of {report.seconds:g} s a direction, {PER_SECOND} messages a second, "
        f"{PEOPLE} people; load {before:.1f} to {after:.1f}"
    )
    lines = [
        head,
        "",
        "| hop | | native ms | Rocket.Chat's path ms | ratio | quartiles |",
        "|---|---|---|---|---|---|",
    ]
    for hop, words in WORDS.items():
        for name in SHARES:
            figure = f"{hop}_{name}"
            ratio = ratios[f"{figure}: rocketchat / native"]
            lines.append(
                f"| {words} | {name} | {report.arms['native'][figure]:.1f} | {report.arms['rocketchat'][figure]:.1f} "
                f"| {ratio.median:.1f} | {ratio.low:.1f} to {ratio.high:.1f} |"
            )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables: as it is, and, with `--assume`, once more."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks hops", description=__doc__)
    parser.add_argument("--rounds", type=int, default=6, help="default 6")
    parser.add_argument("--seconds", type=float, default=3.0, help="of one slice and direction, default 3")
    parser.add_argument(
        "--assume", type=float, default=0.3, help="seconds, default 0.3; 0: leave that run out"
    )
    parser.add_argument("--json", type=Path, help="also write the figures here")
    wanted = parser.parse_args(argv)
    reports = [run(wanted.rounds, wanted.seconds)]
    if wanted.assume:
        reports.append(run(wanted.rounds, wanted.seconds, wanted.assume))
    print("\n\n".join(map(table, reports)))
    if wanted.json is not None:
        wanted.json.write_text(json.dumps({report.name: report.as_json() for report in reports}) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
