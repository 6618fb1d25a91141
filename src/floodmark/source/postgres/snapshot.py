"""PostgreSQL as a source: one exported snapshot, and the questions that it can answer."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

import psycopg
from msgspec.structs import replace

from floodmark.config import Limits, Secret, Selection
from floodmark.errors import ConfigError, SourceError
from floodmark.lineage import same_history
from floodmark.model import Chunk, Format, SourceIdentity, TableName
from floodmark.native import EncoderName, usual_encoder
from floodmark.observed import Extracted, Observation, Part, Question, TableInfo
from floodmark.source.base import BlockLog, Diagnosis, Drawback, NamedRelation, Write
from floodmark.source.masks import mask_identity
from floodmark.source.postgres import together
from floodmark.source.postgres.address import ServerAddress, address
from floodmark.source.postgres.catalog import read_tables
from floodmark.source.postgres.chunk_reader import ChunkReader, answer_one
from floodmark.source.postgres.connect import translated
from floodmark.source.postgres.coordinator import Connection, Coordinator
from floodmark.source.postgres.identity import ExpectedReads, LockedRelation, oids
from floodmark.source.postgres.journal import with_journal
from floodmark.source.postgres.masks import mask_settings
from floodmark.source.postgres.native_rows import choose_line_maker
from floodmark.source.postgres.relations import read_existing
from floodmark.source.postgres.rule_check import require_usable
from floodmark.source.postgres.shared import SharedPostgres
from floodmark.source.postgres.statements import (
    PgTable,
    locked_relations,
    observe_together,
    plan_only,
)
from floodmark.source.postgres.transactions import SnapshotTransactions
from floodmark.source.postgres.versions import lacks_something
from floodmark.source.postgres.wal import WalLog, read_wal
from floodmark.source.selection import TableChoice

_TRIES_FOR_THE_SAME_SERVER = 8
# A rollback to a savepoint releases the locks that were taken after it.
_SCOPE = "SAVEPOINT questions"
_LET_GO = "ROLLBACK TO SAVEPOINT questions"
_PLANNED = "its indexes or statistics call a function that reads another table, or could not be inspected"


class PostgresSource:
    """A PostgreSQL database, version 14 or later, primary or hot standby."""

    def __init__(
        self,
        url: Secret | None,
        limits: Limits,
        mask_key: Secret | None,
        row_format: Format = "jsonl",
        encoder: EncoderName | None = None,
    ) -> None:
        self._where = address(url)
        self._limits = limits
        self._format = row_format
        self._encoder = encoder or usual_encoder()
        self._settings = mask_settings(mask_key) if mask_key is not None else {}
        self._mask = mask_identity(mask_key) if mask_key is not None else None

    @property
    def label(self) -> str:
        return self._where.label

    def diagnose(self) -> Sequence[Diagnosis]:
        """Return nothing: `doctor.server` asks more of a PostgreSQL server than fits here."""
        return ()

    def snapshot(self) -> PostgresSnapshot:
        return PostgresSnapshot(self._where, self._limits, self._settings, self._format, self._encoder, self._mask)


class PostgresSnapshot:
    """One moment of a PostgreSQL database; `floodmark.source.base.Snapshot` states its obligations."""

    def __init__(
        self,
        where: ServerAddress,
        limits: Limits,
        settings: dict[str, str],
        row_format: Format,
        encoder: EncoderName,
        mask: str | None,
    ) -> None:
        self._where = where
        self._limits = limits
        self._format = row_format
        self._mask = mask
        self._coordinator = Coordinator(where, limits, settings)
        self._transactions = SnapshotTransactions(self._coordinator, where, limits, settings)
        try:
            self.line_maker = choose_line_maker(self._coordinator.connection, encoder)
        except BaseException as error:
            self.close()
            if isinstance(error, psycopg.Error):
                raise translated(error, "can't read the catalog", where.label) from None
            raise
        point, name = self._coordinator.exported.point, self.line_maker.name
        self._reader = ChunkReader(self._transactions, self._database, point.xmin or 0, name, row_format)
        self._tables: dict[TableName, PgTable] = {}
        self.choice = TableChoice()
        self.point = point
        self.block_log: BlockLog | None = None
        if self._coordinator.exported.summarizes:
            self._read_wal()

    @property
    def identity(self) -> SourceIdentity:
        return self._coordinator.exported.identity

    @property
    def default_schema(self) -> str:
        return "public"

    @property
    def parallelism(self) -> int:
        return self._transactions.parallelism

    @property
    def drawbacks(self) -> Sequence[Drawback]:
        return self._transactions.drawbacks

    def _read_wal(self) -> None:
        """Ask for the WAL after the snapshot was taken: all that it shows was written before."""
        connection, xmax = self._coordinator.connection, self.point.xmax
        try:
            facts = None if xmax is None else read_wal(connection, xmax)
        except psycopg.Error as error:
            self.close()
            raise translated(error, "can't take a snapshot", self._where.label) from None
        if facts is not None:
            self.block_log = WalLog(connection, self._database, facts, self._limits.wal_summary_wait)
            self.point = replace(self.point, wal=facts.checkpoint.base)

    def tables(self, selection: Selection, encoding_digest: str) -> list[TableInfo]:
        self.choice, read = self._read(self._coordinator, selection, encoding_digest)
        try:
            for table in read:
                require_usable(self._coordinator.connection, table, self._format)
            measured = [self._with_measured_locks(table) for table in read]
            found = with_journal(self._coordinator.connection, self._database, measured)
        except psycopg.Error as error:  # the connection broke
            raise translated(error, "can't read the catalog", self._where.label) from None
        self._tables = {table.info.table: table for table in found}
        return [table.info for table in found]

    def _with_measured_locks(self, table: PgTable) -> PgTable:
        """Measure the locks that planning takes for each part, if it can call a user's function.

        If planning locks other relations, the locks can't show which one is read: then nothing is proven.
        """
        parts, reads = list(table.info.parts), dict(table.reads)
        for number, part in enumerate(parts):
            if reads[part.id].measured and reads[part.id].exact and self._plan_locks_others(part):
                reads[part.id] = replace(reads[part.id], exact=False)
                parts[number] = replace(part, no_proof=part.no_proof or _PLANNED)
        return replace(table, info=replace(table.info, parts=tuple(parts)), reads=reads)

    def _plan_locks_others(self, part: Part) -> bool:
        connection = self._coordinator.connection
        connection.execute("SAVEPOINT plan; SET LOCAL lock_timeout = '1s'")
        try:
            connection.execute(plan_only(part))
            found = [LockedRelation(*row) for row in connection.execute(locked_relations(int(part.id), self._database))]
            return not oids(found) <= {int(part.id)}
        except psycopg.Error:
            if connection.closed:
                raise
            return True  # it is locked at the moment, or can't be planned
        finally:
            if not connection.closed:
                connection.execute("ROLLBACK TO SAVEPOINT plan; RELEASE SAVEPOINT plan")

    def existing_relations(self, names: Sequence[TableName]) -> Mapping[TableName, NamedRelation]:
        if not names:
            return {}
        try:
            return read_existing(self._coordinator.connection, names)
        except psycopg.Error as error:
            raise translated(error, "can't read the catalog", self._where.label) from None

    def redefined_tables(
        self, tables: Sequence[TableInfo], selection: Selection, encoding_digest: str
    ) -> list[TableName]:
        """Return the tables whose definition differs from the snapshot's.

        A worker reads rows by its snapshot, but names, types and labels as they are now. A change of definition leaves
        its transaction id in the catalog, even if it was undone. So if a new snapshot, taken after the last row was
        read, gives the same fingerprint, that definition shaped every line.
        """
        if not tables:
            return []
        self._transactions.close()  # a role may be limited to this number of connections
        present = self._same_server_snapshot()
        if present is None:
            return [table.table for table in tables]
        try:
            names = {table.table for table in tables}
            now = {table.info.table: table.info for table in self._read(present, selection, encoding_digest, names)[1]}
        except ConfigError:  # a table that a pattern or rule names is gone: a new snapshot will show which
            return [table.table for table in tables]
        finally:
            present.close()
        return [table.table for table in tables if not _same_definition(table, now.get(table.table))]

    def _same_server_snapshot(self) -> Coordinator | None:
        """Return a new snapshot of the same server, or None.

        Behind a balancer another server can answer, and its snapshot says nothing about this one.
        """
        for _ in range(_TRIES_FOR_THE_SAME_SERVER):
            present = Coordinator(self._where, self._limits, {})
            if same_history(self.point.lineage, present.exported.point.lineage):
                return present
            present.close()
        return None

    def _read(
        self,
        coordinator: Coordinator,
        selection: Selection,
        encoding_digest: str,
        only: Collection[TableName] | None = None,
    ) -> tuple[TableChoice, list[PgTable]]:
        try:
            return read_tables(coordinator.connection, selection, encoding_digest, only)
        except psycopg.Error as error:
            found = translated(error, "can't read the catalog", self._where.label)
            lacking = lacks_something(error, coordinator.server_version, self._where.label)
            raise lacking or SourceError(found.what, on=found.on, why=found.why) from None

    def observe(self, questions: Sequence[Question]) -> list[Observation]:
        on = questions[0].table.label if questions else ""
        with self._transactions.begin("can't observe", on) as task:
            connection = task.connection
            answers = self._answer_together(connection, questions)
            before: frozenset[int] = frozenset()
            last: ExpectedReads | None = None
            for number, asked in enumerate(questions):
                if number in answers:
                    continue
                reads = self._expected_reads(asked)
                if last is None:
                    connection.execute(_SCOPE)
                elif reads.root in before or not last.exact:  # it might read another relation undetected
                    connection.execute(_LET_GO)
                    before = frozenset()
                answers[number], before = answer_one(connection, asked, reads, self._database, before)
                last = reads
        return [answers[number] for number in range(len(questions))]

    def _answer_together(self, connection: Connection, questions: Sequence[Question]) -> dict[int, Observation]:
        """Ask the questions that can share a statement. Return their observations by number.

        If a table is locked, its question and those that share its statement are left.
        """
        reads = [self._expected_reads(asked) for asked in questions]
        groups = list(together.groups_of(questions, reads))
        answers: dict[int, Observation] = {}
        if not groups:
            return answers
        connection.execute(f"{_SCOPE}; {together.SHORT_WAIT}")
        before: frozenset[int] = frozenset()
        with suppress(psycopg.errors.LockNotAvailable):
            for group in groups:
                asked, expected = [questions[number] for number in group], [reads[number] for number in group]
                rows = connection.execute(observe_together(asked, self._database)).fetchall()
                seen, before = together.answers_of(rows, asked, expected, before)
                answers |= zip(group, seen, strict=True)
        connection.execute(_LET_GO)
        return answers

    def extract(self, table: TableInfo, part: Part, chunk: Chunk, open_end: bool, write: Write) -> Extracted:
        return self._reader.extract(self._tables[table.table], part, chunk, open_end, write)

    def _expected_reads(self, asked: Question) -> ExpectedReads:
        return self._tables[asked.table].reads[asked.part.id]

    @property
    def shared(self) -> SharedPostgres | None:
        if not self._transactions.is_shared:
            return None
        exported, maker = self._coordinator.exported, self.line_maker.name
        return SharedPostgres(exported, self._tables, maker, self._format, self._mask, self._transactions)

    @property
    def _database(self) -> int:
        return self._coordinator.exported.database

    def is_alive(self) -> bool:
        return self._coordinator.alive()

    def close(self) -> None:
        self._transactions.close()
        self._coordinator.close()


def _same_definition(then: TableInfo, now: TableInfo | None) -> bool:
    """Return True if nothing that shapes the lines of the parts changed, not even temporarily."""
    if now is None or now.oid != then.oid or now.fingerprint != then.fingerprint:
        return False
    present = {part.id: (part.fingerprint, part.stamp) for part in now.parts}
    return all(present.get(part.id) == (part.fingerprint, part.stamp) for part in then.parts)
