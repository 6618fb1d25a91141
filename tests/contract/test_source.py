"""What every source owes its callers (floodmark.source.base), tested on each."""

from __future__ import annotations

import json
import sqlite3
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from fix_mariadb import MyDatabase
from fix_ports import closed_port
from fix_postgres import PgDatabase
from floodmark.config import ColumnRule, Limits, Secret, Selection, TableRule
from floodmark.errors import ConfigError, SourceError, TableError
from floodmark.model import Chunk, TableName
from floodmark.observed import Question, TableInfo
from floodmark.source.base import Source, SourceSnapshot
from floodmark.source.postgres.snapshot import PostgresSource
from floodmark.source.sql.dialect import Dialect
from floodmark.source.sql.facts import SqlOptions
from floodmark.source.sql.opening import open_sql_source
from floodmark.source.sql.snapshot import SqlSource

CANARY = "canary-77aa"
KEY = Secret("a key")
ROWS = 5000


class World:
    """A database that tests write to, the source that reads it, and another one that can't be reached.

    `failing_filter` is a row filter that meets an error at run time, one that its message would quote a value
    in. If `writers_wait`, no one can write while a snapshot is open: a test that does is skipped.
    """

    writers_wait = False

    def __init__(self, source: Source, nowhere: Source, run: Callable[[str], object], failing_filter: str) -> None:
        self.source, self.nowhere, self._run, self.failing_filter = source, nowhere, run, failing_filter
        self._open = ExitStack()
        self._snapshots = 0

    def run(self, statement: str) -> None:
        if self.writers_wait and self._snapshots:
            pytest.skip("no one can write to this database while a snapshot is open")
        self._run(statement)

    def let_write(self) -> None:
        """End the snapshots if writers wait for them: the test needs them no more."""
        if self.writers_wait:
            self._open.close()
            self._snapshots = 0

    def snapshot(self) -> SourceSnapshot:
        self._snapshots += 1
        snapshot = self.source.snapshot()
        self._open.callback(snapshot.close)
        return snapshot

    def fill(self) -> None:
        self.run("CREATE TABLE person (id bigint, name text, note text)")
        self.run(
            "INSERT INTO person WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g WHERE n < 5000) "
            "SELECT n, 'name ' || n, CASE WHEN n % 3 = 0 THEN 'é \"x\" \\ ' || n END FROM g"
        )

    def close(self) -> None:
        self._open.close()


def sql_source(url: str) -> SqlSource:
    return open_sql_source(SqlOptions(Secret(url)))


@pytest.fixture
def sqlite_world(tmp_path: Path) -> Iterator[World]:
    path = tmp_path / "service.db"
    writer = sqlite3.connect(path, isolation_level=None, timeout=0)
    writer.execute("PRAGMA journal_mode = WAL")
    world = World(
        sql_source(f"sqlite:///{path}"), sql_source(f"sqlite:///{tmp_path}/gone.db"), writer.execute, "json(name)"
    )
    yield world
    world.close()
    writer.close()


@pytest.fixture
def duckdb_world(tmp_path: Path) -> Iterator[World]:
    duckdb = pytest.importorskip("duckdb")
    pytest.importorskip("duckdb_engine")
    path = tmp_path / "service.duckdb"

    def run(statement: str) -> None:
        with closing(duckdb.connect(str(path))) as writer:
            writer.execute(statement)

    run("SELECT 1")
    nowhere = sql_source(f"duckdb:///{tmp_path}/gone.duckdb")
    world = World(sql_source(f"duckdb:///{path}"), nowhere, run, "CAST(name AS int) > 0")
    world.writers_wait = True
    yield world
    world.close()


@pytest.fixture
def postgresql_world(pg: PgDatabase) -> Iterator[World]:
    limits = Limits(connections=3)
    nowhere = f"postgresql://user:{CANARY}@127.0.0.1:{closed_port()}/x"
    world = World(
        PostgresSource(Secret(pg.url), limits, KEY),
        PostgresSource(Secret(nowhere), limits, None),
        pg.execute,
        "name::int > 0",
    )
    yield world
    world.close()


