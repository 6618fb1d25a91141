"""`floodmark load` into DuckDB, Parquet and Glue: incremental, all at once, and safe to kill."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import duckdb
import pyarrow.parquet as pq
import pytest

from fix_child import Child
from fix_load import DAY_2, FIRST, KILLED, SECOND, Job, ask, unchanged
from fix_storage import S3Bucket
from floodmark.config import Flags
from floodmark.config import load as settings
from floodmark.errors import StorageDenied, StorageUnavailable
from floodmark.load import parquet
from floodmark.load.parquet import ParquetPlace
from floodmark.model import Encoding, ObjectEntry
from floodmark.pipeline.job import run
from floodmark.reader import reader
from floodmark.state.consumers import ParquetIndex
from floodmark.state.manifest import decode
from floodmark.storage.base import Storage
from floodmark.storage.local import LocalStorage


def test_duckdb_day_by_day(job: Job, tmp_path: Path) -> None:
    file = tmp_path / "cases.duckdb"
    into = f"duckdb:{file}"
    assert job.load(into) == FIRST
    assert ask(file, 'SELECT id, name, born::varchar, doc::varchar, paid::varchar, epoch("at") FROM public.person') == [
        (1, "Ada", "1815-12-10", '{"a": 1.10}', "12.50", 1782907200.0),
        (2, None, None, None, None, None),
    ]
    types = ask(file, "SELECT list(data_type ORDER BY column_index) FROM duckdb_columns() WHERE table_name = 'person'")
    assert types == [(["BIGINT", "VARCHAR", "DATE", "JSON", "DECIMAL(10,2)", "TIMESTAMP WITH TIME ZONE"],)]
    hidden, before = job.hide_data(), file.read_bytes()
    assert job.load(into) == unchanged(FIRST), "nothing of an unchanged day is read"
    assert file.read_bytes() == before
    hidden.rename(job.landing / "data")
    job.night(DAY_2)
    assert job.load(into) == SECOND
    assert ask(file, "SELECT count(*), min(id) FROM public.big") == [(1501, 0)]
    assert ask(file, "SELECT note FROM public.person ORDER BY id") == [("n",), (None,)]
    assert ask(file, "SELECT a::varchar FROM audit.log") == [("[1,2]",)]
    assert job.load(into, "--drop") == {**unchanged(SECOND), "public.empty": "dropped"}
    tables = "SELECT table_schema || '.' || table_name FROM information_schema.tables ORDER BY 1"
    ours = [("_floodmark.format",), ("_floodmark.staged",), ("_floodmark.tables",)]
    assert ask(file, tables) == [*ours, ("audit.log",), ("public.big",), ("public.fresh",), ("public.person",)]
    runs = ask(file, "SELECT DISTINCT run_id FROM _floodmark.tables WHERE name IN ('big', 'person')")
    assert runs == [(job.run_id,)]


def test_duckdb_targets_that_are_something_else_stay_as_they_are(job: Job, tmp_path: Path) -> None:
    sqlite = tmp_path / "notes.db"
    sqlite.write_bytes(b"SQLite format 3\0" + bytes(5000))
    truncated = tmp_path / "cut.duckdb"
    assert job.load(f"duckdb:{truncated}") == FIRST
    truncated.write_bytes(truncated.read_bytes()[:5000])
    for file, why in ((sqlite, "can't open the DuckDB file"), (truncated, "can't open the DuckDB file")):
        before = file.read_bytes()
        assert why in job.refused(f"duckdb:{file}", code=10) and file.read_bytes() == before
    assert "can't open the DuckDB file" in job.refused(f"duckdb:{tmp_path}/nowhere/x.duckdb", code=10)
    assert "not a target for a load" in job.refused("postgres:x", code=2)
    assert "matches no table" in job.refused(f"duckdb:{tmp_path}/a.duckdb", "--table", "public.nothing", code=10)
    assert "unknown column" in job.refused(f"duckdb:{tmp_path}/a.duckdb", "--text", "public.person.x", code=10)


@pytest.mark.parametrize("where", [":memory:", "md:x?motherduck_token=s3cret", "postgres://u:s3cret@h/db", "s3://b/x"])
def test_what_duckdb_takes_for_something_else_than_a_file_is_refused(job: Job, where: str) -> None:
    said = job.refused(f"duckdb:{where}", code=2)
    assert "this is not a file" in said and "s3cret" not in said


def test_names_that_a_shell_or_duckdb_would_make_something_of(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    for into, place in (
        ("duckdb:./cases:2026.duckdb", "cases:2026.duckdb"),
        ("duckdb:~/cases.duckdb", "home/cases.duckdb"),
        ("parquet:~/lake", "home/lake"),
    ):
        assert job.load(into) == FIRST and (tmp_path / place).exists(), into
        assert job.load(into) == unchanged(FIRST), into
    for into in ("duckdb:", "duckdb: ", "parquet:", "parquet:\t", "glue:", "duckdb", ""):
        assert "not a target for a load" in job.refused(into, code=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cases:2026.duckdb", "home", "landing"]


def test_rows_come_to_duckdb_by_arrow_and_without_it_nothing_is_made(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "In a checkout of Floodmark: pip install '.[arrow]'" in job.refused(f"duckdb:{tmp_path}/a.duckdb", code=10)
    assert not (tmp_path / "a.duckdb").exists()


def test_a_table_of_the_users_own_is_not_replaced(job: Job, tmp_path: Path) -> None:
    file = tmp_path / "mine.duckdb"
    with duckdb.connect(str(file)) as connection:
        connection.execute("CREATE SCHEMA public; CREATE TABLE public.Person AS SELECT 42 AS mine")
        connection.execute("CREATE TABLE own (a int)")
    assert job.load(f"duckdb:{file}", code=3) == {**FIRST, "public.person": "failed"}
    assert ask(file, "SELECT mine FROM public.person") == [(42,)] and ask(file, "SELECT count(*) FROM own") == [(0,)]
    assert job.load(f"duckdb:{file}", code=3) == {**unchanged(FIRST), "public.person": "failed"}


@contextmanager
def opened(file: Path, read_only: str) -> Iterator[None]:
    """Someone else, a notebook say, has the file open."""
    connect = f"held = duckdb.connect({str(file)!r}, read_only={read_only})"
    program = f"import duckdb; {connect}; print('open', flush=True); input()"
    with Child(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"open\n"
        yield


def test_a_duckdb_file_that_someone_has_open(job: Job, tmp_path: Path) -> None:
    file = tmp_path / "cases.duckdb"
    with opened(file, "False"):
        assert "another process has it open" in job.refused(f"duckdb:{file}", code=11)
    assert job.load(f"duckdb:{file}") == FIRST
    with opened(file, "True"):
        assert job.load(f"duckdb:{file}") == unchanged(FIRST), "readers do not mind an unchanged day"
        job.night(DAY_2)
        assert "another process has it open" in job.refused(f"duckdb:{file}", code=11)
    assert job.load(f"duckdb:{file}") == SECOND


def test_a_target_of_another_database(job: Job, tmp_path: Path) -> None:
    file, notes = tmp_path / "cases.duckdb", tmp_path / "notes"
    job.load(f"duckdb:{file}")
    with sqlite3.connect(tmp_path / "n.db") as connection:
        connection.execute("CREATE TABLE n (a)")
    connection.close()
    run(settings(Flags(destination=str(notes)), {"FLOODMARK_SOURCE": f"sqlite:///{tmp_path}/n.db"}))
    assert "its tables are of postgresql database" in job.refused(
        f"duckdb:{file}", "--destination", str(notes), code=10
    )
    assert ask(file, "SELECT count(*) FROM public.big") == [(1500,)]
    adopted = job.load(f"duckdb:{file}", "--destination", str(notes), "--adopt-source")
    assert adopted["main.n"] == "loaded" and adopted["public.big"] == "gone"


def notes_of(file: Path, *, adopt: bool = False) -> Path:
    """A lake beside some SQLite files, after a run that takes one of them for its source."""
    with sqlite3.connect(file) as connection:
        connection.executescript("CREATE TABLE IF NOT EXISTS n (a); CREATE TABLE IF NOT EXISTS o (b)")
    connection.close()
    lake = file.parent / "notes"
    flags = Flags(destination=str(lake), adopt_source=adopt)
    run(settings(flags, {"FLOODMARK_SOURCE": f"sqlite:///{file}"}))
    return lake


def take_over_a_moved_database(job: Job, into: str, folder: Path) -> None:
    """Its tables are as they were before it was moved."""
    lake = str(notes_of(folder / "before.db"))
    assert set(job.load(into, "--destination", lake).values()) == {"loaded"}
    notes_of(folder / "after.db", adopt=True)
    assert "its tables are of sqlite database" in job.refused(into, "--destination", lake, code=10)
    same = {"main.n": "unchanged", "main.o": "unchanged"}
    assert job.load(into, "--destination", lake, "--adopt-source") == same
    assert job.load(into, "--destination", lake) == same, "once is enough"
    notes_of(folder / "before.db", adopt=True)
    assert "its tables are of sqlite database" in job.refused(into, "--destination", lake, code=10)


TARGETS: dict[str, Callable[[Path], str]] = {
    "duckdb": lambda folder: f"duckdb:{folder}/cases.duckdb",
    "parquet": lambda folder: f"parquet:{folder}/lake",
}


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return TARGETS[request.param](tmp_path)


def held(target: str, label: str) -> list[tuple[Any, ...]]:
    """A table's rows as a reader of the target finds them."""
    kind, _, where = target.partition(":")
    if kind == "duckdb":
        return sorted(ask(Path(where), f"SELECT * FROM {label}"), key=repr)
    index = decode(ParquetIndex, (Path(where) / "_floodmark/parquet.json").read_bytes(), where)
    (table,) = [one for one in index.tables if f"{one.schema}.{one.name}" == label]
    rows = [row for file in table.files for row in pq.read_table(Path(where) / file.key).to_pylist()]
    assert len(rows) == table.rows
    return sorted((tuple(row.values()) for row in rows), key=repr)


