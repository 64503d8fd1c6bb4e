cimport cython
from weft._core.future cimport Future
from weft._core.timeouts cimport Timeout

cdef bint _WAITS_BY_TASK
cdef bint _REFUSES_NAN
cdef bint _SHIELD_RETRIEVES
cdef bint _STARTS_LATE
cdef bint _GIVES_BACK
cdef bint _KEEPS_EDGES
cdef object _add_awaited_by
cdef object _discard_awaited_by
cdef object _find_loop
cdef object _running_loop


@cython.freelist(64)
@cython.final
cdef class Pause:
    cdef object _result
    cdef int _stage


cdef class Gate:
    cdef public object _waiter


cdef class Countdown:
    cdef Py_ssize_t _left
    cdef object _task
    cdef object _timer
    cdef object _waiter
    cdef object _when

    cdef bint _is_enough(self, object future) except -1


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


cdef class Shield:
    cdef object _inner
    cdef object _outer
    cdef object _task


cdef _ensure(object awaitable, object loop)
cdef _loop_of(object future)
cdef _warn_never_awaited(object coro)
@cython.locals(pause=Pause)
cdef Pause _pause(object result)
cdef _result_in_time(object future)
cdef _note_waits(object future)
cdef _shield(object awaitable)