@pytest.fixture
def reflected_world(pg: PgDatabase) -> Iterator[World]:
    """PostgreSQL by SQLAlchemy's reflection, as a database that Floodmark does not know better."""
    nowhere = f"postgresql+psycopg://user:{CANARY}@127.0.0.1:{closed_port()}/x"
    sources = [
        SqlSource(Dialect(make_url(url), SqlOptions(Secret(url), Limits(connections=3), KEY)))
        for url in (pg.url.replace("postgresql://", "postgresql+psycopg://"), nowhere)
    ]
    world = World(sources[0], sources[1], pg.execute, "name::int > 0")
    yield world
    world.close()


@pytest.fixture
def mariadb_world(my: MyDatabase) -> Iterator[World]:
    def run(statement: str) -> None:
        modes = "sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES', max_recursive_iterations = 10000"
        my.execute(f"SET SESSION {modes}", statement)

    limits = Limits(connections=3)
    nowhere = f"mysql://user:{CANARY}@127.0.0.1:{closed_port()}/x"
    world = World(
        open_sql_source(SqlOptions(Secret(my.url), limits, KEY)),
        open_sql_source(SqlOptions(Secret(nowhere), limits)),
        run,
        "EXP(10000 * LENGTH(name)) > 0",
    )
    yield world
    world.close()


@pytest.fixture(params=["sqlite", "duckdb", "mariadb", "reflected", "postgresql"])
def world(request: pytest.FixtureRequest) -> World:
    found: World = request.getfixturevalue(f"{request.param}_world")
    return found


def one_table(snapshot: SourceSnapshot, selection: Selection | None = None) -> TableInfo:
    (info,) = snapshot.tables(selection or Selection(), "jsonl/none")
    return info


def chunks(info: TableInfo) -> list[Chunk]:
    """Two for a part that is cut by block, one for any other."""
    (part,) = info.parts
    if not part.by_block:
        return [Chunk(part.id)]
    middle = part.heap_blocks // 2
    return [Chunk(part.id, 0, middle), Chunk(part.id, middle, part.heap_blocks)]


def blocks_of(snapshot: SourceSnapshot, info: TableInfo, chunk: Chunk) -> tuple[int, list[bytes]]:
    blocks: list[bytes] = []
    last = chunk == chunks(info)[-1]
    got = snapshot.extract(info, info.parts[0], chunk, last, lambda block: blocks.append(bytes(block)))
    return got.lines, blocks


def text_of(snapshot: SourceSnapshot, info: TableInfo) -> str:
    return b"".join(block for chunk in chunks(info) for block in blocks_of(snapshot, info, chunk)[1]).decode()


def told(error: BaseException) -> str:
    """All that a person, a log or a crash report could get to see of an error."""
    return "".join(traceback.format_exception(error)) + repr(error) + str(error) + repr(vars(error))


def test_the_same_chunk_gives_the_same_bytes(world: World) -> None:
    world.fill()
    snapshot = world.snapshot()
    info = one_table(snapshot)
    for chunk in chunks(info):
        assert blocks_of(snapshot, info, chunk) == blocks_of(snapshot, info, chunk)
    again = world.snapshot()
    assert text_of(again, one_table(again)) == text_of(snapshot, info), "another snapshot of the same rows"


def test_every_row_is_one_line_with_its_columns_in_order(world: World) -> None:
    world.fill()
    snapshot = world.snapshot()
    info = one_table(snapshot)
    seen = []
    for chunk in chunks(info):
        lines, blocks = blocks_of(snapshot, info, chunk)
        assert all(block.endswith(b"\n") for block in blocks), "blocks hold whole lines"
        read = b"".join(blocks).decode().splitlines()
        assert len(read) == lines
        seen += read
    rows = [json.loads(line) for line in seen]
    assert sorted(row["id"] for row in rows) == list(range(1, ROWS + 1))
    assert all(list(row) == ["id", "name", "note"] for row in rows)
    assert seen[2] == '{"id":3,"name":"name 3","note":"é \\"x\\" \\\\ 3"}'
    assert seen[0] == '{"id":1,"name":"name 1","note":null}'


def test_a_snapshot_shows_one_moment_until_it_is_closed(world: World) -> None:
    world.fill()
    snapshot = world.snapshot()
    info = one_table(snapshot)
    before = text_of(snapshot, info)
    world.run("INSERT INTO person VALUES (-1, 'late', NULL)")
    world.run("DELETE FROM person WHERE id % 2 = 0")
    world.run("UPDATE person SET name = 'changed'")
    world.run("CREATE TABLE later (a int)")
    assert text_of(snapshot, info) == before
    assert set(snapshot.existing_relations([TableName(snapshot.default_schema, "later"), info.table])) == {info.table}
    assert [i.table for i in snapshot.tables(Selection(), "jsonl/none")] == [info.table]
    now = world.snapshot()
    assert text_of(now, now.tables(Selection(), "jsonl/none")[1]) != before


