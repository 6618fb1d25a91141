# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The memory of decoded columns, and its handover as Arrow arrays (Arrow's C data interface)."""

from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset

cdef extern from *:
    """
    #include <stdint.h>

    /* https://arrow.apache.org/docs/format/CDataInterface.html */
    struct FloodmarkArrowArray {
        int64_t length, null_count, offset, n_buffers, n_children;
        const void** buffers;
        struct FloodmarkArrowArray** children;
        struct FloodmarkArrowArray* dictionary;
        void (*release)(struct FloodmarkArrowArray*);
        void* private_data;
    };
    """
    ctypedef struct ArrowArray "struct FloodmarkArrowArray":
        int64_t length, null_count, offset, n_buffers, n_children
        const void** buffers
        ArrowArray** children
        ArrowArray* dictionary
        void (*release)(ArrowArray*) noexcept nogil
        void* private_data

cdef enum Kind:
    INT16, INT32, INT64, DECIMAL, FLOAT32, FLOAT64, BOOL, DATE, TIMESTAMP, TIMESTAMPTZ, STRING, BYTES, JSON, ANY


cdef struct Column:
    int kind, precision, scale
    int width  # bytes of a value; the offsets of strings have 4; 0 for bits
    bint varies  # the values are in `text`
    char* key  # what precedes the value in a line
    Py_ssize_t key_size
    char* fixed
    unsigned char* valid  # one bit for each row
    char* text
    Py_ssize_t text_size, text_room, text_kept
    int64_t nulls, nulls_kept


cdef inline ArrowArray* new_array(int64_t length, int64_t nulls, int buffers, int children) noexcept nogil:
    cdef ArrowArray* found = <ArrowArray*>calloc(1, sizeof(ArrowArray))
    if found == NULL:
        return NULL
    found.release = _release
    found.length, found.null_count, found.n_buffers, found.n_children = length, nulls, buffers, children
    found.buffers = <const void**>calloc(buffers, sizeof(void*))
    found.children = <ArrowArray**>calloc(max(children, 1), sizeof(ArrowArray*))
    if found.buffers == NULL or found.children == NULL:
        drop_array(found)
        return NULL
    return found


cdef inline void _release(ArrowArray* array) noexcept nogil:
    cdef int64_t number
    if array.buffers != NULL:
        for number in range(array.n_buffers):
            free(<void*>array.buffers[number])
    if array.children != NULL:
        for number in range(array.n_children):
            drop_array(array.children[number])
    free(<void*>array.buffers)
    free(array.children)
    array.release = NULL


cdef inline void drop_array(ArrowArray* array) noexcept nogil:
    if array != NULL:
        if array.release != NULL:
            array.release(array)
        free(array)


cdef inline void clear_bits(Column* column, Py_ssize_t first, Py_ssize_t room) noexcept nogil:
    """Clear the bits of all rows from this one on."""
    cdef Py_ssize_t start = first >> 3, size = (room + 7) >> 3
    if start >= size:
        return
    column.valid[start] &= <unsigned char>((1 << (first & 7)) - 1)
    memset(column.valid + start + 1, 0, size - start - 1)
    if column.kind == BOOL:
        (<unsigned char*>column.fixed)[start] &= <unsigned char>((1 << (first & 7)) - 1)
        memset(column.fixed + start + 1, 0, size - start - 1)


cdef inline bint make_room(Column* column, Py_ssize_t more) noexcept nogil:
    cdef Py_ssize_t room = column.text_room
    cdef void* larger
    if column.text_size + more <= room:
        return True
    while room < column.text_size + more:
        room = room * 2 if room else 4096
    larger = realloc(column.text, room)
    if larger == NULL:
        return False
    column.text, column.text_room = <char*>larger, room
    return True
