"""epoll and eventfd, straight into a C buffer of events. The plain twin and the contract: `epoll.py`.

Why not `select.epoll`: it builds a list of tuples per wait, and after a signal it goes on waiting where a loop must
return. `epoll_pwait2` (Linux 5.11) is tried first, as it waits to the nanosecond; where the kernel or a seccomp filter
refuses it, `epoll_wait` rounds up to a millisecond.
"""

from libc.errno cimport EAGAIN, EINTR, ENOSYS, EPERM, errno
from libc.stdlib cimport free, malloc

cdef extern from "Python.h":
    int PyErr_CheckSignals() except -1

cdef extern from "<sys/epoll.h>" nogil:
    int EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL
    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int op, int fd, epoll_event *event)
    int epoll_wait(int epfd, epoll_event *events, int maxevents, int timeout)

cdef extern from "<sys/eventfd.h>" nogil:
    int EFD_NONBLOCK, EFD_CLOEXEC
    int eventfd(unsigned int initval, int flags)

cdef extern from "<unistd.h>" nogil:
    ssize_t read(int fd, void *buf, size_t count)
    ssize_t write(int fd, const void *buf, size_t count)
    int c_close "close"(int fd)

cdef extern from *:
    """
    #include <errno.h>
    #include <signal.h>
    #include <time.h>
    #include <unistd.h>
    #include <sys/epoll.h>
    #include <sys/syscall.h>
    #ifndef SYS_epoll_pwait2
    #if defined(__alpha__)
    #define SYS_epoll_pwait2 551
    #else
    #define SYS_epoll_pwait2 441
    #endif
    #endif
    static int weft_epoll_pwait2(int epfd, struct epoll_event *events, int maxevents, long long timeout_ns) {
        struct { long long tv_sec; long long tv_nsec; } when;  /* the kernel's 64-bit timespec, on every machine */
        when.tv_sec = timeout_ns / 1000000000LL;
        when.tv_nsec = timeout_ns % 1000000000LL;
        return (int)syscall(SYS_epoll_pwait2, epfd, events, maxevents, &when, (void *)0, (size_t)0);
    }
    """
    int weft_epoll_pwait2(int epfd, epoll_event *events, int maxevents, long long timeout_ns) nogil

IN = 0x001
OUT = 0x004
ERR = 0x008
HUP = 0x010
EDGE = 1 << 31

cdef enum:
    BATCH = 1024

cdef long long NS_PER_MS = 1000000
cdef long long LONGEST_NS = 24 * 3600 * 1000000000LL


cdef class Epoll:
    def __cinit__(self):
        self._fd = -1
        self._precise = 1
        self._events = <epoll_event *>malloc(BATCH * sizeof(epoll_event))
        if self._events == NULL:
            raise MemoryError
        self._fd = epoll_create1(EPOLL_CLOEXEC)
        if self._fd < 0:
            raise OSError(errno, "epoll_create1 failed")

    def __dealloc__(self):
        if self._fd >= 0:
            c_close(self._fd)
        free(self._events)

    def fileno(self):
        return self._fd

    cpdef int add(self, int fd, unsigned int mask) except -1:
        return self._control(EPOLL_CTL_ADD, fd, mask)

    cpdef int modify(self, int fd, unsigned int mask) except -1:
        return self._control(EPOLL_CTL_MOD, fd, mask)

    cpdef int remove(self, int fd) except -1:
        return self._control(EPOLL_CTL_DEL, fd, 0)

    cdef int _control(self, int op, int fd, unsigned int mask) noexcept:
        cdef epoll_event event
        event.events = mask
        event.data.fd = fd
        if epoll_ctl(self._fd, op, fd, &event) == 0:
            return 0
        return errno

    cpdef int wait(self, long long timeout_ns) except -1:
        cdef int count = -1, error = 0, timeout_ms
        if timeout_ns == 0:
            # Returns at once by construction: keep the GIL.
            count = epoll_wait(self._fd, self._events, BATCH, 0)
            error = errno
        else:
            # A handler that became due since the last bytecode must run before this thread sleeps.
            PyErr_CheckSignals()
            if timeout_ns > LONGEST_NS:
                timeout_ns = LONGEST_NS
            if timeout_ns > 0 and self._precise:
                with nogil:
                    count = weft_epoll_pwait2(self._fd, self._events, BATCH, timeout_ns)
                    error = errno
                if count < 0 and (error == ENOSYS or error == EPERM):
                    self._precise = 0
            if timeout_ns < 0 or not self._precise:
                timeout_ms = -1 if timeout_ns < 0 else <int>((timeout_ns + NS_PER_MS - 1) // NS_PER_MS)
                with nogil:
                    count = epoll_wait(self._fd, self._events, BATCH, timeout_ms)
                    error = errno
        if count >= 0:
            return count
        if error == EINTR:
            PyErr_CheckSignals()
            return 0
        raise OSError(error, "epoll_wait failed")

    cpdef int fd_at(self, int index) noexcept:
        # SAFETY: the poller asks only for 0 <= index < what wait() answered, and wait() answers at most BATCH.
        return self._events[index].data.fd

    cpdef unsigned int mask_at(self, int index) noexcept:
        return self._events[index].events

    cpdef close(self):
        if self._fd >= 0:
            c_close(self._fd)
            self._fd = -1


cdef class Eventfd:
    def __cinit__(self):
        self._fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
        if self._fd < 0:
            raise OSError(errno, "eventfd failed")

    def __dealloc__(self):
        if self._fd >= 0:
            c_close(self._fd)

    cpdef int fileno(self) noexcept:
        return self._fd

    cpdef signal(self):
        cdef unsigned long long one = 1, drained
        # SAFETY: non-blocking, eight bytes of this frame; another thread may have closed it (fd -1: EBADF, ignored).
        if self._fd >= 0 and write(self._fd, &one, 8) < 0 and errno == EAGAIN:
            read(self._fd, &drained, 8)
            write(self._fd, &one, 8)

    cpdef close(self):
        if self._fd >= 0:
            c_close(self._fd)
            self._fd = -1
