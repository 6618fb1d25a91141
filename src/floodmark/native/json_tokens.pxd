# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Tokens of JSON: each function takes the start of one and returns the position after it, or NULL.

The text ends with a newline. No token has one, so no function reads past the end.
"""

from libc.stdint cimport uint64_t
from libc.string cimport memchr, memcmp, memcpy

cdef extern from *:
    """
    #include <stdint.h>

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
    uint64_t floodmark_marks(const unsigned char* p) noexcept nogil
    int floodmark_first(uint64_t marks) noexcept nogil

ctypedef const unsigned char* Text

cdef enum:
    DEEPEST = 512  # levels of nested json


cdef inline Py_ssize_t count_lines(Text p, Text end) noexcept nogil:
    cdef Py_ssize_t found = 0
    while p < end:
        p = <Text>memchr(p, c"\n", end - p) + 1
        found += 1
    return found


cdef inline bint is_utf8(Text p, Text end) noexcept nogil:
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


cdef inline Text after_space(Text p) noexcept nogil:
    while p[0] == c" " or p[0] == c"\t" or p[0] == c"\r":
        p += 1
    return p


cdef inline bint is_word(Text p, Text end, const char* word, Py_ssize_t size) noexcept nogil:
    return end - p > size and memcmp(p, word, size) == 0


cdef inline bint is_digit(unsigned char c) noexcept nogil:
    return c"0" <= c <= c"9"


cdef inline int hex_digit(unsigned char c) noexcept nogil:
    if c"0" <= c <= c"9":
        return c - c"0"
    if c"a" <= c <= c"f":
        return c - c"a" + 10
    return c - c"A" + 10 if c"A" <= c <= c"F" else -1


cdef inline Text plain_end(Text p, Text end) noexcept nogil:
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


cdef inline int utf16_unit(Text p) noexcept nogil:
    """Return the number of four hexadecimal digits, or -1."""
    cdef int number, digit, found = 0
    for number in range(4):
        digit = hex_digit(p[number])
        if digit < 0:
            return -1
        found = found * 16 + digit
    return found


cdef inline Text string_end(Text p, Text end) noexcept nogil:
    """Skip the rest of a string of any JSON."""
    while True:
        p = plain_end(p, end)
        if p[0] == c'"':
            return p + 1
        if p[0] != c"\\":
            return NULL
        if p[1] == c"u":
            if utf16_unit(p + 2) < 0:
                return NULL
            p += 6
        elif p[1] and memchr(b'"\\/bfnrt', p[1], 8) != NULL:
            p += 2
        else:
            return NULL


cdef inline Text number_end(Text p) noexcept nogil:
    if p[0] == c"-":
        p += 1
    if p[0] == c"0":
        p += 1
    elif is_digit(p[0]):
        while is_digit(p[0]):
            p += 1
    else:
        return NULL
    if p[0] == c".":
        p += 1
        if not is_digit(p[0]):
            return NULL
        while is_digit(p[0]):
            p += 1
    if p[0] == c"e" or p[0] == c"E":
        p += 2 if p[1] == c"+" or p[1] == c"-" else 1
        if not is_digit(p[0]):
            return NULL
        while is_digit(p[0]):
            p += 1
    return p


cdef inline Text scalar_end(Text p, Text end) noexcept nogil:
    if p[0] == c'"':
        return string_end(p + 1, end)
    if p[0] == c"n":
        return p + 4 if is_word(p, end, b"null", 4) else NULL
    if p[0] == c"t":
        return p + 4 if is_word(p, end, b"true", 4) else NULL
    if p[0] == c"f":
        return p + 5 if is_word(p, end, b"false", 5) else NULL
    return number_end(p)


cdef inline Text key_end(Text p, Text end) noexcept nogil:
    if p[0] != c'"':
        return NULL
    p = string_end(p + 1, end)
    if p == NULL:
        return NULL
    p = after_space(p)
    return p + 1 if p[0] == c":" else NULL


cdef inline Text json_end(Text p, Text end) noexcept nogil:
    """Skip any JSON value that is not nested too deep."""
    cdef char inside[DEEPEST]
    cdef int depth = 0
    cdef bint value = True  # else what follows is after a value
    while True:
        p = after_space(p)
        if value:
            if p[0] == c"{" or p[0] == c"[":
                if depth == DEEPEST:
                    return NULL
                inside[depth] = c"}" if p[0] == c"{" else c"]"
                depth += 1
                p = after_space(p + 1)
                if p[0] == inside[depth - 1]:
                    value = False
                    continue
                if inside[depth - 1] == c"}":
                    p = key_end(p, end)
            else:
                p = scalar_end(p, end)
                value = False
                if depth == 0:
                    return p
        elif p[0] == inside[depth - 1]:
            depth -= 1
            p += 1
            if depth == 0:
                return p
        elif p[0] == c",":
            p = after_space(p + 1)
            if inside[depth - 1] == c"}":
                p = key_end(p, end)
            value = True
        else:
            return NULL
        if p == NULL:
            return NULL
