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
from libc.stdint cimport INT32_MAX, INT64_MAX, int16_t, int32_t, int64_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy, memset

cdef extern from *:
    """
    #include <stdlib.h>
    #include <stdint.h>
    #include <locale.h>
    #ifdef __APPLE__
    #include <xlocale.h>
    #endif

    typedef unsigned __int128 floodmark_uint128;

    /* https://arrow.apache.org/docs/format/CDataInterface.html */
    struct FloodmarkArrowArray {
        int64_t length, null_count, offset, n_buffers, n_children;
        const void** buffers;
        struct FloodmarkArrowArray** children;
        struct FloodmarkArrowArray* dictionary;
        void (*release)(struct FloodmarkArrowArray*);
        void* private_data;
    };

    /* Return a word whose lowest set bit marks the first byte that ends a run of plain characters of a string. */
    static inline uint64_t floodmark_marks(const unsigned char* p) {
        const uint64_t ones = 0x0101010101010101ULL, high = 0x8080808080808080ULL;
        uint64_t w, quote, slash;
        __builtin_memcpy(&w, p, 8);
    #if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        w = __builtin_bswap64(w);
    #endif
        quote = w ^ (ones * '"');
        slash = w ^ (ones * '\\\\');
        return (((quote - ones) & ~quote) | ((slash - ones) & ~slash) | ((w - ones * 0x20) & ~w)) & high;
    }
    static inline int floodmark_first(uint64_t marks) { return __builtin_ctzll(marks) >> 3; }
    """
    ctypedef unsigned long long uint128 "floodmark_uint128"
    ctypedef struct ArrowArray "struct FloodmarkArrowArray":
        int64_t length, null_count, offset, n_buffers, n_children
        const void** buffers
        ArrowArray** children
        ArrowArray* dictionary
        void (*release)(ArrowArray*) noexcept nogil
        void* private_data
    uint64_t floodmark_marks(const unsigned char* p) noexcept nogil
    int floodmark_first(uint64_t marks) noexcept nogil
    ctypedef void* locale_t
    int LC_ALL_MASK
    locale_t newlocale(int mask, const char* name, locale_t base) nogil
    void freelocale(locale_t one) nogil
    double strtod_l(const char* text, char** end, locale_t one) nogil

cdef extern from "<math.h>" nogil:
    double NAN, INFINITY

ctypedef const unsigned char* Text

cdef enum Kind:
    INT16, INT32, INT64, DECIMAL, FLOAT32, FLOAT64, BOOL, DATE, TIMESTAMP, TIMESTAMPTZ, STRING, BYTES, JSON, ANY

cdef dict _KINDS = {
    "int16": INT16, "int32": INT32, "int64": INT64, "decimal": DECIMAL, "float32": FLOAT32, "float64": FLOAT64,
    "bool": BOOL, "date": DATE, "timestamp": TIMESTAMP, "timestamptz": TIMESTAMPTZ, "time": STRING, "uuid": STRING,
    "text": STRING, "bytes": BYTES, "json": JSON, "any": ANY, "digits": ANY,
}
cdef dict _WIDTHS = {
    INT16: 2, INT32: 4, INT64: 8, DECIMAL: 16, FLOAT32: 4, FLOAT64: 8, BOOL: 0, DATE: 4, TIMESTAMP: 8, TIMESTAMPTZ: 8,
}

cdef enum:
    DEEPEST = 512  # levels of nested json

cdef double _POWERS[23]
cdef uint128 _TENS[39]
cdef int _n
_POWERS[0], _TENS[0] = 1.0, 1
for _n in range(1, 23):
    _POWERS[_n] = _POWERS[_n - 1] * 10.0
for _n in range(1, 39):
    _TENS[_n] = _TENS[_n - 1] * 10


cdef struct Column:
    int kind, precision, scale
    int width  # bytes of a value; the offsets of strings have 4; 0 for bits
    bint varies  # the values are in `text`
    char* key  # what precedes the value in a line
    Py_ssize_t key_size
    char* fixed
    unsigned char* valid  # one bit for each row
    char* text
    Py_ssize_t text_size, text_room, text_kept
    int64_t nulls, nulls_kept


