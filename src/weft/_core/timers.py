"""Timers: an indexed heap of `TimerHandle`, from which a cancelled timer is removed at once.

Most timers never fire: they are time-outs, and are cancelled. asyncio leaves a cancelled timer in its heap and cleans up
when half of it is dead; here each timer knows its place (`_index`), and cancelling takes it out in O(log n), with all that
it holds. The heap has four children a node: half the levels, and a node's children lie side by side.

Invariants, for whoever edits this file:

- `_heap[h._index] is h` for every h in the heap; `_index == -1` for every handle that is not in it.
- Order is (`_when_ns`, `_order`): of two timers due at the same nanosecond, the one made first fires first.
- `_when` is the float that was asked for and is only ever shown; `_when_ns` is its key, rounded up.

All for the thread that runs the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any

from weft._core.clock import Clock
from weft._core.handle import Handle
from weft._core.signature import ClassSignature


class TimerHandle(Handle):
    """A callback to be run at a time: asyncio's TimerHandle, and an instance of it. Made by the loop's `call_at`."""

    __slots__ = ("_index", "_order", "_timers", "_when", "_when_ns")
    __signature__: Any = ClassSignature(lambda when, callback, args, loop, context=None: None)

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: Any,
        loop: asyncio.AbstractEventLoop,
        context: Context | None = None,
    ) -> None:
        Handle.__init__(self, callback, args, loop, context)
        self._when = when
        self._when_ns = Clock.to_ns(when)
        self._order = 0
        self._index = -1
        self._timers: Timers | None = None

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """asyncio's class, so that `isinstance(handle, asyncio.TimerHandle)` holds."""
        return asyncio.TimerHandle

    @property
    def _scheduled(self) -> bool:
        return self._index >= 0

    def when(self) -> float:
        """The time it is scheduled for, in seconds of the loop's clock."""
        return self._when

    def cancel(self) -> None:
        """Never run it, and free its place among the timers now. Cost: O(log n) of the live timers."""
        if self._index >= 0 and self._timers is not None:
            self._timers.remove(self)
        self._drop()

    def _info(self) -> list[str]:
        info = Handle._info(self)
        info.insert(2 if self._cancelled else 1, f"when={_shown(self._when)}")
        return info

    def __hash__(self) -> int:
        return hash(self._when)

    def __lt__(self, other: object) -> bool:
        if isinstance(other, TimerHandle):
            return self._when < other._when
        return NotImplemented

    def __le__(self, other: object) -> bool:
        if isinstance(other, TimerHandle):
            return self._when < other._when or self.__eq__(other)
        return NotImplemented

    def __gt__(self, other: object) -> bool:
        if isinstance(other, TimerHandle):
            return self._when > other._when
        return NotImplemented

    def __ge__(self, other: object) -> bool:
        if isinstance(other, TimerHandle):
            return self._when > other._when or self.__eq__(other)
        return NotImplemented

    def __eq__(self, other: object) -> bool:
        if isinstance(other, TimerHandle):
            return (
                self._when == other._when
                and self._callback == other._callback
                and self._args == other._args
                and self._cancelled == other._cancelled
            )
        return NotImplemented


def _shown(when: float) -> float:
    """A time for a repr: whole seconds without ".0", as whoever gave an int expects (the field is a double)."""
    return int(when) if when == when // 1 else when


class Timers:
    """The live timers of one loop, the next one first."""

    __slots__ = ("_heap", "_made")

    def __init__(self) -> None:
        self._heap: list[TimerHandle] = []
        # How many were ever added: breaks ties.
        self._made = 0

    def __len__(self) -> int:
        return len(self._heap)

    def next_ns(self) -> int:
        """The key of the next timer. Only if there is one."""
        first = self._heap[0]
        return first._when_ns

    def add(self, handle: TimerHandle) -> None:
        """Put a handle in, whose `_when_ns` is set. O(log n), and O(1) for one later than its parents."""
        self._made += 1
        handle._order = self._made
        handle._timers = self
        self._heap.append(handle)
        self._up(handle, len(self._heap) - 1)

    def remove(self, handle: TimerHandle) -> None:
        """Take out a handle that is in. O(log n)."""
        place = handle._index
        if place >= len(self._heap) or self._heap[place] is not handle:
            raise RuntimeError(f"{handle!r} is not where it says among the timers: was it copied?")
        handle._index = -1
        last = self._heap.pop()
        if last is not handle:
            # The last one fills the hole, and may belong above it or below it.
            self._up(last, place)
            if last._index == place:
                self._down(last, place)

    def pop_due(self, now_ns: int, ready: list[Any]) -> int:
        """Move every handle whose time has come to the end of `ready`, in order; how many."""
        count = 0
        while self._heap:
            first = self._heap[0]
            if first._when_ns > now_ns:
                break
            self.remove(first)
            ready.append(first)
            count += 1
        return count

    def clear(self) -> None:
        """Drop all handles without cancelling them: the loop is closed."""
        heap = self._heap
        self._heap = []
        for handle in heap:
            handle._index = -1

    def _up(self, handle: TimerHandle, place: int) -> None:
        """Set a handle at `place` or as far above as its key belongs."""
        heap = self._heap
        while place > 0:
            above = (place - 1) >> 2
            parent = heap[above]
            if parent._when_ns < handle._when_ns or (
                parent._when_ns == handle._when_ns and parent._order < handle._order
            ):
                break
            heap[place] = parent
            parent._index = place
            place = above
        heap[place] = handle
        handle._index = place

    def _down(self, handle: TimerHandle, place: int) -> None:
        """Set a handle at `place` or as far below as its key belongs."""
        heap = self._heap
        size = len(heap)
        while True:
            child = (place << 2) + 1
            if child >= size:
                break
            least = heap[child]
            best = child
            end = min(child + 4, size)
            child += 1
            while child < end:
                other = heap[child]
                if other._when_ns < least._when_ns or (
                    other._when_ns == least._when_ns and other._order < least._order
                ):
                    least = other
                    best = child
                child += 1
            if handle._when_ns < least._when_ns or (handle._when_ns == least._when_ns and handle._order < least._order):
                break
            heap[place] = least
            least._index = place
            place = best
        heap[place] = handle
        handle._index = place
