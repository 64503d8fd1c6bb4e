"""What makes the items of an async iterable in its loop, for a thread that takes them.

Rules for whoever edits this file:

- At most `bound` items are on their way: in the buffer, or being made. The maker looks for room before it makes one.
- The maker is one task for the whole iteration, because async generators care which task they run in.
- To tell the other thread something costs a hop: it is done only when the other side has said that it waits. Whoever waits
  says so first and looks at the buffer after; whoever makes appends first and looks for that after.
- `_is_over` is looked at before each item. The source is closed in its task.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any, Generic, TypeVar

from weft._host.foreign import post
from weft.bridge._loopcall import LOOK_S, LoopCall
from weft.bridge._workers import current_job
from weft.bridge.errors import Closed, Deadlock

__all__ = ["Pumping"]

_T = TypeVar("_T")

#: Items that a source may make in its loop without letting go of it.
_ITEMS_A_TURN = 64


class Pumping(Generic[_T]):
    """What makes the items of a `SyncIterator`: one task of the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, iterable: AsyncIterable[_T], bound: int) -> None:
        self.buffer: deque[_T] = deque()
        self._loop = loop
        self._iterable = iterable
        self._bound = bound
        self._task: asyncio.Task[None] | None = None
        #: Whether the source may have been touched.
        self.is_begun: bool = False
        # The taker waits for the lock, or for the future in a call to the loop; `_is_awaited` is what the maker looks at.
        self._is_awaited = False
        self._item = threading.Lock()
        self._item.acquire()
        self._waiter: asyncio.Future[None] | None = None
        # The maker waits for room; `_is_full` is what the taker looks at.
        self._room: asyncio.Future[None] | None = None
        self._is_full = False
        self._is_over = False
        self._is_left = False
        # The source is being closed, which nobody may cancel.
        self._is_ending = False
        # What the taker is to get, and what is left for who closes.
        self._error: BaseException | None = None
        self._failure: BaseException | None = None

    # -- in the taker's thread --

    def take(self) -> _T:
        item = self.buffer.popleft()
        if self._is_full and 2 * len(self.buffer) <= self._bound:
            self._is_full = False
            post(self._loop, self._make_room)
        return item

    def wait(self) -> None:
        """Wait for an item; StopIteration at the end, and what the source raised, once."""
        self._refuse_own_thread("use `async for`")
        job = current_job()
        # The source may need the place or the thread of a job that its own loop waits for.
        must_call = job is not None and job.loop is self._loop
        if not self.is_begun and not self._is_over:
            self.is_begun = True
            if not must_call:
                self._post(self._start)
        while True:
            # In this order: the last item is there before the end is.
            is_over = self._is_over
            if self.buffer:
                return
            if is_over:
                error, self._error = self._error, None
                if error is None:
                    raise StopIteration
                try:
                    raise error
                finally:
                    # Its traceback holds this frame.
                    del error
            if must_call:
                LoopCall(self._loop, self._until_item, (), {}).wait()
            else:
                self._wait_for_item()

    def _wait_for_item(self) -> None:
        self._is_awaited = True
        if not self.buffer and not self._is_over:
            self._item.acquire(timeout=LOOK_S)
            if self._loop.is_closed() and not self._is_over:
                raise Closed(f"{self._iterable!r} has not come to its end: its loop was closed")
        self._is_awaited = False

    def _refuse_own_thread(self, remedy: str) -> None:
        if asyncio._get_running_loop() is self._loop:
            raise Deadlock(f"{self._iterable!r} runs in this very thread, which would wait for it: {remedy}")

    def _post(self, callback: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError as error:
            raise Closed(f"{self._iterable!r} can't be iterated over: its loop is closed") from error

    def close(self) -> None:
        self._refuse_own_thread("await the `aclose` of what it iterates over")
        self._is_over = True
        self._error = None
        self.buffer.clear()
        if self.is_begun:
            # Nothing is left of the source where the loop is closed.
            with contextlib.suppress(Closed):
                LoopCall(self._loop, self._stop, (), {}).wait()
        self.buffer.clear()

    def leave(self) -> None:
        """Nobody will take another item. Any thread."""
        if self.is_begun and not self._is_over:
            self._is_over = self._is_left = True
            post(self._loop, self._cancel)

    # -- in the loop --

    def _start(self) -> None:
        self._task = self._loop.create_task(self._pump())

    async def _until_item(self) -> None:
        if self._task is None:
            self._start()
        self._waiter = self._loop.create_future()
        self._is_awaited = True
        try:
            if not self.buffer and not self._is_over:
                await self._waiter
        finally:
            self._is_awaited = False
            self._waiter = None

    async def _pump(self) -> None:
        source = None
        try:
            source = aiter(self._iterable)
            await self._fill(source)
        except StopAsyncIteration:
            pass
        except asyncio.CancelledError as error:
            self._fail(error)
            raise
        except BaseException as error:
            # A SystemExit too: it belongs to the thread that takes, and must not end the loop of others.
            self._fail(error)
        finally:
            self._is_over = self._is_ending = True
            self._tell()
            close = getattr(source, "aclose", None)
            if close is not None:
                try:
                    await close()
                except Exception as error:
                    self._fail(error)

    async def _fill(self, source: AsyncIterator[_T]) -> None:
        make, buffer, bound = source.__anext__, self.buffer, self._bound
        until_turn = _ITEMS_A_TURN
        while not self._is_over:
            if len(buffer) >= bound:
                await self._wait_for_room()
                until_turn = _ITEMS_A_TURN
                continue
            buffer.append(await make())
            if self._is_awaited:
                self._tell()
            until_turn -= 1
            if not until_turn:
                # Perhaps the source never waits, and the taker is as quick: the loop is for others too.
                await asyncio.sleep(0)
                until_turn = _ITEMS_A_TURN

    def _fail(self, error: BaseException) -> None:
        if not self._is_over:
            self._error = error
        elif not isinstance(error, asyncio.CancelledError):
            self._failure = error
            if self._is_left:
                message = f"{self._iterable!r}, which nobody iterates over any more, could not be closed"
                self._loop.call_exception_handler({"message": message, "exception": error})

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
        self._is_awaited = False
        if self._waiter is not None:
            if not self._waiter.done():
                self._waiter.set_result(None)
        elif self._item.locked():
            self._item.release()

    def _cancel(self) -> None:
        if self._task is not None and not self._is_ending:
            self._task.cancel()

    async def _stop(self) -> None:
        self._cancel()
        if self._task is not None:
            await asyncio.wait([self._task])
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
