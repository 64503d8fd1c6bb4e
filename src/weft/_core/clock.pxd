cimport cython
from weft._native.clock cimport MonotonicClock


cdef class Clock:
    @staticmethod
    cdef long long now_ns() noexcept
    @staticmethod
    cdef double now() noexcept
    @staticmethod
    cdef long long to_ns(double when) noexcept
