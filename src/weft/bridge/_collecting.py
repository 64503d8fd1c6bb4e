"""What a thread has collected, and what became of it: the inside of `collect`.

Rules for whoever edits this file:

- What a thread has collected is its own (`Batch`): it is told of the ends in that thread, in `drain` or by the loop that
  runs there. So whatever hangs on an end (promises are not thread-safe) runs where `execute` was called.
- A piece of work runs *here*, if its loop is this thread's or runs nowhere; otherwise it runs *elsewhere*, in a loop that
  another thread runs. Here it is a task and its end a callback; elsewhere everything crosses by `call_soon_threadsafe`,
  and its end comes through a queue.
- A work is in `here` or in `elsewhere` until its task has ended, cancelled or not.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from concurrent.futures import Future as ConcurrentFuture
from queue import Empty, SimpleQueue
from typing import Any

from weft import runner
from weft._host.foreign import follow, post, wrap_future
from weft.bridge._loopcall import LOOK_S
from weft.bridge.errors import Closed

__all__ = ["AnyFuture", "Batch", "Work", "drop"]

AnyFuture = asyncio.Future[Any] | ConcurrentFuture[Any]


class Work:
    """Something that was collected.

    future:  its outcome, for whoever executed it; cancelling it cancels the work
    home:    the loop of the batch's thread, to be told of an end elsewhere; None: somebody blocks for it, or will
    """

    __slots__ = ("_awaitable", "_on_end", "batch", "future", "home", "is_here", "loop", "what")

    def __init__(
        self,
        batch: Batch,
        awaitable: Any,
        loop: asyncio.AbstractEventLoop,
        is_here: bool,
        on_end: Callable[[AnyFuture], object] | None,
    ) -> None:
        self.batch = batch
        self._awaitable = awaitable
        self.what = repr(awaitable)
        self.loop = loop
        self.is_here = is_here
        self._on_end = on_end
        self.home = None if is_here else asyncio._get_running_loop()
        self.future: AnyFuture = ConcurrentFuture()

    def __repr__(self) -> str:
        return f"<collected {self.what}>"

    def start(self) -> None:
        awaitable, self._awaitable = self._awaitable, None
        if self.is_here:
            if isinstance(awaitable, ConcurrentFuture):
                awaitable = wrap_future(awaitable, loop=self.loop)
            try:
                self.future = task = asyncio.ensure_future(awaitable, loop=self.loop)
            except BaseException as error:
                drop(awaitable)
                if isinstance(error, RuntimeError) and self.loop.is_closed():
                    raise Closed(f"{self!r} can't be run: its loop is closed") from error
                raise
            self.batch.here[self] = None
            task.add_done_callback(self._end_here)
            return
        if isinstance(awaitable, ConcurrentFuture):
            self.future = awaitable
            self.batch.elsewhere[self] = None
            awaitable.add_done_callback(self._end_elsewhere)
            return
        outcome: _Outcome = _Outcome(self.loop, self.what)
        self.future = outcome
        try:
            self.loop.call_soon_threadsafe(self._start_elsewhere, awaitable, outcome)
        except RuntimeError as error:
            drop(awaitable)
            raise Closed(f"{self!r} can't be run: its loop is closed") from error
        self.batch.elsewhere[self] = None

    def _end_here(self, _: object) -> None:
        self.batch.end(self)

    def end(self) -> None:
        """In the thread of the batch."""
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(self.future)

    # -- in the other thread --

    def _start_elsewhere(self, awaitable: Any, outcome: _Outcome) -> None:
        try:
            task = asyncio.ensure_future(awaitable, loop=self.loop)
        except BaseException as error:
            drop(awaitable)
            if outcome.set_running_or_notify_cancel():
                outcome.set_exception(error)
            self._end_elsewhere(None)
            raise
        follow(task, outcome, self.loop)
        task.add_done_callback(self._end_elsewhere)

    def _end_elsewhere(self, _: object) -> None:
        self.batch.ended.put(self)
        # `finished` writes `home` and looks at the queue after that.
        home = self.home
        if home is not None:
            post(home, self.batch.drain)


class Batch:
    """What one thread has collected. All methods: that thread.

    here, elsewhere:  what runs, in the order it came
    ended:            works elsewhere that have ended, for `drain`. Any thread puts
    kept:             what must still be raised; for the use of an executor
    """

    def __init__(self) -> None:
        self.here: dict[Work, None] = {}
        self.elsewhere: dict[Work, None] = {}
        self.ended: SimpleQueue[Work] = SimpleQueue()
        self.kept: BaseException | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._own_loop: asyncio.AbstractEventLoop | None = None

    def running(self) -> list[Work]:
        """Everything that has not ended."""
        return [*self.here, *self.elsewhere]

    def own_loop(self) -> asyncio.AbstractEventLoop:
        if self._own_loop is None or self._own_loop.is_closed():
            self._own_loop = runner.new_event_loop()
            weakref.finalize(self, self._own_loop.close)
        return self._own_loop

    def close_loop(self) -> None:
        loop = self._own_loop
        if loop is not None and not loop.is_closed():
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    def cancel(self) -> None:
        for work in self.running():
            work.future.cancel()

    def end(self, work: Work) -> None:
        # In this order: what hangs on the end may collect more, and nobody's wait may be over before that.
        try:
            work.end()
        finally:
            (self.here if work.is_here else self.elsewhere).pop(work, None)
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def drain(self) -> None:
        while True:
            try:
                work = self.ended.get_nowait()
            except Empty:
                return
            self.end(work)

    async def wait(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Until nothing runs any more; with `loop`, nothing here in that loop."""
        here = asyncio.get_running_loop()
        while any(loop is None or work.loop is loop for work in self.here) or (loop is None and self.elsewhere):
            waiter: asyncio.Future[None] = here.create_future()
            self._waiters.append(waiter)
            await waiter

    def wait_elsewhere(self) -> None:
        """Block until a work elsewhere has ended."""
        try:
            work = self.ended.get(timeout=LOOK_S)
        except Empty:
            lost = [work for work in self.elsewhere if work.loop.is_closed()]
            if not lost:
                return
            for work in lost:
                # It was told to nobody, and will never be.
                self.elsewhere.pop(work)
            raise Closed(f"{lost!r} came to no end: the loop was closed") from None
        self.end(work)
        self.drain()


class _Outcome(ConcurrentFuture[Any]):
    """A future that reports a failure which nobody has taken from it, as asyncio's do."""

    def __init__(self, loop: asyncio.AbstractEventLoop, what: str) -> None:
        super().__init__()
        self._loop = loop
        self._what = what
        self._untaken: BaseException | None = None

    def set_exception(self, exception: BaseException | None) -> None:
        self._untaken = exception
        super().set_exception(exception)

    def result(self, timeout: float | None = None) -> Any:
        try:
            return super().result(timeout)
        finally:
            if self.done():
                self._untaken = None

    def exception(self, timeout: float | None = None) -> BaseException | None:
        error = super().exception(timeout)
        self._untaken = None
        return error

    def __del__(self) -> None:
        if self._untaken is not None:
            context = {"message": f"The failure of {self._what} was never retrieved", "exception": self._untaken}
            post(self._loop, self._loop.call_exception_handler, context)


def drop(awaitable: Any) -> None:
    """Nobody will run it."""
    if asyncio.iscoroutine(awaitable):
        awaitable.close()
