"""Names exchanged under a snapshot: nothing is counted or landed that was read from another relation than it means.

Renaming a schema waits for no reader, and neither does renaming a table that is not being read.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from fix_postgres import BINARIES, PgDatabase, Servers
from fix_runs import Nightly
from floodmark.config import ColumnRule, Limits, Secret, Selection, TableRule
from floodmark.errors import SnapshotLost
from floodmark.events import ChunkAudited, ChunkDone, Event, RunStarted
from floodmark.model import Chunk
from floodmark.observed import Question, TableInfo
from floodmark.source.base import SourceSnapshot
from floodmark.source.postgres.snapshot import PostgresSource

MakeNightly = Callable[[PgDatabase], Nightly]
TWO_SCHEMAS = """
    CREATE SCHEMA here; CREATE SCHEMA there;
    CREATE TABLE here.t AS SELECT i, 'here' || repeat('x', 200) AS v FROM generate_series(1, 600) i;
    CREATE TABLE there.t AS SELECT i, 'there' || repeat('x', 200) AS v FROM generate_series(1, 600) i
"""
EXCHANGE_SCHEMAS = "ALTER SCHEMA here RENAME TO x; ALTER SCHEMA there RENAME TO here; ALTER SCHEMA x RENAME TO there"


class Held:
    """A snapshot of a test's database, with its tables by label."""

    def __init__(self, snapshot: SourceSnapshot, selection: Selection) -> None:
        self.snapshot = snapshot
        self.tables = {info.table.label: info for info in snapshot.tables(selection, "")}

    def question(self, label: str, start: int = 0, number: int = 0) -> Question:
        info = self.tables[label]
        part = info.parts[number]
        chunk = Chunk(part.id, start, start + 8)
        return Question(info.table, part, chunk, False, self.snapshot.point.xmin or 0)

    def counts(self, *questions: Question) -> list[int]:
        return [seen.rows for seen in self.snapshot.observe(questions)]

    def lines(self, label: str, number: int = 0, while_read: Callable[[], object] = lambda: None) -> bytes:
        """Extract a part whole; `while_read` runs while the server still holds the lines' statement open."""
        info: TableInfo = self.tables[label]
        part = info.parts[number]
        blocks: list[bytes] = []
        chunk = Chunk(part.id, 0, max(8, part.heap_blocks)) if part.by_block else Chunk(part.id)
        self.snapshot.extract(info, part, chunk, True, lambda block: (blocks.append(bytes(block)), while_read()))
        return b"".join(blocks)


@pytest.fixture
def hold(pg_any: PgDatabase) -> Iterator[Callable[..., Held]]:
    """Take a snapshot of the test's database, as it is now."""
    held: list[Held] = []

    def take(url: str | None = None, **selection: object) -> Held:
        limits = Limits(connections=2)
        snapshot = PostgresSource(Secret(url or pg_any.url), limits, None).snapshot()
        held.append(Held(snapshot, Selection(**selection)))  # type: ignore[arg-type]
        return held[-1]

    yield take
    for one in held:
        one.snapshot.close()


def test_two_tables_exchanged_before_both_are_counted(pg_any: PgDatabase, hold: Callable[..., Held]) -> None:
    """Each is counted through the other's heap; all that was expected is locked in the end."""
    pg_any.execute("CREATE TABLE a AS SELECT 1 AS i; CREATE TABLE b AS SELECT generate_series(1, 2) AS i")
    held = hold()
    assert held.counts(held.question("public.a"), held.question("public.b")) == [1, 2]
    pg_any.execute("ALTER TABLE a RENAME TO x; ALTER TABLE b RENAME TO a; ALTER TABLE x RENAME TO b")
    with pytest.raises(SnapshotLost, match="replaced"):
        held.counts(held.question("public.a"), held.question("public.b"))


