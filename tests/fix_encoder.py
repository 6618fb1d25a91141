"""Bytes as PostgreSQL sends rows, and random values of each kind in that form."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator, Sequence
from random import Random

OIDS = {
    "bool": 16, "bytea": 17, "char": 18, "int8": 20, "int2": 21, "int4": 23, "text": 25, "oid": 26, "json": 114,
    "float4": 700, "float8": 701, "date": 1082, "time": 1083, "timestamp": 1114, "timestamptz": 1184, "interval": 1186,
    "timetz": 1266, "numeric": 1700, "uuid": 2950, "jsonb": 3802,
}  # fmt: skip
ARRAY_OIDS = {
    "int4": 1007,
    "text": 1009,
    "float8": 1022,
    "numeric": 1231,
    "timestamptz": 1185,
    "json": 199,
    "bytea": 1001,
}
INT64 = 2**63
_DAY = 86_400_000_000
_FIRST_MOMENT, _LAST_MOMENT = -211_813_488_000_000_000, 9_223_371_331_200_000_000 - 1


def field(value: bytes | None) -> bytes:
    return struct.pack(">i", -1) if value is None else struct.pack(">i", len(value)) + value


def record(*fields: tuple[int, bytes | None]) -> bytes:
    """A row as record_send gives it."""
    return struct.pack(">i", len(fields)) + b"".join(struct.pack(">I", oid) + field(value) for oid, value in fields)


def copied(*values: bytes | None) -> bytes:
    """A row as COPY sends it in the binary format."""
    return struct.pack(">h", len(values)) + b"".join(map(field, values))


def numeric(digits: Sequence[int], weight: int, scale: int, sign: int = 0) -> bytes:
    """A numeric: digits to base 10,000, the first one's power, decimal digits after the point."""
    return struct.pack(f">HhHH{len(digits)}H", len(digits), weight, sign, scale, *digits)


def array(oid: int, sizes: Sequence[int], values: Sequence[bytes | None], lower: Sequence[int] | None = None) -> bytes:
    bounds = zip(sizes, lower or [1] * len(sizes), strict=True)
    head = struct.pack(">iiI", len(sizes), None in values, oid)
    return head + b"".join(struct.pack(">ii", *pair) for pair in bounds) + b"".join(map(field, values))


# Random values: mostly of everyday sizes, often extreme


