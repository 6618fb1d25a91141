"""Chunks that workers extract under the coordinator's snapshot: the same bytes and the same refusals as threads.

The engine pickles everything on its way, but its workers are threads of this process.
"""

from __future__ import annotations

import pickle
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from fix_command import held, until
from fix_engine import PickledThreads
from fix_ports import closed_port
from fix_postgres import Role
from fix_runs import Nightly
from floodmark.config import ColumnRule, Secret, TableRule
from floodmark.engine.base import Away, TaskStopped, WorkerWatch
from floodmark.engine.local import ThisProcess
from floodmark.errors import ConfigError
from floodmark.events import ChunkDone, Event, Observer, Retried, RunStarted
from floodmark.model import TableEntry
from floodmark.native import VARIABLE, is_built
from floodmark.pipeline import job, remote
from floodmark.retrying import Patience
from floodmark.source.base import Drawback
from floodmark.source.postgres.coordinator import VIEW
from floodmark.source.postgres.transactions import SnapshotTransactions
from floodmark.stop import Stop
from floodmark.storage.local import LocalStorage

KEY = "a key that nobody may see"
TABLES = """
    CREATE TABLE person (id bigint PRIMARY KEY, name text, email text, note json);
    INSERT INTO person SELECT i, 'name ' || i, i || '@example.org', '{"a":\n1}' FROM generate_series(1, 3000) i;
    CREATE TABLE visit (id bigint, at date) PARTITION BY RANGE (at);
    CREATE TABLE visit_1 PARTITION OF visit FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
    CREATE TABLE visit_2 PARTITION OF visit FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
    INSERT INTO visit SELECT i, date '2026-01-01' + i % 59 FROM generate_series(1, 4000) i;
    CREATE TABLE wide (id int, body text);
    INSERT INTO wide SELECT i, repeat(md5(i::text), 20000) FROM generate_series(1, 5) i;
    CREATE TABLE nothing (id int);
    CREATE TABLE watched (id int, seen timestamptz);
    INSERT INTO watched SELECT i, '2026-01-01' FROM generate_series(1, 500) i;
    CREATE VIEW adults AS SELECT id, name FROM person WHERE id > 2500
"""
RULES: dict[str, TableRule] = {
    "public.person": TableRule(columns=ColumnRule(exclude=("note",), mask={"email": "hash"}), where="id % 2 = 0"),
    "public.watched": TableRule(detect="column", column="seen"),
}


class OneEngine(ThisProcess, frozen=True):
    """A cluster whose engine is given."""

    given: Any = None

    def engine(self, observer: Observer, here: int, limit: int | None = None) -> Any:
        return self.given


def use_engine(monkeypatch: pytest.MonkeyPatch, engine: PickledThreads) -> None:
    monkeypatch.setattr(job, "open_engine", lambda *_: OneEngine(given=engine))


@pytest.fixture
def away(nightly: Nightly, monkeypatch: pytest.MonkeyPatch) -> PickledThreads:
    """An engine that sends chunks away, to workers that may read the test's database."""
    engine = PickledThreads(2, lambda event: nightly.events.append(event))
    use_engine(monkeypatch, engine)
    monkeypatch.setenv("FLOODMARK_SOURCE", nightly.database.url)
    return engine


def choices(**more: Any) -> dict[str, Any]:
    return {"include": ("*.*", "public.adults"), "rules": RULES, "mask_key": Secret(KEY), **more}


def facts(entry: TableEntry) -> tuple[Any, ...]:
    """An entry without what differs between two runs: its times, and the timestamps in its keys."""
    marks = [replace(mark, audited=UNSET) for mark in entry.watermark.chunks] if entry.watermark is not None else []
    objects = [replace(one, key=one.key[-15:]) for one in entry.objects]
    return entry.status, entry.reason, entry.rows, entry.checksum, entry.fingerprint, marks, objects


