"""A database whose rows change at random over several runs, and row changes held against PostgreSQL's own rows."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Sequence

from fix_runs import Nightly, lines_of
from floodmark.reader.reader import Reader
from floodmark.reader.reader import open as open_landed
from floodmark.reader.row_changes import RowChange, TableChange

TABLES = """
CREATE TABLE keyed (id int PRIMARY KEY, n numeric, doc json, pad text) WITH (autovacuum_enabled = off);
CREATE TABLE pairs (a text, b int, n numeric, doc json, pad text, PRIMARY KEY (b, a)) WITH (autovacuum_enabled = off);
CREATE TABLE parts (id int PRIMARY KEY, n numeric, doc json, pad text) PARTITION BY RANGE (id);
CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (MINVALUE) TO (400);
CREATE TABLE parts_high PARTITION OF parts FOR VALUES FROM (400) TO (MAXVALUE);
CREATE TABLE keyless (id int, n numeric, doc json, pad text) WITH (autovacuum_enabled = off);
"""
KEYS = {"keyed": ("id",), "pairs": ("b", "a"), "parts": ("id",), "keyless": None}
_NUMBERS = ("1", "1.0", "1.00", "NULL", "'NaN'", "-12345678901234567890.5")
_DOCUMENTS = ("NULL", """'{"a": 1}'""", """'{"a" :1}'""", r"""'"\ud800"'""", r"""'{"q\"": "x\ny"}'""")
_PAD = "repeat(md5(random()::text), 4)"


class RowHistory:
    """Runs over random acts, and the lines that PostgreSQL gave for each table right after each run."""

    def __init__(self, nightly: Nightly, seed: int) -> None:
        self.nightly, self.chance = nightly, random.Random(seed)
        self.told = Counter[str]()
        self.lines: dict[str, dict[str, Counter[bytes]]] = {}
        nightly.database.execute(TABLES)
        for table in KEYS:
            self._insert(table, 900)
        self.run()

    @property
    def reader(self) -> Reader:
        return open_landed(self.nightly.folder)

    def run(self) -> None:
        manifest = self.nightly.run().manifest
        entries = {entry.name: entry for entry in manifest.tables if entry.checksum and entry.status != "dropped"}
        dsn = self.nightly.database.dsn
        self.lines[manifest.run_id] = {
            name: Counter(line.removesuffix(b"\n") for line in lines_of(dsn, f"public.{name}", entry))
            for name, entry in entries.items()
            if name in KEYS
        }

    def act(self) -> None:
        """Do something to a table."""
        table, chance = self.chance.choice(list(KEYS)), self.chance
        acts = (self._insert, self._update, self._touch, self._delete, self._move, self._rewrite, self._odd)
        weights = (4, 6, 1, 4, 3, 2, 1)
        chance.choices(acts, weights)[0](table, chance.choice((1, 5, 60)))

    def require_right(self, old: str, new: str) -> None:
        """The changes between two runs, applied to the rows of the old one, give the rows of the new one."""
        reader = self.reader
        before, now = reader.run(old), reader.run(new)
        found: dict[str, list[RowChange]] = {}
        read_again: set[str] = set()
        for one in reader.row_changes(before, now):
            if isinstance(one, RowChange):
                found.setdefault(one.table.name, []).append(one)
            else:
                self._whole_table(one, old, new, read_again)
        for name, lines in self.lines[new].items():
            if name in read_again:
                assert name not in found
                continue
            rows = self.lines[old].get(name, Counter())
            keyed = self._key(name) and name in self.lines[old]
            applied = (applied_by_key if keyed else applied_lines)(rows, found.get(name, ()))
            assert applied == lines, f"{name} from {old} to {new}"
            if keyed:
                key = self._key(name)
                pairs = {by_key(line, key): line for line in rows}, {by_key(line, key): line for line in lines}
                expected = sum(pairs[0].get(key) != pairs[1].get(key) for key in {*pairs[0], *pairs[1]})
                assert len(found.get(name, ())) == expected, "a row that is the same is no change"
            self.told.update(f"{'keyed' if keyed else 'lines'}: {one.op}" for one in found.get(name, ()))

    def _key(self, name: str) -> tuple[str, ...]:
        return KEYS[name] or ()

    def _whole_table(self, one: TableChange, old: str, new: str, read_again: set[str]) -> None:
        name = one.table.name
        self.told[one.op] += 1
        if one.op == "gone":
            assert name in self.lines[old] and name not in self.lines[new]
        elif one.op == "created":
            assert name not in self.lines[old] and name in self.lines[new]
        else:
            assert one.op == "schema_changed", one
            read_again.add(name)

    # Acts

    def _insert(self, table: str, number: int) -> None:
        value, document = self.chance.choice(_NUMBERS), self.chance.choice(_DOCUMENTS)
        columns = "a, b" if table == "pairs" else "id"
        keys = "'k' || i % 7, i" if table == "pairs" else "i"
        start = self.chance.randrange(2000)
        ignored = "" if table == "keyless" else "ON CONFLICT DO NOTHING"
        self._execute(
            f"INSERT INTO {table} ({columns}, n, doc, pad) SELECT {keys}, {value}, {document}, {_PAD} "
            f"FROM generate_series({start}, {start + number - 1}) i {ignored}"
        )
        if table == "keyless":  # some rows twice
            self._execute(f"INSERT INTO keyless SELECT * FROM keyless ORDER BY random() LIMIT {min(number, 40)}")

    def _update(self, table: str, number: int) -> None:
        value = self.chance.choice(_NUMBERS)
        self._execute(f"UPDATE {table} SET n = {value} WHERE {self._some(table, number)}")

    def _touch(self, table: str, number: int) -> None:
        """Write rows again as they were: they move, and nothing changes."""
        self._execute(f"UPDATE {table} SET n = n WHERE {self._some(table, number)}")

    def _delete(self, table: str, number: int) -> None:
        self._execute(f"DELETE FROM {table} WHERE {self._some(table, number)}")

    def _move(self, table: str, number: int) -> None:
        """Give rows other keys: in `parts` some then move to the other partition."""
        column = "b" if table == "pairs" else "id"
        shift = self.chance.choice((3000, -3000, 500))
        self._execute(
            f"UPDATE {table} t SET {column} = {column} + {shift} WHERE {self._some(table, number)} "
            f"AND NOT EXISTS (SELECT FROM {table} o WHERE o.{column} = t.{column} + {shift})"
        )

    def _rewrite(self, table: str, number: int) -> None:
        self._execute(self.chance.choice((f"VACUUM FULL {table}", f"VACUUM {table}")))

    def _odd(self, table: str, number: int) -> None:
        self._execute(
            *self.chance.choice(
                (
                    (f"TRUNCATE {table}",),
                    ("ALTER TABLE keyless ADD COLUMN IF NOT EXISTS more int",),
                    ("ALTER TABLE keyless DROP COLUMN IF EXISTS more",),
                    ("DROP TABLE keyless", "CREATE TABLE keyless (id int, n numeric, doc json, pad text)"),
                    (
                        "ALTER TABLE parts DETACH PARTITION parts_low",
                        "DELETE FROM parts_low WHERE id % 3 = 0",
                        "ALTER TABLE parts ATTACH PARTITION parts_low FOR VALUES FROM (MINVALUE) TO (400)",
                    ),
                )
            )
        )

    def _some(self, table: str, number: int) -> str:
        return f"pad IN (SELECT pad FROM {table} ORDER BY random() LIMIT {number})"

    def _execute(self, *statements: str) -> None:
        for statement in statements:
            self.nightly.database.execute(statement)


def by_key(line: bytes, key: Sequence[str]) -> tuple[object, ...]:
    row = json.loads(line, parse_float=str)
    return tuple(row[name] for name in key)


def applied_lines(rows: Counter[bytes], changes: Iterable[RowChange]) -> Counter[bytes]:
    """The rows after changes without a key."""
    result = Counter(rows)
    for one in changes:
        assert one.op in ("insert", "delete")
        line = one.new if one.op == "insert" else one.old
        assert line is not None
        result[line] += 1 if one.op == "insert" else -1
        assert one.op == "insert" or rows[line], "only a row that was there is deleted"
    return +result


def applied_by_key(rows: Counter[bytes], changes: Iterable[RowChange]) -> Counter[bytes]:
    """The rows after changes by key."""
    result, seen = Counter(rows), set[bytes]()
    for one in changes:
        assert one.key is not None and one.key not in seen, "a key changes once"
        seen.add(one.key)
        assert (one.op == "insert", one.op == "delete") == (one.old is None, one.new is None)
        if one.old is not None:
            assert result[one.old] == 1
            result[one.old] -= 1
        if one.new is not None:
            result[one.new] += 1
        if one.old is not None and one.new is not None:
            assert one.old != one.new and one.columns
    return +result
