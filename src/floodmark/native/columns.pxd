# cython: cdivision=True
"""The plan of a row: for each column, the function that writes its values.

A format is a choice of these functions and of the bytes around them. So the decoder knows no format, and another format
needs only functions of its own.
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t

from floodmark.native.output cimport BAD_LENGTH, Output, put
from floodmark.native.wire cimport NULL_VALUE, Cursor, next_field

cdef enum:
    ANY_SIZE = -1

cdef struct Column  # the two refer to each other

# Write one value that is not null.
ctypedef int (*Write)(Output*, const Column*, const uint8_t*, int32_t) noexcept nogil

cdef struct Column:
    Write write
    Write text  # the type's own text, without the quotes and escapes of a format
    const Column* element  # of an array
    int32_t size  # of a value on the wire, or ANY_SIZE
    uint32_t oid  # of its type, or 0 if it is not checked
    const uint8_t* before  # the bytes before a value: a comma, the name in JSON
    size_t before_length
    const uint8_t* null_text
    size_t null_length
    bint alone  # the only column of its table


cdef inline int write_field(Output* out, const Column* column, Cursor* cursor) noexcept nogil:
    """Read a length and a value, and write the value."""
    cdef const uint8_t* data
    cdef int32_t length
    cdef int fault = next_field(cursor, &data, &length)
    if fault:
        return fault
    if length == NULL_VALUE:
        return put(out, column.null_text, column.null_length)
    if column.size != ANY_SIZE and length != column.size:
        return BAD_LENGTH
    return column.write(out, column, data, length)
