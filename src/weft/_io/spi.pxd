from weft._io.ops cimport Ops


cdef class Poller:
    cdef public Ops ops
    cdef public dict owners

    cpdef poll(self, long long timeout_ns, list ready)
    cpdef wake(self)
    cpdef watch(self, int fd, int direction, object runnable)
    cpdef unwatch(self, int fd, int direction)
    cpdef watched(self, int fd, int direction)
    cpdef close(self)
    cpdef forget(self)
