"""Metrics: from what is known to what is shown; the exporter over a store that comes and goes; the ways out."""

from __future__ import annotations

import gzip
import os
import re
import socket
import struct
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from msgspec import UNSET, UnsetType
from msgspec.structs import replace
from prometheus_client import generate_latest

from fix_cli import entry, head, manifest, part
from fix_ports import HOST, closed_port, own_port
from fix_prometheus import get
from fix_state import Plan, commit, lost, put, quick_ledger
from floodmark.cli.main import main
from floodmark.config import Metrics, Secret
from floodmark.errors import ConfigError, FloodmarkError, SourceUnavailable, StateUnreadable, Stopped, StorageError
from floodmark.events import ChunkAudited, ChunkDone, Event, Retried, RunEnded, RunStarted, TableDecided, Warned
from floodmark.metrics import catalogue
from floodmark.metrics.exporter import Exporter
from floodmark.metrics.exposition import registry, registry_page, text_page
from floodmark.metrics.ledger_facts import LedgerFacts, read_facts
from floodmark.metrics.live import LiveTotals, add_event
from floodmark.metrics.outputs import MetricsOutputs
from floodmark.metrics.push import PushFailed, push
from floodmark.metrics.server import MetricsServer
from floodmark.metrics.values import MetricValue, about_chunks, about_itself, about_runs, about_the_ledger
from floodmark.model import (
    ChunkMark,
    ContractDrift,
    ContractFacts,
    Ended,
    Point,
    Reason,
    TableEntry,
    TableName,
    Watermark,
)
from floodmark.state.announced import Notified, NotifiedChannel
from floodmark.state.manifest import Record, encode
from floodmark.storage.memory import MemoryStorage

DAY = datetime(2026, 11, 24, tzinfo=UTC).timestamp()
COMMITTED = DAY + 3783  # 01:03:03
ENDED = Ended(
    run_id="r9",
    database="cases",
    started_at="2026-11-24T03:00:00.000Z",
    ended_at="2026-11-24T03:05:00.000Z",
    outcome="failed",
    exit_code=12,
    retries=3,
    audited_chunks=1,
    audit_mismatches=1,
    uploaded_bytes=10,
)
RECORD = Record(last=ENDED, succeeded_at="2026-11-23T01:00:00.000Z", success=5, failed=1, retries=4)
PERSON = TableName("public", "person")


def known(*tables: Any, **changes: Any) -> LedgerFacts:
    one = manifest(*tables)
    return replace(LedgerFacts(head=head(one), manifest=one), **changes)


NOTHING = registry_page(registry(tuple))
NOTIFIED = Notified(channels=(NotifiedChannel(name="slack", sent=5, failed=2),))


def text(*values: MetricValue) -> bytes:
    """The values as Prometheus reads them."""
    return generate_latest(registry(lambda: values))


def exposed(exporter: Exporter) -> bytes:
    return b"".join(exporter.text())


def shown(what: LedgerFacts, live: LiveTotals | None = None) -> dict[str, float]:
    """Every series by what stands before its value, `floodmark_` and the database left out."""
    lines = [line for line in text(*about_runs(what, live)).decode().splitlines() if not line.startswith("#")]
    pairs = (line.rsplit(" ", 1) for line in lines)
    return {
        re.sub(r'^floodmark_|database="cases",?', "", name).replace("{}", ""): float(value) for name, value in pairs
    }


def table(name: str, of: str = "person", **labels: str) -> str:
    given = {**labels, "schema": "public", "table": of}
    pairs = ",".join(f'{label}="{given[label]}"' for label in sorted(given))
    return f"table_{name}{{{pairs}}}"


def of_status(series: dict[str, float], which: str = "run_status") -> list[str]:
    """The states that are 1."""
    found = ((re.search(r'status="(\w+)"', name), value) for name, value in series.items() if name.startswith(which))
    return [match[1] for match, value in found if match is not None and value]


# --- what is known → values ------------------------------------------------------------------------------------


