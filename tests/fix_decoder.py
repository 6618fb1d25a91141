"""The rows that the compiled decoder and Python make of the same lines, in a form that compares every bit."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from floodmark.errors import FloodmarkError
from floodmark.reader.arrow import BatchConverter, RowShape, _UnfitColumns
from floodmark.reader.decoder import is_built, line_decoder
from floodmark.reader.types import ColumnType

needs_decoder = pytest.mark.skipif(not is_built(), reason="the native decoder was not built")


class BothWays:
    """A table's lines, read by the decoder and by Python."""

    def __init__(self, names: Sequence[str], types: Sequence[ColumnType], infinite: bool = False) -> None:
        self.decoder = line_decoder(names, types, infinite)
        self._python = BatchConverter(RowShape("public.t", tuple(names), tuple(types), infinite))

    def decoded(self, lines: bytes) -> list[list[Any]] | None:
        """The columns that the decoder makes, or None if it refuses the lines."""
        assert self.decoder is not None and self.decoder.rows == 0
        return self.finished() if self.decoder.take(lines) else None

    def finished(self) -> list[list[Any]]:
        assert self.decoder is not None
        batch = pa.record_batch(self.decoder.finish(), schema=self._python.schema)
        batch.validate(full=True)
        return bits(batch)

    def expected(self, lines: bytes) -> list[list[Any]] | None:
        """The columns that Python makes, or None for an error."""
        try:
            return bits(self._python._record_batch(lines))
        except (_UnfitColumns, FloodmarkError):
            return None


def line(names: Sequence[str], values: Sequence[str]) -> bytes:
    pairs = (f"{msgspec.json.encode(name).decode()}:{value}" for name, value in zip(names, values, strict=True))
    return f"{{{','.join(pairs)}}}\n".encode("utf-8", "surrogatepass")


def bits(batch: Any) -> list[list[Any]]:
    return [_bits(column) for column in batch.columns]


def _bits(column: Any) -> list[Any]:
    kind = column.type
    if pa.types.is_floating(kind):
        return [None if value is None else struct.pack("d", value) for value in column.to_pylist()]
    if pa.types.is_string(kind):
        return list(column.cast(pa.binary()).to_pylist())
    if pa.types.is_temporal(kind):
        return list(column.cast(pa.int32() if pa.types.is_date(kind) else pa.int64()).to_pylist())
    return list(column.to_pylist())
