cimport cython
from weft._core.current cimport CurrentTask
from weft._core.future cimport Future
from weft._core.scheduler cimport Scheduler
from weft._native.drive cimport Drive, Raised, Returned

cdef bint _UNCANCEL_FORGETS
cdef bint _CHECKS_CONTEXT
cdef long long _made
cdef Py_ssize_t _LONGEST_CHAIN


cdef class Numbers:
    @staticmethod
    cdef long long next() noexcept


cdef class Task(Future):
    cdef public object _context
    cdef public object _coro
    cdef public object _fut_waiter
    cdef public bint _log_destroy_pending
    cdef public bint _must_cancel
    cdef public object _name
    cdef public Py_ssize_t _num_cancels_requested
    cdef long long _number

    @cython.locals(scheduler=Scheduler)
    cdef _start(self, object coro, object name, object context, bint eager_start)
    @cython.locals(scheduler=Scheduler)
    cdef _start_eagerly(self)
    @cython.locals(task=Task, awaited=Task, hops=Py_ssize_t)
    cdef _request_cancel(self, object msg)
    cdef _run(self)
    @cython.locals(returned=Returned, raised=Raised)
    cdef _take(self, object outcome)
    @cython.locals(scheduler=Scheduler)
    cdef _step(self, object exc, object context)
    cdef _fail_with(self, object error)
    cdef _end(self)
    cdef _wait_for(self, object yielded)
    cdef bint _wait_fused(self, Future future) except -1
    cdef _fail(self, str message)


cdef _seen_error_of(Future future)
