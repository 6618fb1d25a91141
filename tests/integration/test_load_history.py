"""`floodmark load --history`: every version of every row, right after missed nights and kills.

Both targets are held to the same oracle. What only one of them has is in the tests after that.
"""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from fix_iceberg import INTO, Warehouse
from fix_load import KILLED, Job, ask
from fix_postgres import PgDatabase
from fix_runs import Nightly
from floodmark.load.duckdb_connection import connect_file
from floodmark.load.duckdb_errors import DuckDBErrors
from floodmark.load.duckdb_history_sql import is_history, write_history
from floodmark.model import TableName

WORK = """
CREATE TABLE thing (id int PRIMARY KEY, name text, doc json, paid numeric(10,2));
INSERT INTO thing SELECT i, 'n' || i % 7, '{"a": 1}', i FROM generate_series(1, 60) i;
CREATE TABLE line (a int, b text); INSERT INTO line SELECT i % 3, 'x' FROM generate_series(1, 9) i
"""
LEFT_OUT = [word for name in ("big", "person", "empty", "audit.log") for word in ("--exclude", name)]
COLUMNS = {"thing": "id, name, doc::VARCHAR, paid", "line": "a, b"}


class Keeper:
    """A nightly job, its target with histories, and what the source held in each snapshot."""

    def __init__(self, nightly: Nightly, folder: Path, warehouse: Warehouse | None = None) -> None:
        self.job = Job(nightly)
        self.nightly, self.file, self.warehouse = nightly, folder / "cases.duckdb", warehouse
        self.target = (f"duckdb:{self.file}",) if warehouse is None else (INTO, *warehouse.options, *LEFT_OUT)
        self._copies = dict[str, Any]()
        self.held: dict[str, list[tuple[datetime, Counter[Any] | None]]] = {name: [] for name in COLUMNS}
        self.night(WORK)

    def night(self, sql: str) -> None:
        self.job.night(sql)
        entries = {entry.name: entry for entry in self._last.tables if entry.status != "dropped"}
        for name, columns in COLUMNS.items():
            rows, moment = None, self._last.source.snapshot.taken_at
            if name in entries:
                rows, moment = (
                    Counter(self.nightly.database.query(self._query(name, columns))),
                    entries[name].changed_at,
                )
            if not self.held[name] or self.held[name][-1][1] != rows:
                self.held[name].append((datetime.fromisoformat(moment or ""), rows))

    def load(self, *arguments: str, code: int = 0) -> dict[str, str]:
        return self.job.load(*self.target, "--history", *arguments, code=code)

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """Ask the DuckDB file, or a copy of the Iceberg tables."""
        if self.warehouse is None:
            return ask(self.file, query)
        with duckdb.connect() as connection:
            connection.execute("CREATE SCHEMA public")
            for name in (one for one in self.warehouse.names() if one in query):
                table = self.warehouse.table(name)
                if table.metadata_location not in self._copies:
                    self._copies[table.metadata_location] = table.scan().to_arrow()
                connection.register("incoming", self._copies[table.metadata_location])
                connection.execute(f"CREATE TABLE public.{name} AS FROM incoming")
            return connection.execute(query).fetchall()

    def rows_at(self, name: str, moment: datetime) -> Counter[Any]:
        when = f"TIMESTAMPTZ '{moment.isoformat()}'"
        valid = f"valid_from <= {when} AND (valid_to IS NULL OR valid_to > {when})"
        return Counter(self.ask(f"SELECT {COLUMNS[name]} FROM public.{name}_history WHERE {valid}"))

    def require_right(self, *names: str, seen: int | None = None) -> None:
        """At each moment, the history has the rows of the source. `seen`: only of so many last versions."""
        for name in names or tuple(COLUMNS):
            for moment, rows in self.held[name][-seen if seen else 0 :]:
                assert self.rows_at(name, moment) == (rows or Counter()), (name, moment)
            current = Counter(self.ask(f"SELECT {COLUMNS[name]} FROM public.{name}_history WHERE is_current"))
            assert current == (self.held[name][-1][1] or Counter())
            odd = "is_current <> (valid_to IS NULL) OR valid_to < valid_from"
            assert self.ask(f"SELECT count(*) FROM public.{name}_history WHERE {odd}") == [(0,)]

    def versions(self, name: str) -> int:
        ((number,),) = self.ask(f"SELECT count(*) FROM public.{name}_history")
        return int(number)

    @property
    def _last(self) -> Any:
        assert self.nightly.last is not None
        return self.nightly.last

    def _query(self, name: str, columns: str) -> str:
        return f"SELECT {columns.replace('::VARCHAR', '::text')} FROM {name}"