cdef class Rows:
    """Decoded rows, to be taken once: `pyarrow.record_batch(rows, schema)`."""

    cdef ArrowArray* array

    def __dealloc__(self):
        _drop(self.array)

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
        cdef Py_ssize_t lines = _count_lines(p, end), before = self.size
        cdef int number, found = 1
        if not _is_utf8(p, end):
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
            p = _after_space(p)
        if p[0] == c"n" and _is_word(p, end, b"null", 4):
            column.nulls += 1
            after = p + 4
            if column.width and not column.varies:
                memset(column.fixed + row * column.width, 0, column.width)
        else:
            column.valid[row >> 3] |= <unsigned char>(1 << (row & 7))
            if column.kind <= INT64:
                after = _integer(column, row, p)
            elif column.kind == DECIMAL:
                after = _decimal(column, row, p)
            elif column.kind <= FLOAT64:
                after = _float(column, row, p, end, self.plain)
            elif column.kind == BOOL:
                after = _bool(column, row, p, end)
            elif column.kind <= TIMESTAMPTZ:
                after = _moment(column, row, p, end, self.infinite)
            else:
                after = _text(column, p, end, found)
        if after == NULL:
            if found[0] > 0:
                found[0] = 0
            return NULL
        if column.varies:
            (<int32_t*>column.fixed)[row + 1] = <int32_t>column.text_size
        if column.kind == JSON or column.kind == ANY:
            after = _after_space(after)
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
                _clear_bits(column, self.size, room)
        self.room = room
        return True

    cdef void _undo(self, Py_ssize_t before) noexcept nogil:
        cdef Column* column
        cdef int number
        for number in range(self.count):
            column = &self.columns[number]
            _clear_bits(column, before, self.room)
            column.text_size, column.nulls = column.text_kept, column.nulls_kept
        self.size = before

    cdef ArrowArray* _handed_over(self) noexcept:
        """Return the rows as an Arrow struct array that owns their memory, or NULL without memory."""
        cdef ArrowArray* found = _new_array(self.size, 0, 1, self.count)
        cdef Column* column
        cdef ArrowArray* child
        cdef int number
        if found == NULL:
            return NULL
        for number in range(self.count):
            column = &self.columns[number]
            child = _new_array(self.size, column.nulls, 3 if column.varies else 2, 0)
            if child == NULL:
                _drop(found)
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


cdef ArrowArray* _new_array(int64_t length, int64_t nulls, int buffers, int children) noexcept nogil:
    cdef ArrowArray* found = <ArrowArray*>calloc(1, sizeof(ArrowArray))
    if found == NULL:
        return NULL
    found.release = _release
    found.length, found.null_count, found.n_buffers, found.n_children = length, nulls, buffers, children
    found.buffers = <const void**>calloc(buffers, sizeof(void*))
    found.children = <ArrowArray**>calloc(max(children, 1), sizeof(ArrowArray*))
    if found.buffers == NULL or found.children == NULL:
        _drop(found)
        return NULL
    return found


cdef void _release(ArrowArray* array) noexcept nogil:
    cdef int64_t number
    if array.buffers != NULL:
        for number in range(array.n_buffers):
            free(<void*>array.buffers[number])
    if array.children != NULL:
        for number in range(array.n_children):
            _drop(array.children[number])
    free(<void*>array.buffers)
    free(array.children)
    array.release = NULL


cdef void _drop(ArrowArray* array) noexcept nogil:
    if array != NULL:
        if array.release != NULL:
            array.release(array)
        free(array)


cdef void _drop_capsule(object capsule) noexcept:
    _drop(<ArrowArray*>PyCapsule_GetPointer(capsule, "arrow_array"))


cdef void _clear_bits(Column* column, Py_ssize_t first, Py_ssize_t room) noexcept nogil:
    """Clear the bits of all rows from this one on."""
    cdef Py_ssize_t start = first >> 3, size = (room + 7) >> 3
    if start >= size:
        return
    column.valid[start] &= <unsigned char>((1 << (first & 7)) - 1)
    memset(column.valid + start + 1, 0, size - start - 1)
    if column.kind == BOOL:
        (<unsigned char*>column.fixed)[start] &= <unsigned char>((1 << (first & 7)) - 1)
        memset(column.fixed + start + 1, 0, size - start - 1)


cdef bint _room(Column* column, Py_ssize_t more) noexcept nogil:
    cdef Py_ssize_t room = column.text_room
    cdef void* larger
    if column.text_size + more <= room:
        return True
    while room < column.text_size + more:
        room = room * 2 if room else 4096
    larger = realloc(column.text, room)
    if larger == NULL:
        return False
    column.text, column.text_room = <char*>larger, room
    return True


# Scanning: each function takes the start of a token and returns the position after it, or NULL.


