"""The contract: no column and no table leaves the database before someone approved it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fix_canaries import ROW, require_none
from fix_command import Floodmark, Landing, entry_of
from fix_mariadb import MyDatabase
from fix_postgres import PgDatabase
from fix_runs import Nightly, rule
from fix_sql import sqlite_database
from floodmark.config import ColumnRule, Contract, ContractColumn, ContractTable, ContractTerms
from floodmark.config.contract_file import read_contract
from floodmark.errors import ConfigError
from floodmark.events import Event, StepStarted, Warned
from floodmark.model import ContractFacts, TableName

PERSON = (
    "CREATE TABLE person (id int PRIMARY KEY, name text); "
    "INSERT INTO person SELECT n, n::text FROM generate_series(1, 3000) n"
)
NEW = f"ALTER TABLE person ADD hidden_column text DEFAULT '{ROW}'"


def terms(approved: dict[str, str] | None = None, **choices: Any) -> ContractTerms:
    """A contract about public.person alone."""
    approved = approved or {"id": "integer", "name": "text"}
    table = ContractTable({name: ContractColumn(type) for name, type in approved.items()})
    return ContractTerms(Contract({TableName("public", "person"): table}), **choices)


def drift(job: Nightly) -> list[tuple[str, str, str]]:
    """The differences that the last manifest tells: kind, what it is about, and what was done."""
    assert job.last is not None and isinstance(job.last.contract, ContractFacts)
    return [(one.kind, one.label, one.action) for one in job.last.contract.drift]


def lines(job: Nightly, label: str = "public.person") -> dict[str, Any]:
    """The first line of a table."""
    found: dict[str, Any] = json.loads(job.landed(label)[0])
    return found


@pytest.fixture
def job(nightly: Nightly) -> Nightly:
    nightly.database.execute(PERSON)
    return nightly


@pytest.fixture
def floodmark(pg: PgDatabase, tmp_path: Path) -> Floodmark:
    return Floodmark(tmp_path / "job", {"FLOODMARK_SOURCE": pg.url, "FLOODMARK_DESTINATION": str(tmp_path / "out")})


def test_a_new_column_stays_until_it_is_approved(pg: PgDatabase, floodmark: Floodmark, tmp_path: Path) -> None:
    pg.execute(
        f"{PERSON}; CREATE TABLE part (id int, at date) PARTITION BY RANGE (at); "
        "CREATE TABLE part_1 PARTITION OF part DEFAULT; INSERT INTO part VALUES (1, '2026-01-01')"
    )
    pg.execute("CREATE VIEW seen AS SELECT 1 AS one")
    pg.execute(f"ALTER DATABASE \"{pg.name}\" SET log_statement = 'all'")
    floodmark.configure("contract: {}\ntables: {include: ['public.*', public.seen]}\nlimits: {connections: 1}\n")
    refused = floodmark("run", code=10).err
    assert "floodmark.contract.yaml: the file does not exist" in refused and "floodmark contract write" in refused
    assert "3 tables, 5 columns" in " ".join(floodmark("contract", "write").out.split())
    first = floodmark.run().manifest
    assert first.contract == ContractFacts(first.contract.digest) and len(first.contract.digest) == 64
    pg.execute(
        f"{NEW}; ALTER TABLE part ADD hidden_column text DEFAULT '{ROW}'; CREATE TABLE fresh (hidden_column text)"
    )
    pg.execute(
        f"INSERT INTO fresh VALUES ('{ROW}'); CREATE OR REPLACE VIEW seen AS SELECT 1 AS one, '{ROW}' hidden_column"
    )
    before = pg.server.log.stat().st_size
    planned = floodmark("plan", "--output", "json").json
    told = {(one["schema"] + "." + one["name"], one["action"]) for one in planned["drift"]}
    assert told == {(f"public.{name}", "excluded") for name in ("person", "part", "seen", "fresh")}
    done = floodmark.run("--log-level", "debug")
    assert done.outcomes == {"public.person": ("unchanged", "identical"), "public.part": ("unchanged", "identical"),
                             "public.seen": ("unchanged", "identical")}  # fmt: skip
    assert "public.fresh (the table is not in the contract: it is left out)" in done.err
    assert [one.kind for one in done.manifest.contract.drift].count("new_column") == 3
    status = floodmark("status")
    assert "public.person.hidden_column" in status.out and "new_column" in status.out
    floodmark("doctor", code=0)
    floodmark("verify", "--against-source")
    statements = pg.server.log.read_bytes()[before:]
    assert b"person" in statements and b"hidden_column" not in statements and b"fresh" not in statements
    require_none(tmp_path, done.out, done.err, status.out)

    shown = floodmark("contract", "check", code=3)
    assert "public.fresh" in shown.out and "4 differences" in shown.out
    assert floodmark("contract", "accept", "person.hidden_column", "fresh").out.splitlines() == [
        "public.person.hidden_column: accepted", "public.fresh: accepted"]  # fmt: skip
    assert {one["name"] for one in floodmark("contract", "check", "--output", "json", code=3).json["drift"]} == {
        "part", "seen"}  # fmt: skip
    approved = floodmark.run().outcomes
    assert (approved["public.person"], approved["public.fresh"]) == (
        ("extracted", "config_changed"), ("extracted", "first_run"))  # fmt: skip
    assert json.loads(Landing(tmp_path / "out").lines("public.person")[0])["hidden_column"] == ROW


def test_a_failing_table_keeps_its_last_snapshot(job: Nightly) -> None:
    job.database.execute("CREATE TABLE other (id int)")
    fail = terms(tables="fail", columns="fail", types="fail")
    both = {**fail.contract.tables, TableName("public", "other"): ContractTable({"id": ContractColumn("integer")})}
    fail = ContractTerms(Contract(both), tables="fail", columns="fail", types="fail")
    job.run(contract=fail)
    good = job.entry("public.person")
    job.database.execute(f"{NEW}; CREATE TABLE fresh (id int); INSERT INTO other VALUES (1)")
    planned = job.plan(contract=fail)
    assert planned["public.person"].reason.code == planned["public.fresh"].reason.code == "contract"
    assert job.run(contract=fail).failed == 2
    kept = job.entry("public.person")
    assert (kept.status, kept.reason.code, kept.objects) == ("failed", "contract", good.objects)
    assert "hidden_column: the column (text) is not in the contract" in kept.reason.detail
    assert "floodmark contract accept public.person" in kept.reason.detail
    assert job.outcome("public.other") == ("extracted", "rows_changed")
    assert job.outcome("public.fresh") == ("failed", "contract") and not job.entry("public.fresh").objects
    assert drift(job) == [
        ("new_table", "public.fresh", "failed"), ("new_column", "public.person.hidden_column", "failed")]  # fmt: skip
    require_none(job.folder)
    job.run(contract=terms(tables="include", columns="include"))
    assert lines(job)["hidden_column"] == ROW and {one[2] for one in drift(job)} == {"told"}
    assert job.outcome("public.fresh")[0] == "extracted"


@pytest.mark.parametrize(
    ("change", "found", "fails"),
    [
        ("ALTER TABLE person ALTER id TYPE bigint", ("other_type", "public.person.id"), True),
        ("ALTER TABLE person DROP name", ("gone_column", "public.person.name"), True),
        ("CREATE DOMAIN d AS text; ALTER TABLE person ALTER name TYPE d", ("other_type", "public.person.name"), True),
        ("ALTER TABLE person RENAME name TO title", ("new_column", "public.person.title"), True),
        ("DROP TABLE person; CREATE TABLE other ()", ("gone_table", "public.person"), False),
    ],
    ids=["type", "gone", "domain", "renamed", "table"],
)  # fmt: skip
def test_changes_of_what_was_approved(job: Nightly, change: str, found: tuple[str, str], fails: bool) -> None:
    job.run(contract=terms())
    job.database.execute(change)
    job.run(contract=terms())
    assert found in [one[:2] for one in drift(job)] and "failed" not in [one[2] for one in drift(job)]
    if fails:
        assert job.outcome("public.person")[0] == "extracted"
        assert job.run(contract=terms(columns="fail", types="fail")).failed == 1
        assert job.outcome("public.person") == ("failed", "contract")


def test_no_column_is_left(job: Nightly) -> None:
    """All approved columns are gone: the table fails, and the night goes on."""
    other = terms({"first": "text"})
    assert job.run(contract=other).failed == 1
    assert job.outcome("public.person") == ("failed", "contract")
    assert "approves no column" in job.entry("public.person").reason.detail


def test_a_mask_that_the_contract_asks_for(job: Nightly) -> None:
    table = ContractTable({"id": ContractColumn("integer"), "name": ContractColumn("text", masked=True)})
    masked = ContractTerms(Contract({TableName("public", "person"): table}))
    rules = {"public.person": rule(columns=ColumnRule(mask={"name": "redact"}))}
    job.run(contract=masked, rules=rules)
    assert lines(job)["name"] == "REDACTED" and drift(job) == []
    job.run(contract=masked)
    assert list(lines(job)) == ["id"] and drift(job) == [("unmasked", "public.person.name", "excluded")]


@pytest.mark.parametrize("when", ["checking", "extracting"])
def test_a_column_that_is_added_during_the_run(job: Nightly, when: str) -> None:
    """The columns are those of the snapshot's definition: a change under it is found, and nothing of it was read."""
    job.run(contract=terms())
    job.database.execute("UPDATE person SET name = 'other' WHERE id = 7")
    left = [NEW]

    def add(event: Event) -> None:
        if isinstance(event, StepStarted) and event.step == when and left:
            job.database.execute(left.pop())

    job.run_observed(add, contract=terms())
    assert not left and job.outcome("public.person")[0] == "extracted"
    assert all(json.loads(line).keys() == {"id", "name"} for line in job.landed("public.person"))
    require_none(job.folder)
    job.run(contract=terms())
    assert drift(job) == [("new_column", "public.person.hidden_column", "excluded")]


