"""The coordinator: the transaction that holds a run's snapshot, and what it tells about the server.

It stays open for the whole run and locks no user table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg
from msgspec import UNSET, Struct

from floodmark.config import Limits
from floodmark.errors import FloodmarkError, SourceError, SourceUnavailable
from floodmark.lineage import Lineage
from floodmark.model import Point, SourceIdentity
from floodmark.source.postgres.address import ServerAddress
from floodmark.source.postgres.connect import (
    close_quietly,
    connect,
    pinned_settings,
    settings_to_pin,
    translated,
)
from floodmark.source.postgres.statements import PLANNING
from floodmark.source.postgres.versions import lacks_something, require_supported, settings_to_leave_out

Connection = psycopg.Connection[Any]

BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

# Another server can have a snapshot of the same name, and even one that looks the same.
VIEW = "pg_current_snapshot()::text || ' ' || pg_postmaster_start_time()"
# The role, which a view can depend on: the one that logged in, and the one that reads.
ROLE = "session_user::text || ' ' || current_user::text"
# Settings that are not pinned, and on which a view, a filter or a cast can depend. To pin them could fail: the search
# path decides which text search configuration a name means.
_DEPENDENCIES = ("lc_time", "lc_numeric", "default_text_search_config", "xmloption", "timezone_abbreviations")
DEPENDENCIES = "concat_ws(' ', " + ", ".join(f"current_setting('{name}', true)" for name in _DEPENDENCIES) + ")"
# Texts become numbers here, not on the server: a cast from text to integer can be the user's own.
_MOMENT = f"""
    SELECT {VIEW},
           pg_snapshot_xmin(pg_current_snapshot())::text,
           pg_snapshot_xmax(pg_current_snapshot())::text,
           to_char(transaction_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
           (SELECT system_identifier FROM pg_control_system())::text,
           d.oid::bigint,
           d.xmin::text,
           pg_postmaster_start_time()::text,
           (SELECT stats_reset FROM pg_stat_bgwriter)::text,
           pg_is_in_recovery(),
           d.datname,
           current_setting('server_version'),
           (SELECT stats_reset FROM pg_stat_archiver)::text,
           (SELECT stats_reset FROM pg_stat_wal)::text,
           current_setting('summarize_wal', true),
           {ROLE},
           {DEPENDENCIES}
    FROM pg_database d WHERE d.datname = current_database()
"""


class ExportedSnapshot(Struct, frozen=True):
    """The coordinator's snapshot.

    `id` is the name for imports, None on a standby. `view` identifies the snapshot and its server, and imports are
    compared with it. `database` is the database's oid. `summarizes` says that the server is a primary that keeps WAL
    summaries. `role` is the role that reads, and `pinned` are the settings with which each transaction begins.
    `dependencies` are the values of other settings that rows can depend on. It holds no secret: it goes to other
    machines.
    """

    id: str | None
    view: str
    database: int
    point: Point
    identity: SourceIdentity
    summarizes: bool
    role: str
    pinned: str
    dependencies: str
    server_version: int


class Coordinator:
    """The transaction that holds a run's snapshot."""

    def __init__(self, where: ServerAddress, limits: Limits, settings: dict[str, str]) -> None:
        self._where = where
        self._limits = limits
        self.connection = connect(where, settings)
        try:
            self.server_version = self.connection.info.server_version
            require_supported(self.server_version, where.label)
            self._pinned = self._settings_to_pin()
            self.exported = self._begin(settings)
        except psycopg.Error as error:
            close_quietly(self.connection)
            lacking = lacks_something(error, self.server_version, where.label)
            raise lacking or _run_error(translated(error, "can't take a snapshot", where.label)) from None
        except BaseException:
            close_quietly(self.connection)
            raise

    def _settings_to_pin(self) -> str:
        version = self.server_version
        names = [*settings_to_pin(self._limits, version), *PLANNING]
        gone = settings_to_leave_out(self.connection, version, names, self._where.label)
        return pinned_settings(self._limits, version, gone)

    def _require_whole_pages(self) -> None:
        if self._text("SELECT current_setting('zero_damaged_pages', true)") == "on":
            raise SourceError(
                "this server is not supported",
                on=self._where.label,
                why="zero_damaged_pages is on: the rows of a damaged page silently disappear",
                hint="Set zero_damaged_pages = off (its default), and check the tables with pg_amcheck.",
            )

    def _require_whole_snapshots(self) -> None:
        row = self.connection.execute("SELECT current_setting('old_snapshot_threshold', true)").fetchone()
        if row is not None and row[0] not in (None, "", "-1"):
            raise SourceError(
                "this server is not supported",
                on=self._where.label,
                why=f"old_snapshot_threshold is {row[0]}: an imported snapshot can silently lose rows",
                hint="Set old_snapshot_threshold = -1 (its default) and restart the server.",
            )

    def _begin(self, settings: dict[str, str]) -> ExportedSnapshot:
        self.connection.execute(joined(BEGIN, self._pinned))
        # SHOW takes no snapshot. So a standby that is being promoted still counts as one, like its snapshot.
        in_recovery = self._text("SHOW in_hot_standby") == "on"
        self._require_whole_pages()
        self._require_whole_snapshots()
        set_local(self.connection, settings)
        row = self.connection.execute(_MOMENT).fetchone()
        assert row is not None
        view, xmin, xmax, taken_at, system, database, database_xmin, started = row[:8]
        stats_reset, recovering, name, version, *resets, summarize, role, dependencies = row[8:]
        in_recovery = in_recovery or recovering
        resets = [UNSET if reset is None else reset for reset in resets]
        lineage = Lineage(system, database, database_xmin, started, stats_reset, in_recovery, *resets)
        return ExportedSnapshot(
            id=None if in_recovery else self._text("SELECT pg_export_snapshot()"),
            view=view,
            database=database,
            point=Point(taken_at, int(xmin), int(xmax), lineage),
            identity=SourceIdentity("postgresql", system, name, version.split(" ")[0]),
            summarizes=summarize == "on" and not in_recovery,
            role=role,
            pinned=self._pinned,
            dependencies=dependencies,
            server_version=self.server_version,
        )

    def _text(self, statement: str) -> str:
        row = self.connection.execute(statement).fetchone()
        assert row is not None
        return str(row[0])

    def alive(self) -> bool:
        """Return True if the snapshot still exists. It asks the server and does not rely on memory."""
        try:
            return self._text(f"SELECT {VIEW}") == self.exported.view
        except psycopg.Error:
            return False

    def close(self) -> None:
        close_quietly(self.connection)


def joined(*statements: str) -> str:
    """Return the statements as one message. Empty ones are left out."""
    return "; ".join(filter(None, statements))


def set_local(connection: Connection, settings: Mapping[str, str]) -> None:
    """Set settings whose values must not appear in a statement, because logs and pg_stat_activity show statements.

    They came with the startup packet, unless a pooler gave another client's session, or refused them. Then they go as
    parameters, and a server that logs each statement logs them too.
    """
    for name, value in settings.items():
        if connection.execute("SELECT current_setting(%s, true)", (name,)).fetchone() != (value,):
            connection.execute("SELECT set_config(%s, %s, true)", (name, value))


def _run_error(error: FloodmarkError) -> FloodmarkError:
    """Return the coordinator's error: it concerns the whole run, not a table."""
    if isinstance(error, SourceUnavailable):
        return error
    return SourceError(error.what, on=error.on, why=error.why)
