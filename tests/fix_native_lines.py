"""Tables of random types and values, and their lines by both makers: the native encoder and the server.

Values are texts that PostgreSQL reads, so that each one passes the type's own input function.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import date, time
from typing import NamedTuple

from hypothesis import strategies as st

from fix_postgres import PgDatabase
from floodmark.config import Limits, Secret, Selection, TableRule
from floodmark.model import Chunk, Format
from floodmark.native import EncoderName
from floodmark.source.postgres.snapshot import PostgresSource

Values = st.SearchStrategy[str]


class Kind(NamedTuple):
    """A type as SQL spells it, the texts of its values, and the cast from text if the plain one does not do."""

    type: str
    values: Values
    cast: str = "{}::{}"


SPECIAL = "\"\\/\x7f,;{}[]()<>=:&' \t\n\r\b\f\x0b\x01\x1f\x00\u2028é€🦀\ufeff\uffff".replace("\x00", "")
TEXTS = st.text(
    st.sampled_from(SPECIAL) | st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12
)
ASCII = st.text(
    st.sampled_from([one for one in SPECIAL if one.isascii()]) | st.characters(min_codepoint=1, max_codepoint=127),
    max_size=12,
)
INFINITE = ("infinity", "-infinity")
LARGE_NUMERICS = st.sampled_from(
    (
        "NaN",
        "Infinity",
        "-Infinity",
        "0",
        "-0.00",
        "0." + "0" * 16382 + "1",
        "9" * 16383,
        "-1" + "0" * 131071,
        "1e-16383",
        "1e131071",
    )
)
NUMERICS = st.decimals(allow_nan=False, allow_infinity=False).map(lambda n: f"{n:f}"[:900]) | LARGE_NUMERICS
UNQUOTED = st.sampled_from(
    [0.0, -0.0, 1e15, 1e14, 123456.0, 1e-5, 0.0001, 5e-324, 2.0**53, 2.0**63, 1.7976931348623157e308]
)


def _numbers(width: int) -> Values:
    edge = UNQUOTED.filter(lambda n: width == 64 or n == 0 or 1e-37 < abs(n) < 1e38)
    every = st.floats(width=width, allow_subnormal=width == 64) | edge  # type: ignore[arg-type]
    return every.map(lambda n: repr(n).replace("inf", "Infinity"))


def _integers(bits: int) -> Values:
    least, most = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return (st.integers(least, most) | st.sampled_from((least, most, 0, -1, 10))).map(str)


def _of_year(text: Callable[[int, str], str], first: int, last: int) -> Values:
    """Moments from a year before Christ (a negative number) on."""
    years = st.integers(first, last) | st.sampled_from((first, last, -1, 1, 1999, 2000, 9999, 10000))
    return st.builds(
        text, years.filter(bool), st.dates(date(2023, 1, 1), date(2023, 12, 31)).map(lambda day: f"{day:%m-%d}")
    )


def _day(year: int, rest: str) -> str:
    return f"{abs(year):04d}-{rest}{' BC' if year < 0 else ''}"


def _moments(first: int, last: int, zone: bool) -> Values:
    def text(year: int, rest: str, at: str, offset: str) -> str:
        return f"{abs(year):04d}-{rest} {at}{offset if zone else ''}{' BC' if year < 0 else ''}"

    years = st.integers(first, last) | st.sampled_from((first, last, -1, 1, 2000))
    days = st.dates(date(2023, 1, 2), date(2023, 12, 30)).map(lambda day: f"{day:%m-%d}")
    offsets = st.sampled_from(("+00", "-12:30", "+05:45", "+15:59:59"))
    return st.builds(text, years.filter(bool), days, TIMES, offsets) | st.sampled_from(INFINITE)


TIMES = st.times().map(time.isoformat) | st.sampled_from(
    ("24:00:00", "23:59:60", "00:00:00", "12:00:00.1", "23:59:59.999999")
)
ZONES = st.sampled_from(("+00", "-15:59:59", "+15:59", "+05:45", "-00:00:01", "+01"))


def _interval(parts: tuple[int, int, int]) -> str:
    months, days, micros = parts
    return f"{months} months {days} days {micros} microseconds"


WHOLES = st.integers(-(2**31), 2**31 - 1) | st.integers(-40, 40)
INTERVALS = st.tuples(WHOLES, WHOLES, st.integers(-(2**62), 2**62) | st.integers(-(10**8), 10**8)).map(_interval)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
JSONB = st.builds(
    lambda value, plain: json.dumps(value, ensure_ascii=plain), JSON_VALUES, st.booleans()
) | st.sampled_from(("1e400", "-0", "1.50", '"\\u00e9\\t"', "12345678901234567890.10"))
JSON = st.builds(
    lambda value, indent: json.dumps(value, ensure_ascii=False, indent=indent), JSON_VALUES, st.sampled_from((None, 1))
) | st.sampled_from(('{"a" :\r\n\t1, "a":2}', " [1 ,\n2 ] ", '"\\u0000\\ud834\\udd1e"', "\n null\n", "1E400"))
BYTES = st.binary(max_size=9).map(lambda data: f"\\x{data.hex()}")
LABELS = ("red", 'gr"een', "back\\slash", "new\nline", "", "{brace,}", "NULL", "ünïcode")


def _array(elements: Values) -> Values:
    """Arrays of up to three dimensions, with nulls, and with bounds other than 1."""

    def quoted(value: str | None) -> str:
        if value is None:
            return "NULL"
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    def text(sizes: Sequence[int], values: Sequence[str | None], lower: int | None) -> str:
        items = [quoted(value) for value in values]
        for size in reversed(sizes):
            items = ["{" + ",".join(items[at : at + size]) + "}" for at in range(0, len(items), size)]
        bounds = "" if lower is None else "".join(f"[{lower}:{lower + size - 1}]" for size in sizes) + "="
        return bounds + items[0]

    def of(sizes: list[int]) -> Values:
        number = 1
        for size in sizes:
            number *= size
        values = st.lists(st.none() | elements, min_size=number, max_size=number)
        return st.builds(text, st.just(sizes), values, st.sampled_from((None, None, 0, -3, 7)))

    return st.just("{}") | st.lists(st.integers(1, 3), min_size=1, max_size=3).flatmap(of)


SCALARS: dict[str, Kind] = {
    "bool": Kind("boolean", st.sampled_from(("t", "f"))),
    "int2": Kind("smallint", _integers(16)),
    "int4": Kind("integer", _integers(32)),
    "int8": Kind("bigint", _integers(64)),
    "oid": Kind("oid", st.integers(0, 2**32 - 1).map(str)),
    "float4": Kind("real", _numbers(32)),
    "float8": Kind("double precision", _numbers(64)),
    "numeric": Kind("numeric", NUMERICS),
    "money_like": Kind("numeric(20,4)", st.integers(-(10**14), 10**14).map(lambda n: f"{n / 10000:.4f}")),
    "text": Kind("text", TEXTS),
    "varchar": Kind("varchar(12)", TEXTS),
    "bpchar": Kind("character(12)", TEXTS),
    "name": Kind("name", TEXTS),
    "char": Kind('"char"', st.integers(-128, 127).map(str), "{}::int::{}"),
    "json": Kind("json", JSON),
    "jsonb": Kind("jsonb", JSONB),
    "uuid": Kind("uuid", st.uuids().map(str)),
    "date": Kind("date", _of_year(_day, -4713, 5874897) | st.sampled_from(INFINITE)),
    "time": Kind("time", TIMES),
    "time3": Kind("time(3)", TIMES),
    "timetz": Kind("timetz", st.builds(lambda at, zone: at + zone, TIMES, ZONES)),
    "timestamp": Kind("timestamp", _moments(-4713, 294275, False)),
    "timestamptz": Kind("timestamptz", _moments(-4712, 294275, True)),
    "interval": Kind("interval", INTERVALS),
    "bytea": Kind("bytea", BYTES),
    "mood": Kind("mood", st.sampled_from(LABELS)),
}
ARRAYS = {
    f"{name}[]": Kind(f"{SCALARS[name].type}[]", _array(SCALARS[name].values))
    for name in SCALARS
    if name not in ("char", "numeric")
}
POINTS = st.tuples(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9)).map(lambda p: f"({p[0]!r},{p[1]!r})")
BITS = st.text("01", min_size=5, max_size=5)
PAIRS = st.builds(lambda x, y: f'({x},"{y}")', _integers(32), st.sampled_from(("", "a b", "q", "x\\\\y", "é\n")))
# The server sends these as text.
OTHERS: dict[str, Kind] = {
    "money": Kind("money", st.integers(-(10**10), 10**10).map(lambda n: f"{n / 100:.2f}")),
    "inet": Kind("inet", st.ip_addresses().map(str)),
    "cidr": Kind("cidr", st.ip_addresses(v=4).map(lambda one: f"{one}/32")),
    "macaddr": Kind("macaddr", st.binary(min_size=6, max_size=6).map(lambda data: data.hex(":"))),
    "bit": Kind("bit(5)", BITS),
    "varbit": Kind("bit varying", BITS),
    "point": Kind("point", POINTS),
    "lseg": Kind("lseg", st.tuples(POINTS, POINTS).map(lambda ends: f"[{ends[0]},{ends[1]}]")),
    "range": Kind("int4range", st.integers(-9, 9).map(lambda n: f"[{n},{n + 5})") | st.just("empty")),
    "multirange": Kind("int4multirange", st.integers(-9, 9).map(lambda n: f"{{[{n},{n + 5}),[{n + 9},)}}")),
    "tsvector": Kind("tsvector", st.sampled_from(("a:1 b:2A", "", "'it''s':3"))),
    "pair": Kind("pair", PAIRS),
    "pair[]": Kind("pair[]", _array(PAIRS)),
    "shouted": Kind("shouted", st.sampled_from(("loud", "louder"))),  # an enum with a cast to json
    "xid": Kind("xid", st.integers(0, 2**32 - 1).map(str)),
    "pg_lsn": Kind("pg_lsn", st.sampled_from(("0/0", "16/B374D848"))),
    "vector": Kind("int2vector", st.sampled_from(("", "1 2 3"))),
    "words": Kind("words", _array(TEXTS)),  # a domain over an array
    "prices": Kind("price[]", _array(st.integers(0, 999).map(lambda n: f"{n / 100}"))),  # an array of a domain
}
KINDS = {**SCALARS, **ARRAYS, **OTHERS}
NO_LATIN = ("json", "jsonb", "mood")

TYPES = r"""
    CREATE TYPE mood AS ENUM ('before', 'gr"een', 'back\\slash', E'new\\nline', '', '{brace,}', 'NULL', 'ünïcode');
    ALTER TYPE mood RENAME VALUE 'before' TO 'red';
    CREATE TYPE pair AS (x int, y text);
    CREATE TYPE shouted AS ENUM ('loud', 'louder');
    CREATE FUNCTION shout(shouted) RETURNS json LANGUAGE sql
        AS $$ SELECT json_build_object('shout', upper($1::text)) $$;
    CREATE CAST (shouted AS json) WITH FUNCTION shout(shouted);
    CREATE DOMAIN words AS text[]; CREATE DOMAIN price AS numeric(9,2);
