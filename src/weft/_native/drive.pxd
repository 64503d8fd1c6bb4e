cimport cython


@cython.freelist(64)
cdef class Returned:
    cdef readonly object value


cdef class Raised:
    cdef readonly object error


cdef class Drive:
    @staticmethod
    cdef object send(object context, object coro)
    @staticmethod
    cdef object throw(object context, object coro, object exc)
    @staticmethod
    cdef object call_two(object function, object first, object second)
    @staticmethod
    cdef object copy_context()
    @staticmethod
    cdef unsigned long long thread_id() noexcept
    @staticmethod
    cdef void make_lazy(object target) noexcept
    @staticmethod
    cdef int call(object context, object callback, tuple args) except -1
