cimport cython

from weft._io.spi cimport Poller


cdef class SelectorPoller(Poller):
    cdef dict _table
    cdef object _selector
    cdef int _wake_read
    cdef int _wake_write
    cdef bint _waking

    cpdef poll(self, long long timeout_ns, list ready)
    cpdef wake(self)
    cpdef watch(self, int fd, int direction, object runnable)
    cpdef unwatch(self, int fd, int direction)
    cpdef watched(self, int fd, int direction)
    cdef _drain(self)
    cdef _drop(self, int fd)
    cpdef close(self)
    cpdef forget(self)
