"""An oracle that says what each snapshot of a run showed, by no code of Floodmark's.

At the end of the statement by which a run comes to hold a snapshot, while a `Wire` holds all that the run says and
hears, another session reads every table whole. It takes a snapshot of its own and imports none, so it shares no fault
of imported snapshots. A standby does not replay anything between the two snapshots. Each photograph is kept by the
start of the transaction it belongs to, which a manifest gives as `as_of`, so that a table that failed can be held
against what it was when it was last read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import psycopg

from fix_wire import Session
from floodmark.config import TableRule
from floodmark.model import TableEntry
from floodmark.state.manifest import Manifest

Lines = list[bytes]
Rules = Mapping[str, TableRule]
Table = tuple[str, str, str]  # schema, name, kind

_SETTINGS = """
    SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET IntervalStyle = 'iso_8601'; SET bytea_output = 'hex';
    SET extra_float_digits = 1; SET search_path = ''; SET statement_timeout = '60s'; SET lock_timeout = '100ms';
    BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT 1
"""
_TABLES = """
    SELECT nspname, relname, relkind::text,
           pg_is_in_recovery() AND EXISTS (
               SELECT FROM pg_catalog.pg_class m WHERE m.relpersistence = 'u'
               AND (m.oid = c.oid OR m.oid IN (SELECT relid FROM pg_catalog.pg_partition_tree(c.oid))))
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE relkind IN ('r', 'p') AND NOT relispartition AND relpersistence <> 't'
      AND nspname NOT IN ('information_schema', 'floodmark') AND nspname !~ '^pg_' ORDER BY 1, 2
"""
# A standby can't read an unlogged table, so no run can have landed it as it was then.
_UNREADABLE = b"a standby can't read this table"
# When a process began its transaction, as a manifest spells it, and whether it holds a snapshot.
_TRANSACTION = """
    SELECT to_char(xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), backend_xmin IS NOT NULL
    FROM pg_catalog.pg_stat_activity WHERE pid = %s AND xact_start IS NOT NULL
