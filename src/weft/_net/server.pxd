cimport cython

from weft._core.handle cimport Runnable
from weft._io.ops cimport Ops


cdef class Acceptor(Runnable):
    cdef Py_ssize_t _backlog
    cdef int _family
    cdef readonly int _fd
    cdef object _loop
    cdef Ops _ops
    cdef int _proto
    cdef object _server
    cdef readonly object _sock
    cdef int _type
    cdef public object unlink

    cpdef start(self)
    cpdef accept_rest(self)
    cpdef close(self)
    cdef _run(self)
    cdef _accept_failed(self, object sock, object exc)
    cdef _connect(self, int fd, object address)
