"""Every type of MariaDB: landed as the mariadb client prints it, in JSON's form (docs/format.md)."""

from __future__ import annotations

import hashlib
import hmac
import json
import struct
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from typing import Any

import pytest

from fix_mariadb import MariaCluster, MyDatabase
from fix_sql import chunks_in, text_of
from floodmark.config import ColumnRule, Limits, Secret, Selection, TableRule
from floodmark.observed import Question
from floodmark.source.sql.facts import SqlOptions
from floodmark.source.sql.opening import open_sql_source
from floodmark.source.sql.snapshot import SqlSource

KEY = Secret("a key")


def same(printed: str) -> Any:
    return printed


def number(printed: str) -> Any:
    return int(printed)


def moment(printed: str) -> str:
    return printed.replace(" ", "T")


def in_utc(printed: str) -> str:
    return f"{printed.replace(' ', 'T')}+00:00"


# A column's type, some values as SQL, and what makes the landed value of what the client prints.
TYPES: dict[str, tuple[str, list[str], Callable[[str], Any]]] = {
    "tinyint": ("tinyint", ["-128", "127"], number),
    "bool": ("tinyint(1)", ["0", "1", "2"], number),
    "smallint": ("smallint", ["-32768", "32767"], number),
    "mediumint": ("mediumint unsigned", ["0", "16777215"], number),
    "zerofill": ("int(8) zerofill", ["42", "0"], number),
    "bigint": ("bigint", ["-9223372036854775808", "9223372036854775807"], number),
    "unsigned": ("bigint unsigned", ["18446744073709551615", "0"], number),
    "decimal": ("decimal(65,30)", [f"{'9' * 35}.{'8' * 30}", "-0.5", "0", "1e-30"], Decimal),
    "decimal zerofill": ("decimal(10,2) zerofill", ["1.5", "0", "0.25"], Decimal),
    "decimal without scale": ("decimal(65,0)", ["9" * 65, "-1"], Decimal),
    "double": ("double", ["0.1", "1e308", "-2.5e-308", "1/3e0", "1e15", "0", "123456789012345680"], float),
    "double with digits": ("double(10,3)", ["1.5", "1234567.125"], float),
    "year": ("year", ["0", "1901", "2155"], number),
    "date": ("date", ["'2024-01-31'", "'0000-00-00'", "'2024-00-00'", "'2024-02-31'", "'9999-12-31'"], same),
    "datetime": ("datetime", ["'2024-01-31 12:34:56'", "'0000-00-00 00:00:00'", "'1000-01-01'"], moment),
    "datetime(6)": ("datetime(6)", ["'2024-01-31 12:34:56.5'", "'2024-02-31 00:00:00.000001'"], moment),
    "datetime(1)": ("datetime(1)", ["'2024-01-31 12:34:56.5'", "'2024-01-31'"], moment),
    "timestamp": (
        "timestamp null",
        ["'2024-07-01 12:00:00'", "'0000-00-00 00:00:00'", "'2038-01-19 03:14:07'"],
        in_utc,
    ),
    "timestamp(3)": ("timestamp(3) null", ["'1970-01-01 00:00:01.25'"], in_utc),
    "time": ("time", ["'838:59:59'", "'-838:59:59'", "'00:00:00'"], same),
    "time(6)": ("time(6)", ["'-12:00:00.5'", "'100:00:00.000001'"], same),
    "char": ("char(10)", ["'a '", "''", "'é'"], same),
    "char of latin1": ("char(10) character set latin1", ["'é'", "'€'"], same),
    "varchar": ("varchar(100)", ["'😀 \"quoted\" back\\\\slash'", "' trailing '", "''", "'NULL'"], same),
    "varchar of latin1": ("varchar(100) character set latin1", ["'naïve'"], same),
    "varchar of utf16": ("varchar(100) character set utf16", ["'日本 😀'"], same),
    "varchar of utf8mb3": ("varchar(100) character set utf8mb3", ["'日本'"], same),
    "text": ("longtext", ["'line'", "REPEAT('xé', 100000)"], same),
    "enum": ("enum('a','é','it''s')", ["'a'", "'é'", "'it''s'", "''"], same),
    "set": ("set('x','y','é')", ["'x,é'", "'y'", "''"], same),
    "uuid": ("uuid", ["'123e4567-e89b-12d3-a456-426655440000'"], same),
    "inet6": ("inet6", ["'::1'", "'2001:db8::ff00:42:8329'"], same),
    "inet4": ("inet4", ["'192.0.2.1'"], same),
    "json": ("json", ["'{\"a\": [1, 2.50, null]}'", "'\"text\"'", "'12345678901234567890.10'", "'[]'"], json.loads),
    "generated": ("int as (id + 1) stored", ["DEFAULT"], number),
    "virtual": ("varchar(30) as (concat('n', id)) virtual", ["DEFAULT"], same),
    "invisible": ("int invisible", ["5"], number),
}