def test_two_schemas_exchanged_before_both_tables_are_counted(pg_any: PgDatabase, hold: Callable[..., Held]) -> None:
    pg_any.execute(TWO_SCHEMAS)
    pg_any.execute("DELETE FROM there.t WHERE i < 5")
    held = hold()
    before = held.counts(held.question("here.t"), held.question("there.t"))
    assert before[0] > before[1]
    pg_any.execute(EXCHANGE_SCHEMAS)
    with pytest.raises(SnapshotLost, match="replaced"):
        held.counts(held.question("here.t"), held.question("there.t"))
    pg_any.execute(EXCHANGE_SCHEMAS)
    assert held.counts(held.question("here.t"), held.question("there.t")) == before


def test_a_table_counted_twice_in_one_transaction(pg_any: PgDatabase, hold: Callable[..., Held]) -> None:
    """Schemas are exchanged between two chunks of a table, while the transaction waits for a third table's lock. What
    the name leads to then is locked already, so its lock tells nothing new."""
    pg_any.execute(TWO_SCHEMAS + "; CREATE TABLE gate AS SELECT 1 AS i; DELETE FROM there.t WHERE i > 300")
    held = hold()
    questions = [held.question(label) for label in ("here.t", "there.t", "public.gate")]
    questions.append(held.question("here.t", start=8))
    counts = held.counts(*questions)
    assert counts[3] > 0 == held.counts(held.question("there.t", start=16))[0]

    def exchange() -> None:
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'gate'::regclass"
        while not pg_any.value(waiting):
            time.sleep(0.01)
        pg_any.execute(EXCHANGE_SCHEMAS)
        migration.rollback()

    with pg_any.connect() as migration:
        migration.execute("LOCK TABLE gate IN ACCESS EXCLUSIVE MODE")
        thread = threading.Thread(target=exchange)
        thread.start()
        with pytest.raises(SnapshotLost, match="replaced"):
            held.counts(*questions)
        thread.join()


def test_a_table_that_is_truncated_before_it_is_counted(pg_any: PgDatabase, hold: Callable[..., Held]) -> None:
    pg_any.execute("CREATE TABLE a AS SELECT 1 AS i")
    held = hold()
    pg_any.execute("TRUNCATE a")
    with pytest.raises(SnapshotLost, match="rewritten"):
        held.counts(held.question("public.a"))


def test_a_view_in_a_tables_place(pg_any: PgDatabase, hold: Callable[..., Held]) -> None:
    """A view can show the system columns of the very table, and fewer of its rows."""
    pg_any.execute("CREATE TABLE a AS SELECT generate_series(1, 9) AS i")
    held = hold()
    pg_any.execute("ALTER TABLE a RENAME TO x; CREATE VIEW a AS SELECT ctid, xmin, i FROM x WHERE i < 5")
    with pytest.raises(SnapshotLost, match="replaced"):
        held.counts(held.question("public.a"))
    with pytest.raises(SnapshotLost, match="replaced"):
        held.lines("public.a")


def test_a_filtered_tables_rows_are_counted_where_its_lines_were_read(
    pg_any: PgDatabase, hold: Callable[..., Held]
) -> None:
    """With values in TOAST, lines and count come from two statements; schemas are exchanged between them."""
    pg_any.execute(TWO_SCHEMAS)
    big = "(SELECT string_agg(md5(k::text), '') FROM generate_series(1, 200) k)"
    pg_any.execute(f"ALTER TABLE here.t ALTER v SET STORAGE EXTERNAL; UPDATE here.t SET v = {big} WHERE i = 7")
    pg_any.execute("DELETE FROM there.t WHERE i > 5")
    held = hold(rules={"here.t": TableRule(where="i < 500")})
    assert not held.tables["here.t"].parts[0].narrow

    exchanged: list[int] = []

    def exchange() -> None:
        if not exchanged:
            exchanged.append(pg_any.execute(EXCHANGE_SCHEMAS))

    with pytest.raises(SnapshotLost, match="replaced"):
        held.lines("here.t", while_read=exchange)


