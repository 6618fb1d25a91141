"""`diff` and `cat` on what real runs landed: from PostgreSQL into a folder and into S3, through pipes."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from fix_command import CHUNKS, Done, Floodmark, Landing, entry_of
from fix_postgres import PgDatabase
from fix_runs import lines_of
from fix_s3_proxy import S3Proxy, flipped_answer
from fix_storage import S3Bucket, S3Server, environment
from floodmark.objects.csv import fields, split_records

SERVICE = r"""
CREATE TABLE person (id int PRIMARY KEY, name text, note text);
INSERT INTO person SELECT n, 'person ' || n, repeat(md5(n::text), 5) FROM generate_series(1, 4000) n;
CREATE TABLE place (id int, name text);
INSERT INTO place VALUES (1, 'here');
CREATE TABLE closed (id int);
CREATE TABLE odd (i int8, n numeric, f float8, t text, j jsonb, raw json, b bytea, u uuid);
INSERT INTO odd VALUES
  (1, 1.10, 'NaN', E'two\nlines, "quoted"\\', '{"k": "v,\"\n"}', '{ "k" : 1 }', '\x00ff', gen_random_uuid()),
  (2, NULL, NULL, '', NULL, NULL, NULL, NULL),
  (3, 123456789012345678901234567890, 1e-300, 'a,b', '"s"', '"half \ud800"', '', NULL);