@pytest.mark.parametrize("kind", TYPES)
def test_a_value_is_what_the_client_prints(my: MyDatabase, kind: str) -> None:
    declared, values, meant = TYPES[kind]
    my.execute("SET SESSION sql_mode = 'ALLOW_INVALID_DATES'", "SET SESSION time_zone = '+00:00'")
    my.execute(f"CREATE TABLE t (id int PRIMARY KEY, v {declared}) CHARACTER SET utf8mb4")
    for number_, value in enumerate(values):
        my.execute(f"INSERT INTO t (id, v) VALUES ({number_}, {value})")
    if "DEFAULT" not in values:
        my.execute(f"INSERT INTO t (id, v) VALUES ({len(values)}, NULL)")
    landed = lines(my)
    for line in landed:
        printed = my.printed(f"SET time_zone = '+00:00'; SELECT v FROM t WHERE id = {line['id']}", "--raw")
        expected = printed.decode().removesuffix("\n")
        is_null = my.value(f"SELECT v IS NULL FROM t WHERE id = {line['id']}")
        assert line["v"] == (None if is_null else meant(expected))
    assert len(landed) == len(values) + ("DEFAULT" not in values)


def test_binary_values_are_the_bytes_that_the_client_prints(my: MyDatabase) -> None:
    my.execute(
        "CREATE TABLE t (id int PRIMARY KEY, b binary(4), v varbinary(10), l longblob, g geometry, p point, "
        "t varchar(10) CHARACTER SET binary)",
        "INSERT INTO t VALUES (1, x'01', x'00FF', x'8081', ST_GeomFromText('LINESTRING(0 0,1 2)'), "
        "ST_GeomFromText('POINT(1 2)'), x'E9')",
    )
    (line,) = lines(my)
    for name in "bvlgpt":
        printed = my.printed(f"SELECT {name} FROM t", "--raw", "--binary-mode").removesuffix(b"\n")
        assert line[name] == f"\\x{printed.hex()}"


def test_bits_are_all_their_digits(my: MyDatabase) -> None:
    my.execute("CREATE TABLE t (id int PRIMARY KEY, a bit(1), b bit(10), c bit(64))")
    my.execute(f"INSERT INTO t VALUES (1, b'1', b'101', b'{'1' * 64}'), (2, b'0', b'0', b'0'), (3, NULL, NULL, NULL)")
    assert [(line["a"], line["b"], line["c"]) for line in lines(my)] == [
        ("1", "0000000101", "1" * 64),
        ("0", "0000000000", "0" * 64),
        (None, None, None),
    ]


def test_a_float_is_the_shortest_number_that_reads_back_as_it(my: MyDatabase) -> None:
    values = ["0.1", "3.14159274", "16777216", "-1.17549435e-38", "3.4028e38", "1e-45", "0"]
    my.execute("CREATE TABLE t (id int PRIMARY KEY, f float, d float(10,2))")
    for number_, value in enumerate(values):
        my.execute(f"INSERT INTO t VALUES ({number_}, {value}, 1.1)")
    for line, value in zip(lines(my), values, strict=True):
        stored = struct.unpack("f", struct.pack("f", float(value)))[0]
        assert struct.unpack("f", struct.pack("f", line["f"]))[0] == pytest.approx(stored, rel=1e-7, abs=1e-45)
        assert len(repr(line["f"])) <= len(repr(stored))
        assert line["d"] == 1.1


def test_json_is_embedded_on_one_line_and_a_text_that_is_none_is_a_string(my: MyDatabase) -> None:
    my.execute("CREATE TABLE t (id int PRIMARY KEY, j longtext COLLATE utf8mb4_bin, l longtext)")
    my.execute("CREATE TABLE u (id int PRIMARY KEY, `j``k` json, l longtext)")
    my.insert("INSERT INTO u VALUES (%s, %s, %s)", [(1, '{"a":\n 1.50}', "[1]")])
    my.insert("INSERT INTO t VALUES (%s, %s, %s)", [(1, '{"a": 1}', "")])
    assert raw(my, "u") == b'{"id":1,"j`k":{"a":  1.50},"l":"[1]"}\n'
    assert raw(my, "t") == b'{"id":1,"j":"{\\"a\\": 1}","l":""}\n'


