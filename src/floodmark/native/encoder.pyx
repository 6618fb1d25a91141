# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""The native encoder: from PostgreSQL's binary rows to the lines that the server itself would have written.

A row's bytes come from `record_send` or from `COPY … (FORMAT binary)`. The lines are, byte for byte, those of
`row_to_json`, or of `COPY … (FORMAT csv)`, under Floodmark's pinned settings. All of it runs without the interpreter's
lock. The modules of the codec are inline functions in .pxd files, so that the compiler sees them as one: `rows` and
`wire` read, `columns` holds the plan, `texts`, `json_values`, `csv_values` and `arrays` write, and the others know how
values look.
"""

import json

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from libc.stdlib cimport calloc, free

from floodmark.native.arrays cimport element_in_text, json_array, text_array
from floodmark.native.built cimport FLOODMARK_VERSION
from floodmark.native.columns cimport ANY_SIZE, Column, Write
from floodmark.native.csv_values cimport csv_field, csv_header
from floodmark.native.floats cimport fill_powers_of_5
from floodmark.native.json_values cimport (
    json_bool, json_bytea, json_char, json_float4, json_float8, json_itself, json_jsonb, json_numeric, json_quoted,
    json_text, json_timestamp, json_timestamptz, large_itself, large_jsonb, large_numeric,
)
from floodmark.native.output cimport (
    BAD_COUNT, BAD_LENGTH, BAD_TYPE, BAD_VALUE, NO_MEMORY, TOO_SHORT, Output, reserve,
)
from floodmark.native.receive cimport (
    CUT, END, LOST, MORE, REFUSED, Functions, find_functions, receive_rows,
)
from floodmark.native.rows cimport Place, Plan, encode_rows
from floodmark.native.texts cimport (
    finite_interval, raw_char, text_bool, text_bytea, text_char, text_date, text_float4, text_float8, text_int2,
    text_int4, text_int8, text_interval, text_itself, text_jsonb, text_numeric, text_oid, text_time, text_timestamp,
    text_timestamptz, text_timetz, text_uuid,
)
from floodmark.native.wire cimport Cursor

VERSION = FLOODMARK_VERSION.decode()


class MalformedRows(ValueError):
    """Bytes from the server that are not the planned rows. The text gives places and lengths, never a row's bytes."""


cdef struct Kind:
    int32_t size  # of a value on the wire, or ANY_SIZE
    Write text
    Write in_json
    bint quoted_in_csv  # its text can need quotes


cdef Kind _kinds[32]
_numbers = {}  # a kind's name -> its place in _kinds


cdef void _add(str name, int32_t size, Write text, Write in_json, bint quoted_in_csv=False):
    _kinds[len(_numbers)] = Kind(size, text, in_json, quoted_in_csv)
    _numbers[name] = len(_numbers)


_add("bool", 1, text_bool, json_bool)
_add("int2", 2, text_int2, text_int2)
_add("int4", 4, text_int4, text_int4)
_add("int8", 8, text_int8, text_int8)
_add("oid", 4, text_oid, json_quoted)
_add("float4", 4, text_float4, json_float4)
_add("float8", 8, text_float8, json_float8)
_add("numeric", ANY_SIZE, text_numeric, json_numeric)
_add("text", ANY_SIZE, text_itself, json_text, True)
_add("char", 1, text_char, json_char, True)
_add("json", ANY_SIZE, text_itself, json_itself, True)
_add("jsonb", ANY_SIZE, text_jsonb, json_jsonb, True)
_add("uuid", 16, text_uuid, json_quoted)
_add("date", 4, text_date, json_quoted)
_add("time", 8, text_time, json_quoted)
_add("timetz", 12, text_timetz, json_quoted)
_add("timestamp", 8, text_timestamp, json_timestamp)
_add("timestamptz", 8, text_timestamptz, json_timestamptz)
_add("interval", 16, text_interval, json_quoted)
_add("bytea", ANY_SIZE, text_bytea, json_bytea)
_add("raw", ANY_SIZE, text_itself, json_itself, True)

_ARRAY = "array:"
KINDS = frozenset(_numbers) | {_ARRAY + name for name in _numbers if name != "raw"}


fill_powers_of_5()


