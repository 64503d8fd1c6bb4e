"""Read the monotonic clock: the plain twin of `clock.pyx`, which reads it without building a Python number."""

from __future__ import annotations

import time


class MonotonicClock:
    """The clock of `time.monotonic`."""

    __slots__ = ()

    @staticmethod
    def read_ns() -> int:
        """Nanoseconds."""
        return time.monotonic_ns()

    @staticmethod
    def read() -> float:
        """Seconds: the float of `time.monotonic`, to the bit."""
        return time.monotonic()
