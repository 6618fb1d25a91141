"""A service's database, what may happen to it, and a nightly job that is held against it after every run.

The oracle is independent: at the very moment of a run's snapshot another session reads every table whole, and
what the run then lands must be those lines, whatever other sessions do while it works. No code of Floodmark's
takes part in that reading.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
from msgspec import Struct

from fix_acts import Act, alone, statements, touches
from fix_postgres import Cluster, PgDatabase
from fix_runs import Nightly
from floodmark.errors import SourceError
from floodmark.events import ChunkDone, Event, RunStarted, TableDecided
from floodmark.model import Point
from floodmark.run import run

SERVICE = """
    CREATE TYPE mood AS ENUM ('sad', 'glad', 'mad');
    CREATE TABLE event (id int PRIMARY KEY, n int, v text) WITH (fillfactor = 80);
    CREATE TABLE doc (id int, n int, v text, body text, meta json);
    ALTER TABLE doc ALTER body SET STORAGE EXTERNAL, ALTER meta SET STORAGE PLAIN;
    CREATE TABLE person (id int, n int, v text, m mood DEFAULT 'sad', born date DEFAULT '1970-01-01');
    CREATE TABLE visit (id int, n int, v text) PARTITION BY RANGE (id);
    CREATE TABLE visit_a PARTITION OF visit FOR VALUES FROM (0) TO (300);
    CREATE TABLE visit_b PARTITION OF visit FOR VALUES FROM (300) TO (600) PARTITION BY LIST (n);
    CREATE TABLE visit_b0 PARTITION OF visit_b FOR VALUES IN (0);
    CREATE TABLE visit_b1 PARTITION OF visit_b DEFAULT;
    CREATE TABLE visit_rest PARTITION OF visit DEFAULT;
    CREATE TABLE spare (v text, gone int, n int, id int); ALTER TABLE spare DROP gone;
    CREATE TABLE pointer (id int, what regclass);
    INSERT INTO event SELECT i, 0, 'event ' || i || repeat('e', 150) FROM generate_series(1, 900) i;
    INSERT INTO doc SELECT i, 0, 'doc ' || i, repeat(md5(i::text), 80),
        (E'{"a":\\n' || i || ',"pad":"' || repeat('p', 500) || '"}')::json FROM generate_series(1, 150) i;
    INSERT INTO person SELECT i, 0, 'person ' || i || repeat('p', 100) FROM generate_series(1, 300) i;
    INSERT INTO visit SELECT i, i % 2, 'visit ' || i || repeat('v', 200) FROM generate_series(1, 700) i;
    INSERT INTO spare (id, n, v) SELECT i, 0, 'spare ' || i FROM generate_series(900, 950) i;
    INSERT INTO pointer VALUES (1, 'spare'), (2, 'event');
    CREATE INDEX event_id ON event (id); CREATE INDEX doc_id ON doc (id); CREATE INDEX person_id ON person (id);
    CREATE INDEX visit_id ON visit (id); CREATE INDEX spare_id ON spare (id)
"""
# A regclass prints the name that a table has when it is read. So no proof is possible of this one, whatever
# happens or does not, and while others rename tables it shows no one moment.
UNPROVABLE = frozenset({"public.pointer"})

_SETTINGS = """
    SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET IntervalStyle = 'iso_8601'; SET bytea_output = 'hex';
    SET extra_float_digits = 1; SET search_path = ''; SET statement_timeout = '60s';
    BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT 1
"""
_TABLES = """
    SELECT relname, relkind::text FROM pg_catalog.pg_class
    WHERE relkind IN ('r', 'p') AND NOT relispartition AND relnamespace = 'public'::regnamespace ORDER BY 1
