cimport cython
from weft._core.clock cimport Clock
from weft._core.current cimport CurrentTask
from weft._core.handle cimport Flushable, Handle, Runnable, ThreadSafeHandle
from weft._core.hooks cimport Counters
from weft._core.timers cimport TimerHandle, Timers
from weft._native.drive cimport Drive
from weft._native.runningtask cimport RunningTask

cdef long long _POLL_NS
cdef Py_ssize_t _POLL_TURNS
cdef long long _POLL_LONGEST_NS
cdef bint _IS_GIL_ON
cdef bint _LOCKS_HANDLES


cdef class Scheduler:
    cdef object __weakref__
    cdef public bint _closed
    cdef public Counters _counters
    cdef public object _current
    cdef public object _current_handle
    cdef public bint _debug
    cdef public Flushable _dirty
    cdef Flushable _dirty_last
    cdef public bint _has_own_clock
    cdef object _inbox
    cdef bint _is_blocked
    cdef public bint _is_timed
    cdef public set _live
    cdef public object _poller
    cdef list _ready_queue
    cdef public bint _registers_tasks
    cdef list _spare
    cdef public bint _stopping
    cdef Py_ssize_t _taken
    cdef public unsigned long long _thread_id
    cdef public Timers _timers
    cdef long long _touched
    cdef Py_ssize_t _turns_unpolled
    cdef long long _polled_ns
    cdef public double slow_callback_duration

    cpdef _check_thread(self)
    cdef bint _is_here(self) noexcept
    cdef _check_put(self)
    cdef _put(self, Runnable runnable)
    @cython.locals(handle=Handle)
    cdef Handle _put_call(self, object callback, tuple args, object context)
    @cython.locals(handle=Handle)
    cdef Handle _put_from_thread(self, object callback, tuple args, object context)
    @cython.locals(handle=TimerHandle)
    cdef TimerHandle _put_timer(self, double when, object callback, tuple args, object context)
    @cython.locals(handle=Handle)
    cdef Handle _handle(self, object callback, tuple args, object context)
    cdef bint _mark_dirty(self, Flushable flushable) except -1
    cdef int _enter(self, object task) except -1
    cdef int _leave(self) except -1
    cdef long long _now_ns(self) except? -1
    cpdef _run_until_stopped(self)
    @cython.locals(counters=Counters, now_ns=cython.longlong, batch=list)
    cdef _turn(self)
    @cython.locals(counters=Counters, count=Py_ssize_t)
    cdef _poll(self, long long timeout_ns)
    @cython.locals(timeout_ns=cython.longlong, now_ns=cython.longlong)
    cdef long long _wait(self) except? -1
    @cython.locals(count=Py_ssize_t)
    cdef _take_inbox(self)
    cdef _run_batch(self, list batch)
    @cython.locals(count=Py_ssize_t, place=Py_ssize_t, runnable=Runnable)
    cdef _run_rest(self, list batch)
    @cython.locals(count=Py_ssize_t, place=Py_ssize_t, runnable=Runnable, start_ns=cython.longlong)
    cdef _run_timed(self, list batch)
    cdef _report_escaped(self, Runnable runnable, object exc)
    cdef _note_duration(self, Runnable runnable, long long duration_ns)
    @cython.locals(flushable=Flushable)
    cdef _flush_dirty(self)
    @cython.locals(nothing=Handle)
    cpdef _clear(self)