def both_ways(nightly: Nightly, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> PickledThreads:
    """Run with threads and with workers, into two folders, and require the same."""
    threads = Nightly(nightly.database, nightly.folder.parent / "threads")
    threads.run(**changes)
    engine = PickledThreads(2, lambda event: nightly.events.append(event))
    use_engine(monkeypatch, engine)
    monkeypatch.setenv("FLOODMARK_SOURCE", nightly.database.url)
    nightly.run(**changes)
    assert threads.last is not None and nightly.last is not None
    assert [facts(one) for one in nightly.last.tables] == [facts(one) for one in threads.last.tables]
    for entry in nightly.last.tables:
        for mine, other in zip(entry.objects, threads.entry(entry.table.label).objects, strict=True):
            assert (nightly.folder / mine.key).read_bytes() == (threads.folder / other.key).read_bytes()
    assert engine.returned
    return engine


@pytest.mark.parametrize("encoder", ["native", "server"])
@pytest.mark.parametrize("row_format", ["jsonl", "csv"])
def test_the_same_as_threads(nightly: Nightly, monkeypatch: pytest.MonkeyPatch, encoder: str, row_format: str) -> None:
    if encoder == "native" and not is_built():
        pytest.skip("the native encoder is not built")
    nightly.database.execute(TABLES)
    monkeypatch.setenv("FLOODMARK_MASK_KEY", KEY)
    engine = both_ways(nightly, monkeypatch, **choices(format=row_format, encoder=encoder))
    assert len(engine.sent) == sum(isinstance(event, ChunkDone) for event in nightly.events)
    nightly.run(**choices(format=row_format, encoder=encoder))
    assert nightly.outcome("public.visit") == ("unchanged", "unchanged")


def test_a_worker_without_the_native_encoder_gives_the_same(nightly: Nightly, monkeypatch: pytest.MonkeyPatch) -> None:
    nightly.database.execute(TABLES)
    monkeypatch.setenv(VARIABLE, "server")
    both_ways(nightly, monkeypatch)


def test_messages_and_replies_hold_no_secret_and_no_row(
    nightly: Nightly, away: PickledThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    nightly.database.execute(TABLES)
    monkeypatch.setenv("FLOODMARK_MASK_KEY", KEY)
    secret = "hunter2-secret"
    nightly.run(**choices(url=nightly.database.url.replace("@", f":{secret}@", 1)))
    carried = b"".join(away.sent + away.returned)
    for hidden in (secret, KEY, "name 2600", "600@example.org", "2026-01-17"):
        assert hidden.encode() not in carried
    assert max(map(len, away.sent)) < 8000 and max(map(len, away.returned)) < 1000


def test_a_message_does_not_grow_with_its_table(
    nightly: Nightly, away: PickledThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    nightly.database.execute(
        "CREATE TABLE big (i int, v text STORAGE PLAIN);"
        "INSERT INTO big SELECT i, repeat('x', 7000) FROM generate_series(1, 160) i;"
        "CREATE TABLE many (i int) PARTITION BY LIST (i)"
    )
    for number in range(25):
        nightly.database.execute(f"CREATE TABLE many_{number} PARTITION OF many FOR VALUES IN ({number})")
    nightly.database.execute("INSERT INTO many SELECT generate_series(0, 24)")
    nightly.run(chunk_bytes=8192)
    assert len(away.sent) == 45 and max(map(len, away.sent)) < 6000
    away.sent.clear()
    nightly.database.execute("UPDATE big SET v = v || 'x'; UPDATE many SET i = i")
    nightly.run(chunk_bytes=8192)
    assert len(away.sent) > 40 and max(map(len, away.sent)) < 9000
    nightly.require_truth()


def test_lines_that_were_stored_at_another_place(nightly: Nightly, away: PickledThreads) -> None:
    """A worker is told of few stored objects; the coordinator knows all."""
    nightly.database.execute(
        "CREATE TABLE big (i int, v text STORAGE PLAIN);"
        "INSERT INTO big SELECT i, repeat('x', 7000) FROM generate_series(1, 144) i"
    )
    nightly.run(chunk_bytes=8192)
    keys = {one.key for one in nightly.entry("public.big").objects}
    assert len(keys) == 18
    nightly.database.execute("DELETE FROM big WHERE i <= 8")
    nightly.database.execute("VACUUM FULL big")
    nightly.run(chunk_bytes=8192)
    nightly.require_truth()
    assert {one.key for one in nightly.entry("public.big").objects} < keys


def while_extracting(nightly: Nightly, act: Callable[[], object], **changes: Any) -> None:
    """Run, and do something once, after the first snapshot was taken and before a chunk is read."""
    done: list[bool] = []

    def observe(event: Event) -> None:
        if isinstance(event, RunStarted) and not done:
            done.append(True)
            act()

    nightly.run_observed(observe, **changes)


@pytest.mark.parametrize(
    "statement",
    [
        "TRUNCATE person",
        "ALTER TABLE person RENAME TO x; ALTER TABLE watched RENAME TO person; ALTER TABLE x RENAME TO watched",
    ],
    ids=["rewritten", "exchanged"],
)
def test_a_table_that_changed_under_the_snapshot(nightly: Nightly, away: PickledThreads, statement: str) -> None:
    nightly.database.execute(TABLES)
    while_extracting(nightly, lambda: nightly.database.execute(statement))
    again = [event.why for event in nightly.events if isinstance(event, Retried)]
    assert any("after the snapshot" in why for why in again)
    nightly.require_truth()


def test_a_snapshot_that_is_gone(nightly: Nightly, away: PickledThreads) -> None:
    nightly.database.execute(TABLES)
    terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'floodmark'"

    def end_all() -> None:
        nightly.database.execute(terminate)
        until(lambda: not nightly.database.value(f"SELECT count(*) FROM ({terminate}) AS gone"))

    while_extracting(nightly, end_all)
    assert any(isinstance(event, Retried) for event in nightly.events)
    nightly.require_truth()


def test_a_worker_that_reaches_another_database(
    nightly: Nightly, away: PickledThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    nightly.database.execute(TABLES)
    other = nightly.database.server.database()
    monkeypatch.setenv("FLOODMARK_SOURCE", other.url)
    with pytest.raises(ConfigError, match="another database answered"):
        nightly.run()


def test_a_worker_that_reaches_another_server(
    nightly: Nightly, away: PickledThreads, monkeypatch: pytest.MonkeyPatch, make_server: Any
) -> None:
    nightly.database.execute(TABLES)
    monkeypatch.setenv("FLOODMARK_SOURCE", make_server().database().url)
    with pytest.raises(ConfigError, match="can't import the snapshot"):
        nightly.run()


def test_a_worker_with_another_role(nightly: Nightly, away: PickledThreads, monkeypatch: pytest.MonkeyPatch) -> None:
    nightly.database.execute(TABLES)
    role: Role = nightly.database.role("worker_role")
    nightly.database.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role.name}")
    monkeypatch.setenv("FLOODMARK_SOURCE", role.url)
    with pytest.raises(ConfigError, match="another role reads"):
        nightly.run()


@pytest.mark.parametrize("key", [None, "another key"])
def test_a_worker_with_another_mask_key(
    nightly: Nightly, away: PickledThreads, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    nightly.database.execute(TABLES)
    monkeypatch.delenv("FLOODMARK_MASK_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("FLOODMARK_MASK_KEY", key)
    with pytest.raises(ConfigError, match=r"mask key|FLOODMARK_MASK_KEY") as refused:
        nightly.run(**choices())
    assert key is None or key not in str(refused.value)


def test_a_worker_without_a_source(nightly: Nightly, away: PickledThreads, monkeypatch: pytest.MonkeyPatch) -> None:
    nightly.database.execute(TABLES)
    for variable in ("FLOODMARK_SOURCE", "PGHOST", "PGHOSTADDR", "PGDATABASE", "PGSERVICE"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(ConfigError, match="FLOODMARK_CONFIG"):
        nightly.run()


def test_a_worker_that_writes_to_another_place(
    nightly: Nightly, away: PickledThreads, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On another machine, a folder's path or a bucket's endpoint can mean another place."""
    nightly.database.execute(TABLES)
    monkeypatch.setattr(remote, "_storage", lambda chosen: LocalStorage(tmp_path / "another"))
    with pytest.raises(ConfigError, match="a worker writes to another place"):
        nightly.run()
    assert not (nightly.folder / "_floodmark" / "head.json").exists()


def test_a_worker_that_works_on_a_copy_of_the_destination(
    nightly: Nightly, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It finds what is stored already, which proves nothing about what it puts."""
    nightly.database.execute("CREATE TABLE a_first AS SELECT 1 AS a; CREATE TABLE b_second AS SELECT 1 AS a")
    nightly.run()
    shutil.copytree(nightly.folder, tmp_path / "copy")
    nightly.database.execute("UPDATE a_first SET a = a; UPDATE b_second SET a = 2")
    use_engine(monkeypatch, PickledThreads(1))
    monkeypatch.setenv("FLOODMARK_SOURCE", nightly.database.url)
    monkeypatch.setattr(remote, "_storage", lambda chosen: LocalStorage(tmp_path / "copy"))
    with pytest.raises(ConfigError, match="a worker writes to another place"):
        nightly.run()


def test_the_connections_of_the_whole_cluster(
    nightly: Nightly, away: PickledThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The role may have as many connections as the limit, and one for the snapshot."""
    nightly.database.execute(TABLES)
    role = nightly.database.role("limited")
    nightly.database.execute(
        "ALTER ROLE limited CONNECTION LIMIT 3; GRANT SELECT ON ALL TABLES IN SCHEMA public TO limited"
    )
    monkeypatch.setenv("FLOODMARK_SOURCE", role.url)
    nightly.run(url=role.url, connections=2)
    assert not [event for event in nightly.events if isinstance(event, Retried)]
    nightly.require_truth()


def test_a_worker_whose_session_has_other_settings(
    nightly: Nightly, away: PickledThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A filter can depend on a setting that Floodmark does not pin."""
    nightly.database.execute("CREATE TABLE told (words text); INSERT INTO told VALUES ('dogs')")
    options = "options=-c%20default_text_search_config%3Dpg_catalog.simple"
    monkeypatch.setenv("FLOODMARK_SOURCE", f"{nightly.database.url}?{options}")
    rule = TableRule(where="to_tsvector(words) @@ to_tsquery('english', 'dog')")
    with pytest.raises(ConfigError, match="other settings") as refused:
        nightly.run(rules={"public.told": rule})
    assert "pg_catalog.simple" in str(refused.value) and "PGOPTIONS" in str(refused.value)


def test_a_worker_that_may_not_connect(nightly: Nightly, away: PickledThreads, monkeypatch: pytest.MonkeyPatch) -> None:
    nightly.database.execute(TABLES)
    monkeypatch.setenv("FLOODMARK_SOURCE", nightly.database.url.replace(nightly.database.name, "no_such_database"))
    with pytest.raises(ConfigError, match="can't connect"):
        nightly.run()


def test_a_worker_that_does_not_reach_the_server(
    nightly: Nightly, away: PickledThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server still serves the coordinator, so the worker is at fault, and no table fails."""
    nightly.database.execute(TABLES)
    monkeypatch.setenv("FLOODMARK_SOURCE", f"postgresql://somebody@127.0.0.1:{closed_port()}/shop")
    monkeypatch.setattr(remote, "_PATIENCE", Patience(tries=1))
    with pytest.raises(ConfigError, match="can't connect"):
        nightly.run()


def test_a_snapshot_that_must_not_be_shared_is_read_here(
    nightly: Nightly, away: PickledThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a standby: one connection of this process reads everything, whatever the engine."""
    alone = Drawback("one connection", "nothing helps")
    monkeypatch.setattr(SnapshotTransactions, "_try_import", lambda self: self._use_one_connection(alone))
    nightly.database.execute(TABLES)
    nightly.run()
    nightly.require_truth()
    assert away.sent == []


def test_a_worker_that_is_told_to_end_waits_no_longer_for_its_server(
    nightly: Nightly, away: PickledThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    nightly.database.execute(TABLES)
    nightly.run()
    function, shared, message = pickle.loads(away.sent[0])
    monkeypatch.setenv("FLOODMARK_SOURCE", f"postgresql://somebody@127.0.0.1:{closed_port()}/shop")
    stop = Stop()
    with pytest.raises(TaskStopped):
        function(shared, message, WorkerWatch(lambda event: stop.ask(15), stop))  # at its first retry


def test_a_worker_that_is_told_to_end_waits_no_longer_for_a_lock(nightly: Nightly, away: PickledThreads) -> None:
    """Its connection ends, too: the next run has room."""
    nightly.database.execute("CREATE TABLE locked AS SELECT 1 AS a")
    nightly.run()
    function, shared, message = pickle.loads(away.sent[0])
    coordinator, migration, stop = nightly.database.connect(), nightly.database.connect(), Stop()
    coordinator.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    name, view = coordinator.execute(f"SELECT pg_export_snapshot(), {VIEW}").fetchone() or ("", "")
    exported = replace(message.part.exported, id=name, view=view)
    message = replace(message, part=replace(message.part, exported=exported))
    held(migration, "locked")
    waits = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'floodmark' AND wait_event_type = 'Lock'"
    threading.Thread(target=lambda: (until(lambda: nightly.database.value(waits)), stop.ask(15))).start()
    begun = time.monotonic()
    with pytest.raises(TaskStopped):
        function(shared, message, WorkerWatch(lambda event: None, stop))
    assert time.monotonic() - begun < 10
    assert nightly.database.value(waits) == 0


class Repeating(PickledThreads):
    """Each of the first tasks is done twice, as if the first worker had died after its put."""

    first = 0

    def run_tasks(
        self, work: Callable[[Any], Any], tasks: Iterable[Any], away: Away[Any] | None = None
    ) -> Iterator[tuple[Any, Any]]:
        if away is None:
            yield from super().run_tasks(work, tasks)
            return
        for task in tasks:
            self.first -= 1
            if self.first >= 0:
                list(super().run_tasks(work, [task], away))
            yield from super().run_tasks(work, [task], away)


def test_a_view_that_differs_each_time_is_read_again_under_another_key(
    nightly: Nightly, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes of the first worker are never taken for those of the second, and no other table fails."""
    nightly.database.execute("CREATE TABLE calm AS SELECT 1 AS a; CREATE VIEW wild AS SELECT random() AS r")
    engine = Repeating(1)
    use_engine(monkeypatch, engine)
    monkeypatch.setenv("FLOODMARK_SOURCE", nightly.database.url)
    engine.first = 2
    result = nightly.run(include=("*.*", "public.wild"))
    (again,) = [event.why for event in nightly.events if isinstance(event, Retried)]
    assert "had different lines" in again
    assert [entry.status for entry in result.manifest.tables] == ["extracted", "extracted"]
