"""Iterators across the border, both ways, with a bounded buffer between the side that makes items and the side that takes them.

Rules for whoever edits this file:

- At most `bound` items are on their way: in the buffer, or being made. The maker looks for room before it makes one.
- In a thread, the maker is a *run*: it makes items until the buffer is full, the source ends, or it is told to stop, and
  then returns; the taker starts the next run when half of the buffer is empty. So a slow taker holds no thread, and half a
  buffer of items shares the price of a run. In a loop the maker is one task for the whole iteration, because
  async generators care which task they run in.
- To tell the other thread something costs a hop: it is done only when the other side has said that it waits. Whoever waits says
  so first and looks at the buffer after; whoever makes appends first and looks for that after.
- `_is_stopped` is looked at before each item. The source is closed where its items were made.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from weft._host.foreign import post
from weft.bridge._loopcall import LOOK_S, LoopCall
from weft.bridge.errors import Closed, Deadlock
from weft.bridge.threads import Threads, default_threads

__all__ = ["SyncIterator", "ThreadIterator", "iterate"]

_T = TypeVar("_T")

#: Items on their way, where nothing else is asked for.
BOUND = 64


def _check_bound(bound: int) -> int:
    if bound < 1:
        raise ValueError(f"a buffer of {bound} items holds nothing: at least 1 is needed")
    return bound


class ThreadIterator(Generic[_T]):
    """A blocking iterable as an async iterator. Made by `iterate`; used by one task at a time, once.

    What the source raises is raised behind the items that it gave before. `aclose`, or leaving `async with`, closes
    the source after one more item at the most. Left alone, as by a `break`, it is closed when it is collected.
    """

    def __init__(self, iterable: Iterable[_T], bound: int, threads: Threads) -> None:
        if not isinstance(iterable, Iterable):
            kind = (
                "an async iterable: `async for` needs no thread"
                if isinstance(iterable, AsyncIterable)
                else "not iterable"
            )
            raise TypeError(f"{iterable!r} is {kind}")
        self._making = _Making(iterable, _check_bound(bound), threads)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _T:
        making: _Making[_T] = self._making
        if not making.buffer:
            await making.wait()
        return making.take()

    async def batches(self) -> AsyncIterator[list[_T]]:
        """The items in lists, each of all that are there: at least one, at most `bound`."""
        making: _Making[_T] = self._making
        while True:
            try:
                if not making.buffer:
                    await making.wait()
            except StopAsyncIteration:
                return
            yield making.take_all()

    async def aclose(self) -> None:
        """Make no more items, drop those that were made, and close the source. Waits for an item that is being made."""
        await self._making.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        making = getattr(self, "_making", None)
        if making is not None:
            making.leave()


class _Making(Generic[_T]):
    """What makes the items of a `ThreadIterator`. Apart from it, so that one that nobody holds is collected though it runs."""

    def __init__(self, iterable: Iterable[_T], bound: int, threads: Threads) -> None:
        self.buffer: deque[_T] = deque()
        self._iterable = iterable
        self._source: Iterator[_T] | None = None
        self._bound = bound
        self._threads = threads
        self._loop: asyncio.AbstractEventLoop | None = None
        self._run: asyncio.Task[None] | None = None
        # The taker waits for this; `_is_awaited` is what the maker looks at.
        self._waiter: asyncio.Future[None] | None = None
        self._is_awaited = False
        self._is_stopped = False
        # No more items will be made; `_error` is why, where it is not the end.
        self._is_over = False
        self._error: BaseException | None = None

    # -- in the loop --

    def take(self) -> _T:
        item = self.buffer.popleft()
        if self._run is None and not self._is_over and 2 * len(self.buffer) <= self._bound:
            self._go_on()
        return item

    def take_all(self) -> list[_T]:
        items = []
        while self.buffer:
            items.append(self.buffer.popleft())
        if self._run is None and not self._is_over:
            self._go_on()
        return items

    async def wait(self) -> None:
        """Wait for an item; StopAsyncIteration at the end, and what the source raised, once."""
        while not self.buffer:
            if self._is_over:
                if self._run is not None:
                    # The source has ended, and its thread is about to say so.
                    await asyncio.wait([self._run])
                error, self._error = self._error, None
                if error is None:
                    raise StopAsyncIteration
                raise error
            if self._waiter is not None:
                raise RuntimeError("two tasks wait for the next item of one iterator")
            if self._run is None:
                self._go_on()
            assert self._loop is not None
            self._waiter = self._loop.create_future()
            self._is_awaited = True
            try:
                if not self.buffer and not self._is_over:
                    await self._waiter
            finally:
                self._is_awaited = False
                self._waiter = None

    def _go_on(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._run = self._loop.create_task(self._threads.run(self._make))
        self._run.add_done_callback(self._on_run_over)

    def _on_run_over(self, run: asyncio.Task[None]) -> None:
        self._run = None
        if not run.cancelled() and (error := run.exception()) is not None:
            # Not the source's: no thread could be had.
            self._error, self._is_over = error, True
        if self._waiter is not None:
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def close(self) -> None:
        self._is_stopped = True
        self.buffer.clear()
        run = self._run
        if run is not None:
            # A source that looks for a cancellation sees one.
            run.cancel()
            await asyncio.wait([run])
        self.buffer.clear()
        self._is_over = True
        self._error = None
        source, self._source = self._source, None
        close = getattr(source, "close", None)
        if close is not None:
            await self._threads.run(close)

    def leave(self) -> None:
        """Nobody will take another item. Any thread."""
        if self._loop is not None and not (self._is_over and self._source is None):
            self._is_stopped = True
            post(self._loop, self._close_alone)

    def _close_alone(self) -> None:
        assert self._loop is not None
        _closing.add(task := self._loop.create_task(self.close()))
        task.add_done_callback(_closing.discard)

    # -- in a thread --

    def _make(self) -> None:
        loop, buffer, bound = self._loop, self.buffer, self._bound
        assert loop is not None
        try:
            source = self._source
            if source is None:
                source = self._source = iter(self._iterable)
            while len(buffer) < bound and not self._is_stopped:
                buffer.append(next(source))
                if self._is_awaited:
                    self._is_awaited = False
                    post(loop, self._wake)
        except StopIteration:
            self._source = None
            self._is_over = True
        except BaseException as error:
            self._error, self._is_over = error, True


_closing: set[asyncio.Task[None]] = set()


def iterate(iterable: Iterable[_T], *, bound: int = BOUND, threads: Threads | None = None) -> ThreadIterator[_T]:
    """A blocking iterable or generator for `async for`: its items are made in a thread, at most `bound` of them ahead.

    `threads` says in whose threads, by default in those of `to_thread`. Call it in a running loop.
    """
    return ThreadIterator(iterable, bound, default_threads() if threads is None else threads)


class SyncIterator(Generic[_T]):
    """An async iterable as a plain iterator: it runs in a loop of another thread, at most `bound` items ahead. Once only.

    `close`, or leaving `with`, ends it: the source is cancelled where it waits, and closed.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, iterable: AsyncIterable[_T], bound: int) -> None:
        if not isinstance(iterable, AsyncIterable):
            raise TypeError(f"{iterable!r} is no async iterable")
        self._pumping = _Pumping(loop, iterable, _check_bound(bound))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> _T:
        pumping: _Pumping[_T] = self._pumping
        if not pumping.buffer:
            pumping.wait()
        return pumping.take()

    def close(self) -> None:
        """Make no more items, drop those that were made, and wait until the source is closed."""
        self._pumping.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        pumping = getattr(self, "_pumping", None)
        if pumping is not None:
            pumping.leave()


