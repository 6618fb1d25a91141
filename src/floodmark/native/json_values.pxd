# cython: cdivision=True
"""A value in a line of JSON, as PostgreSQL's row_to_json writes it."""

from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memcpy, memmove

from floodmark.native.columns cimport Column
from floodmark.native.escapes cimport put_string
from floodmark.native.floats cimport is_finite_float4, is_finite_float8, put_float4, put_float8
from floodmark.native.numbers cimport Numeric, is_special, put_numeric, read_numeric, whole_digits
from floodmark.native.output cimport (
    BAD_LENGTH, BAD_VALUE, FINE, NO_MEMORY, Output, put, put_byte, put_reserved, reserve,
)
from floodmark.native.texts cimport JSONB_VERSION, text_jsonb
from floodmark.native.times cimport put_timestamp
from floodmark.native.wire cimport read_uint32, read_uint64

cdef enum:
    LARGE_DIGITS = 19  # a number with fewer digits before the point fits into 64 bits


cdef inline int json_bool(Output* out, const Column* column, const uint8_t* data, int32_t length) noexcept nogil:
    if data[0] > 1:
        return BAD_VALUE
    return put(out, b"true", 4) if data[0] else put(out, b"false", 5)


cdef inline int json_quoted(Output* out, const Column* column, const uint8_t* data, int32_t length) noexcept nogil:
    """Append a text that holds nothing to escape, in quotes."""
    if put(out, b'"', 1):
        return NO_MEMORY
    cdef int fault = column.text(out, column, data, length)
    return fault if fault else put(out, b'"', 1)


cdef inline int json_float4(Output* out, const Column* column, const uint8_t* data, int32_t length) noexcept nogil:
    if not is_finite_float4(read_uint32(data)):
        return json_quoted(out, column, data, length)
    return put_float4(out, read_uint32(data))


cdef inline int json_float8(Output* out, const Column* column, const uint8_t* data, int32_t length) noexcept nogil:
    if not is_finite_float8(read_uint64(data)):
        return json_quoted(out, column, data, length)
    return put_float8(out, read_uint64(data))


cdef inline int json_numeric(Output* out, const Column* column, const uint8_t* data, int32_t length) noexcept nogil:
    cdef Numeric numeric
    cdef int fault = read_numeric(&numeric, data, length)
    if fault:
        return fault
    if is_special(&numeric):
        return json_quoted(out, column, data, length)
    return put_numeric(out, &numeric)


cdef inline int json_text(Output* out, const Column* column, const uint8_t* data, int32_t length) noexcept nogil:
    return put_string(out, data, length)


cdef inline int json_char(Output* out, const Column* column, const uint8_t* data, int32_t length) noexcept nogil:
    """Append a "char", whose text has at most four bytes."""
    cdef uint8_t text[4]
    cdef size_t start = out.used
    cdef int fault = column.text(out, column, data, length)
    if fault:
        return fault
    cdef size_t size = out.used - start
    memcpy(text, out.start + start, size)
    out.used = start
    return put_string(out, text, size)


cdef inline int json_bytea(Output* out, const Column* column, const uint8_t* data, int32_t length) noexcept nogil:
    """Append hex digits after an x and a backslash, which JSON doubles."""
    if put(out, b'"\\', 2):
        return NO_MEMORY
    cdef int fault = column.text(out, column, data, length)
    return fault if fault else put(out, b'"', 1)


cdef inline int json_timestamp(Output* out, const Column* column, const uint8_t* data, int32_t length) noexcept nogil:
    return quoted_timestamp(out, data, b"", 0)


cdef inline int json_timestamptz(Output* out, const Column* column, const uint8_t* data, int32_t length) noexcept nogil:
    return quoted_timestamp(out, data, b"+00:00", 6)


cdef inline int quoted_timestamp(Output* out, const uint8_t* data, const char* offset, size_t size) noexcept nogil:
    if put(out, b'"', 1):
        return NO_MEMORY
    cdef int fault = put_timestamp(out, <int64_t>read_uint64(data), c'T', offset, size)
    return fault if fault else put(out, b'"', 1)


cdef inline int json_itself(Output* out, const Column* column, const uint8_t* data, int32_t length) noexcept nogil:
    """Append JSON that the server made, on one line."""
    cdef size_t start = out.used
    if put(out, data, length):
        return NO_MEMORY
    blank_newlines(out, start)
    return FINE


cdef inline void blank_newlines(Output* out, size_t start) noexcept nogil:
    """Make blanks of the newlines from `start` on: a line has none. A loop without a branch, which compilers widen."""
    cdef uint8_t* text = out.start
    cdef uint8_t byte
    cdef size_t i
    for i in range(start, out.used):
        byte = text[i]
        text[i] = c' ' if byte == c'\n' or byte == c'\r' else byte


