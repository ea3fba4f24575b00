"""The load generator: a process of its own, so that what it costs is not the server's.

    python -m benchmarks.load --port P --path /webhooks/x --seconds 1 --concurrency 64 --tag round1

Closed loop: each connection sends its next request when the last is answered. Requests are made and signed before the
clock starts. Whatever is under way when time is up is still waited for: `answered` counts it, `rate` does not.
"""

import argparse
import json
import select
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, islice

from benchmarks.bodies import requests
from benchmarks.rounds import percentile

PREPARED_PER_SECOND = 25_000
PATIENCE_SECONDS = 20.0
_OK = b"HTTP/1.1 200 "


@dataclass(slots=True)
class Connection:
    """One request at a time."""

    link: socket.socket
    began: float = 0.0
    unread: bytes = b""


@dataclass(slots=True)
class Tally:
    """What came back."""

    ok: int = 0
    in_time: int = 0
    errors: int = 0
    seconds: list[float] = field(default_factory=list)


def _complete(answer: bytes) -> bool:
    head, found, body = answer.partition(b"\r\n\r\n")
    if not found:
        return False
    length = head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]
    return len(body) >= int(length or b"0")


class Generator:
    """`concurrency` connections to one server on loopback."""

    def __init__(self, port: int, concurrency: int, supply: Iterator[bytes]) -> None:
        self._supply = supply
        self._poll = select.epoll()
        self._connections: dict[int, Connection] = {}
        for _ in range(concurrency):
            link = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections[link.fileno()] = Connection(link)
            self._poll.register(link.fileno(), select.EPOLLIN)

    def run(self, seconds: float) -> Tally:
        tally, busy = Tally(), len(self._connections)
        ends = time.perf_counter() + seconds
        for connection in self._connections.values():
            self._send(connection)
        while busy:
            ready = self._poll.poll(PATIENCE_SECONDS)
            if not ready:
                tally.errors += busy  # never answered
                break
            for number, _ in ready:
                busy -= self._heard(self._connections[number], tally, ends)
        return tally

    def _send(self, connection: Connection) -> None:
        connection.began = time.perf_counter()
        connection.link.sendall(next(self._supply))

    def _heard(self, connection: Connection, tally: Tally, ends: float) -> int:
        """1 when this connection is done."""
        chunk = connection.link.recv(65536)
        answer = connection.unread + chunk
        if chunk and not _complete(answer):
            connection.unread = answer
            return 0
        connection.unread = b""
        now = time.perf_counter()
        if not answer.startswith(_OK):
            tally.errors += 1
        else:
            tally.ok += 1
            tally.in_time += now <= ends
            tally.seconds.append(now - connection.began)
        if now < ends and chunk:
            self._send(connection)
            return 0
        self._poll.unregister(connection.link.fileno())
        return 1

    def close(self) -> None:
        for connection in self._connections.values():
            connection.link.close()
        self._poll.close()


def main() -> int:
    """Print {"answered", "errors", "rate", "p50_ms", "p99_ms"}."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--tag", default="run")
    wanted = parser.parse_args()
    endless = requests(wanted.path, wanted.tag)
    ready = list(islice(endless, int(PREPARED_PER_SECOND * wanted.seconds)))
    generator = Generator(wanted.port, wanted.concurrency, chain(ready, endless))
    tally = generator.run(wanted.seconds)
    generator.close()
    spans = sorted(tally.seconds) or [0.0]
    figures = {
        "answered": tally.ok,
        "errors": tally.errors,
        "rate": tally.in_time / wanted.seconds,
        "p50_ms": percentile(spans, 0.5) * 1000,
        "p99_ms": percentile(spans, 0.99) * 1000,
    }
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
