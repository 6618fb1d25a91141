"""Checks of the PostgreSQL server: its identity, its connection, and the effect of its settings on a run.

Reads only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import psycopg

from floodmark.config import Settings
from floodmark.doctor.finding import Finding, ok, problem, warning
from floodmark.errors import SourceError
from floodmark.source.postgres import tls
from floodmark.source.postgres.address import address
from floodmark.source.postgres.connect import close_quietly, connect, translated
from floodmark.source.postgres.versions import SUPPORTED_FROM
from floodmark.source.quoting import quoted

_PINNED = (
    "BEGIN READ ONLY; SET LOCAL search_path = pg_catalog, pg_temp; "
    "SET LOCAL statement_timeout = '30s'; SET LOCAL lock_timeout = '5s'; "
    "SET LOCAL client_encoding = 'UTF8'; SET LOCAL idle_in_transaction_session_timeout = 0"
)
_PATIENT_STANDBY = 3_600_000  # milliseconds
_LONG_LAG = 3600  # seconds


class ServerConnection:
    """A connection that only asks. Every question runs in its own read-only transaction, which is rolled back.

    Raises what `connect` raises.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.where = address(settings.source.url)
        self.connection = connect(self.where)

    def rows(self, question: str) -> list[tuple[Any, ...]]:
        """Return the answer's rows. Raises SourceError, which never holds a driver's text."""
        try:
            self.connection.execute(_PINNED)
            return self.connection.execute(question).fetchall()
        except psycopg.Error as error:
            failure = translated(error, "can't ask the server", self.where.label)
            raise SourceError(failure.what, on=failure.on, why=failure.why) from None
        finally:
            with suppress(psycopg.Error):
                self.connection.execute("ROLLBACK")

    def row(self, question: str) -> tuple[Any, ...]:
        (row,) = self.rows(question)
        return row

    @property
    def role(self) -> str:
        """Return our role as SQL spells it."""
        return quoted(self.connection.info.user)

    def close(self) -> None:
        close_quietly(self.connection)


def check_version(server: ServerConnection) -> Iterator[Finding]:
    name, database, encoding = server.row(
        "SELECT current_setting('server_version'), current_database(), current_setting('server_encoding')"
    )
    role = server.connection.info.user
    yield ok("database", f"{server.where.label} answers: PostgreSQL {name}, database {database}, as role {role}")
    version = server.connection.info.server_version
    if version < SUPPORTED_FROM:
        found = f"PostgreSQL {version // 10000} is not supported"
        yield problem("version", found, "Floodmark reads PostgreSQL 14 and later.", SourceError.exit_code)
    if encoding == "SQL_ASCII":
        found = "the database's encoding is SQL_ASCII: the encoding of its texts is unknown"
        yield warning("encoding", found, "A table with bytes that are not UTF-8 fails: exclude such columns.")


def check_encryption(server: ServerConnection) -> Iterator[Finding]:
    connection = server.connection.pgconn
    options = {option.keyword.decode(): (option.val or b"").decode() for option in connection.info}
    used = "TLS is in use" if connection.ssl_in_use else "TLS is not in use"
    if tls.is_local(server.where.arguments):
        yield ok("tls", f"{used}; the server is on this machine")
    elif connection.ssl_in_use and options.get("sslmode") == "verify-full":
        yield ok("tls", "TLS is in use, and the server's identity is verified (sslmode verify-full)")
    else:
        mode = options.get("sslmode") or "prefer"
        found = f"{used}, but the server's identity is not verified (sslmode {mode}): an impostor would get all data"
        fix = (
            "Set PGSSLMODE=verify-full (the default for a remote host; something sets another), and PGSSLROOTCERT "
            "to the file with the CA's certificate (AWS RDS has its own bundle)."
        )
        yield warning("tls", found, fix)


def check_standby(server: ServerConnection) -> Iterator[Finding]:
    in_recovery, delay, feedback, lag = server.row(
        "SELECT pg_is_in_recovery(), "
        "(SELECT setting::bigint FROM pg_settings WHERE name = 'max_standby_streaming_delay'), "
        "current_setting('hot_standby_feedback') = 'on', "
        "coalesce(extract(epoch FROM now() - pg_last_xact_replay_timestamp()), 0)::bigint"
    )
    if not in_recovery:
        yield ok("standby", "this is a primary")
    elif not feedback and 0 <= delay < _PATIENT_STANDBY:
        found = (
            f"a standby that cancels queries in conflict with recovery after {delay // 1000} s, and so loses snapshots"
        )
        fix = (
            "On the standby: ALTER SYSTEM SET hot_standby_feedback = on; SELECT pg_reload_conf(); "
            "or set max_standby_streaming_delay = -1, or read the primary."
        )
        yield warning("standby", found, fix)
    elif lag > _LONG_LAG:
        found = f"a standby that last replayed a transaction {lag // 60} min ago"
        yield warning(
            "standby",
            found,
            "Check pg_stat_replication on the primary: if the primary is busy, the standby lags behind.",
        )
    else:
        yield ok("standby", "a hot standby that keeps snapshots; a run sees what it has replayed")


def check_snapshot_threshold(server: ServerConnection) -> Iterator[Finding]:
    (threshold,) = server.row("SELECT coalesce(current_setting('old_snapshot_threshold', true), '-1')")
    if threshold in ("-1", ""):
        yield ok("old_snapshot_threshold", "off, as it must be: a snapshot keeps all its rows")
    else:
        found = (
            f"old_snapshot_threshold is {threshold}: an imported snapshot can silently lose rows, so runs don't start"
        )
        fix = "ALTER SYSTEM SET old_snapshot_threshold = -1; then restart the server."
        yield problem("old_snapshot_threshold", found, fix, SourceError.exit_code)


CHECKS: Sequence[tuple[str, Callable[[ServerConnection], Iterator[Finding]]]] = (
    ("database", check_version),
    ("tls", check_encryption),
    ("standby", check_standby),
    ("old_snapshot_threshold", check_snapshot_threshold),
)
