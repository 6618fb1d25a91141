"""Exact conversion of lines to Arrow record batches.

The compiled decoder reads blocks of ordinary lines. All other blocks are read in Python: msgspec reads a line's values
by type, Arrow takes them by column. Both give the same rows. An installation without the decoder reads all in Python.

DuckDB's and Arrow's own JSON readers lose data. DuckDB turns every number inside jsonb, and every numeric read as text,
into the nearest double. Neither reader knows `BC` or infinity. Here a value arrives exactly as the line has it.
Otherwise the error names the column and never the value.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from shlex import quote
from typing import Any

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from floodmark.errors import DoesNotFit, FloodmarkError
from floodmark.reader.decoder import line_decoder
from floodmark.reader.extras import pyarrow
from floodmark.reader.moments import NoCounterpart, parse_days, parse_microseconds
from floodmark.reader.rows import SPECIAL, columns_reader, not_as_described, too_deep, values_of
from floodmark.reader.texts import Texts, split_texts
from floodmark.reader.types import ColumnType, Kind

# A batch holds this many bytes of lines, or one longer block. Readers of Arrow work well with this size.
BATCH_BYTES = 8 * 2**20
# Each block costs some time per column. So the blocks of a wide table are joined up to about this size.
_WIDE, _WIDE_BYTES = 500, 2**20
_NULL = b"null"
_TEXT = ColumnType("any")


class RowShape(Struct, frozen=True):
    """A table's columns as a reader sees them. `label` is the table's label, for errors.

    If `infinite` is true, infinite dates and timestamps become the numbers that DuckDB uses for them. Otherwise they
    raise an error.
    """

    label: str
    names: tuple[str, ...]
    types: tuple[ColumnType, ...]
    infinite: bool = False


class _UnfitColumns(Exception):
    """Error for columns that hold a value without an exact counterpart in the column's type."""

    def __init__(self, columns: Collection[int]) -> None:
        super().__init__()
        self.columns = columns


class BatchStream:
    """A pyarrow.RecordBatchReader, and the error that broke it. A C++ reader only learns that something failed."""

    def __init__(self) -> None:
        self.reader: Any = None
        self.failure: FloodmarkError | None = None

    @staticmethod
    def of(schema: Any, batches: Iterator[Any]) -> BatchStream:
        """Return the stream of these batches."""
        stream = BatchStream()
        stream.reader = pyarrow().RecordBatchReader.from_batches(schema, stream._remember_failure(batches))
        return stream

    def _remember_failure(self, batches: Iterator[Any]) -> Iterator[Any]:
        try:
            yield from batches
        except FloodmarkError as error:
            self.failure = error
            raise


