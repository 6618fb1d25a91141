# cython: cdivision=True
"""Dates, times and intervals under DateStyle ISO, TimeZone UTC and IntervalStyle iso_8601.

PostgreSQL counts days and microseconds from 2000-01-01. In JSON a timestamp has a T and its offset has minutes.
"""

from libc.stdint cimport INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN, int32_t, int64_t, uint8_t, uint32_t, uint64_t

from floodmark.native.numbers cimport digits_of, put_pair, write_digits, write_signed
from floodmark.native.output cimport BAD_VALUE, FINE, NO_MEMORY, Output, end_of, put, put_byte, put_reserved, reserve

cdef enum:
    MOST_TIME_TEXT = 64  # bytes of the text of a date or time
    MOST_INTERVAL_TEXT = 128
    FIRST_DAY = -2451545  # 4714-11-24 BC
    LAST_DAY = 2145031948  # 5874897-12-31
    MOST_OFFSET = 57599  # seconds: 15:59:59
    DAYS_TO_ERA = 730425  # from 0000-03-01 to 2000-01-01
    DAYS_OF_ERA = 146097  # in 400 years

cdef extern from *:
    """
    #define DAY_MICROSECONDS INT64_C(86400000000)
    #define FIRST_MOMENT INT64_C(-211813488000000000)  /* 4714-11-24 00:00 BC */
    #define AFTER_LAST_MOMENT INT64_C(9223371331200000000)  /* 294277-01-01 00:00 */
    """
    const int64_t DAY_MICROSECONDS
    const int64_t FIRST_MOMENT
    const int64_t AFTER_LAST_MOMENT


cdef inline uint8_t* write_date(uint8_t* at, int64_t day, bint* before_christ) noexcept nogil:
    """Write year, month and day. The year 0 is 1 BC, and so on.

    The calendar repeats every 400 years (an era). A year that begins in March has its leap day at the end.
    """
    cdef int64_t era, year
    cdef uint32_t of_era, year_of_era, of_year, month
    day += DAYS_TO_ERA
    era = (day if day >= 0 else day - (DAYS_OF_ERA - 1)) // DAYS_OF_ERA
    of_era = <uint32_t>(day - era * DAYS_OF_ERA)
    year_of_era = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month = (5 * of_year + 2) // 153  # from March on: months of 31, 30, 31, 30, 31 days, again and again
    of_year = of_year - (153 * month + 2) // 5 + 1
    month = month + 3 if month < 10 else month - 9
    year = era * 400 + year_of_era + (month <= 2)
    before_christ[0] = year <= 0
    if year <= 0:
        year = 1 - year
    at = write_digits(at, <uint64_t>year, max(4, digits_of(<uint64_t>year)))
    at[0] = c'-'
    put_pair(at + 1, month)
    at[3] = c'-'
    put_pair(at + 4, of_year)
    return at + 6


cdef inline uint8_t* write_fraction_of_second(uint8_t* at, uint32_t microseconds) noexcept nogil:
    """Write a point and up to six digits, without zeros at the end; nothing if there are none."""
    cdef int digits = 6
    if microseconds == 0:
        return at
    while microseconds % 10 == 0:
        microseconds //= 10
        digits -= 1
    at[0] = c'.'
    return write_digits(at + 1, microseconds, digits)


