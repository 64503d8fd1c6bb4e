cdef int _CREATED
cdef int _ENTERED
cdef int _EXPIRING
cdef int _EXPIRED
cdef int _EXITED
cdef bint _LOOKS_BEHIND
cdef bint _TAKES_SUBCLASSES
cdef object _running_loop
cdef object _current_task


cdef class Nothing:
    pass


cdef class Timeout:
    cdef Py_ssize_t _cancelling
    cdef int _stage
    cdef object _task
    cdef object _timer
    cdef object _when

    cpdef when(self)
    cpdef reschedule(self, object when)
    cdef _schedule(self, object when)
    cpdef expired(self)
    cdef _enter(self)
    cdef _leave(self, object error_type, object error)


cdef _put_timeout_behind(object error)
