"""`floodmark load` into a DuckDB file that others use too, and of sources whose names are hard on DuckDB."""

from __future__ import annotations

import errno
import resource
import signal
from pathlib import Path

import duckdb
import pytest

from fix_load import DAY_2, FIRST, KILLED, SECOND, Job, ask, unchanged
from fix_seccomp import refusing
from floodmark.errors import ConfigError
from floodmark.load import duckdb as duckdb_target
from floodmark.load import duckdb_connection

MAIN = "from floodmark.cli.main import main; import sys; sys.exit(main())"


def change(file: Path, *statements: str) -> None:
    """What someone does to the file between two loads."""
    with duckdb.connect(str(file)) as connection:
        for statement in statements:
            connection.execute(statement)


def test_tables_whose_names_differ_only_in_case(job: Job, tmp_path: Path) -> None:
    into, file = f"duckdb:{tmp_path}/cases.duckdb", tmp_path / "cases.duckdb"
    assert job.load(into, "--table", "public.person")["public.person"] == "loaded"
    job.night(
        'CREATE TABLE "Person" (a int); CREATE SCHEMA "AUDIT"; CREATE TABLE "AUDIT".log (a int);'
        'CREATE TABLE "AUDIT".other (a int); INSERT INTO "AUDIT".other VALUES (5);'
        'CREATE TABLE "É" (a int); CREATE TABLE "é" (a int)'
    )
    twins = {"audit.log": "failed", "public.Person": "failed"}
    both = {**FIRST, "AUDIT.log": "loaded", "AUDIT.other": "loaded", "public.É": "loaded", "public.é": "loaded"}
    assert job.load(into, code=3) == {**both, **twins, "public.person": "unchanged"}
    said = job.refused(into, code=3)
    assert "public.person and public.Person" in said and "AUDIT.log and audit.log" in said
    assert ask(file, "SELECT count(name) FROM public.person") == [(1,)] and ask(file, "FROM audit.other") == [(5,)]
    job.night("DELETE FROM person WHERE id = 2")
    assert job.load(into, code=3) == {**unchanged(both), **twins, "public.person": "loaded"}
    assert ask(file, "SELECT id FROM public.person") == [(1,)]


