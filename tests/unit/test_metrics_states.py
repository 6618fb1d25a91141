"""The exporter over many states: labels, names that are the same, and stores that fail or hang."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from fix_prometheus import require_clean
from fix_state import entry, manifest, point, quick_ledger, stored
from floodmark.errors import FloodmarkError, StorageError
from floodmark.metrics import exporter as module
from floodmark.metrics.exporter import Exporter
from floodmark.metrics.exposition import accepts_gzip, joined, lines_of, registry
from floodmark.metrics.ledger_facts import LedgerFacts, read_facts
from floodmark.metrics.values import about_runs
from floodmark.state.ledger import Ledger
from floodmark.storage.memory import MemoryStorage

Told = list[tuple[str, FloodmarkError | None]]
FAR = 3600.0  # seconds: an interval that ends in no test


class State:
    """A state in memory, and what its store does."""

    def __init__(self, url: str, database: str) -> None:
        self.store = MemoryStorage(url)
        self.ledger: Ledger = quick_ledger(self.store)
        self.commit(database)

    def commit(self, database: str, run_id: str = "r1", *names: str) -> None:
        tables = (entry(name, point(1), stored(f"{name}/{run_id}")) for name in names or ("person",))
        whole = manifest(run_id, point(1), *tables)
        self.ledger.commit(replace(whole, source=replace(whole.source, database=database)), None)

    def fail(self) -> None:
        def away(*_: str) -> None:
            raise StorageError("get an object", why="a test says so")

        self.store.faults = away

    def hang(self, until: threading.Event) -> None:
        self.store.faults = lambda *_: until.wait(30) and None


def text(exporter: Exporter) -> str:
    return b"".join(exporter.text()).decode()


def of(states: list[State], told: Told | None = None, **options: bool) -> Exporter:
    change = (lambda state, error: None) if told is None else (lambda state, error: told.append((state, error)))
    return Exporter([one.ledger for one in states], FAR, change, lambda: 100.0, **options)


def read(states: list[State], told: Told | None = None, **options: bool) -> str:
    exporter = of(states, told, **options)
    exporter.refresh()
    return text(exporter)


@contextmanager
def running(exporter: Exporter) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=exporter.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(5)
        assert not thread.is_alive(), "a reading that hangs must delay no end"


def eventually(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_each_database_has_its_series_and_each_state_tells_if_it_can_be_read() -> None:
    states = [State("memory:a", "cases"), State("memory:b", "staff")]
    states[1].fail()
    told: Told = []
    shown = read(states, told)
    require_clean(shown.encode())
    assert 'floodmark_ledger_up{state_url="memory:a"} 1.0' in shown and 'ledger_up{state_url="memory:b"} 0.0' in shown
    assert 'floodmark_ledger_last_read_timestamp_seconds{state_url="memory:a"} 100.0' in shown
    assert 'floodmark_table_rows{database="cases",schema="public",table="person"} 3.0' in shown
    assert "staff" not in shown and shown.count("\n# TYPE floodmark_ledger_up gauge") == 1
    assert [(state, type(error)) for state, error in told] == [("memory:a", type(None)), ("memory:b", StorageError)]


def test_one_state_has_the_labels_that_it_always_had() -> None:
    shown = read([State("memory:a", "cases")])
    assert "\nfloodmark_ledger_up 1.0\n" in shown and "state_url=" not in shown


def test_series_of_a_metric_stand_together() -> None:
    shown = read([State("memory:a", "cases"), State("memory:b", "staff"), State("memory:c", "stock")])
    names = [line.split("{")[0].split()[0] for line in shown.splitlines() if not line.startswith("#")]
    runs = [name for place, name in enumerate(names) if not place or names[place - 1] != name]
    assert len(runs) == len(set(runs)) > 20


def test_the_second_database_of_a_name_is_refused_and_the_first_is_shown() -> None:
    states = [State("memory:a", "cases"), State("memory:b", "cases")]
    states[1].commit("cases", "r2", "other")
    told: Told = []
    shown = read(states, told)
    require_clean(shown.encode())
    assert 'table="person"' in shown and 'table="other"' not in shown
    assert 'ledger_up{state_url="memory:a"} 1.0' in shown and 'ledger_up{state_url="memory:b"} 0.0' in shown
    (place, error) = told[-1]
    assert place == "memory:b" and error is not None and "the same name as that of memory:a" in error.sentence
    assert error.hint == "Start the exporter with --state-label."


def test_with_the_label_databases_of_one_name_are_told_apart() -> None:
    states = [State("memory:a", "cases"), State("memory:b", "cases")]
    shown = read(states, state_label=True)
    require_clean(shown.encode())
    for state in ("memory:a", "memory:b"):
        assert (
            f'floodmark_table_rows{{database="cases",schema="public",state_url="{state}",table="person"}} 3.0' in shown
        )
        assert f'floodmark_snapshot_timestamp_seconds{{database="cases",state_url="{state}"}}' in shown
    lines = [line for line in shown.splitlines() if line.startswith("floodmark_") and "build_info" not in line]
    assert all('state_url="memory:' in line for line in lines)


def test_a_name_that_becomes_free_is_shown() -> None:
    states = [State("memory:a", "cases"), State("memory:b", "cases")]
    told: Told = []
    exporter = of(states, told)
    exporter.refresh()
    states[0].store.delete("head.json")
    states[0].commit("renamed", "r9")
    exporter.refresh()
    assert "table_rows" in text(exporter) and 'database="renamed"' in text(exporter)
    assert told[-1] == ("memory:b", None)


def test_a_state_that_hangs_delays_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    states = [State("memory:a", "cases"), State("memory:b", "staff")]
    free = threading.Event()
    states[0].hang(free)
    exporter = of(states)
    with running(exporter):
        eventually(lambda: 'database="staff"' in text(exporter))
        assert 'ledger_up{state_url="memory:a"} 0.0' in text(exporter) and exporter.healthy()
        monkeypatch.setattr(module, "_PATIENCE", -3 * FAR - 0.01)
        assert not exporter.healthy(), "a reading that hangs for so long is a fault of the process"
        free.set()
        eventually(lambda: 'database="cases"' in text(exporter))


def test_many_failing_states_that_hang_delay_no_fine_one(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = [State(f"memory:{number}", f"bad{number}") for number in range(module._WIDTH + 2)]
    fine = State("memory:fine", "fine")
    for one in bad:
        one.fail()
    free = threading.Event()
    told: Told = []
    exporter = of([*bad, fine], told)
    exporter._interval = 0.0
    with running(exporter):
        eventually(lambda: len(told) == len(bad) + 1)
        for one in bad:
            one.hang(free)
        time.sleep(0.1)
        fine.commit("fine", "r2", "new")
        eventually(lambda: 'table="new"' in text(exporter))
        free.set()


def test_a_bug_in_a_reading_ends_the_exporter(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr(module, "read_again", broken)
    with pytest.raises(KeyError):
        of([State("memory:a", "cases")]).run(threading.Event())


def test_facts_without_a_manifest_give_the_same_series() -> None:
    state = State("memory:a", "cases")
    facts = read_facts(state.ledger)
    bare = facts.without_manifest()
    assert bare.manifest is None and read_facts(state.ledger, bare).commit == facts.commit
    whole = lines_of(about_runs(facts))
    assert lines_of(about_runs(bare)) == {
        name: lines for name, lines in whole.items() if not name.startswith("floodmark_table_")
    }
    assert LedgerFacts().commit is None


def test_kept_lines_are_what_prometheus_client_writes() -> None:
    from prometheus_client import generate_latest  # noqa: PLC0415

    state = State("memory:a", 'a"b')
    state.commit('a"b', "r2", "\n# HELP floodmark_table_rows x", "\\n", "")
    facts = read_facts(state.ledger)
    assert facts.manifest is not None and facts.manifest.contract is UNSET
    kept = b"".join(joined([lines_of(about_runs(facts))]))
    assert sorted(kept.splitlines()) == sorted(generate_latest(registry(lambda: about_runs(facts))).splitlines())


@pytest.mark.parametrize(
    ("header", "accepted"),
    [("gzip", True), ("deflate, GZIP;q=0.5", True), ("gzip;q=0", False), ("gzip; q=0.0", False), ("", False)],
)
def test_gzip_is_for_clients_that_take_it(header: str, accepted: bool) -> None:
    assert accepts_gzip({"HTTP_ACCEPT_ENCODING": header}) is accepted
