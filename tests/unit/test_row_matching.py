"""Matching of two sides' rows: the same result in memory and in parts on the disk, whatever the lines hold."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from floodmark.errors import StorageError, VerificationFailed
from floodmark.reader import row_matching
from floodmark.reader.line_keys import changed_members, csv_lines, keyed_lines
from floodmark.reader.row_matching import Match, RepeatedKey, RowSide, match_rows


def side(lines: Sequence[bytes], size: int = 7) -> RowSide:
    """The lines in blocks of a few."""
    blocks = [b"\n".join((*lines[at : at + size], b"")) for at in range(0, len(lines), size)]
    return RowSide(iter(blocks), sum(map(len, lines)) + len(lines), len(lines))


def matched(old: Sequence[bytes], new: Sequence[bytes], *key: str) -> list[Match]:
    return list(match_rows(side(old), side(new), keyed_lines(key), unique=bool(key)))


def line(number: int, value: int) -> bytes:
    return b'{"id":%d,"text":"a\\n\xc3\xa9","value":%d.0}' % (number, value)


@pytest.mark.parametrize("most_rows", [10**6, 40, 3])
def test_rows_are_matched_by_key_in_memory_and_in_parts(most_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_matching, "MOST_ROWS", most_rows)
    chance = random.Random(most_rows)
    old = {n: line(n, 0) for n in chance.sample(range(1000), 500)}
    new = {n: line(n, chance.randrange(2)) for n in chance.sample(range(1000), 500)}
    found = matched(list(old.values()), list(new.values()), "id")
    keys = {n: b'{"id":%d}' % n for n in (*old, *new)}
    differing = (n for n in keys if old.get(n) != new.get(n))
    assert sorted(found, key=str) == sorted(((keys[n], old.get(n), new.get(n)) for n in differing), key=str)
    assert matched(list(old.values()), list(new.values()), "id") == found, "the order must not change"


@pytest.mark.parametrize("most_rows", [10**6, 40])
def test_lines_without_a_key_count_as_often_as_they_are_there(most_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_matching, "MOST_ROWS", most_rows)
    chance = random.Random(most_rows)
    old, new = ([line(chance.randrange(20), 0) for _ in range(number)] for number in (300, 350))
    found = matched(old, new)
    assert all(None in (before, now) for _, before, now in found)
    inserted = Counter(now for _, _, now in found if now is not None)
    deleted = Counter(before for _, before, _ in found if before is not None)
    assert (inserted, deleted) == (Counter(new) - Counter(old), Counter(old) - Counter(new))


@pytest.mark.parametrize("most_rows", [10**6, 3])
def test_no_row_is_given_before_both_sides_were_read(most_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_matching, "MOST_ROWS", most_rows)

    def damaged() -> Iterator[bytes]:
        yield line(1, 1) + b"\n"
        raise VerificationFailed("damaged")

    with pytest.raises(VerificationFailed):
        next(match_rows(side([line(1, 0)] * 5), RowSide(damaged(), 100, 5), keyed_lines([]), unique=False))


def test_equal_lines_that_no_hash_divides_are_matched_at_the_deepest_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_matching, "MOST_ROWS", 3)
    assert matched([line(1, 1)] * 50, [line(1, 1)] * 20) == [(line(1, 1), line(1, 1), None)] * 30


@pytest.mark.parametrize("most_rows", [10**6, 3])
@pytest.mark.parametrize("old", [[5, 6, 5], [1]])
def test_a_repeated_key_of_either_side_is_an_error(
    old: list[int], most_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_matching, "MOST_ROWS", most_rows)
    lines = [line(n, 0) for n in old], [line(n, 1) for n in range(9)]
    pair = lines if old != [1] else (lines[0], [*lines[1], line(1, 2)])
    with pytest.raises(RepeatedKey):
        matched(*pair, "id")


def test_keys_are_json_texts_of_any_columns_also_with_odd_names_and_values() -> None:
    rows = [{'a "b"\n': "x", "n": 1, "other": None}, {'a "b"\n': None, "n": 2, "other": None}]
    lines = b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
    found = [key for key, _ in keyed_lines(["n", 'a "b"\n'])(lines)]
    assert [msgspec.json.decode(key) for key in found] == [{k: row[k] for k in ("n", 'a "b"\n')} for row in rows]
    half = rb'{"id":1.10,"doc":"\ud800"}'
    assert list(keyed_lines(["id"])(half + b"\n")) == [(b'{"id":1.10}', half)]
    assert changed_members(half, rb'{"id":1.1,"doc":"\ud800"}') == ("id",)
    with pytest.raises(KeyError):
        list(keyed_lines(["missing"])(b'{"id":1}\n'))


def test_csv_records_are_texts_and_nulls() -> None:
    assert csv_lines(b'1,"a\n""b"""\n,""\n', ["id", "t"]) == b'{"id":"1","t":"a\\n\\"b\\""}\n{"id":null,"t":""}\n'
    assert csv_lines(b"\n", []) == b"{}\n"
    with pytest.raises(ValueError):
        csv_lines(b"1,2\n", ["id"])


def test_a_full_disk_is_an_error_with_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_matching, "MOST_ROWS", 3)
    # Buffered, as temporary files are: closing such a file fails once more.
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Path("/dev/full").open("r+b"))  # noqa: SIM115
    with pytest.raises(StorageError, match="No space left on device") as told:
        matched([line(n, 0) for n in range(9)], [], "id")
    assert "TMPDIR" in str(told.value)