def test_a_wide_table_is_written_in_smaller_row_groups_and_no_other_table(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DuckDB holds a whole one in memory; at its own measure a thousand columns want a gigabyte."""
    monkeypatch.setattr(duckdb_connection, "_VALUES_IN_ROW_GROUP", 101 * 2048)
    names = [f"c{number}" for number in range(101)]
    job.night(
        "CREATE TABLE tall AS SELECT n FROM generate_series(1, 5000) n;"
        f"CREATE TABLE wide ({' int, '.join(names)} int);"
        f"INSERT INTO wide SELECT {', '.join(['n'] * 101)} FROM generate_series(1, 5000) n"
    )
    file = tmp_path / "it's.duckdb"
    expected = {**FIRST, "public.tall": "loaded", "public.wide": "loaded"}
    assert job.load(f"duckdb:{file}") == expected
    groups = "SELECT count(DISTINCT row_group_id) FROM pragma_storage_info('public.{}')"
    assert [ask(file, groups.format(table)) for table in ("wide", "tall")] == [[(3,)], [(1,)]]
    assert ask(file, "SELECT count(*), sum(c0), sum(c100) FROM public.wide") == [(5000, 12502500, 12502500)]
    assert job.load(f"duckdb:{file}") == unchanged(expected)
    job.night("DELETE FROM wide WHERE c0 > 100; UPDATE person SET name = 'x'")
    changed = {"public.wide": "loaded", "public.person": "loaded"}
    assert job.load(f"duckdb:{file}") == {**unchanged(expected), **changed}
    assert ask(file, "SELECT count(*) FROM public.wide") == [(100,)]
    assert sorted(path.name for path in tmp_path.glob("*.duckdb*")) == ["it's.duckdb"]
    tables = "SELECT count(*) FROM duckdb_tables() WHERE schema_name <> '_floodmark'"
    assert ask(file, tables) == [(len(expected),)]


def test_a_file_that_is_taken_while_a_wide_table_is_about_to_be_loaded(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is opened anew for that, and for a moment anyone may have it."""
    file = tmp_path / "cases.duckdb"
    assert job.load(f"duckdb:{file}") == FIRST
    job.night(f"UPDATE big SET t = 'y'; CREATE TABLE public.wide ({', '.join(f'c{n} int' for n in range(101))})")
    opened = duckdb_target.DuckDBFile._reopen

    def taken(target: duckdb_target.DuckDBFile, row_group: int) -> None:
        if not row_group:
            return opened(target, row_group)
        target.close()
        raise ConfigError("can't open the DuckDB file", on="it")

    with monkeypatch.context() as patched:
        patched.setattr(duckdb_target.DuckDBFile, "_reopen", taken)
        assert "can't open the DuckDB file" in job.refused(f"duckdb:{file}", code=11)
    assert ask(file, "SELECT count(*) FROM public.big WHERE t = 'y'") == [(0,)]
    assert job.load(f"duckdb:{file}") == {**unchanged(FIRST), "public.big": "loaded", "public.wide": "loaded"}
    assert ask(file, "SELECT * FROM duckdb_tables() WHERE table_name LIKE '%floodmark_new%'") == []


def test_tables_that_can_never_be_in_the_file_are_left_out(job: Job, tmp_path: Path) -> None:
    into = f"duckdb:{tmp_path}/cases.duckdb"
    job.night(
        'CREATE TABLE "Person" (a int); CREATE TABLE nothing (); CREATE TABLE x (a int);'
        'CREATE TABLE twin_columns (a int, "A" int)'
    )
    failing = {"public.nothing": "failed", "public.person": "failed", "public.twin_columns": "failed"}
    done = {**FIRST, "public.Person": "loaded", "public.x": "loaded", **failing}
    assert job.load(into, code=3) == done
    assert job.refused(into, code=3).count("--exclude") == len(failing)
    rest = {label: status for label, status in unchanged(done).items() if status != "failed"}
    left_out = ("--exclude", "nothing", "--exclude", "public.person", "--exclude", "*.twin?columns")
    assert job.load(into, *left_out) == rest
    assert job.load(into, "--table", "public.?e*", "--table", "b*", *left_out) == {
        "public.Person": "unchanged",
        "public.big": "unchanged",
    }
    job.night("DROP TABLE empty; DROP TABLE x")
    assert job.load(into, *left_out, "--exclude", "public.*", "--drop") == {"audit.log": "unchanged"}
    assert job.load(into, *left_out, "--drop") == {**rest, "public.empty": "dropped", "public.x": "dropped"}


def test_what_is_left_out_stays_as_it_is(job: Job, tmp_path: Path) -> None:
    into, file = f"duckdb:{tmp_path}/cases.duckdb", tmp_path / "cases.duckdb"
    job.load(into)
    job.night(f"{DAY_2}; DROP TABLE audit.log; CREATE TABLE audit.other (a int)")
    code, out, err = job.command("load", "--into", into, "--exclude", "public.nothing_like_it")
    assert (code, out) == (10, "") and "--exclude: public.nothing_like_it" in err
    done = {"public.empty": "dropped", "public.fresh": "loaded", "public.person": "loaded"}
    assert job.load(into, "--drop", "--exclude", "audit.*", "--exclude", "big") == done
    assert ask(file, "SELECT count(*) FROM public.big") == [(1500,)] and len(ask(file, "FROM audit.log")) == 1
    rest = {"audit.log": "dropped", "audit.other": "loaded", "public.big": "loaded"}
    assert job.load(into, "--drop") == {**rest, "public.fresh": "unchanged", "public.person": "unchanged"}


@pytest.mark.parametrize("options", [(), ("--drop",)])
def test_a_rename_that_only_changes_case(job: Job, tmp_path: Path, options: tuple[str, ...]) -> None:
    into = f"duckdb:{tmp_path}/cases.duckdb"
    assert job.load(into) == FIRST
    job.night('ALTER TABLE person RENAME TO "Person"; ALTER SCHEMA audit RENAME TO "Audit"')
    gone = "dropped" if options else "gone"
    before = {"public.big": "unchanged", "public.empty": "unchanged"}
    renamed = {"public.Person": "loaded", "Audit.log": "loaded"}
    assert job.load(into, *options) == {**before, **renamed, "public.person": gone, "audit.log": gone}
    assert job.load(into, *options) == unchanged({**before, **renamed})
    assert ask(tmp_path / "cases.duckdb", "SELECT name FROM public.person ORDER BY 1") == [("Ada",), (None,)]
    assert ask(tmp_path / "cases.duckdb", "SELECT list(name ORDER BY name) FROM _floodmark.tables") == [
        (["Person", "big", "empty", "log"],)
    ]


@pytest.mark.parametrize("stem", ["public", "audit", "temp", "_floodmark"])
def test_a_file_named_like_a_schema_and_schemas_that_duckdb_has_itself(job: Job, tmp_path: Path, stem: str) -> None:
    file = tmp_path / f"{stem}.duckdb"
    job.night(
        "CREATE SCHEMA temp; CREATE TABLE temp.a (n int); CREATE SCHEMA main; CREATE TABLE main.a (n int);"
        "CREATE SCHEMA system; CREATE TABLE system.a (n int);"
        "INSERT INTO temp.a VALUES (1); INSERT INTO main.a VALUES (2)"
    )
    all_of_them = {**FIRST, "main.a": "loaded", "system.a": "loaded", "temp.a": "loaded"}
    assert job.load(f"duckdb:{file}") == all_of_them
    assert job.load(f"duckdb:{file}") == unchanged(all_of_them)
    job.night(DAY_2)
    second = {**SECOND, "main.a": "unchanged", "system.a": "unchanged", "temp.a": "unchanged"}
    assert job.load(f"duckdb:{file}", "--drop") == {**second, "public.empty": "dropped"}
    catalog = "temp_db" if stem == "temp" else stem
    assert ask(file, f"SELECT count(*) FROM {catalog}.public.person") == [(2,)]
    assert ask(file, f"SELECT n FROM {catalog}.temp.a UNION ALL SELECT n FROM {catalog}.main.a ORDER BY 1") == [
        (1,),
        (2,),
    ]


def test_schemas_that_duckdb_keeps_for_itself(job: Job, tmp_path: Path) -> None:
    job.night(
        'CREATE SCHEMA "Information_Schema"; CREATE TABLE "Information_Schema".tables (a int);'
        'CREATE SCHEMA "PG_CATALOG"; CREATE TABLE "PG_CATALOG".a (a int)'
    )
    into, failed = f"duckdb:{tmp_path}/x.duckdb", ("Information_Schema.tables", "PG_CATALOG.a")
    assert job.load(into, code=3) == {**FIRST, **dict.fromkeys(failed, "failed")}
    assert "DuckDB reserves this schema" in job.refused(into, code=3)


def test_what_is_no_longer_in_the_file_is_loaded_again(job: Job, tmp_path: Path) -> None:
    file, into = tmp_path / "cases.duckdb", f"duckdb:{tmp_path}/cases.duckdb"
    assert job.load(into) == FIRST
    change(file, "DROP TABLE public.person", "ALTER TABLE audit.log RENAME TO kept")
    again = {**unchanged(FIRST), "audit.log": "loaded", "public.person": "loaded"}
    assert job.load(into) == again and job.load(into) == unchanged(FIRST)
    assert ask(file, "SELECT count(*) FROM public.person") == [(2,)]
    assert ask(file, "SELECT a::varchar FROM audit.kept") == [("[1,2]",)], "what someone renamed is theirs"
    change(file, "DROP TABLE public.empty")
    job.night("DROP TABLE empty")
    assert job.load(into, "--drop") == {label: "unchanged" for label in FIRST if label != "public.empty"}
    assert ask(file, "SELECT count(*) FROM _floodmark.tables") == [(4,)], "until something is written"


THEIRS = {
    "a table": ("DROP TABLE public.person", "CREATE TABLE public.Person AS SELECT 42 AS mine"),
    "another landed table": ("DROP TABLE public.person", "ALTER TABLE public.big RENAME TO person"),
    "a table made over": ("CREATE OR REPLACE TABLE public.person AS SELECT 42 AS mine",),
    "a view": ("DROP TABLE public.person", "CREATE VIEW public.person AS SELECT 42 AS mine"),
}


@pytest.mark.parametrize("what", THEIRS)
@pytest.mark.parametrize("in_source", [True, False])
def test_what_someone_put_under_a_landed_name_is_left_alone(
    job: Job, tmp_path: Path, what: str, in_source: bool
) -> None:
    file, into = tmp_path / "cases.duckdb", f"duckdb:{tmp_path}/cases.duckdb"
    assert job.load(into) == FIRST
    change(file, *THEIRS[what])
    theirs = ask(file, "FROM public.person")
    job.night(f"{DAY_2}; {'' if in_source else 'DROP TABLE person'}")
    failed, code = ({"public.person": "failed"}, 3) if in_source else ({}, 0)
    rest = {label: status for label, status in SECOND.items() if label not in ("public.empty", "public.person")}
    assert job.load(into, "--drop", code=code) == {**rest, "public.empty": "dropped", **failed}
    assert ask(file, "FROM public.person") == theirs and ask(file, "SELECT count(*) FROM public.big") == [(1501,)]
    if in_source:
        assert "Floodmark did not load it" in job.refused(into, code=3)
        change(file, f"DROP {'VIEW' if what == 'a view' else 'TABLE'} public.person")
        assert job.load(into) == {**unchanged(rest), "public.person": "loaded"}


DEPENDENTS = {
    "a foreign key": (
        ("ALTER TABLE public.person ADD PRIMARY KEY (id)", "CREATE TABLE public.mine (p bigint REFERENCES person(id))"),
        "DROP TABLE public.mine",
    ),
    "a view": (
        ("SET enable_view_dependencies = true", "CREATE VIEW public.mine AS SELECT id AS p FROM public.person"),
        "DROP VIEW public.mine",
    ),
}


@pytest.mark.parametrize("what", DEPENDENTS)
@pytest.mark.parametrize("in_source", [True, False])
def test_a_table_that_something_else_depends_on_fails_alone(
    job: Job, tmp_path: Path, what: str, in_source: bool
) -> None:
    file, into = tmp_path / "cases.duckdb", f"duckdb:{tmp_path}/cases.duckdb"
    make, unmake = DEPENDENTS[what]
    assert job.load(into) == FIRST
    change(file, "USE cases.public", *make)
    mine = "FROM duckdb_dependencies()"
    old, held = ask(file, "FROM public.person"), len(ask(file, mine))
    if in_source:
        job.night(DAY_2)
        options, rest = (), {**SECOND, "public.person": "failed"}
    else:
        job.night(f"{DAY_2}; DROP TABLE person")
        options, rest = ("--drop",), {**SECOND, "public.person": "failed", "public.empty": "dropped"}
    assert job.load(into, *options, code=3) == rest
    assert ask(file, "FROM public.person") == old and len(ask(file, mine)) == held
    assert ask(file, "SELECT count(*) FROM public.big") == [(1501,)] and ask(file, "FROM public.fresh") == [(7,)]
    assert "public.mine in that file depends on it" in job.refused(into, *options, code=3)
    assert ask(file, "SELECT count(*) FROM duckdb_tables() WHERE table_name LIKE '_floodmark_new_%'") == [(0,)]
    change(file, "USE cases.public", unmake)
    done = {"public.person": "loaded" if in_source else "dropped"}
    last = {label: status for label, status in unchanged(rest).items() if status != "dropped"}
    assert job.load(into, *options) == {**last, **done}


def test_indices_views_and_macros_that_hold_nothing_are_no_hindrance(job: Job, tmp_path: Path) -> None:
    file, into = tmp_path / "cases.duckdb", f"duckdb:{tmp_path}/cases.duckdb"
    assert job.load(into) == FIRST
    change(
        file,
        "CREATE INDEX by_name ON public.person (name)",
        "ALTER TABLE public.big ADD PRIMARY KEY (id)",
        "CREATE VIEW people AS FROM public.person",
        "CREATE MACRO everyone() AS TABLE FROM public.person",
    )
    job.night(DAY_2)
    assert job.load(into) == SECOND
    assert ask(file, "SELECT note FROM people ORDER BY id") == ask(file, "SELECT note FROM everyone() ORDER BY id")


def test_only_what_a_load_itself_staged_is_cleared_away(job: Job, tmp_path: Path) -> None:
    file, into = tmp_path / "cases.duckdb", f"duckdb:{tmp_path}/cases.duckdb"
    job.night("CREATE TABLE _floodmark_new_person (a int); INSERT INTO _floodmark_new_person VALUES (3)")
    first = {**FIRST, "public._floodmark_new_person": "loaded"}
    assert job.load(into) == first
    change(file, "CREATE SCHEMA mine", "CREATE TABLE mine._floodmark_new_x AS SELECT 42 AS a")
    job.night(DAY_2)
    done = job.process(KILLED, "duckdb.DuckDBFile.stage", "load", "--into", into)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(ask(file, "FROM duckdb_tables() WHERE table_name LIKE '_floodmark_new_%'")) == 3
    assert job.load(into) == {**SECOND, "public._floodmark_new_person": "unchanged"}
    assert ask(file, "FROM public._floodmark_new_person") == [(3,)] and ask(file, "FROM mine._floodmark_new_x") == [
        (42,)
    ]
    assert len(ask(file, "FROM duckdb_tables() WHERE table_name LIKE '_floodmark_new_%'")) == 2
    assert ask(file, "FROM _floodmark.staged") == []


def test_a_table_that_needs_more_memory_says_so_and_gets_it(job: Job, tmp_path: Path) -> None:
    into = f"duckdb:{tmp_path}/cases.duckdb"
    job.night("CREATE TABLE long (t text); INSERT INTO long SELECT repeat('x', 30000000) FROM generate_series(1, 3)")
    done = job.process(MAIN, "load", "--into", into, "--memory", "64MiB")
    assert done.returncode == 13 and "Traceback" not in done.stderr
    assert "DuckDB needs more memory than the 64MiB that it was given" in done.stderr and "--memory 1GiB" in done.stderr
    assert "pin" not in done.stderr and "Possible solutions" not in done.stderr
    assert ask(tmp_path / "cases.duckdb", "SELECT count(*) FROM public.big") == [(1500,)]
    assert job.load(into, "--memory", "640MiB") == {**unchanged(FIRST), "public.long": "loaded"}
    assert "--memory needs --into duckdb" in job.refused(f"parquet:{tmp_path}/lake", "--memory", "1GiB", code=2)
    for size, why in (("much", "expected a size"), ("1MiB", "64MiB or more")):
        assert why in job.refused(into, "--memory", size, code=2)


REFUSALS = {
    "full": (refusing("write", errno.ENOSPC), "the disk is full"),
    "quota": (refusing("write", errno.EDQUOT), "the disk is full"),
    "small files": (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000)), "the file can't grow"),
}


