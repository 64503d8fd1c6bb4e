from weft._core.ensure cimport AnyFuture

cdef bint _STARTS_LATE
cdef bint _GIVES_BACK
cdef bint _KEEPS_AWAITERS
cdef object _find_loop


cdef class Completions:
    cdef object _awaitables
    cdef object _done
    cdef Py_ssize_t _due
    cdef object _getters
    cdef bint _is_started
    cdef object _loop
    cdef object _task
    cdef object _timeout
    cdef object _timer
    cdef set _todo

    cdef _start(self)
    cdef _put(self, object future)
    cdef _wake_one(self)
