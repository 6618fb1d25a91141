"""Which tables, which columns, which rows: selection from the shell, and a key of masks that no one gets to see."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from fix_canaries import MASK_KEY, ROW, TABLES, require_none
from fix_command import Floodmark, Landing, at_work, entry_of, held, until
from fix_pooler import Pooler
from fix_postgres import Cluster, PgDatabase
from floodmark.config import Secret
from floodmark.source.postgres.masks import mask_settings

SERVICE = f"""{TABLES}
CREATE TABLE "Odd Name" (id int);
CREATE TABLE flyway_schema_history (id int);
CREATE SCHEMA audit; CREATE TABLE audit.entry (id int); CREATE TABLE audit.tmp_one (id int);
CREATE VIEW seen AS SELECT id FROM person WHERE id < 3;
CREATE MATERIALIZED VIEW kept AS SELECT id FROM person WHERE id < 4;
CREATE TABLE owned (id int);
"""


@pytest.fixture
def floodmark(pg: PgDatabase, tmp_path: Path) -> Floodmark:
    pg.execute(SERVICE)
    return Floodmark(tmp_path / "job", {"FLOODMARK_SOURCE": pg.url, "FLOODMARK_DESTINATION": str(tmp_path / "out")})


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    return Landing(tmp_path / "out")


def selected(floodmark: Floodmark, tables: str) -> set[str]:
    floodmark.configure(f"tables: {tables}\n")
    planned = floodmark("plan", "--output", "json").json["tables"]
    return {f"{one['schema']}.{one['name']}" for one in planned}


def test_what_is_selected(floodmark: Floodmark, pg: PgDatabase) -> None:
    everything = selected(floodmark, "{}")
    plain = {"public.person", "public.sick", "public.owned", "public.Odd Name", "public.flyway_schema_history"}
    assert everything == plain | {"audit.entry", "audit.tmp_one"}
    assert selected(floodmark, '{exclude: ["*.flyway_schema_history", "audit.tmp_*"]}') == everything - {
        "public.flyway_schema_history",
        "audit.tmp_one",
    }
    named = '{include: ["audit.*", seen, kept, \'"Odd Name"\']}'
    assert selected(floodmark, named) == {
        *("audit.entry", "audit.tmp_one", "public.seen", "public.kept", "public.Odd Name")
    }
    for tables, says in {
        '{include: ["publik.*"]}': "tables.include: publik.*",
        '{include: ["public.se*"]}': "public.seen is a view",
        "{rules: {persn: {where: id > 1}}}": "Did you mean",
        "{rules: {person: {columns: {exclude: [nam]}}}}": "nam",
        "{rules: {person: {columns: {mask: {nam: redact}}}}}": "nam",
    }.items():
        floodmark.configure(f"tables: {tables}\n")
        assert says in floodmark("run", code=10).err


def test_an_exclude_that_matches_nothing_costs_no_night(floodmark: Floodmark, landing: Landing, pg: PgDatabase) -> None:
    floodmark.configure("tables: {exclude: [persn, sick]}\n")
    words = "tables.exclude: persn: the source has no table of this name. Did you mean person"
    assert words in floodmark("plan").err
    done = floodmark("run", "--log-level", "warning")
    assert done.err.count("event=warning") == 1 and words in done.err
    assert "public.sick" not in {entry.table.label for entry in landing.manifest.tables}
    (found,) = [one for one in floodmark("doctor", "--output", "json").json["checks"] if one["check"] == "tables"]
    assert (found["result"], found["exit_code"]) == ("warning", 0) and "persn" in found["found"]
    assert "--exclude: persn" in floodmark("run", "--exclude", "persn", code=10).err
    pg.execute("CREATE TABLE whole (id int) PARTITION BY LIST (id); CREATE TABLE part PARTITION OF whole DEFAULT")
    floodmark.configure("tables: {exclude: [part]}\n")
    refused = floodmark("run", code=10).err
    assert "public.part is a partition" in refused and "Name the table it belongs to" in refused


def test_what_is_left_out_is_told_once_with_how_to_name_it(floodmark: Floodmark, pg: PgDatabase) -> None:
    pg.execute(
        "CREATE VIEW audit.seen AS SELECT 1 AS one; CREATE EXTENSION IF NOT EXISTS plpgsql; "
        "ALTER EXTENSION plpgsql ADD TABLE owned; CREATE FOREIGN DATA WRAPPER far; "
        "CREATE SERVER away FOREIGN DATA WRAPPER far; CREATE FOREIGN TABLE abroad (id int) SERVER away; "
        "CREATE SCHEMA old; CREATE TABLE old.person () INHERITS (person)"
    )
    planned = floodmark("plan")
    assert planned.out.splitlines()[-1] == (
        "Left out by default: 1 extension table, 1 foreign table, 1 materialized view, 2 views. "
        "To land one, name it in full in tables.include."
    )
    assert "old.person" in planned.out
    told = floodmark("plan", "--output", "json").json["left_out"]
    assert {"schema": "audit", "name": "seen", "kind": "view"} in told and len(told) == 5
    floodmark.configure("tables: {include: [person, seen, kept]}\n")
    assert "Left out by default: 1 child table. To land" in floodmark("plan").out
    floodmark.configure("tables: {include: [person, seen], exclude: ['old.*']}\n")
    assert "Left out" not in floodmark("plan").out + floodmark("run").said
    assert "Left out" not in floodmark("plan", "--table", "person").out


def test_foreign_and_extension_s_tables(floodmark: Floodmark, pg: PgDatabase) -> None:
    pg.execute(
        "CREATE EXTENSION IF NOT EXISTS plpgsql; ALTER EXTENSION plpgsql ADD TABLE owned; "
        "CREATE FOREIGN DATA WRAPPER far; CREATE SERVER away FOREIGN DATA WRAPPER far; "
        "CREATE FOREIGN TABLE abroad (id int) SERVER away"
    )
    everything = selected(floodmark, "{}")
    assert not {"public.owned", "public.abroad"} & everything
    assert selected(floodmark, "{include: [owned, public.person]}") == {"public.owned", "public.person"}
    floodmark.configure("tables: {include: [abroad, public.person]}\n")
    done = floodmark.run(code=3)  # this one has no handler, so it can't be read: the table's own failure
    assert done.outcomes == {
        "public.abroad": ("failed", "failed"),
        "public.person": ("extracted", "first_run"),
    }


RULES = """
tables:
  include: [person]
  rules:
    person: {columns: {exclude: [id], mask: {name: %s}}, where: "id <= 3"}