SPLIT = """
    CREATE TABLE split (id int, v text) PARTITION BY LIST (id);
    CREATE TABLE one PARTITION OF split FOR VALUES IN (1); CREATE TABLE two PARTITION OF split FOR VALUES IN (2);
    INSERT INTO split VALUES (1, 'one'), (2, 'two');
    CREATE TABLE apart (id int, v text); INSERT INTO apart VALUES (3, 'apart');
    CREATE TABLE other (id int, v text) PARTITION BY LIST (id); CREATE TABLE its PARTITION OF other FOR VALUES IN (1);
    INSERT INTO other VALUES (1, 'other')
"""
UNDER_A_PARENT = {
    "attach": "ALTER TABLE split ATTACH PARTITION apart FOR VALUES IN (3)",
    "attach a new one": "CREATE TABLE newer PARTITION OF split FOR VALUES IN (4)",
    "detach": "ALTER TABLE split DETACH PARTITION two",
    "detach the last": "ALTER TABLE split DETACH PARTITION two; ALTER TABLE split DETACH PARTITION one",
    "exchange a leaf": "ALTER TABLE split DETACH PARTITION two; ALTER TABLE apart RENAME TO t; "
    "UPDATE t SET id = 2; ALTER TABLE split ATTACH PARTITION t FOR VALUES IN (2)",
    "exchange the parents": "ALTER TABLE split RENAME TO x; ALTER TABLE other RENAME TO split; "
    "ALTER TABLE x RENAME TO other",
    "truncate a leaf": "TRUNCATE two",
}


@pytest.mark.parametrize("what", UNDER_A_PARENT)
def test_a_table_that_is_read_through_its_parent(pg_any: PgDatabase, hold: Callable[..., Held], what: str) -> None:
    pg_any.execute(SPLIT)
    role = pg_any.role("limited")
    pg_any.execute("GRANT SELECT ON split, other, apart TO limited")
    held = hold(role.url)
    assert len(held.tables["public.split"].parts) == 1 and held.lines("public.split").count(b"\n") == 2
    pg_any.execute(UNDER_A_PARENT[what])
    with pytest.raises(SnapshotLost, match=r"replaced|rewritten"):
        held.lines("public.split")


def test_a_view_exchanged_for_another(pg_any: PgDatabase, hold: Callable[..., Held]) -> None:
    pg_any.execute("CREATE TABLE a AS SELECT 1 AS i; CREATE VIEW v AS SELECT i FROM a; CREATE VIEW w AS SELECT 2 AS i")
    held = hold(include=("v", "w"))
    assert held.lines("public.v") == b'{"i":1}\n'
    pg_any.execute("ALTER VIEW v RENAME TO x; ALTER VIEW w RENAME TO v; ALTER VIEW x RENAME TO w")
    for label in ("public.v", "public.w"):
        with pytest.raises(SnapshotLost, match="replaced"):
            held.lines(label)


def test_what_a_filters_function_reads_does_not_count_as_another_table(nightly: Nightly) -> None:
    database = nightly.database
    database.execute("CREATE TABLE a AS SELECT generate_series(1, 9) AS i; CREATE TABLE wanted AS SELECT 3 AS i")
    database.execute(
        "CREATE FUNCTION public.is_wanted(int) RETURNS bool STABLE LANGUAGE sql "
        "AS 'SELECT EXISTS (SELECT FROM public.wanted w WHERE w.i = $1)'"
    )
    nightly.run(rules={"a": TableRule(where="public.is_wanted(i)")})
    assert nightly.landed("public.a") == [b'{"i":3}\n']


def test_a_setting_that_locks_a_partitions_parent_does_not_count_as_another_table(nightly: Nightly) -> None:
    database = nightly.database
    database.execute(SPLIT)
    database.execute(f'ALTER DATABASE "{database.name}" SET constraint_exclusion = on')
    nightly.run(rules={"split": TableRule(where="id > 0")})
    assert nightly.outcome("public.split") == ("extracted", "first_run")
    assert sum(isinstance(event, RunStarted) for event in nightly.events) == 1


