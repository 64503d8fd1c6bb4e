cdef class MonotonicClock:
    @staticmethod
    cdef long long read_ns() noexcept
    @staticmethod
    cdef double read() noexcept