def test_a_committed_run_is_shown_with_its_tables() -> None:
    series = shown(known(entry()))
    assert of_status(series) == ["success"]
    assert series["run_last_attempt_timestamp_seconds"] == series["snapshot_timestamp_seconds"] == DAY + 3723
    assert series["run_last_success_timestamp_seconds"] == COMMITTED
    assert series["run_duration_seconds"] == 60
    assert of_status(series, "table_status") == ["extracted"]
    assert series[table("reason", reason="rows_changed")] == 1
    assert series[table("rows")] == 2000
    assert [series[table("bytes", kind=kind)] for kind in ("raw", "stored", "uploaded")] == [180_000, 42_000, 21_000]
    assert [series[table("chunks", outcome=one)] for one in ("extracted", "unchanged")] == [1, 2]
    assert series[table("last_changed_timestamp_seconds")] == DAY + 3723 - 86400


def test_a_failed_table_shows_its_last_good_snapshot_and_that_this_run_wrote_none_of_it() -> None:
    series = shown(known(entry(), entry("case", "failed", "failed", as_of="2026-11-22T00:00:00Z")))
    assert of_status(series) == ["partial"]
    assert "run_last_success_timestamp_seconds" in series and series["run_last_success_timestamp_seconds"] == 0
    assert series[table("rows", "case")] == 2000
    assert series[table("bytes", "case", kind="uploaded")] == 0
    assert [series[table("chunks", "case", outcome=one)] for one in ("extracted", "unchanged")] == [0, 3]
    assert series["oldest_table_last_checked_timestamp_seconds"] == DAY - 2 * 86400


def test_a_table_that_was_never_read_is_the_oldest_and_has_no_rows() -> None:
    series = shown(known(entry(), entry("no", "failed", "denied", as_of=None)))
    assert series["oldest_table_last_checked_timestamp_seconds"] == 0
    assert series[table("last_checked_timestamp_seconds", "no")] == 0
    assert table("rows", "no") not in series


def test_a_dropped_table_has_nothing_but_its_status() -> None:
    series = shown(known(entry(), entry("gone", "dropped", "dropped", as_of="2020-01-01T00:00:00Z")))
    names = {name for name in series if 'table="gone"' in name}
    assert len(names) == 5 and table("status", "gone", status="dropped") in names
    assert series["oldest_table_last_checked_timestamp_seconds"] == DAY + 3723


def test_a_run_that_failed_after_the_last_commit_is_the_newest_attempt() -> None:
    series = shown(known(entry(), record=RECORD))
    assert of_status(series) == ["failed"] and series["run_exit_code"] == 12
    assert series["run_last_attempt_timestamp_seconds"] == DAY + 3 * 3600
    assert series["run_last_success_timestamp_seconds"] == COMMITTED
    assert series['runs_total{outcome="success"}'] == 5 and series["retries_total"] == 4
    assert of_status(series, "table_status") == ["extracted"]


def test_the_note_of_an_end_that_was_lost_does_not_hide_the_commit() -> None:
    before = replace(RECORD, last=replace(ENDED, started_at="2026-11-23T01:00:00Z"))
    assert of_status(shown(known(entry(), record=before))) == ["success"]


def test_before_the_first_commit_a_failed_run_is_shown_and_before_any_run_nothing() -> None:
    series = shown(LedgerFacts(record=RECORD))
    assert of_status(series) == ["failed"] and not any(name.startswith("table_") for name in series)
    assert shown(LedgerFacts()) == {}


def test_nothing_is_said_to_be_never_where_that_can_not_be_known() -> None:
    live = LiveTotals("cases", DAY)
    assert shown(LedgerFacts(), live)["run_last_success_timestamp_seconds"] == 0
    for silent_one in (LedgerFacts(stateless=True), LedgerFacts(unread=True)):
        assert "run_last_success_timestamp_seconds" not in shown(silent_one, live)
    assert "retries_total" in shown(LedgerFacts(stateless=True), live)
    assert "retries_total" not in shown(LedgerFacts(unread=True), live)