def test_a_snapshot_is_the_same_from_every_thread(world: World) -> None:
    world.fill()
    snapshot = world.snapshot()
    info = one_table(snapshot)
    alone = text_of(snapshot, info)
    world.run("DELETE FROM person")
    with ThreadPoolExecutor(snapshot.parallelism) as pool:
        texts = list(pool.map(lambda _: text_of(snapshot, info), range(2 * snapshot.parallelism)))
    assert set(texts) == {alone}


def test_writers_go_on_while_a_chunk_is_read(world: World) -> None:
    world.fill()
    snapshot = world.snapshot()
    info = one_table(snapshot)
    written = 0

    def write(block: bytes) -> None:
        nonlocal written
        world.run(f"UPDATE person SET note = 'written' WHERE id = {written + 1}")
        written += 1

    (part,) = info.parts
    snapshot.extract(info, part, chunks(info)[0], False, write)
    assert written > 0


def test_an_error_of_the_writer_comes_through_and_the_snapshot_goes_on(world: World) -> None:
    world.fill()
    snapshot = world.snapshot()
    info = one_table(snapshot)

    def refuse(block: bytes) -> None:
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        snapshot.extract(info, info.parts[0], chunks(info)[0], False, refuse)
    assert text_of(snapshot, info).count("\n") == ROWS


def test_observations_come_in_the_order_of_the_questions(world: World) -> None:
    world.fill()
    snapshot = world.snapshot()
    info = one_table(snapshot)
    (part,) = info.parts
    since = snapshot.point.xmin or 0
    asked = [Question(info.table, part, chunk, chunk == chunks(info)[-1], since) for chunk in chunks(info)]
    counts = [blocks_of(snapshot, info, chunk)[0] for chunk in chunks(info)]
    assert [seen.rows for seen in snapshot.observe(asked)] == counts
    assert [seen.rows for seen in snapshot.observe(asked[::-1])] == counts[::-1]
    assert snapshot.observe([]) == []


def test_what_extracting_observes_is_what_observing_does(world: World) -> None:
    world.fill()
    snapshot = world.snapshot()
    info = one_table(snapshot)
    (part,) = info.parts
    (*_, last) = chunks(info)
    got = snapshot.extract(info, part, last, True, lambda block: None)
    (seen,) = snapshot.observe([Question(info.table, part, last, True, snapshot.point.xmin or 0)])
    assert got.observed in (None, seen)
    assert (got.observed is None) == (part.no_proof is not None)


def test_tables_are_ordered_by_name_and_chosen_by_pattern(world: World) -> None:
    for name in ("zebra", "aardvark", '"Mole"', '"with.dot"'):
        world.run(f"CREATE TABLE {name} (a int)")
    snapshot = world.snapshot()
    schema = snapshot.default_schema

    def names(selection: Selection) -> list[str]:
        return [info.table.name for info in snapshot.tables(selection, "")]

    assert names(Selection()) == ["Mole", "aardvark", "with.dot", "zebra"]
    assert names(Selection(include=("a*", f"{schema}.z?bra"))) == ["aardvark", "zebra"]
    assert names(Selection(exclude=('"with.dot"', "Mole"))) == ["aardvark", "zebra"]
    for missing in (Selection(include=("gone*",)), Selection(skip=("gone",)), Selection(only=("mole",))):
        with pytest.raises(ConfigError, match="matches no table"):
            snapshot.tables(missing, "")
    world.let_write()
    world.run("CREATE VIEW seen AS SELECT a FROM zebra")
    snapshot = world.snapshot()
    assert names(Selection(exclude=("gone", "zebra"))) == ["Mole", "aardvark", "with.dot"]
    assert [error.on for error in snapshot.choice.idle] == ["tables.exclude: gone"]
    assert [(one.table.name, one.kind) for one in snapshot.choice.left_out] == [("seen", "view")]
    assert [table.name for table in snapshot.choice.tables] == ["Mole", "aardvark", "with.dot"]