@pytest.fixture
def keeper(nightly: Nightly, tmp_path: Path) -> Keeper:
    return Keeper(nightly, tmp_path)


@pytest.fixture
def iceberg(nightly: Nightly, tmp_path: Path) -> Keeper:
    return Keeper(nightly, tmp_path, Warehouse(tmp_path / "warehouse"))


@pytest.fixture(params=["keeper", "iceberg"])
def either(request: pytest.FixtureRequest) -> Keeper:
    found: Keeper = request.getfixturevalue(request.param)
    return found


def test_versions_of_rows_over_nights_some_of_which_were_missed(either: Keeper) -> None:
    assert either.load()["public.thing"] == "loaded"
    assert either.versions("thing") == 60
    either.night(
        "UPDATE thing SET paid = paid + 1 WHERE id <= 5; DELETE FROM thing WHERE id = 60;"
        "INSERT INTO line VALUES (0, 'x')"
    )
    either.load()
    assert either.versions("thing") == 65 and either.versions("line") == 10
    either.require_right()
    assert set(either.load().values()) == {"unchanged"}, "nothing happened since"
    either.night("UPDATE thing SET name = 'missed' WHERE id = 1")
    either.night("UPDATE thing SET name = 'seen' WHERE id = 1; DELETE FROM line WHERE a = 1")
    either.job.load(*either.target)  # without histories
    assert either.load()["public.thing"] == "loaded"
    either.require_right()
    names = "SELECT name FROM public.thing_history WHERE id = 1 ORDER BY valid_from"
    assert either.ask(names) == [("n1",), ("n1",), ("missed",), ("seen",)]
    either.night("DROP TABLE line")
    assert either.load("--drop")["public.line"] == "dropped"
    either.require_right()
    either.night("CREATE TABLE line (a int, b text); INSERT INTO line VALUES (7, 'back')")
    either.load()
    either.night("DROP TABLE line")
    either.night("CREATE TABLE line (a int, b text); INSERT INTO line VALUES (7, 'back')")
    either.load()
    either.require_right()
    assert either.ask("SELECT count(*), count(valid_to) FROM public.line_history WHERE a = 7") == [(2, 1)]


def test_a_random_history_of_nights_that_are_loaded_or_missed(either: Keeper) -> None:
    seed = random.SystemRandom().randrange(2**31)
    print(f"seed {seed}")
    chance = random.Random(seed)
    either.load()
    acts = (
        "UPDATE thing SET paid = paid + 1 WHERE id % 5 = {0} % 5",
        "UPDATE thing SET name = 'n{0}' WHERE id = {0}",
        "UPDATE thing SET name = name",
        "DELETE FROM thing WHERE id % 11 = {0} % 11",
        "INSERT INTO thing SELECT i, NULL, NULL, i FROM generate_series({0}, {0} + 3) i ON CONFLICT DO NOTHING",
        "INSERT INTO line SELECT {0} % 3, 'x' FROM generate_series(1, 3)",
        "DELETE FROM line WHERE ctid IN (SELECT ctid FROM line ORDER BY random() LIMIT 2)",
        "UPDATE line SET b = NULL WHERE a = {0} % 3",
        "TRUNCATE line",
        "DROP TABLE IF EXISTS line; CREATE TABLE line (a int, b text); INSERT INTO line VALUES (1, 'x'), (1, 'x')",
    )
    for _ in range(6):
        either.night("; ".join(chance.choice(acts).format(chance.randrange(70)) for _ in range(chance.randrange(4))))
        if chance.random() < 0.5:
            either.load()
    either.load()
    either.require_right()
    assert set(either.load().values()) == {"unchanged"}


def test_runs_that_were_pruned_leave_the_newest_version(keeper: Keeper) -> None:
    keeper.load()
    keeper.night("UPDATE thing SET name = 'pruned' WHERE id < 10")
    keeper.night("UPDATE thing SET name = 'kept' WHERE id < 10")
    code, _, err = keeper.job.command("prune", "--keep-last", "1", "--grace", "0")
    assert code == 0, err
    keeper.load()
    keeper.require_right("thing", seen=1)
    assert keeper.versions("thing") == 69