def _int(bits: int) -> Callable[[Random], bytes]:
    least, most = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1

    def one(random: Random) -> bytes:
        number = random.choice(
            [0, least, most, random.randint(least, most), random.getrandbits(random.randint(0, bits - 1))]
        )
        return (number if random.random() < 0.5 or number == least else -number).to_bytes(bits // 8, "big", signed=True)

    return one


def float8(random: Random) -> bytes:
    way = random.randrange(8)
    if way < 3:
        return random.randbytes(8)
    if way == 3:
        number = float(random.randint(-(2**63), 2**63))
    elif way == 4:
        number = random.randint(-(10**9), 10**9) / 10 ** random.randint(0, 12)
    elif way == 5:  # a power of two or ten, and its neighbours
        power = random.choice([2.0 ** random.randint(-1074, 1023), float(f"1e{random.randint(-323, 308)}")])
        number = random.choice([power, math.nextafter(power, math.inf), math.nextafter(power, 0.0), -power])
    elif way == 6:  # a few bits: the decimals that lie exactly on a border are among these
        number = math.ldexp(random.randint(1, 2**10), random.randint(-60, 200))
    else:
        number = random.choice(
            [0.0, -0.0, math.nan, math.inf, -math.inf, 5e-324, 1.7976931348623157e308, 1e15, 1e14, 0.5]
        )
    return struct.pack(">d", number)


def float4(random: Random) -> bytes:
    way = random.randrange(6)
    if way < 3:
        return random.randbytes(4)
    if way == 3:
        number = float(random.randint(-(2**30), 2**30))
    elif way == 4:
        number = random.randint(-(10**6), 10**6) / 10 ** random.randint(0, 8)
    else:
        number = math.ldexp(random.randint(1, 2**6), random.randint(-140, 100))
    return struct.pack(">f", number)


def random_numeric(random: Random) -> bytes:
    way = random.randrange(20)
    if way == 0:
        return numeric([], 0, 0, random.choice([0, 0xC000, 0xD000, 0xF000]))
    long = way == 1 and random.random() < 0.05
    digits = [
        random.choice([0, 1, 9999, random.randrange(10000)]) for _ in range(random.randint(1, 400 if long else 8))
    ]
    weight = random.randint(-300, 300) if long else random.randint(-4, 7)
    scale = random.randint(0, 1200 if long else 30)
    return numeric(digits, weight, scale, random.choice([0, 0x4000]))


def date(random: Random) -> bytes:
    day = random.choice(
        [random.randint(-2_451_545, 2_145_031_948), random.randint(-800_000, 40_000), -(2**31), 2**31 - 1]
    )
    return struct.pack(">i", day)


def _moment(random: Random) -> int:
    way = random.randrange(6)
    if way == 0:
        return random.choice([-INT64, INT64 - 1, _FIRST_MOMENT, _LAST_MOMENT])
    if way == 1:
        return random.randint(_FIRST_MOMENT, _LAST_MOMENT)
    if way == 2:  # near midnight
        return random.randint(-800_000, 60_000) * _DAY + random.randint(-2, 2)
    unit = 10 ** random.randint(0, 6)
    return random.randint(-70_000 * _DAY, 60_000 * _DAY) // unit * unit


def timestamp(random: Random) -> bytes:
    return struct.pack(">q", _moment(random))


def _time_of_day(random: Random) -> int:
    unit = 10 ** random.randint(0, 8)
    return random.choice([0, _DAY, _DAY - 1, random.randint(0, _DAY) // unit * unit])


def time(random: Random) -> bytes:
    return struct.pack(">q", _time_of_day(random))


def timetz(random: Random) -> bytes:
    offset = random.choice(
        [0, random.randint(-57599, 57599), random.randint(-15, 15) * 3600, random.randint(-900, 900) * 60]
    )
    return struct.pack(">qi", _time_of_day(random), offset)


def interval(random: Random) -> bytes:
    way = random.randrange(6)
    if way == 0:
        return random.randbytes(16)
    if way == 1:
        least = random.random() < 0.5
        return struct.pack(">qii", *((-INT64, -(2**31), -(2**31)) if least else (INT64 - 1, 2**31 - 1, 2**31 - 1)))
    unit = 10 ** random.randint(0, 9)
    micros = random.choice([0, random.randint(-10 * _DAY, 10 * _DAY) // unit * unit])
    days, months = (random.choice([0, random.randint(-400, 400)]) for _ in range(2))
    return struct.pack(">qii", micros, days, months)


_LETTERS = list('aZ0 é€𝄞"\\/\x7f,;{}\n\r\t\v\f\b')


def _text(random: Random) -> str:
    way = random.randrange(6)
    if way == 0:
        return random.choice(["", "NULL", "null", "\\.", "NaN", "'", '"', " ", "a,b", "1234567890123456789"])
    if way == 1:
        return "".join(chr(random.randint(1, 0x7F)) for _ in range(random.randint(1, 40)))
    if way == 2:
        return "".join(random.choices(_LETTERS, k=random.randint(1, 60)))
    return "word " * random.randint(0, 30) + random.choice(_LETTERS)


def text(random: Random) -> bytes:
    return _text(random).encode()


def _json(random: Random, depth: int = 0) -> object:
    way = random.randrange(7 if depth < 3 else 5)
    if way == 0:
        return random.choice([None, True, False, 10**18, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 10**30, -(10**19)])
    if way == 1:
        return random.choice([1.5, -0.001, 1e300, 123456789012345678901.5, random.random()])
    if way == 2:
        return random.getrandbits(random.randint(1, 80))
    if way < 5:
        return _text(random).replace("\x00", "")
    if way == 5:
        return [_json(random, depth + 1) for _ in range(random.randint(0, 4))]
    return {_text(random): _json(random, depth + 1) for _ in range(random.randint(0, 4))}


def json_text(random: Random) -> bytes:
    indent = random.choice([None, None, 1])
    line = json.dumps(_json(random), indent=indent, ensure_ascii=random.random() < 0.3)
    return line.replace("\n", random.choice(["\n", "\r\n", "\n\n"])).encode()


def jsonb(random: Random) -> bytes:
    return b"\x01" + json_text(random)


def _array(kind: str) -> Callable[[Random], bytes]:
    def one(random: Random) -> bytes:
        sizes = [random.randint(1, 3) for _ in range(random.choice([0, 1, 1, 1, 2, 3]))]
        lower = [1 if random.random() < 0.8 else random.choice([0, -5, 2, 10**6]) for _ in sizes]
        count = math.prod(sizes) if sizes else 0
        values = [None if random.random() < 0.1 else VALUES[kind](random) for _ in range(count)]
        return array(OIDS[kind], sizes, values, lower)

    return one


VALUES: dict[str, Callable[[Random], bytes]] = {
    "bool": lambda random: bytes([random.randrange(2)]),
    "int2": _int(16),
    "int4": _int(32),
    "int8": _int(64),
    "oid": lambda random: random.randbytes(4),
    "float4": float4,
    "float8": float8,
    "numeric": random_numeric,
    "text": text,
    "char": lambda random: random.randbytes(1),
    "json": json_text,
    "jsonb": jsonb,
    "uuid": lambda random: random.randbytes(16),
    "date": date,
    "time": time,
    "timetz": timetz,
    "timestamp": timestamp,
    "timestamptz": timestamp,
    "interval": interval,
    "bytea": lambda random: random.randbytes(random.choice([0, 1, 2, 40])),
}
VALUES |= {f"array:{kind}": _array(kind) for kind in ARRAY_OIDS}
PG_NAMES = {"char": '"char"'} | {f"array:{kind}": f"{kind}[]" for kind in ARRAY_OIDS}


def rows(random: Random, kinds: Sequence[str], number: int, nulls: float = 0.05) -> Iterator[bytes]:
    """A stream for COPY … FROM STDIN (FORMAT binary)."""
    yield b"PGCOPY\n\xff\r\n\0" + bytes(8)
    for _ in range(number):
        yield copied(*(None if random.random() < nulls else VALUES[kind](random) for kind in kinds))
    yield struct.pack(">h", -1)
