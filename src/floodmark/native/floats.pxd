# cython: cdivision=True
"""Floats as PostgreSQL writes them: the shortest decimal number that reads back as the same float.

The digits come from Ryu (Ulf Adams, "Ryū: fast float-to-string conversion", PLDI 2018) as PostgreSQL uses it: a decimal
number that lies exactly on the border to the next float is never taken. So the last digit can differ from C++'s
std::to_chars. One routine serves both widths, because a float of 32 bits is a float of 64 bits with other borders.

Names as in the paper: a float is m * 2^e; u, v and w are the lower border, the value and the upper border, times 4.
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memmove, memset

from floodmark.native.numbers cimport digits_of, write_digits
from floodmark.native.output cimport FINE, NO_MEMORY, Output, end_of, put, put_byte, reserve

cdef extern from *:
    """
    /* 5^i, and its reciprocal, with 125 significant bits each, the lower 64 bits first. Filled at import. */
    #define POWERS 326
    #define INVERSES 342
    static uint64_t POWER_OF_5[POWERS][2];
    static uint64_t INVERSE_OF_5[INVERSES][2];

    /* m * factor / 2^shift, for m below 2^55. The upper 128 bits of the product suffice. */
    static inline uint64_t multiply_shift(uint64_t m, const uint64_t *factor, int32_t shift) {
        unsigned __int128 low = (unsigned __int128)m * factor[0];
        unsigned __int128 high = (unsigned __int128)m * factor[1];
        return (uint64_t)(((low >> 64) + high) >> (shift - 64));
    }

    """
    enum:
        POWERS
        INVERSES
    uint64_t POWER_OF_5[326][2]
    uint64_t INVERSE_OF_5[342][2]
    uint64_t multiply_shift(uint64_t m, const uint64_t *factor, int32_t shift) noexcept nogil

cdef enum:
    FACTOR_BITS = 125
    MOST_TEXT = 32  # bytes of a float's text: at most a sign, 17 digits, a point, and e-324; or 15 digits and zeros

cdef struct Decimal:
    uint64_t digits
    int32_t exponent  # the value is digits * 10^exponent


cdef inline int32_t bits_of_power(int32_t e) noexcept nogil:
    """Return the number of bits of 5^e."""
    return <int32_t>(((<uint32_t>e * 1217359) >> 19) + 1)


cdef inline int32_t log10_of_power_of_2(int32_t e) noexcept nogil:
    return <int32_t>((<uint32_t>e * 78913) >> 18)


cdef inline int32_t log10_of_power_of_5(int32_t e) noexcept nogil:
    return <int32_t>((<uint32_t>e * 732923) >> 20)


cdef inline bint divides_power_of_5(uint64_t value, int32_t power) noexcept nogil:
    """Return True if 5^power divides the value, which is not 0."""
    while power > 0:
        if value % 5:
            return False
        value //= 5
        power -= 1
    return True


cdef inline bint divides_power_of_2(uint64_t value, int32_t power) noexcept nogil:
    return (value & ((<uint64_t>1 << power) - 1)) == 0


cdef inline Decimal shortest(uint64_t m, int32_t e, bint even_below) noexcept nogil:
    """Return the shortest decimal of m * 2^e that lies within the borders, the nearest one if several do.

    `even_below` says that the next lower float is half as far away as the next higher one (m is a power of two).
    """
    cdef uint64_t four = 4 * m
    cdef uint64_t below = four - (1 if even_below else 2), above = four + 2
    cdef uint64_t u, v, w
    cdef int32_t q, i, shift
    cdef bint exact = False  # all digits of v that are removed are 0
    cdef Decimal result
    e -= 2
    if e >= 0:
        q = log10_of_power_of_2(e) - (e > 3)
        shift = -e + q + FACTOR_BITS + bits_of_power(q) - 1
        u = multiply_shift(below, INVERSE_OF_5[q], shift)
        v = multiply_shift(four, INVERSE_OF_5[q], shift)
        w = multiply_shift(above, INVERSE_OF_5[q], shift)
        result.exponent = q
        if q <= 21:  # of these numbers, at most one is divisible by 5
            if four % 5 == 0:
                exact = divides_power_of_5(four, q)
            elif divides_power_of_5(above, q):
                w -= 1
    else:
        q = log10_of_power_of_5(-e) - (-e > 1)
        i = -e - q
        shift = q - bits_of_power(i) + FACTOR_BITS
        u = multiply_shift(below, POWER_OF_5[i], shift)
        v = multiply_shift(four, POWER_OF_5[i], shift)
        w = multiply_shift(above, POWER_OF_5[i], shift)
        result.exponent = q + e
        if q <= 1:
            exact = True
            w -= 1
        elif q < 63:
            exact = divides_power_of_2(four, q - 1)
    remove_digits(&result, u, v, w, exact)
    return result


cdef inline void remove_digits(Decimal* result, uint64_t u, uint64_t v, uint64_t w, bint exact) noexcept nogil:
    """Remove digits from the end while some number with the rest still lies between the borders, and round."""
    cdef uint32_t last = 0
    while w // 10 > u // 10:
        exact = exact and last == 0
        last = <uint32_t>(v % 10)
        u //= 10
        v //= 10
        w //= 10
        result.exponent += 1
    if exact and last == 5 and v % 2 == 0:
        last = 4  # exactly halfway: to the even digit
    result.digits = v + (v == u or last >= 5)


cdef inline Decimal decimal_of_float8(uint64_t bits) noexcept nogil:
    """Return the decimal of a finite float of 64 bits that is not zero."""
    cdef uint64_t fraction = bits << 12 >> 12
    cdef int32_t exponent = <int32_t>(bits >> 52 & 0x7FF)
    cdef Decimal result
    if exponent == 0:
        return shortest(fraction, -1074, False)
    fraction |= <uint64_t>1 << 52
    exponent -= 1075
    if -52 <= exponent <= 0 and divides_power_of_2(fraction, -exponent):
        result.digits, result.exponent = fraction >> -exponent, 0  # a whole number, whose digits are its shortest ones
        return result
    return shortest(fraction, exponent, fraction == <uint64_t>1 << 52 and exponent > -1074)


cdef inline Decimal decimal_of_float4(uint32_t bits) noexcept nogil:
    """Return the decimal of a finite float of 32 bits that is not zero."""
    cdef uint64_t fraction = bits & 0x7FFFFF
    cdef int32_t exponent = <int32_t>(bits >> 23 & 0xFF)
    if exponent == 0:
        return shortest(fraction, -149, False)
    return shortest(fraction | 0x800000, exponent - 150, fraction == 0 and exponent > 1)


cdef inline int put_decimal(Output* out, Decimal decimal, int32_t fixed_below) noexcept nogil:
    """Append a decimal: with an exponent if it is below 10^-4, or not below 10^fixed_below."""
    cdef int digits
    cdef int32_t exponent
    while decimal.digits % 10 == 0:
        decimal.digits //= 10
        decimal.exponent += 1
    digits = digits_of(decimal.digits)
    exponent = decimal.exponent + digits - 1
    cdef uint8_t* at = end_of(out)
    if -4 <= exponent < fixed_below:
        at = write_fixed(at, decimal, digits, exponent)
    else:
        at = write_scientific(at, decimal.digits, digits, exponent)
    out.used = <size_t>(at - out.start)
    return FINE


cdef inline uint8_t* write_fixed(uint8_t* at, Decimal decimal, int digits, int32_t exponent) noexcept nogil:
    if exponent < 0:
        memcpy(at, b"0.0000", 6)
        return write_digits(at + 1 - exponent, decimal.digits, digits)
    write_digits(at, decimal.digits, digits)
    if decimal.exponent >= 0:
        memset(at + digits, c'0', decimal.exponent)
        return at + digits + decimal.exponent
    memmove(at + exponent + 2, at + exponent + 1, digits - exponent - 1)
    at[exponent + 1] = c'.'
    return at + digits + 1


cdef inline uint8_t* write_scientific(uint8_t* at, uint64_t decimal, int digits, int32_t exponent) noexcept nogil:
    write_digits(at + 1, decimal, digits)
    at[0] = at[1]
    if digits > 1:
        at[1] = c'.'
        at += 1 + digits
    else:
        at += 1
    at[0] = c'e'
    at[1] = c'-' if exponent < 0 else c'+'
    exponent = -exponent if exponent < 0 else exponent
    return write_digits(at + 2, exponent, 3 if exponent >= 100 else 2)


cdef inline bint is_finite_float8(uint64_t bits) noexcept nogil:
    return (bits >> 52 & 0x7FF) != 0x7FF


cdef inline bint is_finite_float4(uint32_t bits) noexcept nogil:
    return (bits >> 23 & 0xFF) != 0xFF


cdef inline int put_not_finite(Output* out, bint fraction, bint negative) noexcept nogil:
    if fraction:
        return put(out, b"NaN", 3)
    if negative:
        return put(out, b"-Infinity", 9)
    return put(out, b"Infinity", 8)


cdef inline int put_float8(Output* out, uint64_t bits) noexcept nogil:
    if not is_finite_float8(bits):
        return put_not_finite(out, bits << 12 != 0, bits >> 63)
    if reserve(out, MOST_TEXT):
        return NO_MEMORY
    if bits >> 63:
        put_byte(out, c'-')
    if bits << 1 == 0:
        put_byte(out, c'0')
        return FINE
    return put_decimal(out, decimal_of_float8(bits), 15)


cdef inline int put_float4(Output* out, uint32_t bits) noexcept nogil:
    if not is_finite_float4(bits):
        return put_not_finite(out, bits << 9 != 0, bits >> 31)
    if reserve(out, MOST_TEXT):
        return NO_MEMORY
    if bits >> 31:
        put_byte(out, c'-')
    if bits << 1 == 0:
        put_byte(out, c'0')
        return FINE
    return put_decimal(out, decimal_of_float4(bits), 6)


cdef inline void fill_powers_of_5() noexcept:
    """Compute the tables: the most significant bits of 5^i, and of its reciprocal, rounded up."""
    cdef int i
    power = 1
    for i in range(max(POWERS, INVERSES)):
        bits = power.bit_length()
        if i < POWERS:
            factor = power << FACTOR_BITS >> bits
            POWER_OF_5[i][0], POWER_OF_5[i][1] = factor & 0xFFFFFFFFFFFFFFFF, factor >> 64
        if i < INVERSES:
            inverse = (1 << (bits - 1 + FACTOR_BITS)) // power + 1
            INVERSE_OF_5[i][0], INVERSE_OF_5[i][1] = inverse & 0xFFFFFFFFFFFFFFFF, inverse >> 64
        power *= 5
