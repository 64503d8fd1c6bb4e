cimport cython


@cython.final
cdef class Kernel:
    cdef char *_buffer
    cpdef object recv(self, object sock, int fd, Py_ssize_t fresh_bytes)
    cpdef Py_ssize_t recv_into(self, object sock, int fd, object target) except -2
    cpdef Py_ssize_t send(self, object sock, int fd, list chunks, Py_ssize_t first, Py_ssize_t offset) except -2
    cpdef Py_ssize_t send_one(self, object sock, int fd, bytes chunk) except -2
    cpdef Py_ssize_t send_buffer(self, object sock, int fd, object data) except -2
    cpdef long long sendfile(self, object sock, int fd, int file_fd, long long offset, long long count) except -2
    cpdef object recvfrom(self, object sock, int fd)
    cpdef Py_ssize_t sendto(self, object sock, int fd, int family, object data, object address) except -2
    cpdef object read(self, int fd)
    cpdef Py_ssize_t write(self, int fd, object data) except -2
    cpdef object accept(self, object sock, int fd)
