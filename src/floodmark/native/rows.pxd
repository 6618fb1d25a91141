# cython: cdivision=True
"""The decoder's way through rows: each field goes to the function that its column's plan names.

A row of `record_send` is an int32 number of fields, and for each one the type's oid and the field. A row of COPY is an
int16 number of fields, and the fields.
"""

from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint32_t

from floodmark.native.columns cimport Column, write_field
from floodmark.native.output cimport BAD_COUNT, BAD_TYPE, FINE, NO_MEMORY, TOO_SHORT, Output, put
from floodmark.native.wire cimport (
    NULL_VALUE, Cursor, bytes_left, ends_stream, next_field, next_int16, next_int32, read_uint32, skip_header,
)

cdef struct Plan:
    Column* columns  # two for each field: its own, and that of its elements if it is an array
    int32_t number  # of fields
    const uint8_t* end  # of a line
    size_t end_length
    bint marked  # a row of COPY has one more field, its mark

cdef struct Place:
    Cursor cursor
    int64_t rows  # whole ones so far
    int64_t marks  # that are not null
    int32_t field  # that is being read, or -1
    int64_t found  # a number of fields or a length, for a message


cdef inline int encode_rows(const Plan* plan, Output* out, Place* place, bint typed) noexcept nogil:
    cdef int fault
    place.rows, place.marks, place.field, place.found = 0, 0, -1, 0
    if not typed:
        skip_header(&place.cursor)
    while bytes_left(&place.cursor):
        if not typed and ends_stream(&place.cursor):
            return FINE
        fault = encode_row(plan, out, place, typed)
        if fault:
            return fault
        place.rows += 1
    return FINE


cdef inline int encode_row(const Plan* plan, Output* out, Place* place, bint typed) noexcept nogil:
    """Encode a row: its number of fields, and each one with its type's oid before it if it is `typed`."""
    cdef const Column* column
    cdef int32_t number = 0
    cdef int fault = next_count(&place.cursor, typed, &number)
    cdef bint marked = plan.marked and not typed
    place.found = number
    if fault or number != plan.number + marked:
        return fault or BAD_COUNT
    for number in range(plan.number):
        place.field = number
        column = &plan.columns[2 * number]
        if put(out, column.before, column.before_length):
            return NO_MEMORY
        fault = (check_type(column, place) if typed else FINE) or encode_field(out, column, place)
        if fault:
            return fault
    place.field = -1
    return (count_mark(place) if marked else FINE) or put(out, plan.end, plan.end_length)


cdef inline int count_mark(Place* place) noexcept nogil:
    """Read the field after a row's own, which is no part of the line."""
    cdef const uint8_t* data = NULL
    cdef int32_t length = 0
    cdef int fault = next_field(&place.cursor, &data, &length)
    place.marks += fault == FINE and length != NULL_VALUE
    return fault


cdef inline int next_count(Cursor* cursor, bint typed, int32_t* number) noexcept nogil:
    cdef int16_t short_number = 0
    if typed:
        return next_int32(cursor, number)
    cdef int fault = next_int16(cursor, &short_number)
    number[0] = short_number
    return fault


cdef inline int check_type(const Column* column, Place* place) noexcept nogil:
    cdef int32_t oid = 0
    if next_int32(&place.cursor, &oid):
        return TOO_SHORT
    return BAD_TYPE if column.oid and <uint32_t>oid != column.oid else FINE


cdef inline int encode_field(Output* out, const Column* column, Place* place) noexcept nogil:
    cdef const uint8_t* start = place.cursor.at
    cdef int fault = write_field(out, column, &place.cursor)
    if fault and place.cursor.end - start >= 4:
        place.found = <int32_t>read_uint32(start)
    return fault
