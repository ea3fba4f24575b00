"""``make run``: the router on embedded defaults, stand-ins for Rocket.Chat and WhatsApp, patients who write.

Everything lives in FIGUEIRA_HOME (default ./.figueira): the database, figueira.toml, demo.json (login and key, 0600),
serve.log. Where a figueira.toml of the user's own is in force, the demo keeps to FIGUEIRA_HOME/demo instead. PORT
chooses the port (default 8080; 0: a free one). SIGINT, SIGTERM, SIGHUP or the end of the parent stops it all.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import shlex
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import aiohttp

from deploy.sandbox.attendant import Attendant
from deploy.sandbox.patients import talk
from deploy.sandbox.processes import STOP_SECONDS, Processes, Words, command

CHANNEL = "whatsapp"
NUMBER = "100200300"
RATE = 1.0
"""Messages a second that patients write."""
READY_SECONDS = 80
TOLD_SECONDS = 3
MARK = "# Written anew by each `make run`: changes are lost. Copy it to ./figueira.toml to keep them."
PASSWORDS = ("auth_token", "webhook_token", "access_token", "app_secret", "verify_token")


class Failed(Exception):
    """The demo cannot go on; the text is one line: what, where, the mend."""


# where ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """Where this demo lives; `prefix` is what a command needs before it to find it."""

    home: Path
    port: int
    prefix: str = ""

    @property
    def config(self) -> Path:
        return self.home / "figueira.toml"

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def choose(environ: Mapping[str, str]) -> Place:
    """The demo's place. A configuration that is somebody's own is neither read nor replaced. Raises Failed."""
    if environ.get("FIGUEIRA_DATABASE_URL"):
        raise Failed("FIGUEIRA_DATABASE_URL is set, and the demo brings a PostgreSQL of its own: unset it")
    port = _port(environ.get("PORT") or "8080")
    named = environ.get("FIGUEIRA_HOME")
    home = Path(named or ".figueira")
    own = Place(home, port, f"FIGUEIRA_HOME={shlex.quote(named)} " if named else "")
    if not (environ.get("FIGUEIRA_CONFIG") or Path("figueira.toml").exists() or _foreign(own.config)):
        return own
    aside = Place(home / "demo", port)
    where, config = shlex.quote(str(aside.home)), shlex.quote(str(aside.config))
    return Place(aside.home, port, f"FIGUEIRA_HOME={where} FIGUEIRA_CONFIG={config} ")


def _foreign(config: Path) -> bool:
    return config.exists() and not config.read_text(encoding="utf-8").startswith(MARK)


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise Failed("PORT is no port: an integer from 0 to 65535, as in `PORT=8081 make run`")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", int(text)))
        except OSError as error:
            mend = f"choose another: `PORT={8081 if text != '8081' else 8082} make run`"
            raise Failed(f"port {text} on 127.0.0.1 cannot be had ({error.strerror}): {mend}") from None
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def alone(home: Path) -> Iterator[None]:
    """One demo per home, for as long as the block runs. Raises Failed."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (home / "demo.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failed(f"`make run` is running on {home} already: stop that one first") from None
        yield


# what the router and the sandbox are told ----------------------------------------------------------------------


def write_config(place: Place, sandbox: str, words: Mapping[str, str]) -> None:
    """figueira.toml for a router between the stand-ins; private, for it holds their passwords."""
    text = f"""{MARK}
[rocketchat]
base_url = "{sandbox}/rocketchat"
user_id = "figueiraBotAgnt23"
bot_user_id = "figueiraBotAgnt23"
auth_token = "{words["auth_token"]}"
webhook_token = "{words["webhook_token"]}"
sources = {{ "wa-app" = "{CHANNEL}" }}

[channels.{CHANNEL}]
kind = "whatsapp"
tenant = "clinica-sol"

[channels.{CHANNEL}.native]
base_url = "{sandbox}/graph/v23.0"
phone_number_id = "{NUMBER}"
access_token = "{words["access_token"]}"
app_secret = "{words["app_secret"]}"
verify_token = "{words["verify_token"]}"

[channels.{CHANNEL}.rocketchat]
webhook_url = "{sandbox}/rocketchat/api/apps/public/wa-app/webhook"

[media]
allow_hosts = ["{sandbox.removeprefix("http://")}"]
"""
    _write(place.config, text)


def _write(path: Path, text: str) -> None:
    """A private file, replaced as a whole: commands may read it at any moment."""
    draft = path.with_name(f".{path.name}.new")
    draft.touch(0o600)
    draft.write_text(text, encoding="utf-8")
    draft.rename(path)


