"""Rules that the server refuses: found by plan, doctor and run, before anything is read or claimed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from fix_command import Floodmark, Landing, held
from fix_postgres import PgDatabase
from fix_runs import Nightly
from floodmark.backends import open_source
from floodmark.config import ColumnRule, Secret, TableRule
from floodmark.errors import ConfigError
from floodmark.events import RunEnded, StepStarted
from floodmark.model import Format

TABLES = """
    CREATE TABLE person (id int, status text, "Full Name" text, born date, extra jsonb, "it's" text);
    INSERT INTO person SELECT i, 'open', 'n', '2000-01-01', '{}', 'q' FROM generate_series(1, 500) i;
    CREATE TABLE event (id int, at date) PARTITION BY RANGE (id);
    CREATE TABLE event_1 PARTITION OF event FOR VALUES FROM (0) TO (1000);
    INSERT INTO event SELECT i, '2026-01-01' FROM generate_series(1, 500) i;
    CREATE TABLE hollow (id int) PARTITION BY RANGE (id);
    CREATE FUNCTION secret(int) RETURNS bool LANGUAGE sql AS 'SELECT true'"""
# A filter, what the error says of it, and the near name.
WRONG = {
    "statsu = 'open'": ("the table has no column statsu (SQLSTATE 42703)", "Did you mean status?"),
    "person.statsu = 'open'": ("the table has no column person.statsu", "Did you mean status?"),
    "id > 3 AND \"full name\" = 'x'": ('the table has no column "full name"', "Did you mean Full Name?"),
    "STATSU = 'open'": ("the table has no column STATSU", "Did you mean status?"),
    "zzz > 1": ("the table has no column zzz", "Write one SQL condition"),
    'status = "Jane Smith"': ("it uses a column that the table does not have (SQLSTATE 42703)", "needs single quotes"),
    "status = Jane": ("it uses a column that the table does not have (SQLSTATE 42703)", "needs single quotes"),
    'id > 1 "Jane"': ("it is not a valid SQL condition (SQLSTATE 42601)", None),
    "status > 5": ("a function or an operator that does not exist for these types, at >", None),
    "lowr(status) = 'open'": ("does not exist for these types, at lowr", None),
    "id = 'five'": ("a literal in it does not fit the type that it is compared with (SQLSTATE 22P02)", None),
    "born > 'yesterdy'": ("a literal in it does not fit", None),
    "id": ("it is not a condition, or its types do not fit, at id", None),
    "id > 1 id < 5": ("it is not a valid SQL condition, at id", None),
    "count(*) > 1": ("it uses an aggregate function, at count", None),
    "events.id = 1": ("it uses a table that does not exist, or that is not its own, at events.id", None),
    "id IN (SELECT id FROM nothing)": ("that does not exist, or that is not its own, at nothing", None),
}


def refusal(job: Nightly, table: str = "public.person", **rule: Any) -> ConfigError:
    """What a run is refused with, if plan is refused with the same."""
    rules = {"rules": {table: TableRule(**rule)}}
    with pytest.raises(ConfigError) as planned:
        job.plan(**rules)
    with pytest.raises(ConfigError) as refused:
        job.run(**rules)
    assert str(planned.value) == str(refused.value)
    assert not job.folder.exists() and {type(event) for event in job.events} == {StepStarted, RunEnded}
    return refused.value


@pytest.fixture
def job(nightly: Nightly) -> Nightly:
    nightly.database.execute(TABLES)
    return nightly


@pytest.mark.parametrize("where", WRONG)
def test_a_filter_that_the_server_refuses_ends_the_run_before_it_begins(job: Nightly, where: str) -> None:
    why, hint = WRONG[where]
    error = refusal(job, where=where)
    assert error.on == "tables.rules.public.person.where" and why in (error.why or "")
    assert hint is None or hint in (error.hint or "")
    assert not re.search("five|yesterdy|open|Jane", str(error))


def test_each_version_refuses_the_same_filters(nightly_any: Nightly) -> None:
    nightly_any.database.execute(TABLES)
    for where, (why, _) in WRONG.items():
        with pytest.raises(ConfigError) as refused:
            nightly_any.plan(rules={"public.person": TableRule(where=where)})
        assert why in (refused.value.why or "")


@pytest.mark.parametrize("where", ["status = {}('open')", "id < 9 AND born > {}()", "{}(7) = 'x' OR born > now()"])
def test_a_filter_is_prepared_and_not_run(nightly_any: Nightly, where: str) -> None:
    """To plan a query, the server runs functions in it that are not volatile."""
    nightly_any.database.execute(TABLES)
    for kind in ("STABLE", "IMMUTABLE"):
        for arguments, result in (("text", "text"), ("int", "text"), ("", "date")):
            nightly_any.database.execute(
                f"CREATE FUNCTION {kind}_one({arguments}) RETURNS {result} {kind} LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE 'it ran'; END $$"
            )
        nightly_any.plan(rules={"public.person": TableRule(where=where.format(f"public.{kind}_one"))})


def test_every_way_to_read_a_table_is_checked(job: Nightly) -> None:
    wrong = {"where": "statsu = 'open'"}
    job.database.execute(
        "INSERT INTO person (id, status) SELECT 7, string_agg(md5(i::text), '') FROM generate_series(1, 400) i"
    )  # with TOAST, so it is not read by groups
    assert "statsu" in (refusal(job, **wrong).why or "")
    for table, where in (("event", "idd > 1"), ("hollow", "idd > 1"), ("event", "public.event.id > 1")):
        error = refusal(job, f"public.{table}", where=where)
        assert error.on == f"tables.rules.public.{table}.where"
    with pytest.raises(ConfigError, match="statsu"):
        job.plan(format="csv", rules={"public.person": TableRule(**wrong)})


@pytest.mark.parametrize(
    ("rule", "key", "near"),
    [
        ({"columns": ColumnRule(exclude=("statsu",))}, "columns.exclude", "status"),
        ({"columns": ColumnRule(mask={"full_name": "redact"})}, "columns.mask", "Full Name"),
        ({"detect": "column", "column": "brn"}, "column", "born"),
    ],
)
def test_a_column_that_a_rule_lists_is_named_with_its_key(
    job: Nightly, rule: dict[str, Any], key: str, near: str
) -> None:
    error = refusal(job, **rule)
    assert error.on == f"tables.rules.public.person.{key}" and f"Did you mean {near}?" == error.hint


def test_a_function_that_the_role_may_not_call(job: Nightly, pg: PgDatabase) -> None:
    clerk = pg.role("clerk", "a password")
    pg.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO clerk; REVOKE EXECUTE ON FUNCTION secret FROM PUBLIC")
    for call in ("public.secret(id)", "id > 3 AND Public.Secret (id)", "status <> 'x' AND public . \"secret\"(id)"):
        with pytest.raises(ConfigError, match="the role may not use a function"):
            job.plan(url=clerk.url, rules={"public.person": TableRule(where=call)})
    for text in (
        "status = 'public.secret(id)'",
        "\"Full Name\" = 'public.secret(id)' AND \"it's\" > 'public.secret(id)'",
        r"status = E'\'public.secret(id)'",
        "abs(id) > 1",
    ):
        job.plan(url=clerk.url, rules={"public.person": TableRule(where=text)})
    pg.execute("GRANT EXECUTE ON FUNCTION secret TO clerk")
    job.plan(url=clerk.url, rules={"public.person": TableRule(where="public.secret(id)")})


def test_right_rules_are_left_alone_whatever_the_table_is(job: Nightly) -> None:
    job.database.execute("CREATE VIEW v AS SELECT * FROM person")
    masks: Any = {"status": "hash", "Full Name": "redact", "born": "null", "extra": "hash"}
    rules = {
        "public.person": TableRule(columns=ColumnRule(("id",), masks), where="id < 400 AND person.status = 'open'"),
        "public.event": TableRule(where="event.id > 400"),
        "public.v": TableRule(where="v.id > 400"),
    }
    for row_format in ("jsonl", "csv"):
        given: Format = row_format  # type: ignore[assignment]
        job.run(rules=rules, include=("*.*", "public.v"), mask_key=Secret("k" * 32), format=given)
        assert {job.entry(name).rows for name in ("public.person", "public.event", "public.v")} == {399, 100}


def test_doctor_finds_it_and_a_table_that_is_locked_hides_it_only_for_the_moment(
    pg: PgDatabase, tmp_path: Path
) -> None:
    pg.execute(TABLES)
    job = Floodmark(tmp_path / "job", {"FLOODMARK_SOURCE": pg.url, "FLOODMARK_DESTINATION": "./landing"})
    job.configure('tables: {rules: {person: {where: "statsu = 1"}}}\nlimits: {lock_timeout: 600s}\n')
    checks = {one["check"]: one for one in job("doctor", "--output", "json", code=10).json["checks"]}
    assert (
        checks["tables"]["result"] == "problem"
        and "person.where: the table has no column statsu" in checks["tables"]["found"]
    )
    assert "Did you mean status?" in checks["tables"]["fix"]
    job("run", code=10)
    assert not Landing(job.folder / "landing").folder.exists()
    with pg.connect() as migration:
        held(migration, "person")
        assert "statsu" not in job("plan").err
    job("plan", code=10)


def test_a_definition_that_changed_meanwhile_is_not_the_rules_fault(job: Nightly, pg: PgDatabase) -> None:
    """The table is renamed after the snapshot showed it: the extraction must find that out, and take a new one."""
    settings = job.settings(rules={"public.person": TableRule(where="status = 'open'")})
    snapshot = open_source(settings).snapshot()
    try:
        pg.execute("ALTER TABLE person RENAME TO human")
        assert "public.person" in [one.table.label for one in snapshot.tables(settings.selection, "")]
    finally:
        snapshot.close()
