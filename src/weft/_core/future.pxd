cimport cython
from weft._core.handle cimport Listener
from weft._core.scheduler cimport Scheduler
from weft._native.drive cimport Drive

cdef bint _WRAPS_STOP_ITERATION
cdef bint _REFUSES_SECOND_INIT


cdef class Future(Listener):
    cdef dict __dict__
    cdef public bint _asyncio_future_blocking
    cdef public object _cancelled_exc
    cdef public object _exception
    cdef public object _exception_tb
    cdef bint _fuses
    cdef bint _is_unseen
    cdef list _listeners
    cdef public object _loop
    cdef object _message
    cdef public object _result
    cdef Scheduler _scheduler
    cdef public object _source_traceback
    cdef int _status
    cdef Listener _waiter

    @cython.locals(scheduler=Scheduler, is_debug=bint)
    cdef _prepare(self, object loop)
    cdef _report_unseen(self)
    cdef _take_result(self)
    cdef _cancelled_error(self)
    cdef _seen_error(self)
    cdef _add_callback(self, object callback, object context)
    cdef _add_listener(self, Listener listener)
    @cython.locals(listeners=list, kept=list)
    cdef Py_ssize_t _remove_callback(self, object callback) except -1
    @cython.locals(scheduler=Scheduler)
    cdef _call_soon(self, object callback, object context)
    @cython.locals(waiter=Listener, listeners=list, pair=tuple)
    cdef _tell(self)
    cdef _finish_cancelled(self)
    cdef _finish_result(self, object result)
    cdef _finish_exception(self, object exception)