cdef Py_ssize_t _count_lines(Text p, Text end) noexcept nogil:
    cdef Py_ssize_t found = 0
    while p < end:
        p = <Text>memchr(p, c"\n", end - p) + 1
        found += 1
    return found


cdef bint _is_utf8(Text p, Text end) noexcept nogil:
    cdef uint64_t word
    cdef unsigned char c, low, high
    cdef int more
    while p < end:
        if end - p >= 8:
            memcpy(&word, p, 8)
            if not word & <uint64_t>0x8080808080808080:
                p += 8
                continue
        c = p[0]
        p += 1
        if c < 0x80:
            continue
        low, high = 0x80, 0xBF
        if 0xC2 <= c <= 0xDF:
            more = 1
        elif 0xE0 <= c <= 0xEF:
            more = 2
            low = 0xA0 if c == 0xE0 else 0x80
            high = 0x9F if c == 0xED else 0xBF
        elif 0xF0 <= c <= 0xF4:
            more = 3
            low = 0x90 if c == 0xF0 else 0x80
            high = 0x8F if c == 0xF4 else 0xBF
        else:
            return False
        while more:  # a newline at the end of the block is no continuation
            if not low <= p[0] <= high:
                return False
            low, high, more, p = 0x80, 0xBF, more - 1, p + 1
    return True


cdef inline Text _after_space(Text p) noexcept nogil:
    while p[0] == c" " or p[0] == c"\t" or p[0] == c"\r":
        p += 1
    return p


cdef inline bint _is_word(Text p, Text end, const char* word, Py_ssize_t size) noexcept nogil:
    return end - p > size and memcmp(p, word, size) == 0


cdef inline bint _is_digit(unsigned char c) noexcept nogil:
    return c"0" <= c <= c"9"


cdef inline int _hex(unsigned char c) noexcept nogil:
    if c"0" <= c <= c"9":
        return c - c"0"
    if c"a" <= c <= c"f":
        return c - c"a" + 10
    return c - c"A" + 10 if c"A" <= c <= c"F" else -1


cdef inline Text _plain_end(Text p, Text end) noexcept nogil:
    """Return the first character of a string that is a quote, a backslash or a control character."""
    cdef uint64_t marks
    while end - p >= 8:
        marks = floodmark_marks(p)
        if marks:
            return p + floodmark_first(marks)
        p += 8
    while p[0] >= 0x20 and p[0] != c'"' and p[0] != c"\\":
        p += 1
    return p


cdef int _unit(Text p) noexcept nogil:
    """Return the number of four hexadecimal digits, or -1."""
    cdef int number, digit, found = 0
    for number in range(4):
        digit = _hex(p[number])
        if digit < 0:
            return -1
        found = found * 16 + digit
    return found


cdef Text _string(Text p, Text end) noexcept nogil:
    """Skip the rest of a string of any JSON."""
    while True:
        p = _plain_end(p, end)
        if p[0] == c'"':
            return p + 1
        if p[0] != c"\\":
            return NULL
        if p[1] == c"u":
            if _unit(p + 2) < 0:
                return NULL
            p += 6
        elif p[1] and memchr(b'"\\/bfnrt', p[1], 8) != NULL:
            p += 2
        else:
            return NULL


cdef Text _number(Text p) noexcept nogil:
    if p[0] == c"-":
        p += 1
    if p[0] == c"0":
        p += 1
    elif _is_digit(p[0]):
        while _is_digit(p[0]):
            p += 1
    else:
        return NULL
    if p[0] == c".":
        p += 1
        if not _is_digit(p[0]):
            return NULL
        while _is_digit(p[0]):
            p += 1
    if p[0] == c"e" or p[0] == c"E":
        p += 2 if p[1] == c"+" or p[1] == c"-" else 1
        if not _is_digit(p[0]):
            return NULL
        while _is_digit(p[0]):
            p += 1
    return p


cdef Text _scalar(Text p, Text end) noexcept nogil:
    if p[0] == c'"':
        return _string(p + 1, end)
    if p[0] == c"n":
        return p + 4 if _is_word(p, end, b"null", 4) else NULL
    if p[0] == c"t":
        return p + 4 if _is_word(p, end, b"true", 4) else NULL
    if p[0] == c"f":
        return p + 5 if _is_word(p, end, b"false", 5) else NULL
    return _number(p)


