"""Read the monotonic clock of `time.monotonic`. The contract stands in the plain twin, `clock.py`."""

from cpython.time cimport PyTime_AsSecondsDouble, PyTime_MonotonicRaw


cdef class MonotonicClock:
    @staticmethod
    cdef long long read_ns() noexcept:
        return PyTime_MonotonicRaw()

    @staticmethod
    cdef double read() noexcept:
        return PyTime_AsSecondsDouble(PyTime_MonotonicRaw())
