cimport cython

cdef bint _REFUSES_NAN
cdef object _running_loop


@cython.freelist(64)
@cython.final
cdef class Pause:
    cdef object _result
    cdef int _stage


cdef _warn_never_awaited(object coro)
@cython.locals(pause=Pause)
cdef Pause _pause(object result)
