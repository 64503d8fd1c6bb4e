"""Synchronous calls from coroutines: each in a thread, awaited. And the way back, from such a call into the loop.

What a cancellation means to a call that runs is written in `cancel`.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import weakref
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Literal, ParamSpec, Self, TypeVar

from weft.bridge import _workers
from weft.bridge._loopcall import LoopCall
from weft.bridge._workers import Job, OwnThread, current_job
from weft.bridge.cancel import abandon, forget, is_abandoned
from weft.bridge.errors import Closed, StillRunning

__all__ = [
    "OnCancel",
    "OneThread",
    "Threads",
    "call_async",
    "default_threads",
    "refuse_async",
    "refuse_sync",
    "to_thread",
]

_T = TypeVar("_T")
_P = ParamSpec("_P")

OnCancel = Literal["wait", "abandon"]

#: As many calls at once as asyncio's default executor has threads.
DEFAULT_LIMIT = min(32, (os.cpu_count() or 1) + 4)


def refuse_async(function: Any) -> None:
    """Raise TypeError for what would only make a coroutine: in a thread nobody would run it."""
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{function!r} is an async function: await it, it needs no thread")
    if not callable(function):
        raise TypeError(f"{function!r} can't be called")


def refuse_sync(function: Any) -> None:
    """Raise TypeError for what gives nothing to await."""
    if not callable(function):
        what = "pass the function itself, uncalled" if inspect.iscoroutine(function) else "it can't be called"
        raise TypeError(f"an async function is needed, not {function!r}: {what}")


class Threads:
    """Runs synchronous calls in threads, at most `limit` of them at once; the others wait in the order they came.

    limit:      calls at once; None: as many as asyncio's default executor has threads
    on_cancel:  what becomes of a call that runs when its task is cancelled, see `weft.bridge.cancel`
    timeout:    seconds that each call may take, before `StillRunning` is raised and the call abandoned; None: any

    Used by one loop at a time, in its thread. `async with` waits at the end for what runs. Cost of a call: two hops between
    threads, and no more objects than a future, a job and a context.
    """

    def __init__(self, limit: int | None = None, *, on_cancel: OnCancel = "wait", timeout: float | None = None) -> None:
        if limit is not None and limit < 1:
            raise ValueError(f"a limit of {limit} lets nothing run: at least 1 is needed")
        if on_cancel not in ("wait", "abandon"):
            raise ValueError(f"on_cancel is {on_cancel!r}: it must be 'wait' or 'abandon'")
        self._free = DEFAULT_LIMIT if limit is None else limit
        self._on_cancel = on_cancel
        self._timeout = timeout
        self._waiting: deque[asyncio.Future[None]] = deque()
        # Calls that hold a place, those that were abandoned among them.
        self._running: set[Job] = set()
        self._is_closed = False
        self._submit = _workers.submit

    async def run(self, function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """The result of `function(*args, **kwargs)`, called in a thread with a copy of this context."""
        refuse_async(function)
        loop = asyncio.get_running_loop()
        if self._is_closed:
            raise Closed(f"{self!r} is closed: {function!r} was not called")
        if self._free > 0 and not self._waiting:
            self._free -= 1
        else:
            await self._turn(loop)
        job = Job(loop, function, args, kwargs, self)
        self._running.add(job)
        try:
            self._submit(job)
        except BaseException:
            self._give_back(job)
            raise
        timer = None if self._timeout is None else loop.call_later(self._timeout, self._expire, job)
        try:
            await job.ended
        except asyncio.CancelledError:
            if job.withdraw():
                self._give_back(job)
                raise
            job.cancel()
            if self._on_cancel == "abandon":
                abandon(job)
                raise
            await _wait_out(job)
            if job.error is None or isinstance(job.error, asyncio.CancelledError):
                raise
        except StillRunning:
            if job.withdraw():
                self._give_back(job)
            else:
                job.cancel()
                abandon(job)
            raise
        finally:
            if timer is not None:
                timer.cancel()
        return job.outcome()  # type: ignore[no-any-return]

    async def aclose(self) -> None:
        """Take no more calls, and wait for those that run, but not for the abandoned ones."""
        self._is_closed = True
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(Closed(f"{self!r} was closed before the call began"))
        is_cancelled = False
        for job in list(self._running):
            if not is_abandoned(job):
                is_cancelled |= await _wait_out(job)
        if is_cancelled:
            raise asyncio.CancelledError

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    # -- places --

    async def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait for a place; it is taken when this returns."""
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                # It was given one, and can't use it any more.
                self._lend_place()
            raise

    def _lend_place(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._free += 1

    def _take_place(self) -> None:
        # Without waiting for one: below zero for a while, rather than a thread that waits for ever.
        self._free -= 1

    def _give_back(self, job: Job) -> None:
        self._running.discard(job)
        self._lend_place()

    def _on_end(self, job: Job) -> None:
        self._give_back(job)
        for waiter in job.waiters:
            if not waiter.done():
                waiter.set_result(None)
        if not job.ended.done():
            job.ended.set_result(None)
        elif forget(job) and job.error is not None and not isinstance(job.error, asyncio.CancelledError):
            job.loop.call_exception_handler(
                {"message": f"An abandoned call of {job.what!r} failed in {job.thread!r}", "exception": job.error}
            )

    def _expire(self, job: Job) -> None:
        if not job.ended.done():
            where = job.where()
            place = f"thread {job.thread!r}, at {where}" if where else "no thread yet: all were busy"
            job.ended.set_exception(
                StillRunning(
                    f"{job.what!r} is still running after {self._timeout:g} s, in {place}; "
                    "it was asked to end (check_cancelled)",
                    job.thread,
                    where,
                )
            )


async def _wait_out(job: Job) -> bool:
    """Wait until a job has ended, however often this task is cancelled meanwhile; whether it was."""
    is_cancelled = False
    while not job.is_done:
        waiter: asyncio.Future[None] = job.loop.create_future()
        job.waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            is_cancelled = True
            job.cancel()
    return is_cancelled


class OneThread(Threads):
    """`Threads` whose calls all run in one thread, one after the other: for what may be touched by its own thread only.

    `aclose` ends the thread.
    """

    def __init__(self, name: str, *, on_cancel: OnCancel = "wait", timeout: float | None = None) -> None:
        super().__init__(1, on_cancel=on_cancel, timeout=timeout)
        self._thread = OwnThread(name)
        self._submit = self._thread.submit

    async def aclose(self) -> None:
        try:
            await super().aclose()
        finally:
            self._thread.close()


_defaults: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Threads] = weakref.WeakKeyDictionary()


def default_threads() -> Threads:
    """What `to_thread` uses in the running loop."""
    loop = asyncio.get_running_loop()
    threads = _defaults.get(loop)
    if threads is None:
        threads = _defaults[loop] = Threads()
    return threads


async def to_thread(function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """As `asyncio.to_thread`, by the threads of this package: a call that runs is waited for when its task is cancelled."""
    return await default_threads().run(function, *args, **kwargs)


def call_async(function: Callable[_P, Awaitable[_T]], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """From a synchronous call that this package runs: the result of an async function, run in the loop that awaits the call.

    Its place among the calls is free for others meanwhile, and a cancellation of the call reaches the async function. In any
    other thread it raises RuntimeError: there a `Portal` is needed.
    """
    job = current_job()
    if job is None:
        raise RuntimeError(
            f"no loop waits for this thread, so {function!r} can't be run from here: use weft.bridge.Portal"
        )
    return LoopCall(job.loop, function, args, kwargs).wait()  # type: ignore[no-any-return]
