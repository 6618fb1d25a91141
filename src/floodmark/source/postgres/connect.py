"""Connections to PostgreSQL, the settings every transaction pins, and the translation of driver errors.

A driver's error text can hold a row's value or a secret, so none of it ever leaves this module. Floodmark describes an
error by its SQLSTATE (or, while connecting, by the kind of refusal) in its own words.
"""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import Any

import psycopg

from floodmark.config import Limits
from floodmark.errors import ConfigError, FloodmarkError, SnapshotLost, SourceUnavailable, TableError, TableLocked
from floodmark.source.postgres import tls
from floodmark.source.postgres.address import ServerAddress, libpq_default
from floodmark.source.postgres.refusals import CONNECT_TIMEOUT, connect_error

# The coordinator's connection is silent for a whole run; firewalls drop connections that are silent for minutes.
_KEEPALIVE = {"keepalives_idle": 60, "keepalives_interval": 10, "keepalives_count": 6}

_LONGEST_END = 1000  # milliseconds
_SECONDS_BETWEEN_CANCELS = 0.5

# Each of these shapes lines, plans or locks (`versions` knows which of them a newer server may lack). All are set by
# SET LOCAL, so that a pooler never sees a session setting. A search_path without pg_temp implicitly begins with it:
# then a temporary table of a pooled session would hide one of the catalog. With constraint_exclusion on, a statement
# about a partition can lock its parent too.
# jit is set only for speed.
_PINNED = {
    "client_encoding": "UTF8",
    "TimeZone": "UTC",
    "DateStyle": "ISO",
    "IntervalStyle": "iso_8601",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "xmlbinary": "base64",
    "lc_monetary": "C",
    "search_path": "pg_catalog, pg_temp",
    "row_security": "off",
    "quote_all_identifiers": "off",
    "standard_conforming_strings": "on",
    "transform_null_equals": "off",
    "constraint_exclusion": "partition",
    "max_parallel_workers_per_gather": "0",
    "synchronize_seqscans": "off",
    "enable_tidscan": "on",
    "gin_fuzzy_search_limit": "0",
    "jit": "off",
    "idle_in_transaction_session_timeout": "0",
}

_TABLE_ERRORS: dict[str, tuple[str, str | None]] = {
    "57014": (
        "the statement was cancelled or reached its time limit",
        "Raise limits.statement_timeout if the table is large or the server is slow.",
    ),
    "55P03": (
        "the table stayed locked",
        "Another session, such as a migration, holds an exclusive lock. Rerun the table when it is done.",
    ),
    "54000": ("a row's JSON exceeds PostgreSQL's limit of 1 GiB", "Leave the widest column out (columns.exclude)."),
    "XX000": ("the server had an internal error, as for a row with JSON of more than 1 GiB", None),
    "XX001": ("the server found damaged data", "Check the table with pg_amcheck."),
    "53200": ("the server ran out of memory", None),
    "22021": ("a value is not valid UTF-8", "The database's encoding is SQL_ASCII: leave the column out or repair it."),
    "22P05": ("a value has no equivalent in UTF-8", "Leave the column out (columns.exclude)."),
}


def connect(where: ServerAddress, secret_settings: Mapping[str, str] = MappingProxyType({})) -> psycopg.Connection[Any]:
    """Open a connection without named prepared statements. Raises SourceError, SourceUnavailable, ConfigError.

    `secret_settings` go with the startup packet: the server's logs never show it, but they do show a statement's
    parameters. If a pooler refuses them, the connection is made without them: see `transactions.set_local`.
    """
    arguments = {
        "connect_timeout": CONNECT_TIMEOUT,
        "application_name": "floodmark",
        "prepare_threshold": None,
        **_KEEPALIVE,
        **tls.by_default(where.arguments),
        **where.arguments,
    }
    try:
        if secret_settings:
            try:
                return psycopg.connect(autocommit=True, **_with_options(arguments, secret_settings))
            except psycopg.OperationalError as error:
                if "startup" not in str(error).lower():
                    raise
        return psycopg.connect(autocommit=True, **arguments)
    except psycopg.Error as error:
        raise connect_error(error, where.label) from None
    except UnicodeError:
        raise ConfigError("can't connect", on=where.label, why="a name holds bytes that are not UTF-8") from None


