"""Names whose percent-encoded form is longer than a part of a path may be: landed, read, sent on, loaded and pruned."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fix_command import Done, Floodmark, Landing, keys
from fix_postgres import DEFAULT_VERSION, PgDatabase, Servers
from fix_storage import S3Bucket, S3Server, environment
from floodmark.layout import is_data_key, key_names

# 63 bytes, the most that PostgreSQL takes; 187 bytes once encoded.
LETTERS = "ж" * 31
SCHEMA, ONE, OTHER = LETTERS + "s", LETTERS + "1", LETTERS + "2"
LABELS = [f"public.{ONE}", f"{SCHEMA}.{ONE}", f"{SCHEMA}.{OTHER}", f"{SCHEMA}.empty"]
FILL = "CREATE TABLE {0} (id int, t text); INSERT INTO {0} SELECT i, repeat('x', 200) FROM generate_series(1, 900) i"


@pytest.fixture
def service(postgres: Servers) -> Iterator[PgDatabase]:
    database = postgres[DEFAULT_VERSION].database(LETTERS + "d")
    database.execute(f'CREATE SCHEMA "{SCHEMA}"; CREATE TABLE "{SCHEMA}".empty (id int)')
    for table in (f'"{ONE}"', f'"{SCHEMA}"."{ONE}"', f'"{SCHEMA}"."{OTHER}"'):
        database.execute(FILL.format(table))
    yield database
    database.drop()


@pytest.fixture
def floodmark(service: PgDatabase, tmp_path: Path) -> Floodmark:
    places = {"FLOODMARK_SOURCE": service.url, "FLOODMARK_DESTINATION": str(tmp_path / "lake")}
    made = Floodmark(tmp_path / "job", places)
    made.configure("chunk_size: 64KiB\n")
    return made


def keys_of(done: Done) -> dict[str, list[str]]:
    """Each table's keys, without their timestamps."""
    return {
        entry.table.label: [re.sub(r"\d{14}Z", "", one.key) for one in entry.objects] for entry in done.manifest.tables
    }


def statuses(done: Done) -> set[str]:
    return {status for status, _ in done.outcomes.values()}


def test_long_names_are_landed_and_read(floodmark: Floodmark, service: PgDatabase, tmp_path: Path) -> None:
    lake = Landing(tmp_path / "lake")
    first = floodmark.run()
    assert sorted(first.outcomes) == sorted(LABELS) and statuses(first) == {"extracted"}
    assert {len(lake.lines(label)) for label in LABELS[:3]} == {900}
    assert keys_of(first)[LABELS[0]][0].count("%D0%B6") == 31 * 3  # what fits is as it always was
    tables = {label: key_names(found[0]) for label, found in keys_of(first).items() if found}
    assert len(set(tables.values())) == 3
    assert statuses(floodmark.run()) == {"unchanged"}
    service.execute(f'UPDATE "{SCHEMA}"."{ONE}" SET t = $$new$$ WHERE id = 7')
    third = floodmark.run()
    assert third.outcomes[LABELS[1]][0] == "extracted" and key_names(keys_of(third)[LABELS[1]][0]) == tables[LABELS[1]]
    floodmark("verify", "--deep", "--against-source")
    described = floodmark("schema", "--format", "mojap").json["tables"]
    assert {(one["database_name"], one["name"]) for one in described} >= set(tables.values())
    assert all(is_data_key(f"data/database_name={one['database_name']}/table_name={one['name']}/"
                           f"extraction_timestamp=20261124000000Z/{one['name']}-00000.jsonl.gz")
               for one in described)  # fmt: skip


def test_the_keys_are_the_same_in_a_bucket(
    floodmark: Floodmark, service: PgDatabase, s3_server: S3Server, s3_bucket: S3Bucket, tmp_path: Path
) -> None:
    there = Floodmark(
        tmp_path / "there",
        {
            **environment(s3_server.endpoint),
            "FLOODMARK_SOURCE": service.url,
            "FLOODMARK_DESTINATION": f"{s3_bucket.url}/lake",
        },
    )
    there.configure("chunk_size: 64KiB\n")
    run = there.run()
    assert keys_of(run) == keys_of(floodmark.run())
    assert sum(is_data_key(key.removeprefix("lake/")) for key in keys(s3_bucket)) == sum(
        len(entry.objects) for entry in run.manifest.tables
    )


def test_long_names_are_sent_on(floodmark: Floodmark, tmp_path: Path) -> None:
    """A landing zone's keys hold the database and the schema in one name, which is longer still."""
    floodmark("run")
    to = ("deliver", "--to", str(tmp_path / "zone"), "--layout", "moj-landing", "--output", "json")
    assert {one["status"] for one in floodmark(*to).json["deliveries"][0]["tables"]} == {"delivered"}
    found = [path.relative_to(tmp_path / "zone").as_posix() for path in (tmp_path / "zone").rglob("*.jsonl")]
    assert len({key_names(key) for key in found}) == 3 and all(is_data_key(key) for key in found)
    assert len({(key_names(key) or ("",))[0] for key in found}) == 2
    described = floodmark("schema", "--format", "mojap", "--layout", "moj-landing").json["tables"]
    assert {(one["database_name"], one["name"]) for one in described} >= {key_names(key) for key in found}
    assert {one["status"] for one in floodmark(*to).json["deliveries"][0]["tables"]} == {"unchanged"}


def test_long_names_are_loaded(floodmark: Floodmark, service: PgDatabase, tmp_path: Path) -> None:
    floodmark("run")
    for into in (f"duckdb:{tmp_path / 'file.duckdb'}", f"parquet:{tmp_path / 'files'}"):
        for expected in ("loaded", "unchanged"):
            done = floodmark("load", "--into", into, "--output", "json").json
            assert {one["status"] for one in done["tables"]} == {expected}
    service.execute(f'DROP TABLE "{SCHEMA}"."{ONE}"; UPDATE "{SCHEMA}"."{OTHER}" SET t = $$new$$')
    floodmark("run")
    done = floodmark("load", "--into", f"parquet:{tmp_path / 'files'}", "--drop", "--output", "json").json
    assert {one["name"]: one["status"] for one in done["tables"] if one["schema"] == SCHEMA} == {
        ONE: "dropped", OTHER: "loaded", "empty": "unchanged"
    }  # fmt: skip


def test_what_long_names_left_behind_is_pruned(floodmark: Floodmark, service: PgDatabase, tmp_path: Path) -> None:
    lake = Landing(tmp_path / "lake")
    floodmark("run")
    before = set(lake.files)
    service.execute(f'UPDATE "{SCHEMA}"."{ONE}" SET t = $$new$$')
    named = {one.key for entry in floodmark.run().manifest.tables for one in entry.objects}
    orphan = next(key for key in before if "00000.jsonl" in key and key not in named)
    again = orphan.replace("00000.jsonl", "99999.jsonl")
    (tmp_path / "lake" / again).write_bytes(b"of a run that died")
    assert floodmark("prune", "--keep-last", "1", "--grace", "0", "--output", "json").code == 0
    assert {key for key in lake.files if key.startswith("data/")} == named
