cimport cython

from weft._io.spi cimport Poller
from weft._native.epoll cimport Epoll, Eventfd

cdef unsigned int _BUT_IN, _BUT_OUT


cdef class EpollPoller(Poller):
    cdef list _readers
    cdef list _writers
    cdef bint _waking
    cdef Epoll _epoll
    cdef Eventfd _signal
    cdef int _signal_fd

    @cython.locals(epoll=Epoll, count=int, index=int, fd=int, mask="unsigned int")
    cpdef poll(self, long long timeout_ns, list ready)
    cpdef wake(self)
    @cython.locals(table=list, missing=Py_ssize_t, before=int)
    cpdef watch(self, int fd, int direction, object runnable)
    @cython.locals(table=list, before=int)
    cpdef unwatch(self, int fd, int direction)
    cpdef watched(self, int fd, int direction)
    cdef unsigned int _mask(self, int fd) except? 4294967295
    @cython.locals(epoll=Epoll, error=int)
    cdef _control(self, int fd, unsigned int before, unsigned int mask)
    @cython.locals(epoll=Epoll)
    cdef _release(self, int fd, unsigned int mask)
    cpdef close(self)
    cpdef forget(self)