cdef inline uint8_t* write_time(uint8_t* at, uint64_t microseconds) noexcept nogil:
    """Write a time of day: hours (up to 24), minutes, seconds."""
    cdef uint32_t seconds = <uint32_t>(microseconds // 1000000)
    put_pair(at, seconds // 3600)
    at[2] = c':'
    put_pair(at + 3, seconds // 60 % 60)
    at[5] = c':'
    put_pair(at + 6, seconds % 60)
    return write_fraction_of_second(at + 8, <uint32_t>(microseconds % 1000000))


cdef inline uint8_t* write_offset(uint8_t* at, int32_t seconds_west) noexcept nogil:
    """Write an offset from UTC: hours, with minutes and seconds only if there are some."""
    cdef uint32_t seconds = -seconds_west if seconds_west < 0 else seconds_west
    at[0] = c'-' if seconds_west > 0 else c'+'
    put_pair(at + 1, seconds // 3600)
    at += 3
    if seconds % 3600:
        at[0] = c':'
        put_pair(at + 1, seconds // 60 % 60)
        at += 3
    if seconds % 60:
        at[0] = c':'
        put_pair(at + 1, seconds % 60)
        at += 3
    return at


cdef inline uint8_t* write_before_christ(uint8_t* at, bint before_christ) noexcept nogil:
    if before_christ:
        at[0], at[1], at[2] = c' ', c'B', c'C'
        at += 3
    return at


cdef inline int put_infinity(Output* out, bint negative) noexcept nogil:
    return put(out, b"-infinity", 9) if negative else put(out, b"infinity", 8)


cdef inline int put_date(Output* out, int32_t day) noexcept nogil:
    cdef bint before_christ
    if day == INT32_MIN or day == INT32_MAX:
        return put_infinity(out, day < 0)
    if not FIRST_DAY <= day <= LAST_DAY:
        return BAD_VALUE
    if reserve(out, MOST_TIME_TEXT):
        return NO_MEMORY
    cdef uint8_t* at = write_date(end_of(out), day, &before_christ)
    out.used = <size_t>(write_before_christ(at, before_christ) - out.start)
    return FINE


cdef inline int put_timestamp(
    Output* out, int64_t moment, uint8_t between, const char* offset, size_t size
) noexcept nogil:
    """Append date and time with a byte between them, and the text of the offset."""
    cdef bint before_christ
    cdef int64_t day, time
    if moment == INT64_MIN or moment == INT64_MAX:
        return put_infinity(out, moment < 0)
    if not FIRST_MOMENT <= moment < AFTER_LAST_MOMENT:
        return BAD_VALUE
    if reserve(out, MOST_TIME_TEXT):
        return NO_MEMORY
    day = moment // DAY_MICROSECONDS
    time = moment - day * DAY_MICROSECONDS
    if time < 0:
        time += DAY_MICROSECONDS
        day -= 1
    cdef uint8_t* at = write_date(end_of(out), day, &before_christ)
    at[0] = between
    at = write_time(at + 1, <uint64_t>time)
    out.used = <size_t>(at - out.start)
    put_reserved(out, offset, size)
    out.used = <size_t>(write_before_christ(end_of(out), before_christ) - out.start)
    return FINE


cdef inline int put_time(Output* out, int64_t microseconds) noexcept nogil:
    if not 0 <= microseconds <= DAY_MICROSECONDS:
        return BAD_VALUE
    if reserve(out, MOST_TIME_TEXT):
        return NO_MEMORY
    out.used = <size_t>(write_time(end_of(out), <uint64_t>microseconds) - out.start)
    return FINE


cdef inline int put_timetz(Output* out, int64_t microseconds, int32_t seconds_west) noexcept nogil:
    if not -MOST_OFFSET <= seconds_west <= MOST_OFFSET:
        return BAD_VALUE
    cdef int fault = put_time(out, microseconds)
    if fault == FINE:
        out.used = <size_t>(write_offset(end_of(out), seconds_west) - out.start)  # put_time reserved room for both
    return fault


cdef inline uint8_t* write_unit(uint8_t* at, int64_t number, uint8_t unit) noexcept nogil:
    """Write a number and its unit; nothing if it is 0."""
    if number == 0:
        return at
    at = write_signed(at, number)
    at[0] = unit
    return at + 1


cdef inline int put_interval(Output* out, int64_t microseconds, int32_t days, int32_t months) noexcept nogil:
    """Append an interval. Each unit has a sign of its own, that of the seconds holds for their fraction too."""
    cdef uint8_t* at
    cdef int64_t minutes = microseconds // 60000000
    if microseconds == 0 and days == 0 and months == 0:
        return put(out, b"PT0S", 4)
    if reserve(out, MOST_INTERVAL_TEXT):
        return NO_MEMORY
    put_byte(out, c'P')
    at = write_unit(end_of(out), months // 12, c'Y')
    at = write_unit(at, months % 12, c'M')
    at = write_unit(at, days, c'D')
    if microseconds:
        at[0] = c'T'
        at = write_unit(at + 1, minutes // 60, c'H')
        at = write_unit(at, minutes % 60, c'M')
        at = write_seconds(at, microseconds % 60000000)
    out.used = <size_t>(at - out.start)
    return FINE


cdef inline uint8_t* write_seconds(uint8_t* at, int64_t microseconds) noexcept nogil:
    if microseconds == 0:
        return at
    if microseconds < 0:
        at[0] = c'-'
        at += 1
        microseconds = -microseconds
    at = write_digits(at, <uint64_t>(microseconds // 1000000), 2 if microseconds >= 10000000 else 1)
    at = write_fraction_of_second(at, <uint32_t>(microseconds % 1000000))
    at[0] = c'S'
    return at + 1


cdef inline bint is_infinite_interval(int64_t microseconds, int32_t days, int32_t months) noexcept nogil:
    """Return True for an infinity of PostgreSQL 17 and later. Before, these are intervals like others."""
    if months < 0:
        return months == INT32_MIN and days == INT32_MIN and microseconds == INT64_MIN
    return months == INT32_MAX and days == INT32_MAX and microseconds == INT64_MAX
