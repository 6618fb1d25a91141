"""One moment of a server: its connections, their transactions, and the evidence of what names mean at that moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from time import sleep

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import Connection, Engine

from floodmark.config import Limits
from floodmark.errors import SourceError
from floodmark.source.base import Drawback
from floodmark.source.mysql.connect import pin_session
from floodmark.source.mysql.identity import (
    Counters,
    Evidence,
    is_fresh,
    none_in_progress,
    read_counters,
    read_evidence,
)
from floodmark.source.mysql.locks import LockWatch
from floodmark.source.mysql.refusals import is_lost, number_of
from floodmark.source.mysql.transactions import SharedMoment, start_shared

_TRIES_TO_SETTLE = 5
_TOO_MANY = (1040, 1203, 1226)
_OLDEST = {True: (10, 4), False: (8, 0)}
_LOCKS_STAY = Drawback(
    "the role can't switch its binary log off, so its metadata locks last longer than a chunk: if a migration waits "
    "for one, Floodmark gives the connection up, and a run might need another snapshot.",
    "GRANT BINLOG ADMIN ON *.* TO the user.",
    topic="metadata locks",
)
_NO_PROCESS = Drawback(
    "the role can't see InnoDB's table ids: if a table is altered or renamed anywhere on the server, a run takes a new "
    "snapshot, and it can't see a partition exchange that began before the run.",
    "GRANT PROCESS ON *.* TO the user.",
    topic="table ids",
)


class Server(Struct, frozen=True):
    """The facts about a server that only an administrator changes."""

    maria: bool
    version: str
    log_bin: bool
    sql_mode: str


class Moment(Struct, frozen=True):
    """A snapshot's connections, and what is known about it apart from its rows.

    `evidence` are the tables that were there before the snapshot and after it. Those of them that could have changed in
    between are `unsettled`. Those that were written in the snapshot's second are `fresh`: their evidence tells nothing
    once the counters change. `counters` are older than the snapshot. `watch` is set if locks outlive their task.
    """

    server: Server
    connections: tuple[Connection, ...]
    taken_at: datetime
    consistency: str
    drawbacks: tuple[Drawback, ...]
    counters: Counters
    evidence: Mapping[str, Evidence]
    unsettled: frozenset[str]
    fresh: frozenset[str]
    watch: LockWatch | None = None

    @property
    def shows_ids(self) -> bool:
        """Return True if the role may see InnoDB's ids of tables."""
        return _shows_ids(self.evidence)


class _Settled(Struct, frozen=True):
    shared: SharedMoment
    taken_at: datetime
    counters: Counters
    evidence: dict[str, Evidence]
    unsettled: frozenset[str]
    fresh: frozenset[str]


def take_moment(engine: Engine, connections: int, database: str, limits: Limits) -> Moment:
    """Take a snapshot on up to `connections` connections, with the help of one more. A driver's errors pass through.

    If it raises, it leaves no connection open.
    """
    opened = [engine.connect()]
    try:
        server = _read_server(opened[0])
        opened += _more_connections(engine, connections)
        for one in opened:
            pin_session(one, limits, server.maria)
        # The catalog waits that long for each table that another session holds exclusively.
        opened[0].exec_driver_sql("SET SESSION lock_wait_timeout = 1")
        return _moment(opened[0], opened[1:], server, database)
    except BaseException:
        for one in opened:
            _close(one)
        raise


def _moment(helper: Connection, workers: Sequence[Connection], server: Server, database: str) -> Moment:
    released = [_lets_go(one, server) for one in workers]
    settled = _settle(workers, helper, server, database)
    shared = settled.shared
    watch = None if all(released) else LockWatch(shared.connections, helper)
    for one in (*workers, helper):
        if one not in shared.connections and (one is not helper or watch is None):
            _close(one)
    drawbacks = [] if shared.drawback is None else [shared.drawback]
    found = Moment(
        server, shared.connections, settled.taken_at, shared.how, (), settled.counters, settled.evidence,
        settled.unsettled, settled.fresh, watch,
    )  # fmt: skip
    drawbacks += [] if all(released) else [_LOCKS_STAY]
    drawbacks += [] if found.shows_ids else [_NO_PROCESS]
    return replace(found, drawbacks=tuple(drawbacks))


def _settle(workers: Sequence[Connection], helper: Connection, server: Server, database: str) -> _Settled:
    """Take snapshots until no table could have changed its meaning while one was taken.

    A table that was written in the same second is one of those, so this can last until the next second begins.
    """
    for left in reversed(range(_TRIES_TO_SETTLE)):
        counters, at_rest = read_counters(helper), none_in_progress(helper)
        before = read_evidence(helper, database, server.maria)
        taken_at = _time_of(helper)
        shared = start_shared(workers, helper, server.maria)
        after = read_evidence(helper, database, server.maria)
        kept = {name: now for name, now in after.items() if name in before}
        nothing_began = read_counters(helper) == counters
        quiet = nothing_began and at_rest and _shows_ids(before)
        fresh = {name for name, now in kept.items() if is_fresh(now, taken_at)}
        unsettled = {name for name, now in kept.items() if now != before[name]} | (set() if quiet else fresh)
        found = _Settled(shared, taken_at, counters, kept, frozenset(unsettled), frozenset(fresh))
        settling = any(kept[name].written is not None for name in unsettled)  # the others are locked, maybe for long
        if not left or (not settling and nothing_began):
            break
        sleep((timedelta(seconds=1.01) - timedelta(microseconds=_time_of(helper).microsecond)).total_seconds())
    return found


def _shows_ids(evidence: Mapping[str, Evidence]) -> bool:
    return all(one.ids is not None for one in evidence.values())


def _read_server(connection: Connection) -> Server:
    """Return the facts about the server. Raises SourceError if it is too old."""
    question = "SELECT VERSION(), @@version_comment, @@log_bin, @@GLOBAL.sql_mode"
    ((version, comment, log_bin, sql_mode),) = connection.exec_driver_sql(question).all()
    maria = "mariadb" in f"{version} {comment}".lower()
    number = str(version).split("-")[0]
    parts = tuple(int(part) for part in number.split(".")[:2] if part.isdigit())
    if parts < _OLDEST[maria]:
        raise SourceError(
            "this server is not supported",
            why=f"{'MariaDB' if maria else 'MySQL'} {number}",
            hint="Floodmark reads MariaDB 10.4 and later, and MySQL 8.0 and later.",
        )
    return Server(maria, number, bool(int(log_bin)), str(sql_mode))


def _time_of(connection: Connection) -> datetime:
    ((now,),) = connection.exec_driver_sql("SELECT CAST(UTC_TIMESTAMP(6) AS CHAR)").all()
    return datetime.fromisoformat(f"{now}+00:00")


def _more_connections(engine: Engine, number: int) -> list[Connection]:
    """Return that many connections, or at least one if the server accepts no more."""
    found: list[Connection] = []
    try:
        for _ in range(number):
            found.append(engine.connect())
    except Exception as error:
        if not found or number_of(error) not in _TOO_MANY:
            for one in found:
                _close(one)
            raise
    return found


def _lets_go(connection: Connection, server: Server) -> bool:
    """Return True if a rollback to a savepoint will release the metadata locks of this session: see `locks`."""
    if not (server.maria and server.log_bin):
        return True
    try:
        connection.exec_driver_sql("SET SESSION sql_log_bin = 0")
    except Exception as error:
        if is_lost(error):
            raise
        return False
    return True


def _close(connection: Connection) -> None:
    with suppress(Exception):
        connection.close()
