# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, embedsignature=True
"""Decoder of JSON Lines into Arrow columns, without the GIL.

It takes only lines of the form that Floodmark writes: every column, in order, without spaces between them, each value
in its type's usual spelling. It refuses a block that has any other line and keeps nothing of it; the caller then
converts this block in Python, which knows all spellings and names the column of a value that does not fit. So a wrong
guess here can cost time, but never a value.

All reads stay inside the block: its last byte is a newline, which ends every token, and no function reads past one.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from libc.stdint cimport int32_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset

from floodmark.native.arrow_columns cimport (
    ANY, BOOL, BYTES, DATE, DECIMAL, FLOAT32, FLOAT64, INT16, INT32, INT64, JSON, STRING, TIMESTAMP, TIMESTAMPTZ,
    ArrowArray, Column, clear_bits, drop_array, new_array,
)
from floodmark.native.built cimport FLOODMARK_VERSION
from floodmark.native.json_tokens cimport Text, after_space, count_lines, is_utf8, is_word
from floodmark.native.line_scalars cimport (
    LC_ALL_MASK, freelocale, locale_t, newlocale, read_bool, read_decimal, read_float, read_integer, read_moment,
)
from floodmark.native.line_texts cimport read_text

VERSION = FLOODMARK_VERSION.decode()

cdef dict _KINDS = {
    "int16": INT16, "int32": INT32, "int64": INT64, "decimal": DECIMAL, "float32": FLOAT32, "float64": FLOAT64,
    "bool": BOOL, "date": DATE, "timestamp": TIMESTAMP, "timestamptz": TIMESTAMPTZ, "time": STRING, "uuid": STRING,
    "text": STRING, "bytes": BYTES, "json": JSON, "any": ANY, "digits": ANY,
}
cdef dict _WIDTHS = {
    INT16: 2, INT32: 4, INT64: 8, DECIMAL: 16, FLOAT32: 4, FLOAT64: 8, BOOL: 0, DATE: 4, TIMESTAMP: 8, TIMESTAMPTZ: 8,
}


cdef void _drop_capsule(object capsule) noexcept:
    drop_array(<ArrowArray*>PyCapsule_GetPointer(capsule, "arrow_array"))


cdef class Rows:
    """Decoded rows, to be taken once: `pyarrow.record_batch(rows, schema)`."""

    cdef ArrowArray* array

    def __dealloc__(self):
        drop_array(self.array)

    def __arrow_c_array__(self, requested_schema=None):
        if self.array == NULL or requested_schema is None:
            raise ValueError("these rows can be taken once, with their schema")
        capsule = PyCapsule_New(self.array, "arrow_array", _drop_capsule)
        self.array = NULL
        return requested_schema, capsule


cdef class Decoder:
    """Decoder for one table. `names` are the columns' names in JSON, `types` their kind, precision and scale.

    If `infinite` is true, infinite dates and timestamps become DuckDB's numbers for them.
    """

    cdef Column* columns
    cdef int count
    cdef Py_ssize_t room, size
    cdef bint infinite
    cdef locale_t plain

    def __cinit__(self, names, types, bint infinite=False):
        self.count = len(names)
        self.columns = <Column*>calloc(max(self.count, 1), sizeof(Column))
        self.plain = newlocale(LC_ALL_MASK, "C", NULL)
        if self.columns == NULL or self.plain == NULL:
            raise MemoryError
        self.infinite = infinite
        for number, (name, (kind, precision, scale)) in enumerate(zip(names, types, strict=True)):
            self._describe(&self.columns[number], (b"," if number else b"{") + name + b":", _KINDS[kind])
            self.columns[number].precision, self.columns[number].scale = precision, scale

    cdef int _describe(self, Column* column, bytes key, int kind) except -1:
        column.kind, column.varies, column.width = kind, kind not in _WIDTHS, _WIDTHS.get(kind, 4)
        column.key_size = len(key)
        column.key = <char*>malloc(column.key_size)
        if column.key == NULL:
            raise MemoryError
        memcpy(column.key, PyBytes_AS_STRING(key), column.key_size)
        return 0

    def __dealloc__(self):
        cdef int number
        if self.columns != NULL:
            for number in range(self.count):
                free(self.columns[number].key)
                free(self.columns[number].fixed)
                free(self.columns[number].valid)
                free(self.columns[number].text)
            free(self.columns)
        if self.plain != NULL:
            freelocale(self.plain)

    @property
    def rows(self):
        """Return the number of rows that were taken since the last `finish`."""
        return self.size

    def take(self, bytes lines):
        """Append a block of whole lines. Return false, and append nothing, if this decoder can't read one of them."""
        cdef Text p = <Text>PyBytes_AS_STRING(lines)
        cdef Py_ssize_t length = PyBytes_GET_SIZE(lines)
        cdef int done
        if not self.count or not length or p[length - 1] != c"\n":
            return False
        with nogil:
            done = self._take(p, p + length)
        if done < 0:
            raise MemoryError
        return done == 1

    def finish(self):
        """Return the rows so far and start again."""
        cdef Rows rows = Rows.__new__(Rows)
        if not self.size:
            raise ValueError("no rows were taken")
        rows.array = self._handed_over()
        if rows.array == NULL:
            raise MemoryError
        return rows

    cdef int _take(self, Text p, Text end) noexcept nogil:
        """Return 1 if the lines were appended, 0 if one is unusual, -1 without memory."""
        cdef Py_ssize_t lines = count_lines(p, end), before = self.size
        cdef int number, found = 1
        if not is_utf8(p, end):
            return 0
        if not self._reserve(before + lines):
            return -1
        for number in range(self.count):
            self.columns[number].text_kept = self.columns[number].text_size
            self.columns[number].nulls_kept = self.columns[number].nulls
        while p < end:
            p = self._line(p, end, &found)
            if p == NULL:
                self._undo(before)
                return found
            self.size += 1
        return 1

    cdef Text _line(self, Text p, Text end, int* found) noexcept nogil:
        """Decode a line into the row `size`. Return its end, or NULL."""
        cdef Column* column
        cdef int number
        for number in range(self.count):
            column = &self.columns[number]
            if end - p <= column.key_size or memcmp(p, column.key, column.key_size) != 0:
                found[0] = 0
                return NULL
            p = self._value(column, p + column.key_size, end, found)
            if p == NULL:
                return NULL
        if p[0] != c"}" or p[1] != c"\n":
            found[0] = 0
            return NULL
        return p + 2

    cdef Text _value(self, Column* column, Text p, Text end, int* found) noexcept nogil:
        """Decode a value into the row `size`. Return its end, or NULL: `found` is -1 without memory, else 0."""
        cdef Py_ssize_t row = self.size
        cdef Text after = NULL
        if column.kind == JSON or column.kind == ANY:
            p = after_space(p)
        if p[0] == c"n" and is_word(p, end, b"null", 4):
            column.nulls += 1
            after = p + 4
            if column.width and not column.varies:
                memset(column.fixed + row * column.width, 0, column.width)
        else:
            column.valid[row >> 3] |= <unsigned char>(1 << (row & 7))
            if column.kind <= INT64:
                after = read_integer(column, row, p)
            elif column.kind == DECIMAL:
                after = read_decimal(column, row, p)
            elif column.kind <= FLOAT64:
                after = read_float(column, row, p, end, self.plain)
            elif column.kind == BOOL:
                after = read_bool(column, row, p, end)
            elif column.kind <= TIMESTAMPTZ:
                after = read_moment(column, row, p, end, self.infinite)
            else:
                after = read_text(column, p, end, found)
        if after == NULL:
            if found[0] > 0:
                found[0] = 0
            return NULL
        if column.varies:
            (<int32_t*>column.fixed)[row + 1] = <int32_t>column.text_size
        if column.kind == JSON or column.kind == ANY:
            after = after_space(after)
        return after

    cdef bint _reserve(self, Py_ssize_t rows) noexcept nogil:
        """Make room for this many rows. The first offset of strings is always 0."""
        cdef Column* column
        cdef Py_ssize_t room = self.room, bits
        cdef int number
        cdef void* larger
        while room < rows:
            room = room * 2 if room else 1024
        for number in range(self.count):
            column = &self.columns[number]
            if room > self.room or column.fixed == NULL:
                bits = (room + 7) >> 3
                larger = realloc(column.fixed, (room + 1) * column.width if column.width else bits)
                if larger == NULL:
                    return False
                column.fixed = <char*>larger
                if column.varies and not self.size:
                    (<int32_t*>column.fixed)[0] = 0
                larger = realloc(column.valid, bits)
                if larger == NULL:
                    return False
                column.valid = <unsigned char*>larger
                clear_bits(column, self.size, room)
        self.room = room
        return True

    cdef void _undo(self, Py_ssize_t before) noexcept nogil:
        cdef Column* column
        cdef int number
        for number in range(self.count):
            column = &self.columns[number]
            clear_bits(column, before, self.room)
            column.text_size, column.nulls = column.text_kept, column.nulls_kept
        self.size = before

    cdef ArrowArray* _handed_over(self) noexcept:
        """Return the rows as an Arrow struct array that owns their memory, or NULL without memory."""
        cdef ArrowArray* found = new_array(self.size, 0, 1, self.count)
        cdef Column* column
        cdef ArrowArray* child
        cdef int number
        if found == NULL:
            return NULL
        for number in range(self.count):
            column = &self.columns[number]
            child = new_array(self.size, column.nulls, 3 if column.varies else 2, 0)
            if child == NULL:
                drop_array(found)
                return NULL
            found.children[number] = child
            if column.varies and column.text == NULL:  # Arrow wants no NULL here
                column.text = <char*>malloc(1)
            child.buffers[0], child.buffers[1] = column.valid, column.fixed
            if column.varies:
                child.buffers[2] = column.text
            column.valid, column.fixed, column.text = NULL, NULL, NULL
            column.text_size = column.text_room = column.nulls = 0
        self.size = 0
        return found
