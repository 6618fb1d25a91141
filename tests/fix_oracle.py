"""An independent reading of a database at the very moment of a run's snapshot, to hold what the run landed against.

A `Wire` tells the oracle when a transaction of a run has taken a snapshot of its own, and holds everything back
meanwhile. Then the oracle reads every table whole, on a connection and under a snapshot of its own: it imports none. No
code of Floodmark's takes part. Each photograph is kept by the start of the transaction it belongs to, which a manifest
gives as `as_of`, so that a table that failed can be held against what it was when it was last read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import psycopg

from fix_postgres import PgDatabase
from fix_wire import Session
from floodmark.config import TableRule
from floodmark.state.manifest import Manifest

Photograph = dict[str, list[bytes]]

_MOMENT = """
    SELECT to_char(xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), backend_xmin IS NOT NULL
    FROM pg_stat_activity WHERE pid = %s
"""
_TABLES = """
    SELECT n.nspname || '.' || c.relname, c.relkind::text,
           pg_is_in_recovery() AND EXISTS (
               SELECT FROM pg_class m WHERE m.relpersistence = 'u'
               AND (m.oid = c.oid OR m.oid IN (SELECT relid FROM pg_partition_tree(c.oid)))),
           array_agg(a.attname::text ORDER BY a.attnum) FILTER (WHERE a.attnum > 0 AND NOT a.attisdropped)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.oid >= 16384 AND n.nspname NOT LIKE 'pg\\_%'
      AND n.nspname <> 'information_schema'
    GROUP BY c.oid, n.nspname
"""
# A standby can't read an unlogged table, so no run can have landed it as it was then.
_UNREADABLE = b"a standby can't read this table"
_MASKS = {"redact": "CASE WHEN {0} IS NOT NULL THEN 'REDACTED' END AS {0}", "null": "NULL::text AS {0}"}


class Oracle:
    """Photographs of one database. `before` and `after` are called as a `Wire` calls its hooks.

    `settle` is called before a statement that may take a snapshot: a standby has to come to rest first. `unlocked`
    surrounds each photograph: while it lasts, no table may be locked.
    """

    def __init__(
        self,
        database: PgDatabase,
        rules: Mapping[str, TableRule],
        settle: Callable[[], None] = lambda: None,
        unlocked: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.photographs: dict[str, Photograph] = {}
        self._rules, self._settle, self._unlocked = rules, settle, unlocked
        self._waiting: set[int] = set()  # sessions whose transaction has no snapshot yet
        self._connection = psycopg.connect(database.dsn, autocommit=True)
        self._connection.execute("SET search_path = ''")

    def close(self) -> None:
        self._connection.close()

    def before(self, number: int, session: Session, text: str) -> None:
        if text.startswith("BEGIN") and "SET TRANSACTION SNAPSHOT" not in text:
            self._waiting.add(session.number)
        if session.number in self._waiting:
            self._settle()

    def after(self, number: int, session: Session, text: str) -> None:
        """Photograph, if the transaction has a snapshot from this statement on."""
        if session.number not in self._waiting:
            return
        rows = self._connection.execute(_MOMENT, [session.pid]).fetchall()
        if not rows or rows[0][0] is None:
            self._waiting.discard(session.number)  # the transaction is over
        elif rows[0][1]:
            self._waiting.discard(session.number)
            with self._unlocked():
                self.photographs[rows[0][0]] = self.photograph()

    def photograph(self) -> Photograph:
        """Every table's lines, as the run's rules want them."""
        self._connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        tables = self._connection.execute(_TABLES).fetchall()
        found: Photograph = {label: [_UNREADABLE] if unreadable else [] for label, _, unreadable, _ in tables}
        lines = " UNION ALL ".join(self._lines(label, kind, columns) for label, kind, no, columns in tables if not no)
        for label, line in self._connection.execute(lines) if lines else ():
            found[label].append(line.encode() + b"\n")
        self._connection.execute("COMMIT")
        return found

    def _lines(self, label: str, kind: str, columns: list[str]) -> str:
        rule = self._rules.get(label, TableRule())
        chosen = ", ".join(_MASKS.get(rule.columns.mask.get(column, ""), "{0}").format(column) for column in columns)
        only = "ONLY " if kind == "r" else ""
        where = f" WHERE {rule.where}" if rule.where else ""
        return f"SELECT '{label}', row_to_json(r)::text FROM (SELECT {chosen} FROM {only}{label}{where}) r"

    def faults(self, manifest: Manifest, landed: Callable[[str], list[bytes]], *, partial: bool) -> list[str]:
        """Everything in a manifest that is not as the photographs show it. `partial`: the run looked at some tables."""
        found = [fault for entry in manifest.tables if (fault := self._fault(entry, landed))]
        now = manifest.source.snapshot.taken_at
        if not partial:
            named = {entry.table.label for entry in manifest.tables if entry.status != "dropped"}
            there = self.photographs[now].keys()
            found += [f"{label}: in the manifest, not in the source" for label in sorted(named - there)]
            found += [f"{label}: in the source, not in the manifest" for label in sorted(there - named)]
            found += [
                f"{entry.table.label}: {entry.status}, but as of {entry.as_of}, not {now}"
                for entry in manifest.tables
                if entry.status in ("extracted", "unchanged") and entry.as_of != now
            ]
        return found

    def _fault(self, entry: Any, landed: Callable[[str], list[bytes]]) -> str | None:
        label = entry.table.label
        if entry.checksum is None:  # it was never read
            return None
        told = f"{label}: {entry.status}: {entry.reason.code}: {entry.reason.detail}"
        if entry.as_of not in self.photographs:
            return f"{told}: no transaction began at {entry.as_of}"
        expected = sorted(self.photographs[entry.as_of].get(label, []))
        found = sorted(landed(label))
        if found == expected:
            return None
        return f"{told}: landed {_shown(found, expected)}, expected {_shown(expected, found)}"


def _shown(lines: list[bytes], others: list[bytes]) -> str:
    """How many lines there are, and the first that the others do not have."""
    different = [line for line in lines if line not in others]
    return f"{len(lines)} lines" + (f", {len(different)} of them others: {different[0][:80]!r}" if different else "")