def _with_options(arguments: dict[str, Any], settings: Mapping[str, str]) -> dict[str, Any]:
    """Add settings whose values hold no space to the options that libpq would send anyway."""
    given = arguments.get("options") or libpq_default("options")
    return {**arguments, "options": " ".join([given, *(f"-c {name}={value}" for name, value in settings.items())])}


def close_quietly(connection: psycopg.Connection[Any]) -> None:
    """Close a connection that might already be broken.

    If another thread uses it, it is only cut: the encoder reads libpq's memory, which closing would free. That thread
    then ends with an error.
    """
    if not connection.lock.acquire(blocking=False):
        with suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(connection.fileno())) as cut:
            cut.shutdown(socket.SHUT_RDWR)
        return
    try:
        with suppress(psycopg.Error):
            connection.close()
    finally:
        connection.lock.release()


def close_and_wait(connection: psycopg.Connection[Any]) -> None:
    """Close a connection, and wait a moment for the end of its server process.

    Only then is there room for another one, if the role or the server is at its limit.
    """
    with suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(connection.fileno())) as ours:
        close_quietly(connection)
        ends = select.poll()
        ends.register(ours, select.POLLIN)
        ends.poll(_LONGEST_END)
    close_quietly(connection)


@contextmanager
def cancelled_by(stop: threading.Event, connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Context manager for work on a connection, whose statements are cancelled once `stop` is set.

    So a statement that waits for a lock, or that gives no row for a long time, ends as well.
    """
    over = threading.Event()
    thread = threading.Thread(target=_cancel, args=(stop, connection, over), name="floodmark-cancel", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _cancel(stop: threading.Event, connection: psycopg.Connection[Any], over: threading.Event) -> None:
    """Cancel again and again until the work is over: between two statements, a request has no effect."""
    while not over.wait(_SECONDS_BETWEEN_CANCELS):
        if stop.is_set():
            with suppress(psycopg.Error):
                connection.cancel_safe(timeout=CONNECT_TIMEOUT)


def settings_to_pin(limits: Limits, server_version: int) -> dict[str, str]:
    """Return the settings that every transaction begins with, and their values."""
    settings = dict(_PINNED)
    settings["statement_timeout"] = f"{limits.statement_timeout}s"
    settings["lock_timeout"] = f"{limits.lock_timeout}s"
    if server_version >= 170000:
        settings["transaction_timeout"] = "0"
    return settings


def pinned_settings(limits: Limits, server_version: int, without: Container[str] = ()) -> str:
    """Return the SET LOCAL statements that begin every transaction, as one string. Leave out those `without`."""
    settings = settings_to_pin(limits, server_version)
    wanted = {name: value for name, value in settings.items() if name not in without}
    return "; ".join(f"SET LOCAL {name} = {_value_literals(value)}" for name, value in wanted.items())


def _value_literals(value: str) -> str:
    """Return a setting's value as literals, one for each part.

    'a, b' in one literal would be the name of one schema.
    """
    return ", ".join(f"'{part}'" for part in value.split(", "))


def translated(error: psycopg.Error, what: str, on: str) -> FloodmarkError:
    """Return Floodmark's error for a driver's. `what` was attempted `on` a table or server."""
    state = error.sqlstate
    if state is None or (state[:2] in ("08", "53") and state != "53200") or state[:3] == "57P":
        return SourceUnavailable(what, on=on, why=_code("the connection broke", error))
    if state == "40001":
        return SourceUnavailable(what, on=on, why=_code("the standby cancelled it to continue recovery", error))
    if state == "72000" or state in ("42P01", "42703", "3F000", "42704"):
        return SnapshotLost(what, on=on, why=_code("the definition changed after the snapshot", error))
    if state == "42501":
        return TableError(
            what,
            code="denied",
            on=on,
            why=_code("permission denied, or row-level security applies", error),
            hint=f"GRANT SELECT ON {on} to the role, or exclude the table.",
        )
    why, hint = _TABLE_ERRORS.get(state, ("the server refused", None))
    kind = TableLocked if state == "55P03" else TableError
    return kind(what, on=on, why=_code(why, error), hint=hint)


def _code(why: str, error: psycopg.Error) -> str:
    return f"{why} (SQLSTATE {error.sqlstate})" if error.sqlstate else f"{why} ({type(error).__name__})"
