# cython: cdivision=True
"""The quotes and escapes of JSON, of CSV, and of the text of an array."""

from libc.stdint cimport uint8_t
from libc.string cimport memcpy

from floodmark.native.output cimport FINE, NO_MEMORY, Output, end_of, put, reserve

cdef extern from *:
    """
    #ifdef __SSE2__
    #include <emmintrin.h>
    #endif

    #define EACH_BYTE(byte) (UINT64_C(0x0101010101010101) * (byte))
    #define HIGHEST_BITS EACH_BYTE(0x80)

    static inline uint64_t eight_bytes(const uint8_t *from) { uint64_t word; memcpy(&word, from, 8); return word; }
    /* Not 0 if some byte of the word is below `limit`, which is at most 128; or is `byte`. */
    static inline uint64_t some_below(uint64_t word, uint8_t limit) {
        return (word - EACH_BYTE(limit)) & ~word & HIGHEST_BITS;
    }
    static inline uint64_t some_equal(uint64_t word, uint8_t byte) { return some_below(word ^ EACH_BYTE(byte), 1); }

    static inline int needs_escape(uint8_t byte) { return byte < 0x20 || byte == '"' || byte == '\\\\'; }

    /* Copy up to the first byte that a JSON string must escape. Return the number of bytes before it.
       There must be room for `length` bytes: whole words are written, although the caller keeps only a part. */
    static inline size_t copy_unescaped(uint8_t *to, const uint8_t *from, size_t length) {
        size_t done = 0;
    #ifdef __SSE2__
        const __m128i quote = _mm_set1_epi8('"'), backslash = _mm_set1_epi8('\\\\'), last = _mm_set1_epi8(0x1F);
        for (; length - done >= 16; done += 16) {
            __m128i word = _mm_loadu_si128((const __m128i *)(from + done));
            __m128i found = _mm_or_si128(_mm_cmpeq_epi8(word, quote), _mm_cmpeq_epi8(word, backslash));
            found = _mm_or_si128(found, _mm_cmpeq_epi8(_mm_min_epu8(word, last), word));
            _mm_storeu_si128((__m128i *)(to + done), word);
            int mask = _mm_movemask_epi8(found);
            if (mask) return done + (size_t)__builtin_ctz((unsigned)mask);
        }
    #endif
        for (; length - done >= 8; done += 8) {
            uint64_t word = eight_bytes(from + done);
            if (some_below(word, 0x20) | some_equal(word, '"') | some_equal(word, '\\\\')) break;
            memcpy(to + done, &word, 8);
        }
        for (; done < length && !needs_escape(from[done]); done++) to[done] = from[done];
        return done;
    }

    static inline int needs_quotes(uint8_t byte) {
        return byte == ',' || byte == '"' || byte == '\\n' || byte == '\\r';
    }

    /* Return 1 if some byte makes COPY quote a field of CSV. */
    static inline int some_need_quotes(const uint8_t *from, size_t length) {
        size_t done = 0;
        for (; length - done >= 8; done += 8) {
            uint64_t word = eight_bytes(from + done);
            if (some_equal(word, ',') | some_equal(word, '"') | some_equal(word, '\\n') | some_equal(word, '\\r'))
                return 1;
        }
        for (; done < length; done++) if (needs_quotes(from[done])) return 1;
        return 0;
    }

    /* Return 1 if a byte makes array_out quote an element. */
    static inline int is_special_in_array(uint8_t byte) {
        return byte == '"' || byte == '\\\\' || byte == '{' || byte == '}' || byte == ',' || byte == ' '
            || (byte >= '\\t' && byte <= '\\r');
    }
    """
    size_t copy_unescaped(uint8_t* to, const uint8_t* start, size_t length) noexcept nogil
    bint some_need_quotes(const uint8_t* start, size_t length) noexcept nogil
    bint is_special_in_array(uint8_t byte) noexcept nogil

