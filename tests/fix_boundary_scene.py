"""The database, the job, the oracle and the other session of a boundary test."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

from fix_boundary_acts import PASSWORD, ROLE, RULES, SCENE
from fix_oracle import Camera, faults
from fix_postgres import Cluster, Role
from fix_runs import Nightly
from fix_wire import Session, Wire
from floodmark.events import Observer
from floodmark.pipeline.job import run
from floodmark.state.manifest import Manifest
from floodmark.stop import Stop

# What a move may be answered: the run is in its way, or an earlier move was refused.
_REFUSALS = (
    psycopg.errors.LockNotAvailable,
    psycopg.ProgrammingError,
    psycopg.NotSupportedError,
    psycopg.errors.ObjectNotInPrerequisiteState,
    psycopg.errors.ObjectInUse,
)
# While the world stands still no lock becomes free, so waiting for one is of no use.
_ACTOR = "SET lock_timeout = '5ms'; SET statement_timeout = '20s'"
# Replay can wait for a lock that the run holds, and then the run has to go on first.
_SECONDS_FOR_REPLAY = 0.2
_names = count(1)


class Theatre:
    """Makes scenes on a primary, to be read there or through its standby, from a template that it prepares once."""

    def __init__(self, primary: Cluster, standby: Cluster | None, folder: Path, told: Counter[str]) -> None:
        self.primary, self.standby, self.folder, self.told = primary, standby, folder, told
        primary.admin().execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'")
        self.template = primary.database()
        self.template.execute(SCENE)
        self.template.close()
        self.wire = Wire(lambda: (standby or primary).port, serial=True)

    def scene(self, ready: str) -> Scene:
        return Scene(self, ready)

    def close(self) -> None:
        self.wire.close()
        self.template.drop()
        self.primary.admin().execute(f"DROP ROLE {ROLE}")

    def replayed(self, patience: float = 60) -> bool:
        """Wait until the standby, if there is one, shows all that was done; False if that took too long."""
        if self.standby is None:
            return True
        position, deadline = self.primary.flushed(), time.monotonic() + patience
        query = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
        while self.standby.admin().execute(query, [position]).fetchall() != [(True,)]:
            if time.monotonic() > deadline:
                self.told["replay waited for the run"] += 1
                return False
            time.sleep(0.002)
        return True


class Scene:
    """A fresh database of the service, and its nightly job. Everything that the job asks goes over the wire."""

    def __init__(self, theatre: Theatre, ready: str) -> None:
        self._theatre, self.ready = theatre, ready
        primary, template = theatre.primary, theatre.template
        name = f"{template.name}_{next(_names)}"
        primary.admin().execute(f"CREATE DATABASE {name} TEMPLATE {template.name} STRATEGY file_copy")
        self._database = primary.adopt(name)
        if ready:
            self._database.execute(ready)
        theatre.replayed()
        read = self._database if theatre.standby is None else self._database.on(theatre.standby)
        self._read = read
        self._url = theatre.wire.url_of(Role(read, ROLE, PASSWORD))
        self._actor = self._database.connect(autocommit=True)
        self._actor.execute(_ACTOR)
        self._camera = Camera(read.dsn, RULES, self._settle, unlocked=self._unlocked)
        self._migration: psycopg.Connection[Any] | None = None
        self._lock = ""
        self._act: Callable[[str, int, str], None] = _nothing
        self.forget()
        theatre.wire.before, theatre.wire.after = self._before, self._after

    def close(self) -> None:
        self._camera.close()
        self._read.close()
        self._database.drop()
        shutil.rmtree(self._job.folder, ignore_errors=True)

    def forget(self) -> None:
        """Begin a new destination and a new state."""
        if hasattr(self, "_job"):
            shutil.rmtree(self._job.folder, ignore_errors=True)
        self._job = Nightly(self._read, self._theatre.folder / f"landing_{next(_names)}")

    # The job

    @property
    def statements(self) -> int:
        """How many statements the last run took."""
        return self._theatre.wire.count

    def run(self, observer: Observer, stop: Stop, **changes: Any) -> Manifest:
        self._theatre.wire.count = 0
        given = {"rules": RULES, "connections": 1, "url": self._url, **changes}
        try:
            self._job.last = run(self._job.settings(**given), observer, stop).manifest
        finally:
            self._theatre.wire.check()
        return self._job.last

    def faults(self, *, partial: bool) -> list[str]:
        """What is wrong with what the last run landed."""
        assert self._job.last is not None
        return faults(self._job.last, self._camera.photographs, self._job.landed, partial=partial)

    # Others

    def execute(self, statement: str) -> None:
        """What another session does while no run is at work."""
        self._database.execute(statement)
        self._theatre.replayed()

    def done(self, move: str) -> str | None:
        """Do a move, and return None; or what it was refused for."""
        try:
            self._actor.execute(move)
        except _REFUSALS as refused:
            return type(refused).__name__
        self._settle()
        return None

    @contextmanager
    def acted(self, act: Callable[[str, int, str], None]) -> Iterator[None]:
        """While this lasts, `act` is called before and after each statement of a run."""
        self._act = act
        try:
            yield
        finally:
            self._act = _nothing

    @contextmanager
    def locked(self, *tables: str) -> Iterator[None]:
        """While this lasts, a migration holds these tables."""
        self._lock = f"LOCK TABLE ONLY {', ONLY '.join(tables)} IN ACCESS EXCLUSIVE MODE"
        with psycopg.connect(self._database.dsn) as self._migration:
            self._migrate(self._lock)
            try:
                yield
            finally:
                self._migrate("ROLLBACK")
        self._migration = None

    @contextmanager
    def unshared(self) -> Iterator[None]:
        """While this lasts, no snapshot can be imported, as behind a balancer: one connection reads everything."""
        self._theatre.wire.edit = lambda _, text: text.replace("TRANSACTION SNAPSHOT '0", "TRANSACTION SNAPSHOT 'F")
        try:
            yield
        finally:
            self._theatre.wire.edit = None

    # Inside

    def _before(self, number: int, session: Session, text: str) -> None:
        self._act("before", number, text)
        self._camera.before(session, text)

    def _after(self, number: int, session: Session, text: str) -> None:
        self._camera.after(session, text)
        self._act("after", number, text)

    @contextmanager
    def _unlocked(self) -> Iterator[None]:
        """While this lasts, the migration holds nothing: the world stands still, so the run does not notice."""
        if self._migration is None:
            yield
            return
        self._migrate("ROLLBACK")
        yield
        self._migrate(self._lock)

    def _migrate(self, statement: str) -> None:
        assert self._migration is not None
        self._migration.execute(statement)
        self._settle()

    def _settle(self) -> None:
        self._theatre.replayed(_SECONDS_FOR_REPLAY)


def _nothing(when: str, number: int, text: str) -> None:
    """Let the run alone."""