def test_only_current_rows_of_a_versioned_table_are_landed(my: MyDatabase) -> None:
    my.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v int) WITH SYSTEM VERSIONING",
        "INSERT INTO t VALUES (1, 1)",
        "UPDATE t SET v = 2",
        "DELETE FROM t",
        "INSERT INTO t VALUES (1, 3)",
    )
    assert lines(my) == [{"id": 1, "v": 3}]


@pytest.mark.parametrize(
    "settings",
    [
        {"default-time-zone": "-08:00"},
        {"sql-mode": "ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH,PIPES_AS_CONCAT"},
        {"character-set-server": "latin1", "lc-time-names": "de_DE"},
    ],
    ids=["time zone", "sql_mode", "latin1"],
)
def test_the_server_s_settings_do_not_shape_values(
    make_mariadb: Callable[..., MariaCluster], settings: dict[str, str]
) -> None:
    with closing(make_mariadb(settings=settings).database()) as database:
        database.execute(
            "SET SESSION time_zone = '+00:00'",
            "CREATE TABLE t (id int PRIMARY KEY, c char(9), t timestamp NULL, s varchar(9)) CHARACTER SET utf8mb4",
            "INSERT INTO t VALUES (1, 'a', '2024-07-01 12:00:00', 'it''s é')",
        )
        assert lines(database) == [{"id": 1, "c": "a", "t": "2024-07-01T12:00:00+00:00", "s": "it's é"}]
        assert digest(database) == digest(database)


def test_masks_and_the_same_hash_as_postgresql_s(my: MyDatabase) -> None:
    my.execute("CREATE TABLE t (id int PRIMARY KEY, a varchar(10), b varchar(10), c varchar(10), d int, e int)")
    my.execute("INSERT INTO t VALUES (1, 'é', 'x', 'y', 5, 6), (2, NULL, NULL, NULL, NULL, NULL)")
    masks = {"a": "hash", "b": "redact", "c": "null", "d": "hash"}
    rule = TableRule(columns=ColumnRule(mask=masks, exclude=("e",)))
    first, second = (json.loads(line) for line in raw(my, "t", rules={"t": rule}, mask_key=KEY).splitlines())
    assert first == {"id": 1, "a": hashed("é"), "b": "REDACTED", "c": None, "d": hashed("5")}
    assert second == {"id": 2, "a": None, "b": None, "c": None, "d": None}


def hashed(text: str) -> str:
    return hmac.new(KEY.reveal().encode(), text.encode(), hashlib.sha256).hexdigest()


def test_a_text_that_its_column_can_t_hold_is_an_error_without_the_value(my: MyDatabase) -> None:
    """Bytes that are not UTF-8 come into a column only by a bug, or by an import of files."""
    my.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v varbinary(20))", "INSERT INTO t VALUES (1, CONCAT('canary', x'FF'))"
    )
    my.execute("CREATE VIEW w AS SELECT id, CONVERT(v USING utf8mb4) v FROM t")
    assert "canary?" in raw(my, "w").decode() or "canary" in raw(my, "w").decode()


# Digests


