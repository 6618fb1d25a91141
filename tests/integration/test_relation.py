"""A landed table as a DuckDB relation, on a connection that is someone's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import duckdb
import pytest

import floodmark
from fix_runs import Nightly
from floodmark.errors import ConfigError


@pytest.fixture
def snapshot(nightly: Nightly) -> floodmark.Snapshot:
    nightly.database.execute(
        "CREATE TABLE person (a int); INSERT INTO person VALUES (1);"
        "CREATE SCHEMA audit; CREATE TABLE audit.person (b text); INSERT INTO audit.person VALUES ('x');"
        'CREATE TABLE nothing (); INSERT INTO nothing DEFAULT VALUES; CREATE TABLE twins (a int, "A" int)'
    )
    nightly.run()
    return floodmark.open(str(nightly.folder)).latest()


@pytest.fixture
def connection() -> Iterator[Any]:
    with duckdb.connect() as opened:
        yield opened


def test_every_relation_keeps_its_own_rows(snapshot: floodmark.Snapshot, connection: Any) -> None:
    """The first bears the table's name, the next ones that name and a number."""
    people, entries = (snapshot[label].relation(connection) for label in ("public.person", "audit.person"))
    again = snapshot["public.person"].relation(connection)
    assert people.fetchall() == again.fetchall() == [(1,)] and entries.fetchall() == [("x",)]
    assert [one.alias for one in (people, entries, again)] == ["person", "person_2", "person_3"]
    assert connection.execute("SELECT b FROM person_2").fetchall() == [("x",)]


@pytest.mark.parametrize("kind", ["TEMP TABLE", "TEMP VIEW", "TABLE", "VIEW"])
def test_nothing_of_the_connections_own_is_replaced_or_hidden(
    snapshot: floodmark.Snapshot, connection: Any, kind: str
) -> None:
    connection.execute(f"CREATE {kind} Person AS SELECT 42 AS mine; CREATE TEMP TABLE _floodmark_incoming (mine int)")
    assert snapshot["public.person"].relation(connection).fetchall() == [(1,)]
    assert connection.execute("SELECT mine FROM person").fetchall() == [(42,)]
    with pytest.raises(ConfigError, match="PERSON: the connection has a table or view of this name") as refusal:
        snapshot["audit.person"].relation(connection, name="PERSON")
    assert "PERSON" in refusal.value.sentence and connection.execute("FROM person").fetchall() == [(42,)]
    named = snapshot["audit.person"].relation(connection, name="x")
    with pytest.raises(ConfigError):
        snapshot["public.person"].relation(connection, name="x")
    assert named.fetchall() == [("x",)]
    assert connection.execute("SELECT count(*) FROM _floodmark_incoming").fetchall() == [(0,)]


@pytest.mark.parametrize(("table", "why"), [("nothing", "the table has no columns"), ("twins", "differ only in case")])
def test_what_duckdb_has_no_table_for(snapshot: floodmark.Snapshot, connection: Any, table: str, why: str) -> None:
    with pytest.raises(ConfigError, match=f"can't load a table into DuckDB: public.{table}: .*{why}"):
        snapshot[table].relation(connection)
    assert connection.execute("SHOW ALL TABLES").fetchall() == []