@pytest.mark.parametrize("fault", REFUSALS)
def test_a_disk_that_takes_no_more(job: Job, tmp_path: Path, fault: str) -> None:
    file, into = tmp_path / "cases.duckdb", f"duckdb:{tmp_path}/cases.duckdb"
    assert job.load(into) == FIRST
    job.night(
        f"{DAY_2}; CREATE TABLE long (t text); INSERT INTO long SELECT md5(n::text) FROM generate_series(1, 60000) n"
    )
    before, why = REFUSALS[fault]
    done = job.process(MAIN, "load", "--into", into, before=before)
    assert done.returncode == 13 and "Traceback" not in done.stderr, done.stderr
    assert why in done.stderr and "DuckDB gave" not in done.stderr, done.stderr
    assert ask(file, "SELECT count(*) FROM public.big")[0][0] in (1500, 1501)
    assert job.load(into) and ask(file, "SELECT count(*) FROM public.long") == [(60000,)]


def test_a_disk_without_room_for_a_new_file(job: Job, tmp_path: Path) -> None:
    before = refusing("pwrite", errno.ENOSPC)
    done = job.process(MAIN, "load", "--into", f"duckdb:{tmp_path}/new.duckdb", before=before)
    assert done.returncode == 13 and "the disk is full" in done.stderr, done.stderr
    (tmp_path / "new.duckdb").unlink(missing_ok=True)
    assert job.load(f"duckdb:{tmp_path}/new.duckdb") == FIRST