cdef class Libpq:
    """The functions of the libpq that a compiled module of the PostgreSQL driver was linked with."""

    cdef Functions _functions
    cdef readonly int version

    def __init__(self, bytes module):
        if not find_functions(module, &self._functions, &self.version):
            raise OSError("the functions of libpq were not found")


_STATES = {MORE: "more", END: "end", CUT: "cut", REFUSED: "refused", LOST: "lost"}


cdef class _Lines:
    """Memory for lines, which views of it keep alive."""

    cdef Output out
    cdef int views

    def __dealloc__(self):
        free(self.out.start)

    def __getbuffer__(self, Py_buffer* view, int flags):
        PyBuffer_FillInfo(view, self, self.out.start, <Py_ssize_t>self.out.used, True, flags)
        self.views += 1

    def __releasebuffer__(self, Py_buffer* view):
        self.views -= 1


cdef class Encoder:
    """An encoder of one table's rows. Use one in each thread."""

    cdef Plan _plan
    cdef list _kept  # the bytes that the plan refers to
    cdef tuple _kinds_of_fields
    cdef bytes _header
    cdef _Lines _lines
    cdef bint _busy
    cdef readonly int64_t marks

    def __init__(
        self, fields, str row_format, bint quote_large=False, *, int server_version=180000, bint marked=False
    ):
        cdef bint in_json = row_format == "jsonl"
        if not in_json and row_format != "csv":
            raise ValueError(f"unknown row format {row_format!r}")
        if self._kept is not None:
            raise ValueError("an encoder can't be initialised twice")
        fields = [(*field, 0)[:3] for field in fields]
        self._kinds_of_fields = tuple(kind for _, kind, _ in fields)
        names = [name for name, _, _ in fields]
        self._header = b"" if in_json else csv_header(names)
        self._lines = _Lines()
        end = b"\n" if not in_json else b"}\n" if fields else b"{}\n"
        self._kept = [end]
        self._plan.end, self._plan.end_length, self._plan.marked = end, len(end), marked
        self._plan.columns = <Column*>calloc(2 * len(fields) + 1, sizeof(Column))
        if self._plan.columns == NULL:
            raise MemoryError
        for name, kind, oid in fields:
            self._add_column(name, kind, oid, in_json, quote_large, server_version)
            self._plan.number += 1
        self._plan.columns[0].alone = len(fields) == 1

    def __dealloc__(self):
        free(self._plan.columns)

    cdef _add_column(self, str name, str kind, uint32_t oid, bint in_json, bint quote_large, int version):
        """Choose the functions and bytes for the next column."""
        cdef int32_t number = self._plan.number
        cdef Column* column = &self._plan.columns[2 * number]
        if kind not in KINDS:
            raise ValueError(f"unknown kind {kind!r}")
        cdef bytes before = b"," if number else b""
        if in_json:
            before = (before or b"{") + json.dumps(name, ensure_ascii=False).encode() + b":"
        self._kept.append(before)
        column.before, column.before_length = before, len(before)
        if kind.startswith(_ARRAY):
            _choose(column + 1, kind.removeprefix(_ARRAY), in_json, quote_large, version)
            _choose_array(column, in_json)
        else:
            _choose(column, kind, in_json, quote_large, version)
        column.oid = oid

    def header(self):
        """Return CSV's line of names, with its newline; for JSON Lines, nothing."""
        return self._header

    def records(self, data):
        """Encode concatenated values of `record_send`. Return the lines, each with its newline, and their number."""
        return self._encode(data, True)

    def message(self, data):
        """Encode the rows in CopyData messages of `COPY … (FORMAT binary)`, one or several together."""
        return self._encode(data, False)

    def receive(self, Libpq libpq not None, size_t connection, size_t enough):
        """Encode what arrives of `COPY … (FORMAT binary)`. Return the lines, their number, and the stream's state."""
        cdef Place place
        cdef int fault, state
        self._begin()
        try:
            fault = _prepare(&self._lines.out, enough)
            with nogil:
                fault = fault or receive_rows(
                    &libpq._functions, <void*>connection, &self._plan, &self._lines.out, &place, enough, &state
                )
            if fault:
                raise self._error(fault, &place, False)
        finally:
            self._busy = False
        self.marks += place.marks
        return memoryview(self._lines), place.rows, _STATES[state]

    cdef _begin(self):
        if self._busy:
            raise RuntimeError("an encoder works for one thread at a time")
        if self._lines is None or self._lines.views:
            self._lines = _Lines()  # somebody still reads the last lines
        self._busy = True

    cdef _encode(self, data, bint typed):
        cdef Py_buffer view
        cdef Place place
        cdef int fault
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            self._begin()
        except BaseException:
            PyBuffer_Release(&view)
            raise
        try:
            place.cursor = Cursor(<const uint8_t*>view.buf, <const uint8_t*>view.buf + view.len)
            fault = _prepare(&self._lines.out, <size_t>view.len)
            with nogil:
                fault = fault or encode_rows(&self._plan, &self._lines.out, &place, typed)
            if fault:
                raise self._error(fault, &place, typed)
        finally:
            self._busy = False
            PyBuffer_Release(&view)
        self.marks += place.marks
        return memoryview(self._lines), place.rows

    cdef _error(self, int fault, const Place* place, bint typed):
        """Return the error for a fault: where it was and what the lengths were, but no byte of a value."""
        if fault == NO_MEMORY:
            return MemoryError()
        if place.field < 0:
            what = _WHY[fault]
            if fault == BAD_COUNT and 0 <= place.found <= MOST_FIELDS:
                what = f"{place.found} fields instead of {self._plan.number + (self._plan.marked and not typed)}"
            return MalformedRows(f"row {place.rows + 1}: {what}")
        kind = self._kinds_of_fields[place.field]
        cdef const Column* column = &self._plan.columns[2 * place.field]
        what = _WHY[fault]
        # After a wrong length, what looks like the next length can be part of a value. One that fits is hardly that.
        if fault == BAD_LENGTH and column.size != ANY_SIZE and place.found >= 0:
            what = f"{place.found} bytes instead of {column.size}"
        return MalformedRows(f"row {place.rows + 1}, field {place.field + 1} ({kind}): {what}")


