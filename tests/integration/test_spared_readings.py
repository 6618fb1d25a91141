"""What a day may bring without costing a reading: other partitions, grants, extensions, blocks without a row, resets of
statistics. Counted in chunks that were extracted, on every version."""

from __future__ import annotations

import hashlib
import json
from datetime import date, timedelta
from typing import Any

from fix_runs import Nightly
from floodmark.config import TableRule
from floodmark.events import ChunkDone

EVENT = """
    CREATE TYPE mood AS ENUM ('sad', 'glad');
    CREATE TABLE event (at date NOT NULL, what text, m mood) PARTITION BY RANGE (at);
"""
ROWS_A_DAY = 400
PERSON = """
    CREATE TABLE person (id bigint PRIMARY KEY, name text);
    INSERT INTO person SELECT i, 'name ' || i || repeat('x', 200) FROM generate_series(1, 2000) i
"""
FIRST = date(2026, 11, 1)


def leaf(day: int) -> str:
    return f"event_{FIRST + timedelta(day):%Y_%m_%d}"


def bounds(day: int) -> str:
    return f"FOR VALUES FROM ('{FIRST + timedelta(day)}') TO ('{FIRST + timedelta(day + 1)}')"


def rows(day: int, number: int = ROWS_A_DAY) -> str:
    at = FIRST + timedelta(day)
    return f"INSERT INTO {{}} SELECT '{at}', repeat('x', 100), 'sad' FROM generate_series(1, {number})"


def created(day: int) -> str:
    return f"CREATE TABLE {leaf(day)} PARTITION OF event {bounds(day)}; {rows(day).format('event')}"


def attached(day: int) -> str:
    alone = f"CREATE TABLE {leaf(day)} (LIKE event); {rows(day).format(leaf(day))}"
    return f"{alone}; ALTER TABLE event ATTACH PARTITION {leaf(day)} {bounds(day)}"


def read(job: Nightly, *statements: str, label: str = "public.event", **changes: Any) -> int:
    """Live through a day and run; how many chunks of a table were extracted, with or without a line."""
    for statement in statements:
        job.database.execute(statement)
    job.run(**changes)
    job.require_truth()
    return sum(isinstance(event, ChunkDone) and event.table.label == label for event in job.events)


def test_a_partition_a_day(nightly_any: Nightly) -> None:
    job = nightly_any
    assert read(job, EVENT, *(created(day) for day in range(5))) >= 5
    each = len(job.entry("public.event").objects) // 5
    for day in range(5, 10):
        add = created(day) if day % 2 else attached(day)
        drop = f"DROP TABLE {leaf(day - 5)}" if day % 3 else f"ALTER TABLE event DETACH PARTITION {leaf(day - 5)}"
        assert read(job, add, drop) == each
        assert job.outcome("public.event") == ("extracted", "rows_changed")
        assert job.entry("public.event").reason.detail.startswith(f"partition public.{leaf(day)} was added (")
        assert read(job) == 0 and job.outcome("public.event") == ("unchanged", "unchanged")
    assert read(job, f"DROP TABLE {leaf(5)}") == 0
    assert job.outcome("public.event") == ("extracted", "rows_removed")
    assert job.entry("public.event").reason.detail == "partition public.event_2026_11_06 was detached or dropped"
    assert job.entry("public.event").rows == 4 * ROWS_A_DAY


def test_a_partition_that_changed_while_it_was_detached(nightly_any: Nightly) -> None:
    job = nightly_any
    read(job, EVENT, *(created(day) for day in range(3)))
    back = f"ALTER TABLE event ATTACH PARTITION {leaf(1)} {bounds(1)}"
    detach = f"ALTER TABLE event DETACH PARTITION {leaf(1)}"
    assert read(job, detach, back) == 0 and job.outcome("public.event") == ("unchanged", "unchanged")
    assert read(job, detach, f"UPDATE {leaf(1)} SET what = 'apart'", back) >= 1
    assert job.outcome("public.event") == ("extracted", "rows_changed")
    assert read(job, detach, f"TRUNCATE {leaf(1)}; {rows(1).format(leaf(1))}", back) >= 1
    assert job.outcome("public.event")[0] == "extracted"


def test_one_partition_is_defined_otherwise(nightly_any: Nightly) -> None:
    job = nightly_any
    read(job, EVENT, *(created(day) for day in range(3)))
    each = len(job.entry("public.event").objects) // 3
    assert read(job, f"ALTER TABLE {leaf(1)} ALTER what SET STATISTICS 7") == 0
    assert read(job, f"ALTER TABLE {leaf(1)} ALTER what SET NOT NULL") == each
    assert (
        f"schema_changed: the definition of partition public.{leaf(1)}, or of a type"
        in job.entry("public.event").reason.detail
    )
    assert job.outcome("public.event") == ("unchanged", "identical")
    assert read(job, "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'") == 3 * each
    assert job.outcome("public.event") == ("extracted", "schema_changed")
    assert read(job, "ALTER TABLE event ADD note text") == 3 * each
    assert job.entry("public.event").reason.detail.startswith("columns added: note")