"""


def test_columns_masks_and_filters(floodmark: Floodmark, landing: Landing) -> None:
    wanted = {
        "null": [b'{"name":null}\n'] * 3,
        "redact": [b'{"name":"REDACTED"}\n'] * 3,
        "hash": [_hashed(f"{ROW} {number}") for number in (1, 2, 3)],
    }
    floodmark.environment["FLOODMARK_MASK_KEY"] = MASK_KEY
    first = "first_run"
    for mask, lines in wanted.items():
        floodmark.configure(RULES % mask)
        assert floodmark.run().outcomes == {"public.person": ("extracted", first)}
        assert landing.lines("public.person") == lines
        assert floodmark.run().outcomes == {"public.person": ("unchanged", "unchanged")}
        first = "config_changed"
    assert [column.name for column in entry_of(landing.manifest, "public.person").columns] == ["name"]
    floodmark.environment["FLOODMARK_MASK_KEY"] = "another"
    assert floodmark.run().outcomes == {"public.person": ("extracted", "config_changed")}
    floodmark.environment["FLOODMARK_MASK_KEY"] = ""
    assert "FLOODMARK_MASK_KEY is not set" in floodmark("run", code=10).err


def _hashed(text: str) -> bytes:
    digest = hmac.new(MASK_KEY.encode(), text.encode(), sha256).hexdigest()
    return json.dumps({"name": digest}, separators=(",", ":")).encode() + b"\n"


def forms() -> list[str]:
    """The key, and what is as good as the key."""
    return [MASK_KEY, MASK_KEY.encode().hex(), *mask_settings(Secret(MASK_KEY)).values()]


def test_the_key_of_masks_is_never_seen(
    make_server: Callable[..., Cluster], make_pooler: Callable[[int], Pooler], tmp_path: Path
) -> None:
    """Not in a statement, not in a log that holds every statement with its parameters, not in what is landed."""
    server = make_server(settings={"log_statement": "all", "log_min_duration_statement": "0", "log_connections": "on"})
    database = server.database()
    database.execute(TABLES)
    places = {"FLOODMARK_SOURCE": database.url, "FLOODMARK_DESTINATION": str(tmp_path / "out")}
    floodmark = Floodmark(tmp_path / "job", {**places, "FLOODMARK_MASK_KEY": MASK_KEY, "PGOPTIONS": "-c work_mem=5MB"})
    floodmark.configure(RULES % "hash" + "limits: {lock_timeout: 600s}\n")
    migration = database.connect()
    held(migration, "person")
    process = floodmark.start("run", "--output", "json")
    until(at_work(database, "%person%"), patience=60)
    shown = [str(row) for row in database.query("SELECT to_jsonb(a) FROM pg_stat_activity a")]
    migration.rollback()
    assert floodmark.end(process).outcomes == {"public.person": ("extracted", "first_run")}
    log = server.log.read_text(errors="replace")
    assert "sha256" in log and "mask_inner" in log
    for form in forms():
        assert form not in log and form not in "".join(shown)
    assert len(Landing(tmp_path / "out").lines("public.person")) == 3

    pooler = make_pooler(server.port)
    floodmark.environment["FLOODMARK_SOURCE"] = database.url.replace(f":{server.port}/", f":{pooler.port}/")
    assert "Remove PGOPTIONS" in floodmark("run", code=12).err
    floodmark.environment["PGOPTIONS"] = ""
    assert floodmark.run("--full").outcomes == {"public.person": ("extracted", "forced")}
    assert pooler.refused > 0 and pooler.passed > 0
    statements = [line for line in server.log.read_text(errors="replace").splitlines() if "statement" in line]
    for form in forms():
        assert form not in "\n".join(statements)
    require_none(tmp_path / "out" / "_floodmark")


def test_a_new_table_waits_for_approval(floodmark: Floodmark, pg: PgDatabase, landing: Landing) -> None:
    floodmark.configure("tables: {new: fail}\n")
    floodmark.run()  # to a first run every table is new
    before = landing.committed
    pg.execute("CREATE TABLE unasked (id int)")
    for command in ("run", "plan"):
        refused = floodmark(command, code=10)
        assert "public.unasked" in refused.err and "tables.new: include" in refused.err
    assert landing.committed == before
    floodmark.configure('tables: {new: fail, exclude: ["unasked"]}\n')
    assert set(floodmark.run().outcomes.values()) == {("unchanged", "unchanged")}
    floodmark.configure("tables: {new: include}\n")
    assert floodmark.run().outcomes["public.unasked"] == ("extracted", "first_run")
    floodmark.configure("tables: {new: fail}\n")
    assert floodmark.run().outcomes["public.unasked"] == ("unchanged", "unchanged")


def test_plan_writes_nothing_anywhere(floodmark: Floodmark, pg: PgDatabase, landing: Landing) -> None:
    """By a role that can't write, into a place that is not there: and it is still not there afterwards."""
    role = pg.role("onlooker", "x")
    pg.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role.name}")
    floodmark.environment["FLOODMARK_SOURCE"] = role.url
    changes = "SELECT sum(n_tup_ins), sum(n_tup_upd), sum(n_tup_del), count(*) FROM pg_stat_user_tables"
    pg.execute("SELECT pg_stat_force_next_flush()")
    before: list[Any] = pg.query(changes)
    assert floodmark("plan", "--detailed-exitcode", code=20).out
    assert not landing.folder.exists()
    floodmark.environment["FLOODMARK_SOURCE"] = pg.url
    floodmark.run()
    files = {path: path.stat().st_mtime_ns for path in landing.folder.rglob("*")}
    floodmark("plan", "--detailed-exitcode")
    assert {path: path.stat().st_mtime_ns for path in landing.folder.rglob("*")} == files
    pg.execute("SELECT pg_stat_force_next_flush()")
    assert pg.query(changes) == before


def test_plan_says_of_a_table_without_partitions_what_the_run_does(pg: PgDatabase, tmp_path: Path) -> None:
    floodmark = Floodmark(tmp_path / "job", {"FLOODMARK_SOURCE": pg.url, "FLOODMARK_DESTINATION": str(tmp_path)})
    pg.execute("CREATE TABLE hollow (id int) PARTITION BY RANGE (id)")

    def planned(code: int) -> tuple[str, str]:
        (one,) = floodmark("plan", "--detailed-exitcode", "--output", "json", code=code).json["tables"]
        return one["reason"]["code"], one["reason"]["detail"]

    assert planned(20) == ("first_run", "never extracted before; it has no rows")
    assert floodmark.run().outcomes == {"public.hollow": ("extracted", "first_run")}
    assert planned(0)[0] == "unchanged"
    pg.execute("CREATE TABLE leaf PARTITION OF hollow DEFAULT; INSERT INTO hollow VALUES (1)")
    floodmark.run()
    pg.execute("DROP TABLE leaf")
    assert planned(20) == ("rows_removed", "partition public.leaf was detached or dropped")
    assert floodmark.run("--accept-loss").outcomes == {"public.hollow": ("extracted", "rows_removed")}