def test_a_run_at_work_is_the_newest_attempt_and_adds_to_the_totals() -> None:
    live = LiveTotals("cases", DAY + 9000, planned=4, done=2, retries=2, audited=1, mismatches=1, uploaded=7)
    series = shown(known(entry(), record=RECORD), live)
    assert of_status(series) == ["running"] and series["runs_in_flight"] == 1
    assert series["run_in_flight_since_timestamp_seconds"] == DAY + 9000
    assert (series["retries_total"], series["audit_mismatches_total"], series["uploaded_bytes_total"]) == (6, 1, 7)


def test_every_metric_is_shown_by_something_with_just_its_labels() -> None:
    live = LiveTotals("cases", DAY)
    values = [*about_itself(), *about_the_ledger(True, DAY), *about_chunks(live)]
    facts = known(proven(), record=RECORD, notified=NOTIFIED)
    drift = ContractDrift(kind="new_column", schema="public", name="t", column="c", action="excluded", detail="new")
    assert facts.manifest is not None
    facts = replace(facts, manifest=replace(facts.manifest, contract=ContractFacts("d", (drift, drift))))
    values += about_runs(facts, live)
    counted = {one.labels[1]: one.value for one in values if one.metric is catalogue.CONTRACT_DRIFT}
    assert counted.pop("new_column") == 2 and len(counted) == 6 and not any(counted.values())
    assert {one.metric for one in values} == set(catalogue.ALL)
    assert all(len(one.labels) == len(one.metric.labels) for one in values)


def proven(audited: str | UnsetType = UNSET) -> TableEntry:
    """An entry whose first object can be proven, and was audited at this time."""
    key = "data/extraction_timestamp=20261124010204Z/0.jsonl.gz"
    good = entry(objects=(replace(part(0), key=key),))
    mark = ChunkMark(good.objects[0].chunk, 1, 1000, 0, 0, audited=audited)
    return replace(good, watermark=Watermark(Point("2026-11-24T01:02:03.000Z"), 1, (mark,)))


def test_the_oldest_reading_is_that_of_the_key_or_of_the_audit() -> None:
    series = "audit_oldest_timestamp_seconds"
    extracted = datetime(2026, 11, 24, 1, 2, 4, tzinfo=UTC).timestamp()
    assert shown(known(proven()))[series] == extracted
    assert shown(known(proven("20261124010209Z")))[series] == extracted + 5
    assert series not in shown(known(entry())), "nothing of it can be proven"
    with pytest.raises(StateUnreadable, match="invalid timestamp"):
        shown(known(proven("tomorrow")))


def test_notifications_are_counted_by_channel() -> None:
    series = shown(known(entry(), notified=NOTIFIED))
    assert series['notifications_total{channel="slack",outcome="sent"}'] == 5
    assert series['notifications_total{channel="slack",outcome="failed"}'] == 2
    assert not any("notifications" in name for name in shown(known(entry())))


def test_numbers_of_notifications_that_can_not_be_read_hide_nothing_else() -> None:
    store = MemoryStorage("memory:state")
    ledger = quick_ledger(store)
    commit(ledger, "r1")
    put(store, "notified.json", encode(NOTIFIED))
    assert read_facts(ledger).notified == NOTIFIED
    put(store, "notified.json", b"damaged")
    facts = read_facts(ledger)
    assert facts.notified is None and facts.manifest is not None


def test_names_and_labels_keep_to_the_rules() -> None:
    for metric in catalogue.ALL:
        assert re.fullmatch(r"floodmark_[a-z_]+", metric.name)
        assert (metric.kind == "counter") == metric.name.endswith("_total")
        assert not {"run_id", "sha256", "checksum", "hash", "key"} & set(metric.labels)


def test_a_name_can_hold_anything() -> None:
    evil = entry('a"b\\c\nd\u202e')
    assert b'table="a\\"b\\\\c\\nd\xe2\x80\xae"' in text(*about_runs(known(evil)))


