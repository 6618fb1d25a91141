# cython: cdivision=True
"""A field and the header of CSV, as PostgreSQL's COPY writes them."""

from libc.stdint cimport int32_t, uint8_t

from floodmark.native.columns cimport Column
from floodmark.native.escapes cimport quote_csv_field
from floodmark.native.output cimport Output


cdef inline int csv_field(Output* out, const Column* column, const uint8_t* data, int32_t length) noexcept nogil:
    """Append a type's own text, quoted if it must be."""
    cdef size_t start = out.used
    cdef int fault = column.text(out, column, data, length)
    return fault if fault else quote_csv_field(out, start, column.alone)


cdef inline bytes csv_header(list names):
    """Return the line of names."""
    cdef str name
    cdef bint alone = len(names) == 1
    return (",".join([csv_name(name, alone) for name in names]) + "\n").encode()


cdef inline str csv_name(str name, bint alone):
    """Return a column's name as COPY writes it into the header."""
    quoted = not name or "," in name or '"' in name or "\n" in name or "\r" in name or (alone and name == "\\.")
    return '"' + name.replace('"', '""') + '"' if quoted else name
