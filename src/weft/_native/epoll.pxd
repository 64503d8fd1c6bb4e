cimport cython


cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        int fd
    cdef struct epoll_event:
        unsigned int events
        epoll_data_t data


@cython.final
cdef class Epoll:
    cdef int _fd
    cdef int _precise
    cdef epoll_event *_events

    cpdef int add(self, int fd, unsigned int mask) except -1
    cpdef int modify(self, int fd, unsigned int mask) except -1
    cpdef int remove(self, int fd) except -1
    cdef int _control(self, int op, int fd, unsigned int mask) noexcept
    cpdef int wait(self, long long timeout_ns) except -1
    cpdef int fd_at(self, int index) noexcept
    cpdef unsigned int mask_at(self, int index) noexcept
    cpdef close(self)


@cython.final
cdef class Eventfd:
    cdef int _fd

    cpdef int fileno(self) noexcept
    cpdef signal(self)
    cpdef close(self)
