"""What makes the items of a blocking iterable in a thread, for a coroutine that takes them.

Rules for whoever edits this file:

- At most `bound` items are on their way: in the buffer, or being made. The maker looks for room before it makes one.
- The maker is a *run*: it makes items until the buffer is full, the source ends, or it is told to stop, and then
  returns; the taker starts the next run when half of the buffer is empty. So a slow taker holds no thread, and half a
  buffer of items shares the price of a run.
- To tell the loop something costs a hop: it is done only when the taker has said that it waits. The taker says so first
  and looks at the buffer after; the maker appends first and looks for that after.
- `_is_stopped` is looked at before each item. A run that is stopped closes the source itself; where none is at work,
  who stops it sees to that. `_lock` decides which.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from weft._host.foreign import post
from weft.bridge._workers import current_job
from weft.bridge.errors import Closed
from weft.bridge.threads import Threads

__all__ = ["Making"]

_T = TypeVar("_T")


class Making(Generic[_T]):
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
        # No more items are wanted, and by nobody at all.
        self._is_stopped = False
        self._is_left = False
        # No more items will be made; `_error` is why, where it is not the end.
        self._is_over = False
        self._error: BaseException | None = None
        # A thread is at the source. With `_is_stopped` under the lock, which decides who closes the source: the
        # collector may call `leave` anywhere, also where the lock is held.
        self._is_making = False
        self._lock = threading.RLock()

    @property
    def is_begun(self) -> bool:
        """Whether the source may have been touched."""
        return self._loop is not None

    # -- in the loop --

    def take(self) -> _T:
        item = self.buffer.popleft()
        if self._run is None and not self._is_over and 2 * len(self.buffer) <= self._bound:
            self._go_on()
        return item

    def take_all(self) -> list[_T]:
        # Counted first: the maker adds to it meanwhile.
        items = [self.buffer.popleft() for _ in range(len(self.buffer))]
        if self._run is None and not self._is_over:
            self._go_on()
        return items

    async def wait(self) -> None:
        """Wait for an item; StopAsyncIteration at the end, and what the source raised, once."""
        while True:
            # In this order: the last item is there before the end is.
            is_over = self._is_over
            if self.buffer:
                return
            if is_over:
                if self._run is not None:
                    # The source has ended, and its thread is about to say so.
                    await asyncio.wait([self._run])
                error, self._error = self._error, None
                if error is None:
                    raise StopAsyncIteration
                try:
                    raise error
                finally:
                    # Its traceback holds this frame.
                    del error
            if self._waiter is not None:
                raise RuntimeError(f"two tasks wait for the next item of {self._iterable!r}: one at a time may")
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
            # Not the source's item: no thread could be had, or the source could not be closed.
            self._error, self._is_over = error, True
            if self._is_left:
                message = f"{self._iterable!r}, which nobody iterates over any more, could not be closed"
                run.get_loop().call_exception_handler({"message": message, "exception": error})
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def close(self) -> None:
        with self._lock:
            self._is_stopped = self._is_over = True
            is_making = self._is_making
        self.buffer.clear()
        run, failure = self._run, None
        if run is not None:
            # A source that looks for a cancellation sees one.
            run.cancel()
            await asyncio.wait([run])
            failure = None if run.cancelled() else run.exception()
        self.buffer.clear()
        self._error = None
        if not is_making and self._source is not None:
            await self._threads.run(self._close_source)
        if failure is not None:
            raise failure

    def leave(self) -> None:
        """Nobody will take another item. Any thread."""
        with self._lock:
            is_closed, self._is_stopped, self._is_left = self._is_stopped, True, True
            if self._loop is not None and not (is_closed or self._is_making):
                post(self._loop, self._close_alone)

    def _close_alone(self) -> None:
        if self._source is not None and not self._is_making:
            # Where the threads are closed, the source ends with who holds it.
            with contextlib.suppress(Closed):
                self._threads.send(self._close_source)

    # -- in a thread --

    def _make(self) -> None:
        with self._lock:
            if self._is_stopped:
                return
            self._is_making = True
        try:
            self._fill()
        finally:
            with self._lock:
                self._is_making = False
                is_stopped = self._is_stopped
            if is_stopped:
                self._close_source()

    def _fill(self) -> None:
        loop, buffer, bound, job = self._loop, self.buffer, self._bound, current_job()
        assert loop is not None and job is not None
        try:
            source = self._source
            if source is None:
                source = self._source = iter(self._iterable)
            while len(buffer) < bound and not self._is_stopped and not job.cancelled:
                buffer.append(next(source))
                if self._is_awaited:
                    self._is_awaited = False
                    post(loop, self._wake)
        except StopIteration:
            self._source = None
            self._is_over = True
        except BaseException as error:
            self._error, self._is_over = error, True

    def _close_source(self) -> None:
        source, self._source = self._source, None
        close = getattr(source, "close", None)
        if close is not None:
            close()
