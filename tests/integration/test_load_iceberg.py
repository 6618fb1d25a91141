"""`floodmark load --into iceberg:`, as PyIceberg reads what it made."""

from __future__ import annotations

import datetime
import os
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import psycopg
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog import load_catalog
from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField
from test_load import take_over_a_moved_database

from fix_iceberg import INTO, NAMESPACE, Warehouse
from fix_load import DAY_2, FIRST, SECOND, Job, unchanged
from fix_storage import REGION, S3Bucket, S3Server
from floodmark.load import iceberg_expiry
from floodmark.load.iceberg_table import TableChange


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "warehouse")


def test_day_by_day_only_changed_chunks_are_written(job: Job, warehouse: Warehouse) -> None:
    assert job.load(INTO, *warehouse.options) == FIRST
    first_run, old_files, old_rows = job.run_id, warehouse.files("big"), warehouse.rows("person")
    assert old_rows[0][:5] == (1, "Ada", datetime.date(1815, 12, 10), '{"a": 1.10}', Decimal("12.50"))
    before = warehouse.file.read_bytes()
    hidden = job.hide_data()
    assert job.load(INTO, *warehouse.options) == unchanged(FIRST), "nothing of an unchanged day is read"
    assert warehouse.file.read_bytes() == before, "and nothing is committed"
    hidden.rename(job.landing / "data")
    kept = {path: Path(path).read_bytes() for path in old_files}
    job.night(DAY_2)
    assert job.load(INTO, *warehouse.options) == SECOND
    files = warehouse.files("big")
    assert len(files) > 4 and len(files - old_files) == len(old_files - files) == 1
    assert all(Path(path).read_bytes() == data for path, data in kept.items())
    assert len(warehouse.rows("big")) == 1501
    big = warehouse.table("big")
    assert [one.summary["floodmark.run-id"] for one in big.snapshots() if one.summary] == [first_run, job.run_id]
    assert big.properties["floodmark.run-id"] == job.run_id
    assert (job.landing / "_floodmark" / big.properties["floodmark.manifest"]).is_file()
    (then,) = [one for one in warehouse.table("person").snapshots() if one.summary["floodmark.run-id"] == first_run]  # type: ignore[index]
    assert warehouse.rows("person", then.snapshot_id) == old_rows, "time travel, in the columns of that time"
    assert {row[-1] for row in warehouse.rows("person")} == {None, "n"}
    assert "empty" in warehouse.names()
    assert job.load(INTO, *warehouse.options, "--drop") == {**unchanged(SECOND), "public.empty": "dropped"}
    assert warehouse.names() == ["audit_log", "big", "fresh", "person"]


def test_a_table_whose_metadata_is_gone_stops_no_other_table(job: Job, warehouse: Warehouse) -> None:
    job.load(INTO, *warehouse.options)
    for name in ("person", "audit_log"):  # of a landed table, and of one that this load leaves out
        Path(warehouse.table(name).metadata_location).unlink()
    job.night("UPDATE person SET name = 'B'; INSERT INTO big VALUES (0, 'new')")
    code, out, err = job.command("load", "--into", INTO, *warehouse.options, "--exclude", "audit.*")
    assert (code, len(warehouse.rows("big"))) == (13, 1501), err
    assert "can't read the table: cases.person: a file of its metadata is missing" in out
    assert "drop the table from the catalog and load again" in err


