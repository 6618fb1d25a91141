# cython: cdivision=True
"""Arrays, in JSON and as array_out writes them.

On the wire: int32 number of dimensions, int32 flags, the elements' oid, for each dimension int32 size and int32 lower
bound, then the elements as fields, the last dimension first. An array without dimensions is empty.
"""

from libc.stdint cimport INT32_MAX, int32_t, int64_t, uint8_t

from floodmark.native.columns cimport Column, write_field
from floodmark.native.escapes cimport quote_array_element
from floodmark.native.numbers cimport write_signed
from floodmark.native.output cimport (
    BAD_LENGTH, BAD_VALUE, FINE, NO_MEMORY, TOO_SHORT, Output, end_of, put, put_byte, reserve,
)
from floodmark.native.wire cimport Cursor, bytes_left, next_int32

cdef enum:
    MOST_DIMENSIONS = 6
    BOUND_TEXT = 24  # bytes of a dimension's two bounds

cdef struct Array:
    int32_t dimensions
    int32_t sizes[6]
    int32_t lower[6]
    int64_t elements
    bint bounds  # some lower bound is not 1


cdef inline int read_array(Array* array, Cursor* cursor) noexcept nogil:
    """Read all that comes before the elements. Their type follows from the array's."""
    cdef int32_t flags = 0, oid = 0
    cdef int i
    array.bounds = False
    if next_int32(cursor, &array.dimensions) or next_int32(cursor, &flags) or next_int32(cursor, &oid):
        return TOO_SHORT
    if not 0 <= array.dimensions <= MOST_DIMENSIONS or not 0 <= flags <= 1:
        return BAD_VALUE
    array.elements = 1 if array.dimensions else 0
    for i in range(array.dimensions):
        if next_int32(cursor, &array.sizes[i]) or next_int32(cursor, &array.lower[i]):
            return TOO_SHORT
        if array.sizes[i] <= 0 or <int64_t>array.lower[i] + array.sizes[i] - 1 > INT32_MAX:
            return BAD_VALUE
        array.elements *= array.sizes[i]
        array.bounds = array.bounds or array.lower[i] != 1
        if <size_t>array.elements > bytes_left(cursor) // 4:  # each element has a length; and nothing can overflow
            return TOO_SHORT
    return FINE


cdef inline int put_array(
    Output* out, const Column* column, const Array* array, Cursor* cursor, uint8_t opening, uint8_t closing
) noexcept nogil:
    """Append the elements, nested, with commas between them. Nothing may be left over."""
    cdef int64_t number
    cdef int fault
    if array.elements == 0 and put_brackets(out, opening, 1):
        return NO_MEMORY
    for number in range(array.elements):
        if number and put(out, b",", 1):
            return NO_MEMORY
        if put_brackets(out, opening, levels_at(array, number)):
            return NO_MEMORY
        fault = write_field(out, column.element, cursor)
        if fault:
            return fault
        if put_brackets(out, closing, levels_at(array, number + 1)):
            return NO_MEMORY
    if array.elements == 0 and put_brackets(out, closing, 1):
        return NO_MEMORY
    return BAD_LENGTH if bytes_left(cursor) else FINE


cdef inline int levels_at(const Array* array, int64_t number) noexcept nogil:
    """Return how many dimensions begin, or end, at an element."""
    cdef int levels = 0
    while levels < array.dimensions and number % array.sizes[array.dimensions - 1 - levels] == 0:
        number //= array.sizes[array.dimensions - 1 - levels]
        levels += 1
    return levels


cdef inline int put_brackets(Output* out, uint8_t bracket, int levels) noexcept nogil:
    cdef int i
    if reserve(out, levels):
        return NO_MEMORY
    for i in range(levels):
        put_byte(out, bracket)
    return FINE


cdef inline int json_array(Output* out, const Column* column, const uint8_t* data, int32_t length) noexcept nogil:
    cdef Array array
    cdef Cursor cursor = Cursor(data, data + length)
    cdef int fault = read_array(&array, &cursor)
    return fault if fault else put_array(out, column, &array, &cursor, c'[', c']')


cdef inline int text_array(Output* out, const Column* column, const uint8_t* data, int32_t length) noexcept nogil:
    """Append an array as array_out does: before the elements, the bounds of all dimensions if one begins not at 1."""
    cdef Array array
    cdef Cursor cursor = Cursor(data, data + length)
    cdef int fault = read_array(&array, &cursor)
    if fault:
        return fault
    if array.bounds and put_bounds(out, &array):
        return NO_MEMORY
    return put_array(out, column, &array, &cursor, c'{', c'}')


cdef inline int put_bounds(Output* out, const Array* array) noexcept nogil:
    cdef int i
    if reserve(out, MOST_DIMENSIONS * BOUND_TEXT + 1):
        return NO_MEMORY
    cdef uint8_t* at = end_of(out)
    for i in range(array.dimensions):
        at[0] = c'['
        at = write_signed(at + 1, array.lower[i])
        at[0] = c':'
        at = write_signed(at + 1, <int64_t>array.lower[i] + array.sizes[i] - 1)
        at[0] = c']'
        at += 1
    at[0] = c'='
    out.used = <size_t>(at + 1 - out.start)
    return FINE


cdef inline int element_in_text(Output* out, const Column* column, const uint8_t* data, int32_t length) noexcept nogil:
    """Append an element of text_array."""
    cdef size_t start = out.used
    cdef int fault = column.text(out, column, data, length)
    return fault if fault else quote_array_element(out, start)
