"""Time, in the two units of the house: nanoseconds inside, asyncio's float seconds at the door.

The only reader of the clock. Keys of timers are nanoseconds in 64 bits and saturate, because `sleep(inf)` is legal: what
a caller gave as a float is kept beside the key, never computed back from it.
"""

from __future__ import annotations

from weft._native.clock import MonotonicClock

#: The latest key there is: 292 years after the clock's start, and the key of everything later.
FOREVER_NS = 2**63 - 1


class Clock:
    """Static functions only, so that both editions can import them under one name."""

    __slots__ = ()

    @staticmethod
    def now_ns() -> int:
        """The monotonic clock in nanoseconds."""
        return MonotonicClock.read_ns()

    @staticmethod
    def now() -> float:
        """The monotonic clock in seconds: what `loop.time()` gives."""
        return MonotonicClock.read()

    @staticmethod
    def to_ns(when: float) -> int:
        """The key of a time in seconds: rounded up, so that no timer fires before its time; NaN is never."""
        if when >= 9.2e9:
            return 9223372036854775807
        if when <= -9.2e9:
            return -9223372036854775807
        if when != when:
            return 9223372036854775807
        return int(when * 1e9) + 1
