"""recv, send, sendmsg and accept4 on a descriptor. The plain twin and the contract: `sock.py`.

Every call carries MSG_DONTWAIT: a socket that somebody made blocking behind the loop's back (the flag is shared with
whoever else holds the open socket) still cannot stop the loop. As no call can block, none lets go of the GIL,
but a large send, whose copy takes long enough for another thread to use it. Letting go cost 80 ns of the 1.2 µs of a
small call on a socket pair, and beside a busy thread the loop waited to get it back: 15 to 20 µs a message, not 9 to 14.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_SetFromErrno
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdlib cimport free, malloc
from libc.string cimport memset

import os
from os import fsdecode

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL

cdef extern from "<string.h>" nogil:
    size_t strnlen(const char *text, size_t limit)

cdef extern from *:
    """
    #include <errno.h>
    static void errno_set(int value) { errno = value; }
    """
    void errno_set(int value) nogil

cdef extern from *:
    """
    #include <fcntl.h>
    #include <sys/socket.h>
    #ifdef __linux__
    #include <sys/sendfile.h>
    #define WEFT_HAS_SENDFILE 1
    static long long weft_sendfile(int target, int file, long long offset, long long count) {
        off_t place = (off_t)offset;
        return (long long)sendfile(target, file, &place, (size_t)count);
    }
    #else
    #define WEFT_HAS_SENDFILE 0
    static long long weft_sendfile(int target, int file, long long offset, long long count) { errno = ENOSYS; return -1; }
    #endif
    #ifndef MSG_NOSIGNAL
    #define MSG_NOSIGNAL 0  /* Python ignores SIGPIPE; this only spares who does not */
    #endif
    /* Received straight into a bytes object of its own, which is then cut to what came; None for "not now".
       SAFETY: nobody else has seen the object yet, so it may be written and made shorter. */
    static PyObject *weft_recv_fresh(int fd, Py_ssize_t size) {
        PyObject *data = PyBytes_FromStringAndSize(NULL, size);
        ssize_t count;
        int error;
        if (data == NULL) return NULL;
        count = recv(fd, PyBytes_AS_STRING(data), (size_t)size, MSG_DONTWAIT);
        if (count >= 0) {
            if (count < size) _PyBytes_Resize(&data, count);
            return data;
        }
        error = errno;
        Py_DECREF(data);
        if (error == EAGAIN || error == EINTR) Py_RETURN_NONE;
        errno = error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    /* accept4 where there is one; elsewhere a fork between the two calls may inherit the descriptor. */
    static int weft_accept(int fd, struct sockaddr *address, socklen_t *size) {
    #ifdef SOCK_NONBLOCK
        return accept4(fd, address, size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    #else
        int conn = accept(fd, address, size);
        if (conn >= 0) {
            fcntl(conn, F_SETFD, FD_CLOEXEC);
            fcntl(conn, F_SETFL, fcntl(conn, F_GETFL) | O_NONBLOCK);
        }
        return conn;
    #endif
    }
    """

cdef extern from "<sys/socket.h>" nogil:
    int MSG_DONTWAIT, MSG_NOSIGNAL, AF_INET, AF_INET6, AF_UNIX
    ctypedef unsigned int socklen_t
    ctypedef unsigned short sa_family_t
    cdef struct sockaddr:
        sa_family_t sa_family
    cdef struct sockaddr_storage:
        sa_family_t ss_family
    cdef struct iovec:
        void *iov_base
        size_t iov_len
    cdef struct msghdr:
        void *msg_name
        socklen_t msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
    object weft_recv_fresh(int fd, Py_ssize_t size) with gil
    ssize_t c_recv "recv"(int fd, void *buf, size_t size, int flags)
    ssize_t c_send "send"(int fd, const void *buf, size_t size, int flags)
    ssize_t sendmsg(int fd, const msghdr *message, int flags)
    ssize_t c_recvfrom "recvfrom"(int fd, void *buf, size_t size, int flags, sockaddr *address, socklen_t *address_size)
    ssize_t c_sendto "sendto"(int fd, const void *buf, size_t size, int flags, const sockaddr *address, socklen_t address_size)
    int weft_accept(int fd, sockaddr *address, socklen_t *size)
    int C_HAS_SENDFILE "WEFT_HAS_SENDFILE"
    long long weft_sendfile(int target, int file, long long offset, long long count)

cdef extern from "<netinet/in.h>" nogil:
    cdef struct in_addr:
        pass
    cdef struct in6_addr:
        pass
    cdef struct sockaddr_in:
        sa_family_t sin_family
        unsigned short sin_port
        in_addr sin_addr
    cdef struct sockaddr_in6:
        unsigned short sin6_port
        unsigned int sin6_flowinfo
        in6_addr sin6_addr
        unsigned int sin6_scope_id
    unsigned short ntohs(unsigned short value)
    unsigned short htons(unsigned short value)
    unsigned int ntohl(unsigned int value)

cdef extern from "<arpa/inet.h>" nogil:
    int inet_pton(int family, const char *source, void *target)
    const char *inet_ntop(int family, const void *source, char *target, socklen_t size)

cdef extern from "<sys/un.h>" nogil:
    cdef struct sockaddr_un:
        char sun_path[108]

cdef extern from "<unistd.h>" nogil:
    int c_close "close"(int fd)
    ssize_t c_read "read"(int fd, void *buf, size_t size)
    ssize_t c_write "write"(int fd, const void *buf, size_t size)

cdef enum:
    C_RECV_BYTES = 262144
    C_SEND_CHUNKS_MAX = 1024
    # Below this a send is over sooner than another thread could take the GIL.
    LONG_SEND_BYTES = 65536

RECV_BYTES = C_RECV_BYTES
SEND_CHUNKS_MAX = C_SEND_CHUNKS_MAX


cdef Py_ssize_t counted(ssize_t sent, int error) except -2:
    """What a send answers: the bytes taken, -1 when it must be tried again later; else the error is raised."""
    if sent >= 0:
        return sent
    if error == EAGAIN or error == EINTR:
        return -1
    errno_set(error)
    PyErr_SetFromErrno(OSError)


cdef object address_of(sockaddr_storage *address, socklen_t size):
    """A peer's address in the shape the socket module gives it."""
    cdef char text[64]
    cdef sockaddr_in *inet
    cdef sockaddr_in6 *inet6
    cdef const char *path
    cdef Py_ssize_t length
    if address.ss_family == AF_INET:
        inet = <sockaddr_in *>address
        inet_ntop(AF_INET, &inet.sin_addr, text, sizeof(text))
        return text.decode("ascii"), ntohs(inet.sin_port)
    if address.ss_family == AF_INET6:
        inet6 = <sockaddr_in6 *>address
        inet_ntop(AF_INET6, &inet6.sin6_addr, text, sizeof(text))
        return text.decode("ascii"), ntohs(inet6.sin6_port), ntohl(inet6.sin6_flowinfo), inet6.sin6_scope_id
    if address.ss_family == AF_UNIX:
        length = <Py_ssize_t>size - <Py_ssize_t>sizeof(sa_family_t)
        path = (<sockaddr_un *>address).sun_path
        if length > 0 and path[0] == 0:
            return path[:length]  # an abstract name: bytes, the leading zero included
        return fsdecode(path[: strnlen(path, length)] if length > 0 else b"")
    return None


cdef bint inet_address(object address, sockaddr_in *target) except -1:
    """Fill `target` from a pair of literal IPv4 address and port; false for anything else."""
    cdef const char *text
    cdef Py_ssize_t size
    cdef long port
    if type(address) is not tuple or len(<tuple>address) != 2:
        return False
    host, number = <tuple>address
    if type(host) is not str or type(number) is not int or not (<str>host).isascii() or not 0 <= number <= 65535:
        return False
    port = number
    text = PyUnicode_AsUTF8AndSize(host, &size)
    memset(target, 0, sizeof(sockaddr_in))
    # A zero byte ends the text for inet_pton only.
    if size > 15 or <Py_ssize_t>strnlen(text, 16) != size or inet_pton(AF_INET, text, &target.sin_addr) != 1:
        return False
    target.sin_family = AF_INET
    target.sin_port = htons(<unsigned short>port)
    return True


cdef Py_ssize_t send_rest(int fd, bytes chunk, Py_ssize_t offset) except -2:
    """Send a chunk from `offset` on."""
    # SAFETY: the caller's reference holds the bytes while the GIL is away.
    cdef char *data = PyBytes_AS_STRING(chunk) + offset
    cdef Py_ssize_t size = PyBytes_GET_SIZE(chunk) - offset
    cdef ssize_t sent
    cdef int error
    if size < LONG_SEND_BYTES:
        sent = c_send(fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL)
        error = errno
    else:
        with nogil:
            sent = c_send(fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL)
            error = errno
    return counted(sent, error)


cdef class Kernel:
    def __cinit__(self):
        self._buffer = NULL

    def __dealloc__(self):
        free(self._buffer)

    cpdef object recv(self, object sock, int fd, Py_ssize_t fresh_bytes):
        cdef ssize_t count
        if fresh_bytes > 0:
            return weft_recv_fresh(fd, fresh_bytes)
        if self._buffer == NULL:
            self._buffer = <char *>malloc(C_RECV_BYTES)
            if self._buffer == NULL:
                raise MemoryError
        # SAFETY: one loop, one thread, and the bytes are copied out before anything else can run.
        count = c_recv(fd, self._buffer, C_RECV_BYTES, MSG_DONTWAIT)
        if count >= 0:
            return PyBytes_FromStringAndSize(self._buffer, count)
        if errno == EAGAIN or errno == EINTR:
            return None
        PyErr_SetFromErrno(OSError)

    cpdef Py_ssize_t recv_into(self, object sock, int fd, object target) except -2:
        cdef Py_buffer view
        cdef ssize_t count
        PyObject_GetBuffer(target, &view, PyBUF_WRITABLE)
        count = c_recv(fd, view.buf, view.len, MSG_DONTWAIT)
        # SAFETY: errno is read before PyBuffer_Release, which may run Python code.
        if count < 0 and errno != EAGAIN and errno != EINTR:
            try:
                PyErr_SetFromErrno(OSError)
            finally:
                PyBuffer_Release(&view)
        PyBuffer_Release(&view)
        return count

    cpdef Py_ssize_t send(self, object sock, int fd, list chunks, Py_ssize_t first, Py_ssize_t offset) except -2:
        cdef Py_ssize_t count = len(chunks) - first
        cdef Py_ssize_t i
        cdef ssize_t sent
        cdef bytes chunk
        cdef iovec vector[C_SEND_CHUNKS_MAX]
        cdef msghdr message
        if count == 1:
            return send_rest(fd, <bytes>chunks[first], offset)
        if count > C_SEND_CHUNKS_MAX:
            count = C_SEND_CHUNKS_MAX
        # SAFETY: the list is the stream's own and the GIL is held: no chunk goes away during the call.
        for i in range(count):
            chunk = <bytes>chunks[first + i]
            vector[i].iov_base = PyBytes_AS_STRING(chunk)
            vector[i].iov_len = PyBytes_GET_SIZE(chunk)
        vector[0].iov_base = <char *>vector[0].iov_base + offset
        vector[0].iov_len -= offset
        memset(&message, 0, sizeof(message))
        message.msg_iov = vector
        message.msg_iovlen = count
        sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL)
        return counted(sent, errno)

    cpdef Py_ssize_t send_one(self, object sock, int fd, bytes chunk) except -2:
        return send_rest(fd, chunk, 0)

    cpdef Py_ssize_t send_buffer(self, object sock, int fd, object data) except -2:
        cdef Py_buffer view
        cdef ssize_t sent
        cdef int error
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        # SAFETY: the exported buffer cannot be resized while `view` is held.
        with nogil:
            sent = c_send(fd, view.buf, view.len, MSG_DONTWAIT | MSG_NOSIGNAL)
            error = errno
        PyBuffer_Release(&view)
        return counted(sent, error)

    cpdef long long sendfile(self, object sock, int fd, int file_fd, long long offset, long long count) except -2:
        cdef long long sent
        cdef int error = 0
        if not C_HAS_SENDFILE:
            # The signature differs from system to system, and the wrapper of `os` knows each.
            try:
                return os.sendfile(fd, file_fd, offset, count)
            except (BlockingIOError, InterruptedError):
                return -1
        # Without the GIL: the file may be on a slow disk.
        with nogil:
            sent = weft_sendfile(fd, file_fd, offset, count)
            error = errno
        return counted(sent, error)

    cpdef object recvfrom(self, object sock, int fd):
        cdef sockaddr_storage address
        cdef socklen_t size = sizeof(sockaddr_storage)
        cdef ssize_t count
        cdef bytes data
        if self._buffer == NULL:
            self._buffer = <char *>malloc(C_RECV_BYTES)
            if self._buffer == NULL:
                raise MemoryError
        # SAFETY: as in `recv`.
        count = c_recvfrom(fd, self._buffer, C_RECV_BYTES, MSG_DONTWAIT, <sockaddr *>&address, &size)
        if count >= 0:
            data = PyBytes_FromStringAndSize(self._buffer, count)
            # A Unix socket without a name has no address at all.
            return data, address_of(&address, size) if size > 0 else None
        if errno == EAGAIN or errno == EINTR:
            return None
        PyErr_SetFromErrno(OSError)

    cpdef Py_ssize_t sendto(self, object sock, int fd, int family, object data, object address) except -2:
        cdef sockaddr_in target
        cdef Py_buffer view
        cdef ssize_t sent
        cdef int error
        if family != AF_INET or not inet_address(address, &target):
            # Names to look up, other families, and what is wrong: the socket module knows all of them.
            try:
                return sock.sendto(data, address)
            except (BlockingIOError, InterruptedError):
                return -1
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        sent = c_sendto(
            fd, view.buf, view.len, MSG_DONTWAIT | MSG_NOSIGNAL, <sockaddr *>&target, sizeof(sockaddr_in)
        )
        error = errno
        PyBuffer_Release(&view)
        return counted(sent, error)

    # A pipe has no MSG_DONTWAIT: a program that shares it may have made it blocking. So these two let go of the GIL, that
    # a thread of ours at the other end can go on.

    cpdef object read(self, int fd):
        cdef ssize_t count
        cdef int error
        if self._buffer == NULL:
            self._buffer = <char *>malloc(C_RECV_BYTES)
            if self._buffer == NULL:
                raise MemoryError
        # SAFETY: one loop, one thread: nobody else reads into this buffer while the GIL is away.
        with nogil:
            count = c_read(fd, self._buffer, C_RECV_BYTES)
            error = errno
        if count >= 0:
            return PyBytes_FromStringAndSize(self._buffer, count)
        if error == EAGAIN or error == EINTR:
            return None
        errno_set(error)
        PyErr_SetFromErrno(OSError)

    cpdef Py_ssize_t write(self, int fd, object data) except -2:
        cdef Py_buffer view
        cdef ssize_t sent
        cdef int error
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        # SAFETY: the exported buffer cannot be resized while `view` is held.
        with nogil:
            sent = c_write(fd, view.buf, view.len)
            error = errno
        PyBuffer_Release(&view)
        return counted(sent, error)

    cpdef object accept(self, object sock, int fd):
        cdef sockaddr_storage address
        cdef socklen_t size = sizeof(sockaddr_storage)
        cdef int conn = weft_accept(fd, <sockaddr *>&address, &size)
        if conn < 0:
            if errno == EAGAIN or errno == EINTR:
                return None
            PyErr_SetFromErrno(OSError)
        try:
            return conn, address_of(&address, size)
        except BaseException:
            c_close(conn)
            raise
