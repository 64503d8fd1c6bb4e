"""The poller of Linux: epoll, level-triggered, with an eventfd to be woken by.

Rules for whoever edits this file:

- The two tables and the kernel's set say the same: a descriptor is registered for IN exactly when `_readers[fd]` is not
  None, for OUT exactly when `_writers[fd]` is not None. `_control` is the only place where this is made true.
- A number closed behind the poller's back is forgotten by the kernel but not by the tables. `_control` therefore takes
  the kernel's word: it retries a refused ADD as MOD and a refused MOD as ADD.
- An event carries only the number of the descriptor. That is safe because a batch is turned into runnables before any
  code can close one, and because every close is preceded by an unwatch.

Why tables indexed by number, not a dict: numbers are small and dense, and a list answers in a few nanoseconds. Why the
eventfd is registered edge-triggered: each signal is then one event, and it never needs to be read.
"""

from __future__ import annotations

import errno

from weft._core.handle import Runnable
from weft._io.spi import READ, Poller
from weft._native.epoll import EDGE, IN, OUT, Epoll, Eventfd

#: Every event but one kind: an error or a hang-up is for both sides.
_BUT_IN = 0xFFFFFFFF & ~IN
_BUT_OUT = 0xFFFFFFFF & ~OUT


class EpollPoller(Poller):
    """epoll behind the contract of `weft._io.spi.Poller`."""

    __slots__ = ("_epoll", "_readers", "_signal", "_signal_fd", "_waking", "_writers")

    name = "epoll"

    def __init__(self) -> None:
        super().__init__()
        self._readers: list[Runnable | None] = [None] * 64
        self._writers: list[Runnable | None] = [None] * 64
        #: True from a `wake` until the next `poll` returns: the signal is on its way, another is not needed.
        self._waking = False
        self._epoll: Epoll | None = Epoll()
        self._signal: Eventfd | None = Eventfd()
        self._signal_fd = self._signal.fileno()
        self._epoll.add(self._signal_fd, IN | EDGE)

    def poll(self, timeout_ns: int, ready: list[Runnable]) -> None:
        epoll = self._epoll
        if epoll is None:
            raise RuntimeError("Event loop is closed")
        count = epoll.wait(timeout_ns)
        # Re-armed before the caller looks at what other threads left: a wake after this is a new one.
        self._waking = False
        for index in range(count):
            fd = epoll.fd_at(index)
            mask = epoll.mask_at(index)
            if fd == self._signal_fd:
                continue
            if mask & _BUT_OUT:
                runnable = self._readers[fd]
                if runnable is not None:
                    ready.append(runnable)
            if mask & _BUT_IN:
                runnable = self._writers[fd]
                if runnable is not None:
                    ready.append(runnable)

    def wake(self) -> None:
        if self._waking:
            return
        self._waking = True
        signal = self._signal
        if signal is not None:
            signal.signal()

    def watch(self, fd: int, direction: int, runnable: Runnable) -> Runnable | None:
        if self._epoll is None:
            raise RuntimeError("Event loop is closed")
        if fd < 0:
            raise ValueError(f"Invalid file descriptor: {fd}")
        missing = fd + 1 - len(self._readers)
        if missing > 0:
            # Twice as long at least, so that a growing number of connections does not copy the tables each time.
            missing = max(missing, len(self._readers))
            self._readers.extend([None] * missing)
            self._writers.extend([None] * missing)
        table = self._readers if direction == READ else self._writers
        previous = table[fd]
        before = self._mask(fd)
        # Also when nothing changes for the kernel: a replaced runnable may be a leftover of a number closed behind our
        # back, and then the new one would wait for ever.
        self._control(fd, before, before | (IN if direction == READ else OUT))
        self.ops.counters.touches += 1
        table[fd] = runnable
        return previous

    def unwatch(self, fd: int, direction: int) -> Runnable | None:
        if fd < 0 or fd >= len(self._readers):
            return None
        table = self._readers if direction == READ else self._writers
        previous = table[fd]
        if previous is not None:
            before = self._mask(fd)
            table[fd] = None
            self._release(fd, before & ~(IN if direction == READ else OUT))
        return previous

    def watched(self, fd: int, direction: int) -> Runnable | None:
        if fd < 0 or fd >= len(self._readers):
            return None
        return self._readers[fd] if direction == READ else self._writers[fd]

    def _mask(self, fd: int) -> int:
        """What the kernel was last told about `fd`."""
        mask = 0
        if self._readers[fd] is not None:
            mask = IN
        if self._writers[fd] is not None:
            mask = mask | OUT
        return mask

    def _control(self, fd: int, before: int, mask: int) -> None:
        """Tell the kernel that `fd` is now of interest for `mask`; raises its refusal."""
        epoll = self._epoll
        assert epoll is not None
        if before == 0:
            error = epoll.add(fd, mask)
            if error == errno.EEXIST:
                error = epoll.modify(fd, mask)
        else:
            error = epoll.modify(fd, mask)
            if error == errno.ENOENT:
                # Closed behind our back and opened anew: what the tables still hold belonged to the former owner.
                self._readers[fd] = self._writers[fd] = None
                error = epoll.add(fd, mask if mask == before else mask & ~before)
        if error:
            raise OSError(error, f"cannot watch file descriptor {fd}: epoll refuses it")

    def _release(self, fd: int, mask: int) -> None:
        """Tell the kernel that only `mask` is left; a number it no longer knows is fine."""
        epoll = self._epoll
        if epoll is None:
            return
        if mask:
            epoll.modify(fd, mask)
        else:
            epoll.remove(fd)

    def close(self) -> None:
        self.forget()

    def forget(self) -> None:
        # Closing our copies touches neither the registrations nor the parent's descriptors: epoll drops an entry only
        # when the last descriptor of the watched file is closed, and the parent still holds its own.
        epoll, self._epoll = self._epoll, None
        signal, self._signal = self._signal, None
        if epoll is not None:
            epoll.close()
        if signal is not None:
            signal.close()
        self._readers = []
        self._writers = []
        self.owners.clear()