CHANGES = {
    "NULL and empty": ("a = NULL", "a = ''"),
    "empty and blank": ("a = ''", "a = ' '"),
    "between two columns": ("a = 'x', b = 'yz'", "a = 'xy', b = 'z'"),
    "between two columns, NULL": ("a = 'x', b = NULL", "a = NULL, b = 'x'"),
    "the letter that stands for NULL": ("a = 'N,'", "a = NULL"),
    "upper and lower case": ("a = 'a'", "a = 'A'"),
    "an accent": ("a = 'e'", "a = 'é'"),
    "trailing blank": ("a = 'x'", "a = 'x '"),
    "a number's last digit": ("d = 1e-10", "d = 1.0000000000000002e-10"),
    "a float beyond six digits": ("f = 16777215", "f = 16777214"),
    "a decimal's last digit": ("n = 0.000000001", "n = 0.000000002"),
    "bits": ("z = b'1'", "z = b'11'"),
    "a long text's end": ("l = CONCAT(REPEAT('x', 300000), 'a')", "l = CONCAT(REPEAT('x', 300000), 'b')"),
    "a blob": ("k = x'00'", "k = x'0000'"),
    "a point": ("g = POINT(1, 2)", "g = POINT(2, 1)"),
    "microseconds": ("t = '2024-01-01 00:00:00.000001'", "t = '2024-01-01 00:00:00.000002'"),
    "json": ("j = '{\"a\":1}'", "j = '{\"a\": 1}'"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_digest_changes_with_every_value_and_only_then(my: MyDatabase, kind: str) -> None:
    my.execute(
        "CREATE TABLE t (id int PRIMARY KEY, a varchar(10) COLLATE utf8mb4_general_ci, b varchar(10), d double, "
        "f float, n decimal(20,9), z bit(8), l longtext, k blob, g geometry, t datetime(6), j json)"
    )
    my.execute("INSERT INTO t (id) VALUES (1), (2), (3)")
    before, after = CHANGES[kind]
    my.execute(f"UPDATE t SET {before} WHERE id = 2")
    first = digest(my)
    assert first is not None and digest(my) == first
    my.execute(f"UPDATE t SET {after} WHERE id = 2")
    assert digest(my) not in (None, first)
    my.execute(f"UPDATE t SET {before} WHERE id = 2")
    assert digest(my) == first


def test_a_digest_covers_which_row_has_which_value(my: MyDatabase) -> None:
    my.execute("CREATE TABLE t (id int PRIMARY KEY, v int)", "INSERT INTO t VALUES (1, 1), (2, 2)")
    first = digest(my)
    my.execute("UPDATE t SET v = 3 - v")
    assert digest(my) not in (None, first)
    my.execute("DELETE FROM t WHERE id = 2")
    assert digest(my) not in (None, first)


def test_a_digest_covers_what_lands_and_no_more(my: MyDatabase) -> None:
    my.execute("CREATE TABLE t (id int PRIMARY KEY, a varchar(9), b varchar(9))", "INSERT INTO t VALUES (1, 'x', 'y')")
    rules = {"t": TableRule(columns=ColumnRule(exclude=("a",), mask={"b": "redact"}), where="id < 10")}
    first = digest(my, rules=rules)
    my.execute("UPDATE t SET a = 'secret', b = 'other'", "INSERT INTO t VALUES (11, 'left', 'out')")
    assert digest(my, rules=rules) == first
    my.execute("UPDATE t SET b = NULL")
    assert digest(my, rules=rules) not in (None, first)


def test_a_digest_of_hashed_values_depends_on_their_key(my: MyDatabase) -> None:
    my.execute("CREATE TABLE t (id int PRIMARY KEY, a varchar(9))", "INSERT INTO t VALUES (1, 'x')")
    rules = {"t": TableRule(columns=ColumnRule(mask={"a": "hash"}))}
    digests = {digest(my, rules=rules, mask_key=Secret(key)) for key in ("one key", "another")}
    assert len(digests) == 2 and None not in digests


def test_a_row_that_is_too_large_for_a_digest_is_not_proven(make_mariadb: Callable[..., MariaCluster]) -> None:
    server = make_mariadb(settings={"max-allowed-packet": "1M"})
    with closing(server.database()) as database:
        columns = ", ".join(f"c{number_} text" for number_ in range(30))
        database.execute(f"CREATE TABLE t (id int PRIMARY KEY, {columns}, v varbinary(60000))")
        database.execute("INSERT INTO t (id, v) VALUES (1, REPEAT('x', 60000))")
        assert digest(database) is not None


# Helpers


def source(database: MyDatabase, **options: Any) -> SqlSource:
    return open_sql_source(SqlOptions(Secret(database.url), Limits(connections=1), **options))


def raw(database: MyDatabase, table: str = "t", **selection: Any) -> bytes:
    with closing(source(database).snapshot()) as snapshot:
        (info,) = snapshot.tables(Selection(include=(table,), **selection), "")
        return "".join(text_of(snapshot, info, chunk) for chunk in chunks_in(info)).encode()


def lines(database: MyDatabase, table: str = "t") -> list[dict[str, Any]]:
    return [json.loads(line, parse_float=_number) for line in raw(database, table).splitlines()]


class _Number(float):
    """A number that remembers its digits, so that it equals a Decimal only if they are all the same."""

    def __new__(cls, text: str) -> _Number:
        found = super().__new__(cls, text)
        found.text = text
        return found

    text: str

    def __eq__(self, other: object) -> bool:
        return Decimal(self.text) == other if isinstance(other, Decimal) else float(self) == other

    __hash__ = float.__hash__


def _number(text: str) -> _Number:
    return _Number(text)


def digest(database: MyDatabase, **selection: Any) -> str | None:
    with closing(source(database).snapshot()) as snapshot:
        (info,) = snapshot.tables(Selection(include=("t",), **selection), "")
        (part,) = info.parts
        assert part.digests
        (chunk,) = chunks_in(info)
        (seen,) = snapshot.observe([Question(info.table, part, chunk, True, 0)])
        blocks: list[bytes] = []
        extracted = snapshot.extract(info, part, chunk, True, blocks.append)
        assert extracted.observed == seen
        return seen.digest