cdef Text _json(Text p, Text end) noexcept nogil:
    """Skip any JSON value that is not nested too deep."""
    cdef char inside[DEEPEST]
    cdef int depth = 0
    cdef bint value = True  # else what follows is after a value
    while True:
        p = _after_space(p)
        if value:
            if p[0] == c"{" or p[0] == c"[":
                if depth == DEEPEST:
                    return NULL
                inside[depth] = c"}" if p[0] == c"{" else c"]"
                depth += 1
                p = _after_space(p + 1)
                if p[0] == inside[depth - 1]:
                    value = False
                    continue
                if inside[depth - 1] == c"}":
                    p = _key(p, end)
            else:
                p = _scalar(p, end)
                value = False
                if depth == 0:
                    return p
        elif p[0] == inside[depth - 1]:
            depth -= 1
            p += 1
            if depth == 0:
                return p
        elif p[0] == c",":
            p = _after_space(p + 1)
            if inside[depth - 1] == c"}":
                p = _key(p, end)
            value = True
        else:
            return NULL
        if p == NULL:
            return NULL


cdef Text _key(Text p, Text end) noexcept nogil:
    if p[0] != c'"':
        return NULL
    p = _string(p + 1, end)
    if p == NULL:
        return NULL
    p = _after_space(p)
    return p + 1 if p[0] == c":" else NULL


# Values: each function also stores the value in a row of its column.


cdef Text _integer(Column* column, Py_ssize_t row, Text p) noexcept nogil:
    cdef bint minus = p[0] == c"-"
    cdef uint64_t value = 0
    cdef Text start
    cdef int64_t signed
    if minus:
        p += 1
    start = p
    while _is_digit(p[0]) and p - start < 19:
        value = value * 10 + (p[0] - c"0")
        p += 1
    if p == start or (start[0] == c"0" and (p - start > 1 or minus)) or value > <uint64_t>INT64_MAX:
        return NULL
    if p[0] != c"," and p[0] != c"}":
        return NULL
    signed = -<int64_t>value if minus else <int64_t>value
    if column.kind == INT64:
        (<int64_t*>column.fixed)[row] = signed
    elif column.kind == INT32:
        if signed != <int32_t>signed:
            return NULL
        (<int32_t*>column.fixed)[row] = <int32_t>signed
    else:
        if signed != <int16_t>signed:
            return NULL
        (<int16_t*>column.fixed)[row] = <int16_t>signed
    return p


cdef Text _decimal(Column* column, Py_ssize_t row, Text p) noexcept nogil:
    """Read a number, or a string of one: quote-large writes large numbers so."""
    cdef bint quoted = p[0] == c'"', minus
    cdef uint128 value = 0
    cdef Text start
    cdef int digits, fraction = 0
    if quoted:
        p += 1
    minus = p[0] == c"-"
    if minus:
        p += 1
    start = p
    while _is_digit(p[0]) and p - start < 39:
        value = value * 10 + (p[0] - c"0")
        p += 1
    digits = <int>(p - start)
    if not digits or (start[0] == c"0" and digits > 1):
        return NULL
    if start[0] == c"0":
        digits = 0
    if digits + column.scale > column.precision:
        return NULL
    if p[0] == c".":
        p += 1
        while _is_digit(p[0]) and fraction < column.scale:
            value = value * 10 + (p[0] - c"0")
            fraction += 1
            p += 1
        if not fraction:
            return NULL
    if quoted:
        if p[0] != c'"':
            return NULL
        p += 1
    if p[0] != c"," and p[0] != c"}":
        return NULL
    value = value * _TENS[column.scale - fraction]
    if minus:
        value = -value
    memcpy(column.fixed + row * 16, &value, 16)
    return p


cdef Text _float(Column* column, Py_ssize_t row, Text p, Text end, locale_t plain) noexcept nogil:
    cdef double value
    cdef Text after
    if p[0] == c'"':
        if _is_word(p, end, b'"NaN"', 5):
            after, value = p + 5, NAN
        elif _is_word(p, end, b'"Infinity"', 10):
            after, value = p + 10, INFINITY
        elif _is_word(p, end, b'"-Infinity"', 11):
            after, value = p + 11, -INFINITY
        else:
            return NULL
    else:
        after = _number(p)
        if after == NULL or not _finite(p, after, &value, plain):
            return NULL
    if column.kind == FLOAT64:
        (<double*>column.fixed)[row] = value
    else:
        (<float*>column.fixed)[row] = <float>value
        if _is_infinite(<float>value) and not _is_infinite(value):
            return NULL
    return after


