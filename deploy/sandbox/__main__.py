"""``python -m deploy.sandbox --port N [--record FILE.jsonl]``: prints ``{"port": N}`` when it serves."""

import argparse
import asyncio
import json
import signal
from pathlib import Path

from deploy.sandbox.server import Sandbox


async def serve(port: int, log: Path | None) -> None:
    """Serve until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    runner, taken = await Sandbox(log).start(port)
    print(json.dumps({"port": taken}), flush=True)
    try:
        await stop.wait()
    finally:
        await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy.sandbox", description="Stand-ins on loopback.")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--record", type=Path, help="append every record to this JSON-lines file")
    given = parser.parse_args()
    asyncio.run(serve(given.port, given.record))


if __name__ == "__main__":
    main()
