cimport cython
from weft._core.clock cimport Clock
from weft._core.handle cimport Handle


cdef class TimerHandle(Handle):
    cdef public double _when
    cdef long long _when_ns
    cdef long long _order
    cdef Py_ssize_t _index
    cdef Timers _timers

    cpdef double when(self)
    cdef list _info(self)


@cython.final
cdef class Timers:
    cdef list _heap
    cdef long long _made

    @cython.locals(first=TimerHandle)
    cdef long long next_ns(self)
    cdef add(self, TimerHandle handle)
    @cython.locals(place=Py_ssize_t, last=TimerHandle)
    cdef remove(self, TimerHandle handle)
    @cython.locals(first=TimerHandle, count=Py_ssize_t)
    cdef Py_ssize_t pop_due(self, long long now_ns, list ready) except -1
    @cython.locals(handle=TimerHandle, heap=list)
    cdef clear(self)
    @cython.locals(heap=list, above=Py_ssize_t, parent=TimerHandle)
    cdef _up(self, TimerHandle handle, Py_ssize_t place)
    @cython.locals(heap=list, size=Py_ssize_t, child=Py_ssize_t, best=Py_ssize_t, end=Py_ssize_t, least=TimerHandle, other=TimerHandle)
    cdef _down(self, TimerHandle handle, Py_ssize_t place)
