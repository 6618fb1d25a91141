"""An oracle that says what each snapshot of a run showed, by no code of Floodmark's.

At the end of the statement by which a run comes to hold a snapshot, while a `Wire` holds all that the run says and
hears, another session reads every table whole. It takes a snapshot of its own and imports none, so it shares no fault
of imported snapshots. A standby does not replay anything between the two snapshots.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import psycopg

from fix_wire import Session

Lines = list[bytes]

_SETTINGS = """
    SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET IntervalStyle = 'iso_8601'; SET bytea_output = 'hex';
    SET extra_float_digits = 1; SET search_path = ''; SET statement_timeout = '60s'; SET lock_timeout = '100ms';
    BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT 1
"""
_TABLES = """
    SELECT nspname, relname, relkind::text
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE relkind IN ('r', 'p') AND NOT relispartition AND relpersistence <> 't'
      AND nspname <> 'information_schema' AND nspname !~ '^pg_' ORDER BY 1, 2
"""
# Whether a process is in a transaction that holds a snapshot, and when that began, as a manifest spells it.
_HOLDS = """
    SELECT to_char(xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    FROM pg_catalog.pg_stat_activity WHERE pid = %s AND backend_xmin IS NOT NULL
"""


class Photograph:
    """The lines of all tables as of one snapshot of the server at `dsn`, and what became of the database since.

    `moment` is what a manifest calls the snapshot. `filters` has the rows that count, by label. A table that another
    session holds exclusively is in `held`: `complete` reads it, once that session has let go. `touched` are the tables
    that may differ by now ("*": any). `calm`: no transaction was open then, so whatever is not touched since has to be
    proven unchanged. `disturbed`: other sessions acted while the run was at work.
    """

    def __init__(self, dsn: str, filters: Mapping[str, str], moment: str = "") -> None:
        self.dsn, self.moment = dsn, moment
        self.touched: set[str] = set()
        self.calm = self.disturbed = False
        self.tables: dict[str, Lines] = {}
        self._filters = filters
        self._session = psycopg.connect(dsn, autocommit=True)
        self._session.execute(_SETTINGS)
        asked = "SELECT pg_snapshot_xmin(s)::text, pg_snapshot_xmax(s)::text FROM pg_current_snapshot() s"
        ((xmin, xmax),) = self._session.execute(asked).fetchall()
        self.xmin, self.xmax = int(xmin), int(xmax)
        self.held: list[tuple[str, str, str]] = []
        self._read(self._session.execute(_TABLES).fetchall())

    @property
    def labels(self) -> set[str]:
        return self.tables.keys() | {f"{schema}.{name}" for schema, name, _ in self.held}

    def complete(self) -> None:
        """Read what could not be read at once. Only rows may have changed in the meantime."""
        if not self._session.closed:
            held, self.held = self.held, []
            self._read(held)
            assert not self.held, f"still held: {self.held}"

    def _read(self, tables: Collection[tuple[str, str, str]]) -> None:
        for schema, name, kind in tables:
            self._session.execute("SAVEPOINT one")
            try:
                self.tables[f"{schema}.{name}"] = self._lines(schema, name, kind)
            except psycopg.errors.LockNotAvailable:
                self.held.append((schema, name, kind))
            self._session.execute("ROLLBACK TO one; RELEASE one")
        if not self.held:
            self._session.close()

    def _lines(self, schema: str, name: str, kind: str) -> Lines:
        only = "ONLY " if kind == "r" else ""
        where = self._filters.get(f"{schema}.{name}", "true")
        rows = self._session.execute(
            f'SELECT row_to_json(whole)::text FROM (SELECT * FROM {only}"{schema}"."{name}" WHERE {where}) whole'
        )
        return [row[0].replace("\n", " ").replace("\r", " ").encode() + b"\n" for row in rows]


class Camera:
    """Takes a photograph of each snapshot that a run takes: call `before` and `after` from the hooks of its wire.

    `photographs` has them by the moment that Floodmark calls `as_of`: when the transaction began. A transaction that
    begins while an earlier one of the run still holds its snapshot gives none: it only looks at the catalog. `freeze`
    is called when a snapshot is about to be taken, `taken` once its photograph is there.
    """

    def __init__(
        self,
        dsn: str,
        filters: Mapping[str, str],
        freeze: Callable[[], None],
        taken: Callable[[Photograph], None],
    ) -> None:
        self._dsn, self._filters, self._freeze, self._taken = dsn, filters, freeze, taken
        self.photographs: dict[str, Photograph] = {}
        self._importing: set[int] = set()
        self._holder: tuple[int, str] | None = None
        self._session: psycopg.Connection[Any] | None = None

    def before(self, session: Session, text: str) -> None:
        if not text.lstrip().upper().startswith(("BEGIN", "START TRANSACTION")):
            return
        self._importing.discard(session.number)
        if "SET TRANSACTION SNAPSHOT" in text:
            self._importing.add(session.number)
        elif not self._is_held():
            self._freeze()

    def after(self, session: Session, text: str) -> None:
        if session.number in self._importing or self._is_held():
            return
        began = self._holds(session.pid)
        if began is not None:
            self._holder = (session.pid, began)
            photograph = self.photographs[began] = Photograph(self._dsn, self._filters, began)
            self._taken(photograph)

    def close(self) -> None:
        if self._session is not None:
            self._session.close()

    def _is_held(self) -> bool:
        return self._holder is not None and self._holds(self._holder[0]) == self._holder[1]

    def _holds(self, pid: int) -> str | None:
        """When the process began the transaction whose snapshot it holds."""
        row = self._asked().execute(_HOLDS, [pid]).fetchone()
        return None if row is None else str(row[0])

    def _asked(self) -> psycopg.Connection[Any]:
        """A session that asks, made again if the server was restarted."""
        if self._session is not None:
            try:
                self._session.execute("SELECT 1")
            except psycopg.OperationalError:
                self._session.close()
                self._session = None
        if self._session is None:
            self._session = psycopg.connect(self._dsn, autocommit=True)
        return self._session
