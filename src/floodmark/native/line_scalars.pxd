# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Numbers, booleans, dates and timestamps of a line: each function stores a value in a row of its column.

It takes the start of the value and returns the position after it, or NULL for a value that only Python can judge.
"""

from libc.stdint cimport INT32_MAX, INT64_MAX, int16_t, int32_t, int64_t, uint64_t
from libc.string cimport memcpy

from floodmark.native.arrow_columns cimport DATE, FLOAT64, INT32, INT64, TIMESTAMPTZ, Column
from floodmark.native.json_tokens cimport Text, is_digit, is_word, number_end

cdef extern from *:
    """
    #include <stdlib.h>
    #include <locale.h>
    #ifdef __APPLE__
    #include <xlocale.h>
    #endif

    typedef unsigned __int128 floodmark_uint128;

    static const double floodmark_powers[] = {
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19,
        1e20, 1e21, 1e22,
    };
    """
    ctypedef unsigned long long uint128 "floodmark_uint128"
    const double* floodmark_powers
    ctypedef void* locale_t
    int LC_ALL_MASK
    locale_t newlocale(int mask, const char* name, locale_t base) nogil
    void freelocale(locale_t one) nogil
    double strtod_l(const char* text, char** end, locale_t one) nogil

cdef extern from "<math.h>" nogil:
    double NAN, INFINITY
    float nextafterf(float value, float towards)


cdef inline bint _is_infinite(double value) noexcept nogil:
    return value == INFINITY or value == -INFINITY


cdef inline bint _is_halfway(double value) noexcept nogil:
    """Return true if two floats are equally near. Then the digits decide, which the double may have lost."""
    cdef float nearest = <float>value
    if <double>nearest == value or value != value:
        return False
    return (<double>nearest + nextafterf(nearest, INFINITY if value > nearest else -INFINITY)) / 2 == value


cdef inline Text read_integer(Column* column, Py_ssize_t row, Text p) noexcept nogil:
    cdef bint minus = p[0] == c"-"
    cdef uint64_t value = 0
    cdef Text start
    cdef int64_t signed
    if minus:
        p += 1
    start = p
    while is_digit(p[0]) and p - start < 19:
        value = value * 10 + (p[0] - c"0")
        p += 1
    if p == start or (start[0] == c"0" and (p - start > 1 or minus)) or value > <uint64_t>INT64_MAX:
        return NULL
    if p[0] != c"," and p[0] != c"}":
        return NULL
    signed = -<int64_t>value if minus else <int64_t>value
    if column.kind == INT64:
        (<int64_t*>column.fixed)[row] = signed
    elif column.kind == INT32:
        if signed != <int32_t>signed:
            return NULL
        (<int32_t*>column.fixed)[row] = <int32_t>signed
    else:
        if signed != <int16_t>signed:
            return NULL
        (<int16_t*>column.fixed)[row] = <int16_t>signed
    return p


cdef inline Text read_decimal(Column* column, Py_ssize_t row, Text p) noexcept nogil:
    """Read a number, or a string of one: quote-large writes large numbers so."""
    cdef bint quoted = p[0] == c'"', minus
    cdef uint128 value = 0
    cdef Text start
    cdef int digits, fraction = 0
    if quoted:
        p += 1
    minus = p[0] == c"-"
    if minus:
        p += 1
    start = p
    while is_digit(p[0]) and p - start < 39:
        value = value * 10 + (p[0] - c"0")
        p += 1
    digits = <int>(p - start)
    if not digits or (start[0] == c"0" and digits > 1):
        return NULL
    if start[0] == c"0":
        digits = 0
    if digits + column.scale > column.precision:
        return NULL
    if p[0] == c".":
        p += 1
        while is_digit(p[0]) and fraction < column.scale:
            value = value * 10 + (p[0] - c"0")
            fraction += 1
            p += 1
        if not fraction:
            return NULL
    if quoted:
        if p[0] != c'"':
            return NULL
        p += 1
    if p[0] != c"," and p[0] != c"}":
        return NULL
    while fraction < column.scale:
        value = value * 10
        fraction += 1
    if minus:
        value = -value
    memcpy(column.fixed + row * 16, &value, 16)
    return p


cdef inline Text read_float(Column* column, Py_ssize_t row, Text p, Text end, locale_t plain) noexcept nogil:
    cdef double value
    cdef Text after
    if p[0] == c'"':
        if is_word(p, end, b'"NaN"', 5):
            after, value = p + 5, NAN
        elif is_word(p, end, b'"Infinity"', 10):
            after, value = p + 10, INFINITY
        elif is_word(p, end, b'"-Infinity"', 11):
            after, value = p + 11, -INFINITY
        else:
            return NULL
    else:
        after = number_end(p)
        if after == NULL or not _finite(p, after, &value, plain):
            return NULL
    if column.kind == FLOAT64:
        (<double*>column.fixed)[row] = value
    else:
        (<float*>column.fixed)[row] = <float>value
        if _is_infinite(<float>value) and not _is_infinite(value) or _is_halfway(value):
            return NULL
    return after


cdef inline bint _finite(Text p, Text after, double* value, locale_t plain) noexcept nogil:
    """Read a number of valid JSON as the nearest double. Return false if none is near."""
    cdef Text start = p
    cdef bint minus = p[0] == c"-", point = False
    cdef uint64_t digits = 0
    cdef int exponent = 0, count = 0
    if minus:
        p += 1
    while p < after and count < 19:
        if p[0] == c".":
            point = True
        elif is_digit(p[0]):
            digits = digits * 10 + (p[0] - c"0")
            count += digits > 0
            exponent -= point
        else:
            break
        p += 1
    # Both operands are exact, so the result is rounded once.
    if p == after and digits <= <uint64_t>1 << 53 and exponent >= -22:
        value[0] = <double>digits / floodmark_powers[-exponent]
        if minus:
            value[0] = -value[0]
        return True
    value[0] = strtod_l(<const char*>start, NULL, plain)
    return value[0] - value[0] == 0.0


cdef inline Text read_bool(Column* column, Py_ssize_t row, Text p, Text end) noexcept nogil:
    if is_word(p, end, b"true", 4):
        (<unsigned char*>column.fixed)[row >> 3] |= <unsigned char>(1 << (row & 7))
        return p + 4
    return p + 5 if is_word(p, end, b"false", 5) else NULL


cdef inline int _digits(Text p, int count) noexcept nogil:
    """Return the number of some decimal digits, or -1."""
    cdef int number, found = 0
    for number in range(count):
        if not is_digit(p[number]):
            return -1
        found = found * 10 + (p[number] - c"0")
    return found


cdef inline Text read_moment(Column* column, Py_ssize_t row, Text p, Text end, bint infinite) noexcept nogil:
    """Read a date or timestamp of the years 1 to 9999, or an infinite one."""
    cdef int64_t days, value = 0
    cdef int sign = 0
    if infinite and is_word(p, end, b'"infinity"', 10):
        sign, p = 1, p + 10
    elif infinite and is_word(p, end, b'"-infinity"', 11):
        sign, p = -1, p + 11
    if sign:
        if column.kind == DATE:
            (<int32_t*>column.fixed)[row] = sign * INT32_MAX
        else:
            (<int64_t*>column.fixed)[row] = sign * INT64_MAX
        return p
    if p[0] != c'"' or end - p < 13 or not _day(p + 1, &days):
        return NULL
    p += 11
    if column.kind == DATE:
        (<int32_t*>column.fixed)[row] = <int32_t>days
    else:
        p = _clock(p, end, &value)
        if p == NULL:
            return NULL
        if column.kind == TIMESTAMPTZ:
            if not is_word(p, end, b"+00:00", 6):
                return NULL
            p += 6
        (<int64_t*>column.fixed)[row] = days * <int64_t>86400000000 + value
    return p + 1 if p[0] == c'"' else NULL


cdef inline bint _day(Text p, int64_t* days) noexcept nogil:
    """Read the ten characters of a date."""
    cdef int year = _digits(p, 4), month = _digits(p + 5, 2), day = _digits(p + 8, 2), last, shifted, of_year
    if year < 1 or p[4] != c"-" or p[7] != c"-" or month < 1 or month > 12 or day < 1:
        return False
    last = 30 + ((month + (month >> 3)) & 1)
    if month == 2:
        last = 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    if day > last:
        return False
    shifted = year - (month <= 2)  # the year begins in March, so that the leap day is its last
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    days[0] = shifted * 365 + shifted // 4 - shifted // 100 + shifted // 400 + of_year - 719468
    return True


cdef inline Text _clock(Text p, Text end, int64_t* value) noexcept nogil:
    """Read `T`, a time of day and up to six decimals."""
    cdef int hour, minute, second, fraction = 0, count = 0
    if end - p < 10 or p[0] != c"T" or p[3] != c":" or p[6] != c":":
        return NULL
    hour, minute, second = _digits(p + 1, 2), _digits(p + 4, 2), _digits(p + 7, 2)
    if hour < 0 or hour > 23 or minute < 0 or minute > 59 or second < 0 or second > 59:
        return NULL
    p += 9
    if p[0] == c".":
        p += 1
        while is_digit(p[0]) and count < 6:
            fraction = fraction * 10 + (p[0] - c"0")
            count += 1
            p += 1
        if not count:
            return NULL
        while count < 6:
            fraction *= 10
            count += 1
    value[0] = ((hour * 60 + minute) * 60 + second) * <int64_t>1000000 + fraction
    return p