class BatchConverter:
    """Converter from a table's lines to record batches. Raises ConfigError if pyarrow is not installed."""

    def __init__(self, shape: RowShape) -> None:
        self._shape, self._pa = shape, pyarrow()
        self._columns = columns_reader(shape.names, shape.types)
        fields = [self._field(name, kind) for name, kind in zip(shape.names, shape.types, strict=True)]
        self.schema = self._pa.schema(fields)
        self._types = self.schema.types  # pyarrow builds this list again at each access
        self._makers: list[Callable[[Sequence[Any], Any], Any]] = [self._array_maker(kind.kind) for kind in shape.types]

    def batch(self, lines: bytes) -> Any:
        """Return a block of whole lines as a pyarrow.RecordBatch. Raises DoesNotFit, which names all unfit columns."""
        try:
            return self._record_batch(lines)
        except _UnfitColumns as unfit:
            raise self._does_not_fit(unfit.columns) from None

    def batches(self, blocks: Iterable[bytes]) -> Iterator[Any]:
        """Yield blocks of lines as record batches of a few MiB.

        Raises DoesNotFit, and the errors that the blocks raise.

        If a value does not fit, the other blocks are still read, so that the error names all unfit columns.
        """
        waiting = _WaitingRows(self)
        rest = iter(_joined_blocks(blocks) if len(self._shape.names) >= _WIDE else blocks)
        for block in rest:
            try:
                waiting.take(block)
            except _UnfitColumns as unfit:
                raise self._does_not_fit(self._all_unfit(unfit.columns, rest)) from None
            except DoesNotFit:
                deque(rest, maxlen=0)  # the lines of a damaged object are strange too: its digest comes after them
                raise
            if waiting.size >= BATCH_BYTES:
                yield waiting.handed_over()
        if waiting.size:
            yield waiting.handed_over()

    def stream(self, blocks: Iterable[bytes]) -> BatchStream:
        """Return the batches as a pyarrow.RecordBatchReader, which can be read once."""
        return BatchStream.of(self.schema, self.batches(blocks))

    def _record_batch(self, lines: bytes) -> Any:
        """Return a record batch. Raises _Unfit, or DoesNotFit if no single column is the cause."""
        try:
            columns, count = self._columns(lines)
        except (msgspec.MsgspecError, KeyError, ValueError):
            raise _UnfitColumns(self._unreadable(lines)) from None
        except RecursionError:
            raise too_deep(self._shape.label) from None
        if not columns:
            return self._pa.RecordBatch.from_struct_array(self._pa.array([{}] * count, self._pa.struct([])))
        arrays = [self._array(number, values) for number, values in enumerate(columns)]
        unfit = [number for number, array in enumerate(arrays) if array is None]
        if unfit:
            raise _UnfitColumns(unfit)
        return self._pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _field(self, name: str, kind: ColumnType) -> Any:
        return self._pa.field(name, _arrow_type(self._pa, kind))

    def _array(self, number: int, values: Sequence[Any]) -> Any | None:
        """Return a column's array, or None if a value does not fit."""
        try:
            return self._makers[number](values, self._types[number])
        except (self._pa.ArrowException, LookupError, ValueError, OverflowError, NoCounterpart):
            return None

    def _unreadable(self, lines: bytes) -> list[int]:
        """Return the columns with a value that breaks the promise of their type, or that the type can't keep.

        Raises DoesNotFit if there is no such column: then the lines are not JSON at all.
        """
        try:
            rows = split_texts(lines)
        except (msgspec.MsgspecError, ValueError):
            raise not_as_described(self._shape.label) from None
        found = [number for number in range(len(self._shape.names)) if not self._fits_type(number, rows)]
        if not found:
            raise not_as_described(self._shape.label)
        return found

    def _fits_type(self, number: int, rows: Sequence[Texts]) -> bool:
        try:
            values = values_of(rows, self._shape.names[number], self._shape.types[number])
        except (msgspec.MsgspecError, KeyError, ValueError):
            return False
        return self._array(number, values) is not None

    def _all_unfit(self, columns: Collection[int], blocks: Iterable[bytes]) -> set[int]:
        """Return these columns and all others that have an unfit value in the blocks."""
        found = set(columns)
        reader = self._with_text(found)
        for block in blocks:
            try:
                reader._record_batch(block)
            except _UnfitColumns as unfit:
                found.update(unfit.columns)
                reader = self._with_text(found)
            except DoesNotFit:
                continue  # reported after the columns are checked
        return found

    def _with_text(self, columns: Collection[int]) -> BatchConverter:
        types = tuple(_TEXT if number in columns else kind for number, kind in enumerate(self._shape.types))
        return BatchConverter(replace(self._shape, types=types))

    def _does_not_fit(self, columns: Collection[int]) -> DoesNotFit:
        return does_not_fit(self._shape, [self._shape.names[number] for number in sorted(columns)])

    # One maker per kind: it turns values as msgspec read them, and the Arrow type, into an array.

    def _array_maker(self, kind: Kind) -> Callable[[Sequence[Any], Any], Any]:
        makers: dict[Kind, Callable[[Sequence[Any], Any], Any]] = {
            "float32": self._float32_array,
            "float64": self._float_array,
            "date": self._date_array,
            "timestamp": self._timestamp_array,
            "timestamptz": self._timestamp_array,
            "bytes": self._bytes_array,
            "json": self._json_array,
            "any": self._text_array,
            "digits": self._text_array,
        }
        return makers.get(kind, self._plain_array)

    def _plain_array(self, values: Sequence[Any], kind: Any) -> Any:
        return self._pa.array(values, kind)

    def _float_array(self, values: Sequence[float | str | None], kind: Any) -> Any:
        if any(type(value) is str for value in values):
            values = [SPECIAL[value] if isinstance(value, str) else value for value in values]
        return self._pa.array(values, kind)

    def _float32_array(self, values: Sequence[float | str | None], kind: Any) -> Any:
        """Round each number once, from its digits: the double that keeps them can be halfway between two floats."""
        numbers = (SPECIAL[value] if isinstance(value, str) else value for value in values)
        digits = [None if number is None else repr(number) for number in numbers]
        return self._pa.compute.cast(self._pa.array(digits, self._pa.string()), kind)

    def _date_array(self, values: Sequence[str | None], kind: Any) -> Any:
        return self._time_array(values, kind, parse_days, self._pa.int32())

    def _timestamp_array(self, values: Sequence[str | None], kind: Any) -> Any:
        return self._time_array(values, kind, parse_microseconds, self._pa.int64())

    def _time_array(
        self, values: Sequence[str | None], kind: Any, number: Callable[[str, bool], int | None], stored: Any
    ) -> Any:
        """Build an array of dates or timestamps. Arrow parses the years 0 to 9999 and refuses all other years."""
        try:
            return self._pa.compute.cast(self._pa.array(values, self._pa.string()), kind)
        except self._pa.ArrowInvalid:
            infinite = self._shape.infinite
            numbers = [None if value is None else number(value, infinite) for value in values]
            return self._pa.array(numbers, stored).cast(kind)

    def _bytes_array(self, values: Sequence[str | None], kind: Any) -> Any:
        return self._pa.array([None if value is None else _decoded_hex(value) for value in values], kind)

    def _json_array(self, values: Sequence[Raw], kind: Any) -> Any:
        return self._pa.array([None if text == _NULL else text for text in map(bytes, values)], kind)

    def _text_array(self, values: Sequence[Raw], kind: Any) -> Any:
        return self._pa.array([_string_or_json(bytes(value)) for value in values], kind)


