cimport cython

from weft._core.handle cimport Flushable
from weft._core.loopcore cimport LoopCore


cdef class Outgoing(Flushable):
    cdef list _chunks
    cdef readonly LoopCore _loop
    cdef bytes _only
    cdef readonly Py_ssize_t _size

    cpdef _hold(self, bytes chunk)
    cdef _list_only(self)
    @cython.locals(data=bytes)
    cdef bytes _take_held(self)
    cdef _put_back(self, bytes data)
