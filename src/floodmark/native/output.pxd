# cython: cdivision=True
"""A growing buffer of bytes, and the plain ways to write into it.

Every function here and in the other modules of the codec runs without the interpreter's lock. None of them raises: each
returns FINE or the code of a fault, and the caller stops at the first fault.
"""

from libc.stdint cimport uint8_t
from libc.stdlib cimport realloc
from libc.string cimport memcpy

cdef enum:
    FINE = 0
    NO_MEMORY  # the output does not fit into memory
    TOO_SHORT  # the input ends within a value
    BAD_LENGTH  # a length that the value can't have
    BAD_COUNT  # another number of fields than planned
    BAD_TYPE  # another type's oid than planned
    BAD_VALUE  # bytes that are no value of the type

cdef struct Output:
    uint8_t* start
    size_t used
    size_t capacity


cdef inline int reserve(Output* out, size_t more) noexcept nogil:
    """Make room for `more` bytes at the end."""
    if out.capacity - out.used >= more:
        return FINE
    return grow(out, more)


cdef inline int grow(Output* out, size_t more) noexcept nogil:
    cdef size_t wanted = out.used + more
    if wanted < more:
        return NO_MEMORY
    wanted = max(wanted, out.capacity + out.capacity // 2, <size_t>4096)
    cdef void* larger = realloc(out.start, wanted)
    if larger == NULL:
        return NO_MEMORY
    out.start = <uint8_t*>larger
    out.capacity = wanted
    return FINE


cdef inline uint8_t* end_of(Output* out) noexcept nogil:
    return out.start + out.used


cdef inline void put_byte(Output* out, uint8_t byte) noexcept nogil:
    """Append a byte, for which room is reserved."""
    out.start[out.used] = byte
    out.used += 1


cdef inline void put_reserved(Output* out, const void* data, size_t length) noexcept nogil:
    """Append bytes, for which room is reserved."""
    memcpy(out.start + out.used, data, length)
    out.used += length


cdef inline int put(Output* out, const void* data, size_t length) noexcept nogil:
    """Append bytes."""
    if reserve(out, length):
        return NO_MEMORY
    if length:  # an empty value has no address
        put_reserved(out, data, length)
    return FINE