class _Pumping(Generic[_T]):
    """What makes the items of a `SyncIterator`: one task of the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, iterable: AsyncIterable[_T], bound: int) -> None:
        self.buffer: deque[_T] = deque()
        self._loop = loop
        self._iterable = iterable
        self._bound = bound
        self._task: asyncio.Task[None] | None = None
        self._is_started = False
        # The taker waits for the lock; `_is_awaited` is what the maker looks at.
        self._is_awaited = False
        self._item = threading.Lock()
        self._item.acquire()
        # The maker waits for room; `_is_full` is what the taker looks at.
        self._room: asyncio.Future[None] | None = None
        self._is_full = False
        self._is_over = False
        # The source is being closed, which nobody may cancel.
        self._is_ending = False
        self._error: BaseException | None = None

    # -- in the taker's thread --

    def take(self) -> _T:
        item = self.buffer.popleft()
        if self._is_full and 2 * len(self.buffer) <= self._bound:
            self._is_full = False
            post(self._loop, self._make_room)
        return item

    def wait(self) -> None:
        """Wait for an item; StopIteration at the end, and what the source raised, once."""
        if asyncio._get_running_loop() is self._loop:
            raise Deadlock(f"{self._iterable!r} runs in this very thread, which would wait for it: use `async for`")
        if not self._is_started and not self._is_over:
            self._is_started = True
            self._post(self._start)
        while not self.buffer:
            if self._is_over:
                error, self._error = self._error, None
                if error is None:
                    raise StopIteration
                raise error
            self._is_awaited = True
            if not self.buffer and not self._is_over:
                self._item.acquire(timeout=LOOK_S)
                if self._loop.is_closed() and not self._is_over:
                    raise Closed(f"{self._iterable!r} has not come to its end: its loop was closed")
        self._is_awaited = False

    def _post(self, callback: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError as error:
            raise Closed(f"{self._iterable!r} can't be iterated over: its loop is closed") from error

    def close(self) -> None:
        self._is_over = True
        self._error = None
        self.buffer.clear()
        if self._is_started and not self._loop.is_closed():
            LoopCall(self._loop, self._stop, (), {}).wait()
        self.buffer.clear()

    def leave(self) -> None:
        """Nobody will take another item. Any thread."""
        if self._is_started and not self._is_over:
            self._is_over = True
            post(self._loop, self._cancel)

    # -- in the loop --

    def _start(self) -> None:
        self._task = self._loop.create_task(self._pump())

    async def _pump(self) -> None:
        source = aiter(self._iterable)
        try:
            while not self._is_over:
                if len(self.buffer) >= self._bound:
                    await self._wait_for_room()
                    continue
                self.buffer.append(await anext(source))
                if self._is_awaited:
                    self._tell()
        except StopAsyncIteration:
            return
        except BaseException as error:
            if not self._is_over:
                self._error = error
            if not isinstance(error, Exception):
                raise
        finally:
            self._is_over = self._is_ending = True
            self._tell()
            close = getattr(source, "aclose", None)
            if close is not None:
                await close()

    async def _wait_for_room(self) -> None:
        self._room = self._loop.create_future()
        self._is_full = True
        if len(self.buffer) >= self._bound:
            await self._room
        self._is_full = False

    def _make_room(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def _tell(self) -> None:
        if self._item.locked():
            self._is_awaited = False
            self._item.release()

    def _cancel(self) -> None:
        if self._task is not None and not self._is_ending:
            self._task.cancel()

    async def _stop(self) -> None:
        self._cancel()
        if self._task is not None:
            await asyncio.wait([self._task])