cdef inline int json_jsonb(Output* out, const Column* column, const uint8_t* data, int32_t length) noexcept nogil:
    """Append the text after the version. A server sends no newline in it, but a line must not depend on that."""
    cdef size_t start = out.used
    cdef int fault = text_jsonb(out, column, data, length)
    if fault:
        return fault
    blank_newlines(out, start)
    return FINE


# With `numbers: quote-large` (objects/numbers.py), a number is a string if its integer part does not fit into 64 bits.

cdef inline int large_numeric(Output* out, const Column* column, const uint8_t* data, int32_t length) noexcept nogil:
    cdef Numeric numeric
    cdef int fault = read_numeric(&numeric, data, length)
    if fault:
        return fault
    if is_special(&numeric):
        return json_quoted(out, column, data, length)
    cdef size_t start = out.used
    if whole_digits(&numeric) < LARGE_DIGITS:
        return put_numeric(out, &numeric)
    if put(out, b'"', 1) or put_numeric(out, &numeric):
        return NO_MEMORY
    return close_number(out, start)


cdef inline int close_number(Output* out, size_t start) noexcept nogil:
    """End a number that was begun with a quote: with another one if it is large, otherwise without the first one."""
    cdef const uint8_t* number = out.start + start + 1
    cdef size_t length = out.used - start - 1
    if is_large(number, length):
        return put(out, b'"', 1)
    memmove(out.start + start, number, length)
    out.used -= 1
    return FINE


cdef inline bint is_large(const uint8_t* number, size_t length) noexcept nogil:
    """Return True if the integer part of a number in JSON lies outside of 64 signed bits."""
    cdef bint negative = length and number[0] == c'-'
    cdef size_t i = negative, begin = negative
    cdef uint64_t value = 0
    while i < length and c'0' <= number[i] <= c'9':
        i += 1
    if i - begin != LARGE_DIGITS:
        return i - begin > LARGE_DIGITS
    for i in range(begin, begin + LARGE_DIGITS):
        value = 10 * value + (number[i] - c'0')
    return value > <uint64_t>INT64_MAX + negative


cdef inline int large_itself(Output* out, const Column* column, const uint8_t* data, int32_t length) noexcept nogil:
    """Append JSON that the server made, on one line and with quotes around its large numbers."""
    cdef const uint8_t* end = data + length
    cdef size_t start = out.used
    cdef const uint8_t* token
    cdef size_t size
    # Two quotes for each large number, which has a separator after it.
    if reserve(out, <size_t>length + 2 * (<size_t>length // (LARGE_DIGITS + 1) + 1)):
        return NO_MEMORY
    while data < end:
        token = data
        data = end_of_token(data, end)
        size = <size_t>(data - token)
        if (token[0] == c'-' or c'0' <= token[0] <= c'9') and is_large(token, size):
            put_byte(out, c'"')
            put_reserved(out, token, size)
            put_byte(out, c'"')
        else:
            put_reserved(out, token, size)
    blank_newlines(out, start)
    return FINE


cdef inline int large_jsonb(Output* out, const Column* column, const uint8_t* data, int32_t length) noexcept nogil:
    if length < 1:
        return BAD_LENGTH
    if data[0] != JSONB_VERSION:
        return BAD_VALUE
    return large_itself(out, column, data + 1, length - 1)


cdef inline const uint8_t* end_of_token(const uint8_t* at, const uint8_t* end) noexcept nogil:
    """Return the end of a string or number in JSON, or of the one byte that is neither."""
    if at[0] == c'"':
        return end_of_string(at, end)
    if at[0] != c'-' and not c'0' <= at[0] <= c'9':
        return at + 1
    at = end_of_digits(at + 1, end)
    if end - at >= 2 and at[0] == c'.' and c'0' <= at[1] <= c'9':
        at = end_of_digits(at + 2, end)
    if end - at >= 2 and (at[0] | 32) == c'e' and c'0' <= at[1] <= c'9':
        return end_of_digits(at + 2, end)
    if end - at >= 3 and (at[0] | 32) == c'e' and (at[1] == c'+' or at[1] == c'-') and c'0' <= at[2] <= c'9':
        return end_of_digits(at + 3, end)
    return at


cdef inline const uint8_t* end_of_string(const uint8_t* at, const uint8_t* end) noexcept nogil:
    at += 1
    while at < end and at[0] != c'"':
        at += 2 if at[0] == c'\\' and end - at >= 2 else 1
    return at + 1 if at < end else end


cdef inline const uint8_t* end_of_digits(const uint8_t* at, const uint8_t* end) noexcept nogil:
    while at < end and c'0' <= at[0] <= c'9':
        at += 1
    return at