"""
_MASKS = {"redact": "CASE WHEN {0} IS NOT NULL THEN 'REDACTED' END AS {0}", "null": "NULL::text AS {0}"}


class Photograph:
    """The lines of all tables as of one snapshot of the server at `dsn`, and what became of the database since.

    `moment` is what a manifest calls the snapshot. `rules` say which rows and values count, by label. A table that
    another session holds exclusively is in `held`: `complete` reads it, once that session has let go. `touched` are the
    tables that may differ by now ("*": any). `calm`: no transaction was open then, so whatever is not touched since has
    to be proven unchanged. `disturbed`: other sessions acted while the run was at work.
    """

    def __init__(self, dsn: str, rules: Rules, moment: str = "") -> None:
        self.dsn, self.moment = dsn, moment
        self.touched: set[str] = set()
        self.calm = self.disturbed = False
        self.tables: dict[str, Lines] = {}
        self._rules = rules
        self._session = psycopg.connect(dsn, autocommit=True)
        self._session.execute(_SETTINGS)
        asked = "SELECT pg_snapshot_xmin(s)::text, pg_snapshot_xmax(s)::text FROM pg_current_snapshot() s"
        ((xmin, xmax),) = self._session.execute(asked).fetchall()
        self.xmin, self.xmax = int(xmin), int(xmax)
        found = self._session.execute(_TABLES).fetchall()
        self.tables |= {f"{schema}.{name}": [_UNREADABLE] for schema, name, _, unreadable in found if unreadable}
        self.held: list[Table] = []
        self._read([(schema, name, kind) for schema, name, kind, unreadable in found if not unreadable])

    @property
    def labels(self) -> set[str]:
        return self.tables.keys() | {f"{schema}.{name}" for schema, name, _ in self.held}

    def complete(self) -> None:
        """Read what could not be read at once. Only rows may have changed in the meantime."""
        if not self._session.closed:
            held, self.held = self.held, []
            self._read(held)
            assert not self.held, f"still held: {self.held}"

    def _read(self, tables: Collection[Table]) -> None:
        if tables and not self._reads(tables):
            self.held = [table for table in tables if not self._reads([table])]
        if not self.held:
            self._session.close()

    def _reads(self, tables: Collection[Table]) -> bool:
        """Read these tables at once. False if any of them is held."""
        self._session.execute("SAVEPOINT one")
        try:
            found: dict[str, Lines] = {f"{schema}.{name}": [] for schema, name, _ in tables}
            for label, line in self._session.execute(" UNION ALL ".join(map(self._query, tables))):
                found[label].append(line.replace("\n", " ").replace("\r", " ").encode() + b"\n")
        except psycopg.errors.LockNotAvailable:
            return False
        finally:
            self._session.execute("ROLLBACK TO one; RELEASE one")
        self.tables |= found
        return True

    def _query(self, table: Table) -> str:
        schema, name, kind = table
        label, relation = f"{schema}.{name}", f'{"ONLY " if kind == "r" else ""}"{schema}"."{name}"'
        rule = self._rules.get(label, TableRule())
        where = f" WHERE {rule.where}" if rule.where else ""
        return (
            f"SELECT '{label}', row_to_json(whole)::text "
            f"FROM (SELECT {self._chosen(relation, rule.columns.mask)} FROM {relation}{where}) whole"
        )

    def _chosen(self, relation: str, masks: Mapping[str, str]) -> str:
        if not masks:
            return "*"
        columns = self._session.execute(f"SELECT * FROM {relation} LIMIT 0").description or ()
        return ", ".join(_MASKS.get(masks.get(column.name, ""), "{0}").format(f'"{column.name}"') for column in columns)


class Camera:
    """Takes a photograph of each snapshot that a run takes: call `before` and `after` from the hooks of its wire.

    `photographs` has them by the moment that Floodmark calls `as_of`: when the transaction began. A transaction that
    begins while an earlier one of the run still holds its snapshot gives none: it only looks at the catalog. `freeze`
    is called when a snapshot may be about to be taken, `taken` once its photograph is there. `unlocked` surrounds each
    photograph: a test whose own lock must not hold a table lets go of it there.
    """

    def __init__(
        self,
        dsn: str,
        rules: Rules,
        freeze: Callable[[], None],
        taken: Callable[[Photograph], None] = lambda photograph: None,
        unlocked: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._dsn, self._rules = dsn, rules
        self._freeze, self._taken, self._unlocked = freeze, taken, unlocked
        self.photographs: dict[str, Photograph] = {}
        self._waiting: set[int] = set()  # sessions whose transaction has no snapshot yet
        self._holder: tuple[int, str] | None = None
        self._session: psycopg.Connection[Any] | None = None

    def before(self, session: Session, text: str) -> None:
        if text.lstrip().upper().startswith(("BEGIN", "START TRANSACTION")):
            self._waiting.discard(session.number)
            if "SET TRANSACTION SNAPSHOT" not in text:
                self._waiting.add(session.number)
        if session.number in self._waiting and not self._is_held():
            self._freeze()

    def after(self, session: Session, text: str) -> None:
        if session.number not in self._waiting or self._is_held():
            return
        began, holds = self._transaction(session.pid)
        if began is None or holds:
            self._waiting.discard(session.number)
        if began is not None and holds:
            self._holder = (session.pid, began)
            with self._unlocked():
                photograph = self.photographs[began] = Photograph(self._dsn, self._rules, began)
            self._taken(photograph)

    def close(self) -> None:
        if self._session is not None:
            self._session.close()

    def _is_held(self) -> bool:
        return self._holder is not None and self._transaction(self._holder[0]) == (self._holder[1], True)

    def _transaction(self, pid: int) -> tuple[str | None, bool]:
        """Return when the process began the transaction it is in, and whether that holds a snapshot."""
        if self._session is not None:
            try:
                return self._session.execute(_TRANSACTION, [pid]).fetchone() or (None, False)
            except psycopg.OperationalError:  # the server was restarted
                self._session.close()
        self._session = psycopg.connect(self._dsn, autocommit=True)
        return self._session.execute(_TRANSACTION, [pid]).fetchone() or (None, False)


# Holding what landed against the photographs


def fault(entry: TableEntry, photographs: Mapping[str, Photograph], landed: Lines) -> str | None:
    """Return what is wrong with a table's lines, or None if they are those of the entry's own moment."""
    label = entry.table.label
    told = f"{label}: {entry.status}: {entry.reason.code}: {entry.reason.detail}"
    if entry.as_of not in photographs:
        return f"{told}: no transaction began at {entry.as_of}"
    found, true = Counter(landed), Counter(photographs[entry.as_of].tables.get(label, []))
    if found == true:
        return None
    missing, wrong = true - found, found - true
    return (
        f"{told}: {missing.total()} lines are missing, as {list(missing)[:1]}, "
        f"{wrong.total()} are wrong, as {list(wrong)[:1]}"
    )


def faults(
    manifest: Manifest, photographs: Mapping[str, Photograph], landed: Callable[[str], Lines], *, partial: bool
) -> list[str]:
    """Return all in a manifest that is not as the photographs show it. `partial`: the run looked at some tables."""
    read = [entry for entry in manifest.tables if entry.checksum is not None]
    found = [told for entry in read if (told := fault(entry, photographs, landed(entry.table.label)))]
    now = manifest.source.snapshot.taken_at
    if not partial:
        named = {entry.table.label for entry in manifest.tables if entry.status != "dropped"}
        there = photographs[now].labels
        found += [f"{label}: in the manifest, not in the source" for label in sorted(named - there)]
        found += [f"{label}: in the source, not in the manifest" for label in sorted(there - named)]
        found += [
            f"{entry.table.label}: {entry.status}, but as of {entry.as_of}, not {now}"
            for entry in manifest.tables
            if entry.status in ("extracted", "unchanged") and entry.as_of != now
        ]
    return found