# --- what the ledger tells -------------------------------------------------------------------------------------

NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)


def test_runs_that_ended_are_noted_with_the_write_that_takes_them_out() -> None:
    ledger = quick_ledger(MemoryStorage("memory:state"))
    ledger.claim("r9", NOW)
    assert [run.run_id for run in read_facts(ledger).at_work] == ["r9"]
    assert ledger.release("r9", ENDED)
    ledger.claim("r10", NOW)
    assert ledger.release("r10", replace(ENDED, run_id="r10", outcome="success"))
    record = read_facts(ledger).record
    assert record is not None and record.last.run_id == "r10"
    assert (record.success, record.failed, record.retries, record.audit_mismatches) == (1, 1, 6, 2)
    assert record.succeeded_at == ENDED.ended_at
    assert read_facts(ledger).at_work == ()


def test_a_note_whose_answer_was_lost_is_written_once() -> None:
    store = MemoryStorage("memory:state")
    ledger = quick_ledger(store)
    ledger.claim("r9", NOW)
    plan = Plan(store)
    plan.at("put", "inflight.json", "after", lost)
    assert ledger.release("r9", ENDED) and plan.spent
    record = read_facts(ledger).record
    assert record is not None and (record.failed, record.retries) == (1, 3)


def test_a_dead_run_is_at_work_until_a_later_one_has_ended() -> None:
    ledger = quick_ledger(MemoryStorage("memory:state"))
    ledger.claim("dead", NOW)
    ledger.claim("alive", NOW.replace(hour=4))
    assert len(read_facts(ledger).at_work) == 2
    ledger.release("alive", replace(ENDED, run_id="alive", started_at="2026-11-24T04:00:00.000Z"))
    assert read_facts(ledger).at_work == ()


def test_a_manifest_is_read_again_only_when_head_names_another() -> None:
    store = MemoryStorage("memory:state")
    ledger = quick_ledger(store)
    commit(ledger, "r1")
    before = read_facts(ledger)
    asked: list[str] = []
    store.faults = lambda operation, key, moment: asked.append(key)
    again = read_facts(ledger, before)
    assert set(asked) == {"head.json", "inflight.json", "notified.json"} and again.manifest is before.manifest
    commit(ledger, "r2", 2)
    after = read_facts(ledger, again)
    assert after.manifest is not None and after.manifest.run_id == "r2"


# --- the exporter ----------------------------------------------------------------------------------------------


def test_the_exporter_shows_stale_values_while_the_store_is_away_and_says_so() -> None:
    store = MemoryStorage("memory:state")
    ledger = quick_ledger(store)
    commit(ledger, "r1")
    told: list[FloodmarkError | None] = []
    times = iter((100.0, 200.0))
    exporter = Exporter([ledger], 60, lambda state, error: told.append(error), clock=lambda: next(times))
    assert b"floodmark_ledger_up 0.0" in exposed(exporter) and b"floodmark_build_info" in exposed(exporter)
    exporter.refresh()
    fine = exposed(exporter)
    assert b"floodmark_ledger_up 1.0" in fine and b"last_read_timestamp_seconds 100.0" in fine

    def away(operation: str, key: str, moment: str) -> None:
        raise StorageError("get an object", why="a test says so")

    store.faults = away
    exporter.refresh()
    exporter.refresh()
    assert exposed(exporter) == fine.replace(b"floodmark_ledger_up 1.0", b"floodmark_ledger_up 0.0")
    assert exporter.healthy()
    store.faults = lambda operation, key, moment: None
    exporter.refresh()
    assert exposed(exporter) == fine.replace(b"timestamp_seconds 100.0", b"timestamp_seconds 200.0")
    assert [type(one) for one in told] == [type(None), StorageError, type(None)]


