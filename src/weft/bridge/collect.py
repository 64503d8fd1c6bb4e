"""Synchronous code that calls async functions on its way and waits for all of them at its end.

Rules for whoever edits this file:

- What a thread has collected is its own (`_Batch`): it is told of the ends in that thread, in `drain` or by the loop that runs there.
  So whatever hangs on an end (promises are not thread-safe) runs where `execute` was called.
- A piece of work runs *here*, if its loop is this thread's or runs nowhere; otherwise it runs *elsewhere*, in a loop that
  another thread runs. Here it is a task and its end a callback; elsewhere everything crosses by `call_soon_threadsafe`, and its
  end comes through a queue.
- A work is in `running` until its task has ended, cancelled or not. Nobody else waits for tasks.
- A thread that runs a loop is never blocked for work of that loop; it gets `Deadlock` before anything is waited for.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import Future as ConcurrentFuture
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Self

from weft import runner
from weft._host.foreign import follow, post, wrap_future
from weft.bridge._loopcall import LOOK_S
from weft.bridge.errors import Closed, Deadlock
from weft.bridge.portal import Portal

__all__ = ["Collector"]

AnyFuture = asyncio.Future[Any] | ConcurrentFuture[Any]


class Collector:
    """Calls functions, collects the awaitables that they return, and waits for all of them.

    collector = weft.bridge.Collector()
    future = collector.execute(async_function, argument)
    collector.wait_until_finished()
    future.result()

    loop:        where the awaitables run; None: the loop that runs in the calling thread, else the one that was set there
                 (`asyncio.set_event_loop`), else one of the collector's own. A loop that another thread runs is fine
    own_thread:  run them in a loop in a thread of the collector's (a `Portal`): then any thread may wait

    Each thread has a collection of its own: it waits for what it has executed. `close`, or leaving `with`, ends the
    thread and the loop that the collector has made. What fails is in its future; a failure that nobody takes from
    there is reported to the loop's exception handler when the future goes.
    """

    _async_way = "`await {0}.finished()`"

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None, *, own_thread: bool = False) -> None:
        if own_thread and loop is not None:
            raise ValueError(f"own_thread makes a loop, so {loop!r} would not be used: pass one of the two")
        self._given = loop
        self._portal = Portal(name="weft-collector") if own_thread else None
        self._portal_loop: asyncio.AbstractEventLoop | None = None
        self._here = threading.local()
        self._is_closed = False
        if self._portal is not None:
            weakref.finalize(self, _close_behind, self._portal).atexit = False

    def __repr__(self) -> str:
        where = "in its own thread" if self._portal else f"on {self._given!r}" if self._given else "on any loop"
        return f"<{type(self).__name__} {where}, {len(self._batch().running)} unfinished{', closed' * self._is_closed}>"

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that an awaitable would run in, if this thread executed it now. Made if there is none."""
        if self._is_closed:
            raise Closed(f"{self!r} is closed: make another one")
        if self._portal is not None:
            if self._portal_loop is None:
                self._portal_loop = self._portal.call(_running_loop)
            return self._portal_loop
        return self._given or asyncio._get_running_loop() or _current_loop() or self._batch().own_loop()

    # -- work --

    def execute(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call `function(*args, **kwargs)`; what it returns, or a future for that if it is an awaitable.

        The function is called in this thread; a coroutine that it returns runs as a task of the loop, with a copy of this
        context. The future is asyncio's, or a concurrent one if another thread runs the loop. A future that the function
        returns stays in its own loop.
        """
        result = function(*args, **kwargs)
        if not (inspect.isawaitable(result) or isinstance(result, ConcurrentFuture)):
            return result
        return self._collect(result).future

    def wait_until_finished(self) -> None:
        """Block until everything that this thread has collected has ended, and what that has collected, too.

        Raises `Deadlock` at once, if something is left that needs the loop that runs in this very thread. Ctrl-C cancels what is
        left, waits for its end, and raises KeyboardInterrupt.
        """
        batch = self._batch()
        try:
            self._wait(batch)
        except (Deadlock, Closed):
            raise
        except BaseException:
            batch.cancel()
            self._wait(batch)
            raise

    async def finished(self) -> None:
        """The same, awaited: for a thread that runs a loop. Cancelling it cancels nothing else."""
        batch, loop = self._batch(), asyncio.get_running_loop()
        for work in batch.running:
            if not work.is_here:
                work.home = loop
            elif work.loop is not loop:
                raise Deadlock(f"{work!r} belongs to {work.loop!r}, which nobody runs: run it, or pass `loop={loop!r}`")
        batch.drain()
        await batch.wait(None)

    def clean(self) -> None:
        """Cancel what this thread has collected and has not ended, and wait until it has.

        Where a loop runs in this thread nothing can be waited for: it ends in the turns that follow (`await finished()`).
        """
        batch = self._batch()
        batch.drain()
        batch.cancel()
        if asyncio._get_running_loop() is None:
            self._wait(batch)

    # -- life --

    def close(self) -> None:
        """Cancel what is left, and end the thread and the loop of the collector. Twice is fine."""
        self.clean()
        self._is_closed = True
        if self._portal is not None:
            self._portal.close()
        self._batch().close_loop()

    async def aclose(self) -> None:
        """The same, awaited."""
        self.clean()
        await self.finished()
        self._is_closed = True
        if self._portal is not None:
            await asyncio.to_thread(self._portal.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.wait_until_finished()
        finally:
            self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        try:
            if kind is None:
                await self.finished()
        finally:
            await self.aclose()

    # -- inside --

    def _batch(self) -> _Batch:
        batch: _Batch | None = getattr(self._here, "batch", None)
        if batch is None:
            batch = self._here.batch = _Batch()
        return batch

    def _collect(
        self, awaitable: Awaitable[Any] | ConcurrentFuture[Any], on_end: Callable[[AnyFuture], object] | None = None
    ) -> _Work:
        """Run it. `on_end` is called with the done future, in this thread, before anybody's wait is over."""
        batch = self._batch()
        if asyncio.isfuture(awaitable):
            loop = awaitable.get_loop()
        else:
            try:
                loop = self.loop
            except Closed:
                _drop(awaitable)
                raise
        is_here = asyncio._get_running_loop() is loop or not loop.is_running()
        work = _Work(batch, awaitable, loop, is_here, on_end)
        work.start()
        return work

    def _wait(self, batch: _Batch) -> None:
        batch.drain()
        while batch.running:
            running = asyncio._get_running_loop()
            here = next((work for work in batch.running if work.is_here), None)
            if here is None:
                batch.wait_elsewhere()
            elif running is not None:
                way = self._async_way.format("executor")
                raise Deadlock(
                    f"{self!r} can't wait in a thread that runs {running!r}, which has to do the work itself: "
                    f"{way}, or make the executor with own_thread=True"
                )
            else:
                here.loop.run_until_complete(batch.wait(here.loop))


class _Work:
    """Something that was collected.

    future:  its outcome, for whoever executed it; cancelling it cancels the work
    home:    the loop that runs in the thread of the batch, to be told of an end elsewhere; None: somebody blocks for it, or will
    """

    __slots__ = ("_awaitable", "_on_end", "batch", "future", "home", "is_here", "loop", "what")

    def __init__(
        self,
        batch: _Batch,
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
            except BaseException:
                _drop(awaitable)
                raise
            self.batch.running[self] = None
            task.add_done_callback(self._end_here)
            return
        if isinstance(awaitable, ConcurrentFuture):
            self.future = awaitable
            self.batch.running[self] = None
            awaitable.add_done_callback(self._end_elsewhere)
            return
        outcome: _Outcome = _Outcome(self.loop, self.what)
        self.future = outcome
        try:
            self.loop.call_soon_threadsafe(self._start_elsewhere, awaitable, outcome)
        except RuntimeError as error:
            _drop(awaitable)
            raise Closed(f"{self!r} can't be run: its loop is closed") from error
        self.batch.running[self] = None

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
            _drop(awaitable)
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


class _Batch:
    """What one thread has collected. All methods: that thread.

    running:  in the order they came
    ended:    works elsewhere that have ended, for `drain`. Any thread puts
    """

    def __init__(self) -> None:
        self.running: dict[_Work, None] = {}
        self.ended: SimpleQueue[_Work] = SimpleQueue()
        self._waiters: list[asyncio.Future[None]] = []
        self._own_loop: asyncio.AbstractEventLoop | None = None

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
        for work in list(self.running):
            work.future.cancel()

    def end(self, work: _Work) -> None:
        # In this order: what hangs on the end may collect more, and nobody's wait may be over before that.
        try:
            work.end()
        finally:
            self.running.pop(work, None)
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
        while any(loop is None or (work.is_here and work.loop is loop) for work in self.running):
            waiter: asyncio.Future[None] = here.create_future()
            self._waiters.append(waiter)
            await waiter

    def wait_elsewhere(self) -> None:
        """Block until a work elsewhere has ended."""
        try:
            work = self.ended.get(timeout=LOOK_S)
        except Empty:
            lost = [work for work in self.running if work.loop.is_closed()]
            if not lost:
                return
            for work in lost:
                # It was told to nobody, and will never be.
                self.running.pop(work)
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


def _drop(awaitable: Any) -> None:
    """Nobody will run it."""
    if asyncio.iscoroutine(awaitable):
        awaitable.close()


def _current_loop() -> asyncio.AbstractEventLoop | None:
    """The loop that was set as this thread's; None if none was, or it is closed.

    `asyncio.get_event_loop` would make one on some versions, warn on others, and raise on the rest.
    """
    policy = asyncio.events._event_loop_policy  # type: ignore[attr-defined]
    loop: asyncio.AbstractEventLoop | None = getattr(getattr(policy, "_local", None), "_loop", None)
    return None if loop is None or loop.is_closed() else loop


async def _running_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def _close_behind(portal: Portal) -> None:
    """End the thread of a collector that nobody has closed. Not here: whoever collects garbage must not wait."""
    threading.Thread(target=portal.close, name="weft-collector-end", daemon=True).start()
