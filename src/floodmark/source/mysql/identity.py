"""Evidence that a name still means the table that the snapshot means.

A snapshot of InnoDB shows rows as they were, but names and definitions as they are. Tried on MariaDB 10.11, with a
snapshot that is older than the statement, and a table that it did not read yet:

- These fail with error 1412, so nothing wrong is read: DROP and CREATE, CREATE OR REPLACE, TRUNCATE (also of a
  partition), every ALTER that copies or rebuilds the table (ENGINE, FORCE, CONVERT TO CHARACTER SET, ROW_FORMAT, an
  ENUM's order, SYSTEM VERSIONING, another primary key), REORGANIZE PARTITION, OPTIMIZE, and a new index.
- These silently show other rows or values: RENAME TABLE and ALTER … RENAME (the other table's rows), DROP and RENAME,
  EXCHANGE PARTITION, DROP PARTITION (its rows are missing), DISCARD and IMPORT TABLESPACE, an instant DROP COLUMN and
  ADD COLUMN of the same name (the default in each row), a virtual column with another expression, and every change of a
  view.

Three facts tell of the silent ones. The time when the definition was written (information_schema.TABLES.CREATE_TIME,
which MariaDB takes from the file) changes with all of them, apart from EXCHANGE PARTITION and IMPORT TABLESPACE.
InnoDB's TABLE_ID, which needs the privilege PROCESS, changes with these two, and with a rename, but not with instant
changes. The server's counters of ALTER, RENAME and view statements change with all of them, but as each begins: a
statement that waited through the snapshot was counted before it. So the first two facts are compared from before the
snapshot to after the last row. The counters save most of the work: if they are the same, nothing new began.

MySQL keeps neither file nor such a time, so there a change of the counters is a change of every table.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct
from sqlalchemy import Connection

from floodmark.source.mysql.refusals import number_of

# Statements that can change which rows or values a name shows without an error.
_TABLE_STATEMENTS = ("alter_table", "rename_table")
_VIEW_STATEMENTS = (
    "create_view", "drop_view", "create_function", "create_spfunction", "alter_function", "drop_function",
)  # fmt: skip
_COUNTERS = ", ".join(f"'Com_{name}'" for name in (*_TABLE_STATEMENTS, *_VIEW_STATEMENTS))
_NO_RIGHT = (1227, 1142, 1045)


_IN_PROGRESS = """
    SELECT COUNT(*) FROM information_schema.PROCESSLIST
    WHERE ID <> CONNECTION_ID() AND COMMAND NOT IN ('Sleep', 'Daemon', 'Binlog Dump')
      AND NOT COALESCE(INFO RLIKE '^(SELECT|INSERT|UPDATE|DELETE|COMMIT)[[:space:](]', FALSE)
"""


class Counters(Struct, frozen=True):
    """The numbers of statements of two kinds that the server began since its start."""

    tables: int
    views: int


class Evidence(Struct, frozen=True):
    """The facts that identify a table: when its definition was written, and the ids that InnoDB gave its parts.

    `ids` are empty for a table of another engine, and None if the role may not see them.
    """

    written: str | None
    ids: tuple[str, ...] | None = None


def read_counters(connection: Connection) -> Counters:
    rows = connection.exec_driver_sql(f"SHOW GLOBAL STATUS WHERE Variable_name IN ({_COUNTERS})").all()
    counts = {str(name).lower().removeprefix("com_"): int(value) for name, value in rows}
    return Counters(
        sum(counts.get(name, 0) for name in _TABLE_STATEMENTS), sum(counts.get(name, 0) for name in _VIEW_STATEMENTS)
    )


def read_evidence(connection: Connection, schema: str, maria: bool) -> dict[str, Evidence]:
    """Return the evidence for every table of a database, by name. Views have none."""
    times = connection.exec_driver_sql(
        "SELECT TABLE_NAME, CREATE_TIME FROM information_schema.TABLES "
        "WHERE TABLE_SCHEMA = %s AND TABLE_TYPE <> 'VIEW'",
        (schema,),
    ).all()
    names = {str(name): str(time) if time is not None else None for name, time in times}
    ids = _table_ids(connection, schema, maria)
    if ids is None:
        return {name: Evidence(time) for name, time in names.items()}
    files = _file_names(connection, list(names))
    return {name: Evidence(time, ids.get(files[name], ())) for name, time in names.items()}


def read_one(connection: Connection, schema: str, name: str, maria: bool, with_ids: bool) -> Evidence | None:
    """Return the present evidence for one table, or None if no table has that name."""
    found = connection.exec_driver_sql(
        "SELECT CREATE_TIME FROM information_schema.TABLES "
        "WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s AND TABLE_TYPE <> 'VIEW'",
        (schema, name),
    ).first()
    if found is None:
        return None
    written = None if found[0] is None else str(found[0])
    ids = _table_ids(connection, schema, maria) if with_ids else None
    return Evidence(written, None if ids is None else ids.get(_file_names(connection, [name])[name], ()))


def none_in_progress(connection: Connection) -> bool:
    """Return True if no other session is at work on a statement that could alter a table. It needs PROCESS.

    The command of a session shows before the server counts its statement.
    """
    ((number,),) = connection.exec_driver_sql(_IN_PROGRESS).all()
    return int(number) == 0


def is_fresh(now: Evidence, taken_at: datetime) -> bool:
    """Return True if a table was written in the second of the snapshot, or later.

    CREATE_TIME has whole seconds, so it would not show another change in that second.
    """
    return now.written is not None and datetime.fromisoformat(now.written) >= taken_at.replace(
        microsecond=0, tzinfo=None
    )


def _table_ids(connection: Connection, schema: str, maria: bool) -> Mapping[str, tuple[str, ...]] | None:
    """Return InnoDB's ids of a database's tables and their partitions, by the table's name in file names."""
    view, database = "INNODB_SYS_TABLES" if maria else "INNODB_TABLES", _file_names(connection, [schema])[schema]
    try:
        rows = connection.exec_driver_sql(
            f"SELECT NAME, TABLE_ID FROM information_schema.{view} WHERE LEFT(NAME, %s) = %s",
            (len(database) + 1, f"{database}/"),
        ).all()
    except Exception as error:
        if number_of(error) in _NO_RIGHT:
            return None
        raise
    found: dict[str, list[str]] = {}
    for name, number in rows:
        table, _, part = str(name).partition("/")[2].partition("#")
        found.setdefault(table, []).append(f"{part}={number}")
    return {table: tuple(sorted(parts)) for table, parts in found.items()}


def _file_names(connection: Connection, names: list[str]) -> dict[str, str]:
    """Return the names as the server writes them in file names: `my-table` is `my@002dtable`."""
    plain = {name: name for name in names if name.isascii() and name.replace("_", "a").isalnum()}
    for name in names:
        if name not in plain:
            question = "SELECT CAST(CONVERT(%s USING filename) AS BINARY)"
            ((encoded,),) = connection.exec_driver_sql(question, (name,)).all()
            plain[name] = encoded.decode("ascii") if isinstance(encoded, bytes) else str(encoded)
    return plain