def test_damage_sinks_its_own_table_alone_and_the_old_rows_stay(job: Job, target: str) -> None:
    job.load(target)
    old = held(target, "public.person")
    job.night(DAY_2)
    path = sorted((job.landing / "data").rglob("person-*.gz"))[-1]
    good = path.read_bytes()
    path.write_bytes(good[:-5] + b"12345")
    assert job.load(target, code=14) == {**SECOND, "public.person": "failed"}
    assert held(target, "public.person") == old and len(held(target, "public.big")) == 1501
    path.unlink()
    assert job.load(target, code=13) == {**unchanged(SECOND), "public.person": "failed"}
    path.write_bytes(good)
    assert job.load(target) == {**unchanged(SECOND), "public.person": "loaded"}
    assert len(held(target, "public.person")[0]) == len(old[0]) + 1


def test_a_store_that_is_gone_is_not_waited_for_once_a_table(
    job: Job, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def gone(data: object, one: ObjectEntry, encoding: object) -> Iterator[bytes]:
        tried.append(one.key)
        raise StorageUnavailable("get an object", why="a test says so")

    with monkeypatch.context() as patched:
        patched.setattr(reader, "blocks", gone)
        assert job.load(target, code=13) == dict.fromkeys(FIRST, "failed")
    assert len(tried) == 2 and len(FIRST) == 4
    assert job.load(target) == FIRST


def test_a_moved_database_is_taken_over_though_no_table_changed(job: Job, target: str, tmp_path: Path) -> None:
    take_over_a_moved_database(job, target, tmp_path)


def test_a_moved_database_is_taken_over_though_a_table_fails(job: Job, target: str, tmp_path: Path) -> None:
    lake = str(notes_of(tmp_path / "before.db"))
    job.load(target, "--destination", lake)
    with sqlite3.connect(tmp_path / "after.db") as connection:
        connection.execute("CREATE TABLE n AS SELECT 5 AS a")
    connection.close()
    notes_of(tmp_path / "after.db", adopt=True)
    (path,) = (tmp_path / "notes/data").rglob("n-*.gz")
    good = path.read_bytes()
    path.write_bytes(good[:-5] + b"12345")
    failed = {"main.n": "failed", "main.o": "unchanged"}
    assert job.load(target, "--destination", lake, "--adopt-source", code=14) == failed
    assert job.load(target, "--destination", lake, code=14) == failed
    path.write_bytes(good)
    assert job.load(target, "--destination", lake) == {"main.n": "loaded", "main.o": "unchanged"}


def test_a_lake_of_csv_is_refused_before_anything_is_made(job: Job, target: str, tmp_path: Path) -> None:
    job.csv()
    said = job.refused(target, code=10)
    assert said.startswith("floodmark: can't load CSV: ") and said.count("CSV") == 1
    assert "destination.format: jsonl" in said
    assert not Path(target.partition(":")[2]).exists()
    assert "can't load CSV" in job.refused(target, "--table", "public.empty", code=10)


def test_a_table_that_is_csv_still_fails_alone(job: Job, target: str) -> None:
    """The lake is JSON Lines by now, and some tables could not be read since."""
    job.night(DAY_2)
    job.csv("public.person", "public.fresh")
    failed = {"public.person": "failed", "public.fresh": "failed"}
    assert job.load(target, code=3) == {"audit.log": "loaded", "public.big": "loaded", **failed}
    assert "can't read CSV as typed values" in job.refused(target, code=3)
    assert "can't load CSV" in job.refused(target, "--table", "person", code=10)


def test_a_value_that_does_not_fit_and_its_column_as_text(job: Job, target: str) -> None:
    job.night("CREATE TABLE price (n numeric); INSERT INTO price VALUES (0.12345678901), (1)")
    said = job.refused(target, code=3)
    assert (
        " level=error event=table_failed " in said
        and " table=public.price why=" in said
        and "column n" in said
        and "12345678901" not in said
    )
    assert job.load(target, "--text", "public.price.n") == {**unchanged(FIRST), "public.price": "loaded"}
    assert held(target, "public.price") == [("0.12345678901",), ("1",)]


UNFIT = """
    CREATE TABLE odd (id int, t text, a numeric, "b c" numeric, d numeric, e numeric(10,2), until timestamptz);
    INSERT INTO odd SELECT n, repeat('x', 300), 1, 2, 3, 4, now() FROM generate_series(1, 1500) n;
    UPDATE odd SET d = 'NaN' WHERE id = 1499; UPDATE odd SET "b c" = 0.12345678901 WHERE id = 1500;
    UPDATE odd SET a = 0.12345678901 WHERE id = 3; UPDATE odd SET until = '0044-03-15 BC' WHERE id = 700"""


def test_all_columns_that_do_not_fit_are_told_at_once(job: Job, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever chunk they stand in, and no object is read twice for it."""
    job.night(UNFIT)
    read, blocks = list[str](), reader.blocks

    def counted(data: Storage, one: ObjectEntry, encoding: Encoding) -> Iterator[bytes]:
        read.append(one.key)
        return blocks(data, one, encoding)

    monkeypatch.setattr(reader, "blocks", counted)
    said = job.refused(target, "--table", "odd", code=3)
    assert len(read) == len(set(read)) > 2
    options = re.findall(r"--text (?:'([^']+)'|(public\.\S+))", said)
    columns = [quoted or plain for quoted, plain in options]
    assert (
        columns == ["public.odd.a", "public.odd.b c", "public.odd.d"]
        and "NaN" not in said
        and "12345678901" not in said
    )
    text = [word for column in columns for word in ("--text", column)]
    assert job.load(target, "--table", "odd", *text) == {"public.odd": "loaded"}


def test_text_for_a_table_that_is_left_out_is_refused(job: Job, target: str) -> None:
    for left_out in (("--table", "big"), ("--exclude", "person")):
        said = job.refused(target, *left_out, "--text", "public.person.paid", code=2)
        assert "--text" in said and "public.person.paid" in said and f"{left_out[0]} leaves its table out" in said
    assert job.load(target, "--table", "p*", "--text", "public.person.paid") == {"public.person": "loaded"}


# Where a load is killed: the method after whose first call it happens.
POINTS = {
    "duckdb": [
        "duckdb.DuckDBFile.prepare",
        "duckdb.DuckDBFile.stage",
        "duckdb.DuckDBFile._drop",
        "duckdb.DuckDBFile._rename",
    ],
    "parquet": ["local.LocalStorage.put", "parquet.ParquetPlace.stage", "parquet.ParquetPlace.commit"],
}


@pytest.mark.parametrize(("kind", "point"), [(kind, point) for kind in POINTS for point in POINTS[kind]])
def test_a_load_that_is_killed_leaves_one_whole_snapshot(job: Job, tmp_path: Path, kind: str, point: str) -> None:
    target = TARGETS[kind](tmp_path)
    job.load(target)
    old = {label: held(target, label) for label in ("public.person", "public.big")}
    job.night(DAY_2)
    done = job.process(KILLED, point, "load", "--into", target)
    assert done.returncode == -signal.SIGKILL, done.stderr
    committed = point.endswith("commit")
    for label, rows in old.items():
        assert (held(target, label) != rows) == committed, f"{label} is neither old nor new, or not with the others"
    assert job.load(target) == (unchanged(SECOND) if committed else SECOND)
    assert len(held(target, "public.big")) == 1501 and len(held(target, "public.person")) == 2
    if kind == "duckdb":
        left = "SELECT * FROM duckdb_tables() WHERE table_name LIKE '%floodmark_new%'"
        assert ask(Path(target.partition(":")[2]), left) == []


@pytest.mark.parametrize(("kind", "point"), [(kind, point) for kind in POINTS for point in POINTS[kind]])
def test_a_first_load_that_is_killed_is_no_hindrance(job: Job, tmp_path: Path, kind: str, point: str) -> None:
    target = TARGETS[kind](tmp_path)
    assert job.process(KILLED, point, "load", "--into", target).returncode == -signal.SIGKILL
    assert job.load(target) == (unchanged(FIRST) if point.endswith("commit") else FIRST)
    assert len(held(target, "public.big")) == 1500 and len(held(target, "public.person")) == 2


PICKED = {
    "public.*": {"public.big", "public.empty", "public.person"},
    "*.l?g": {"audit.log"},
    "b*": {"public.big"},
    "person": {"public.person"},
    '"public".big': {"public.big"},
}


@pytest.mark.parametrize("pattern", PICKED)
def test_patterns_pick_tables_as_a_run_does(job: Job, tmp_path: Path, pattern: str) -> None:
    into = f"duckdb:{tmp_path}/cases.duckdb"
    assert job.load(into, "--table", pattern) == dict.fromkeys(PICKED[pattern], "loaded")
    both = job.load(into, "--table", pattern, "--table", "audit.*")
    assert both == {"audit.log": "loaded", **dict.fromkeys(PICKED[pattern], "unchanged")}
    code, out, _ = job.command("schema", "--format", "json-schema", "--table", pattern)
    document = json.loads(out)
    titles = {one["title"] for one in document["tables"]} if "tables" in document else {document["title"]}
    assert code == 0 and titles == PICKED[pattern]
    assert ("tables" in document) == any(sign in pattern for sign in "*?"), "one table named in full is its document"


def test_a_pattern_that_picks_nothing_is_refused_and_names_what_is_near(job: Job, tmp_path: Path) -> None:
    file = tmp_path / "cases.duckdb"
    for arguments in (("load", "--into", f"duckdb:{file}"), ("schema", "--format", "mojap")):
        code, out, err = job.command(*arguments, "--table", "public.*", "--table", "public.persn")
        assert (code, out) == (10, "") and "Did you mean public.person " in err
    assert not file.exists()


def test_parquet_rewrites_changed_chunks_only(job: Job, tmp_path: Path) -> None:
    place = tmp_path / "lake"
    assert job.load(f"parquet:{place}") == FIRST
    first = {path: path.stat().st_mtime_ns for path in place.rglob("*.parquet")}
    job.hide_data().rename(job.landing / "data")
    job.night(DAY_2)
    assert job.load(f"parquet:{place}") == SECOND
    second = {path: path.stat().st_mtime_ns for path in place.rglob("*.parquet")}
    big = [path for path in second if path.parent.name == "public.big"]
    assert len(big) > 4 and len([path for path in big if first.get(path) == second[path]]) == len(big) - 1
    assert {path.parent.name for path in second} == {"audit.log", "public.big", "public.fresh", "public.person"}
    (person,) = (path for path in second.keys() - first.keys() if path.parent.name == "public.person")
    assert str(pq.read_schema(person).field("paid").type) == "decimal128(10, 2)"
    assert job.load(f"parquet:{place}", "--drop")["public.empty"] == "dropped"


@pytest.mark.parametrize("harm", ["gone", "cut off"])
def test_a_parquet_file_that_is_not_as_it_was_put_is_not_taken_over(job: Job, tmp_path: Path, harm: str) -> None:
    place = tmp_path / "lake"
    target = f"parquet:{place}"
    job.load(target)
    files = sorted((place / "public.big").glob("*.parquet"))
    for file in files[:2]:
        file.unlink() if harm == "gone" else os.truncate(file, file.stat().st_size - 1)
    job.night(DAY_2)
    assert job.load(target)["public.big"] == "loaded"
    assert len(held(target, "public.big")) == 1501
    assert set(files[2:]) & set((place / "public.big").glob("*.parquet")), "the others were not written anew"


def test_a_target_that_someone_has_touched_is_loaded_anew_when_that_is_asked_for(job: Job, target: str) -> None:
    job.load(target)
    whole = held(target, "public.person")
    where = Path(target.partition(":")[2])
    if where.is_dir():
        (file,) = (where / "public.person").glob("*.parquet")
        pq.write_table(pq.read_table(file).slice(1), file)
    else:
        with duckdb.connect(str(where)) as connection:
            connection.execute("DELETE FROM public.person WHERE id = 1")
    assert job.load(target) == unchanged(FIRST), "what it says of itself is believed"
    assert job.load(target, "--full", "--table", "public.p*") == {"public.person": "loaded"}
    assert held(target, "public.person") == whole


def index_of(place: Path) -> ParquetIndex:
    return decode(ParquetIndex, (place / "_floodmark/parquet.json").read_bytes(), "")


def dated_back(place: Path, days: float) -> None:
    """As if that much time had passed since files were superseded."""
    path = place / "_floodmark/parquet.json"
    document = json.loads(path.read_bytes())
    for one in document["superseded"]:
        moment = datetime.fromisoformat(one["superseded_at"]) - timedelta(days=days)
        one["superseded_at"] = moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
    path.write_text(json.dumps(document))


def test_a_reader_that_began_before_finds_its_parquet_files_for_a_day(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "_GRACE", -parquet._GRACE)  # every load is long ago
    place = tmp_path / "lake"
    into = f"parquet:{place}"
    job.load(into)
    first = index_of(place)
    old = {file.key for table in first.tables for file in table.files}
    job.night(DAY_2)
    assert job.load(into) == SECOND
    second = index_of(place)
    replaced = {one.key for one in second.superseded}
    assert replaced == old - {file.key for table in second.tables for file in table.files} and len(replaced) == 2
    dated_back(place, 0.9)
    job.night("INSERT INTO audit.log VALUES (NULL)")
    job.load(into)
    third = index_of(place)
    assert all((place / key).exists() for key in old) and replaced < {one.key for one in third.superseded}
    dated_back(place, 0.2)
    job.night("INSERT INTO fresh VALUES (8)")
    job.load(into)
    assert not any((place / key).exists() for key in replaced), "although another table changed"
    left = {one.key for one in index_of(place).superseded}
    assert left and not left & replaced and all((place / key).exists() for key in left)


def test_what_a_killed_load_had_half_put_is_swept_a_day_later(job: Job, tmp_path: Path) -> None:
    place = tmp_path / "lake"
    into = f"parquet:{place}"
    job.load(into)
    job.night(DAY_2)
    assert job.process(KILLED, "local.LocalStorage._written", "load", "--into", into).returncode == -signal.SIGKILL
    (left,) = place.rglob(".floodmark-" + "?" * 32)
    theirs = place / "mine/.floodmark-notes"
    theirs.parent.mkdir()
    theirs.touch()
    another = left.with_name(f".floodmark-{0:032x}")  # what a load has in work at this moment
    another.touch()
    days_ago(0.9, left)
    days_ago(30, theirs)
    assert job.load(into) == SECOND and left.exists(), "it may be that of a load at work"
    days_ago(1.1, left)
    job.night("INSERT INTO audit.log VALUES (NULL)")
    assert job.load(into)["audit.log"] == "loaded"
    assert not left.exists() and another.exists() and theirs.exists()


def days_ago(days: float, path: Path) -> None:
    moment = (datetime.now() - timedelta(days=days)).timestamp()
    os.utime(path, (moment, moment))


def test_two_chunks_of_the_same_lines_have_a_parquet_file_each(job: Job, tmp_path: Path) -> None:
    place = tmp_path / "lake"
    job.night(
        "CREATE TABLE twin (t text) WITH (autovacuum_enabled = off);"
        "INSERT INTO twin SELECT repeat('x', 200) FROM generate_series(1, 1500)"
    )
    job.load(f"parquet:{place}")
    job.night("INSERT INTO twin VALUES ('another')")
    assert job.load(f"parquet:{place}")["public.twin"] == "loaded"
    (twin,) = (table for table in index_of(place).tables if table.name == "twin")
    digests = [file.content_sha256 for file in twin.files]
    assert len(set(digests)) < len(digests), "the same lines twice is what this is about"
    assert len({file.key for file in twin.files}) == len(twin.files) and twin.rows == 1501


def test_a_parquet_place_that_floodmark_did_not_write(job: Job, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "precious.parquet").write_bytes(b"PAR1")
    assert "did not load" in job.refused(f"parquet:{other}", code=10)
    for taken in ("", "/data/pq", "/_floodmark", "/_floodmark/manifests/pq"):
        assert "this place can't be the target" in job.refused(f"parquet:{job.landing}{taken}", code=10)
    assert job.load(f"parquet:{job.landing}/parquet") == FIRST, "beside the data is not within it"
    assert [path.name for path in other.iterdir()] == ["precious.parquet"]
    place = tmp_path / "lake"
    job.load(f"parquet:{place}")
    index = place / "_floodmark/parquet.json"
    index.write_bytes(index.read_bytes().replace(b'"version": 1', b'"version": 9'))
    before = index.read_bytes()
    assert "version 9 is not known" in job.refused(f"parquet:{place}", code=13) and index.read_bytes() == before


def test_of_two_loads_at_once_one_stands_whole_and_the_other_says_so(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "lake"
    job.load(f"parquet:{place}")
    job.night(DAY_2)
    whole = ParquetPlace.commit

    def late(*arguments: Any) -> None:
        monkeypatch.setattr(ParquetPlace, "commit", whole)
        assert job.load(f"parquet:{place}") == SECOND
        whole(*arguments)

    monkeypatch.setattr(ParquetPlace, "commit", late)
    assert "can't publish the load" in job.refused(f"parquet:{place}", code=11)
    assert len(held(f"parquet:{place}", "public.big")) == 1501
    index = decode(ParquetIndex, (place / "_floodmark/parquet.json").read_bytes(), "")
    named = {place / file.key for table in index.tables for file in table.files}
    waiting = {place / one.key for one in index.superseded}
    assert set(place.rglob("*.parquet")) == named | waiting, "the loser took its own files away, and no other"


def test_what_can_t_be_taken_away_does_not_hide_why_the_load_ended(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "lake"
    job.load(f"parquet:{place}")
    job.night(DAY_2)
    whole = ParquetPlace.commit

    def late(*arguments: Any) -> None:
        monkeypatch.setattr(ParquetPlace, "commit", whole)
        assert job.load(f"parquet:{place}") == SECOND
        monkeypatch.setattr(LocalStorage, "delete", refuse)
        whole(*arguments)

    def refuse(storage: object, key: str) -> None:
        raise StorageDenied("delete an object", why="a test says so")

    monkeypatch.setattr(ParquetPlace, "commit", late)
    said = job.refused(f"parquet:{place}", code=11)
    assert "can't publish the load" in said and "unused files remain: delete an object: a test says so" in said


def test_parquet_in_s3(job: Job, s3_bucket: S3Bucket) -> None:
    into = f"parquet:{s3_bucket.url}/lake"
    assert job.load(into) == FIRST
    job.night(DAY_2)
    assert job.load(into) == SECOND
    found = s3_bucket.client.get_object(Bucket=s3_bucket.name, Key="lake/_floodmark/parquet.json")["Body"].read()
    index = decode(ParquetIndex, found, "")
    for table in index.tables:
        for file in table.files:
            head = s3_bucket.client.head_object(Bucket=s3_bucket.name, Key=f"lake/{file.key}")
            assert head["ContentLength"] == file.stored_bytes


@pytest.fixture
def glue(moto_bucket: S3Bucket, moto_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A Glue catalog with an empty database that has a location, and the environment pointing at it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_GLUE", moto_server)
    client = boto3.client("glue", endpoint_url=moto_server)
    name = moto_bucket.name.replace("-", "_")
    client.create_database(DatabaseInput={"Name": name, "LocationUri": f"{moto_bucket.url}/lake"})
    yield client, name, moto_bucket
    client.delete_database(Name=name)


def rows_in_glue(client: Any, database: str, table: str, bucket: S3Bucket, folder: Path) -> list[dict[str, Any]]:
    """What Athena does: the table's location → the list in it → the files in the list."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    location = client.get_table(DatabaseName=database, Name=table)["Table"]["StorageDescriptor"]["Location"]
    prefix = location.removeprefix(f"{bucket.url}/")
    (found,) = bucket.client.list_objects_v2(Bucket=bucket.name, Prefix=prefix)["Contents"]
    text = bucket.client.get_object(Bucket=bucket.name, Key=found["Key"])["Body"].read().decode()
    rows: list[dict[str, Any]] = []
    for number, url in enumerate(text.splitlines()):
        bucket.client.download_file(bucket.name, url.removeprefix(f"{bucket.url}/"), str(folder / f"{number}"))
        rows += pq.read_table(folder / f"{number}").to_pylist()
    return rows


def files_of(bucket: S3Bucket, prefix: str) -> set[str]:
    return {one["Key"] for one in bucket.client.list_objects_v2(Bucket=bucket.name, Prefix=prefix)["Contents"]}


def test_glue_day_by_day(job: Job, glue: Any, tmp_path: Path) -> None:
    client, database, bucket = glue
    into = f"glue:{database}"
    assert job.load(into) == FIRST and job.load(into) == unchanged(FIRST)
    table = client.get_table(DatabaseName=database, Name="person")["Table"]
    columns = {column["Name"]: column["Type"] for column in table["StorageDescriptor"]["Columns"]}
    assert columns == {
        "id": "bigint", "name": "string", "born": "date", "doc": "string", "paid": "decimal(10,2)", "at": "timestamp"
    }  # fmt: skip
    assert len(rows_in_glue(client, database, "big", bucket, tmp_path / "big")) == 1500
    job.night(DAY_2)
    assert job.load(into) == SECOND
    table = client.get_table(DatabaseName=database, Name="person")["Table"]
    assert table["StorageDescriptor"]["Columns"][-1] == {"Name": "note", "Type": "string", "Comment": "text"}
    rows = rows_in_glue(client, database, "person", bucket, tmp_path / "person")
    assert [row["note"] for row in rows] == [None, "n"] or [row["note"] for row in rows] == ["n", None]
    assert len(rows_in_glue(client, database, "big", bucket, tmp_path / "big")) == 1501
    assert job.load(into, "--drop")["public.empty"] == "dropped"
    names = sorted(one["Name"] for one in client.get_tables(DatabaseName=database)["TableList"])
    assert names == ["audit_log", "big", "fresh", "person"]


def test_a_glue_table_that_lags_behind_is_moved_on_and_no_other_is_touched(job: Job, glue: Any, tmp_path: Path) -> None:
    client, database, bucket = glue
    into = f"glue:{database}"
    client.create_table(DatabaseName=database, TableInput={"Name": "person", "Parameters": {"owner": "someone"}})
    assert job.load(into, code=3) == {**FIRST, "public.person": "failed"}
    assert client.get_table(DatabaseName=database, Name="person")["Table"]["Parameters"] == {"owner": "someone"}
    client.delete_table(DatabaseName=database, Name="person")
    client.delete_table(DatabaseName=database, Name="big")
    job.hide_data().rename(job.landing / "data")
    before = files_of(bucket, "lake/public.big/")
    assert job.load(into) == {**unchanged(FIRST), "public.big": "loaded", "public.person": "loaded"}
    assert len(rows_in_glue(client, database, "big", bucket, tmp_path / "big")) == 1500
    assert files_of(bucket, "lake/public.big/") == before, "its files were there already"


def test_glue_takes_a_moved_database_over_though_no_table_changed(job: Job, glue: Any, tmp_path: Path) -> None:
    client, database, _ = glue
    take_over_a_moved_database(job, f"glue:{database}", tmp_path)
    assert sorted(one["Name"] for one in client.get_tables(DatabaseName=database)["TableList"]) == ["n", "o"]


def test_glue_databases_that_do_not_do(job: Job, glue: Any) -> None:
    client, database, bucket = glue
    assert "database or table does not exist" in job.refused("glue:nowhere", code=10)
    client.create_database(DatabaseInput={"Name": f"{database}_bare"})
    assert "the database has no location" in job.refused(f"glue:{database}_bare", code=10)
    assert "it is not in S3" in job.refused(f"glue:{database}_bare", "--files", "/tmp/x", code=10)
    assert job.load(f"glue:{database}_bare", "--files", f"{bucket.url}/bare") == FIRST