cdef bint _finite(Text p, Text after, double* value, locale_t plain) noexcept nogil:
    """Read a number of valid JSON as the nearest double. Return false if none is near."""
    cdef Text start = p
    cdef bint minus = p[0] == c"-", point = False
    cdef uint64_t digits = 0
    cdef int exponent = 0, count = 0
    if minus:
        p += 1
    while p < after and count < 19:
        if p[0] == c".":
            point = True
        elif _is_digit(p[0]):
            digits = digits * 10 + (p[0] - c"0")
            count += digits > 0
            exponent -= point
        else:
            break
        p += 1
    # Both operands are exact, so the result is rounded once.
    if p == after and digits <= <uint64_t>1 << 53 and exponent >= -22:
        value[0] = <double>digits / _POWERS[-exponent]
        if minus:
            value[0] = -value[0]
        return True
    value[0] = strtod_l(<const char*>start, NULL, plain)
    return value[0] - value[0] == 0.0


cdef Text _bool(Column* column, Py_ssize_t row, Text p, Text end) noexcept nogil:
    if _is_word(p, end, b"true", 4):
        (<unsigned char*>column.fixed)[row >> 3] |= <unsigned char>(1 << (row & 7))
        return p + 4
    return p + 5 if _is_word(p, end, b"false", 5) else NULL


cdef inline int _digits(Text p, int count) noexcept nogil:
    """Return the number of some decimal digits, or -1."""
    cdef int number, found = 0
    for number in range(count):
        if not _is_digit(p[number]):
            return -1
        found = found * 10 + (p[number] - c"0")
    return found


cdef Text _moment(Column* column, Py_ssize_t row, Text p, Text end, bint infinite) noexcept nogil:
    """Read a date or timestamp of the years 1 to 9999, or an infinite one."""
    cdef int64_t days, value = 0
    cdef int sign = 0
    if infinite and _is_word(p, end, b'"infinity"', 10):
        sign, p = 1, p + 10
    elif infinite and _is_word(p, end, b'"-infinity"', 11):
        sign, p = -1, p + 11
    if sign:
        if column.kind == DATE:
            (<int32_t*>column.fixed)[row] = sign * INT32_MAX
        else:
            (<int64_t*>column.fixed)[row] = sign * INT64_MAX
        return p
    if p[0] != c'"' or end - p < 13 or not _day(p + 1, &days):
        return NULL
    p += 11
    if column.kind == DATE:
        (<int32_t*>column.fixed)[row] = <int32_t>days
    else:
        p = _clock(p, end, &value)
        if p == NULL:
            return NULL
        if column.kind == TIMESTAMPTZ:
            if not _is_word(p, end, b"+00:00", 6):
                return NULL
            p += 6
        (<int64_t*>column.fixed)[row] = days * <int64_t>86400000000 + value
    return p + 1 if p[0] == c'"' else NULL


cdef bint _day(Text p, int64_t* days) noexcept nogil:
    """Read the ten characters of a date."""
    cdef int year = _digits(p, 4), month = _digits(p + 5, 2), day = _digits(p + 8, 2), last, shifted, of_year
    if year < 1 or p[4] != c"-" or p[7] != c"-" or month < 1 or month > 12 or day < 1:
        return False
    last = 30 + ((month + (month >> 3)) & 1)
    if month == 2:
        last = 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    if day > last:
        return False
    shifted = year - (month <= 2)  # the year begins in March, so that the leap day is its last
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    days[0] = shifted * 365 + shifted // 4 - shifted // 100 + shifted // 400 + of_year - 719468
    return True


cdef Text _clock(Text p, Text end, int64_t* value) noexcept nogil:
    """Read `T`, a time of day and up to six decimals."""
    cdef int hour, minute, second, fraction = 0, count = 0
    if end - p < 10 or p[0] != c"T" or p[3] != c":" or p[6] != c":":
        return NULL
    hour, minute, second = _digits(p + 1, 2), _digits(p + 4, 2), _digits(p + 7, 2)
    if hour < 0 or hour > 23 or minute < 0 or minute > 59 or second < 0 or second > 59:
        return NULL
    p += 9
    if p[0] == c".":
        p += 1
        while _is_digit(p[0]) and count < 6:
            fraction = fraction * 10 + (p[0] - c"0")
            count += 1
            p += 1
        if not count:
            return NULL
        while count < 6:
            fraction *= 10
            count += 1
    value[0] = ((hour * 60 + minute) * 60 + second) * <int64_t>1000000 + fraction
    return p