def test_a_head_that_vanishes_is_no_new_beginning() -> None:
    """A folder that is not mounted looks like an empty one."""
    store = MemoryStorage("memory:state")
    ledger = quick_ledger(store)
    commit(ledger, "r1")
    exporter = Exporter([ledger], 60, lambda state, error: None)
    exporter.refresh()
    store.delete("head.json")
    exporter.refresh()
    assert b"floodmark_ledger_up 0.0" in exposed(exporter) and b"floodmark_table_rows" in exposed(exporter)


def test_a_damaged_document_is_the_stores_trouble_not_the_exporters_end() -> None:
    store = MemoryStorage("memory:state")
    ledger = quick_ledger(store)
    ledger.claim("r1", NOW)
    put(store, "inflight.json", store.get("inflight.json").data.replace(b"2026-11-24T03", b"yesterday"))
    told: list[FloodmarkError | None] = []
    Exporter([ledger], 60, lambda state, error: told.append(error)).refresh()
    assert [type(one) for one in told] == [StateUnreadable]


def test_the_exporter_ends_when_it_is_told() -> None:
    stop = threading.Event()
    exporter = Exporter([quick_ledger(MemoryStorage())], 3600, lambda state, error: stop.set())
    exporter.run(stop)


# --- the server ------------------------------------------------------------------------------------------------


def test_the_server_has_metrics_and_health_and_nothing_else() -> None:
    fine = True
    metrics = registry(lambda: about_runs(known(*(entry(f"t{number}") for number in range(20)))))
    long = generate_latest(metrics)
    with MetricsServer(HOST, 0, registry_page(metrics), lambda: fine) as server:
        base = f"http://{HOST}:{server.port}"
        assert get(f"{base}/metrics") == long and get(f"{base}/health") == b"ok\n"
        with urlopen(Request(f"{base}/metrics?x=1", headers={"Accept-Encoding": "gzip"})) as answer:
            assert answer.headers["Content-Encoding"] == "gzip" and gzip.decompress(answer.read()) == long
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        with urlopen(Request(f"{base}/metrics", method="HEAD")) as answer:
            assert answer.headers["Content-Length"] == str(len(long)) and answer.read() == b""
            assert answer.headers.get_all("Server") == ["floodmark"]
        fine = False
        for path, code in (("/health", 503), ("/nothing", 404), ("/../etc/passwd", 404)):
            with pytest.raises(HTTPError) as refusal:
                get(base + path)
            assert refusal.value.code == code
            refusal.value.close()
        with pytest.raises(ConfigError, match="in use"):
            MetricsServer(HOST, server.port, NOTHING)


def test_a_client_that_disconnects_or_sends_nonsense_leaves_no_line_and_the_server_goes_on(
    capfd: pytest.CaptureFixture[str],
) -> None:
    long = registry(lambda: about_runs(known(*(entry(f"t{number}") for number in range(5000)))))
    with MetricsServer(HOST, 0, registry_page(long)) as server:
        for request in (b"GET /metrics HTTP/1.0\r\n\r\n", b"\x16\x03\x01\n", b"GET / HTTP/9.9\r\n\r\n", b""):
            with socket.create_connection((HOST, server.port)) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.sendall(request)
        assert get(f"http://{HOST}:{server.port}/health") == b"ok\n"
    assert capfd.readouterr() == ("", "")


def test_a_client_that_reads_nothing_delays_neither_others_nor_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("floodmark.metrics.server._Handler.timeout", 0.2)
    large = registry(lambda: about_runs(known(*(entry(f"t{number}") for number in range(3000)))))
    with (
        MetricsServer(HOST, 0, text_page(lambda: [generate_latest(large)])) as server,
        socket.create_connection((HOST, server.port)) as idle,
        socket.create_connection((HOST, server.port)) as slow,
    ):
        slow.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert get(f"http://{HOST}:{server.port}/health") == b"ok\n"
        assert idle.recv(1) == b"", "a client that says nothing is dropped"


@pytest.mark.parametrize("address", ["256.1.1.1", "no such host", "192.0.2.1"])
def test_an_address_that_can_not_be_had_is_an_error(address: str) -> None:
    with pytest.raises(ConfigError, match="metrics can't be served"):
        MetricsServer(address, 0, NOTHING)


