"""Values as lines hold them, for the decoder of lines. The fuzzer begins with them."""

from __future__ import annotations

# kind of `reader.types` -> values as lines hold them
LINE_VALUES = {
    "int16": ("-32768", "7"),
    "int32": ("2147483647", "0"),
    "int64": ("-9223372036854775808", '"12"'),
    "decimal": ("-12345678.90", "1e3", '"NaN"'),
    "float32": ("3.4028235e+38", "-0", '"Infinity"'),
    "float64": ("2.2250738585072014e-308", '"NaN"', "0.1"),
    "bool": ("true", "false"),
    "date": ('"2024-02-29"', '"-infinity"', '"0001-01-01 BC"'),
    "timestamp": ('"2024-02-29T23:59:60.123456"', '"294276-12-31T00:00:00"'),
    "timestamptz": ('"2024-02-29T23:59:59.5+05:30"', '"infinity"'),
    "time": ('"24:00:00"',),
    "uuid": ('"00000000-0000-0000-0000-000000000000"',),
    "text": ('"a\\u00e9\\ud83d\\ude00\\n\\\\\\""', '"é😀"'),
    "bytes": ('"\\\\x00ff"',),
    "json": ('{"a": [1, {"b": null}]}', '"x"'),
    "any": ("[[1,2],[3,null]]", "12.50"),
    "digits": ("12345678901234567890", '"1"'),
}
