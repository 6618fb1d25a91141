"""Values of each kind, with the texts that PostgreSQL 17 and later give for them in JSON and in CSV."""

from __future__ import annotations

import struct
from typing import NamedTuple

from fix_encoder import array, numeric


class Value(NamedTuple):
    kind: str
    data: bytes
    in_json: str
    in_csv: str


def int4(number: int) -> bytes:
    return struct.pack(">i", number)


def int8(number: int) -> bytes:
    return struct.pack(">q", number)


def float4(number: float) -> bytes:
    return struct.pack(">f", number)


def float8(number: float) -> bytes:
    return struct.pack(">d", number)


def interval(microseconds: int = 0, days: int = 0, months: int = 0) -> bytes:
    return struct.pack(">qii", microseconds, days, months)


def quoted(kind: str, data: bytes, text: str) -> Value:
    """A value whose text stands in quotes in JSON, and bare in CSV."""
    return Value(kind, data, f'"{text}"', text)


def plain(kind: str, data: bytes, text: str) -> Value:
    """A value whose text is the same in both formats."""
    return Value(kind, data, text, text)


DAY, HOUR, SECOND = 86_400_000_000, 3_600_000_000, 1_000_000
MOST64, LEAST64 = 2**63 - 1, -(2**63)

NUMBERS = [
    plain("int2", struct.pack(">h", -32768), "-32768"),
    plain("int2", struct.pack(">h", 0), "0"),
    plain("int4", int4(-(2**31)), "-2147483648"),
    plain("int4", int4(1234567), "1234567"),
    plain("int8", int8(LEAST64), "-9223372036854775808"),
    plain("int8", int8(MOST64), "9223372036854775807"),
    plain("int8", int8(10_000_000_000), "10000000000"),
    quoted("oid", struct.pack(">I", 2**32 - 1), "4294967295"),
    plain("numeric", numeric([], 0, 0), "0"),
    plain("numeric", numeric([], 0, 3), "0.000"),
    plain("numeric", numeric([1], 0, 0, 0x4000), "-1"),
    plain("numeric", numeric([12, 3456, 7000], 1, 1), "123456.7"),
    plain("numeric", numeric([1], 4, 0), "10000000000000000"),
    plain("numeric", numeric([1], -2, 8), "0.00000001"),
    plain("numeric", numeric([5000], -1, 1), "0.5"),
    plain("numeric", numeric([42], 0, 5), "42.00000"),
    plain("numeric", numeric([9999, 9999], 0, 2, 0x4000), "-9999.99"),
    plain("numeric", numeric([1], 32767, 0), "1" + "0" * 131068),
    plain("numeric", numeric([1000], -4096, 16383), "0." + "0" * 16380 + "100"),
    quoted("numeric", numeric([], 0, 0, 0xC000), "NaN"),
    quoted("numeric", numeric([], 0, 0, 0xD000), "Infinity"),
    quoted("numeric", numeric([], 0, 0, 0xF000), "-Infinity"),
]
FLOATS = [
    *(plain("float8", float8(float(text)), text) for text in (
        "0", "-0", "1", "-1.5", "0.1", "100000", "123456789012345", "1e+15", "1.2345678901234567e+19", "0.0001",
        "1e-05", "5e-324", "2.2250738585072014e-308", "1.7976931348623157e+308", "1e+22", "0.30000000000000004",
        "123.456", "-0.00012345", "1e-07", "1e+100",
    )),
    plain("float8", float8(1e23), "9.999999999999999e+22"),  # 1e23 lies exactly on the border to the next float
    plain("float8", float8(2.0**-1017), "7.120236347223045e-307"),  # …044e-307 is nearer, and below the lower border
    plain("float8", float8(9007199254740992.0), "9.007199254740992e+15"),
    quoted("float8", float8(float("nan")), "NaN"),
    quoted("float8", float8(float("inf")), "Infinity"),
    quoted("float8", float8(float("-inf")), "-Infinity"),
    plain("float4", float4(0.1), "0.1"),
    plain("float4", float4(-0.0), "-0"),
    plain("float4", float4(100000), "100000"),
    plain("float4", float4(1000000), "1e+06"),
    plain("float4", float4(1.1754944e-38), "1.1754944e-38"),
    plain("float4", float4(1e-45), "1e-45"),
    plain("float4", float4(3.4028235e38), "3.4028235e+38"),
    plain("float4", float4(16777216), "1.6777216e+07"),
    plain("float4", float4(2.0**33), "8.589935e+09"),
    quoted("float4", float4(float("nan")), "NaN"),
    quoted("float4", float4(float("-inf")), "-Infinity"),
]  # fmt: skip
TEXTS = [
    plain("bool", b"\0", "false")._replace(in_csv="f"),
    plain("bool", b"\1", "true")._replace(in_csv="t"),
    Value("text", b"", '""', '""'),
    quoted("text", b"plain", "plain"),
    quoted("text", "é € 𝄞 \x7f /".encode(), "é € 𝄞 \x7f /"),
    Value("text", b'say "hi", \\ you', '"say \\"hi\\", \\\\ you"', '"say ""hi"", \\ you"'),
    Value("text", b"a\nb\rc\td", '"a\\nb\\rc\\td"', '"a\nb\rc\td"'),
    Value("text", b"\b\f\x01\x0b\x1f", '"\\b\\f\\u0001\\u000b\\u001f"', "\b\f\x01\x0b\x1f"),
    Value("text", b"\\.", '"\\\\."', '"\\."'),
    Value("text", b"x" * 40 + b'"', '"' + "x" * 40 + '\\""', '"' + "x" * 40 + '"""'),
    Value("char", b"\0", '""', '""'),
    quoted("char", b"x", "x"),
    Value("char", b'"', '"\\""', '""""'),
    Value("char", b"\x80", '"\\\\200"', "\\200"),
    Value("char", b"\xff", '"\\\\377"', "\\377"),
    Value("json", b'{"a": 1,\r\n "b": "c"}', '{"a": 1,   "b": "c"}', '"{""a"": 1,\r\n ""b"": ""c""}"'),
    Value("raw", b'{"a":\n"b"}', '{"a": "b"}', '"{""a"":\n""b""}"'),
    Value("raw", b"[1,2]", "[1,2]", '"[1,2]"'),
    Value("jsonb", b'\x01{"a": [1, null]}', '{"a": [1, null]}', '"{""a"": [1, null]}"'),
    quoted("uuid", bytes(range(0, 256, 16)), "00102030-4050-6070-8090-a0b0c0d0e0f0"),
    Value("bytea", b"", '"\\\\x"', "\\x"),
    Value("bytea", b"\x00\xff\x10", '"\\\\x00ff10"', "\\x00ff10"),
]
TIMES = [
    quoted("date", int4(0), "2000-01-01"),
    quoted("date", int4(59), "2000-02-29"),
    quoted("date", int4(-730119), "0001-01-01"),
    quoted("date", int4(-730120), "0001-12-31 BC"),
    quoted("date", int4(-2451545), "4714-11-24 BC"),
    quoted("date", int4(2145031948), "5874897-12-31"),
    quoted("date", int4(2**31 - 1), "infinity"),
    quoted("date", int4(-(2**31)), "-infinity"),
    quoted("time", int8(0), "00:00:00"),
    quoted("time", int8(DAY), "24:00:00"),
    quoted("time", int8(DAY - 1), "23:59:59.999999"),
    quoted("time", int8(HOUR + 1_500_000), "01:00:01.5"),
    quoted("timetz", int8(0) + int4(0), "00:00:00+00"),
    quoted("timetz", int8(12 * HOUR) + int4(-19800), "12:00:00+05:30"),
    quoted("timetz", int8(12 * HOUR) + int4(12615), "12:00:00-03:30:15"),
    quoted("timetz", int8(DAY) + int4(-57599), "24:00:00+15:59:59"),
    quoted("timetz", int8(1) + int4(15), "00:00:00.000001-00:00:15"),
    Value("timestamp", int8(0), '"2000-01-01T00:00:00"', "2000-01-01 00:00:00"),
    Value("timestamp", int8(-1), '"1999-12-31T23:59:59.999999"', "1999-12-31 23:59:59.999999"),
    Value("timestamp", int8(-211_813_488_000_000_000), '"4714-11-24T00:00:00 BC"', "4714-11-24 00:00:00 BC"),
    Value(
        "timestamp", int8(9_223_371_331_199_999_999), '"294276-12-31T23:59:59.999999"', "294276-12-31 23:59:59.999999"
    ),
    quoted("timestamp", int8(MOST64), "infinity"),
    quoted("timestamp", int8(LEAST64), "-infinity"),
    Value("timestamptz", int8(1500), '"2000-01-01T00:00:00.0015+00:00"', "2000-01-01 00:00:00.0015+00"),
    Value("timestamptz", int8(-730120 * DAY), '"0001-12-31T00:00:00+00:00 BC"', "0001-12-31 00:00:00+00 BC"),
    quoted("timestamptz", int8(MOST64), "infinity"),
    quoted("interval", interval(), "PT0S"),
    quoted("interval", interval(months=14), "P1Y2M"),
    quoted("interval", interval(months=-14), "P-1Y-2M"),
    quoted("interval", interval(days=-1, microseconds=3 * HOUR), "P-1DT3H"),
    quoted("interval", interval(-500_000), "PT-0.5S"),
    quoted("interval", interval(-(61 * SECOND + 1)), "PT-1M-1.000001S"),
    quoted("interval", interval(90 * SECOND), "PT1M30S"),
    quoted("interval", interval(LEAST64, 0, 0), "PT-2562047788H-54.775808S"),
    quoted("interval", interval(MOST64, 2**31 - 1, 2**31 - 1), "infinity"),
    quoted("interval", interval(LEAST64, -(2**31), -(2**31)), "-infinity"),
]
ONE, TWO, LAST = int4(1), int4(2), int4(-3)
ARRAYS = [
    Value("array:int4", array(23, [], []), "[]", "{}"),
    Value("array:int4", array(23, [3], [ONE, None, LAST]), "[1,null,-3]", '"{1,NULL,-3}"'),
    Value("array:int4", array(23, [2, 2], [ONE, TWO, LAST, None]), "[[1,2],[-3,null]]", '"{{1,2},{-3,NULL}}"'),
    Value("array:int4", array(23, [1, 2, 1], [ONE, TWO], [1, -1, 1]), "[[[1],[2]]]", '"[1:1][-1:0][1:1]={{{1},{2}}}"'),
    Value("array:int4", array(23, [1], [ONE], [2147483646]), "[1]", "[2147483646:2147483646]={1}"),
    Value("array:text", array(25, [3], [b"a b", b"", b"NULL"]), '["a b","","NULL"]', '"{""a b"","""",""NULL""}"'),
    Value("array:text", array(25, [2], [b'"\\', b"nul"]), '["\\"\\\\","nul"]', '"{""\\""\\\\"",nul}"'),
    Value("array:bool", array(16, [2], [b"\0", b"\1"]), "[false,true]", '"{f,t}"'),
    Value("array:json", array(114, [1], [b'{"a":\n1}']), '[{"a": 1}]', '"{""{\\""a\\"":\n1}""}"'),
    Value("array:timestamptz", array(1184, [1], [int8(0)]), '["2000-01-01T00:00:00+00:00"]',
          '"{""2000-01-01 00:00:00+00""}"'),
    Value("array:bytea", array(17, [1], [b"\1"]), '["\\\\x01"]', '"{""\\\\x01""}"'),
    Value("array:float8", array(701, [2], [float8(float("nan")), float8(1e16)]), '["NaN",1e+16]', '"{NaN,1e+16}"'),
]  # fmt: skip
EXPECTED = [*NUMBERS, *FLOATS, *TEXTS, *TIMES, *ARRAYS]
