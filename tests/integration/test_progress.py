"""The progress of every long command on a real database: each step is told, counts its work, and reaches its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from fix_command import held
from fix_runs import Nightly
from floodmark import meter
from floodmark.cli.output.tally import Tally
from floodmark.config import DeliverySettings
from floodmark.deliver.job import deliver, open_target
from floodmark.events import ChunkProgress, Event, StepStarted, TableDecided, TableGivenUp
from floodmark.load.job import LoadOptions, load
from floodmark.load.parquet import ParquetPlace
from floodmark.load.target import LoadWatch
from floodmark.model import TableName
from floodmark.prune.job import KeepLast, prune
from floodmark.reader.reader import open as open_landed
from floodmark.stop import NEVER
from floodmark.verify.job import VerifyRequest, verify

TABLES = """
    CREATE TABLE person WITH (autovacuum_enabled = off) AS SELECT n AS id, repeat(md5(n::text), 4) AS t
        FROM generate_series(1, 3000) n;
    CREATE TABLE visit AS SELECT n AS id FROM generate_series(1, 1000) n;
    CREATE TABLE nothing (id int)"""
BEFORE = ["reading the state", "waiting for the server", "reading the catalog"]
AFTER = ["comparing definitions", "committing"]
Ends = dict[str, tuple[int, int | None]]


@pytest.fixture
def nightly(nightly: Nightly) -> Nightly:
    nightly.database.execute(TABLES)
    return nightly


def steps(events: list[Event]) -> Ends:
    """What of its total each step had done at its end, as the live view and the log count it."""
    tally = Tally()
    found: Ends = {}
    for event in [*events, None]:
        progress = tally.progress()
        if progress is not None and (event is None or isinstance(event, StepStarted)):
            assert progress.tables == (), "nothing is at work any more"
            found[progress.step] = (progress.done, progress.total)
        if event is not None:
            tally.take(event)
    return found


def whole(ends: Ends, *without_total: str) -> bool:
    """True if each step but these did all that it had to do, and that was something."""
    return all(
        (total is None) if step in without_total else (done == total != 0) for step, (done, total) in ends.items()
    )


def test_a_run_tells_every_step(nightly: Nightly) -> None:
    nightly.run()
    first = steps(nightly.events)
    assert list(first) == [*BEFORE, "extracting", *AFTER] and whole(first, *BEFORE, *AFTER)
    decided = [event for event in nightly.events if isinstance(event, TableDecided)]
    assert first["extracting"][1] == sum(event.estimated_bytes for event in decided)

    nightly.run(audit_share=100.0)
    unchanged = steps(nightly.events)
    assert list(unchanged) == [*BEFORE, "checking", "auditing", *AFTER] and whole(unchanged, *BEFORE, *AFTER)
    assert unchanged["checking"] == first["extracting"], "all of the source is looked at"

    nightly.database.execute("UPDATE person SET t = '' WHERE id = 1")
    nightly.run()
    changed = steps(nightly.events)
    assert list(changed) == [*BEFORE, "checking", "looking for objects", "extracting", *AFTER]
    assert whole(changed, *BEFORE, *AFTER) and changed["extracting"][0] < changed["checking"][0]
    nightly.plan()
    assert "checking" in steps(nightly.events)


def test_progress_moves_inside_a_chunk(nightly: Nightly, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter, "EVENTS_PER_SECOND", 10**9)
    nightly.database.execute("INSERT INTO person SELECT n, repeat(md5(n::text), 30) FROM generate_series(1, 5000) n")
    nightly.run(chunk_bytes=2**30, only=("person",))
    told = [event for event in nightly.events if isinstance(event, ChunkProgress)]
    size = told[-1].done_bytes
    inside = [event.done_bytes for event in told[1:-1]]
    assert told[0].done_bytes == 0 and told[-1].finished and size > 4_000_000
    assert len(inside) > 10, "a block has 256 KiB"
    assert inside == sorted(inside) and 0 < inside[0] < size / 5 and size / 2 < inside[-1] < size


def test_a_table_that_fails_does_not_hold_the_total_back(nightly: Nightly) -> None:
    nightly.run()
    nightly.database.execute("UPDATE person SET t = ''; UPDATE visit SET id = 0")
    migration = nightly.database.connect()
    held(migration, "person")
    nightly.run(lock_timeout=0.2)
    migration.rollback()
    assert nightly.outcome("public.person")[0] == "failed"
    ends = steps(nightly.events)
    assert [event.table.name for event in nightly.events if isinstance(event, TableGivenUp)] != []
    assert whole({step: end for step, end in ends.items() if end[1]})


def test_verify_tells_every_step(nightly: Nightly) -> None:
    nightly.run()
    nightly.run()

    def verified(**wanted: bool) -> Ends:
        events: list[Event] = []
        verify(nightly.settings(), VerifyRequest(**wanted), events.append, NEVER)
        return steps(events)

    assert nightly.last is not None
    objects = [one for entry in nightly.last.tables for one in entry.objects]
    assert verified() == {"reading manifests": (2, None), "checking objects": (len(objects), len(objects))}
    stored = sum(one.stored_bytes for one in objects)
    assert verified(deep=True) == {"reading manifests": (2, None), "reading objects": (stored, stored)}
    compared = verified(against_source=True)
    assert list(compared)[2:] == [*BEFORE[1:], "checking", "comparing with the source"]
    assert whole(compared, "reading manifests", *BEFORE)


def test_a_load_tells_every_step(nightly: Nightly, tmp_path: Path) -> None:
    nightly.run()
    events: list[Event] = []

    def loaded() -> Ends:
        events.clear()
        target = ParquetPlace(str(tmp_path / "lake"), events.append)
        snapshot = open_landed(str(nightly.folder)).latest()
        load(snapshot, target, LoadOptions(), lambda one: None, LoadWatch(events.append, NEVER))
        return steps(events)

    stored = sum(nightly.entry(f"public.{name}").stored_bytes or 0 for name in ("person", "visit"))
    assert loaded() == {"loading": (stored, stored), "publishing": (0, None)}
    nightly.database.execute("UPDATE person SET t = '' WHERE id = 1")
    nightly.run()
    stored = nightly.entry("public.person").stored_bytes or 0
    assert loaded()["loading"] == (stored, stored), "a chunk that the target holds counts, too"


@pytest.mark.parametrize("settings", [{}, {"compression": "none"}], ids=["as stored", "plain"])
def test_a_delivery_tells_every_step(nightly: Nightly, tmp_path: Path, settings: dict[str, Any]) -> None:
    nightly.run()
    events: list[Event] = []
    reader = open_landed(str(nightly.folder))
    target = open_target(DeliverySettings(str(tmp_path / "zone"), name="zone", **settings), events.append)
    deliver(reader.latest(), target, reader.cursor("zone"), None, lambda one: None, NEVER, events.append)
    stored = {name: nightly.entry(f"public.{name}").stored_bytes or 0 for name in ("person", "visit", "nothing")}
    assert events[0] == StepStarted("delivering", {TableName("public", name): size for name, size in stored.items()})
    assert steps(events) == {"delivering": (sum(stored.values()), sum(stored.values()))}
    done = sum(event.done_bytes for event in events if isinstance(event, ChunkProgress) and event.finished)
    assert done == sum(stored.values()), "an object that is read twice counts half each time"
    assert max(len(nightly.entry(f"public.{name}").objects) for name in stored) > 1, "such a table is read twice"


def test_a_prune_tells_every_step(nightly: Nightly) -> None:
    for number in range(3):
        nightly.database.execute(f"UPDATE person SET t = '{number}' WHERE id = 1")
        nightly.run()
    events: list[Event] = []
    done = prune(replace(nightly.settings(), prune_grace=0), KeepLast(1), events.append)
    assert done is not None and done.manifests and done.objects
    ends = steps(events)
    assert list(ends) == ["reading the state", "reading manifests", "listing objects", "deleting"]
    assert ends["reading manifests"][0] == 3
    assert ends["deleting"] == (len(done.objects) + len(done.manifests),) * 2
    assert ends["listing objects"][0] == len(list(nightly.folder.glob("data/**/*.jsonl.gz"))) + len(done.objects)
