"""A service's database, what can happen to it, and a nightly job that is held against it after every run.

Every table's entry in a manifest is held against the photograph of its own moment (`fix_oracle`), also if that is an
earlier run's. What a standby shows is held against what its primary held when the standby caught up with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from fix_acts import Act, alone, statements, touches
from fix_journal import REMOVE_IF_THERE, USER_TABLES, enable_sql, install_sql, pass_bucket
from fix_judge import Judge
from fix_meanwhile import PLAIN, Died, Lock, Manner, Watched
from fix_oracle import Lines, Photograph
from fix_postgres import Cluster, PgDatabase
from fix_runs import Nightly
from fix_service import RULES, SERVICE
from fix_summaries import SecondOpinion, remove_summaries, summarize
from fix_wire import Wire
from floodmark.errors import ConfigError, SourceError, Stopped
from floodmark.native import usual_encoder
from floodmark.pipeline import observe
from floodmark.pipeline.job import run

# The answers of a server when others hold what an act wants, or did before what it wants to do.
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
    psycopg.errors.DependentObjectsStillExist,
)


class History:
    """One database from its birth, on a primary and perhaps seen through its standby."""

    def __init__(
        self,
        primary: Cluster,
        folder: Path,
        told: Counter[str],
        standby: Cluster | None = None,
        *,
        journal: bool = False,
        summaries: bool = False,
    ) -> None:
        self.primary, self.standby, self.told, self.journal = primary, standby, told, journal
        self.summaries = summaries
        self.database = primary.database()
        self.lagging = False
        if standby is not None:
            standby.resume()
        self.database.execute(SERVICE)
        self.job = Nightly(self.database, folder / self.database.name)
        self.open: list[psycopg.Connection[Any]] = []
        self.prepared: list[str] = []
        self.numbers = iter(range(1, 10**6))
        self.judge = Judge(self.job, told)
        # What was touched since the standby stood still, and what it shows for that long.
        self.behind: set[str] = set()
        self.reference: dict[str, Lines] = {}
        self.statements: dict[tuple[bool, bool], int] = {}
        if journal:
            self.install_journal()

    # Acts

    def act(self, act: Act) -> None:
        """Other sessions' work, committed at once, or refused because yet others are in the way."""
        self.touch(touches(act))
        with self._session() as session:
            self._play(session, alone(act, next(self.numbers)), act.kind)

    def leave_open(self, act: Act) -> None:
        """A transaction that has done something and goes on."""
        if len(self.open) >= 3:
            return
        self.touch(touches(act))
        session = self._session(autocommit=False)
        if self._play(session, statements(act, next(self.numbers)), act.kind):
            self.open.append(session)
        else:
            session.close()

    def end_open(self, which: int, how: str) -> None:
        """End a transaction that was left open. It can have written any table."""
        if self.open:
            session = self.open.pop(which % len(self.open))
            self.touch({"*"})
            with suppress(psycopg.OperationalError):  # the server may have been restarted since
                session.execute(how)
            session.close()

    def prepare(self, act: Act) -> None:
        if len(self.prepared) >= 3:
            return
        self.touch(touches(act))
        gid = f"{self.database.name}_{next(self.numbers)}"
        with self._session() as session:
            made = ["BEGIN", *statements(act, next(self.numbers)), f"PREPARE TRANSACTION '{gid}'"]
            if self._play(session, made, act.kind):
                self.prepared.append(gid)

    def end_prepared(self, which: int, how: str) -> None:
        if self.prepared:
            self.touch({"*"})
            self.database.execute(f"{how} PREPARED '{self.prepared.pop(which % len(self.prepared))}'")

    def interrupt(self, how: str) -> None:
        """Restart, or crash and recover: the primary, or the standby, which then follows its primary again."""
        server = self.standby if how == "standby" and self.standby is not None else self.primary
        if how == "backend":
            server.crash_backend()
        elif how == "power":
            server.crash()
            server.start()
        else:
            server.restart()
        self.judge.interrupt()
        self.told[f"interrupted: {how}"] += 1
        self.database.close()
        if server is self.primary:
            for session in self.open:
                session.close()
            self.open.clear()
        else:
            self.lagging = False

    def lag(self, lagging: bool) -> None:
        """From now on the standby shows what it shows now, or follows again."""
        if self.standby is None or lagging == self.lagging:
            return
        self._catch_up()
        if lagging:
            self._stand_still()
        self.lagging = lagging

    def install_journal(self) -> None:
        """Install the journal anew, and turn it on for all tables."""
        self.database.execute(f"{REMOVE_IF_THERE}; {install_sql()}")
        tables = self.database.query(USER_TABLES)
        self.database.execute("; ".join(enable_sql(name) for (name,) in tables))

    def quiet_nights(self, *, through_standby: bool = False) -> None:
        """Put the journal in order, if nobody is at work, and let nights pass in which nothing happens.

        The second run must prove every table by the journal.
        """
        if not self.journal or self.open or self.prepared:
            return
        self.install_journal()
        for _ in range(2):
            pass_bucket(self.database)
            self.run(through_standby=through_standby)
        pass_bucket(self.database)
        self.run(through_standby=through_standby, by_journal=not self.lagging)

    def summarize(self, how: str) -> None:
        """End the open WAL summary, or lose all summaries."""
        if how == "checkpoint":
            summarize(self.primary)
        else:
            remove_summaries(self.primary)
        self.told[f"summaries: {how}"] += 1

    def unwritten_nights(self) -> None:
        """Let nights pass in which nothing is written, if nobody is at work. The second run must count no row."""
        if self.open or self.prepared:
            return
        summarize(self.primary)
        self.run()
        summarize(self.primary)
        self.run()
        before = self.told["chunks without a written block"]
        self.run()
        assert self.told["chunks without a written block"] > before
        self.told["unwritten nights"] += 1

    def touch(self, labels: set[str]) -> None:
        self.behind |= labels
        self.judge.touch(labels)

    # Runs

    def run(
        self,
        manner: Manner = PLAIN,
        *,
        through_standby: bool = False,
        lock: Lock | None = None,
        by_journal: bool = False,
    ) -> None:
        """Run, and hold what landed against what the source held at the moments that the manifest names."""
        source = self._source(through_standby)
        watched = Watched(self, source, manner, lock)
        expected = set() if manner.full else self.judge.to_be_proven(source.dsn)
        selected = self._selected(source, manner)
        try:
            self._run(watched, selected)
        except SourceError as error:
            # A standby ends those who are in the way of replay, and a server that crashed all.
            assert watched.crashed or (watched.disturbed and source is not self.database), error
            self.told["a crash or a recovery conflict ended a run"] += 1
            return
        except (Died, Stopped):
            self.told["a run was stopped"] += 1
            return
        except ConfigError as error:
            assert watched.disturbed and manner.only, error  # a table that it named is gone
            return
        finally:
            watched.close()
            if source is not self.database and self.standby is not None and not self.lagging:
                self.standby.resume()
        self.judge.require_truth(set(selected), watched.held, watched.attempts)
        if not watched.disturbed and not watched.crashed:
            self.judge.require_proven(expected, by_journal)
        self.told["runs"] += 1
        self.told[f"runs with lines {'of our own' if manner.native else 'of the server'}"] += 1
        self.told["attempts"] += watched.attempts
        self.told["proven chunks"] += watched.proven

    def run_locked(self, table: str, act: Act, lock: Lock) -> None:
        """Run while a migration holds the table, whose size can't be measured then; it lets go a moment later, or
        when the run is over."""
        session = self._session(autocommit=False)
        self.touch({"*"})
        if self._locked(session, table, act):
            lock.session = session
            try:
                self.run(Manner(connections=2), lock=lock)
            finally:
                self.touch({"*"})  # it was cut as an estimate said
        session.close()

    def close(self) -> None:
        for session in self.open:
            session.close()
        self.lag(False)
        self.database.drop()

    # Inside

    def _run(self, watched: Watched, selected: tuple[str, ...]) -> None:
        manner, source = watched.manner, watched.source
        with self._second_opinion(), Wire(lambda: source.server.port, serial=manner.serial) as wire:
            wire.before, wire.after = watched.before, watched.after
            try:
                settings = self.job.settings(
                    url=wire.url_of(source),
                    only=selected,
                    encoder=usual_encoder() if manner.native else "server",
                    connections=manner.connections,
                    audit_share=manner.audit,
                    full=manner.full,
                    lock_timeout=1 if watched.lock is not None and watched.lock.to_the_end else 60,
                    rules=RULES,
                    detect="journal" if self.journal else "exact",
                )
                self.job.last = run(settings, watched.observe, watched.stop).manifest
            finally:
                wire.check()
        self.statements[watched.likeness] = wire.count

    @contextmanager
    def _second_opinion(self) -> Iterator[None]:
        """Count what WAL summaries prove, and let every second run ask for a checkpoint."""
        with pytest.MonkeyPatch.context() as patch:
            if self.summaries:
                SecondOpinion(self.told, patch)
                if next(self.numbers) % 2:
                    patch.setattr(observe, "BYTES_FOR_A_CHECKPOINT", 0)
            yield

    def _session(self, *, autocommit: bool = True) -> psycopg.Connection[Any]:
        session = psycopg.connect(self.database.dsn, autocommit=True)
        session.execute("SET lock_timeout = '100ms'; SET statement_timeout = '20s'")
        session.autocommit = autocommit
        return session

    def _play(self, session: psycopg.Connection[Any], made: list[str], kind: str) -> bool:
        """Return True if all of it was done."""
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

    # The standby

    def _source(self, through_standby: bool) -> PgDatabase:
        """The database to read: on a standby that has caught up and stands still, unless it lags anyway."""
        if not through_standby or self.standby is None:
            return self.database
        if not self.lagging:
            self._catch_up()
            self._stand_still()
        return self.database.on(self.standby)

    def _catch_up(self) -> None:
        assert self.standby is not None
        self.standby.resume()
        self.standby.wait_for(self.primary)

    def _stand_still(self) -> None:
        """Stop replay; the standby shows from now on what the primary holds now."""
        assert self.standby is not None
        self.standby.pause()
        self.behind = set()
        self.reference = Photograph(self.database.dsn, RULES).tables

    def require_no_damage(self, photograph: Photograph) -> None:
        """Reading a standby must not change what it shows: what its primary held when it stood still."""
        for label, lines in self.reference.items():
            assert sorted(photograph.tables[label]) == sorted(lines), f"{label} is damaged on the standby"

    def _selected(self, source: PgDatabase, manner: Manner) -> tuple[str, ...]:
        """The tables that the run is told to keep to, of those that there are."""
        if not manner.only:
            return ()
        asked = "SELECT nspname || '.' || relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
        with psycopg.connect(source.dsn, autocommit=True) as session:
            rows = session.execute(f"{asked} WHERE relkind IN ('r', 'p') AND NOT relispartition").fetchall()
        return tuple(label for label in manner.only if (label,) in rows)