def sandbox_settings(place: Place, words: Mapping[str, str]) -> Words:
    """For ``POST /control/configure``."""
    app_secret = {"app_secret": words["app_secret"]}
    return {
        "read": True,
        "numbers": {
            NUMBER: {
                "callback_url": f"{place.api}/webhooks/{CHANNEL}",
                "verify_token": words["verify_token"],
                "access_token": words["access_token"],
                **app_secret,
            }
        },
        "rocketchat": {
            "webhook_url": f"{place.api}/webhooks/rocketchat",
            "webhook_token": words["webhook_token"],
            "app": {"wa-app": {"phone_number_id": NUMBER, **app_secret}},
            "agents": True,
            "user_id": "figueiraBotAgnt23",
            "auth_token": words["auth_token"],
        },
    }


# the run -------------------------------------------------------------------------------------------------------


async def start_sandbox(processes: Processes) -> str:
    """Its base URL."""
    argv = (sys.executable, "-m", "deploy.sandbox", "--port", "0")
    process = await processes.start("the sandbox", *argv, stdout=asyncio.subprocess.PIPE, stderr=None)
    line = await process.stdout.readline() if process.stdout else b""
    if not line:
        raise Failed("the sandbox did not start: see above")
    return f"http://127.0.0.1:{json.loads(line)['port']}"


async def start_router(processes: Processes, place: Place, session: aiohttp.ClientSession) -> None:
    """Returns when it is ready. Raises Failed, with its last words."""
    log = place.home / "serve.log"
    log.touch(0o600)
    argv = (*command(), "serve", "--port", str(place.port))
    with log.open("wb") as file:
        process = await processes.start("figueira serve", *argv, stdout=file, stderr=file)
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end and process.returncode is None:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with session.get(f"{place.api}/health/ready") as answer:
                if answer.status == 200:
                    return
        await asyncio.sleep(0.2)
    said = log.read_text(errors="replace").strip().splitlines()
    raise Failed(
        f"figueira serve did not become ready: {said[-1] if said else 'it said nothing'} (see {log})"
    )


async def admit(processes: Processes, place: Place, session: aiohttp.ClientSession) -> Words:
    """{email, password, key} of the first console user and of the demo's own key: made, or those of an earlier run."""
    path = place.home / "demo.json"
    with contextlib.suppress(OSError, ValueError, KeyError):
        known: Words = json.loads(path.read_text(encoding="utf-8"))
        bearer = {"Authorization": f"Bearer {known['key']}"}
        async with session.get(f"{place.api}/v1/flags", headers=bearer) as answer:
            if answer.status == 200:
                return known
    scopes = "conversations:read,conversations:write,messages:write,flags:read,operations:read"
    (code, user), (failed, key) = await asyncio.gather(
        _create_user(processes, "demo@clinica-sol.example"),
        processes.figueira("keys", "create", "demo", "--tenant", "all", "--scopes", scopes),
    )
    if code:  # an earlier run's, whose password is lost
        code, user = await _create_user(processes, f"demo-{secrets.token_hex(2)}@clinica-sol.example")
    if code or failed:
        raise Failed("the first console user could not be made: try `.venv/bin/figueira doctor`")
    made = {"email": user["email"], "password": user["password"], "key": key["key"]}
    _write(path, json.dumps(made))
    return made


async def _create_user(processes: Processes, email: str) -> tuple[int, Words]:
    return await processes.figueira("users", "create", email, "--tenant", "all", "--role", "admin")


def screen(place: Place, login: Words) -> str:
    """What is told once, at the start."""
    start = place.prefix + os.path.relpath(command()[0])
    flip = f"{start} flags set {CHANNEL}"
    return f"""
  Figueira      {place.api}/console    ({login["email"]} · {login["password"]})
  Now           patients write to the clinic's WhatsApp; Rocket.Chat's agents answer. Both are stand-ins
                on this machine; router and PostgreSQL are the real ones. Log: {place.home / "serve.log"}

  In another terminal, in this directory:
    canary      {flip} canary --percent 25 --reason demo --wait
    native      {flip} native --reason demo --wait
    back        {flip} rocketchat --reason demo --wait
  New conversations follow the flag at once, open ones stay on their path; add --now to move them too.
  Ctrl-C stops everything.
"""


async def report(session: aiohttp.ClientSession, place: Place) -> None:
    """One line every few seconds, over itself on a terminal: what this run has done so far."""
    since = datetime.now(UTC).isoformat()
    live = sys.stdout.isatty()
    while True:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            told = await _line(session, place, since)
            print(f"\r\x1b[K{told}" if live else told, end="" if live else "\n", flush=True)
        await asyncio.sleep(TOLD_SECONDS)


