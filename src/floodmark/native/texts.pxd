# cython: cdivision=True
"""Each type's own text, as its output function gives it under the pinned settings."""

from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t

from floodmark.native.columns cimport Column
from floodmark.native.floats cimport put_float4, put_float8
from floodmark.native.numbers cimport Numeric, is_special, put_numeric, put_signed, put_special, read_numeric
from floodmark.native.output cimport (
    BAD_LENGTH, BAD_VALUE, FINE, NO_MEMORY, Output, end_of, put, put_byte, put_reserved, reserve,
)
from floodmark.native.times cimport (
    is_infinite_interval, put_date, put_infinity, put_interval, put_time, put_timestamp, put_timetz,
)
from floodmark.native.wire cimport read_uint16, read_uint32, read_uint64

cdef enum:
    JSONB_VERSION = 1


cdef inline int text_bool(Output* out, const Column* column, const uint8_t* data, int32_t length) noexcept nogil:
    if data[0] > 1:
        return BAD_VALUE
    return put(out, b"t" if data[0] else b"f", 1)


cdef inline int text_int2(Output* out, const Column* column, const uint8_t* data, int32_t length) noexcept nogil:
    return put_signed(out, <int16_t>read_uint16(data))


cdef inline int text_int4(Output* out, const Column* column, const uint8_t* data, int32_t length) noexcept nogil:
    return put_signed(out, <int32_t>read_uint32(data))


cdef inline int text_int8(Output* out, const Column* column, const uint8_t* data, int32_t length) noexcept nogil:
    return put_signed(out, <int64_t>read_uint64(data))


cdef inline int text_oid(Output* out, const Column* column, const uint8_t* data, int32_t length) noexcept nogil:
    return put_signed(out, <int64_t>read_uint32(data))


cdef inline int text_float4(Output* out, const Column* column, const uint8_t* data, int32_t length) noexcept nogil:
    return put_float4(out, read_uint32(data))


cdef inline int text_float8(Output* out, const Column* column, const uint8_t* data, int32_t length) noexcept nogil:
    return put_float8(out, read_uint64(data))


cdef inline int text_numeric(Output* out, const Column* column, const uint8_t* data, int32_t length) noexcept nogil:
    cdef Numeric numeric
    cdef int fault = read_numeric(&numeric, data, length)
    if fault:
        return fault
    return put_special(out, &numeric) if is_special(&numeric) else put_numeric(out, &numeric)


cdef inline int text_itself(Output* out, const Column* column, const uint8_t* data, int32_t length) noexcept nogil:
    """Append a text that the server made."""
    return put(out, data, length)


cdef inline int text_jsonb(Output* out, const Column* column, const uint8_t* data, int32_t length) noexcept nogil:
    """Append the text after the version of its form."""
    if length < 1:
        return BAD_LENGTH
    if data[0] != JSONB_VERSION:
        return BAD_VALUE
    return put(out, data + 1, length - 1)


cdef inline int text_char(Output* out, const Column* column, const uint8_t* data, int32_t length) noexcept nogil:
    """Append a "char": nothing for 0, and octal digits above 127."""
    if reserve(out, 4):
        return NO_MEMORY
    if data[0] < 128:
        out.start[out.used] = data[0]
        out.used += data[0] != 0
        return FINE
    put_byte(out, c'\\')
    put_byte(out, c'0' + (data[0] >> 6))
    put_byte(out, c'0' + (data[0] >> 3 & 7))
    put_byte(out, c'0' + (data[0] & 7))
    return FINE


cdef inline int raw_char(Output* out, const Column* column, const uint8_t* data, int32_t length) noexcept nogil:
    """Append a "char" as PostgreSQL 14 does: the byte itself, also above 127."""
    return put(out, data, data[0] != 0)


cdef inline void put_hex(Output* out, const uint8_t* data, size_t length) noexcept nogil:
    """Append two digits for each byte, for which room is reserved."""
    cdef const char* digits = "0123456789abcdef"
    cdef uint8_t* at = end_of(out)
    cdef size_t i
    for i in range(length):
        at[2 * i] = <uint8_t>digits[data[i] >> 4]
        at[2 * i + 1] = <uint8_t>digits[data[i] & 15]
    out.used += 2 * length


cdef inline int text_uuid(Output* out, const Column* column, const uint8_t* data, int32_t length) noexcept nogil:
    cdef int group
    cdef const uint8_t* sizes = b"\x04\x02\x02\x02\x06"
    if reserve(out, 37):
        return NO_MEMORY
    for group in range(5):
        put_hex(out, data, sizes[group])
        put_byte(out, c'-')
        data += sizes[group]
    out.used -= 1  # no dash after the last group
    return FINE


cdef inline int text_bytea(Output* out, const Column* column, const uint8_t* data, int32_t length) noexcept nogil:
    if reserve(out, 2 * <size_t>length + 2):
        return NO_MEMORY
    put_reserved(out, b"\\x", 2)
    put_hex(out, data, length)
    return FINE


cdef inline int text_date(Output* out, const Column* column, const uint8_t* data, int32_t length) noexcept nogil:
    return put_date(out, <int32_t>read_uint32(data))


cdef inline int text_time(Output* out, const Column* column, const uint8_t* data, int32_t length) noexcept nogil:
    return put_time(out, <int64_t>read_uint64(data))


cdef inline int text_timetz(Output* out, const Column* column, const uint8_t* data, int32_t length) noexcept nogil:
    return put_timetz(out, <int64_t>read_uint64(data), <int32_t>read_uint32(data + 8))


cdef inline int text_timestamp(Output* out, const Column* column, const uint8_t* data, int32_t length) noexcept nogil:
    return put_timestamp(out, <int64_t>read_uint64(data), c' ', b"", 0)


cdef inline int text_timestamptz(Output* out, const Column* column, const uint8_t* data, int32_t length) noexcept nogil:
    return put_timestamp(out, <int64_t>read_uint64(data), c' ', b"+00", 3)


cdef inline int text_interval(Output* out, const Column* column, const uint8_t* data, int32_t length) noexcept nogil:
    cdef int64_t microseconds = <int64_t>read_uint64(data)
    cdef int32_t days = <int32_t>read_uint32(data + 8), months = <int32_t>read_uint32(data + 12)
    if is_infinite_interval(microseconds, days, months):
        return put_infinity(out, months < 0)
    return put_interval(out, microseconds, days, months)


cdef inline int finite_interval(Output* out, const Column* column, const uint8_t* data, int32_t length) noexcept nogil:
    """Append an interval as PostgreSQL 15 and 16 do, which know no infinite ones."""
    return put_interval(
        out, <int64_t>read_uint64(data), <int32_t>read_uint32(data + 8), <int32_t>read_uint32(data + 12)
    )
