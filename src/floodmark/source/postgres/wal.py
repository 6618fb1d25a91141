"""The blocks that were written before a snapshot, by the server's WAL summaries (PostgreSQL 17 and later, primaries).

An ordinary role may read them. Everything is asked in the transaction that holds the snapshot, so it is the very same
server. The functions read files, not tables: they tell the present, not the snapshot.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from msgspec import Struct

from floodmark.model import WalBase
from floodmark.observed import BlockQuestion, WrittenBlocks
from floodmark.source.base import Coverage
from floodmark.source.postgres.statements import literal
from floodmark.source.postgres.summaries import (
    Checkpoint,
    WalEnd,
    WalSummary,
    covering,
    lsn_position,
    lsn_text,
    parse_checkpoint,
)

Connection = psycopg.Connection[Any]

# The first version with summaries.
SUMMARIES_FROM = 170000
_CHECKPOINT = "SELECT timeline_id, redo_lsn, next_xid, oldest_active_xid FROM pg_control_checkpoint()"
_FACTS = """
SELECT pg_current_wal_insert_lsn(), pg_has_role('pg_checkpoint', 'USAGE'),
       EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_surgery'),
       has_function_privilege('pg_available_wal_summaries()', 'EXECUTE')
       AND has_function_privilege('pg_wal_summary_contents(bigint, pg_lsn, pg_lsn)', 'EXECUTE')"""
_SUMMARIES = "SELECT tli, start_lsn, end_lsn FROM pg_available_wal_summaries() WHERE end_lsn > {}::pg_lsn"
_AGE = """
SELECT extract(epoch FROM clock_timestamp() - checkpoint_time),
       (SELECT setting FROM pg_settings WHERE name = 'checkpoint_timeout') FROM pg_control_checkpoint()"""
# A limit's number is a block, any other number is a group of blocks. Rows live in the main fork only. A change of the
# whole database has no file. The tablespace is not compared: a number that is used in another one costs a count.
_WRITTEN = """
SELECT DISTINCT c.relfilenode::bigint, c.is_limit_block,
       CASE WHEN c.is_limit_block THEN c.relblocknumber ELSE c.relblocknumber / f.grain END
