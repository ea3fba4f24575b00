import os
import re
import subprocess
import sys
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from router import metrics

# As interfaces.md writes them: name{labels}.
NAMED = """
figueira_events_total{channel,kind,outcome} figueira_messages_total{kind,direction,path}
figueira_decisions_total{kind,stage,path,reason} figueira_outcomes_total{kind,path,outcome} figueira_accept_seconds
figueira_handle_seconds{kind,path} figueira_delivery_seconds{kind,path}
figueira_delivery_attempts_total{kind,path,status} figueira_forwards_total{kind,outcome}
figueira_stray_sends_total{kind} figueira_lane_depth{lane} figueira_lane_age_seconds{lane}
figueira_dead_letters{kind} figueira_unplaced_events figueira_pins{kind,path} figueira_stage{channel,stage}
figueira_flag_age_seconds figueira_flag_revision{kind} figueira_rocketchat_up figueira_identity_unlinked_total{kind}
figueira_callback_drift{channel} figueira_channel_ill{channel} figueira_media_total{kind,direction,state}
figueira_opt_outs_total{kind,wish} figueira_billable_total{kind,category} figueira_swept_total{outcome}
figueira_dropped_total{what} figueira_import_rows_total{collection,outcome} figueira_import_lag_seconds{collection}
"""


def test_names_and_labels_are_those_people_were_told() -> None:
    expected = {}
    for name, _, labels in re.findall(r"(\w+)(\{([\w,]*)\})?", NAMED):
        expected[name.removesuffix("_total")] = tuple(labels.split(",")) if labels else ()
    found = {one._name: one._labelnames for one in vars(metrics).values() if hasattr(one, "_labelnames")}
    assert found == expected


def test_exposition_is_what_prometheus_reads() -> None:
    metrics.events.labels("wa-exposed", "whatsapp", "stored").inc()
    body, content_type = metrics.exposition()
    assert content_type.startswith("text/plain")
    families = {family.name: family for family in text_string_to_metric_families(body.decode())}
    samples = {
        (one.name, one.labels.get("channel")): one.value for one in families["figueira_events"].samples
    }
    assert samples["figueira_events_total", "wa-exposed"] == 1.0
    assert "process_cpu_seconds" in families


def test_declared_channels_begin_at_zero() -> None:
    metrics.declare([("wa-declared", "whatsapp")])
    for outcome in metrics.EVENT_OUTCOMES:
        labels = {"channel": "wa-declared", "kind": "whatsapp", "outcome": outcome}
        assert metrics.REGISTRY.get_sample_value("figueira_events_total", labels) == 0.0
    for what in metrics.DROPPED:
        assert metrics.REGISTRY.get_sample_value("figueira_dropped_total", {"what": what}) is not None


WORKER = """
from router import metrics
metrics.events.labels("wa", "whatsapp", "stored").inc()
metrics.flag_age_seconds.set({age})
metrics.lane_depth.labels("split").set({age})
print(metrics.exposition()[0].decode())
"""


def test_several_processes_are_added_up(tmp_path: Path) -> None:
    environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    said = [
        subprocess.run(
            [sys.executable, "-c", WORKER.format(age=age)],
            env=environ,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for age in (7, 3)
    ][-1]
    assert 'figueira_events_total{channel="wa",kind="whatsapp",outcome="stored"} 2.0' in said
    assert "figueira_flag_age_seconds 7.0" in said
    assert 'figueira_lane_depth{lane="split"} 3.0' in said


def test_what_is_counted_elsewhere_is_carried_over_and_never_falls() -> None:
    labels = {"collection": "users", "outcome": "written"}
    for total, expected in ((0, 0.0), (5, 5.0), (5, 5.0), (3, 5.0), (9, 9.0)):
        metrics.imported("users", "written", total)
        assert metrics.REGISTRY.get_sample_value("figueira_import_rows_total", labels) == expected


COUNTING = """
import sys
from router import metrics
for line in sys.stdin:
    metrics.imported("users", "written", int(line))
    said = metrics.exposition()[0].decode().splitlines()
    print(next((one for one in said if one.startswith("figueira_import_rows_total")), "nothing"), flush=True)
"""


def test_of_several_processes_one_counts_and_another_takes_over(tmp_path: Path) -> None:
    environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}

    def start() -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-c", COUNTING],
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def told(process: "subprocess.Popen[str]", total: int) -> float:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{total}\n")
        process.stdin.flush()
        return float(process.stdout.readline().split()[-1])

    with start() as first, start() as second:
        assert told(first, 5) == 5.0
        assert told(second, 7) == 5.0  # not this one's to count
        assert told(first, 7) == 7.0
        first.kill()
        first.wait()
        assert told(second, 7) == 7.0  # what the dead one counted is not counted again
        assert told(second, 8) == 8.0
        second.kill()
