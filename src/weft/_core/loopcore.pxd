cimport cython
from weft._core.clock cimport Clock
from weft._core.future cimport Future
from weft._core.handle cimport Handle
from weft._core.scheduler cimport Scheduler
from weft._core.task cimport Task
from weft._core.timers cimport TimerHandle

cdef bint _HANDS_ON
cdef object _NOT_GIVEN


cdef class LoopCore(Scheduler):
    cdef public object _task_factory

    cdef _check_call(self, object callback, str method, bint is_own_thread)
    @cython.locals(future=Future)
    cpdef create_future(self)
    @cython.locals(task=Task)
    cdef Task _make_task(self, object coro, object name, object context, bint eager_start)
    cpdef list _tasks(self)
    cpdef bint is_running(self)
    cpdef bint is_closed(self)
    cpdef bint get_debug(self)
