"""Other people's tools, each in a process of the peers' environment: `python -m benchmarks.imports.peers PEER JSON` prints
what it took. The clock starts when a tool is loaded. Nothing of ours but the meter is imported: its packages are not there.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.imports.meter import metered

NAME = "rocketchat_message"
TARGET = "peer_messages"
FIELDS = {
    "rid": "room_id", "t": "kind", "ts": "sent_at", "_updatedAt": "updated_at", "u._id": "author_id",
    "u.username": "author", "msg": "text",
}  # fmt: skip
_TIMES = ("sent_at", "updated_at")
Found = dict[str, float]


def dlt(given: Mapping[str, Any]) -> Found:
    """Decoded documents appended; no tables below the first."""
    os.environ |= {
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "RUNTIME__LOG_LEVEL": "ERROR",
        "DLT_DATA_DIR": given["place"],
        "DLT_PROJECT_DIR": given["place"],
    }
    tool, bson = import_module("dlt"), import_module("bson")
    destinations = import_module("dlt.destinations")
    path = Path(given["source"]) / f"{NAME}.bson"

    def documents() -> Any:
        with path.open("rb") as opened:
            yield from bson.decode_file_iter(opened)

    pipeline = tool.pipeline(
        "peer", destination=destinations.postgres(given["tcp_dsn"]), dataset_name="peer", pipelines_dir=given["place"]
    )  # fmt: skip
    with metered(given["server"]) as found:
        made = tool.resource(documents, name="messages", max_table_nesting=0, write_disposition="append")
        info = pipeline.run(made)
        info.raise_on_failed_jobs()
    return {**found, "documents": _count(given["dsn"], "peer.messages")}


def mongopg(given: Mapping[str, Any]) -> Found:
    """By mongopg-migrate into a table of eight columns; all other fields are dropped, as it must be told."""
    yaml, cli = import_module("yaml"), import_module("mongopg_migrate.cli")
    columns = ", ".join(
        f"{column} {'timestamptz' if column in _TIMES else 'text'}" for column in FIELDS.values()
    )
    _execute(given["dsn"], f"create table {TARGET} (id text primary key, {columns})")
    entity = {
        "source": NAME, "target": TARGET, "fields": dict(FIELDS),
        "id_strategy": {"type": "passthrough", "source_field": "_id", "target_field": "id"},
    }  # fmt: skip
    mapping = Path(given["place"]) / "mapping.yaml"
    mapping.write_text(yaml.safe_dump({"entities": {"messages": entity}}))
    line = ["migrate", str(mapping), "--mongo-uri", given["source"], "--postgres-uri", given["dsn"]]
    with metered(given["server"]) as found:
        cli.main([*line, "--mode", "append"], standalone_mode=False)
    return {**found, "documents": _count(given["dsn"], TARGET)}


def omnidbm(given: Mapping[str, Any]) -> Found:
    """By omnidbm into a table it makes."""
    cli = import_module("omnidbm.cli")
    line = ["transfer", "-s", given["source"], "-d", given["dsn"], "-t", NAME, "--no-copy-indexes"]
    with metered(given["server"]) as found:
        cli.app(line, standalone_mode=False)
    return {**found, "documents": _count(given["dsn"], NAME)}


def _execute(dsn: str, statement: str) -> None:
    with import_module("psycopg").connect(dsn) as link:
        link.execute(statement)


def _count(dsn: str, table: str) -> int:
    with import_module("psycopg").connect(dsn) as link:
        return int(link.execute(f"select count(*) from {table}").fetchone()[0])  # noqa: S608


PEERS: dict[str, Callable[[Mapping[str, Any]], Found]] = {
    peer.__name__: peer for peer in (dlt, mongopg, omnidbm)
}


if __name__ == "__main__":
    told, sys.stdout = sys.stdout, sys.stderr  # what a tool prints is no figure
    told.write(json.dumps(PEERS[sys.argv[1]](json.loads(sys.argv[2]))) + "\n")