""".replace("\\\\", "\\")


def kinds_on(version: int) -> dict[str, Kind]:
    """The kinds as a version takes them: intervals can be infinite from 17 on, "char" reads bytes from any integer."""
    if version < 17:
        return KINDS
    endless = Kind("interval", INTERVALS | st.sampled_from(INFINITE))
    return {**KINDS, "interval": endless, "interval[]": Kind("interval[]", _array(endless.values))}


class Drawn(NamedTuple):
    """A drawn table: its columns with their kinds, a domain or not, and the rows."""

    columns: tuple[tuple[str, Kind, bool], ...]
    rows: tuple[tuple[str | None, ...], ...]


NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda name: len(name.encode()) < 60
) | st.sampled_from(
    ('quo"te', "back\\slash", "new\nline", "%s", "\\.", "a,b", "xmin ", "floodmark mark 0", "r", "\x7f")
)


def tables(
    version: int, most_rows: int = 8, names: Values = NAMES, leave_out: Sequence[str] = ()
) -> st.SearchStrategy[Drawn]:
    kinds = {name: kind for name, kind in kinds_on(version).items() if name not in leave_out}

    def with_rows(columns: list[tuple[str, str, bool]]) -> st.SearchStrategy[Drawn]:
        chosen = tuple((name, kinds[kind], domain) for name, kind, domain in columns)
        row = st.tuples(*(st.none() | kind.values for _, kind, _ in chosen))
        return st.builds(Drawn, st.just(chosen), st.lists(row, min_size=1, max_size=most_rows).map(tuple))

    column = st.tuples(names, st.sampled_from(sorted(kinds)), st.booleans())
    return st.lists(column, max_size=9, unique_by=lambda one: one[0]).flatmap(with_rows)


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def create(database: PgDatabase, drawn: Drawn, table: str = "t") -> None:
    """Make the table, with a domain for each column that wants one, and its rows."""
    database.execute(f"DROP TABLE IF EXISTS {table}")
    items = []
    for number, (name, kind, domain) in enumerate(drawn.columns):
        if domain:
            database.execute(f"DROP DOMAIN IF EXISTS d{number}; CREATE DOMAIN d{number} AS {kind.type}")
        items.append(f"{quoted(name)} {f'd{number}' if domain else kind.type}")
    database.execute(f"CREATE TABLE {table} ({', '.join(items)})")
    if not drawn.columns:
        database.execute(f"INSERT INTO {table} SELECT FROM generate_series(1, {len(drawn.rows)})")
        return
    casts = ", ".join(kind.cast.format("%s", kind.type) for _, kind, _ in drawn.columns)
    for row in drawn.rows:
        database.execute(f"INSERT INTO {table} VALUES ({casts})".replace("%", "%"), row)


def lines_by(
    url: str, maker: EncoderName, row_format: Format, table: str = "t", rule: TableRule | None = None
) -> tuple[bytes, int]:
    """Return a table's lines and their number, as a run would read them."""
    rules = {} if rule is None else {f"public.{table}": rule}
    snapshot = PostgresSource(Secret(url), Limits(), Secret("key"), row_format, maker).snapshot()
    try:
        assert snapshot.line_maker.name == maker
        (info,) = snapshot.tables(Selection(include=(f"public.{table}",), rules=rules, mask_key=Secret("key")), "")
        blocks: list[bytes] = []
        got = [
            snapshot.extract(info, part, Chunk(part.id, 0), True, lambda block: blocks.append(bytes(block)))
            for part in info.parts
        ]
    finally:
        snapshot.close()
    return b"".join(blocks), sum(one.lines for one in got)


def assert_same_lines(url: str, table: str = "t", rule: TableRule | None = None) -> int:
    """Compare both makers in both formats. Return the number of lines."""
    number = 0
    for row_format in ("jsonl", "csv"):
        expected, number = lines_by(url, "server", row_format, table, rule)
        found, also = lines_by(url, "native", row_format, table, rule)
        if found != expected:
            for one, other in zip(found.split(b"\n"), expected.split(b"\n"), strict=False):
                assert one == other, row_format
        assert (found, also) == (expected, number)
    return number