"""
# What a statement may be answered when others hold what it wants, or did before what it wants to do.
_REFUSALS = (
    psycopg.ProgrammingError,
    psycopg.IntegrityError,
    psycopg.NotSupportedError,
    psycopg.DataError,
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.QueryCanceled,
    psycopg.errors.ObjectNotInPrerequisiteState,
    psycopg.errors.ObjectInUse,
)


class Meanwhile(Struct, frozen=True):
    """What another session does at the so-manieth event of a kind, while a run is at work."""

    at: type[Event]
    number: int
    act: Act


class History:
    """One database from its birth, on a primary and perhaps seen through its standby."""

    def __init__(self, primary: Cluster, folder: Path, told: Counter[str], standby: Cluster | None = None) -> None:
        self.primary, self.standby, self.told = primary, standby, told
        self.database = primary.database()
        self.lagging = False
        if standby is not None:
            standby.resume()
        self.database.execute(SERVICE)
        self.job = Nightly(self.database, folder / self.database.name)
        self.open: list[psycopg.Connection[Any]] = []
        self.prepared: list[str] = []
        self.numbers = iter(range(1, 10**6))
        self.touched: set[str] = set()
        self.calm: tuple[str, Point] | None = None  # the last run's source and moment, if nothing was under way then
        self.truth: dict[str, list[bytes]] = {}
        self.once_photographing: Callable[[], None] = _nothing

    # What happens

    def act(self, act: Act) -> None:
        """Other sessions' work, committed at once, or refused because yet others are in the way."""
        self.touched |= touches(act)
        with self._session() as session:
            self._play(session, alone(act, next(self.numbers)), act.kind)

    def leave_open(self, act: Act) -> None:
        """A transaction that has done something and goes on."""
        if len(self.open) >= 3:
            return
        self.touched |= touches(act)
        session = self._session(autocommit=False)
        if self._play(session, statements(act, next(self.numbers)), act.kind):
            self.open.append(session)
        else:
            session.close()

    def end_open(self, which: int, how: str) -> None:
        """Touched are then all tables: who knows what it wrote."""
        if self.open:
            session = self.open.pop(which % len(self.open))
            self.touched.add("*")
            with suppress(psycopg.OperationalError):  # the server may have been restarted since
                session.execute(how)
            session.close()

    def prepare(self, act: Act) -> None:
        if len(self.prepared) >= 3:
            return
        self.touched |= touches(act)
        gid = f"{self.database.name}_{next(self.numbers)}"
        with self._session() as session:
            made = ["BEGIN", *statements(act, next(self.numbers)), f"PREPARE TRANSACTION '{gid}'"]
            if self._play(session, made, act.kind):
                self.prepared.append(gid)

    def end_prepared(self, which: int, how: str) -> None:
        if self.prepared:
            self.touched.add("*")
            self.database.execute(f"{how} PREPARED '{self.prepared.pop(which % len(self.prepared))}'")

    def interrupt(self, how: str) -> None:
        """Restart, or crash and recover: the primary, or the standby alone."""
        server = self.standby if how == "standby" and self.standby is not None else self.primary
        if how == "backend":
            server.crash_backend()
        elif how == "power":
            server.crash()
            server.start()
        else:
            server.restart()
        self.calm = None
        self.told[f"interrupted: {how}"] += 1
        self.database.close()
        if server is self.primary:
            for session in self.open:
                session.close()
            self.open.clear()

    def lag(self, lagging: bool) -> None:
        """From now on the standby shows what it shows now, or follows again."""
        self.lagging = lagging
        if self.standby is not None:
            self.standby.pause() if lagging else self._catch_up()

    # Runs

    def run(self, meanwhile: Meanwhile | None = None, *, through_standby: bool = False, **changes: Any) -> None:
        """Run, and hold what landed against what the source held at the run's snapshot."""
        source = self._source(through_standby)
        expected = self._to_be_proven(source)
        attempts = Counter[str]()
        left = [meanwhile] if meanwhile is not None else []
        lock = threading.Lock()

        def observe(event: Event) -> None:
            with lock:
                self._note(event, source, attempts)
                if left and isinstance(event, left[0].at) and attempts[type(event).__name__] > left[0].number:
                    self.act(left.pop().act)

        try:
            self.job.last = run(self.job.settings(url=source.url, **changes), observe, None).manifest
        except SourceError as error:
            # Replaying what others did meanwhile, a standby throws out who is in its way: the coordinator, too.
            assert meanwhile is not None and source is not self.database, error
            self.told["a standby's conflict ended a run"] += 1
            return
        self._require_truth(UNPROVABLE if meanwhile is not None else frozenset())
        if meanwhile is None:
            self._require_proven(expected)
        self._count(attempts)

    def run_locked(self, table: str, act: Act, how: str) -> None:
        """Run while a migration holds the table, whose size can't be measured then; it lets go a moment later."""
        session = self._session(autocommit=False)
        self.touched.add("*")
        if not self._locked(session, table, act):
            session.close()
            return
        release = threading.Timer(0.3, lambda: session.execute(how))
        self.once_photographing = release.start
        try:
            self.run()
        finally:
            if release.ident is not None:
                release.join()
            session.close()
            self.touched.add("*")  # it was cut as an estimate said

    def run_through_a_crash(self, number: int) -> None:
        """A backend is killed while the run is at work: it fails, or starts anew, but lands nothing wrong."""
        attempts = Counter[str]()
        crashed: list[bool] = []

        def observe(event: Event) -> None:
            self._note(event, self.database, attempts)
            if isinstance(event, ChunkDone | TableDecided) and attempts.total() > number and not crashed:
                crashed.append(True)
                self.interrupt("backend")

        try:
            self.job.last = run(self.job.settings(connections=1), observe, None).manifest
        except SourceError as error:
            self.told["a crash ended a run"] += 1
            assert error.exit_code == 12
        else:
            self._require_truth()
        self.calm = None

    def close(self) -> None:
        for session in self.open:
            session.close()
        self.lag(False)
        self.database.drop()

    # Inside

    def _session(self, *, autocommit: bool = True) -> psycopg.Connection[Any]:
        session = psycopg.connect(self.database.dsn, autocommit=True)
        session.execute("SET lock_timeout = '100ms'; SET statement_timeout = '20s'")
        session.autocommit = autocommit
        return session

    def _play(self, session: psycopg.Connection[Any], made: list[str], kind: str) -> bool:
        """Whether all of it was done."""
        try:
            for statement in made:
                session.execute(statement)
        except _REFUSALS as refused:
            session.close()
            self.told[f"refused: {kind}: {type(refused).__name__}"] += 1
            return False
        self.told[f"done: {kind}"] += 1
        return True

    def _locked(self, session: psycopg.Connection[Any], table: str, act: Act) -> bool:
        try:
            session.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        except _REFUSALS:
            return False
        return self._play(session, statements(act, next(self.numbers)), act.kind)

    def _source(self, through_standby: bool) -> PgDatabase:
        if not through_standby or self.standby is None:
            return self.database
        if not self.lagging:
            self._catch_up()
            self.standby.pause()
        return self.database.on(self.standby)

    def _catch_up(self) -> None:
        assert self.standby is not None
        self.standby.resume()
        self.standby.wait_for(self.primary)

    def _note(self, event: Event, source: PgDatabase, attempts: Counter[str]) -> None:
        attempts[type(event).__name__] += 1
        if isinstance(event, RunStarted):
            self.truth = photograph(source.dsn, self.once_photographing)
            self.once_photographing = _nothing
            calm = event.point.xmin == event.point.xmax and (source is self.database or not self.lagging)
            self.calm = (source.url, event.point) if calm else None
            self.touched = set()
            attempts["proven chunks"] = 0
            if source is not self.database and not self.lagging and self.standby is not None:
                self.standby.resume()
        elif isinstance(event, TableDecided):
            attempts["proven chunks"] += event.chunks - event.to_extract

    def _to_be_proven(self, source: PgDatabase) -> set[str]:
        """Tables that nothing touched since the last run, nor was anything under way then."""
        if self.calm is None or self.calm[0] != source.url or "*" in self.touched or self.job.last is None:
            return set()
        return {
            entry.table.label
            for entry in self.job.last.tables
            if entry.as_of == self.calm[1].taken_at and entry.table.label not in self.touched | UNPROVABLE
        }

    def _require_truth(self, but: frozenset[str] = frozenset()) -> None:
        assert self.job.last is not None
        entries = {entry.table.label: entry for entry in self.job.last.tables if entry.status != "dropped"}
        assert entries.keys() == self.truth.keys()
        for label, lines in self.truth.items():
            status, reason = entries[label].status, entries[label].reason
            assert status in ("extracted", "unchanged"), f"{label}: {status}: {reason}"
            if label not in but:
                assert sorted(self.job.landed(label)) == sorted(lines), f"{label} is wrong: {status}, {reason}"

    def _require_proven(self, expected: set[str]) -> None:
        for label in expected & self.truth.keys():
            assert self.job.outcome(label) == ("unchanged", "unchanged"), f"{label}: {self.job.entry(label).reason}"
        self.told["had to be proven"] += len(expected)

    def _count(self, attempts: Counter[str]) -> None:
        assert self.job.last is not None
        self.told["runs"] += 1
        self.told["attempts"] += attempts["RunStarted"]
        self.told["tables"] += len(self.truth)
        self.told["proven chunks"] += attempts["proven chunks"]
        for entry in self.job.last.tables:
            self.told[f"outcome {entry.status}: {entry.reason.code}"] += 1


def _nothing() -> None:
    pass


def photograph(dsn: str, once_begun: Callable[[], None] = _nothing) -> dict[str, list[bytes]]:
    """Every table's lines, as a session sees them that does nothing else; `once_begun` it sees nothing new."""
    with psycopg.connect(dsn, autocommit=True) as session:
        session.execute(_SETTINGS)
        once_begun()
        return {f"public.{name}": _lines(session, name, kind) for name, kind in session.execute(_TABLES).fetchall()}


def _lines(session: psycopg.Connection[Any], name: str, kind: str) -> list[bytes]:
    only = "ONLY " if kind == "r" else ""
    rows = session.execute(f'SELECT row_to_json(whole)::text FROM (SELECT * FROM {only}public."{name}") whole')
    return [row[0].replace("\n", " ").replace("\r", " ").encode() + b"\n" for row in rows]
