"""A loop in a thread of its own, for synchronous code that wants to call async functions.

Rules for whoever edits this file:

- The portal's thread runs one `Runner` from the first call to the end; everything a caller starts is a task of it.
- A call waits by `LoopCall`, which refuses the portal's own thread, and whose wait Ctrl-C can interrupt.
- The end, in order: no more calls; every task is cancelled; the loop runs until they are done; the thread is joined. A
  task that won't end is named, and the thread left behind as a daemon.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future as ConcurrentFuture
from contextlib import AbstractAsyncContextManager, contextmanager
from types import TracebackType
from typing import Any, Generic, ParamSpec, Self, TypeVar

from weft import runner
from weft._host.foreign import run_coroutine_threadsafe
from weft.bridge._loopcall import LoopCall
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
    end, and raises KeyboardInterrupt.
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
            if self._loop is None:
                started: ConcurrentFuture[None] = ConcurrentFuture()
                self._thread = threading.Thread(target=self._run, args=(started,), name=self._name, daemon=True)
                self._thread.start()
                started.result()
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
        loop.call_soon_threadsafe(stopped.set)
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
        return run_coroutine_threadsafe(function(*args, **kwargs), loop)

    @contextmanager
    def enter(self, manager: AbstractAsyncContextManager[_T]) -> Iterator[_T]:
        """An async context manager as a plain one. Both its ends run in one task of the portal, as some need."""
        stay = _Stay(manager)
        over = self.start(stay.run)
        try:
            value = stay.entered.result()
        except BaseException:
            over.cancel()
            raise
        try:
            yield value
        except BaseException as error:
            if not self._leave(stay, over, error):
                raise
        else:
            self._leave(stay, over, None)

    def _leave(self, stay: _Stay[Any], over: ConcurrentFuture[bool | None], error: BaseException | None) -> bool:
        """Let a stay end, and say whether the manager has dealt with `error`."""
        self._running_loop().call_soon_threadsafe(stay.leave, error)
        return bool(over.result())

    def iterate(self, iterable: AsyncIterable[_T], *, bound: int = BOUND) -> SyncIterator[_T]:
        """An async iterable as a plain iterator: it runs in the portal, at most `bound` items ahead of who reads it."""
        return SyncIterator(self._running_loop(), iterable, bound)


class _Stay(Generic[_T]):
    """The task that holds an async context manager for a thread."""

    def __init__(self, manager: AbstractAsyncContextManager[_T]) -> None:
        self._manager = manager
        #: The value of `__aenter__`, or why there is none.
        self.entered: ConcurrentFuture[_T] = ConcurrentFuture()
        self._left: asyncio.Future[BaseException | None] | None = None

    async def run(self) -> bool | None:
        self._left = asyncio.get_running_loop().create_future()
        try:
            value = await self._manager.__aenter__()
        except BaseException as error:
            self.entered.set_exception(error)
            raise
        self.entered.set_result(value)
        try:
            reason = await self._left
        except asyncio.CancelledError as cancelled:
            # The portal is closed before the block is left.
            await self._manager.__aexit__(type(cancelled), cancelled, cancelled.__traceback__)
            raise
        if reason is None:
            return await self._manager.__aexit__(None, None, None)
        return await self._manager.__aexit__(type(reason), reason, reason.__traceback__)

    def leave(self, error: BaseException | None) -> None:
        """The block has been left."""
        if self._left is not None and not self._left.done():
            self._left.set_result(error)
