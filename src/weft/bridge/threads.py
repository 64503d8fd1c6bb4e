"""Synchronous calls from coroutines: each in a thread, awaited. And the way back, from such a call into the loop.

What a cancellation means to a call that runs is written in `cancel`.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from types import FunctionType
from typing import Any, Literal, ParamSpec, Self, TypeVar

from weft.bridge import _workers
from weft.bridge._loopcall import LoopCall
from weft.bridge._workers import Job, OwnThread, current_job, inside
from weft.bridge.errors import Closed, Deadlock, StillRunning

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


#: What marks the code of a function whose call gives a coroutine or an async generator.
_ASYNC = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


def refuse_async(function: Any) -> None:
    """Raise TypeError for what would only make a coroutine: in a thread nobody would run it."""
    if type(function) is FunctionType and not function.__code__.co_flags & _ASYNC:
        return
    if not callable(function):
        raise TypeError(f"{function!r} can't be called: pass a function, and its arguments behind it")
    # The call itself, where it is an object with a method of that name.
    for each in (function, type(function).__call__):
        if inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each):
            raise TypeError(f"{function!r} is an async function: await it, it needs no thread")


def refuse_sync(function: Any) -> None:
    """Raise TypeError for what gives nothing to await."""
    if not callable(function):
        what = "pass the function itself, uncalled" if inspect.iscoroutine(function) else "it can't be called"
        raise TypeError(f"an async function is needed, not {function!r}: {what}")


class Threads:
    """Runs synchronous calls in threads, at most `limit` of them at once; the others wait in the order they came.

    limit:      calls at once; None: as many as asyncio's default executor has threads
    on_cancel:  what becomes of a call that runs when its task is cancelled, see `weft.bridge.cancel`
    timeout:    seconds that each call may take once a thread has begun it, before `StillRunning` is raised and the
                call abandoned; None: any

    Used by one loop at a time, in its thread. `async with` waits at the end for what runs. Cost of a call: two hops between
    threads, and no more objects than a future, a job and a context. A call that waits for its loop (`call_async`) lends its
    place to the next; when it goes on, one more than `limit` may run for a while.
    """

    def __init__(self, limit: int | None = None, *, on_cancel: OnCancel = "wait", timeout: float | None = None) -> None:
        if limit is not None and limit < 1:
            raise ValueError(f"a limit of {limit} lets nothing run: at least 1 is needed")
        if on_cancel not in ("wait", "abandon"):
            raise ValueError(f"on_cancel is {on_cancel!r}: it must be 'wait' or 'abandon'")
        if timeout is not None and not timeout > 0:
            raise ValueError(f"a timeout of {timeout} s lets nothing run: more than 0 is needed, or None for any time")
        self._limit = self._free = DEFAULT_LIMIT if limit is None else limit
        self._on_cancel = on_cancel
        self._timeout = timeout
        # Calls without a place, in the order they came.
        self._waiting: OrderedDict[Job, None] = OrderedDict()
        # Of `_free`, `_waiting` and `_loop`: a thread that has ended a call takes the next by itself.
        self._lock = threading.Lock()
        # Calls that have not ended: those that wait and those that were abandoned among them.
        self._running: set[Job] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False
        self._submit = _workers.submit

    def __repr__(self) -> str:
        state = ", closed" if self._is_closed else ""
        return f"<{type(self).__name__} at {id(self):#x}: {len(self._running)} calls, limit {self._limit}{state}>"

    async def run(self, function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """The result of `function(*args, **kwargs)`, called in a thread with a copy of this context."""
        refuse_async(function)
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._bind(loop)
        if self._is_closed:
            raise self._refusal(function)
        job = Job(loop, function, args, kwargs, self)
        job.is_guest = self._is_host()
        self._running.add(job)
        if job.is_guest or self._has_place(job):
            self._put(job)
        if self._timeout is not None:
            job.timer = loop.call_later(self._timeout, self._expire, job)
        try:
            await job.ended
        except asyncio.CancelledError as cancelled:
            if self._withdraw(job, None):
                raise
            job.cancel()
            if self._on_cancel == "wait":
                await _wait_out(job)
            if not job.is_over:
                self._abandon(job)
                if job.overdue is not None:
                    raise cancelled from job.overdue
                raise
            if not job.is_done or job.error is None or isinstance(job.error, asyncio.CancelledError):
                raise
        finally:
            if job.timer is not None:
                job.timer.cancel()
        if job.overdue is not None and not job.is_done:
            job.cancel()
            self._abandon(job)
            raise job.overdue
        return job.outcome()  # type: ignore[no-any-return]

    def send(self, function: Callable[[], object]) -> None:
        """Call it in a thread at once, past the limit, with nobody to wait for it; in the loop's thread.

        What it raises goes to the loop's exception handler.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._bind(loop)
        if self._is_closed:
            raise self._refusal(function)
        job = Job(loop, function, (), {}, self)
        job.is_abandoned = job.is_guest = True
        self._running.add(job)
        self._put(job)

    async def aclose(self) -> None:
        """Take no more calls, and wait for those that run, but not for the abandoned ones. Those that wait get `Closed`."""
        self._refuse_own_calls()
        self._is_closed = True
        with self._lock:
            waiting = list(self._waiting)
            self._waiting.clear()
        for job in waiting:
            self._withdraw(job, self._refusal(job.what))
        is_cancelled = False
        for job in list(self._running):
            if not job.is_abandoned:
                is_cancelled |= await _wait_out(job)
        if is_cancelled:
            raise asyncio.CancelledError

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def _bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Work for another loop, if the one before is done with us."""
        if self._running:
            if self._loop is not None and not self._loop.is_closed():
                raise RuntimeError(f"{self!r} works for {self._loop!r}: make others for {loop!r}")
            # What a closed loop has left behind holds no place.
            self._running.clear()
        with self._lock:
            self._waiting.clear()
            self._free = self._limit
            self._loop = loop

    def _refuse_own_calls(self) -> None:
        """Raise Deadlock in a coroutine that one of our calls waits for."""
        job = inside.get()
        if job is None or job.calls is not asyncio.current_task():
            return
        while job is not None:
            if job in self._running:
                raise Deadlock(
                    f"{self!r} can't be closed by a coroutine that {job.what!r} waits for, which would have to end first: "
                    "close it when that call has returned, or from a task of its own"
                )
            job = job.parent

    # -- places --

    def _is_host(self) -> bool:
        """Whether the running coroutine may run a call without a place."""
        return False

    def _has_place(self, job: Job) -> bool:
        """Whether a job may run now; else it waits for its turn."""
        with self._lock:
            if self._free > 0:
                self._free -= 1
                return True
            self._waiting[job] = None
            return False

    def _put(self, job: Job) -> None:
        """Give a job to the threads."""
        try:
            self._submit(job)
        except BaseException:
            self._running.discard(job)
            self._lend_place(job)
            raise

    def _next(self, job: Job) -> Job | None:
        if job.is_guest:
            return None
        with self._lock:
            if job.loop is not self._loop:
                return None
            if self._free >= 0 and self._waiting:
                return self._waiting.popitem(last=False)[0]
            self._free += 1
            return None

    def _lend_place(self, job: Job) -> None:
        following = self._next(job)
        while following is not None:
            try:
                self._submit(following)
                return
            except Exception as error:
                self._withdraw(following, error)
                following = self._next(following)

    def _on_pause(self, job: Job) -> None:
        self._lend_place(job)

    def _on_go_on(self, job: Job) -> None:
        # Without waiting for one: below zero for a while, rather than a thread that waits for ever.
        if not job.is_guest:
            with self._lock:
                self._free -= 1

    def _refusal(self, function: Callable[..., object]) -> Closed:
        return Closed(f"{self!r} takes no more calls, and {function!r} was not called: make new ones")

    # -- ends --

    def _withdraw(self, job: Job, error: Exception | None) -> bool:
        """Take a job back, if no thread has begun it; who awaits it gets the error."""
        if not job.withdraw():
            return False
        with self._lock:
            self._waiting.pop(job, None)
        job.error = error
        self._running.discard(job)
        _wake(job)
        return True

    def _abandon(self, job: Job) -> None:
        """Wait for a job no longer, and let nobody else do so."""
        job.abandon()
        _wake(job)

    def _on_end(self, job: Job) -> None:
        self._running.discard(job)
        _wake(job)
        if job.is_abandoned and (error := _unseen(job)) is not None:
            message = f"An abandoned call of {job.what!r} failed in {job.thread!r}"
            job.loop.call_exception_handler({"message": message, "exception": error})

    def _on_lost(self, job: Job) -> None:
        if (error := _unseen(job)) is not None:
            hook = threading.excepthook
            hook(threading.ExceptHookArgs((type(error), error, error.__traceback__, threading.current_thread())))

    def _expire(self, job: Job) -> None:
        if job.is_over:
            return
        assert self._timeout is not None
        if not job.is_running and (held := self._held()) is not None:
            # Perhaps for ever.
            where = held.where()
            words = (
                f"{job.what!r} was not called: every thread of {self!r} is held by abandoned calls, as {held.what!r} is"
            )
            self._withdraw(job, StillRunning(f"{words}, in thread {held.thread!r}, at {where}", held.thread, where))
            return
        left = self._timeout if not job.is_running else job.started_at + self._timeout - time.monotonic()
        if left > 0:
            # It has had to wait for its thread.
            job.timer = job.loop.call_later(left, self._expire, job)
            return
        where = job.where()
        job.overdue = StillRunning(
            f"{job.what!r} is still running after {self._timeout:g} s, in thread {job.thread!r}, "
            f"at {where or 'its end'}; it was asked to end (check_cancelled)",
            job.thread,
            where,
        )
        _wake(job)

    def _held(self) -> Job | None:
        """The call that runs longest, if abandoned calls hold all places."""
        running = [job for job in self._running if job.is_running and not job.is_guest]
        if len(running) < self._limit or not all(job.is_abandoned for job in running):
            return None
        return min(running, key=lambda job: job.started_at)


def _wake(job: Job) -> None:
    """Let those that wait for a job look at it."""
    for waiter in (job.ended, *job.waiters):
        if not waiter.done():
            waiter.set_result(None)


def _unseen(job: Job) -> BaseException | None:
    """The error that nobody has waited for; a cancellation is none."""
    error, job.error = job.error, None
    return None if isinstance(error, asyncio.CancelledError) else error


async def _wait_out(job: Job) -> bool:
    """Wait until a job has ended or is given up, however often this task is cancelled meanwhile; whether it was."""
    is_cancelled = False
    while not job.is_over and not job.is_abandoned and job.overdue is None:
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

    A call that waits for its loop (`call_async`) keeps the thread for itself, and for the calls that its coroutine makes:
    those run meanwhile. So what that coroutine waits for must not need this thread by another task. `aclose` ends the thread.
    """

    def __init__(self, name: str, *, on_cancel: OnCancel = "wait", timeout: float | None = None) -> None:
        super().__init__(1, on_cancel=on_cancel, timeout=timeout)
        self._thread = OwnThread(name)
        self._submit = self._thread.submit

    async def aclose(self) -> None:
        self._refuse_own_calls()
        try:
            await super().aclose()
        finally:
            self._thread.close()

    def _is_host(self) -> bool:
        job = inside.get()
        while job is not None:
            if job.is_running and job.belongs_to(self):
                return True
            job = job.parent
        return False

    def _on_pause(self, job: Job) -> None:
        pass

    def _on_go_on(self, job: Job) -> None:
        pass


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