def test_the_contract_of_another_database(job: Nightly) -> None:
    other = terms()
    other = ContractTerms(Contract(other.contract.tables, database="elsewhere"))
    for act in (job.run, job.plan):
        with pytest.raises(ConfigError, match="it is for the database elsewhere"):
            act(contract=other)
    assert not list(job.folder.rglob("*.gz"))


def test_a_run_of_one_table_keeps_what_is_known_of_others(job: Nightly) -> None:
    job.database.execute(f"{NEW}; CREATE TABLE fresh (id int)")
    job.run(contract=terms())
    known = drift(job)
    assert len(known) == 2
    job.run(contract=terms(), only=("public.person",))
    assert drift(job) == known
    assert any(isinstance(one, Warned) and "differs from the contract" in one.message for one in job.events)


def test_sqlite(tmp_path: Path) -> None:
    run = sqlite_database(tmp_path / "cases.db").run
    run("CREATE TABLE person (id int PRIMARY KEY, name text)")
    run("INSERT INTO person VALUES (1, 'one')")
    url, out = f"sqlite:///{tmp_path}/cases.db", str(tmp_path / "out")
    _plays(Floodmark(tmp_path / "job", {"FLOODMARK_SOURCE": url, "FLOODMARK_DESTINATION": out}), run, lambda: None)


