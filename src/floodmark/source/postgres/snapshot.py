"""PostgreSQL as a source: one exported snapshot, and the questions that it can answer."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from contextlib import suppress

import psycopg
from msgspec.structs import replace

from floodmark.config import Limits, Secret, Selection
from floodmark.errors import ConfigError, SnapshotLost, SourceError, TableError
from floodmark.lineage import same_history
from floodmark.model import Chunk, Format, SourceIdentity, TableName
from floodmark.native import EncoderName, usual_encoder
from floodmark.observed import Extracted, Observation, Part, Question, TableInfo
from floodmark.source.base import BlockLog, Diagnosis, Drawback, NamedRelation, Write
from floodmark.source.postgres import together
from floodmark.source.postgres.address import ServerAddress, address
from floodmark.source.postgres.catalog import read_tables
from floodmark.source.postgres.connect import translated
from floodmark.source.postgres.coordinator import Connection, Coordinator
from floodmark.source.postgres.copying import receive_groups, receive_rows
from floodmark.source.postgres.identity import ExpectedReads, LockedRelation, oids, replaced_because
from floodmark.source.postgres.journal import with_journal
from floodmark.source.postgres.masks import mask_settings
from floodmark.source.postgres.native_rows import NativeRows, choose_line_maker
from floodmark.source.postgres.relations import read_existing
from floodmark.source.postgres.rule_check import require_usable
from floodmark.source.postgres.statements import (
    IN_HEAP_ORDER,
    PgTable,
    copy_csv,
    copy_groups,
    copy_rows,
    holds_rows,
    locked_relations,
    names_of,
    observe_chunk,
    observe_together,
    partition_members,
    plan_only,
    reads_by_groups,
)
from floodmark.source.postgres.transactions import SnapshotTransactions, Task
from floodmark.source.postgres.versions import lacks_something
from floodmark.source.postgres.wal import WalLog, read_wal
from floodmark.source.selection import TableChoice
from floodmark.wording import plural

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

    @property
    def label(self) -> str:
        return self._where.label

    def diagnose(self) -> Sequence[Diagnosis]:
        """Return nothing: `doctor.server` asks more of a PostgreSQL server than fits here."""
        return ()

    def snapshot(self) -> PostgresSnapshot:
        return PostgresSnapshot(self._where, self._limits, self._settings, self._format, self._encoder)


class PostgresSnapshot:
    """One moment of a PostgreSQL database; `floodmark.source.base.Snapshot` states its obligations."""

    def __init__(
        self,
        where: ServerAddress,
        limits: Limits,
        settings: dict[str, str],
        row_format: Format,
        encoder: EncoderName,
    ) -> None:
        self._where = where
        self._limits = limits
        self._format = row_format
        self._coordinator = Coordinator(where, limits, settings)
        self._transactions = SnapshotTransactions(self._coordinator, where, limits, settings)
        try:
            self.line_maker = choose_line_maker(self._coordinator.connection, encoder)
        except BaseException as error:
            self.close()
            if isinstance(error, psycopg.Error):
                raise translated(error, "can't read the catalog", where.label) from None
            raise
        self._tables: dict[TableName, PgTable] = {}
        self.choice = TableChoice()
        self.point = self._coordinator.exported.point
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
                answers[number], before = self._answer_one(connection, asked, before)
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
        known = self._tables[table.table]
        in_order = part.by_block and (known.where is None or part.no_proof is None)
        planning = IN_HEAP_ORDER if in_order else ""
        with self._transactions.begin("can't extract", table.table.label, planning) as task:
            connection = task.connection
            if self.line_maker.name == "native":
                copied = NativeRows(connection, known, self._format).receive(part, chunk, open_end, write)
            elif self._format == "csv":
                copied = receive_rows(connection, copy_csv(known, part, chunk, open_end), write, header=1)
            elif reads_by_groups(known, part):
                copied = receive_groups(connection, copy_groups(known, part, chunk, open_end), write)
            else:
                copied = receive_rows(connection, copy_rows(known, part, chunk, open_end), write)
            counted = copied.counted and table.watched is None
            read = self._require_meant(task, table.table, part, is_last=counted or not part.by_block)
            if not part.by_block:
                return Extracted(copied.lines, None)
            if counted:
                seen = Observation(copied.rows, 0, copied.frozen, part.relfilenode)
            else:
                question = Question(table.table, part, chunk, open_end, self.point.xmin or 0, table.watched)
                seen, _ = self._answer_one(connection, question, read - {self._expected_reads(question).root})
        if known.where is None and seen.rows != copied.lines:
            why = f"it gave {plural(copied.lines, 'line')}, but {plural(seen.rows, 'row')} were counted"
            raise TableError("can't extract", on=table.table.label, why=why)
        return Extracted(copied.lines, seen)

    def _expected_reads(self, asked: Question) -> ExpectedReads:
        return self._tables[asked.table].reads[asked.part.id]

    def _require_meant(self, task: Task, table: TableName, part: Part, *, is_last: bool) -> frozenset[int]:
        """Raise SnapshotLost unless the first statement of this transaction read the snapshot's relations and files.

        Return the relations that are locked. If `is_last`, the task ends with the question about them.
        """
        reads, connection = self._tables[table].reads[part.id], task.connection
        query = locked_relations(reads.root, self._database)
        rows = task.last(query) if is_last and not reads.parent else connection.execute(query).fetchall()
        found = [LockedRelation(*row) for row in rows]
        _require_not_replaced(connection, table, reads, oids(found))
        if reads.parent and not reads.exact:  # a partition can have been attached just for this statement
            tree = {oid for (oid,) in connection.execute(partition_members(reads.root))}
            _require_not_replaced(connection, table, replace(reads, exact=True, all_below=True), tree)
        if any(one.rewritten for one in found):
            raise SnapshotLost("the table was rewritten after the snapshot", on=table.label)
        return oids(found)

    def _answer_one(
        self, connection: Connection, asked: Question, before: Set[int]
    ) -> tuple[Observation, frozenset[int]]:
        """Ask one question. Return the observation and the relations that are locked now.

        `before` are the relations that earlier statements of the transaction locked.
        """
        if asked.probe:
            statement = holds_rows(asked.part, asked.chunk, asked.open, self._database)
        else:
            statement = observe_chunk(asked.part, asked.chunk, asked.open, asked.since, asked.watched, self._database)
        try:
            row = connection.execute(statement).fetchone()
        except psycopg.errors.LockNotAvailable as error:  # one of many questions: this names the table
            raise translated(error, "can't observe", asked.table.label) from None
        assert row is not None
        rows, young, frozen, newest, file_now, read = row
        _require_not_replaced(connection, asked.table, self._expected_reads(asked), frozenset(read), before)
        if file_now != asked.part.relfilenode:
            raise SnapshotLost("the table was rewritten after the snapshot", on=asked.table.label)
        return Observation(rows, young, frozen, asked.part.relfilenode, newest), frozenset(read)

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


def _require_not_replaced(
    connection: Connection, table: TableName, reads: ExpectedReads, found: Set[int], before: Set[int] = frozenset()
) -> None:
    why = replaced_because(reads, found, before)
    if why is None:
        return
    more = found - before - reads.below - reads.toast - {reads.root}
    if more:
        row = connection.execute(names_of(more)).fetchone()
        why += f": {row[0]}" if row is not None else ""
    raise SnapshotLost("the table was replaced after the snapshot", on=table.label, why=why)