@pytest.mark.parametrize("place", ["file", "file/folder", "odd?name"])
def test_a_warehouse_that_can_not_be_made(job: Job, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    code, _, err = job.command("load", "--into", INTO, "--warehouse", str(tmp_path / place))
    assert code == (2 if "?" in place else 10) and str(tmp_path / place) in err
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file", "landing"]


TYPES = """
    CREATE TYPE mood AS ENUM ('sad', 'ok');
    CREATE TABLE kinds (s smallint, i int, l bigint, n numeric(10,2), w numeric(38,10), d numeric(50,5), f real,
        g double precision, b bool, born date, at timestamp, tz timestamptz, clock time, span interval, u uuid, j json,
        k jsonb, x bytea, t text, v varchar(9), m mood, a int[], ip inet, "a.b" int, "Größe ""1"" cm" text);
    INSERT INTO kinds VALUES (-32768, 2147483647, -9223372036854775808, -99999999.99,
        -9999999999999999999999999999.9999999999, 123456789012345678901234567890123456789012345.00001,
        'NaN', '-Infinity', true, '0001-01-01', '9999-12-31 23:59:59.999999', '0001-01-01 00:00Z', '23:59:59.000001',
        '1 mon -2 days', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{"b" : 1.10}', '[1e3, "x"]', '\\x00ff',
        E'\\n"\u20ac', '', 'sad', '{1,NULL}', '10.0.0.1', 7, 'x'),
        (1, -1, 1, 0, 0, 0, 0.1, 'NaN', false, '2026-01-01', '2026-01-01', '2026-01-01 12:00Z', '00:00', '0',
        'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12', '"s"', '{}', '', repeat('z', 100), 'v', 'ok', '{}', '::1', -7, '');
    INSERT INTO kinds (s) VALUES (NULL);
    CREATE TABLE nothing (a int, b text);
    CREATE TABLE ancient (d date, ts timestamp, e numeric);
    INSERT INTO ancient VALUES ('0044-03-15 BC', '20000-01-01', 1.5), ('2026-01-01', NULL, NULL);
    CREATE TABLE part (id int, t text) PARTITION BY RANGE (id);
    CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (10);
    CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM (10) TO (20);
    INSERT INTO part VALUES (1, 'one'), (15, 'fifteen');
    CREATE TABLE endless (id int, until date, since timestamptz);
    INSERT INTO endless VALUES (1, '-infinity', '-infinity'), (2, 'infinity', NULL)"""
# What Iceberg gets as text, or as another type with the same value, in PostgreSQL's words.
IN_SQL = {
    **{name: f"{name}::text" for name in ("d", "clock", "span", "u", "j", "k")},
    "a": "to_json(a)::text", "ip": "to_json(ip) #>> '{}'", "f": "f::float8", "tz": "tz AT TIME ZONE 'UTC'",
}  # fmt: skip


def source_rows(job: Job, table: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(job.database.url.replace("+psycopg", "")) as connection:
        connection.execute("SET intervalstyle = iso_8601")
        names = [one.name for one in connection.execute(f"SELECT * FROM {table} LIMIT 0").description or ()]
        chosen = ", ".join(IN_SQL.get(name, '"' + name.replace('"', '""') + '"') for name in names)
        return normal(connection.execute(f"SELECT {chosen} FROM {table}").fetchall())


def normal(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Rows in one order, with floats as text, since NaN is not NaN, and times in UTC."""

    def value(one: Any) -> Any:
        if isinstance(one, datetime.datetime):
            return one.replace(tzinfo=None)
        return repr(one) if isinstance(one, float) else one

    return sorted((tuple(map(value, row)) for row in rows), key=repr)


def test_every_type_as_in_the_source(job: Job, warehouse: Warehouse) -> None:
    job.night(TYPES)
    loaded = job.load(INTO, *warehouse.options, code=3)
    assert [label for label, status in loaded.items() if status != "loaded"] == ["public.endless"]
    assert normal(warehouse.rows("part")) == source_rows(job, "part") and warehouse.rows("nothing") == []
    assert normal(warehouse.rows("kinds")) == source_rows(job, "kinds")
    types = [str(field.field_type) for field in warehouse.table("kinds").schema().fields]
    assert types == [
        "int", "int", "long", "decimal(10, 2)", "decimal(38, 10)", "string", "float", "double", "boolean", "date",
        "timestamp", "timestamptz", *["string"] * 5, "binary", *["string"] * 5, "int", "string",
    ]  # fmt: skip
    (file,) = warehouse.files("kinds")
    ids = [field.metadata[b"PARQUET:field_id"] for field in pq.read_schema(file)]
    assert ids == [str(number).encode() for number in range(1, 26)]
    (file,) = warehouse.files("ancient")
    old = pq.read_table(file)
    assert sorted(old.column("d").cast("int32").to_pylist()) == [-735160, 20454]
    (task,) = warehouse.table("ancient").scan().plan_files()
    assert task.file.record_count == 2 and not task.file.lower_bounds, "no bound is better than none that can be read"
    (task,) = warehouse.table("big").scan(row_filter="id = 1500").plan_files()
    assert task.file.record_count < 1500, "bounds tell which files to read"
    texts = [word for name in ("until", "since") for word in ("--text", f"public.endless.{name}")]
    assert job.load(INTO, *warehouse.options, *texts)["public.endless"] == "loaded"
    assert warehouse.rows("endless") == [(1, "-infinity", "-infinity"), (2, "infinity", None)]


def test_columns_change_and_files_stay_where_their_lines_do(job: Job, warehouse: Warehouse) -> None:
    job.night(
        "CREATE TABLE wide (id int, n numeric(10,2), f real, t text, j text) WITH (autovacuum_enabled = off);"
        "INSERT INTO wide SELECT i, i, 0.1, repeat('x', 200), '1' FROM generate_series(1, 1500) i;"
        "CREATE TABLE single (f real); INSERT INTO single VALUES (0.1);"
        "CREATE TABLE whole (i int); INSERT INTO whole VALUES (7)"
    )
    job.load(INTO, *warehouse.options)
    ids = {field.name: field.field_id for field in warehouse.table("wide").schema().fields}
    before = warehouse.files("wide")
    job.night("ALTER TABLE wide ALTER n TYPE numeric(12,2), ALTER t TYPE varchar(900)")
    assert job.load(INTO, *warehouse.options)["public.wide"] == "loaded"
    assert warehouse.files("wide") == before and len(warehouse.table("wide").snapshots()) == 1, "metadata is enough"
    assert str(warehouse.table("wide").schema().find_type("n")) == "decimal(12, 2)"
    assert warehouse.rows("wide")[0][1] == Decimal("1.00")
    one, seven = warehouse.files("single"), warehouse.files("whole")
    job.night(
        "ALTER TABLE wide ALTER f TYPE float8 USING 0.1, ALTER id TYPE bigint; ALTER TABLE whole ALTER i TYPE bigint;"
        "ALTER TABLE single ALTER f TYPE float8 USING 0.1"
    )
    job.load(INTO, *warehouse.options)
    assert warehouse.files("whole") == seven and warehouse.rows("whole") == [(7,)]
    assert warehouse.table("whole").schema().find_type("i") == LongType()
    assert warehouse.rows("single") == [(0.1,)] and warehouse.files("single") != one, "its lines are the same, and yet"
    assert {row[2] for row in warehouse.rows("wide")} == {0.1}, "a float's file would give 0.10000000149"
    job.night(
        "ALTER TABLE wide RENAME t TO title; ALTER TABLE wide DROP n, ADD extra date;"
        "ALTER TABLE wide ALTER j TYPE int USING j::int"
    )
    job.load(INTO, *warehouse.options)
    fields = {field.name: (field.field_id, str(field.field_type)) for field in warehouse.table("wide").schema().fields}
    assert list(fields) == ["id", "f", "title", "j", "extra"]
    assert fields["id"] == (ids["id"], "long") and fields["f"] == (ids["f"], "double")
    assert fields["j"][1] == "int" and min(fields[name][0] for name in ("title", "j", "extra")) > max(ids.values())
    assert {row[3:] for row in warehouse.rows("wide")} == {(1, None)} and len(warehouse.rows("wide")) == 1500


def test_a_table_that_someone_changed_is_refused_until_it_is_replaced(job: Job, warehouse: Warehouse) -> None:
    job.load(INTO, *warehouse.options)
    warehouse.table("person").delete("id = 1")
    with warehouse.table("audit_log").update_schema() as update:
        update.rename_column("a", "b")
    kept = warehouse.rows("person")
    failed = {**unchanged(FIRST), "public.person": "failed", "audit.log": "failed"}
    assert job.load(INTO, *warehouse.options, code=3) == failed
    assert warehouse.rows("person") == kept and len(kept) == 1
    said = job.refused(INTO, *warehouse.options, code=3)
    assert "someone changed its rows or columns" in said and "--full --table public.person" in said
    full = job.load(INTO, *warehouse.options, "--full", "--table", "person", "--table", "audit.log")
    assert full == {"audit.log": "loaded", "public.person": "loaded"}
    assert len(warehouse.rows("person")) == 2 and warehouse.table("audit_log").schema().column_names == ["a"]
    assert job.load(INTO, *warehouse.options) == unchanged(FIRST)


def test_a_copy_and_a_renamed_table_belong_to_someone_else(
    job: Job, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    job.load(INTO, *warehouse.options)
    catalog = warehouse.catalog
    catalog.register_table((NAMESPACE, "backup"), warehouse.table("person").metadata_location)
    catalog.rename_table((NAMESPACE, "big"), (NAMESPACE, "large"))
    job.night("INSERT INTO person VALUES (3)")
    later = {**unchanged(FIRST), "public.person": "loaded", "public.big": "loaded"}
    monkeypatch.setattr(iceberg_expiry, "_KEPT", datetime.timedelta(0))
    assert job.load(INTO, *warehouse.options, "--drop", "--keep-snapshots", "1") == later
    assert len(warehouse.rows("person")) == 3 and len(warehouse.rows("backup")) == 2
    job.night("DROP TABLE person")
    assert job.load(INTO, *warehouse.options, "--drop")["public.person"] == "dropped"
    assert len(warehouse.rows("backup")) == 2, "its files are there still"
    assert len(warehouse.rows("big")) == len(warehouse.rows("large")) == 1500


def test_files_that_someone_deleted_or_damaged(job: Job, warehouse: Warehouse) -> None:
    job.load(INTO, *warehouse.options)
    gone = sorted(warehouse.files("big"))[0]
    Path(gone).unlink()
    job.night("INSERT INTO big VALUES (0, 'new')")
    assert job.load(INTO, *warehouse.options)["public.big"] == "loaded"
    assert len(warehouse.rows("big")) == 1501 and gone not in warehouse.files("big")
    warehouse.table("person").transaction().set_properties({"floodmark.format": "9"}).commit_transaction()
    assert "its version 9 is not known" in job.refused(INTO, *warehouse.options, code=13)
    warehouse.catalog.drop_table((NAMESPACE, "person"))
    Path(warehouse.table("big").metadata_location).write_text("{")
    said = job.refused(INTO, *warehouse.options, code=13)
    assert "can't read the table: cases.big: its metadata is damaged" in said
    Path(warehouse.folder / "cases").rename(warehouse.folder / "moved")
    assert "a file of its metadata is missing" in job.refused(INTO, *warehouse.options, code=13)


def test_a_moved_database_is_taken_over(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYICEBERG_CATALOG__DEFAULT__URI", f"sqlite:///{tmp_path}/catalog.db")
    monkeypatch.setenv("PYICEBERG_CATALOG__DEFAULT__WAREHOUSE", str(tmp_path / "warehouse"))
    take_over_a_moved_database(job, INTO, tmp_path)


def test_a_compaction_by_another_engine_changes_no_row(
    job: Job, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    job.load(INTO, *warehouse.options)
    files = warehouse.files("big")
    warehouse.compact("big", monkeypatch)
    assert len(warehouse.files("big")) == 1 and len(warehouse.rows("big")) == 1500
    assert job.load(INTO, *warehouse.options) == unchanged(FIRST)
    job.night("INSERT INTO big VALUES (0, 'new')")
    assert job.load(INTO, *warehouse.options) == {**unchanged(FIRST), "public.big": "loaded"}
    assert len(warehouse.rows("big")) == 1501
    assert len(warehouse.files("big")) == len(files) and not warehouse.files("big") & files


def test_a_namespace_that_someone_else_filled(job: Job, warehouse: Warehouse) -> None:
    catalog = warehouse.catalog
    catalog.create_namespace(NAMESPACE)
    catalog.create_table((NAMESPACE, "person"), warehouse_schema())
    catalog.create_table((NAMESPACE, "theirs"), warehouse_schema())
    job.night('CREATE TABLE "Big" (a int); CREATE TABLE twice (a int, "A" int); CREATE TABLE bare ()')
    said = job.refused(INTO, *warehouse.options, code=3)
    assert "Floodmark did not load it" in said and "have one name in Iceberg" in said
    assert "two columns differ only in case" in said and "it has no columns" in said
    assert warehouse.rows("person") == [] and warehouse.names() == ["audit_log", "big", "empty", "person", "theirs"]


def warehouse_schema() -> Schema:
    return Schema(NestedField(1, "mine", LongType(), required=False))


def test_in_s3(job: Job, s3_bucket: S3Bucket, tmp_path: Path) -> None:
    warehouse = Warehouse(
        tmp_path / "catalog",
        f"{s3_bucket.url}/lake",
        **{"s3.endpoint": os.environ["AWS_ENDPOINT_URL_S3"], "s3.region": "eu-west-2"},
    )
    assert job.load(INTO, *warehouse.options) == FIRST
    job.night(DAY_2)
    assert job.load(INTO, *warehouse.options) == SECOND
    assert len(warehouse.rows("big")) == 1501 and {row[-1] for row in warehouse.rows("person")} == {None, "n"}
    files = warehouse.files("big")
    assert all(
        re.fullmatch(rf"{s3_bucket.url}/lake/cases/big/data/[0-9a-f]{{64}}-\d+Z-[0-9a-f]{{6}}-\d{{5}}\.parquet", one)
        for one in files
    )
    assert "not-a-secret" not in str(warehouse.table("big").metadata)


def test_old_snapshots_expire_with_their_files_and_no_others(
    job: Job, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = warehouse.folder / "cases/big/data"
    keep_2 = (*warehouse.options, "--keep-snapshots", "2")
    job.load(INTO, *keep_2)
    warehouse.table("big").manage_snapshots().create_tag(
        warehouse.table("big").snapshots()[0].snapshot_id, "first"
    ).commit()
    dead = data / f"{'0' * 64}-20260101000000Z-abcdef-00000.parquet"
    theirs = data / "theirs.parquet"
    for path in (dead, theirs):
        path.touch()
    for number in range(4):
        job.night(f"UPDATE big SET t = 'new {number}' WHERE id = {number * 300 + 1}")
        assert job.load(INTO, *keep_2)["public.big"] == "loaded"
    assert len(warehouse.table("big").snapshots()) == 5, "each was current within the last day"
    monkeypatch.setattr(iceberg_expiry, "_KEPT", datetime.timedelta(0))
    job.night("UPDATE big SET t = 'last' WHERE id = 1")
    assert job.load(INTO, *keep_2)["public.big"] == "loaded"
    big = warehouse.table("big")
    assert len(big.snapshots()) == 3, "two, and the one with a tag"
    for snapshot in big.snapshots():
        assert len(warehouse.rows("big", snapshot.snapshot_id)) == 1500
    named = {
        Path(task.file.file_path)
        for snapshot in big.snapshots()
        for task in big.scan(snapshot_id=snapshot.snapshot_id).plan_files()
    }
    assert set(data.iterdir()) == named | {dead, theirs}, "a renamed table can have its files here"
    manifests = {Path(one.manifest_path) for snapshot in big.snapshots() for one in snapshot.manifests(big.io)}
    lists = {Path(one.manifest_list) for one in big.snapshots()}
    assert set((warehouse.folder / "cases/big/metadata").glob("*.avro")) == manifests | lists
    assert job.load(INTO, *keep_2) == unchanged(FIRST)
    assert "--keep-snapshots needs --into iceberg" in job.refused("parquet:./x", "--keep-snapshots", "2", code=2)


def test_comments_of_the_source(job: Job, warehouse: Warehouse) -> None:
    job.night("COMMENT ON TABLE person IS 'People'; COMMENT ON COLUMN person.name IS 'In full'")
    job.load(INTO, *warehouse.options)
    person = warehouse.table("person")
    assert person.properties["comment"] == "People" and person.schema().find_field("name").doc == "In full"
    job.night("COMMENT ON TABLE big IS 'Large'; COMMENT ON COLUMN person.name IS 'Or not'")
    assert job.load(INTO, *warehouse.options) == unchanged(FIRST)
    assert warehouse.table("big").properties["comment"] == "Large"
    assert warehouse.table("person").schema().find_field("name").doc == "Or not"
    assert job.load(INTO, *warehouse.options) == unchanged(FIRST), "a comment is no change by someone else"
    job.night("COMMENT ON TABLE person IS NULL; COMMENT ON COLUMN person.name IS NULL; INSERT INTO person VALUES (3)")
    assert job.load(INTO, *warehouse.options) == {**unchanged(FIRST), "public.person": "loaded"}
    person = warehouse.table("person")
    assert "comment" not in person.properties and not person.schema().find_field("name").doc
    assert len(person.snapshots()) == 2 and len(warehouse.rows("person")) == 3


@pytest.fixture(params=["glue", "rest"])
def another_catalog(
    request: pytest.FixtureRequest, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The options for a catalog on a server, and PyIceberg's properties for it."""
    if request.param == "glue":
        bucket, server = request.getfixturevalue("moto_bucket"), request.getfixturevalue("moto_server")
        monkeypatch.setenv("AWS_ENDPOINT_URL_GLUE", server)
        place = f"{bucket.url}/lake"
        return ("--catalog", "glue:", "--warehouse", place), {"type": "glue", "s3.endpoint": server}
    request.getfixturevalue("s3_bucket")
    client = boto3.client("s3tables", endpoint_url=s3_server.endpoint)
    client.create_table_bucket(name="warehouse")
    signed = {"rest.sigv4-enabled": "true", "rest.signing-name": "s3tables", "rest.signing-region": REGION}
    for name, value in signed.items():
        monkeypatch.setenv(f"PYICEBERG_CATALOG__DEFAULT__{name.upper().replace('.', '__').replace('-', '_')}", value)
    options = ("--catalog", s3_server.iceberg, "--warehouse", "s3://warehouse")
    return options, {
        **signed,
        "uri": s3_server.iceberg,
        "warehouse": "s3://warehouse",
        "s3.endpoint": s3_server.endpoint,
    }


def test_a_catalog_on_a_server(
    job: Job, another_catalog: tuple[tuple[str, ...], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    options, properties = another_catalog
    catalog = load_catalog("theirs", **{**properties, "s3.region": REGION})
    assert job.load(INTO, *options) == FIRST and job.load(INTO, *options) == unchanged(FIRST)
    job.night(DAY_2)
    whole = TableChange.commit

    def late(*arguments: Any) -> None:
        monkeypatch.setattr(TableChange, "commit", whole)
        assert job.load(INTO, *options, "--table", "big") == {"public.big": "loaded"}
        whole(*arguments)

    monkeypatch.setattr(TableChange, "commit", late)
    assert "changed it meanwhile" in job.refused(INTO, *options, "--table", "big", code=11)
    monkeypatch.setattr(iceberg_expiry, "_KEPT", datetime.timedelta(0))
    later = {**SECOND, "public.big": "unchanged", "public.empty": "dropped"}
    assert job.load(INTO, *options, "--drop", "--keep-snapshots", "1") == later
    assert sorted(name[-1] for name in catalog.list_tables(NAMESPACE)) == ["audit_log", "big", "fresh", "person"]
    big, person = (catalog.load_table((NAMESPACE, name)) for name in ("big", "person"))
    assert big.scan().to_arrow().num_rows == 1501 and len(big.snapshots()) == 2
    assert sorted(map(str, person.scan().to_arrow().column("note").to_pylist())) == ["None", "n"]
    assert len(person.snapshots()) == 1


BAD = {
    "no catalog": ((), 2, "needs a catalog"),
    "a password": (("--catalog", "https://u:s3cret@host/"), 2, "can't hold credentials"),
    "no such name": (("--catalog", "nowhere"), 10, "configuration does not have it"),
    "another url": (("--catalog", "postgresql://u:s3cret@h/d"), 2, "this is not a catalog"),
    "no folder": (("--catalog", "sqlite:////nowhere/c.db"), 10, "can't be opened"),
    "no such kind": (("--catalog", "odd"), 10, "can't use its configuration"),
    "a secret": (("--catalog", "db"), 13, "can't open the catalog: db: "),
    "nested": (("--warehouse", "./x"), 2, "not a namespace of this catalog"),
    "no place": (("--catalog", "bare"), 3, "Give --warehouse URL"),
    "nobody there": (("--catalog", "http://127.0.0.1:9/"), 13, "gave no usable answer"),
}


def test_catalogs_that_do_not_do(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYICEBERG_CATALOG__ODD__TYPE", "odd")
    monkeypatch.setenv("PYICEBERG_CATALOG__DB__URI", "postgresql+psycopg://u:s3cret@127.0.0.1:9/d")
    monkeypatch.setenv("PYICEBERG_CATALOG__BARE__URI", f"sqlite:///{tmp_path}/bare.db")
    for name, (options, code, why) in BAD.items():
        said = job.refused("iceberg:a.b" if name == "nested" else INTO, *options, code=code)
        assert why in said and "s3cret" not in said and "Traceback" not in said, name
    (tmp_path / "notes.db").write_bytes(b"not a database" * 500)
    assert "not a SQLite database" in job.refused(INTO, "--catalog", "sqlite:///notes.db", code=10)
    assert "needs --into iceberg" in job.refused("parquet:./x", "--warehouse", "./y", code=2)
    assert "can't be the target" in job.refused(INTO, "--warehouse", f"{job.landing}/data/x", code=10)
    (tmp_path / ".pyiceberg.yaml").write_text("catalog: [unclear")
    assert "can't read PyIceberg's configuration" in job.refused(INTO, code=10)


def test_a_catalog_by_name(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYICEBERG_CATALOG__LAKE__URI", f"sqlite:///{tmp_path}/lake.db")
    monkeypatch.setenv("PYICEBERG_CATALOG__LAKE__WAREHOUSE", str(tmp_path / "lake"))
    assert job.load(INTO, "--catalog", "lake") == FIRST
    monkeypatch.setenv("PYICEBERG_DEFAULT_CATALOG", "lake")
    assert job.load(INTO) == unchanged(FIRST)
    assert (tmp_path / "lake/cases/big/data").is_dir()