def test_bad_input_leaves_everything_as_it_was(tmp_path: Path) -> None:
    sqlite_database(tmp_path / "cases.db").run("CREATE TABLE person (id int PRIMARY KEY)")
    environment = {"FLOODMARK_SOURCE": f"sqlite:///{tmp_path}/cases.db", "FLOODMARK_DESTINATION": str(tmp_path / "out")}
    floodmark, landing = Floodmark(tmp_path / "job", environment), Landing(tmp_path / "out")
    floodmark.configure("contract: {}\ntables: {exclude: [fresh]}\n")
    file = floodmark.folder / "floodmark.contract.yaml"
    floodmark("contract", "write")
    floodmark.run()
    good, before = file.read_text(), landing.files
    assert "already exists" in floodmark("contract", "write", code=2).err and file.read_text() == good
    for names in (["person.*"], ["person.id", "other"]):
        floodmark("contract", "accept", *names, code=10)
        assert file.read_text() == good
    file.write_text(good.replace("columns:", "column:"))
    for command in (["run"], ["contract", "accept", "person"], ["verify", "--against-source"]):
        refused = floodmark(*command, code=10).err
        assert "line 15: unknown key column\n  Did you mean columns?" in refused
    assert landing.files == before and "column:" in file.read_text()
    floodmark("status")  # it needs only the state
    file.write_text(good.replace("person:", "person:\n      note: kept"))
    floodmark("contract", "write", "--force")
    assert "note: kept" in file.read_text() and [one.name for one in floodmark.folder.glob(".floodmark*")] == []
    real = file.rename(tmp_path / "elsewhere.yaml")
    file.symlink_to(real)
    floodmark("contract", "accept", "person")
    assert file.is_symlink() and "note: kept" in real.read_text()
    file.write_text(good.replace("database: cases", "database: other"))
    assert "it is for the database other" in floodmark("contract", "check", code=10).err
    assert "it is for the database other" in floodmark("doctor", code=10).out


