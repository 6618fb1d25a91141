"""SQLite as a source: what a line holds, which tables there are, and how a bad file is told."""

from __future__ import annotations

import hashlib
import hmac
import json
import sqlite3
import traceback
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from floodmark.config import ColumnRule, Secret, Selection, TableRule
from floodmark.errors import ConfigError, SourceError, SourceUnavailable, TableError
from floodmark.model import Chunk, Fingerprint, TableName
from floodmark.observed import TableInfo
from floodmark.source.sql.engine import read_url
from floodmark.source.sql.facts import SqlOptions
from floodmark.source.sql.snapshot import SqlSnapshot, SqlSource
from floodmark.source.sql.sqlite import SQLite

CANARY = "canary-9f31"


def sqlite_source(url: str, busy_seconds: float = 30.0) -> SqlSource:
    return SqlSource(SQLite(read_url(url), SqlOptions(Secret(url)), busy_seconds))


class Db:
    """A database file with one writing connection, and snapshots that end with the test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"
        self.writer = sqlite3.connect(path, isolation_level=None, timeout=0)
        self._snapshots: list[SqlSnapshot] = []

    def run(self, script: str) -> None:
        self.writer.executescript(script)

    def snapshot(self, busy_seconds: float = 0.05) -> SqlSnapshot:
        snapshot = sqlite_source(self.url, busy_seconds).snapshot()
        self._snapshots.append(snapshot)
        return snapshot

    def table(self, name: str, **selection: object) -> tuple[SqlSnapshot, TableInfo]:
        snapshot = self.snapshot()
        (info,) = snapshot.tables(Selection(include=(f'main."{name}"',), **selection), "jsonl/gzip")  # type: ignore[arg-type]
        return snapshot, info

    def text(self, name: str, **selection: object) -> str:
        return b"".join(self.blocks(name, **selection)).decode()

    def blocks(self, name: str, **selection: object) -> list[bytes]:
        blocks: list[bytes] = []
        read(*self.table(name, **selection), blocks.append)
        return blocks

    def rows(self, name: str, **selection: object) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.text(name, **selection).splitlines()]

    def fingerprint(self, name: str = "t", encoding: str = "jsonl/gzip", **selection: object) -> Fingerprint:
        (info,) = self.snapshot().tables(Selection(include=(name,), **selection), encoding)  # type: ignore[arg-type]
        return info.fingerprint

    def close(self) -> None:
        for snapshot in self._snapshots:
            snapshot.close()
        self.writer.close()


def read(snapshot: SqlSnapshot, info: TableInfo, write: Callable[[bytes], object]) -> int:
    (part,) = info.parts
    return snapshot.extract(info, part, Chunk(part.id), True, write).lines


def rule(where: str | None = None, exclude: tuple[str, ...] = (), **masks: str) -> dict[str, TableRule]:
    columns = ColumnRule(exclude=exclude, mask=masks)  # type: ignore[arg-type]
    return {"t": TableRule(columns=columns, where=where)}


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Db]:
    database = Db(tmp_path / "service.db")
    database.run("PRAGMA journal_mode = WAL")
    yield database
    database.close()


# What a line holds


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        ("NULL", "null"),
        ("0", "0"),
        ("9223372036854775807", "9223372036854775807"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("1.0", "1.0"),
        ("0.1", "0.1"),
        ("9e999", '"Infinity"'),
        ("-9e999", '"-Infinity"'),
        ("''", '""'),
        ("'123'", '"123"'),
        ("char(34, 92, 10, 1, 233, 128512)", '"\\"\\\\\\n\\u0001é😀"'),
        ("'a' || char(0) || 'b'", '"a\\u0000b"'),
        ("x''", '"\\\\x"'),
        ("x'00ffAB'", '"\\\\x00ffab"'),
    ],
)
def test_each_kind_of_value_has_one_exact_form(db: Db, sql: str, text: str) -> None:
    db.run(f"CREATE TABLE t (v); INSERT INTO t VALUES ({sql})")
    assert db.text("t") == f'{{"v":{text}}}\n'


@pytest.mark.parametrize("value", [5e-324, 1.7976931348623157e308, 1 / 3, 1e16, -1e-7, 123456789.12345679])
def test_a_real_reads_back_as_the_same_value(db: Db, value: float) -> None:
    db.run("CREATE TABLE t (v REAL)")
    db.writer.execute("INSERT INTO t VALUES (?)", [value])
    ((read_back,),) = (row.values() for row in db.rows("t"))
    assert isinstance(read_back, float) and read_back.hex() == value.hex()


def test_a_snapshot_is_dated_no_later_than_it_is(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    """A consumer may take all that was committed before `as_of` for landed."""
    db.run("PRAGMA journal_mode = WAL; CREATE TABLE t (a)")
    begins: list[datetime] = []

    def noted(statement: str) -> None:
        if "sqlite_schema" in statement:  # the first read of the transaction
            begins.append(datetime.now(UTC))

    connect = SQLite._connect

    def traced(self: SQLite) -> sqlite3.Connection:
        connection = connect(self)
        connection.set_trace_callback(noted)
        return connection

    monkeypatch.setattr(SQLite, "_connect", traced)
    assert datetime.fromisoformat(db.snapshot().point.taken_at) <= begins[0]


def test_an_infinity_beside_other_values_leaves_them_as_they_are(db: Db) -> None:
    db.run("CREATE TABLE t (a, b, c, d); INSERT INTO t VALUES (1, 9e999, 'x', NULL), (2, 0.5, 'y', x'01')")
    assert db.text("t") == ('{"a":1,"b":"Infinity","c":"x","d":null}\n{"a":2,"b":0.5,"c":"y","d":"\\\\x01"}\n')


NAMES = ["", "with space", 'quo"te', "dot.slash/", "Ünïcödé", "select", "rowid", "r", "t", "%_", "a'b", "[x]", "--"]


@pytest.mark.parametrize("name", NAMES)
def test_columns_and_tables_may_be_named_as_anything(db: Db, name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    db.run(f"CREATE TABLE {quoted} ({quoted} INT, other); INSERT INTO {quoted} VALUES (7, 'x'), (3, 'y')")
    snapshot = db.snapshot()
    (info,) = snapshot.tables(Selection(), "")
    written: list[bytes] = []
    assert read(snapshot, info, written.append) == 2
    first, second = (json.loads(line) for line in b"".join(written).splitlines())
    assert (info.table, first, second) == (
        TableName("main", name),
        {name: 7, "other": "x"},
        {name: 3, "other": "y"},
    )


def test_generated_columns_are_extracted_in_their_place(db: Db) -> None:
    db.run(
        "CREATE TABLE t (a, double AS (a * 2) VIRTUAL, kept TEXT AS (a || '!') STORED, z);"
        "INSERT INTO t (a, z) VALUES (21, 1)"
    )
    assert db.text("t") == '{"a":21,"double":42,"kept":"21!","z":1}\n'


def test_equal_rows_stay_as_many_as_they_are(db: Db) -> None:
    db.run("CREATE TABLE t (a); INSERT INTO t VALUES (1), (1), (1)")
    assert db.text("t") == '{"a":1}\n' * 3


def test_lines_are_handed_on_in_large_blocks_of_whole_lines(db: Db) -> None:
    db.run(
        "CREATE TABLE t (n, v); WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g LIMIT 9000)"
        "INSERT INTO t SELECT n, hex(zeroblob(50)) FROM g"
    )
    blocks = db.blocks("t")
    assert len(blocks) == 5
    assert all(len(block) >= 256 * 1024 for block in blocks[:-1])
    assert all(block.endswith(b"}\n") for block in blocks)
    numbers = [json.loads(line)["n"] for block in blocks for line in block.splitlines()]
    assert numbers == list(range(1, 9001))


def test_memory_stays_flat_however_large_the_table_is(db: Db) -> None:
    db.run(
        "CREATE TABLE t (v); WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g LIMIT 20000)"
        "INSERT INTO t SELECT hex(zeroblob(1000)) FROM g"
    )
    snapshot, info = db.table("t")
    tracemalloc.start()
    lines = read(snapshot, info, lambda block: None)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert lines == 20000
    assert peak < 2 * 1024**2, "40 MB of lines took more than 2 MB"


def test_an_empty_table_writes_nothing(db: Db) -> None:
    db.run("CREATE TABLE t (a)")
    assert db.blocks("t") == []


# The order of rows


def test_rows_come_in_the_tables_own_order_whatever_index_covers_them(db: Db) -> None:
    db.run(
        "CREATE TABLE t (a, wide); INSERT INTO t VALUES (3, zeroblob(9999)), (1, zeroblob(9999)), (2, zeroblob(9999));"
        "CREATE INDEX i ON t (a); ANALYZE"
    )
    assert db.text("t", rules=rule(exclude=("wide",))) == '{"a":3}\n{"a":1}\n{"a":2}\n'


def test_rows_keep_that_order_when_all_names_of_the_rowid_are_taken(db: Db) -> None:
    db.run(
        "CREATE TABLE t (rowid, _rowid_, oid); CREATE INDEX i ON t (rowid); "
        "INSERT INTO t SELECT column1, zeroblob(9999), -column1 FROM (VALUES (3), (1), (2)); ANALYZE"
    )
    assert db.text("t", rules=rule(exclude=("_rowid_", "oid"))) == '{"rowid":3}\n{"rowid":1}\n{"rowid":2}\n'


def test_tables_without_rowid_come_in_the_order_of_their_key(db: Db) -> None:
    db.run(
        "CREATE TABLE t (v, k TEXT COLLATE NOCASE, n INT, PRIMARY KEY (k DESC, n)) WITHOUT ROWID;"
        "INSERT INTO t VALUES (1, 'a', 2), (2, 'B', 1), (3, 'A', 1); CREATE INDEX i ON t (v)"
    )
    assert [row["v"] for row in db.rows("t")] == [2, 3, 1]


# Which tables there are


def test_views_and_virtual_tables_are_extracted_only_when_named(db: Db) -> None:
    db.run(
        "CREATE TABLE t (a INTEGER PRIMARY KEY AUTOINCREMENT); INSERT INTO t VALUES (1);"
        "CREATE VIEW v AS SELECT a AS x FROM t; CREATE VIRTUAL TABLE f USING fts5 (body);"
        "INSERT INTO f VALUES ('words'); ANALYZE"
    )
    everything = db.snapshot().tables(Selection(), "")
    assert [info.table.name for info in everything] == ["t"]
    assert db.text("v") == '{"x":1}\n'
    assert db.text("f") == '{"body":"words"}\n'
    assert len(db.rows("f_content")) == 1
    with pytest.raises(ConfigError, match="is a view"):
        db.snapshot().tables(Selection(include=("main.v*",)), "")


def test_sqlites_own_tables_are_not_there(db: Db) -> None:
    db.run("CREATE TABLE t (a INTEGER PRIMARY KEY AUTOINCREMENT); INSERT INTO t VALUES (1); ANALYZE")
    for name in ("sqlite_sequence", "sqlite_stat1", "sqlite_schema"):
        with pytest.raises(ConfigError, match=name):
            db.snapshot().tables(Selection(include=(name,)), "")


def test_temporary_tables_of_others_and_attached_files_are_not_there(db: Db, tmp_path: Path) -> None:
    db.run(f"CREATE TABLE t (a); CREATE TEMP TABLE x (a); ATTACH '{tmp_path}/b.db' AS b; CREATE TABLE b.y (a)")
    assert [info.table.name for info in db.snapshot().tables(Selection(), "")] == ["t"]


def test_a_view_of_what_is_gone_is_denied_and_the_rest_goes_on(db: Db) -> None:
    db.run("CREATE TABLE t (a); CREATE VIEW v AS SELECT * FROM t; CREATE TABLE u (b); DROP TABLE t")
    snapshot = db.snapshot()
    u, v = snapshot.tables(Selection(include=("u", "v")), "")
    assert (u.denied, v.denied) == (None, "its definition can't be read (SQLITE_ERROR)")
    with pytest.raises(TableError) as caught:
        read(snapshot, v, lambda block: None)
    assert caught.value.code == "denied"


def test_what_a_table_says_of_itself(db: Db) -> None:
    db.run("CREATE TABLE t (a INTEGER NOT NULL, b VARCHAR(3), c)")
    snapshot, info = db.table("t")
    assert [(c.name, c.type, c.nullable) for c in info.columns] == [
        ("a", "INTEGER", False),
        ("b", "VARCHAR(3)", True),
        ("c", "", True),
    ]
    (part,) = info.parts
    assert (part.table, part.by_block, part.no_proof) == (info.table, False, "SQLite keeps no row versions")
    assert (snapshot.point.xmin, snapshot.point.lineage) == (None, None)


def test_which_names_exist(db: Db) -> None:
    db.run("CREATE TABLE t (a); CREATE VIEW v AS SELECT 1 AS one")
    names = [TableName("main", name) for name in ("t", "v", "gone")] + [TableName("public", "t")]
    found = db.snapshot().existing_relations(names)
    assert {name.name: (one.kind, one.what) for name, one in found.items()} == {
        "t": ("table", "a table"), "v": ("other", "a view")
    }  # fmt: skip


# What the user chose


def test_columns_left_out_and_rows_filtered(db: Db) -> None:
    db.run("CREATE TABLE t (a, b, c); INSERT INTO t VALUES (1, 2, 3), (4, 5, 6), (7, 8, 9)")
    assert db.text("t", rules=rule("a > 1 OR t.b = 2 -- all but", exclude=("b",))) == (
        '{"a":1,"c":3}\n{"a":4,"c":6}\n{"a":7,"c":9}\n'
    )
    assert db.text("t", rules=rule("a = 4 OR 0", exclude=("a", "c"))) == '{"b":5}\n'


def test_masks(db: Db) -> None:
    db.run(
        "CREATE TABLE t (a, b, c, d NOT NULL, e NOT NULL);"
        f"INSERT INTO t VALUES ('{CANARY}', '{CANARY}', '{CANARY}', 1, 3);"
        "INSERT INTO t VALUES (NULL, NULL, NULL, 2, 4)"
    )
    rules, key = rule(a="null", b="redact", c="hash", e="null"), Secret("a key")
    digest = hmac.new(b"a key", CANARY.encode(), hashlib.sha256).hexdigest()
    assert db.text("t", rules=rules, mask_key=key) == (
        f'{{"a":null,"b":"REDACTED","c":"{digest}","d":1,"e":null}}\n{{"a":null,"b":null,"c":null,"d":2,"e":null}}\n'
    )
    _, info = db.table("t", rules=rules, mask_key=key)
    assert [(c.type, c.nullable) for c in info.columns] == [("TEXT", True)] * 3 + [("", False), ("TEXT", True)]


@pytest.mark.parametrize(("sql", "text"), [("12", "12"), ("1.5", "1.5"), ("x'0aFF'", "\\x0aff"), ("'é'", "é")])
def test_hash_takes_the_text_a_line_would_hold(db: Db, sql: str, text: str) -> None:
    db.run(f"CREATE TABLE t (v); INSERT INTO t VALUES ({sql})")
    ((digest,),) = (row.values() for row in db.rows("t", rules=rule(v="hash"), mask_key=Secret("k")))
    assert digest == hmac.new(b"k", text.encode(), hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        (rule(exclude=("nmae",)), "no column nmae"),
        (rule(nmae="redact"), "Did you mean name"),
        (rule(exclude=("id", "name")), "leaves no column"),
        (rule(name="hash"), "needs a key"),
        ({"gone": TableRule()}, "tables.rules: gone"),
    ],
)
def test_a_rule_that_does_not_fit_is_an_error(db: Db, rules: dict[str, TableRule], says: str) -> None:
    db.run("CREATE TABLE t (id, name)")
    with pytest.raises(ConfigError, match=says):
        db.table("t", rules=rules)


def test_the_schema_fingerprint_follows_the_definition_and_not_the_rows(db: Db) -> None:
    db.run("CREATE TABLE t (a INT, b)")
    first = db.fingerprint()
    db.run("INSERT INTO t VALUES (1, 2); CREATE INDEX i ON t (b); VACUUM")
    assert db.fingerprint() == first
    seen = {first.schema}
    for change in ("ADD COLUMN c", "RENAME COLUMN c TO d", "DROP COLUMN a"):
        db.run(f"ALTER TABLE t {change}")
        seen.add(db.fingerprint().schema)
    db.run("DROP TABLE t; CREATE TABLE t (b, d TEXT)")
    seen.add(db.fingerprint().schema)
    assert len(seen) == 5
    assert db.fingerprint().config != first.config, "the config fingerprint names the columns"


def test_the_config_fingerprint_follows_every_choice(db: Db) -> None:
    db.run("CREATE TABLE t (a, b)")
    one, other = Secret("one"), Secret("other")
    prints = [
        db.fingerprint(),
        db.fingerprint(encoding="jsonl/none"),
        db.fingerprint(rules=rule("a > 1")),
        db.fingerprint(rules=rule(exclude=("a",))),
        db.fingerprint(rules=rule(a="null")),
        db.fingerprint(rules=rule(b="null")),
        db.fingerprint(rules=rule(a="redact")),
        db.fingerprint(rules=rule(a="hash"), mask_key=one),
        db.fingerprint(rules=rule(a="hash"), mask_key=other),
    ]
    assert len({p.config for p in prints}) == len(prints)
    assert len({p.schema for p in prints}) == 1
    assert db.fingerprint(mask_key=one) == prints[0], "a key no mask uses changes nothing"


# One moment, and nothing written


def test_in_wal_mode_writers_go_on_and_the_snapshot_stays(db: Db) -> None:
    db.run("CREATE TABLE t (a); INSERT INTO t VALUES (1)")
    snapshot, info = db.table("t")
    db.run("INSERT INTO t VALUES (2); ALTER TABLE t ADD COLUMN b; CREATE TABLE u (x)")
    written: list[bytes] = []
    read(snapshot, info, written.append)
    assert b"".join(written) == b'{"a":1}\n'
    assert snapshot.drawbacks == ()
    assert snapshot.redefined_tables([info], Selection(), "") == []
    assert [i.table.name for i in snapshot.tables(Selection(), "")] == ["t"]


def test_in_other_modes_writers_wait_and_the_operator_is_told(db: Db) -> None:
    db.run("PRAGMA journal_mode = DELETE; CREATE TABLE t (a)")
    snapshot = db.snapshot()
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        db.run("INSERT INTO t VALUES (1)")
    (drawback,) = snapshot.drawbacks
    assert "journal mode is delete" in drawback.found and "PRAGMA journal_mode = WAL" in drawback.hint
    snapshot.close()
    db.run("INSERT INTO t VALUES (1)")


def test_the_connection_can_not_write(db: Db) -> None:
    db.run("CREATE TABLE t (a)")
    snapshot = db.snapshot()
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        snapshot._opened.connections[0].connection.driver_connection.execute("INSERT INTO t VALUES (1)")


def test_closing_twice_is_no_error(db: Db) -> None:
    snapshot = db.snapshot()
    snapshot.close()
    snapshot.close()


# Which database it is


def test_a_databases_identity_is_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("one", "two", "links"):
        (tmp_path / folder).mkdir()
    for folder in ("one", "two"):
        sqlite3.connect(tmp_path / folder / "a.db").close()
    (tmp_path / "links" / "a.db").symlink_to("../one/a.db")
    monkeypatch.chdir(tmp_path / "one")

    def identity(url: str) -> str:
        snapshot = sqlite_source(url).snapshot()
        snapshot.close()
        assert (snapshot.identity.dialect, snapshot.identity.database) == ("sqlite", "a")
        return snapshot.identity.system_identifier

    one = identity("sqlite:///a.db")
    assert one == identity(f"sqlite:///{tmp_path}/one/a.db") == identity("sqlite+pysqlite:///../two/../one/a.db")
    assert len({one, identity("sqlite:///../two/a.db"), identity("sqlite:///../links/a.db")}) == 3
    (tmp_path / "two" / "a.db").replace(tmp_path / "one" / "a.db")
    assert identity("sqlite:///a.db") == one, "a backup put in its place"


# Bad input


def refused(url: str) -> SourceError:
    with pytest.raises(SourceError) as caught:
        sqlite_source(url, busy_seconds=0.05).snapshot()
    assert caught.value.exit_code == 12
    return caught.value


def test_a_database_that_is_not_there_is_an_error_and_not_made(tmp_path: Path) -> None:
    error = refused(f"sqlite:///{tmp_path}/gone.db")
    assert "the file does not exist (SQLITE_CANTOPEN)" in str(error)
    assert not error.retryable
    assert list(tmp_path.iterdir()) == []


def test_a_folder_and_an_unfinished_write_are_told(tmp_path: Path) -> None:
    assert refused(f"sqlite:///{tmp_path}").why == "it is a folder"
    with closing(sqlite3.connect(tmp_path / "x.db", isolation_level=None)) as writer:
        writer.execute("CREATE TABLE t (a)")
        writer.execute("PRAGMA cache_size = 1")
        writer.execute("BEGIN")
        writer.execute("WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 9999) INSERT INTO t SELECT i FROM n")
        for name in ("x.db", "x.db-journal"):  # a copy is as a file whose writer died
            (tmp_path / name.replace("x", "y")).write_bytes((tmp_path / name).read_bytes())
    error = refused(f"sqlite:///{tmp_path}/y.db")
    assert error.why == "SQLITE_READONLY_ROLLBACK" and "Open the database once for writing" in str(error)


def test_a_file_that_is_no_database_is_told_by_its_code(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text(CANARY * 200)
    error = refused(f"sqlite:///{tmp_path}/x.db")
    assert error.why == "SQLITE_NOTADB"
    assert CANARY not in "".join(traceback.format_exception(error))


def test_a_locked_database_may_be_tried_again(db: Db) -> None:
    db.run("PRAGMA journal_mode = DELETE; BEGIN EXCLUSIVE")
    error = refused(db.url)
    assert isinstance(error, SourceUnavailable)
    assert error.why == "SQLITE_BUSY"
    db.writer.execute("ROLLBACK")
    assert db.snapshot().existing_relations([]) == {}


def test_a_damaged_page_fails_the_table_it_is_in(db: Db) -> None:
    db.run(
        f"CREATE TABLE good (a); INSERT INTO good VALUES (1); CREATE TABLE t (a); WITH RECURSIVE g(n) AS"
        f"(SELECT 1 UNION ALL SELECT n + 1 FROM g LIMIT 3000) INSERT INTO t SELECT '{CANARY}' || n FROM g;"
        "PRAGMA wal_checkpoint(TRUNCATE)"
    )
    with db.path.open("r+b") as file:
        file.seek(db.path.stat().st_size - 3 * 4096)
        file.write(b"\xee" * 4096)
    snapshot, info = db.table("t")
    with pytest.raises(TableError) as caught:
        read(snapshot, info, lambda block: None)
    assert str(caught.value.why).startswith("SQLITE_CORRUPT")
    assert CANARY not in "".join(traceback.format_exception(caught.value))
    assert db.text("good") == '{"a":1}\n'


def test_a_text_that_is_no_utf8_fails_its_table_without_its_value(db: Db) -> None:
    db.run(f"CREATE TABLE t (a); INSERT INTO t VALUES (CAST('{CANARY}' || x'ff' AS TEXT))")
    snapshot, info = db.table("t")
    with pytest.raises(TableError, match="not valid UTF-8") as caught:
        read(snapshot, info, lambda block: None)
    assert CANARY not in "".join(traceback.format_exception(caught.value)) + repr(caught.value)


@pytest.mark.parametrize(
    ("where", "says"),
    [
        (f"nosuch('{CANARY}')", "SQLite refuses it"),
        (f"a = '{CANARY}' GROUP BY a", "SQLite refuses it"),
        (f"nmae = '{CANARY}'", r"the table has no column nmae \(SQLITE_ERROR\)\n  Did you mean name\?"),
        (f"t.nmae = '{CANARY}'", r"no column t\.nmae"),
        (f'"nmae" <> \'"{CANARY}"\'', r"the table has no column nmae"),
        ("a = Smith", r"uses a column that the table does not have \(SQLITE_ERROR\)\n.*single quotes"),
    ],
)
def test_a_filter_that_is_no_condition_is_refused_before_anything_is_read(db: Db, where: str, says: str) -> None:
    db.run("CREATE TABLE t (a, name)")
    with pytest.raises(ConfigError, match=says) as caught:
        db.table("t", rules=rule(where))
    assert caught.value.on == "tables.rules.main.t.where"
    assert "Smith" not in str(caught.value)
    assert CANARY not in "".join(traceback.format_exception(caught.value)) + repr(caught.value)


def test_a_filter_can_name_columns_in_every_kind_of_quotes(db: Db) -> None:
    db.run('CREATE TABLE t ("a""b`c" INT, "d e" INT)')
    db.run("INSERT INTO t VALUES (1, 2), (3, 4)")
    where = """"a""b`c" = 1 AND [d e] = 2 AND `d e` <> '"no column"'"""
    assert db.rows("t", rules=rule(where)) == [{'a"b`c': 1, "d e": 2}]


def test_a_filter_on_a_view_that_is_broken_is_not_at_fault(db: Db) -> None:
    db.run("CREATE TABLE t (a); CREATE VIEW v AS SELECT a AS b FROM t; DROP TABLE t; CREATE TABLE t (c)")
    assert db.snapshot().tables(Selection(include=("v",), rules={"v": TableRule(where="b > 1")}), "")


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        f"sqlite://{CANARY}/x.db",
        f"sqlite:///x.db?key={CANARY}",
        f"sqlite+pysqlcipher://:{CANARY}@/x.db",
        f"postgresql://u:{CANARY}@h/x",
        CANARY,
    ],
)
def test_a_url_that_names_no_file_is_a_config_error_that_does_not_repeat_it(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        sqlite_source(url)
    assert CANARY not in "".join(traceback.format_exception(caught.value))
    assert "sqlite:///file.db" in str(caught.value)