cdef enum:
    PIECE = 4096  # bytes of a string that are escaped between two reservations
    MOST_ESCAPE = 6  # bytes of an escape


cdef inline int put_string(Output* out, const uint8_t* data, size_t length) noexcept nogil:
    """Append a JSON string, escaped as PostgreSQL does it."""
    cdef size_t piece
    if put(out, b'"', 1):
        return NO_MEMORY
    while length:
        piece = min(length, <size_t>PIECE)
        if reserve(out, MOST_ESCAPE * piece):
            return NO_MEMORY
        out.used = <size_t>(write_escaped(end_of(out), data, piece) - out.start)
        data += piece
        length -= piece
    return put(out, b'"', 1)


cdef inline uint8_t* write_escaped(uint8_t* at, const uint8_t* data, size_t length) noexcept nogil:
    cdef const uint8_t* end = data + length
    cdef size_t plain
    while True:
        plain = copy_unescaped(at, data, <size_t>(end - data))
        at += plain
        data += plain
        if data == end:
            return at
        at = write_escape(at, data[0])
        data += 1


cdef inline uint8_t* write_escape(uint8_t* at, uint8_t byte) noexcept nogil:
    cdef uint8_t letter = 0
    if byte == c'"' or byte == c'\\':
        letter = byte
    elif byte == c'\n':
        letter = c'n'
    elif byte == c'\r':
        letter = c'r'
    elif byte == c'\t':
        letter = c't'
    elif byte == 8:
        letter = c'b'
    elif byte == 12:
        letter = c'f'
    at[0] = c'\\'
    if letter:
        at[1] = letter
        return at + 2
    memcpy(at + 1, b"u00", 3)
    at[4] = c'0' + (byte >> 4)
    at[5] = (c'0' if byte & 15 < 10 else c'a' - 10) + (byte & 15)
    return at + 6


cdef inline int wrap_in_quotes(Output* out, size_t start, uint8_t also, uint8_t escape) noexcept nogil:
    """Put quotes around the output from `start` on, and `escape` before each quote and each byte `also` in it."""
    cdef size_t i, extra = 2
    for i in range(start, out.used):
        extra += out.start[i] == c'"' or out.start[i] == also
    if reserve(out, extra):
        return NO_MEMORY
    cdef uint8_t* begin = out.start + start
    cdef uint8_t* source = end_of(out)
    cdef uint8_t* target = source + extra - 1  # from the end, so that nothing is overwritten before it is read
    out.used += extra
    target[0] = c'"'
    while source > begin:
        source -= 1
        target -= 1
        target[0] = source[0]
        if source[0] == c'"' or source[0] == also:
            target -= 1
            target[0] = escape
    begin[0] = c'"'
    return FINE


cdef inline int quote_csv_field(Output* out, size_t start, bint only_field) noexcept nogil:
    """Quote the output from `start` on if COPY would: then the empty text is no null, and `\\.` is not the end."""
    cdef size_t length = out.used - start
    cdef const uint8_t* text = out.start + start
    if length and not some_need_quotes(text, length):
        if not (only_field and length == 2 and text[0] == c'\\' and text[1] == c'.'):
            return FINE
    return wrap_in_quotes(out, start, c'"', c'"')


cdef inline int quote_array_element(Output* out, size_t start) noexcept nogil:
    """Quote the output from `start` on if array_out would: then the text NULL is no null."""
    cdef size_t i, length = out.used - start
    cdef const uint8_t* text = out.start + start
    cdef bint quotes = length == 0 or (length == 4 and spells_null(text))
    for i in range(length):
        if quotes:
            break
        quotes = is_special_in_array(text[i])
    return wrap_in_quotes(out, start, c'\\', c'\\') if quotes else FINE


cdef inline bint spells_null(const uint8_t* text) noexcept nogil:
    """Return True if four bytes spell NULL, in any case."""
    return (text[0] | 32) == c'n' and (text[1] | 32) == c'u' and (text[2] | 32) == c'l' and (text[3] | 32) == c'l'