def test_a_table_of_another_access_method_is_read_without_its_children(nightly: Nightly) -> None:
    database = nightly.database
    database.execute("CREATE ACCESS METHOD heap2 TYPE TABLE HANDLER heap_tableam_handler")
    database.execute("CREATE TABLE parent (i int) USING heap2; CREATE TABLE child () INHERITS (parent)")
    database.execute("INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2)")
    nightly.run()
    assert nightly.landed("public.parent") == [b'{"i":1}\n']
    assert nightly.landed("public.child") == [b'{"i":2}\n']


@pytest.mark.parametrize("mask", [None, "redact"])
def test_values_in_toast_do_not_count_as_another_table(nightly: Nightly, mask: str | None) -> None:
    """Those of the table, of its partitions, and those that the watched column's greatest value is fetched from."""
    database = nightly.database
    long = "(SELECT string_agg(md5(k::text), '') FROM generate_series(1, 200) k)"
    database.execute("CREATE TABLE a (i int, v text); ALTER TABLE a ALTER v SET STORAGE EXTERNAL")
    database.execute(f"INSERT INTO a SELECT i, {long} FROM generate_series(1, 9) i")
    columns = ColumnRule(mask={} if mask is None else {"i": "redact"})
    for rule in (TableRule(columns=columns), TableRule(detect="column", column="v", columns=columns)):
        for _ in range(2):
            nightly.run(rules={"a": rule})
            assert nightly.outcome("public.a")[0] in ("extracted", "unchanged")
        assert nightly.outcome("public.a") == ("unchanged", "unchanged")
        assert sum(isinstance(event, RunStarted) for event in nightly.events) == 1


@pytest.mark.parametrize("at", [ChunkDone, ChunkAudited])
def test_a_snapshot_that_ends_with_the_last_reading_is_not_used(nightly: Nightly, at: type[Event]) -> None:
    """On a standby, recovery may have removed rows by then. So the run takes another snapshot."""
    nightly.database.execute("CREATE TABLE a AS SELECT generate_series(1, 9) AS i")
    if at is ChunkAudited:
        nightly.run()
    ended: list[int] = []

    def end(event: Event) -> None:
        if isinstance(event, at) and not ended:
            ended.append(
                nightly.database.value(
                    "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity "
                    "WHERE application_name = 'floodmark' AND datname = current_database() "
                    "AND state = 'idle in transaction'"
                )
            )

    nightly.run_observed(end, audit_share=100.0)
    assert len(ended) == 1 and ended[0] >= 1
    assert sum(isinstance(event, RunStarted) for event in nightly.events) == 2
    nightly.require_truth()


def starts(nightly: Nightly) -> int:
    return sum(isinstance(event, RunStarted) for event in nightly.events)


@pytest.mark.parametrize("way", ["virtual column", "unprovable filter"])
def test_a_partition_that_is_attached_for_one_statement(nightly: Nightly, way: str) -> None:
    """Read through the parent, with a function that can lock anything: the locks do not tell, the tree does."""
    database = nightly.database
    database.execute(SPLIT)
    changes: dict[str, object] = {"include": ("split",)}
    if way == "virtual column":
        if database.version < 18:
            pytest.skip("virtual columns came with PostgreSQL 18")
        for table in ("split", "apart"):
            database.execute(f"ALTER TABLE {table} ADD g text GENERATED ALWAYS AS (v || '!') VIRTUAL")
    else:
        role = database.role("limited_reader")
        database.execute("GRANT SELECT ON split, apart TO limited_reader")
        changes |= {"url": role.url, "rules": {"split": TableRule(where="length(v) > 0")}}
    left = [
        (RunStarted, "ALTER TABLE split ATTACH PARTITION apart FOR VALUES IN (3)"),
        (ChunkDone, "ALTER TABLE split DETACH PARTITION apart"),
    ]

    def act(event: Event) -> None:
        if left and isinstance(event, left[0][0]):
            database.execute(left.pop(0)[1])

    nightly.run_observed(act, **changes)
    assert sorted(json.loads(line)["v"] for line in nightly.landed("public.split")) in (
        ["one", "two"],
        ["apart", "one", "two"],  # the second attempt's snapshot shows it attached
    )
    assert starts(nightly) > 1
    if left:
        database.execute(left.pop(0)[1])
    nightly.run(**changes)
    assert len(nightly.landed("public.split")) == 2


