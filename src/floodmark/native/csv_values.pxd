# cython: cdivision=True
"""A field of CSV, as PostgreSQL's COPY writes it."""

from libc.stdint cimport int32_t, uint8_t

from floodmark.native.columns cimport Column
from floodmark.native.escapes cimport quote_csv_field
from floodmark.native.output cimport Output


cdef inline int csv_field(Output* out, const Column* column, const uint8_t* data, int32_t length) noexcept nogil:
    """Append a type's own text, quoted if it must be."""
    cdef size_t start = out.used
    cdef int fault = column.text(out, column, data, length)
    return fault if fault else quote_csv_field(out, start, column.alone)
