"""One input of the fuzzer, given to the encoder: it must give lines or MalformedRows.

The first byte of an input chooses the way. The rest is a stream of rows of all kinds, or one value of one kind. The
target adds what stands before a value. It imports only the standard library and the encoder.
"""

from __future__ import annotations

from array import array

from fix_encoder import VALUES
from floodmark.native.encoder import Encoder, MalformedRows

ALL = tuple(VALUES)
_FORMATS = (("jsonl", False), ("jsonl", True), ("csv", False))


def whole_rows(*way: object, marked: bool = False) -> Encoder:
    return Encoder([(kind, kind) for kind in ALL], *way, marked=marked)  # type: ignore[arg-type]


STREAMS = (
    [whole_rows(*way).records for way in _FORMATS]
    + [whole_rows(*way).message for way in _FORMATS]
    + [whole_rows("csv", marked=True).message]
)
VERSIONS = (140000, 170000, 180000)
SINGLE = [
    Encoder([("a", kind)], *way, server_version=version)
    for version, way in zip(VERSIONS, _FORMATS, strict=True)
    for kind in ALL
]


def one_input(data: memoryview) -> None:
    if not data:
        return
    way, rest = data[0], data[1:]
    if way < len(STREAMS):
        check(STREAMS[way], rest, way % 3 < 2 and way < 6)
        return
    way = (way - len(STREAMS)) % len(SINGLE)
    value = (1).to_bytes(2, "big") + len(rest).to_bytes(4, "big") + bytes(rest)
    check(SINGLE[way].message, array("B", value), way < 2 * len(ALL))  # an array has no spare byte at its end


def check(encode: object, data: object, in_json: bool) -> None:
    try:
        lines, rows = encode(data)  # type: ignore[operator]
    except MalformedRows:
        return
    if in_json:
        assert bytes(lines).count(b"\n") == rows, "a line holds a newline"