def test_a_missed_version_that_can_not_be_read_is_told_and_left_out(keeper: Keeper) -> None:
    keeper.load()
    keeper.night("UPDATE thing SET name = 'lost' WHERE id < 10")
    (lost,) = keeper.nightly.entry("public.thing").objects
    run_id = keeper.job.run_id
    keeper.night("UPDATE thing SET name = 'kept' WHERE id < 10")
    (keeper.nightly.folder / lost.key).unlink()
    code, _, err = keeper.job.command("load", "--history", "--into", f"duckdb:{keeper.file}")
    assert code == 0 and f"the history of public.thing lacks the version of run {run_id}" in err
    keeper.require_right("thing", seen=1)
    assert keeper.versions("thing") == 69 and ask(keeper.file, "FROM _floodmark.staged") == []


def test_columns_that_are_added_removed_and_retyped(keeper: Keeper) -> None:
    keeper.load()
    keeper.job.night("ALTER TABLE thing ADD COLUMN more text, ALTER paid TYPE text, ALTER id TYPE bigint")
    keeper.load()
    assert keeper.versions("thing") == 60, "no value is another one"
    keeper.job.night("ALTER TABLE thing DROP COLUMN name; UPDATE thing SET more = 'x' WHERE id = 1")
    keeper.load()
    types = "SELECT list(column_name || ' ' || data_type) FROM duckdb_columns() WHERE table_name = 'thing_history'"
    assert ask(keeper.file, types) == [
        (
            [
                *("id BIGINT", "name VARCHAR", "doc JSON", "paid VARCHAR", "more VARCHAR"),
                *("valid_from TIMESTAMP WITH TIME ZONE", "valid_to TIMESTAMP WITH TIME ZONE", "is_current BOOLEAN"),
            ],
        )
    ]
    rows = "SELECT name, paid, more, is_current FROM public.thing_history WHERE id = 1 ORDER BY valid_from"
    assert ask(keeper.file, rows) == [("n1", "1.00", None, False), (None, "1.00", "x", True)]
    keeper.job.night("ALTER TABLE thing ADD COLUMN valid_to int")
    keeper.job.night("ALTER TABLE thing DROP COLUMN valid_to")
    assert keeper.load()["public.thing"] == "loaded"
    assert keeper.versions("thing") == 61, "rows whose other values stayed keep the value of the column that is gone"


@pytest.mark.parametrize(
    "act", ["ADD COLUMN note VARCHAR", "RENAME valid_from TO since", "ALTER valid_to TYPE VARCHAR", "DROP is_current"]
)
def test_a_history_whose_own_columns_someone_altered_shows(act: str) -> None:
    history = TableName("main", "person_history")
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE person (id INTEGER); INSERT INTO person VALUES (1)")
        write_history(connection, "memory", history, None, TableName("main", "person"), datetime.now(UTC))
        assert is_history(connection, history)
        connection.execute(f"ALTER TABLE person_history {act}")
        assert not is_history(connection, history)


@pytest.mark.parametrize("row_group", [0, 2048])
def test_a_moment_as_text_does_not_depend_on_the_machine(tmp_path: Path, row_group: int) -> None:
    file = tmp_path / "cases.duckdb"
    connection, _ = connect_file(file, "64MiB", row_group, DuckDBErrors(file, "64MiB"), read_only=False)
    with connection:
        assert connection.execute("SELECT current_setting('TimeZone')").fetchall() == [("UTC",)]


