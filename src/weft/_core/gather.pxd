cimport cython
from weft._core.future cimport Future
from weft._core.handle cimport Listener
from weft._core.loopcore cimport LoopCore
from weft._core.scheduler cimport Scheduler
from weft._core.task cimport Task

cdef bint _COUNTS_DONE_AT_ONCE
cdef Py_ssize_t _DEEPEST
cdef Py_ssize_t _depth


cdef class GatheringFuture(Future):
    cdef public list _children
    cdef public bint _cancel_requested

    cdef _adopt(self, list children, object loop)


cdef class Latch(Listener):
    cdef list _due
    cdef Py_ssize_t _finished
    cdef GatheringFuture _outer
    cdef bint _returns_exceptions
    cdef Scheduler _scheduler
    cdef Py_ssize_t _total

    cdef _listen(self, Future child)
    cdef _note(self, Future child)
    @cython.locals(outer=GatheringFuture, results=list)
    cdef _judge(self, object child)


@cython.locals(outer=GatheringFuture, latch=Latch, own_loop=LoopCore, task=Task, children=list, made=dict, done=list)
cdef _gather(tuple arguments, bint returns_exceptions)
@cython.locals(future=Future)
cdef bint _fuses_on(object child, Scheduler scheduler) except -1
@cython.locals(own=LoopCore)
cdef LoopCore _plain_running_loop()
@cython.locals(future=Future)
cdef _outcome(object child)
