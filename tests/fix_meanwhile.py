"""Runs of a history, and what other sessions do before and after their statements."""

from __future__ import annotations

import signal
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

import psycopg
from msgspec import Struct

from fix_acts import Act
from fix_oracle import Camera, Photograph
from fix_postgres import PgDatabase
from fix_service import RULES
from fix_wire import Session
from floodmark.events import ChunkDone, Event, RunStarted, TableDecided
from floodmark.stop import Stop

if TYPE_CHECKING:
    from fix_history import History

# An act is waited for on the standby for a little longer than a conflict with the run delays its replay.
_PATIENCE = 1.5
_USUAL_STATEMENTS = 100


class Place(Struct, frozen=True):
    """Before or after a statement of a run: `number` says which, in thousandths of all that the last such run sent."""

    number: int
    before: bool


class Meanwhile(Struct, frozen=True):
    """What another session does at a place. A standby that is read has replayed it if `replayed`, or may have."""

    place: Place
    act: Act
    replayed: bool = True


class End(Struct, frozen=True):
    """How a run ends too early: at an event of one chunk or table, in thousandths of its statements."""

    number: int
    how: Literal["dies", "is told to stop", "loses its server"]


class Manner(Struct, frozen=True):
    """How a run is made, and what happens during it. `only`: the tables that it keeps to. `native`: who makes lines."""

    meanwhile: tuple[Meanwhile, ...] = ()
    only: tuple[str, ...] = ()
    connections: int = 4
    serial: bool = True
    audit: float = 0.0
    full: bool = False
    end: End | None = None
    native: bool = True


PLAIN = Manner()


class Died(Exception):
    """The run's process dies, as far as a test can tell."""


class Lock:
    """A migration's session that holds a table, and ends by `how`: soon, or `to_the_end` of the run."""

    def __init__(self, how: str, to_the_end: bool) -> None:
        self.how, self.to_the_end = how, to_the_end
        self.session: psycopg.Connection[Any] | None = None

    def let_go(self) -> None:
        if self.session is not None:
            self.session.execute(self.how)


class Watched:
    """One run of a history while it lasts: its photographs, what is done at its statements, what its events tell."""

    def __init__(self, history: History, source: PgDatabase, manner: Manner, lock: Lock | None) -> None:
        self.history, self.source, self.manner, self.lock = history, source, manner, lock
        self.through_standby = source is not history.database
        self.likeness = (self.through_standby, bool(manner.only))
        self.attempts = self.proven = 0
        self.crashed = self.disturbed = False
        self.held: set[str] = set()
        self.stop = Stop()
        usual = history.statements.get(self.likeness, _USUAL_STATEMENTS)
        due = [(1 + one.place.number * usual // 1000, not one.place.before, one) for one in manner.meanwhile]
        self._due = sorted(due, key=lambda place: place[:2])
        self._end = None if manner.end is None else 1 + manner.end.number * usual // 1000
        self._camera = Camera(source.dsn, RULES, self._freeze, self._taken)
        self._timer: threading.Timer | None = None
        self.statement = 0

    # Hooks of the wire

    def before(self, number: int, session: Session, text: str) -> None:
        self._camera.before(session, text)
        self._act(number, after=False)

    def after(self, number: int, session: Session, text: str) -> None:
        self._camera.after(session, text)
        self._act(number, after=True)
        self.statement = number
        if self._ends(number, "loses its server"):
            self.crashed = True
            self.history.interrupt("standby" if self.through_standby else "backend")
        elif self._ends(number, "is told to stop"):
            self.stop.ask(signal.SIGTERM)

    def _ends(self, number: int, how: str) -> bool:
        """Return True once: when the run has come so far that it ends like that."""
        if self._end is None or self.manner.end is None or self.manner.end.how != how or number < self._end:
            return False
        self._end = None
        return True

    def _act(self, number: int, *, after: bool) -> None:
        while self._due and self._due[0][:2] <= (number, after):
            one = self._due.pop(0)[2]
            self.disturbed = True
            for photograph in self.photographs.values():
                photograph.disturbed = True
            self.history.act(one.act)
            standby = self.history.standby
            if standby is not None and one.replayed and self.through_standby and not self.history.lagging:
                with suppress(AssertionError):  # it stands still until the snapshot is taken
                    standby.wait_until(self.history.primary.flushed(), _PATIENCE)

    # Snapshots

    @property
    def photographs(self) -> dict[str, Photograph]:
        return self._camera.photographs

    def _freeze(self) -> None:
        if self.through_standby and self.history.standby is not None:
            self.history.standby.pause()

    def _taken(self, photograph: Photograph) -> None:
        self.history.judge.add(photograph)
        photograph.disturbed = self.disturbed
        if self.through_standby and self.history.standby is not None:
            photograph.touched |= self.history.behind
            if len(self.photographs) == 1:
                self.history.require_no_damage(photograph)
            if not self.history.lagging:
                self.history.standby.resume()
        self.held |= photograph.labels - photograph.tables.keys()
        if self.lock is not None and self._timer is None and not self.lock.to_the_end:
            self._timer = threading.Timer(0.3, self._let_go)
            self._timer.start()

    def _let_go(self) -> None:
        if self.lock is not None:
            self.lock.let_go()
        for photograph in self.photographs.values():
            photograph.complete()

    # Events

    def observe(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self.attempts = event.attempt  # an earlier one can have lost the server before it said that it began
            point, photograph = event.point, self.photographs[event.point.taken_at]
            assert (photograph.xmin, photograph.xmax) == (point.xmin, point.xmax), "it is of another moment"
            photograph.calm = point.xmin == point.xmax and not (self.through_standby and self.history.lagging)
        elif isinstance(event, TableDecided):
            self.proven += event.chunks - event.to_extract
        if isinstance(event, ChunkDone | TableDecided) and self._ends(self.statement, "dies"):
            raise Died

    def close(self) -> None:
        """The run is over: what still waited for that is done, and every photograph is complete."""
        if self._timer is not None:
            self._timer.join()
        elif self.lock is not None:
            self._let_go()
        self._camera.close()
