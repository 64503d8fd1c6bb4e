"""Synchronous code that calls async functions on its way and waits for all of them at its end.

A thread that runs a loop is never blocked for work of that loop: it gets `Deadlock` before anything is waited for.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import Future as ConcurrentFuture
from types import TracebackType
from typing import Any, Self

from weft.bridge._collecting import AnyFuture, Batch, Work, drop
from weft.bridge.errors import Closed, Deadlock
from weft.bridge.portal import Portal

__all__ = ["Collector"]


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
        return (
            f"<{type(self).__name__} {where}, {len(self._batch().running())} unfinished{', closed' * self._is_closed}>"
        )

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

        Raises `Deadlock` at once, if something is left that needs the loop that runs in this very thread. Ctrl-C cancels
        what is left, waits for its end, and raises KeyboardInterrupt.
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
        for work in batch.elsewhere:
            work.home = loop
        for work in batch.here:
            if work.loop is not loop:
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

    def _batch(self) -> Batch:
        batch: Batch | None = getattr(self._here, "batch", None)
        if batch is None:
            batch = self._here.batch = Batch()
        return batch

    def _collect(
        self, awaitable: Awaitable[Any] | ConcurrentFuture[Any], on_end: Callable[[AnyFuture], object] | None = None
    ) -> Work:
        """Run it. `on_end` is called with the done future, in this thread, before anybody's wait is over."""
        batch = self._batch()
        if asyncio.isfuture(awaitable):
            loop = awaitable.get_loop()
        else:
            try:
                loop = self.loop
            except Closed:
                drop(awaitable)
                raise
        is_here = asyncio._get_running_loop() is loop or not loop.is_running()
        work = Work(batch, awaitable, loop, is_here, on_end)
        work.start()
        return work

    def _wait(self, batch: Batch) -> None:
        batch.drain()
        while batch.here or batch.elsewhere:
            running = asyncio._get_running_loop()
            here = next(iter(batch.here), None)
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
