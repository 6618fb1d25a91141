"""A connection that manages the journal: short transactions, pinned settings, and errors in Floodmark's words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import psycopg

from floodmark.errors import FloodmarkError, SourceError, SourceUnavailable, TableLocked
from floodmark.source.postgres.address import ServerAddress
from floodmark.source.postgres.connect import close_quietly, connect
from floodmark.source.postgres.versions import SUPPORTED_FROM

# A statement can wait for a lock, and writers wait behind it. Both limits are short, and the caller tries again.
LOCK_MILLISECONDS = 200
ALL_LOCKS_MILLISECONDS = 500
_PINNED = (
    "SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL client_min_messages = warning; "
    "SET LOCAL idle_in_transaction_session_timeout = 0; "
    f"SET LOCAL lock_timeout = {LOCK_MILLISECONDS}; SET LOCAL statement_timeout = 0"
)
_REASONS = {
    "42501": (
        "the role has no right to do this",
        "Use the owner of the tables and of the schema floodmark, or grant the rights that docs/journal.md lists.",
    ),
    "25006": ("the server or the session is read-only", "Connect to the primary."),
    "40001": ("another session changed the same rows", "Run the command again."),
    "40P01": ("another session waited for the same locks", "Run the command again."),
    "42P01": ("a table was dropped meanwhile", "Run the command again."),
    "22008": ("the time span is too long", "Use a shorter --keep."),
    "P0002": ("the journal's floor has no row", "Run: floodmark journal remove, then install and enable."),
    "53200": ("the server ran out of memory for locks", "Raise max_locks_per_transaction, or name fewer tables."),
}
_LOCKED = ("55P03", "57014")


class JournalConnection:
    """A connection of a role that installs or inspects the journal. Raises SourceError, never with a driver's text."""

    def __init__(self, where: ServerAddress) -> None:
        self.where = where
        self._connection = connect(where)

    def __enter__(self) -> Self:
        self._require_supported()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        close_quietly(self._connection)

    @contextmanager
    def transaction(self, what: str, on: str | None = None, *, read_only: bool = False) -> Iterator[None]:
        """Run a READ COMMITTED transaction with short limits. An error names `what` was tried `on` something."""
        mode = "READ ONLY" if read_only else "READ WRITE"
        try:
            self._connection.execute(f"BEGIN ISOLATION LEVEL READ COMMITTED {mode}; {_PINNED}")
            yield
            self._connection.execute("COMMIT")
        except psycopg.Error as error:
            self._roll_back()
            raise failure(error, what, on or self.where.label) from None
        except BaseException:
            self._roll_back()
            raise

    def rows(self, question: str, values: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """Return an answer's rows, within a transaction."""
        return self._connection.execute(question, values, prepare=False).fetchall()

    def row(self, question: str, values: Sequence[Any] | None = None) -> tuple[Any, ...]:
        (row,) = self.rows(question, values)
        return row

    def execute(self, statement: str) -> None:
        """Run a statement without values, within a transaction."""
        self._connection.execute(statement, prepare=False)

    def limit_statements(self, milliseconds: int) -> None:
        """Set the time limit of each later statement of the transaction. 0 sets none."""
        self.execute(f"SET LOCAL statement_timeout = {milliseconds}")

    def _roll_back(self) -> None:
        if not self._connection.closed and not self._connection.broken:
            try:
                self._connection.execute("ROLLBACK")
            except psycopg.Error:
                close_quietly(self._connection)

    def _require_supported(self) -> None:
        version = self._connection.info.server_version
        if version < SUPPORTED_FROM:
            close_quietly(self._connection)
            raise SourceError(
                "this server is not supported",
                on=self.where.label,
                why=f"PostgreSQL {version // 10000}",
                hint="The journal needs PostgreSQL 14 or later.",
            )


def failure(error: psycopg.Error, what: str, on: str) -> FloodmarkError:
    """Return Floodmark's error for a driver's."""
    state = error.sqlstate
    if state is None or state[:2] == "08" or state[:3] == "57P":
        return SourceUnavailable(what, on=on, why="the connection broke", hint="Run the command again.")
    if state in _LOCKED:
        return TableLocked(what, on=on, why=f"another session kept it locked (SQLSTATE {state})")
    why, hint = _REASONS.get(state, ("the server refused", None))
    return SourceError(what, on=on, why=f"{why} (SQLSTATE {state})", hint=hint)
