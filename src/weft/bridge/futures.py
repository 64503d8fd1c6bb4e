"""Futures of the two kinds, each as the other: asyncio's (Weft's among them) and those of `concurrent.futures`.

    wrap_future(concurrent)                 to await it, in the thread of a loop
    to_concurrent(awaitable, loop)          to wait for it in any other thread, or to hand it to an executor's callers
    run_coroutine_threadsafe(coro, loop)    asyncio's own name for the second, coroutines only

All three carry the result, the exception with its traceback, the cancellation both ways, and the context of the caller.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable
from concurrent.futures import Future as ConcurrentFuture
from typing import Any, TypeVar

from weft._host.foreign import follow, hand_over, run_coroutine_threadsafe, wrap_future
from weft.bridge.errors import Closed

__all__ = ["run_coroutine_threadsafe", "to_concurrent", "wrap_future"]

_T = TypeVar("_T")


def to_concurrent(
    awaitable: Awaitable[_T] | ConcurrentFuture[_T], loop: asyncio.AbstractEventLoop | None = None
) -> ConcurrentFuture[_T]:
    """A `concurrent.futures.Future` that gets the outcome of an asyncio future or task, a coroutine, or anything awaitable.

    loop:  where a coroutine is run, as a task and with a copy of this context; None: the running loop. A future has its loop

    Any thread. Cancelling what is returned cancels the task, a turn of its loop later. Waiting for it (`result()`) in
    the thread of that loop is a deadlock, as with every concurrent future. A concurrent future is returned as it is.
    TypeError for what can't be awaited, ValueError for a future of another loop than `loop`, `Closed` for a closed loop.
    """
    if isinstance(awaitable, ConcurrentFuture):
        return awaitable
    if asyncio.isfuture(awaitable):
        return _of_future(awaitable, loop)
    if not inspect.isawaitable(awaitable):
        raise TypeError(f"{awaitable!r} can't be awaited: a future, a coroutine or another awaitable is needed")
    owner = asyncio._get_running_loop() if loop is None else loop
    if owner is None:
        raise RuntimeError(f"no loop runs in this thread, so {awaitable!r} needs one: pass `loop`, or use a Portal")
    coro = awaitable if asyncio.iscoroutine(awaitable) else _await(awaitable)
    try:
        return run_coroutine_threadsafe(coro, owner)
    except RuntimeError as error:
        if not owner.is_closed():
            raise
        coro.close()
        raise Closed(f"{awaitable!r} can't be run: {owner!r} is closed") from error


def _of_future(source: asyncio.Future[_T], loop: asyncio.AbstractEventLoop | None) -> ConcurrentFuture[_T]:
    owner = source.get_loop()
    if loop is not None and loop is not owner:
        raise ValueError(f"{source!r} belongs to {owner!r}, not to {loop!r}: leave `loop` away")
    future: ConcurrentFuture[_T] = ConcurrentFuture()
    if source.done():
        # It will not change any more, so it needs no loop.
        hand_over(source, future)
    elif asyncio._get_running_loop() is owner:
        follow(source, future, owner)
    else:
        try:
            owner.call_soon_threadsafe(follow, source, future, owner)
        except RuntimeError as error:
            if not owner.is_closed():
                raise
            raise Closed(f"{source!r} can't be done any more: its loop is closed") from error
    return future


async def _await(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
