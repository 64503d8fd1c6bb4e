"""Two kinds of future tied together: asyncio's, which belong to a loop, and `concurrent.futures`, which belong to no
thread.

Rules for whoever edits this file:

- An asyncio future is touched in the thread of its loop only. From anywhere else the touch is posted with
  `call_soon_threadsafe`; a loop that is closed by then gets nothing, because nobody is left to read it.
- A result crosses one way (source to destination), a cancellation the other way, and each at most once: whoever finds
  its side done already leaves it alone.
- Both directions work with any asyncio-like future and any loop, not only Weft's.

Semantics are those of CPython 3.14's `asyncio.wrap_future` and `run_coroutine_threadsafe` on every version: where the
source finishes in the destination's own running loop, the result is there at once and not a turn later.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from asyncio import _get_running_loop
from collections.abc import Callable, Coroutine

# By name: both packages have a `__getattr__`, which keeps the interpreter from caching `module.name`.
from concurrent.futures import CancelledError as ConcurrentCancelledError
from concurrent.futures import Future as ConcurrentFuture
from typing import Any, TypeVar, cast

__all__ = ["follow", "hand_over", "post", "run_coroutine_threadsafe", "wrap_future"]

_T = TypeVar("_T")


def wrap_future(
    future: ConcurrentFuture[_T] | asyncio.Future[_T], *, loop: asyncio.AbstractEventLoop | None = None
) -> asyncio.Future[_T]:
    """An asyncio future that gets the outcome of a `concurrent.futures.Future`; an asyncio future is returned as it is.

    `loop` is the loop it belongs to, by default the running one. Call it in the thread of that loop. Cancelling the
    future that is returned cancels `future` (which succeeds while the work has not begun).
    """
    if not isinstance(future, ConcurrentFuture):
        if asyncio.isfuture(future):
            return future
        # asyncio raises AssertionError, and its tests ask for it; `python -O` must not change what a wrong argument
        # does.
        raise AssertionError(f"concurrent.futures.Future is expected, got {future!r}")
    owner = asyncio.get_event_loop() if loop is None else loop
    wrapper: asyncio.Future[_T] = owner.create_future()

    # Each takes its own future as the parameter: a concurrent future never lets go of its callbacks, so one that held
    # the future would make a cycle.
    def cancelled(wrapper: asyncio.Future[_T]) -> None:
        if wrapper.cancelled():
            future.cancel()

    def finished(source: ConcurrentFuture[_T]) -> None:
        if _get_running_loop() is owner:
            _finish_wrapper(source, wrapper)
        else:
            post(owner, _finish_wrapper, source, wrapper)

    wrapper.add_done_callback(cancelled)
    future.add_done_callback(finished)
    return wrapper


def run_coroutine_threadsafe(coro: Coroutine[Any, Any, _T], loop: asyncio.AbstractEventLoop) -> ConcurrentFuture[_T]:
    """Run a coroutine as a task of `loop`, from another thread; returns the future that waits for it.

    Cancelling the future that is returned cancels the task. Waiting for it in the thread of `loop` is a deadlock. A
    loop that is closed raises asyncio's RuntimeError at once.
    """
    if not asyncio.iscoroutine(coro):
        raise TypeError("A coroutine object is required")
    future: ConcurrentFuture[_T] = ConcurrentFuture()

    def start() -> None:
        try:
            follow(asyncio.ensure_future(coro, loop=loop), future, loop)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            # A task factory failed: the waiting thread must not wait for ever, and the loop reports it too.
            if future.set_running_or_notify_cancel():
                future.set_exception(exc)
            raise

    loop.call_soon_threadsafe(start)
    return future


def follow(task: asyncio.Future[_T], future: ConcurrentFuture[_T], loop: asyncio.AbstractEventLoop) -> None:
    """Give `future` the outcome of `task`, and `task` the cancellation of `future`. In the thread of `loop`."""

    def cancelled(future: ConcurrentFuture[_T]) -> None:
        if future.cancelled():
            if _get_running_loop() is loop:
                task.cancel()
            else:
                post(loop, task.cancel)

    future.add_done_callback(cancelled)
    task.add_done_callback(lambda task: hand_over(task, future))


def hand_over(task: asyncio.Future[_T], future: ConcurrentFuture[_T]) -> None:
    """The outcome of a task or future that is done into `future`, unless that was cancelled meanwhile."""
    if task.cancelled():
        future.cancel()
    if not future.set_running_or_notify_cancel():
        return
    exception = task.exception()
    if exception is None:
        future.set_result(task.result())
    else:
        future.set_exception(_in_asyncio_terms(exception))


def _finish_wrapper(future: ConcurrentFuture[_T], wrapper: asyncio.Future[_T]) -> None:
    """The outcome of a finished future into its wrapper, unless that was cancelled meanwhile. In the wrapper's thread."""
    if wrapper.done():
        return
    try:
        exception = future.exception()
    except ConcurrentCancelledError:
        wrapper.cancel()
        return
    if exception is None:
        wrapper.set_result(future.result())
    else:
        wrapper.set_exception(_in_asyncio_terms(exception))


def post(loop: asyncio.AbstractEventLoop, callback: Callable[..., object], *args: object) -> None:
    """Run a callback in the thread of `loop`; nothing happens where the loop is closed (or closing)."""
    try:
        loop.call_soon_threadsafe(callback, *args)
    except RuntimeError:
        if not loop.is_closed():
            raise


def _in_asyncio_terms(exception: BaseException) -> BaseException:
    """An exception of `concurrent.futures` as the one of the same name that asyncio's callers catch."""
    kind = type(exception)
    if kind is ConcurrentCancelledError:
        return asyncio.CancelledError(*exception.args).with_traceback(exception.__traceback__)
    if kind is cast(type, concurrent.futures.InvalidStateError):
        return asyncio.InvalidStateError(*exception.args).with_traceback(exception.__traceback__)
    return exception