def test_a_rule_for_what_is_not_there_is_a_config_error(world: World) -> None:
    world.fill()
    snapshot = world.snapshot()
    schema = snapshot.default_schema
    wrong = {
        f"{schema}.person": TableRule(columns=ColumnRule(exclude=("nmae",))),
        "person": TableRule(columns=ColumnRule(mask={"nmae": "redact"})),
        "people": TableRule(),
    }
    for name, rule in wrong.items():
        with pytest.raises(ConfigError):
            snapshot.tables(Selection(rules={name: rule}), "")


def test_every_source_makes_the_same_lines_of_a_rule(
    sqlite_world: World, duckdb_world: World, postgresql_world: World, reflected_world: World
) -> None:
    columns = ColumnRule(exclude=("id",), mask={"name": "hash", "note": "redact"})
    selection = Selection(rules={"person": TableRule(columns=columns, where="id < 10")}, mask_key=KEY)
    texts = []
    for world in (sqlite_world, duckdb_world, postgresql_world, reflected_world):
        if world is not reflected_world:  # the same database as PostgreSQL's
            world.fill()
        snapshot = world.snapshot()
        info = one_table(snapshot, selection)
        assert [(c.name, c.type.lower()) for c in info.columns] == [("name", "text"), ("note", "text")]
        texts.append(text_of(snapshot, info))
    assert set(texts) == {texts[0]}
    assert texts[0].count('"note":"REDACTED"') == 3
    assert "name 1" not in texts[0]


def test_fingerprints_hold_from_one_snapshot_to_the_next(world: World) -> None:
    world.fill()
    first = one_table(world.snapshot())
    world.let_write()
    world.run("INSERT INTO person VALUES (0, 'one more', NULL)")
    assert one_table(world.snapshot()).fingerprint == first.fingerprint
    world.let_write()
    world.run("ALTER TABLE person ADD COLUMN extra text")
    assert one_table(world.snapshot()).fingerprint.schema != first.fingerprint.schema


def test_nothing_is_redefined_where_nothing_changed(world: World) -> None:
    world.fill()
    snapshot = world.snapshot()
    info = one_table(snapshot)
    world.run("INSERT INTO person VALUES (0, 'one more', NULL)")
    assert snapshot.redefined_tables([info], Selection(), "jsonl/none") == []
    assert snapshot.redefined_tables([], Selection(), "jsonl/none") == []


def test_a_definition_that_changed_is_never_read_as_it_looks(world: World) -> None:
    """Either lines are as the snapshot shows them, or the source says that they are not to be used."""
    world.fill()
    snapshot = world.snapshot()
    info = one_table(snapshot)
    before = text_of(snapshot, info)
    world.run("ALTER TABLE person RENAME COLUMN note TO remark")
    if snapshot.redefined_tables([info], Selection(), "jsonl/none") != [info.table]:
        assert text_of(snapshot, info) == before


def test_a_tables_own_error_holds_no_value(world: World) -> None:
    world.run("CREATE TABLE person (id int, name text)")
    world.run(f"INSERT INTO person VALUES (1, '{CANARY}')")
    snapshot = world.snapshot()
    rules = {"person": TableRule(where=world.failing_filter)}
    info = one_table(snapshot, Selection(rules=rules))
    with pytest.raises(TableError) as caught:
        text_of(snapshot, info)
    assert info.table.label in str(caught.value)
    assert CANARY not in told(caught.value)
    plain = one_table(snapshot)
    assert text_of(snapshot, plain) == f'{{"id":1,"name":"{CANARY}"}}\n', "the snapshot goes on"


def test_a_source_that_is_not_there_says_so_without_its_secret(world: World) -> None:
    with pytest.raises(SourceError) as caught:
        world.nowhere.snapshot()
    assert caught.value.exit_code == 12
    assert caught.value.on == world.nowhere.label
    assert CANARY not in told(caught.value)


def test_closing_never_raises(world: World) -> None:
    snapshot = world.snapshot()
    snapshot.close()
    snapshot.close()


def test_an_identity_holds_from_one_snapshot_to_the_next(world: World) -> None:
    first = world.snapshot()
    world.let_write()
    world.run("CREATE TABLE t (a int)")
    second = world.snapshot()
    assert first.identity == second.identity
    assert first.point.taken_at < second.point.taken_at
    assert first.point.taken_at.endswith("Z")
