"""Lines → record batches: what it costs for wide tables and for long lines."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from floodmark.errors import DoesNotFit, VerificationFailed
from floodmark.load.parquet_files import GROUP_BYTES, has_short_lines, write_groups
from floodmark.reader import arrow
from floodmark.reader.arrow import BATCH_BYTES, BatchConverter, RowShape
from floodmark.reader.types import ColumnType, Kind


def converter(columns: int, kind: Kind = "int32") -> BatchConverter:
    return BatchConverter(
        RowShape("public.t", tuple(f"c{number}" for number in range(columns)), (ColumnType(kind),) * columns)
    )


class Counting:
    """pyarrow, whose schemas count how often they are asked for all of their types: each time makes the list anew."""

    def __init__(self) -> None:
        self.asked, self.RecordBatch = 0, self

    def __getattr__(self, name: str) -> Any:
        return getattr(pa, name)

    def schema(self, fields: Any) -> Any:
        return CountedSchema(self, pa.schema(fields))

    def from_arrays(self, arrays: Any, schema: CountedSchema) -> Any:
        return pa.RecordBatch.from_arrays(arrays, schema=schema.whole)


class CountedSchema:
    def __init__(self, counting: Counting, whole: pa.Schema) -> None:
        self.counting, self.whole = counting, whole

    @property
    def types(self) -> Any:
        self.counting.asked += 1
        return self.whole.types


def test_the_types_of_a_wide_table_are_listed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counting = Counting()
    monkeypatch.setattr(arrow, "pyarrow", lambda: counting)
    wide = converter(300)
    line = b"{%s}\n" % b",".join(b'"c%d":%d' % (number, number) for number in range(300))
    assert [wide.batch(line * 3).num_rows for _ in range(4)] == [3] * 4
    assert counting.asked == 1


def blocks_of(*lines: bytes) -> Iterator[bytes]:
    return (b'{"a":%s,"b":%s,"c":%s}\n' % tuple(line.split()) for line in lines)


def test_all_columns_that_do_not_fit_are_told_at_once() -> None:
    kinds = (ColumnType("int32"), ColumnType("decimal", 38, 10), ColumnType("date"))
    reader = BatchConverter(RowShape("public.t", ("a", "b", "c"), kinds))
    blocks = blocks_of(b"1 1 null", b"1 0.12345678901 null", b'1 0.12345678901 "infinity"', b'"x" 1 null', b"1 1 null")
    with pytest.raises(DoesNotFit) as refusal:
        list(reader.batches(blocks))
    assert next(blocks, None) is None
    assert refusal.value.columns == ("a", "b", "c")
    assert refusal.value.sentence == (
        "can't convert values exactly: public.t, columns a (int32), b (decimal128(38, 10)), c (date32[day]): "
        "they have no exact counterpart in these types"
    )
    assert "--text public.t.a --text public.t.b --text public.t.c (in Python text=[…])." in str(refusal.value.hint)
    with pytest.raises(DoesNotFit, match=re.escape("columns a (int32), b (decimal")):
        reader.batch(b"".join(blocks_of(b'"x" 0.12345678901 null', b"1 1 null")))
    for lines, rest in (([b'1 1 "infinity"'], [b'{"a":1,"b":1}\n']), ([b'1 1 "infinity"', b"1 1 null"], [b"{\n"])):
        with pytest.raises(DoesNotFit, match="column c: it has no exact counterpart in date32"):
            list(reader.batches(chain(blocks_of(*lines), rest)))


def lines_of(size: int, count: int) -> Iterator[bytes]:
    return (b'{"c0":"%s"}\n' % (b"%06d" % number * (size // 6)) for number in range(count))


def parquet_of(size: int, count: int) -> pq.FileMetaData:
    file, lines = io.BytesIO(), list(lines_of(size, count))
    statistics = has_short_lines(sum(map(len, lines)), count)
    assert write_groups(file, converter(1, "text").stream(lines).reader, statistics=statistics) == count
    return pq.ParquetFile(file).metadata


def test_a_batch_of_long_lines_is_no_larger_than_one_of_short_ones() -> None:
    size = BATCH_BYTES // 4
    batches = list(converter(1, "text").batches(lines_of(size, 40)))
    assert sum(batch.num_rows for batch in batches) == 40
    assert max(batch.nbytes for batch in batches) <= BATCH_BYTES + size
    small = list(converter(1, "text").batches(lines_of(6000, 4 * BATCH_BYTES // 6000)))
    assert len(small) == 5 and min(batch.nbytes for batch in small[:-1]) > BATCH_BYTES * 0.9


def test_a_row_group_of_long_lines_is_no_larger_than_one_of_short_ones() -> None:
    written = parquet_of(GROUP_BYTES // 2 + 6, 6)
    assert [written.row_group(number).num_rows for number in range(written.num_row_groups)] == [2, 2, 2]


def test_there_are_statistics_of_what_can_be_looked_for_and_none_of_long_lines() -> None:
    """They are several copies of a group's smallest and largest value while it is written."""
    assert parquet_of(600, 10).row_group(0).column(0).is_stats_set
    assert not parquet_of(2 * 2**20, 3).row_group(0).column(0).is_stats_set


def test_small_blocks_of_a_wide_table_are_read_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow, "line_decoder", lambda *_: None)
    wide = converter(600)
    line = b"{%s}\n" % b",".join(b'"c%d":%%d' % number for number in range(600))
    blocks = [line % tuple(range(number, number + 600)) for number in range(500)]
    expected = pa.Table.from_batches([wide.batch(b"".join(blocks))])
    read: list[int] = []
    whole = wide._record_batch
    monkeypatch.setattr(wide, "_record_batch", lambda lines: read.append(len(lines)) or whole(lines))
    assert pa.Table.from_batches(wide.batches(blocks)).equals(expected)
    assert 2 <= len(read) <= 5 and sum(read) == sum(map(len, blocks))


@pytest.mark.parametrize("compiled", [True, False])
def test_a_float_of_32_bits_is_rounded_once(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The nearest double of these digits is halfway between two floats, and the even one is the wrong one."""
    if not compiled:
        monkeypatch.setattr(arrow, "line_decoder", lambda *_: None)
    shape = RowShape("public.t", ("a",), (ColumnType("float32"),))
    lines = b'{"a":7.038531e-26}\n{"a":-7.038531e-26}\n{"a":null}\n{"a":-0}\n{"a":"-Infinity"}\n{"a":1e-45}\n{"a":3}\n'
    (batch,) = BatchConverter(shape).batches([lines])
    assert batch.column(0).view("int32").to_pylist() == [
        0x15AE43FD, 0x15AE43FD - 2**31, None, -(2**31), 0xFF800000 - 2**32, 1, 0x40400000
    ]  # fmt: skip


def damaged_blocks() -> Iterator[bytes]:
    yield b'{"c0":1}\n'
    yield b'{"c0#:1}\n'
    raise VerificationFailed("an object does not match the manifest")


def test_lines_of_a_damaged_object_are_no_fault_of_the_manifest() -> None:
    """A flipped bit can give strange lines long before the end of the object, where its digest shows the damage."""
    with pytest.raises(VerificationFailed):
        list(converter(1).batches(damaged_blocks()))