def test_ipv6_is_served_too() -> None:
    with MetricsServer("::1", 0, registry_page(registry(about_itself))) as server:
        assert get(f"http://[::1]:{server.port}/metrics") == text(*about_itself())


# --- a run's ways out ------------------------------------------------------------------------------------------


class Gateway(BaseHTTPRequestHandler):
    """A Pushgateway that answers as its path says, and keeps what it got."""

    got: list[tuple[str, str, str | None]]

    def do_POST(self) -> None:
        self.got.append((self.command, self.path, self.headers["Authorization"]))
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(400 if self.path.startswith("/refuse") else 200)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def gateway() -> Iterator[tuple[str, list[tuple[str, str, str | None]]]]:
    Gateway.got = []
    with HTTPServer((HOST, 0), Gateway) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"{HOST}:{server.server_port}", Gateway.got
        server.shutdown()


def test_a_push_goes_to_the_databases_group_with_the_urls_password(gateway: Any) -> None:
    address, got = gateway
    push(Secret(f"http://us%40r:p%2Fw@{address}/base/"), registry(list), "a/b c")
    assert got == [("POST", "/base/metrics/job/floodmark/database@base64/YS9iIGM=", "Basic dXNAcjpwL3c=")]


@pytest.mark.parametrize("path", ["/refuse", None])
def test_a_push_that_fails_says_why_and_no_password(gateway: Any, path: str | None) -> None:
    address = f"{gateway[0]}{path}" if path else f"{HOST}:{closed_port()}"
    with pytest.raises(PushFailed) as failure:
        push(Secret(f"http://user:c4n4ry@{address}"), registry(list), "cases")
    assert "c4n4ry" not in str(failure.value) and "user" not in str(failure.value)
    assert ("the gateway answered 400" if path else "Connection refused") in str(failure.value)


def ways(tmp_path: Path, events: list[Event], **changes: Any) -> MetricsOutputs:
    wanted = Metrics(textfile=str(tmp_path / "floodmark.prom"))
    given = {"known": lambda: known(entry(), record=RECORD), **changes}
    return MetricsOutputs(given.pop("wanted", wanted), events.append, given["known"], "cases")


def written(folder: Path) -> str:
    assert [path.name for path in folder.iterdir()] == ["floodmark.prom"]
    return (folder / "floodmark.prom").read_text()


STARTED = RunStarted("r10", "postgresql://h/cases", "s3://b", Point("t"), 1, "cases")


def test_a_run_is_shown_as_running_and_then_as_it_ended(tmp_path: Path) -> None:
    events: list[Event] = []
    with ways(tmp_path, events) as out:
        assert 'status="running"} 1.0' in written(tmp_path)
        out.observe(STARTED)
        out.observe(RunEnded(replace(ENDED, run_id="r10", outcome="success", exit_code=0)))
        out.record_manifest(manifest(entry("new")))
    assert events[0] is STARTED
    text = written(tmp_path)
    assert 'status="success"} 1.0' in text and 'table="new"' in text and 'table="person"' not in text
    assert 'outcome="success"} 6.0' in text and 'floodmark_retries_total{database="cases"} 7.0' in text
    assert "floodmark_run_chunks" not in text


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(SourceUnavailable("x"), "failed", 12), (Stopped(15), "stopped", 143), (KeyError("x"), "failed", 1)],
)
def test_a_run_that_fails_before_it_begins_takes_nothing_away(
    tmp_path: Path, error: BaseException, status: str, code: int
) -> None:
    with pytest.raises(type(error)), ways(tmp_path, []):
        raise error
    text = written(tmp_path)
    assert f'status="{status}"}} 1.0' in text and f'floodmark_run_exit_code{{database="cases"}} {code}.0' in text
    assert 'floodmark_table_rows{database="cases",schema="public",table="person"} 2000.0' in text


