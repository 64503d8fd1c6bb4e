"""The portable poller: whatever `selectors` offers on this platform, with a pipe to be woken by.

Rule for whoever edits this file: the table and the selector say the same. An entry of `_table` is a two-element list
[reader, writer]; a descriptor is registered exactly while one of the two is not None, for just those directions.
"""

from __future__ import annotations

import os
import selectors

from weft._core.handle import Runnable
from weft._io.spi import READ, WRITE, Poller

_NS_PER_S = 1_000_000_000
_LONGEST_S = 24 * 3600.0


class SelectorPoller(Poller):
    """`selectors` behind the contract of `weft._io.spi.Poller`."""

    __slots__ = ("_selector", "_table", "_wake_read", "_wake_write", "_waking")

    name = "selector"

    def __init__(self) -> None:
        super().__init__()
        self._table: dict[int, list[Runnable | None]] = {}
        self._selector: selectors.BaseSelector | None = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        #: True from a `wake` until the next `poll` returns: the byte is on its way, another is not needed.
        self._waking = False
        self._selector.register(self._wake_read, selectors.EVENT_READ)

    def poll(self, timeout_ns: int, ready: list[Runnable]) -> None:
        selector = self._selector
        if selector is None:
            raise RuntimeError("Event loop is closed")
        timeout_s = None if timeout_ns < 0 else min(timeout_ns / _NS_PER_S, _LONGEST_S)
        events = selector.select(timeout_s)
        woken = False
        for key, mask in events:
            fd = key.fd
            if fd == self._wake_read:
                woken = True
                continue
            reader, writer = self._table[fd]
            if mask & selectors.EVENT_READ and reader is not None:
                ready.append(reader)
            if mask & selectors.EVENT_WRITE and writer is not None:
                ready.append(writer)
        if woken:
            self._drain()
        # Re-armed before the caller looks at what other threads left, and after the drain: a byte that comes in
        # between wakes the next poll, at worst for nothing.
        self._waking = False

    def _drain(self) -> None:
        try:
            while len(os.read(self._wake_read, 4096)) == 4096:
                continue
        except BlockingIOError:
            return

    def wake(self) -> None:
        if self._waking:
            return
        self._waking = True
        fd = self._wake_write
        if fd >= 0:
            try:
                os.write(fd, b"\0")
            except BlockingIOError:
                return  # the pipe is full of wake-ups already
            except OSError:
                if self._wake_write == fd:
                    raise
                # The loop's thread has closed the poller since: nobody is left to wake.

    def watch(self, fd: int, direction: int, runnable: Runnable) -> Runnable | None:
        selector = self._selector
        if selector is None:
            raise RuntimeError("Event loop is closed")
        slot = 0 if direction == READ else 1
        entry = self._table.get(fd)
        if entry is None:
            entry = [None, None]
        previous = entry[slot]
        try:
            if previous is None and entry[1 - slot] is not None:
                try:
                    selector.modify(fd, READ | WRITE)
                except (FileNotFoundError, KeyError):
                    # Closed behind our back and opened anew: the other direction was the former owner's.
                    entry[1 - slot] = None
                    self._drop(fd)
                    selector.register(fd, direction)
            else:
                # Registered anew, also when nothing changes: what is replaced may be such a leftover, and then the
                # new one would wait for ever.
                self._drop(fd)
                selector.register(fd, direction if entry[1 - slot] is None else READ | WRITE)
        except BaseException:
            self._table.pop(fd, None)
            raise
        entry[slot] = runnable
        self._table[fd] = entry
        self.ops.counters.touches += 1
        return previous

    def _drop(self, fd: int) -> None:
        """Have the selector forget `fd`, known or not, closed or not."""
        selector = self._selector
        assert selector is not None
        try:
            selector.unregister(fd)
        except KeyError:
            return

    def unwatch(self, fd: int, direction: int) -> Runnable | None:
        slot = 0 if direction == READ else 1
        entry = self._table.get(fd)
        if entry is None or entry[slot] is None:
            return None
        previous = entry[slot]
        entry[slot] = None
        if entry[1 - slot] is None:
            del self._table[fd]
            self._drop(fd)
        else:
            selector = self._selector
            assert selector is not None
            try:
                selector.modify(fd, READ + WRITE - direction)
            except (OSError, KeyError):
                # The number was closed while it was watched: nothing of it is left to report.
                self._drop(fd)
        return previous

    def watched(self, fd: int, direction: int) -> Runnable | None:
        entry = self._table.get(fd)
        return None if entry is None else entry[0 if direction == READ else 1]

    def close(self) -> None:
        self.forget()

    def forget(self) -> None:
        # Closing our copy of the selector's descriptor leaves the set itself, and so the parent, alone.
        selector, self._selector = self._selector, None
        if selector is not None:
            selector.close()
        wake_write, self._wake_write = self._wake_write, -1
        if wake_write >= 0:
            os.close(wake_write)
            os.close(self._wake_read)
            self._wake_read = -1
        self._table = {}
        self.owners.clear()
