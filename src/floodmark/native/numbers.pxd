# cython: cdivision=True
"""Whole numbers and numeric, as PostgreSQL's output functions write them."""

from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from floodmark.native.output cimport BAD_LENGTH, BAD_VALUE, FINE, NO_MEMORY, Output, end_of, put, put_byte, reserve
from floodmark.native.wire cimport read_uint16

cdef extern from *:
    """
    /* The numbers 0 to 99 with two digits each: half as many divisions as digit by digit. */
    static const char PAIRS[] =
        "00010203040506070809" "10111213141516171819" "20212223242526272829" "30313233343536373839"
        "40414243444546474849" "50515253545556575859" "60616263646566676869" "70717273747576777879"
        "80818283848586878889" "90919293949596979899";
    """
    const char PAIRS[201]

cdef enum:
    MOST_DIGITS = 20  # of 64 bits
    NUMERIC_HEADER = 8
    NEGATIVE = 0x4000
    NAN = 0xC000
    POSITIVE_INFINITY = 0xD000
    NEGATIVE_INFINITY = 0xF000
    MOST_SCALE = 0x3FFF


cdef inline void put_pair(uint8_t* at, uint32_t number) noexcept nogil:
    memcpy(at, &PAIRS[2 * number], 2)


cdef inline void put_four(uint8_t* at, uint32_t number) noexcept nogil:
    put_pair(at, number // 100)
    put_pair(at + 2, number % 100)


cdef inline int digits_of(uint64_t number) noexcept nogil:
    cdef int digits = 1
    while number >= 10000:
        number //= 10000
        digits += 4
    return digits + (number >= 10) + (number >= 100) + (number >= 1000)


cdef inline uint8_t* write_digits(uint8_t* at, uint64_t number, int digits) noexcept nogil:
    """Write a number with a given number of digits, and return the text's end. It needs room for MOST_DIGITS."""
    cdef uint8_t* end = at + digits
    cdef uint8_t* before = end
    cdef uint32_t small
    while number >> 32:
        before -= 2
        put_pair(before, <uint32_t>(number % 100))
        number //= 100
    small = <uint32_t>number
    while before - at >= 2:
        before -= 2
        put_pair(before, small % 100)
        small //= 100
    if before > at:
        at[0] = <uint8_t>(c'0' + small)
    return end


cdef inline uint8_t* write_unsigned(uint8_t* at, uint64_t number) noexcept nogil:
    return write_digits(at, number, digits_of(number))


cdef inline uint8_t* write_signed(uint8_t* at, int64_t number) noexcept nogil:
    if number < 0:
        at[0] = c'-'
        return write_unsigned(at + 1, 0 - <uint64_t>number)
    return write_unsigned(at, <uint64_t>number)


cdef inline int put_signed(Output* out, int64_t number) noexcept nogil:
    if reserve(out, MOST_DIGITS + 1):
        return NO_MEMORY
    out.used = <size_t>(write_signed(end_of(out), number) - out.start)
    return FINE


# numeric: int16 number of digits, int16 weight (the power of 10,000 of the first digit), uint16 sign, uint16 scale (the
# digits to show after the point), then the digits to base 10,000. Zeros at both ends are left out.

cdef struct Numeric:
    const uint8_t* digits
    int32_t number  # of digits
    int32_t weight
    uint16_t sign
    uint16_t scale


cdef inline int read_numeric(Numeric* numeric, const uint8_t* data, int32_t length) noexcept nogil:
    cdef int32_t i
    if length < NUMERIC_HEADER:
        return BAD_LENGTH
    numeric.number = read_uint16(data)
    numeric.weight = <int16_t>read_uint16(data + 2)
    numeric.sign = read_uint16(data + 4)
    numeric.scale = read_uint16(data + 6)
    numeric.digits = data + NUMERIC_HEADER
    if length != NUMERIC_HEADER + 2 * numeric.number:
        return BAD_LENGTH
    if numeric.scale > MOST_SCALE:
        return BAD_VALUE
    for i in range(numeric.number):
        if read_uint16(numeric.digits + 2 * i) > 9999:
            return BAD_VALUE
    return FINE


cdef inline bint is_special(const Numeric* numeric) noexcept nogil:
    """Return True for NaN and the infinities, which have no digits."""
    return numeric.sign != 0 and numeric.sign != NEGATIVE


cdef inline int put_special(Output* out, const Numeric* numeric) noexcept nogil:
    if numeric.sign == NAN:
        return put(out, b"NaN", 3)
    if numeric.sign == POSITIVE_INFINITY:
        return put(out, b"Infinity", 8)
    if numeric.sign == NEGATIVE_INFINITY:
        return put(out, b"-Infinity", 9)
    return BAD_VALUE


cdef inline uint32_t digit_at(const Numeric* numeric, int32_t place) noexcept nogil:
    """Return a digit to base 10,000, counted from the first; those that were left out are 0."""
    if place < 0 or place >= numeric.number:
        return 0
    return read_uint16(numeric.digits + 2 * place)


cdef inline int put_numeric(Output* out, const Numeric* numeric) noexcept nogil:
    """Append a number that is not special."""
    cdef size_t whole = 4 * <size_t>max(numeric.weight + 1, 1)
    # The last digit after the point is written with all four of its own, of which three can be too many.
    if reserve(out, whole + numeric.scale + 8):
        return NO_MEMORY
    if numeric.sign == NEGATIVE:
        put_byte(out, c'-')
    cdef uint8_t* at = write_unsigned_short(end_of(out), digit_at(numeric, 0) if numeric.weight >= 0 else 0)
    at = write_whole_rest(at, numeric)
    if numeric.scale:
        at = write_fraction(at, numeric)
    out.used = <size_t>(at - out.start)
    return FINE


cdef inline uint8_t* write_unsigned_short(uint8_t* at, uint32_t number) noexcept nogil:
    """Write a number below 10,000, in room for four digits."""
    cdef uint8_t four[4]
    cdef int zeros = (number < 1000) + (number < 100) + (number < 10)
    put_four(four, number)
    memcpy(at, four + zeros, 4 - zeros)
    return at + 4 - zeros


cdef inline uint8_t* write_whole_rest(uint8_t* at, const Numeric* numeric) noexcept nogil:
    """Write the digits before the point after the first."""
    cdef int32_t place
    cdef int32_t known = min(numeric.weight + 1, numeric.number)
    for place in range(1, known):
        put_four(at, digit_at(numeric, place))
        at += 4
    cdef int32_t zeros = numeric.weight + 1 - max(known, 1)
    if zeros > 0:
        memset(at, c'0', 4 * <size_t>zeros)
        at += 4 * <size_t>zeros
    return at


cdef inline uint8_t* write_fraction(uint8_t* at, const Numeric* numeric) noexcept nogil:
    cdef int32_t place = numeric.weight + 1
    cdef uint8_t* end
    at[0] = c'.'
    at += 1
    end = at + numeric.scale
    while at < end:
        put_four(at, digit_at(numeric, place))
        at += 4
        place += 1
    return end


cdef inline int whole_digits(const Numeric* numeric) noexcept nogil:
    """Return the number of decimal digits before the point."""
    cdef uint32_t first = digit_at(numeric, 0)
    if numeric.weight < 0:
        return 1
    return 4 * numeric.weight + 1 + (first >= 10) + (first >= 100) + (first >= 1000)
