"""The plain twin of `epoll.pyx`: epoll and eventfd through the standard library, under the same few names.

Rules for whoever edits either twin:

- Masks are the kernel's bits (`IN`, `OUT`, `ERR`, `HUP`); timeouts are nanoseconds, -1 blocks.
- Results of `wait` are read by index and stay valid until the next `wait`: no list of tuples is built per turn.
- `add`, `modify` and `remove` answer an errno (0: done) and never raise: the poller decides what an error means.
- A signal ends `wait` early. Python's own handlers run first; what they raise propagates.
"""

from __future__ import annotations

import os
import select

IN = 0x001
OUT = 0x004
ERR = 0x008
HUP = 0x010
EDGE = 1 << 31

_NS_PER_MS = 1_000_000
_BATCH = 1024
_LONGEST_MS = 24 * 3600 * 1000


class Epoll:
    """One epoll set and the buffer its events arrive in. One thread waits; no method but `fileno` is for others."""

    __slots__ = ("_events", "_poll")

    def __init__(self) -> None:
        self._poll: select.epoll | None = select.epoll()
        self._events: list[tuple[int, int]] = []

    def fileno(self) -> int:
        """The descriptor of the set, -1 when closed."""
        return -1 if self._poll is None else self._poll.fileno()

    def add(self, fd: int, mask: int) -> int:
        return self._control(fd, mask, new=True)

    def modify(self, fd: int, mask: int) -> int:
        return self._control(fd, mask, new=False)

    def _control(self, fd: int, mask: int, *, new: bool) -> int:
        poll = self._poll
        assert poll is not None
        try:
            if new:
                poll.register(fd, mask)
            else:
                poll.modify(fd, mask)
        except OSError as exc:
            return exc.errno or 0
        return 0

    def remove(self, fd: int) -> int:
        assert self._poll is not None
        try:
            self._poll.unregister(fd)
        except OSError as exc:
            return exc.errno or 0
        return 0

    def wait(self, timeout_ns: int) -> int:
        """Wait for events; how many came (0 on a time-out or a signal). Rounds up to what the kernel resolves."""
        assert self._poll is not None
        if timeout_ns > 0:
            timeout_s = min(-(-timeout_ns // _NS_PER_MS), _LONGEST_MS) / 1000
        else:
            timeout_s = 0 if timeout_ns == 0 else -1
        try:
            self._events = self._poll.poll(timeout_s, _BATCH)
        except InterruptedError:
            self._events = []
        return len(self._events)

    def fd_at(self, index: int) -> int:
        return self._events[index][0]

    def mask_at(self, index: int) -> int:
        return self._events[index][1]

    def close(self) -> None:
        """Close the set's descriptor; twice is fine. What was registered stays registered for who shares the set."""
        poll, self._poll = self._poll, None
        if poll is not None:
            poll.close()


class Eventfd:
    """A counter another thread can add to. Registered edge-triggered: every `signal` is an event, nothing is read."""

    __slots__ = ("_fd",)

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        return self._fd

    def signal(self) -> None:
        """Make the waiting thread return. Any thread, also after `close`."""
        if self._fd >= 0:
            try:
                os.eventfd_write(self._fd, 1)
            except BlockingIOError:
                # The counter is full: 2**64 signals that nobody cleared. Start again from zero.
                os.eventfd_read(self._fd)
                os.eventfd_write(self._fd, 1)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