def test_rights_statistics_targets_and_extensions(nightly_any: Nightly) -> None:
    job = nightly_any
    read(job, PERSON, EVENT, created(0))
    for statement in (
        "GRANT SELECT (id) ON person TO public; GRANT SELECT (what) ON event TO public",
        "GRANT SELECT ON person TO public; GRANT USAGE ON SCHEMA public TO public",
        "ALTER TABLE person ALTER name SET STATISTICS 500; ALTER TABLE person ALTER name SET STORAGE EXTERNAL",
        "DROP EXTENSION plpgsql; CREATE EXTENSION plpgsql",
        "ALTER TABLE person RENAME name TO x; ALTER TABLE person RENAME x TO name",
        "ALTER TABLE person RENAME TO x; ALTER TABLE x RENAME TO person",
    ):
        assert read(job, statement, label="public.person") == 0, statement
        assert set(job.outcomes().values()) == {("unchanged", "unchanged")}, statement


MANY = "INSERT INTO person SELECT i, repeat('y', 200) FROM generate_series(5001, 9000) i"
ABORTED = f"BEGIN; {MANY}; ROLLBACK"
GONE_AGAIN = f"{MANY}; DELETE FROM person WHERE id > 5000"


def test_blocks_without_a_row_are_not_read(nightly_any: Nightly) -> None:
    job = nightly_any
    read(job, PERSON, "ALTER TABLE person SET (autovacuum_enabled = off)", label="public.person")
    for statement in (ABORTED, GONE_AGAIN):
        before = job.database.value("SELECT pg_relation_size('person')")
        assert read(job, statement, label="public.person") <= 1, "only the tail of the old blocks"
        assert job.database.value("SELECT pg_relation_size('person')") > before + 500_000
        marks = job.entry("public.person").watermark
        assert marks is not None and sum(mark.rows == 0 for mark in marks.chunks) > 5
        assert read(job, label="public.person") == 0
        assert job.outcome("public.person") == ("unchanged", "unchanged")
    vacuum = "VACUUM (TRUNCATE off) person"
    assert read(job, vacuum, "INSERT INTO person VALUES (9001, 'new')", label="public.person") == 1
    assert job.outcome("public.person") == ("extracted", "rows_changed")
    fill = "INSERT INTO person SELECT i, repeat('z', 200) FROM generate_series(10001, 24000) i"  # more than fits there
    assert read(job, fill, label="public.person") > 5
    assert read(job, label="public.person") == 0


def test_rows_that_come_late_into_blocks_that_were_empty_are_seen(nightly_any: Nightly) -> None:
    """Their transaction was open when the blocks were found empty."""
    job = nightly_any
    read(job, PERSON, label="public.person")
    with job.database.connect() as writer:
        writer.execute("INSERT INTO person SELECT i, repeat('y', 200) FROM generate_series(5001, 6000) i")
        assert read(job, label="public.person") <= 1
        assert job.outcome("public.person")[0] == "unchanged"
        writer.commit()
    assert read(job, label="public.person") > 1
    assert job.outcome("public.person") == ("extracted", "rows_changed")


def test_blocks_whose_rows_a_filter_drops_are_remembered_with_their_rows(nightly: Nightly) -> None:
    rules = {"public.person": TableRule(where="id < 5000")}
    read(nightly, PERSON, label="public.person", rules=rules)
    nightly.database.execute("INSERT INTO person SELECT i, repeat('y', 200) FROM generate_series(5001, 6000) i")
    nightly.run(rules=rules)
    marks = nightly.entry("public.person").watermark
    assert marks is not None and sum(mark.rows for mark in marks.chunks) == 3000
    nightly.run(rules=rules)
    assert nightly.outcome("public.person") == ("unchanged", "unchanged")


def test_a_landing_zone_is_sent_no_empty_blocks(nightly: Nightly) -> None:
    zone: dict[str, Any] = {"layout": "moj-landing", "compression": "none"}
    assert read(nightly, PERSON, label="public.person", **zone) > 1
    nightly.database.execute(ABORTED)
    nightly.run(**zone)
    assert nightly.outcome("public.person")[0] == "unchanged" and len(nightly.received()["person"]) == 1
    nightly.database.execute("UPDATE person SET name = 'changed' WHERE id = 7")
    nightly.run(**zone)
    assert [len(lines) for lines in nightly.received()["person"].values()] == [2000, 2000]


def test_a_state_of_release_0_1_0_is_read_again_once(nightly: Nightly) -> None:
    """Its digests were made of other facts, and it had weaker guards: all is read, and nothing is written."""
    read(nightly, PERSON, EVENT, created(0))
    as_if_written_by_0_1_0(nightly)
    result = nightly.run()
    assert result.uploaded_bytes == 0
    assert set(nightly.outcomes().values()) == {("unchanged", "identical")}
    for label in ("public.person", "public.event"):
        assert "an earlier version of Floodmark read it" in nightly.entry(label).reason.detail
    assert read(nightly) == 0 and set(nightly.outcomes().values()) == {("unchanged", "unchanged")}


def as_if_written_by_0_1_0(job: Nightly) -> None:
    state = job.folder / "_floodmark"
    head = json.loads((state / "head.json").read_bytes())
    manifest = json.loads((state / head["manifest"]).read_bytes())
    for table in manifest["tables"]:
        del table["fingerprint"]["guards"]
        table["fingerprint"]["schema"] = "0" * 64
        table["watermark"].pop("parts", None)
        for name in ("archiver_reset", "wal_reset"):
            del table["watermark"]["point"]["lineage"][name]
    data = json.dumps(manifest).encode()
    (state / head["manifest"]).write_bytes(data)
    (state / "head.json").write_text(json.dumps({**head, "manifest_sha256": hashlib.sha256(data).hexdigest()}))