cdef Text _text(Column* column, Text p, Text end, int* found) noexcept nogil:
    """Append a string's content, the bytes of a bytea, or the JSON text of another value."""
    cdef Text after
    if column.kind == BYTES:
        after = _bytes(column, p, end, found)
    elif column.kind == STRING or (column.kind == ANY and p[0] == c'"'):
        after = _content(column, p, end, found)
    else:
        after = _json(p, end)
        if after != NULL and not _append(column, p, after, found):
            return NULL
    if column.text_size > INT32_MAX:
        return NULL
    return after


cdef inline bint _append(Column* column, Text p, Text after, int* found) noexcept nogil:
    if after == p:
        return True
    if not _room(column, after - p):
        found[0] = -1
        return False
    memcpy(column.text + column.text_size, p, after - p)
    column.text_size += after - p
    return True


cdef Text _content(Column* column, Text p, Text end, int* found) noexcept nogil:
    """Append the content of a string. Half a surrogate pair has none."""
    cdef Text after
    if p[0] != c'"':
        return NULL
    p += 1
    while True:
        after = _plain_end(p, end)
        if not _append(column, p, after, found):
            return NULL
        if after[0] == c'"':
            return after + 1
        if after[0] != c"\\":
            return NULL
        p = _escape(column, after + 1, found)
        if p == NULL:
            return NULL


cdef Text _escape(Column* column, Text p, int* found) noexcept nogil:
    """Append the character of an escape. `p` is after its backslash."""
    cdef unsigned char one
    cdef int code, low
    if p[0] == c"u":
        code = _unit(p + 1)
        if code < 0 or 0xDC00 <= code <= 0xDFFF:
            return NULL
        p += 5
        if 0xD800 <= code <= 0xDBFF:
            if p[0] != c"\\" or p[1] != c"u":
                return NULL
            low = _unit(p + 2)
            if low < 0xDC00 or low > 0xDFFF:
                return NULL
            code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
            p += 6
        return p if _append_code(column, code, found) else NULL
    if p[0] == c"n":
        one = c"\n"
    elif p[0] == c'"' or p[0] == c"\\" or p[0] == c"/":
        one = p[0]
    elif p[0] == c"t":
        one = c"\t"
    elif p[0] == c"r":
        one = c"\r"
    elif p[0] == c"b":
        one = c"\b"
    elif p[0] == c"f":
        one = c"\f"
    else:
        return NULL
    return p + 1 if _append(column, &one, &one + 1, found) else NULL


cdef bint _append_code(Column* column, int code, int* found) noexcept nogil:
    cdef unsigned char utf8[4]
    cdef int size
    if code < 0x80:
        size, utf8[0] = 1, <unsigned char>code
    elif code < 0x800:
        size, utf8[0], utf8[1] = 2, 0xC0 | (code >> 6), 0x80 | (code & 0x3F)
    elif code < 0x10000:
        size, utf8[0], utf8[1], utf8[2] = 3, 0xE0 | (code >> 12), 0x80 | ((code >> 6) & 0x3F), 0x80 | (code & 0x3F)
    else:
        size, utf8[0], utf8[1] = 4, 0xF0 | (code >> 18), 0x80 | ((code >> 12) & 0x3F)
        utf8[2], utf8[3] = 0x80 | ((code >> 6) & 0x3F), 0x80 | (code & 0x3F)
    return _append(column, utf8, utf8 + size, found)


cdef Text _bytes(Column* column, Text p, Text end, int* found) noexcept nogil:
    """Append the bytes of a string of hexadecimal digits after an escaped backslash and an x."""
    cdef Text after
    cdef unsigned char* into
    cdef int high, low
    if not _is_word(p, end, b'"\\\\x', 4):
        return NULL
    p += 4
    after = _plain_end(p, end)
    if after[0] != c'"' or (after - p) % 2:
        return NULL
    if not _room(column, (after - p) // 2):
        found[0] = -1
        return NULL
    into = <unsigned char*>column.text + column.text_size
    while p < after:
        high, low = _hex(p[0]), _hex(p[1])
        if high < 0 or low < 0:
            return NULL
        into[0] = <unsigned char>(high * 16 + low)
        into, p = into + 1, p + 2
    column.text_size = <char*>into - column.text
    return after + 1


cdef inline bint _is_infinite(double value) noexcept nogil:
    return value == INFINITY or value == -INFINITY
