"""The keys of objects: what fits into a path stays as it is, what does not is shortened, and no two names meet."""

from __future__ import annotations

import itertools
from urllib.parse import unquote

import pytest

from floodmark.layout import (
    data_key,
    encoded_segment,
    encoding_of,
    is_data_key,
    key_names,
    key_suffix,
    table_prefix,
    table_segment,
)
from floodmark.load import parquet_files
from floodmark.model import Encoding, TableName

STAMP = "20261124000000Z"
ENCODINGS = (Encoding(), Encoding(compression="zstd"), Encoding(compression="none"), Encoding("csv", "none"))
NUMBERS = (0, 99_999, 100_000)


def unshortened(database: str, segment: str, number: int, encoding: Encoding) -> str:
    return (
        f"data/database_name={encoded_segment(database)}/table_name={segment}/extraction_timestamp={STAMP}/"
        f"{segment}-{number:05d}{key_suffix(encoding)}"
    )


def longest(key: str) -> int:
    return max(map(len, key.split("/")))


@pytest.mark.parametrize(("number", "encoding"), [*itertools.product(NUMBERS, ENCODINGS)])
def test_a_key_that_fits_is_as_it_always_was(number: int, encoding: Encoding) -> None:
    kept = set[bool]()
    for length in range(225, 260):
        for database, segment in (("d", "t" * length), ("d" * length, "t"), ("d" * length, "t" * length)):
            plain, key = (
                unshortened(database, segment, number, encoding),
                data_key(database, segment, STAMP, number, encoding),
            )
            kept.add(key == plain)
            assert (key == plain) is (longest(plain) <= 255)
            assert longest(key) <= 255 and is_data_key(key)
            assert encoding_of(key) == encoding and table_prefix(key) is not None
    assert kept == {True, False}


@pytest.mark.parametrize("letter", ["a", "ж", "漢", "😀", " ", "."])
def test_a_shortened_name_can_still_be_decoded(letter: str) -> None:
    """It ends within no letter, however many bytes that has, and wherever the limit falls."""
    for before in range(12):
        name = "a" * before + letter * 260
        key = data_key(name, table_segment(TableName("s", name), "public"), STAMP, 0, Encoding())
        database, table = key_names(key) or ("", "")
        for part, start in ((database, name), (table, f"s.{name}")):
            readable, _, digest = unquote(part, errors="strict").rpartition("-")
            assert start.startswith(readable) and len(readable) > 10
            assert len(digest) == 32 and int(digest, 16) >= 0


def test_no_two_long_names_meet() -> None:
    """They differ in their last letter, or in which part of the name is the schema, or one is another's short form."""
    names = [TableName("public", "ж" * 200 + end) for end in "abc"]
    names += [TableName("s", "x" * 300), TableName("s" + "x" * 150, "x" * 150), TableName("public", "s." + "x" * 300)]
    segments = [table_segment(name, "public") for name in names]
    short = [(key_names(data_key("d", one, STAMP, 0, Encoding())) or ("", ""))[1] for one in segments]
    segments += [table_segment(TableName("public", unquote(one)), "public") for one in short]
    segments += [table_segment(TableName("public", one), "public") for one in short]
    keys = [data_key("d", one, STAMP, 0, Encoding()) for one in segments]
    assert len(set(keys)) == len(segments) == 18
    assert all(data_key("d", one, STAMP, 0, Encoding()) == key for one, key in zip(segments, keys, strict=True))


def test_the_files_of_a_load_fit_too() -> None:
    load = f"{STAMP}-0a1b2c"
    for length in range(200, 270):
        table = TableName("s", "t" * length)
        key = parquet_files.file_key(table, load, 100_000)
        assert longest(key) <= 255 and parquet_files.is_file(key) and parquet_files.begun(key) is not None
        assert key.startswith(f"{parquet_files.segment(table)}/") and longest(parquet_files.lists(table)) <= 255
    assert parquet_files.file_key(TableName("s", "t"), load, 7) == f"s.t/s.t-{load}-00007.parquet"