_WHY = {
    TOO_SHORT: "the data ends too early",
    BAD_LENGTH: "a length is wrong",
    BAD_COUNT: "another number of fields than expected",
    BAD_TYPE: "another type than expected",
    BAD_VALUE: "the bytes are no value of this type",
}


cdef _choose(Column* column, str name, bint in_json, bint quote_large, int version):
    """Choose the functions of a kind that is no array."""
    cdef Kind kind = _kinds[_numbers[name]]
    column.size, column.text, column.write = kind.size, kind.text, kind.in_json
    if name == "char" and version < 150000:
        column.text = raw_char
    if name == "interval" and version < 170000:
        column.text = finite_interval
    if in_json:
        column.null_text, column.null_length = b"null", 4
        _choose_large(column, quote_large)
    else:
        column.null_text, column.null_length = b"", 0
        column.write = csv_field if kind.quoted_in_csv else column.text


cdef void _choose_large(Column* column, bint quote_large) noexcept:
    if not quote_large:
        return
    if column.write == json_numeric:
        column.write = large_numeric
    elif column.write == json_itself:
        column.write = large_itself
    elif column.write == json_jsonb:
        column.write = large_jsonb


cdef void _choose_array(Column* column, bint in_json) noexcept:
    """Make an array of the column whose element is already chosen, and stands after it."""
    cdef Column* element = column + 1
    column.element, column.size = element, ANY_SIZE
    if in_json:
        column.null_text, column.null_length = b"null", 4
        column.write = json_array
    else:
        column.null_text, column.null_length = b"", 0
        column.text, column.write = text_array, csv_field
        element.null_text, element.null_length = b"NULL", 4
        element.write = element_in_text


cdef enum:
    SPARE = 4096
    MOST_FIELDS = 1664  # of a row that PostgreSQL sends
    KEPT = 8 * 1024 * 1024  # bytes of memory that are kept after a small batch

cdef int _prepare(Output* out, size_t incoming) noexcept:
    """Empty the output. Give much memory back if one wide batch needed it."""
    cdef size_t likely = incoming + incoming // 2 + SPARE
    out.used = 0
    if out.capacity > KEPT and out.capacity // 4 > likely:
        free(out.start)
        out.start, out.capacity = NULL, 0
    return reserve(out, likely)