FROM (VALUES {summaries}) AS s (tli, start_lsn, end_lsn)
CROSS JOIN LATERAL pg_wal_summary_contents(s.tli, s.start_lsn, s.end_lsn) AS c
LEFT JOIN (VALUES {files}) AS f (file, grain) ON f.file = c.relfilenode
WHERE c.reldatabase = {database} AND c.relforknumber = 0 AND (f.file IS NOT NULL OR c.relfilenode = 0)"""
# The server goes on with a checkpoint after the statement was cancelled.
_PATIENCE_FOR_A_CHECKPOINT = 2  # seconds
_PATIENCE_FOR_SUMMARIES = 30
_NO_LONGER = "the server's WAL summaries could not be read"
_TOO_LONG = "the server's WAL summaries list so much that a count is faster"


class WalFacts(Struct, frozen=True):
    """The WAL of a server, as asked right after a snapshot was taken. `end` tells how far the WAL matters."""

    checkpoint: Checkpoint
    end: WalEnd
    may_checkpoint: bool


def read_wal(connection: Connection, xmax: int) -> WalFacts | None:
    """Return the facts about the WAL for the transaction's snapshot, None if its summaries can't be read.

    The transaction must have its snapshot already: the position of the WAL has to be a later one.
    """
    try:
        with _savepoint(connection):
            (checkpoint,) = connection.execute(_CHECKPOINT).fetchall()
            ((inserted, may_checkpoint, surgery, readable),) = connection.execute(_FACTS).fetchall()
    except psycopg.Error:
        if connection.closed:
            raise
        return None
    if not readable:
        return None
    end = WalEnd(xmax, lsn_position(inserted), surgery)
    return WalFacts(parse_checkpoint(*checkpoint), end, may_checkpoint)


class WalLog:
    """The list of written blocks of one snapshot; `floodmark.source.base.BlockLog` states its obligations.

    No statement takes longer than `wait` seconds, if that is set.
    """

    def __init__(self, connection: Connection, database: int, facts: WalFacts, wait: int) -> None:
        self._connection, self._database, self._facts = connection, database, facts
        self._patience = wait or _PATIENCE_FOR_SUMMARIES
        self._end = facts.end.position(facts.checkpoint)
        self._checkpoint = facts.checkpoint

    @property
    def may_checkpoint(self) -> bool:
        return self._facts.may_checkpoint

    def coverage(self, base: WalBase) -> Coverage:
        try:
            return self._covering(base)[0]
        except psycopg.Error:
            return "broken"

    def seconds_until_complete(self) -> float | None:
        """Return 0 if the checkpoint that ends the summary has begun, else the time to the next one by the clock."""
        if self._end <= self._checkpoint.redo:
            return 0.0
        try:
            with _savepoint(self._connection):
                ((age, timeout),) = self._connection.execute(_AGE).fetchall()
        except psycopg.Error:
            return None
        return float(timeout) - float(age) % float(timeout)

    def checkpoint(self) -> None:
        try:
            with _savepoint(self._connection, min(self._patience, _PATIENCE_FOR_A_CHECKPOINT)):
                self._connection.execute("CHECKPOINT")
        except psycopg.Error:
            return  # it goes on, or the right is gone: `coverage` shows which

    def written(self, question: BlockQuestion, seconds: float) -> WrittenBlocks:
        try:
            coverage, summaries = self._covering(question.base)
            if coverage != "complete":
                return WrittenBlocks(doubt=_WHY[coverage])
            return self._read(question.grains, summaries, seconds) if summaries else WrittenBlocks()
        except psycopg.errors.QueryCanceled:
            return WrittenBlocks(doubt=_TOO_LONG)
        except psycopg.Error as error:
            return WrittenBlocks(doubt=f"{_NO_LONGER} ({type(error).__name__})")

    def _covering(self, base: WalBase) -> tuple[Coverage, Sequence[WalSummary]]:
        with _savepoint(self._connection):
            (row,) = self._connection.execute(_CHECKPOINT).fetchall()
            found = self._connection.execute(_SUMMARIES.format(literal(base.lsn))).fetchall()
        self._checkpoint = parse_checkpoint(*row)
        if self._checkpoint.timeline != base.timeline:
            return "broken", ()
        self._end = min(self._end, self._facts.end.position(self._checkpoint))
        summaries = (WalSummary(tli, lsn_position(start), lsn_position(end)) for tli, start, end in found)
        return covering(summaries, base, self._end)

    def _read(self, grains: Mapping[int, int], summaries: Sequence[WalSummary], seconds: float) -> WrittenBlocks:
        statement = _WRITTEN.format(
            summaries=", ".join(_summary_sql(one) for one in summaries),
            files=", ".join(f"({file}::oid, {grain}::bigint)" for file, grain in grains.items()),
            database=self._database,
        )
        ranges: dict[int, set[tuple[int, int]]] = {}
        limits: dict[int, int] = {}
        with _savepoint(self._connection, min(self._patience, seconds)):
            for file, is_limit, number in self._connection.execute(statement):
                if file == 0:
                    return WrittenBlocks(doubt="the database was copied or moved")
                if is_limit:
                    limits[file] = min(number, limits.get(file, number))
                else:
                    start = number * grains[file]
                    ranges.setdefault(file, set()).add((start, start + grains[file]))
        return WrittenBlocks({file: tuple(sorted(found)) for file, found in ranges.items()}, limits)


_WHY: dict[Coverage, str] = {
    "pending": "the server's WAL summaries do not reach this snapshot yet",
    "broken": "the server's WAL summaries do not reach back to the last reading without a gap",
}


def _summary_sql(summary: WalSummary) -> str:
    start, end = (literal(lsn_text(position)) for position in (summary.start, summary.end))
    return f"({summary.timeline}::bigint, {start}::pg_lsn, {end}::pg_lsn)"


@contextmanager
def _savepoint(connection: Connection, seconds: float | None = None) -> Iterator[None]:
    """Undo all that happens inside but what was read: settings, locks, and a failure."""
    limit = "" if seconds is None else f"; SET LOCAL statement_timeout = {max(1, round(1000 * seconds))}"
    connection.execute(f"SAVEPOINT wal{limit}")
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute("ROLLBACK TO SAVEPOINT wal; RELEASE SAVEPOINT wal")
