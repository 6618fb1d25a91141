# cython: cdivision=True
"""The messages of a COPY, taken from libpq and encoded one by one, without the interpreter's lock.

The functions are those of the libpq that the PostgreSQL driver uses. Nothing here blocks for longer than PATIENCE. What
it can't handle (the end, an error, a lost connection) it leaves to the driver, which finds it in the same state.
"""

from libc.stdint cimport int64_t, uint8_t

from floodmark.native.output cimport FINE, Output
from floodmark.native.rows cimport Place, Plan, encode_rows
from floodmark.native.wire cimport Cursor, bytes_left

cdef extern from "<poll.h>" nogil:
    const short POLLIN
    struct pollfd:
        int fd
        short events, revents
    int poll(pollfd* files, unsigned long number, int milliseconds)

cdef extern from "<dlfcn.h>" nogil:
    const int RTLD_LAZY
    const int RTLD_NOLOAD
    void* dlopen(const char* path, int mode)
    void* dlsym(void* library, const char* name)

cdef enum:
    PATIENCE = 100  # milliseconds without a byte, until the caller gets a turn: it can end the read

cdef enum:
    MORE = 0
    END  # PostgreSQL's trailer has come
    CUT  # the COPY ended without it: the driver knows the error
    REFUSED  # by PQgetCopyData
    LOST  # by PQconsumeInput

ctypedef int (*GetCopyData)(void*, char**, int) noexcept nogil
ctypedef int (*OfConnection)(void*) noexcept nogil
ctypedef void (*FreeMemory)(void*) noexcept nogil
ctypedef int (*Version)() noexcept nogil

cdef struct Functions:
    GetCopyData get_copy_data
    OfConnection consume_input
    OfConnection socket
    FreeMemory free_memory


cdef inline bint find_functions(const char* module, Functions* found, int* version) noexcept nogil:
    """Look the functions up in a module that is loaded, and in the libraries that it was linked with."""
    cdef void* library = dlopen(module, RTLD_LAZY | RTLD_NOLOAD)
    if library == NULL:
        return False
    cdef Version of_library = <Version>dlsym(library, b"PQlibVersion")
    found.get_copy_data = <GetCopyData>dlsym(library, b"PQgetCopyData")
    found.consume_input = <OfConnection>dlsym(library, b"PQconsumeInput")
    found.socket = <OfConnection>dlsym(library, b"PQsocket")
    found.free_memory = <FreeMemory>dlsym(library, b"PQfreemem")
    if of_library == NULL or found.get_copy_data == NULL or found.consume_input == NULL:
        return False
    version[0] = of_library()
    return found.socket != NULL and found.free_memory != NULL


cdef inline int receive_rows(
    const Functions* libpq, void* connection, const Plan* plan, Output* out, Place* place, size_t enough, int* state
) noexcept nogil:
    """Append lines until there are `enough` bytes, or until nothing more arrives. Return a fault of the encoder."""
    cdef int64_t rows = 0, marks = 0
    cdef char* message = NULL
    cdef int size, fault = FINE
    cdef bint asked = False  # since the last message
    state[0] = MORE
    while fault == FINE and state[0] == MORE and out.used < enough:
        size = libpq.get_copy_data(connection, &message, 1)
        if size > 0:
            place.cursor = Cursor(<const uint8_t*>message, <const uint8_t*>message + size)
            fault = encode_rows(plan, out, place, False)
            libpq.free_memory(message)
            rows, marks, asked = rows + place.rows, marks + place.marks, False
            if fault == FINE and bytes_left(&place.cursor):
                state[0] = END
        elif size < 0:
            state[0] = CUT if size == -1 else REFUSED
        elif asked and not has_arrived(libpq.socket(connection)):
            break
        else:  # more is usually there, so the first try needs no poll
            asked = True
            if libpq.consume_input(connection) != 1:
                state[0] = LOST
    place.rows, place.marks = rows, marks
    return fault


cdef inline bint has_arrived(int socket) noexcept nogil:
    """Wait for bytes, or for the end of the connection."""
    cdef pollfd waited
    waited.fd, waited.events, waited.revents = socket, POLLIN, 0
    return socket < 0 or poll(&waited, 1, PATIENCE) > 0  # without a socket, PQconsumeInput knows why