async def _line(session: aiohttp.ClientSession, place: Place, since: str) -> str:
    asked = {"channel": CHANNEL, "since": since}
    async with session.get(f"{place.api}/v1/paths/compare", params=asked) as answer:
        answer.raise_for_status()
        paths = (await answer.json())["paths"]
    async with session.get(f"{place.api}/v1/flags/{CHANNEL}") as answer:
        answer.raise_for_status()
        flag = await answer.json()
    share = f" {flag['percent']}%" if flag["percent"] is not None else ""
    old, new = paths["rocketchat"], paths["native"]
    return (
        f"  {datetime.now():%H:%M:%S}  accepted {old['accepted'] + new['accepted']}  ·  forwarded to Rocket.Chat "  # noqa: DTZ005 - the wall clock of who watches
        f"{old['handled']}  ·  native {new['handled']}  ·  answered {old['sent'] + new['sent']} "
        f"({new['sent']} natively)  ·  stage {flag['stage']}{share}"
    )


async def begin(processes: Processes, place: Place, session: aiohttp.ClientSession) -> tuple[str, Words]:
    """Everything up to the first patient: the sandbox's URL and the login."""
    words = {name: secrets.token_hex(16) for name in PASSWORDS}
    control = await start_sandbox(processes)
    write_config(place, control, words)
    await start_router(processes, place, session)
    login = await admit(processes, place, session)
    async with session.post(f"{control}/control/configure", json=sandbox_settings(place, words)) as answer:
        answer.raise_for_status()
    await _to_rocketchat(processes, place, session, login["key"])
    return control, login


async def _to_rocketchat(
    processes: Processes, place: Place, session: aiohttp.ClientSession, key: str
) -> None:
    """The story begins there, wherever an earlier run ended. Raises Failed."""
    bearer = {"Authorization": f"Bearer {key}"}
    async with session.get(f"{place.api}/v1/flags/{CHANNEL}", headers=bearer) as answer:
        answer.raise_for_status()
        flag = await answer.json()
    changes = (
        (flag["override"], ("release", CHANNEL)),
        (flag["strategies"], ("clear", CHANNEL)),
        (flag["stage"] != "rocketchat", ("set", CHANNEL, "rocketchat", "--wait")),
    )
    for needed, change in changes:
        if needed and (await processes.figueira("flags", *change, "--reason", "the demo begins"))[0]:
            raise Failed(f"`flags {change[0]}` failed: see `.venv/bin/figueira flags show {CHANNEL}`")


async def play(processes: Processes, place: Place, stop: asyncio.Event) -> None:
    """From nothing to patients talking, until `stop`. Raises Failed."""
    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        control, login = await begin(processes, place, session)
    bearer = {"Authorization": f"Bearer {login['key']}"}
    async with aiohttp.ClientSession(timeout=timeout, headers=bearer) as session:
        attendant = Attendant(session, place.api, control, CHANNEL)
        await attendant.close_leftovers()
        print(screen(place, login), flush=True)
        ending = asyncio.create_task(processes.ended())
        tasks = [
            asyncio.create_task(talk(control, NUMBER, RATE, stop)),
            asyncio.create_task(attendant.work()),
            asyncio.create_task(report(session, place)),
        ]
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({ending, stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            if ending.done():
                raise Failed(f"{ending.result()} ended by itself: see {place.home / 'serve.log'}")
        finally:
            for task in (ending, stopping, *tasks):
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            await attendant.close_rooms()
            await asyncio.sleep(0.5)  # Rocket.Chat tells the router by webhook


async def run(place: Place) -> int:
    """The exit code. Leaves no process."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
            loop.add_signal_handler(number, stop.set)
    processes = Processes({"FIGUEIRA_HOME": str(place.home), "FIGUEIRA_CONFIG": str(place.config)})
    playing = asyncio.create_task(play(processes, place, stop))
    waiting = [asyncio.create_task(stop.wait()), asyncio.create_task(_parent_gone(os.getppid(), stop))]
    try:
        await asyncio.wait({playing, *waiting[:1]}, return_when=asyncio.FIRST_COMPLETED)
        if not playing.done():  # asked to stop: at the start it is cut short, later it ends by itself
            await asyncio.wait({playing}, timeout=STOP_SECONDS)
        playing.cancel()
        await playing
    except asyncio.CancelledError:
        return 0
    except Failed as error:
        print(f"\nmake run: {error}", file=sys.stderr)
        return 1
    finally:
        for task in waiting:
            task.cancel()
        with contextlib.suppress(BrokenPipeError):
            print("\n  stopping …", flush=True)
        await processes.stop()
    return 0


async def _parent_gone(parent: int, stop: asyncio.Event) -> None:
    """make, or the shell, was killed outright."""
    while os.getppid() == parent:  # noqa: ASYNC110 - the kernel sends no event for this
        await asyncio.sleep(1)
    stop.set()


def main() -> None:
    try:
        place = choose(os.environ)
        print("  starting Figueira, PostgreSQL and the stand-ins …", flush=True)
        with alone(place.home):
            sys.exit(asyncio.run(run(place)))
    except Failed as error:
        print(f"make run: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