"""


@pytest.fixture
def floodmark(pg: PgDatabase, tmp_path: Path) -> Floodmark:
    pg.execute(SERVICE)
    places = {"FLOODMARK_SOURCE": pg.url, "FLOODMARK_DESTINATION": str(tmp_path / "out")}
    made = Floodmark(tmp_path / "job", places)
    made.configure(CHUNKS)
    return made


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    return Landing(tmp_path / "out")


def differences(done: Done) -> dict[str, dict[str, Any]]:
    return {table["name"]: table for table in done.json["tables"]}


def test_a_day_that_changes_everything(floodmark: Floodmark, pg: PgDatabase, landing: Landing) -> None:
    first = floodmark.run().manifest
    assert "4 tables: 4 added" in floodmark("diff").out
    pg.execute("INSERT INTO person VALUES (0, 'new', ''); ALTER TABLE odd DROP u; ALTER TABLE odd ALTER i TYPE int4")
    pg.execute("DROP TABLE closed; CREATE TABLE arrival (id int); INSERT INTO arrival VALUES (1), (2)")
    second = floodmark.run().manifest
    found = differences(floodmark("diff", "--detailed-exitcode", "--output", "json", code=20))
    assert {name: table["change"] for name, table in found.items()} == {
        "arrival": "added",
        "closed": "dropped",
        "odd": "changed",
        "person": "changed",
        "place": "unchanged",
    }
    old, new = (entry_of(one, "public.person") for one in (first, second))
    put = [one for one in new.objects if one.origin == "extracted"]
    assert 1 <= len(put) < len(new.objects) and found["person"]["objects_new"] == len(put)
    assert found["person"]["objects_gone"] == len(old.objects) - (len(new.objects) - len(put))
    assert (found["person"]["old"]["rows"], found["person"]["new"]["rows"]) == (4000, 4001)
    assert [one["name"] for one in found["odd"]["columns_removed"]] == ["u"]
    assert [(one["old"]["type"], one["new"]["type"]) for one in found["odd"]["columns_changed"]] == [
        ("bigint", "integer")
    ]
    text = floodmark("diff").out
    assert "columns removed: u; type changed: i (bigint to integer)" in text and "+1" in text
    assert "1 table unchanged" in text and "public.place" not in text


def test_objects_that_are_written_again_with_the_same_lines_are_no_difference(
    floodmark: Floodmark, landing: Landing
) -> None:
    before = floodmark.run().manifest
    floodmark.configure(CHUNKS + "destination: {compression: none}\n")
    after = floodmark.run().manifest
    assert entry_of(after, "public.place").status == "extracted"
    assert entry_of(before, "public.place").objects[0].key != entry_of(after, "public.place").objects[0].key
    assert "4 tables: 0 added, 0 dropped, 0 changed, 4 unchanged" in floodmark("diff", "--detailed-exitcode").out


def test_an_adopted_source_is_a_difference_even_if_every_line_is_the_same(floodmark: Floodmark, pg: PgDatabase) -> None:
    floodmark.run("--table", "place")
    other = pg.server.database()
    try:
        other.execute("CREATE TABLE place (id int, name text); INSERT INTO place VALUES (1, 'here')")
        floodmark.environment["FLOODMARK_SOURCE"] = other.url
        floodmark.run("--adopt-source")
        done = floodmark("diff", "--detailed-exitcode", code=20)
    finally:
        other.drop()
    assert f"old:    postgresql {pg.name}," in done.out and f"new:    postgresql {other.name}," in done.out
    assert "1 table: 0 added, 0 dropped, 0 changed, 1 unchanged" in done.out


def test_cat_gives_every_row_as_landed_in_order_and_so_do_earlier_runs(
    floodmark: Floodmark, pg: PgDatabase, landing: Landing
) -> None:
    first = floodmark.run().manifest
    for label in ("person", "place", "odd", "closed"):
        lines = b"".join(landing.lines(f"public.{label}"))
        assert floodmark("cat", label).out.encode() == lines
        assert sorted(lines.splitlines(keepends=True)) == sorted(
            lines_of(pg.dsn, f"public.{label}", entry_of(landing.manifest, f"public.{label}"))
        )
    before = floodmark("cat", "person").out
    pg.execute("DELETE FROM person WHERE id <= 2000; UPDATE person SET name = 'x' WHERE id = 4000")
    floodmark.run()
    assert floodmark("cat", "person").out.count("\n") == 2000
    assert floodmark("cat", "person", "--run", first.run_id[:-2]).out == before


def test_csv_has_the_text_of_each_value(floodmark: Floodmark, pg: PgDatabase) -> None:
    floodmark.run()
    header, *records = split_records(floodmark("cat", "odd", "--format", "csv").out.encode())
    assert header == b"i,n,f,t,j,raw,b,u"
    columns = "i::text, n::text, f::text, t, j::text, raw::text, b::text, u::text"
    with psycopg.connect(pg.dsn) as connection:
        assert [tuple(fields(one)) for one in records] == connection.execute(f"SELECT {columns} FROM odd").fetchall()
    floodmark.run("--format", "csv")
    assert floodmark("cat", "odd").out.encode() == b"\n".join((header, *records, b""))


def test_a_reader_that_closes_the_pipe_ends_it_quietly_and_early(floodmark: Floodmark, landing: Landing) -> None:
    floodmark.configure("chunk_size: 512KiB\n")
    floodmark.run("--table", "person")
    objects = entry_of(landing.manifest, "public.person").objects
    assert objects[0].raw_bytes > 300_000 and len(objects) > 1
    (landing.folder / objects[1].key).unlink()  # who goes on reading ends with an error
    with floodmark.start("cat", "person") as process:
        assert process.stdout is not None and process.stdout.read(1) == b"{"
        process.stdout.close()
        assert process.stderr is not None and (process.stderr.read(), process.wait()) == (b"", 0)
    assert floodmark("cat", "person", "--limit", str(objects[0].rows)).out.count("\n") == objects[0].rows
    assert "run --table T --full" in floodmark("cat", "person", code=13).err


def test_on_a_terminal_no_value_steers_it(floodmark: Floodmark, pg: PgDatabase) -> None:
    pg.execute("UPDATE place SET name = U&'red \\009b31m \\202e'")
    floodmark.run("--table", "place")
    ours, theirs = pty.openpty()
    with floodmark.start("cat", "place", stdout=theirs) as process:
        os.close(theirs)
        assert process.wait() == 0 and process.stderr is not None and process.stderr.read() == b""
    assert os.read(ours, 65536).decode() == '{"id":1,"name":"red \\x9b31m \\u202e"}\r\n'
    os.close(ours)
    assert floodmark("cat", "place").out == '{"id":1,"name":"red \x9b31m \u202e"}\n'


def test_from_s3_a_limit_gets_one_object_and_damage_on_the_way_writes_nothing(
    pg: PgDatabase, s3_server: S3Server, s3_bucket: S3Bucket, make_proxy: Callable[[str], S3Proxy], tmp_path: Path
) -> None:
    pg.execute(SERVICE)
    proxy = make_proxy(s3_server.endpoint)
    floodmark = Floodmark(
        tmp_path / "job",
        {**environment(proxy.endpoint), "FLOODMARK_SOURCE": pg.url, "S3_DESTINATION": f"{s3_bucket.url}/lake"},
    )
    floodmark.configure(CHUNKS)
    objects = entry_of(floodmark.run().manifest, "public.person").objects
    proxy.seen.clear()
    limited = floodmark("cat", "person", "--limit", "3").out.splitlines()
    assert len(limited) == 3 and len(objects) > 5
    first, second = (one.key.rpartition("/")[2] for one in objects[:2])
    assert [seen.path.rpartition("/")[2] for seen in proxy.seen if "/data/" in seen.path] == [first]
    assert set(proxy.asked) == {"GET"}
    whole = floodmark("cat", "person").out
    assert whole.count("\n") == 4000 and whole.splitlines()[:3] == limited

    floodmark.hurried = True  # a store that delivers other bytes is asked several times
    proxy.always = lambda seen, forward: flipped_answer(seen, forward) if seen.path.endswith(second) else forward(seen)
    broken = floodmark("cat", "person", code=14)
    assert whole.startswith(broken.out) and broken.out.count("\n") == objects[0].rows
    assert second in broken.err and "person 1" not in broken.err
    proxy.always = None
    s3_bucket.client.delete_object(Bucket=s3_bucket.name, Key=f"lake/{objects[1].key}")
    missing = floodmark("cat", "person", code=13)
    assert missing.out == broken.out and second in missing.err
    done = subprocess.run(
        f"{' '.join(floodmark.command('cat', 'person'))} | head -n 2",
        shell=True,
        env=floodmark.environment,
        cwd=floodmark.folder,
        capture_output=True,
        check=True,
        text=True,
    )
    assert done.stdout.splitlines() == limited[:2]
