from weft._core.ensure cimport AnyFuture
from weft._core.future cimport Future
from weft._core.timeouts cimport Timeout

cdef bint _WAITS_BY_TASK
cdef bint _KEEPS_AWAITERS
cdef object _running_loop


cdef class Gate:
    cdef public object _waiter


cdef class Countdown:
    cdef Py_ssize_t _left
    cdef object _task
    cdef object _timer
    cdef object _waiter
    cdef object _when

    cdef bint _is_enough(self, object future) except -1


cdef _result_in_time(object future)
cdef _note_waits(object future)
