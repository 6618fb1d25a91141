"""The version of Floodmark that a compiled module is built from: hatch_build.py gives it to the compiler."""

cdef extern from *:
    """
    #ifndef FLOODMARK_VERSION  /* a build that nobody installs: make fuzz */
    #define FLOODMARK_VERSION ""
    #endif
    """
    const char* FLOODMARK_VERSION