def test_the_times_of_a_run_that_fails_before_it_begins_end_with_z(tmp_path: Path) -> None:
    with pytest.raises(KeyError), ways(tmp_path, []) as out:
        raise KeyError("x")
    assert out._ended is not None
    for moment in (out._ended.started_at, out._ended.ended_at):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", moment)


def test_no_trouble_with_metrics_fails_a_run(tmp_path: Path) -> None:
    def unreadable() -> LedgerFacts:
        raise StorageError("get an object", on="s3://state/head.json", why="a test says so")

    events: list[Event] = []
    with MetricsServer(HOST, 0, NOTHING) as taken:
        gone = Secret(f"http://user:c4n4ry@{HOST}:{closed_port()}")
        wanted = Metrics(taken.port, HOST, gone, str(tmp_path / "nowhere" / "a.prom"))
        with ways(tmp_path, events, wanted=wanted, known=unreadable) as out:
            out.observe(RunEnded(ENDED))
        out.close()
    told = [event.message for event in events if isinstance(event, Warned)]
    assert [message.split(":")[0] for message in told] == [
        "metrics begin without the facts of the state",
        "metrics can't be served",
        *("metrics can't be pushed", "metrics can't be written") * 2,
    ]
    assert "c4n4ry" not in str(told)


def test_the_port_shows_a_run_at_work_until_it_is_closed(tmp_path: Path) -> None:
    port = own_port()
    with ways(tmp_path, [], wanted=Metrics(port, HOST)) as out:
        out.observe(STARTED)
        out.observe(TableDecided(PERSON, Reason("forced", ""), 5, 3, 0))
        out.observe(ChunkDone(PERSON, 1, 10, 4, 0.1))
        busy = get(f"http://{HOST}:{port}/metrics").decode()
        out.observe(RunEnded(ENDED))
    assert 'run_chunks{database="cases",state="planned"} 3.0' in busy and 'state="done"} 1.0' in busy
    out.close()
    with pytest.raises(OSError):
        get(f"http://{HOST}:{port}/metrics")


def test_what_a_run_tells_is_counted() -> None:
    live = LiveTotals("", 0)
    for event in (
        TableDecided(PERSON, Reason("forced", ""), 5, 3, 0),
        STARTED,
        TableDecided(PERSON, Reason("forced", ""), 5, 2, 0),
        ChunkDone(PERSON, 1, 10, 4, 0.1),
        Retried("x", "y", 1),
        ChunkAudited(PERSON, True),
        ChunkAudited(PERSON, False),
        Warned("x"),
    ):
        live = add_event(live, event)
    assert live == LiveTotals("cases", 0, planned=2, done=1, retries=1, audited=2, mismatches=1, uploaded=4)


# --- what is asked for wrongly ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("run", "--push-gateway", "http://user:c4n4ry@host"), 10, "FLOODMARK_PUSHGATEWAY"),
        (("run", "--push-gateway", "c4n4ry"), 10, "--push-gateway"),
        (("run", "--push-gateway", "http://host:c4n4ry"), 10, "--push-gateway"),
        (("run", "--metrics-linger", "5"), 2, "run has no option --metrics-linger"),
        (("run", "--metrics-textfile", ""), 10, "metrics.textfile"),
        (("run", "--metrics-port", "70000"), 2, "--metrics-port"),
        (("exporter", "--address", "256.0.0.1"), 10, "metrics can't be served"),
        (("exporter", "--destination", "s3://moj-reg-dev/x"), 10, "--push-gateway"),
    ],
)
def test_what_can_not_be_is_said(
    arguments: tuple[str, ...],
    code: int,
    word: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("FLOODMARK_", "PG", "S3_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FLOODMARK_SOURCE", "sqlite:///a.db")
    monkeypatch.setenv("FLOODMARK_DESTINATION", "./out")
    assert main(arguments) == code
    said = capsys.readouterr()
    assert word in said.err and "c4n4ry" not in said.err and said.out == ""
