"""The reader on what real runs landed: values, changes, cursors, damage."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC
from decimal import Decimal
from math import copysign, isnan
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pyarrow as pa
import pytest
from msgspec.structs import replace

import floodmark
from fix_postgres import PgDatabase
from fix_runs import Nightly
from fix_state import never
from floodmark.errors import ConfigError, Conflict, DoesNotFit, ObjectMissing, StateUnreadable, VerificationFailed
from floodmark.reader.reader import Reader, Table

VALUES = """
    CREATE TYPE colour AS ENUM ('red', 'gr"een');
    CREATE TYPE pair AS (x int, y text);
    CREATE DOMAIN cents AS bigint;
    CREATE TABLE "values" (
      i2 int2, i4 int4, i8 int8, n numeric(12,2), bare numeric, wide numeric(38,10), f4 float4, f8 float8, b bool,
      d date, ts timestamp, tz timestamptz, u uuid, t text, c char(4), bin bytea, e colour);
    INSERT INTO "values" VALUES
      (-32768, 2147483647, -9223372036854775808, 9999999999.99, 0.1234567891, 1234567890123456789012345678.0000000001,
       1.1, 1e300, true, '2026-11-24', '2026-11-24 01:02:03.000001', '2026-07-01 12:00+01',
       '5e6a8f64-0f5c-4a3e-9b7a-0a7a2b2b2b2b', E'tab\\t \\\\ "q" \\u2028 🦀', 'ab', '\\x00ff5c', 'gr"een'),
      (0, 0, 0, 0, 0, 0, 0, 9007199254740993, false, '0001-01-01', '0001-01-01', '9999-12-31 23:59:59.999999+00',
       '00000000-0000-0000-0000-000000000000', '', '', '', 'red'),
      (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
    CREATE TABLE texts (j jsonb, a int[], p pair, m money, iv interval, r int4range, k cents, ti time, ip inet);
    INSERT INTO texts VALUES ('{"a": 1.10, "b": 12345678901234567890.123}', '{{1,NULL},{3,4}}', '(1,"a b")', 12.5,
      '1 day 02:03', '[1,5)', 7, '24:00', '10.0.0.1/8'), ('null', '{}', NULL, NULL, NULL, NULL, NULL, NULL, NULL),
      ('"s"', NULL, NULL, NULL, NULL, NULL, NULL, '23:59:59.999999', NULL)"""
EXTREME = ["'0044-03-15 BC'", "'4713-01-01 BC'", "'0001-02-29 BC'", "'10000-01-01'", "'294000-12-31'", "'1600-02-29'"]


@pytest.fixture
def values(nightly: Nightly) -> floodmark.Snapshot:
    nightly.database.execute(VALUES)
    nightly.run()
    return floodmark.open(str(nightly.folder)).latest()


def truth(database: PgDatabase, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(database.dsn) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.execute(query).fetchall()


def as_rows(table: pa.Table) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in table.to_pylist()]


def test_arrow_holds_exactly_what_the_database_holds(values: floodmark.Snapshot, nightly: Nightly) -> None:
    table = values["values"].arrow().read_all()
    expected = truth(nightly.database, 'SELECT *, u::text AS u2 FROM "values"')
    expected = [(*row[:12], row[17], *row[13:17]) for row in expected]
    found = as_rows(table)
    assert [row[:6] + row[7:] for row in found] == [row[:6] + row[7:] for row in expected]
    assert [row[6] for row in found] == [pytest.approx(1.1, rel=1e-6), 0.0, None]
    assert [str(field.type) for field in table.schema] == [kind.arrow for kind in values["values"].types()]


def test_duckdb_holds_exactly_what_the_database_holds(values: floodmark.Snapshot, nightly: Nightly) -> None:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found = values["values"].relation(connection)
        assert [str(kind) for kind in found.types] == [kind.duckdb for kind in values["values"].types()]
        rows = found.fetchall()
        assert found.fetchall() == rows, "a relation can be read twice"
    expected = truth(nightly.database, 'SELECT * FROM "values"')
    assert [row[:6] + row[7:11] + row[12:] for row in rows] == [row[:6] + row[7:11] + row[12:] for row in expected]
    moments = [None if row[11] is None else row[11].astimezone(UTC) for row in rows]
    assert moments == [row[11] for row in expected]


def test_json_arrays_and_unknown_types_keep_their_text(values: floodmark.Snapshot) -> None:
    """Where DuckDB's own reader would make 1.1 of 1.10, and lose the digits of a long number."""
    (first, second, third) = values["texts"].arrow().read_all().to_pylist()
    assert first["j"] == '{"a": 1.10, "b": 12345678901234567890.123}' and first["a"] == "[[1,null],[3,4]]"
    assert json.loads(first["p"]) == {"x": 1, "y": "a b"}
    assert [first[name] for name in ("m", "iv", "r", "k", "ti", "ip")] == [
        "$12.50", "P1DT2H3M", "[1,5)", 7, "24:00:00", "10.0.0.1/8",
    ]  # fmt: skip
    assert second["j"] is None and second["a"] == "[]" and third["j"] == '"s"'
    with duckdb.connect() as connection:
        values["texts"].relation(connection)
        found = connection.execute("SELECT typeof(j), j::varchar, typeof(ti), ti::varchar FROM texts").fetchall()
    assert found[0] == ("JSON", '{"a": 1.10, "b": 12345678901234567890.123}', "TIME", "24:00:00")


def test_rows_are_dicts_with_exact_numbers(values: floodmark.Snapshot) -> None:
    first, _, empty = values["public.values"].rows()
    assert first["wide"] == Decimal("1234567890123456789012345678.0000000001") and first["i8"] == -(2**63)
    assert first["tz"] == "2026-07-01T11:00:00+00:00" and first["bin"] == "\\x00ff5c" and first["f8"] == 1e300
    assert set(empty.values()) == {None}
    assert next(iter(values["texts"].lines())).startswith(b'{"j":{"a": 1.10')


def test_what_json_has_no_number_for(nightly: Nightly) -> None:
    nightly.database.execute(
        "CREATE TABLE odd (f float8, g float4, n numeric);"
        "INSERT INTO odd VALUES ('NaN', 'Infinity', 'NaN'), ('-Infinity', 1.5, 1)"
    )
    nightly.run()
    odd = floodmark.open(str(nightly.folder)).latest()["odd"]
    first, second = odd.rows()
    assert isnan(first["f"]) and first["g"] == float("inf") and first["n"].is_nan() and second["f"] == float("-inf")
    with pytest.raises(DoesNotFit) as refusal:
        odd.arrow().read_all()
    assert "public.odd, column n" in refusal.value.sentence and "--text public.odd.n" in (refusal.value.hint or "")
    table = odd.arrow(text=["n"]).read_all()
    assert table.column("n").to_pylist() == ["NaN", "1"] and isnan(table.column("f")[0].as_py())


def test_no_digit_and_no_sign_of_a_number_is_lost(nightly: Nightly) -> None:
    """A numeric is a Decimal; elsewhere a number is a float only where that is the very number."""
    digits = "12345678901234567890123456789012345678901234567890.0123456789"
    nightly.database.execute(
        "CREATE DOMAIN cents AS numeric(10,2);"
        "CREATE TABLE digits (w numeric(60,10), c cents, a numeric[], j jsonb, f float8, g real, h float8[]);"
        f"INSERT INTO digits VALUES ({digits}, 12345678.10, ARRAY[{digits}, 1.50], '[{digits}, 0.10, 1e-400]',"
        "'-0', '-0', '{-0, 0.1}'), (7, 7, NULL, NULL, 0, 0, NULL)"
    )
    nightly.run()
    table = floodmark.open(str(nightly.folder)).latest()["digits"]
    first, second = table.rows()
    exact = Decimal(digits)
    assert first["w"] == exact and (type(second["w"]), second["w"]) == (Decimal, 7)
    assert first["a"] == [exact, 1.5] and first["j"] == [exact, 0.1, Decimal("1e-400")]
    assert (type(first["c"]), first["c"]) == (Decimal, Decimal("12345678.10"))
    assert [copysign(1, row[name]) for row in (first, second) for name in "fg"] == [-1, -1, 1, 1]
    assert table.arrow().read_all().column("w").to_pylist() == [digits, "7.0000000000"]
    with duckdb.connect() as connection:
        signs = table.relation(connection).project("signbit(f), signbit(g)").fetchall()
    assert signs == [(True, True), (False, False)]


def test_json_beyond_what_python_holds(nightly: Nightly) -> None:
    """A number that no float holds is a Decimal; what is nested too deep for a decoder is an error of our own."""
    nightly.database.execute(
        "CREATE TABLE odd (n int, j json); INSERT INTO odd VALUES (1, '[1e400, 2.5]'), (2, '1');"
        "INSERT INTO odd VALUES (3, ('{\"a\":' || repeat('9', 5000) || '}')::json)"
    )
    nightly.run()
    odd = floodmark.open(str(nightly.folder)).latest()["odd"]
    assert [row["j"] for row in odd.rows()] == [[Decimal("1e400"), 2.5], 1, {"a": Decimal("9" * 5000)}]
    nightly.database.execute("INSERT INTO odd VALUES (4, (repeat('[', 1500) || repeat(']', 1500))::json)")
    nightly.run()
    odd = floodmark.open(str(nightly.folder)).latest()["odd"]
    for read in (lambda: list(odd.rows()), lambda: odd.arrow().read_all()):
        with pytest.raises(DoesNotFit, match="nested too deep"):
            read()
    assert len(list(odd.lines())) == 4


def test_dates_in_the_whole_range_and_what_has_no_counterpart(nightly: Nightly) -> None:
    rows = ", ".join(f"({text}::timestamp::date, {text}::timestamp, {text}::timestamptz)" for text in EXTREME)
    nightly.database.execute(f"CREATE TABLE eras (d date, t timestamp, z timestamptz); INSERT INTO eras VALUES {rows}")
    nightly.database.execute(
        "CREATE TABLE forever (until date); INSERT INTO forever VALUES ('infinity'), ('2026-01-01')"
    )
    nightly.run()
    snapshot = floodmark.open(str(nightly.folder)).latest()
    table = snapshot["eras"].arrow().read_all()
    found = zip(
        table.column("d").cast(pa.int32()).to_pylist(),
        *(table.column(name).cast(pa.int64()).to_pylist() for name in ("t", "z")),
        strict=True,
    )
    epochs = ", ".join(f"(extract(epoch FROM {name}) * 1000000)::int8" for name in ("t", "z"))
    query = f"SELECT d - '1970-01-01', {epochs} FROM eras"
    assert list(found) == truth(nightly.database, query)
    with pytest.raises(DoesNotFit, match="column until"):
        list(snapshot["forever"].batches())
    assert snapshot["forever"].arrow(text=["until"]).read_all().column(0).to_pylist() == ["infinity", "2026-01-01"]
    with duckdb.connect() as connection:
        snapshot["forever"].relation(connection)
        snapshot["eras"].relation(connection)
        assert connection.execute("SELECT count(*) FROM forever WHERE until = 'infinity'::date").fetchone() == (1,)
        assert connection.execute("SELECT d::varchar FROM eras").fetchone() == ("0044-03-15 (BC)",)


def test_names_that_are_hard_to_quote(nightly: Nightly) -> None:
    nightly.database.execute(
        'CREATE TABLE "odd ""name" ("a""b" int, "c\\d" numeric, "é 🦀" jsonb, "x\'y" date);'
        "INSERT INTO \"odd \"\"name\" VALUES (1, 2.50, '{}', '2026-01-01'); CREATE TABLE nothing ();"
        "INSERT INTO nothing DEFAULT VALUES"
    )
    nightly.run()
    snapshot = floodmark.open(str(nightly.folder)).latest()
    table = snapshot['odd "name']
    row = {'a"b': 1, "c\\d": Decimal("2.50"), "é 🦀": {}, "x'y": "2026-01-01"}
    assert list(table.rows()) == [row]
    assert list(table.arrow().read_all().to_pylist()[0].values())[:3] == [1, Decimal("2.5000000000"), "{}"]
    with duckdb.connect() as connection:
        assert table.relation(connection).columns == list(row)
    assert snapshot["nothing"].arrow().read_all().num_rows == 1 and list(snapshot["nothing"].rows()) == [{}]


def grown(nightly: Nightly) -> Reader:
    """A day on which one of four chunks changed, one table went and one came."""
    nightly.database.execute(
        "CREATE TABLE big (id int, t text) WITH (autovacuum_enabled = off);"
        "INSERT INTO big SELECT n, repeat('x', 200) FROM generate_series(1, 1000) n;"
        "CREATE TABLE same (a int); INSERT INTO same VALUES (1); CREATE TABLE old (a int)"
    )
    nightly.run()
    nightly.database.execute("INSERT INTO big VALUES (0, 'new'); DROP TABLE old; CREATE TABLE fresh (a int)")
    return floodmark.open(str(nightly.folder))


def labels(changed: tuple[floodmark.Changed[Table], ...]) -> list[str]:
    return [one.table.label for one in changed]


def test_what_changed_since_a_run_a_snapshot_or_a_cursor(nightly: Nightly) -> None:
    reader = grown(nightly)
    first = reader.latest()
    cursor = reader.cursor("etl")
    assert cursor.run_id is None
    assert labels(first.changes(cursor).changed) == ["public.big", "public.old", "public.same"]
    cursor = cursor.advance(first)
    assert not first.changes(reader.cursor("etl"))
    nightly.run()
    now = reader.latest()
    for since in (first, reader.run(first.run_id), reader.cursor("etl")):
        changes = now.changes(since)
        assert labels(changes.changed) == ["public.big", "public.fresh"]
        assert [name.label for name in changes.gone] == ["public.old"]
        assert [table.label for table in changes.unchanged] == ["public.same"]
        big = changes.changed[0]
        assert len(big.new) == 1 and len(big.gone) == 1 and len(big.table.objects) > 3 and not big.whole
        assert any(row["id"] == 0 for row in big.table.rows(big.new))
    assert [snapshot.run_id for snapshot in reader.history()] == [now.run_id, first.run_id]
    assert cursor.advance(now).run_id == now.run_id


def test_places_are_paths_too_and_everything_says_what_it_is(nightly: Nightly) -> None:
    nightly.database.execute(
        "CREATE TABLE t (a int); CREATE SCHEMA s; CREATE TABLE s.t (a int); INSERT INTO s.t VALUES (1)"
    )
    nightly.run()
    snapshot = floodmark.open(nightly.folder).latest()
    assert floodmark.open(state=nightly.folder / "_floodmark").latest().run_id == snapshot.run_id
    assert snapshot.run_id in repr(snapshot) and repr(snapshot["s.t"]) == "<Table s.t: 1 row in 1 chunk>"
    with pytest.raises(KeyError, match=r"t is ambiguous: public\.t, s\.t"):
        snapshot["t"]


def test_a_table_that_could_not_be_read_is_not_gone(nightly: Nightly) -> None:
    """It has no snapshot in the manifest: the first run since another database was adopted failed at it."""
    reader = grown(nightly)
    first = reader.latest()
    reader.cursor("etl").advance(first)
    tables = [never("old") if entry.name == "old" else entry for entry in first.manifest.tables]
    unread = floodmark.Snapshot(replace(first.manifest, tables=tuple(tables)), first.data)
    for since in (first, reader.cursor("etl")):
        changes = unread.changes(since)
        assert not changes and [table.label for table in changes.unchanged] == ["public.big", "public.same"]
    reader.cursor("etl").advance(unread)
    assert not first.changes(reader.cursor("etl")), "and when it is read again, it is what was taken before"
    without = floodmark.Snapshot(replace(first.manifest, tables=first.manifest.tables[:1]), first.data)
    assert [name.label for name in without.changes(reader.cursor("etl")).gone] == ["public.same", "public.old"]


def test_a_column_that_is_renamed_or_retyped_makes_every_chunk_new(nightly: Nightly) -> None:
    nightly.database.execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
    nightly.run()
    reader = floodmark.open(str(nightly.folder))
    before = reader.latest()
    nightly.database.execute("ALTER TABLE t ALTER a TYPE bigint")
    nightly.run()
    now = reader.latest()
    assert now["t"].entry.checksum == before["t"].entry.checksum
    (changed,) = now.changes(before).changed
    assert changed.whole and len(changed.new) == 1


def test_two_owners_of_a_cursor(nightly: Nightly) -> None:
    nightly.database.execute("CREATE TABLE t (a int)")
    nightly.run()
    reader = floodmark.open(state=str(nightly.folder / "_floodmark"))
    ours, theirs = reader.cursor("etl"), reader.cursor("etl")
    theirs.advance(reader.latest())
    with pytest.raises(Conflict) as refusal:
        ours.advance(reader.latest())
    assert refusal.value.exit_code == 11
    assert reader.cursor("etl").advance(reader.latest())
    with pytest.raises(ConfigError):
        reader.cursor("../head")


READINGS: dict[str, Callable[[Table], object]] = {
    "blocks": lambda table: list(table.blocks()),
    "lines": lambda table: list(table.lines()),
    "rows": lambda table: list(table.rows()),
    "batches": lambda table: list(table.batches()),
    "arrow": lambda table: table.arrow().read_all(),
    "relation": lambda table: table.relation(duckdb.connect()),
}


@pytest.mark.parametrize("reading", READINGS)
def test_damage_is_found_by_every_way_to_read(nightly: Nightly, reading: str) -> None:
    grown(nightly)
    table = floodmark.open(str(nightly.folder)).latest()["big"]
    READINGS[reading](table)
    path = nightly.folder / table.objects[-1].key
    path.write_bytes(path.read_bytes()[:-9] + b"123456789")
    with pytest.raises(VerificationFailed):
        READINGS[reading](table)
    path.unlink()
    with pytest.raises(ObjectMissing):
        READINGS[reading](table)


def test_a_bucket_that_was_moved_and_places_that_are_nothing(nightly: Nightly, tmp_path: Path) -> None:
    grown(nightly)
    nightly.folder.rename(tmp_path / "moved")
    moved = floodmark.open(str(tmp_path / "moved"))
    assert len(list(moved.latest()["big"].rows())) == 1000
    with pytest.raises(ObjectMissing):
        list(floodmark.open(state=str(tmp_path / "moved/_floodmark")).latest()["big"].rows())
    with pytest.raises(ObjectMissing, match=r"_floodmark: no head\.json is there"):
        floodmark.open(str(tmp_path)).latest()
    with pytest.raises(KeyError):
        moved.latest()["nothing"]
    head = tmp_path / "moved/_floodmark/head.json"
    head.write_bytes(head.read_bytes().replace(b'"version": 1', b'"version": 2'))
    with pytest.raises(StateUnreadable, match="version 2 is not known") as refusal:
        moved.latest()
    assert refusal.value.exit_code == 13
