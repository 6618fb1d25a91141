"""One input of the fuzzer, given to the encoder or to the decoder of lines.

The encoder must give lines or MalformedRows. The decoder must take lines that are JSON, or refuse them. The first byte
of an input chooses the way. The rest is a stream of rows of all kinds, or one value of one kind. The target adds what
surrounds a value. It imports only the standard library and the compiled modules.
"""

from __future__ import annotations

import json
from array import array

from lines import LINE_VALUES

from fix_encoder import VALUES
from floodmark.native.decoder import Decoder
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
LINE_KINDS = tuple(LINE_VALUES)
DECODERS = [Decoder([b'"a"'], [(kind, 10, 2)], infinite) for infinite in (False, True) for kind in LINE_KINDS]
DECODERS.append(
    Decoder([b'"%d"' % number for number, _ in enumerate(LINE_KINDS)], [(kind, 38, 9) for kind in LINE_KINDS])
)
FIRST_DECODER = len(STREAMS) + len(SINGLE)
assert FIRST_DECODER + len(DECODERS) <= 256, "one byte chooses the way"


def one_input(data: memoryview) -> None:
    if not data:
        return
    way, rest = data[0], data[1:]
    if way < len(STREAMS):
        check(STREAMS[way], rest, way % 3 < 2 and way < 6)
    elif way < FIRST_DECODER:
        way -= len(STREAMS)
        value = (1).to_bytes(2, "big") + len(rest).to_bytes(4, "big") + bytes(rest)
        check(SINGLE[way].message, array("B", value), way < 2 * len(ALL))  # an array has no spare byte at its end
    else:
        way = (way - FIRST_DECODER) % len(DECODERS)
        whole = way == len(DECODERS) - 1
        check_lines(DECODERS[way], bytes(rest) if whole else b'{"a":%b}\n{"a":null}\n' % bytes(rest))


def check_lines(decoder: Decoder, lines: bytes) -> None:
    before = decoder.rows
    if not decoder.take(lines):
        assert decoder.rows == before, "it kept a part of the lines"
        return
    assert decoder.rows == before + lines.count(b"\n")
    for line in lines.split(b"\n")[:-1]:  # a carriage return is white space
        json.loads(line)
    if decoder.rows > 100:  # until then the columns grow
        decoder.finish().__arrow_c_array__(object())


def check(encode: object, data: object, in_json: bool) -> None:
    try:
        lines, rows = encode(data)  # type: ignore[operator]
    except MalformedRows:
        return
    if in_json:
        assert bytes(lines).count(b"\n") == rows, "a line holds a newline"