def test_a_foreign_table_is_read_without_its_children(postgres: Servers, make_nightly: MakeNightly) -> None:
    if 15 not in BINARIES:
        pytest.skip("needs file_fdw: apt-get install postgresql-15")
    database = postgres[15].database()
    nightly = make_nightly(database)
    database.execute("CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw")
    database.execute("CREATE FOREIGN TABLE parent (i int) SERVER files OPTIONS (program 'echo 1', format 'csv')")
    database.execute("CREATE TABLE child () INHERITS (parent); INSERT INTO child VALUES (2)")
    nightly.run(include=("parent", "child"))
    assert nightly.landed("public.parent") == [b'{"i":1}\n']
    assert nightly.landed("public.child") == [b'{"i":2}\n']
    database.drop()


LOOKED_UP = """
    CREATE TABLE category (id int, name text); INSERT INTO category VALUES (1, 'one');
    CREATE TABLE goods (i int, v text); INSERT INTO goods VALUES (1, 'x');
    CREATE FUNCTION category_of(int) RETURNS text IMMUTABLE LANGUAGE sql
        AS 'SELECT name FROM public.category WHERE id = $1';
    CREATE FUNCTION folded(text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT pg_catalog.lower($1)';
"""
CALLS = {
    "index": "CREATE INDEX ON goods (public.category_of(i))",
    "index's condition": "CREATE INDEX ON goods (i) WHERE public.category_of(1) = v",
    "statistics": "CREATE STATISTICS s ON i, (public.category_of(i)) FROM goods",
}


@pytest.mark.parametrize("what", CALLS)
def test_an_index_that_calls_a_function_that_reads_another_table(nightly: Nightly, what: str) -> None:
    """Planning locks that table too, so the locks can't show what is read: the table is read in every run."""
    nightly.database.execute(LOOKED_UP + CALLS[what])
    for _ in range(2):
        nightly.run()
        assert starts(nightly) == 1
    nightly.require_truth()
    assert nightly.outcome("public.goods") == ("unchanged", "identical")
    assert "call a function" in nightly.entry("public.goods").reason.detail
    assert nightly.outcome("public.category") == ("unchanged", "unchanged")


def test_an_index_that_calls_a_function_that_reads_no_table(nightly: Nightly) -> None:
    nightly.database.execute(LOOKED_UP + "CREATE INDEX ON goods (public.folded(v))")
    nightly.run()
    nightly.run()
    assert nightly.outcome("public.goods") == ("unchanged", "unchanged")


def test_an_index_that_comes_while_the_table_is_read(nightly: Nightly) -> None:
    """It is newer than the snapshot. What it calls was not looked at, so the run takes another snapshot and looks."""
    nightly.database.execute(LOOKED_UP)
    done: list[int] = []

    def act(event: Event) -> None:
        if isinstance(event, RunStarted) and not done:
            done.append(nightly.database.execute(CALLS["index"]))

    nightly.run_observed(act)
    assert nightly.outcome("public.goods")[0] == "extracted"
    assert starts(nightly) == 2


def test_a_grant_on_the_schema_during_a_run_costs_nothing(nightly: Nightly) -> None:
    """It writes the schema's row, as a rename does. The locks show what was read."""
    nightly.database.execute("CREATE TABLE a AS SELECT generate_series(1, 9) AS i")

    def act(event: Event) -> None:
        if isinstance(event, ChunkDone):
            nightly.database.execute("GRANT USAGE ON SCHEMA public TO public")

    nightly.run_observed(act)
    assert starts(nightly) == 1 and nightly.outcome("public.a") == ("extracted", "first_run")


def test_a_table_that_came_with_the_database_is_read(nightly: Nightly) -> None:
    nightly.database.execute("ALTER TABLE information_schema.sql_features SET SCHEMA public")
    nightly.run(include=("sql_features",))
    assert nightly.outcome("public.sql_features") == ("extracted", "first_run")