class _WaitingRows:
    """Converted rows of a batch in progress. `size` is the number of bytes of their lines.

    The compiled decoder reads most blocks. It refuses a block with an unusual value, which is then read in Python.
    """

    def __init__(self, converter: BatchConverter) -> None:
        shape = converter._shape
        self._converter, self._decoder = converter, line_decoder(shape.names, shape.types, shape.infinite)
        self._batches: list[Any] = []
        self.size = 0

    def take(self, lines: bytes) -> None:
        """Add a block of whole lines. Raises the errors of the converter."""
        if self._decoder is None or not self._decoder.take(lines):
            self._finish_decoded()
            self._batches.append(self._converter._record_batch(lines))
        self.size += len(lines)

    def handed_over(self) -> Any:
        """Return the rows as one batch, and start the next one."""
        self._finish_decoded()
        batches, self._batches, self.size = self._batches, [], 0
        return batches[0] if len(batches) == 1 else self._converter._pa.concat_batches(batches)

    def _finish_decoded(self) -> None:
        if self._decoder is not None and self._decoder.rows:
            decoded = self._decoder.finish()
            self._batches.append(self._converter._pa.record_batch(decoded, schema=self._converter.schema))


def does_not_fit(shape: RowShape, columns: Sequence[str]) -> DoesNotFit:
    """Return the error for columns with a value that their types can't keep."""
    types = dict(zip(shape.names, shape.types, strict=True))
    options = " ".join(f"--text {quote(f'{shape.label}.{name}')}" for name in columns)
    if len(columns) == 1:
        return DoesNotFit(
            "can't convert a value exactly",
            columns=columns,
            on=f"{shape.label}, column {columns[0]}",
            why=f"it has no exact counterpart in {types[columns[0]].arrow}",
            hint=f"Read this column as text: {options} (in Python text=[…]).",
        )
    named = ", ".join(f"{name} ({types[name].arrow})" for name in columns)
    return DoesNotFit(
        "can't convert values exactly",
        columns=columns,
        on=f"{shape.label}, columns {named}",
        why="they have no exact counterpart in these types",
        hint=f"Read these columns as text: {options} (in Python text=[…]).",
    )


def _joined_blocks(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same lines in larger blocks."""
    waiting: list[bytes] = []
    size = 0
    for block in blocks:
        waiting.append(block)
        size += len(block)
        if size >= _WIDE_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)


def _arrow_type(pa: Any, kind: ColumnType) -> Any:
    match kind.kind:
        case "decimal":
            return pa.decimal128(kind.precision, kind.scale)
        case "timestamp":
            return pa.timestamp("us")
        case "timestamptz":
            return pa.timestamp("us", "UTC")
        case "date":
            return pa.date32()
        case _:
            return pa.type_for_alias(kind.arrow)


def _decoded_hex(value: str) -> bytes:
    if not value.startswith("\\x"):
        raise ValueError
    return bytes.fromhex(value[2:])


def _string_or_json(value: bytes) -> bytes | str | None:
    """Return a string's content. Any other value, or a string that UTF-8 can't hold, is returned as its JSON text."""
    if value.startswith(b'"'):
        try:
            return msgspec.json.decode(value, type=str)
        except msgspec.DecodeError:
            return value
    return None if value == _NULL else value