def test_mariadb(my: MyDatabase, tmp_path: Path) -> None:
    my.execute("CREATE TABLE person (id int PRIMARY KEY, name text)", "INSERT INTO person VALUES (1, 'one')")
    my.execute("SET GLOBAL log_output = 'TABLE'", "SET GLOBAL general_log = ON")
    command = Floodmark(tmp_path / "job", {"FLOODMARK_SOURCE": my.url, "FLOODMARK_DESTINATION": str(tmp_path / "out")})

    def look() -> None:
        log = "FROM mysql.general_log WHERE argument LIKE 'SELECT%' AND argument NOT LIKE '%general_log%'"
        assert my.value(f"SELECT count(*) {log} AND argument LIKE '%`person`%'")
        assert not my.value(f"SELECT count(*) {log} AND argument LIKE '%hidden_column%'")

    try:
        _plays(command, my.execute, look)
    finally:
        my.execute("SET GLOBAL general_log = OFF")


def _plays(floodmark: Floodmark, run: Callable[[str], object], look: Callable[[], object]) -> None:
    """A column that is not approved, and a table without any approved column, from the first night to the last."""
    floodmark.configure("contract: {columns: exclude}\n")
    floodmark("contract", "write")
    floodmark.run()
    run(f"ALTER TABLE person ADD hidden_column varchar(80) DEFAULT '{ROW}'")
    done = floodmark.run()
    (entry,) = done.manifest.tables
    assert [column.name for column in entry.columns] == ["id", "name"] and entry.status == "unchanged"
    assert [one.kind for one in done.manifest.contract.drift] == ["new_column"]
    require_none(floodmark.folder.parent / "out", done.err)
    floodmark("verify", "--against-source")
    look()
    place = floodmark.folder / "floodmark.contract.yaml"
    contract = read_contract(place)[0]
    (table,) = contract.tables
    place.write_text(place.read_text().replace("id:", "key:").replace("name:", "title:").replace("[id]", "[key]"))
    assert floodmark.run(code=3).outcomes == {table.label: ("failed", "contract")}
    floodmark("contract", "accept", table.label)
    assert entry_of(floodmark.run().manifest, table.label).columns[2].name == "hidden_column"


def test_an_attribute_of_a_composite_type_is_approved_too(pg: PgDatabase, floodmark: Floodmark) -> None:
    pg.execute(
        "CREATE TYPE place AS (lat int); CREATE TYPE address AS (street text, at place); "
        "CREATE DOMAIN home AS address; "
        "CREATE TABLE other (x int); INSERT INTO other VALUES (1); "
        "CREATE TABLE lives (id int PRIMARY KEY, one home, many address[], whole other); "
        "INSERT INTO lives SELECT 1, ROW('s', ROW(1))::address, ARRAY[ROW('s', ROW(1))::address], other FROM other"
    )
    floodmark.configure("contract: {}\n")
    floodmark("contract", "write")
    approved = read_contract(floodmark.folder / "floodmark.contract.yaml")[0].tables[TableName("public", "lives")]
    assert [one.attributes for one in approved.columns.values()] == [(), *[("street", "at", "at.lat")] * 2, ("x",)]
    floodmark("contract", "check")
    floodmark.run()
    assert json.loads(floodmark("cat", "lives").out)["whole"] == {"x": 1}
    pg.execute(
        'ALTER TYPE place ADD ATTRIBUTE "hidden.part" text CASCADE; ALTER TABLE other ADD hidden_column text; '
        f"UPDATE other SET hidden_column = '{ROW}'; "
        f"UPDATE lives SET one.at.\"hidden.part\" = '{ROW}', whole = (SELECT other FROM other), "
        f"many = ARRAY[ROW('s', ROW(1, '{ROW}'))::address]"
    )
    told = " ".join(floodmark("contract", "check", code=3).out.split())
    assert "new_column: its type has an attribute that the contract does not have" in told and "hidden.part" in told
    floodmark.run()
    assert json.loads(floodmark("cat", "lives").out) == {"id": 1}
    floodmark("contract", "accept", "lives.one")
    extracted = entry_of(floodmark.run().manifest, "public.lives")
    assert [column.name for column in extracted.columns] == ["id", "one"]
