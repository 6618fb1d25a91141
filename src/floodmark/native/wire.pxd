# cython: cdivision=True
"""PostgreSQL's binary forms: a cursor that never reads beyond its end.

Numbers are big-endian. A field is an int32 length and its bytes; length -1 is a null. This module knows nothing of the
formats that are written.
"""

from libc.stdint cimport int16_t, int32_t, uint8_t, uint16_t, uint32_t, uint64_t

from libc.string cimport memcmp

from floodmark.native.output cimport BAD_LENGTH, FINE, TOO_SHORT

cdef enum:
    NULL_VALUE = -1
    HEADER_BYTES = 19  # of a COPY stream: 11 bytes of signature, int32 flags, int32 length of an extension

cdef struct Cursor:
    const uint8_t* at
    const uint8_t* end


cdef inline uint16_t read_uint16(const uint8_t* data) noexcept nogil:
    return <uint16_t>(<uint32_t>data[0] << 8 | data[1])


cdef inline uint32_t read_uint32(const uint8_t* data) noexcept nogil:
    return <uint32_t>data[0] << 24 | <uint32_t>data[1] << 16 | <uint32_t>data[2] << 8 | data[3]


cdef inline uint64_t read_uint64(const uint8_t* data) noexcept nogil:
    return <uint64_t>read_uint32(data) << 32 | read_uint32(data + 4)


cdef inline size_t bytes_left(const Cursor* cursor) noexcept nogil:
    return <size_t>(cursor.end - cursor.at)


cdef inline int next_int16(Cursor* cursor, int16_t* value) noexcept nogil:
    if bytes_left(cursor) < 2:
        return TOO_SHORT
    value[0] = <int16_t>read_uint16(cursor.at)
    cursor.at += 2
    return FINE


cdef inline int next_int32(Cursor* cursor, int32_t* value) noexcept nogil:
    if bytes_left(cursor) < 4:
        return TOO_SHORT
    value[0] = <int32_t>read_uint32(cursor.at)
    cursor.at += 4
    return FINE


cdef inline int next_field(Cursor* cursor, const uint8_t** data, int32_t* length) noexcept nogil:
    """Give the next field's length, or NULL_VALUE, and the start of its bytes, all of which lie before the end."""
    cdef int fault = next_int32(cursor, length)
    if fault:
        return fault
    data[0] = cursor.at
    if length[0] < 0:
        return FINE if length[0] == NULL_VALUE else BAD_LENGTH
    if <size_t>length[0] > bytes_left(cursor):
        return TOO_SHORT
    cursor.at += length[0]
    return FINE


cdef inline void skip_header(Cursor* cursor) noexcept nogil:
    """Skip the header of COPY's binary stream, if it begins here: it comes with the first row."""
    cdef uint32_t extension
    if bytes_left(cursor) >= HEADER_BYTES and memcmp(cursor.at, b"PGCOPY\n\xff\r\n\0", 11) == 0:
        extension = read_uint32(cursor.at + HEADER_BYTES - 4)
        cursor.at += HEADER_BYTES
        cursor.at += min(<size_t>extension, bytes_left(cursor))


cdef inline bint ends_stream(const Cursor* cursor) noexcept nogil:
    """Return True at the trailer of COPY's binary stream."""
    return bytes_left(cursor) == 2 and read_uint16(cursor.at) == 0xFFFF
