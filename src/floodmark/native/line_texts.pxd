# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Strings, bytes and JSON text of a line: each function appends a value to its column.

It returns the position after the value, or NULL: `found` is -1 without memory.
"""

from libc.stdint cimport INT32_MAX
from libc.string cimport memcpy

from floodmark.native.arrow_columns cimport ANY, BYTES, STRING, Column, make_room
from floodmark.native.json_tokens cimport Text, hex_digit, is_word, json_end, plain_end, utf16_unit


cdef inline bint _append(Column* column, Text p, Text after, int* found) noexcept nogil:
    if after == p:
        return True
    if not make_room(column, after - p):
        found[0] = -1
        return False
    memcpy(column.text + column.text_size, p, after - p)
    column.text_size += after - p
    return True


cdef inline bint _append_code(Column* column, int code, int* found) noexcept nogil:
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


cdef inline Text _escape(Column* column, Text p, int* found) noexcept nogil:
    """Append the character of an escape. `p` is after its backslash."""
    cdef unsigned char one
    cdef int code, low
    if p[0] == c"u":
        code = utf16_unit(p + 1)
        if code < 0 or 0xDC00 <= code <= 0xDFFF:
            return NULL
        p += 5
        if 0xD800 <= code <= 0xDBFF:
            if p[0] != c"\\" or p[1] != c"u":
                return NULL
            low = utf16_unit(p + 2)
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


cdef inline Text _content(Column* column, Text p, Text end, int* found) noexcept nogil:
    """Append the content of a string. Half a surrogate pair has none."""
    cdef Text after
    if p[0] != c'"':
        return NULL
    p += 1
    while True:
        after = plain_end(p, end)
        if not _append(column, p, after, found):
            return NULL
        if after[0] == c'"':
            return after + 1
        if after[0] != c"\\":
            return NULL
        p = _escape(column, after + 1, found)
        if p == NULL:
            return NULL


cdef inline Text _bytes(Column* column, Text p, Text end, int* found) noexcept nogil:
    """Append the bytes of a string of hexadecimal digits after an escaped backslash and an x."""
    cdef Text after
    cdef unsigned char* into
    cdef int high, low
    if not is_word(p, end, b'"\\\\x', 4):
        return NULL
    p += 4
    after = plain_end(p, end)
    if after[0] != c'"' or (after - p) % 2:
        return NULL
    if not make_room(column, (after - p) // 2):
        found[0] = -1
        return NULL
    into = <unsigned char*>column.text + column.text_size
    while p < after:
        high, low = hex_digit(p[0]), hex_digit(p[1])
        if high < 0 or low < 0:
            return NULL
        into[0] = <unsigned char>(high * 16 + low)
        into, p = into + 1, p + 2
    column.text_size = <char*>into - column.text
    return after + 1


cdef inline Text read_text(Column* column, Text p, Text end, int* found) noexcept nogil:
    """Append a string's content, the bytes of a bytea, or the JSON text of another value."""
    cdef Text after
    if column.kind == BYTES:
        after = _bytes(column, p, end, found)
    elif column.kind == STRING or (column.kind == ANY and p[0] == c'"'):
        after = _content(column, p, end, found)
    else:
        after = json_end(p, end)
        if after != NULL and not _append(column, p, after, found):
            return NULL
    if column.text_size > INT32_MAX:
        return NULL
    return after
