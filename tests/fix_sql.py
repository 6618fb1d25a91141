"""Databases that SQLAlchemy reads in tests: each can be written to, and gives its lines chunk by chunk."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from fix_mariadb import MyDatabase
from fix_postgres import PgDatabase
from floodmark.config import Limits, Secret, Selection
from floodmark.model import Chunk
from floodmark.observed import TableInfo
from floodmark.pipeline.chunks import chunks_of
from floodmark.source.base import Source, SourceSnapshot
from floodmark.source.sql.dialect import Dialect
from floodmark.source.sql.facts import SqlOptions
from floodmark.source.sql.opening import open_sql_source
from floodmark.source.sql.snapshot import SqlSource


class SqlDatabase:
    """A database of one dialect. `open_source` opens it with a size of chunks."""

    def __init__(
        self, name: str, run: Callable[[str, Sequence[Any]], object], open_source: Callable[[int], Source]
    ) -> None:
        self.name, self._run, self._open_source = name, run, open_source

    def run(self, statement: str, values: Sequence[Any] = ()) -> None:
        self._run(statement, values)

    def snapshot(self, chunk_bytes: int) -> SourceSnapshot:
        return self._open_source(chunk_bytes).snapshot()

    def chunks(self, table: str, chunk_bytes: int = 8192, **selection: Any) -> list[str]:
        """The lines of each chunk of a table, in order, from a snapshot of their own."""
        with closing(self.snapshot(chunk_bytes)) as snapshot:
            (info,) = snapshot.tables(Selection(include=(table,), **selection), "jsonl/none")
            return [text_of(snapshot, info, chunk) for chunk in chunks_in(info)]


def chunks_in(info: TableInfo) -> list[Chunk]:
    (part,) = info.parts
    return [chunk for chunk, _ in chunks_of(part, None, 1)]


def text_of(snapshot: SourceSnapshot, info: TableInfo, chunk: Chunk) -> str:
    blocks: list[bytes] = []
    (part,) = info.parts
    got = snapshot.extract(info, part, chunk, chunk == chunks_in(info)[-1], blocks.append)
    text = b"".join(blocks).decode()
    assert text.count("\n") == got.lines
    return text


def sqlite_database(path: Path) -> SqlDatabase:
    with closing(sqlite3.connect(path)) as first:
        first.execute("PRAGMA journal_mode = WAL")

    def run(statement: str, values: Sequence[Any]) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as writer:
            if values and isinstance(values[0], list | tuple):
                writer.execute("BEGIN")
                writer.executemany(statement, values)
                writer.execute("COMMIT")
            else:
                writer.execute(statement, values)

    return SqlDatabase("sqlite", run, lambda size: open_sql_source(options(f"sqlite:///{path}", size)))


def duckdb_database(path: Path) -> SqlDatabase:
    duckdb = pytest.importorskip("duckdb")
    pytest.importorskip("duckdb_engine")

    def run(statement: str, values: Sequence[Any]) -> None:
        with closing(duckdb.connect(str(path))) as writer:
            if values and isinstance(values[0], list | tuple):
                writer.execute("BEGIN")
                writer.executemany(statement, values)
                writer.execute("COMMIT")
            else:
                writer.execute(statement, values)

    run("SELECT 1", ())
    return SqlDatabase("duckdb", run, lambda size: open_sql_source(options(f"duckdb:///{path}", size)))


def reflected_database(pg: PgDatabase) -> SqlDatabase:
    """PostgreSQL by SQLAlchemy's reflection, as a database that Floodmark does not know better."""
    url = make_url(pg.url).set(drivername="postgresql+psycopg")

    def run(statement: str, values: Sequence[Any]) -> None:
        with pg.connect(autocommit=False) as writer:
            if values and isinstance(values[0], list | tuple):
                writer.cursor().executemany(statement.replace("?", "%s"), values)
            else:
                writer.execute(statement.replace("?", "%s") if values else statement, values or None)

    def opened(size: int) -> Source:
        return SqlSource(Dialect(url, options(url.render_as_string(hide_password=False), size)))

    return SqlDatabase("reflected", run, opened)


def options(url: str, chunk_bytes: int) -> SqlOptions:
    return SqlOptions(Secret(url), Limits(connections=2), chunk_bytes=chunk_bytes)


def mariadb_database(my: MyDatabase) -> SqlDatabase:
    def run(statement: str, values: Sequence[Any]) -> None:
        statement = statement.replace("?", "%s").replace("text", "varchar(100)")
        with my.connect() as writer, writer.cursor() as cursor:
            if values and isinstance(values[0], list | tuple):
                cursor.executemany(statement, values)
            else:
                cursor.execute(statement, values or None)

    return SqlDatabase("mariadb", run, lambda size: open_sql_source(options(my.url, size)))


@pytest.fixture(params=["sqlite", "duckdb", "mariadb", "reflected"])
def sql_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlDatabase]:
    if request.param == "reflected":
        yield reflected_database(request.getfixturevalue("pg"))
    elif request.param == "mariadb":
        yield mariadb_database(request.getfixturevalue("my"))
    else:
        made = {"sqlite": sqlite_database, "duckdb": duckdb_database}[request.param]
        yield made(tmp_path / "service.db")