def test_names_that_a_history_can_not_have(keeper: Keeper) -> None:
    keeper.job.load(f"duckdb:{keeper.file}")
    with_view = "CREATE VIEW public.line_history AS SELECT 1 AS mine"
    with duckdb.connect(str(keeper.file)) as connection:
        connection.execute(with_view)
    keeper.night('CREATE TABLE thing_history (id int); CREATE TABLE odd (a int, "Valid_To" int, n int, c0 int)')
    failed = keeper.load(code=3)
    assert {name for name, status in failed.items() if status == "failed"} == {
        "public.line",
        "public.odd",
        "public.thing",
    }
    said = keeper.job.refused(f"duckdb:{keeper.file}", "--history", code=3)
    assert "public.line_history: Floodmark did not make it" in said
    assert "a landed table is called public.thing_history" in said and "it has a column Valid_To" in said
    assert ask(keeper.file, "FROM public.line_history") == [(1,)]
    left_out = ("--exclude", "line", "--exclude", "odd", "--exclude", "thing")
    keeper.load(*left_out)
    assert ask(keeper.file, "SELECT count(*) FROM public.big_history") == [(1500,)]
    keeper.night("DROP TABLE thing_history; CREATE TABLE big_history (a int)")
    said = keeper.job.refused(f"duckdb:{keeper.file}", "--history", *left_out[:4], code=3)
    assert "public.big_history: Floodmark did not load it" in said and "loaded public.thing_history" in said
    assert keeper.load("--exclude", "line", "--exclude", "odd", "--exclude", "*big*", "--drop", code=3)
    keeper.load("--exclude", "line", "--exclude", "odd", "--exclude", "*big*")
    keeper.require_right("thing", seen=1)
    with duckdb.connect(str(keeper.file)) as connection:
        connection.execute(
            "ALTER TABLE public.thing_history RENAME TO other; CREATE TABLE public.thing_history (id int)"
        )
    keeper.night("DELETE FROM thing WHERE id = 1")
    said = keeper.job.refused(f"duckdb:{keeper.file}", "--history", "--table", "thing", code=3)
    assert "public.thing_history: Floodmark did not make it" in said
    assert ask(keeper.file, "SELECT count(*) FROM public.thing") == [(60,)], "it keeps its old rows"
    with duckdb.connect(str(keeper.file)) as connection:
        connection.execute("ALTER TABLE public.person_history ADD COLUMN note VARCHAR DEFAULT 'mine'")
    keeper.night("DELETE FROM person WHERE id = 1")
    said = keeper.job.refused(f"duckdb:{keeper.file}", "--history", "--table", "person", code=3)
    assert "its last columns are no longer valid_from, valid_to, is_current: someone altered it" in said
    assert ask(keeper.file, "SELECT DISTINCT note FROM public.person_history WHERE is_current") == [("mine",)]


def test_a_history_belongs_to_duckdb_files_only(keeper: Keeper, tmp_path: Path) -> None:
    assert "--history needs --into duckdb:FILE" in keeper.job.refused(f"parquet:{tmp_path}/p", "--history", code=2)


def test_another_database_continues_the_histories(keeper: Keeper, pg: PgDatabase) -> None:
    keeper.load()
    other = pg.server.database()
    try:
        other.execute(WORK + "; UPDATE thing SET name = 'moved' WHERE id = 5; DROP TABLE line")
        keeper.nightly.database = other
        keeper.nightly.run(adopt_source=True)
        assert keeper.load("--adopt-source", "--drop")["public.line"] == "dropped"
        assert set(keeper.load().values()) == {"unchanged"}
    finally:
        other.drop()
    assert keeper.versions("thing") == 61
    counts = "SELECT count(*) FILTER (is_current), count(*) FROM public.{}_history"
    assert [ask(keeper.file, counts.format(name)) for name in ("line", "thing")] == [[(0, 9)], [(60, 61)]]


POINTS = (
    "duckdb_history.DuckDBHistoryFile.stage",
    "duckdb_history.DuckDBHistoryFile._load_version",
    "duckdb_history.DuckDBHistoryFile._publish_histories",
    "duckdb.DuckDBFile.publish",
)


def test_a_kill_leaves_table_and_history_of_one_run(keeper: Keeper) -> None:
    keeper.load()
    keeper.night("UPDATE thing SET name = 'one' WHERE id < 5; DELETE FROM line WHERE a = 0")
    keeper.night("UPDATE thing SET name = 'two' WHERE id < 5; DROP TABLE line")
    both = (
        "SELECT (SELECT count(*) FROM public.thing WHERE name = 'two'), "
        "(SELECT count(*) FROM public.thing_history WHERE name = 'two')"
    )
    for point in POINTS:
        killed = keeper.job.process(KILLED, point, "load", "--into", f"duckdb:{keeper.file}", "--history", "--drop")
        assert killed.returncode == -9, killed.stderr
        assert ask(keeper.file, both) == [(4, 4) if point == POINTS[-1] else (0, 0)], point
    keeper.load("--drop")
    keeper.require_right()
    assert ask(keeper.file, "SELECT * FROM duckdb_tables() WHERE table_name LIKE '%floodmark_new%'") == []
    assert keeper.versions("thing") == 68 and ask(keeper.file, "FROM _floodmark.staged") == []
