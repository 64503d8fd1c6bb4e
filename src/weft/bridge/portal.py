"""A loop in a thread of its own, for synchronous code that wants to call async functions.

Rules for whoever edits this file:

- The portal's thread runs one `Runner` from the first call to the end; everything a caller starts is a task of it.
- Whoever waits, waits by `LoopCall`, which refuses the portal's own thread, and which Ctrl-C can interrupt.
- The end, in order: no more calls; every task is cancelled; the loop runs until they are done; the thread is joined. A
  task that won't end is named, and the thread left behind as a daemon.
- A closed loop runs nothing of what it was given last. So the thread's last act is to cancel the futures that are left.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future as ConcurrentFuture
from contextlib import AbstractAsyncContextManager, contextmanager
from types import TracebackType
from typing import Any, Generic, ParamSpec, Self, TypeVar

from weft import runner
from weft._host.foreign import post, run_coroutine_threadsafe
from weft.bridge._loopcall import LoopCall, awaitable
from weft.bridge._workers import current_job
from weft.bridge.errors import Closed, Deadlock
from weft.bridge.iterators import BOUND, SyncIterator
from weft.bridge.threads import refuse_sync

__all__ = ["Portal"]

_T = TypeVar("_T")
_P = ParamSpec("_P")

#: How long the end of a portal waits for tasks that were cancelled.
END_S = 30.0


class Portal:
    """A running loop that any thread but its own may call into.

    with weft.bridge.Portal() as portal:
        portal.call(async_function, argument)

    debug:         asyncio's debug mode for the loop
    loop_factory:  makes the loop; None: Weft's
    name:          of the thread

    Starts with `with` or the first call; ends with the block or `close`. All methods: any thread but the portal's own, which
    gets `Deadlock` (a RuntimeError) at once. One Ctrl-C in the main thread cancels the call that waits there, waits for its
    end, and raises KeyboardInterrupt. A call that the portal's end cancels raises `asyncio.CancelledError`. A portal that
    nobody closes keeps no program from exiting. Cost of a call: two hops between threads and a task.
    """

    def __init__(
        self,
        *,
        debug: bool | None = None,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
        name: str = "weft-portal",
    ) -> None:
        self._name = name
        self._debug = debug
        self._loop_factory = loop_factory
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped: asyncio.Event | None = None
        self._is_closed = False
        # What was started and has not ended; and whether the thread has seen to what is left of it.
        self._started: dict[ConcurrentFuture[Any], Coroutine[Any, Any, Any]] = {}
        self._is_swept = False

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "not started" if self._loop is None else "running"
        return f"<{type(self).__name__} {self._name!r} {state}>"

    # -- life --

    def __enter__(self) -> Self:
        self._running_loop()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._is_closed:
                raise Closed(f"{self!r} can't be used any more: make another one")
            if self._thread is not None and not self._thread.is_alive():
                raise Closed(f"{self!r} has lost its thread, to a fork or an exit in it: make another one")
            if self._loop is None:
                started: ConcurrentFuture[None] = ConcurrentFuture()
                self._thread = threading.Thread(target=self._run, args=(started,), name=self._name, daemon=True)
                try:
                    self._thread.start()
                    started.result()
                except BaseException:
                    self._thread = None
                    raise
            assert self._loop is not None
            return self._loop

    def _run(self, started: ConcurrentFuture[None]) -> None:
        try:
            with runner.Runner(debug=self._debug, loop_factory=self._loop_factory) as running:
                running.run(self._main(started))
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)
        finally:
            self._is_swept = True
            for future, work in list(self._started.items()):
                _drop(future, work)

    async def _main(self, started: ConcurrentFuture[None]) -> None:
        self._stopped = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        started.set_result(None)
        await self._stopped.wait()

    def close(self) -> None:
        """Cancel what runs, and wait until it has ended. Twice is fine."""
        with self._lock:
            self._is_closed = True
            loop, thread, stopped = self._loop, self._thread, self._stopped
        if loop is None or thread is None or stopped is None or not thread.is_alive():
            return
        if threading.current_thread() is thread:
            raise Deadlock(f"{self!r} can't be closed by its own thread, which it would have to wait for")
        job = current_job()
        if job is not None and job.loop is loop:
            raise Deadlock(f"{self!r} can't be closed by {job.what!r}, a call that it waits for itself")
        post(loop, stopped.set)
        thread.join(END_S)
        if thread.is_alive():
            left = [task.get_name() for task in asyncio.all_tasks(loop)]
            raise TimeoutError(f"{self!r} did not end in {END_S:g} s: {', '.join(left)} ignored their cancellation")

    # -- work --

    def call(self, function: Callable[_P, Awaitable[_T]], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """The result of `await function(*args, **kwargs)`, run as a task in the portal with a copy of the caller's context."""
        refuse_sync(function)
        return LoopCall(self._running_loop(), function, args, kwargs).wait()  # type: ignore[no-any-return]

    def start(
        self, function: Callable[_P, Coroutine[Any, Any, _T]], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> ConcurrentFuture[_T]:
        """Start a task and go on; the future for its outcome, whose `cancel` cancels it."""
        refuse_sync(function)
        loop = self._running_loop()
        if asyncio._get_running_loop() is loop:
            raise Deadlock(f"{function!r} was started from the thread of its own loop: use asyncio.create_task there")
        work = _call(function, args, kwargs)
        try:
            future: ConcurrentFuture[_T] = run_coroutine_threadsafe(work, loop)
        except RuntimeError as error:
            work.close()
            raise Closed(f"{function!r} can't be run: {self!r} has ended meanwhile") from error
        self._started[future] = work
        future.add_done_callback(self._forget)
        if self._is_swept:
            _drop(future, work)
        return future

    def _forget(self, future: ConcurrentFuture[Any]) -> None:
        self._started.pop(future, None)

    @contextmanager
    def enter(self, manager: AbstractAsyncContextManager[_T]) -> Iterator[_T]:
        """An async context manager as a plain one. Both its ends run in one task of the portal, as some need."""
        if not isinstance(manager, AbstractAsyncContextManager):
            raise TypeError(f"{manager!r} is no async context manager: a plain one needs no portal, `with` enters it")
        stay = _Stay(manager)
        value = self.call(stay.enter)
        try:
            yield value
        except BaseException as error:
            if not self.call(stay.leave, error):
                raise
        else:
            self.call(stay.leave, None)

    def iterate(self, iterable: AsyncIterable[_T], *, bound: int = BOUND) -> SyncIterator[_T]:
        """An async iterable as a plain iterator: it runs in the portal, at most `bound` items ahead of who reads it."""
        return SyncIterator(self._running_loop(), iterable, bound)


class _Stay(Generic[_T]):
    """The task that holds an async context manager for a thread."""

    def __init__(self, manager: AbstractAsyncContextManager[_T]) -> None:
        self._manager = manager
        self._task: asyncio.Task[bool | None] | None = None
        self._left: asyncio.Future[BaseException | None] | None = None

    async def enter(self) -> _T:
        """The value of `__aenter__`."""
        loop = asyncio.get_running_loop()
        entered: asyncio.Future[_T] = loop.create_future()
        self._left = loop.create_future()
        self._task = loop.create_task(self._run(entered, self._left))
        try:
            both: tuple[asyncio.Future[Any], ...] = (self._task, entered)
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._task.cancel()
            await asyncio.wait([self._task])
            raise
        if not entered.done():
            await self._task
        return await entered

    async def leave(self, error: BaseException | None) -> bool:
        """The block has been left: `__aexit__`, and whether that has dealt with `error`."""
        assert self._left is not None and self._task is not None
        if not self._left.done():
            self._left.set_result(error)
        return bool(await self._task)

    async def _run(self, entered: asyncio.Future[_T], left: asyncio.Future[BaseException | None]) -> bool | None:
        value = await self._manager.__aenter__()
        entered.set_result(value)
        try:
            reason = await left
        except asyncio.CancelledError as cancelled:
            # The portal is closed before the block is left.
            await self._manager.__aexit__(type(cancelled), cancelled, cancelled.__traceback__)
            raise
        if reason is None:
            return await self._manager.__aexit__(None, None, None)
        return await self._manager.__aexit__(type(reason), reason, reason.__traceback__)


def _drop(future: ConcurrentFuture[Any], work: Coroutine[Any, Any, Any]) -> None:
    """Nobody runs it any more."""
    future.cancel()
    if inspect.getcoroutinestate(work) == inspect.CORO_CREATED:
        work.close()


async def _call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return await awaitable(function(*args, **kwargs), function)
