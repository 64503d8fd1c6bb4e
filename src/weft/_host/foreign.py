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
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias, TypeVar, cast

__all__ = ["chain", "post", "run_coroutine_threadsafe", "wrap_future"]

_T = TypeVar("_T")

_AnyFuture: TypeAlias = "asyncio.Future[Any] | concurrent.futures.Future[Any]"


def wrap_future(
    future: concurrent.futures.Future[_T] | asyncio.Future[_T], *, loop: asyncio.AbstractEventLoop | None = None
) -> asyncio.Future[_T]:
    """An asyncio future that gets the outcome of a `concurrent.futures.Future`; an asyncio future is returned as it is.

    `loop` is the loop it belongs to, by default the running one. Call it in the thread of that loop. Cancelling the
    future that is returned cancels `future` (which succeeds while the work has not begun).
    """
    if asyncio.isfuture(future):
        return future
    # asyncio raises AssertionError here, and its tests ask for it; `python -O` must not change what a wrong argument
    # does.
    if not isinstance(future, concurrent.futures.Future):
        raise AssertionError(f"concurrent.futures.Future is expected, got {future!r}")
    wrapper: asyncio.Future[_T] = (asyncio.get_event_loop() if loop is None else loop).create_future()
    chain(future, wrapper)
    return wrapper


def run_coroutine_threadsafe(
    coro: Coroutine[Any, Any, _T], loop: asyncio.AbstractEventLoop
) -> concurrent.futures.Future[_T]:
    """Run a coroutine as a task of `loop`, from another thread; returns the future that waits for it.

    Cancelling the future that is returned cancels the task. Waiting for it in the thread of `loop` is a deadlock. A
    loop that is closed raises asyncio's RuntimeError at once.
    """
    if not asyncio.iscoroutine(coro):
        raise TypeError("A coroutine object is required")
    future: concurrent.futures.Future[_T] = concurrent.futures.Future()

    def start() -> None:
        try:
            chain(asyncio.ensure_future(coro, loop=loop), future)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            # A task factory failed: the waiting thread must not wait for ever, and the loop reports it too.
            if future.set_running_or_notify_cancel():
                future.set_exception(exc)
            raise

    loop.call_soon_threadsafe(start)
    return future


def chain(source: _AnyFuture, destination: _AnyFuture) -> None:
    """Give `destination` the outcome of `source`, and `source` the cancellation of `destination`.

    Each may be of either kind. An asyncio future must be passed in the thread of its loop.
    """
    source_loop = _loop_of(source, "source")
    destination_loop = _loop_of(destination, "destination")

    def finished(_: object) -> None:
        if destination_loop is None or destination_loop is _running_loop():
            _copy(source, destination)
        else:
            post(destination_loop, _copy, source, destination)

    def cancelled(_: object) -> None:
        if not destination.cancelled():
            return
        if source_loop is None or source_loop is _running_loop():
            source.cancel()
        else:
            source_loop.call_soon_threadsafe(source.cancel)

    destination.add_done_callback(cancelled)
    source.add_done_callback(finished)


def post(loop: asyncio.AbstractEventLoop, callback: Callable[..., object], *args: object) -> None:
    """Run a callback in the thread of `loop`; nothing happens where the loop is closed (or closing)."""
    try:
        loop.call_soon_threadsafe(callback, *args)
    except RuntimeError:
        if not loop.is_closed():
            raise


def _loop_of(future: _AnyFuture, role: str) -> asyncio.AbstractEventLoop | None:
    """The loop of an asyncio future, None for a concurrent one; refuses everything else."""
    if asyncio.isfuture(future):
        return future.get_loop()
    if isinstance(future, concurrent.futures.Future):
        return None
    raise TypeError(f"A future is required for {role} argument")


def _running_loop() -> asyncio.AbstractEventLoop | None:
    return asyncio._get_running_loop()


def _copy(source: _AnyFuture, destination: _AnyFuture) -> None:
    """The outcome of a finished future into another, unless that one was cancelled meanwhile."""
    if isinstance(destination, concurrent.futures.Future):
        if source.cancelled():
            destination.cancel()
        if not destination.set_running_or_notify_cancel():
            return
    elif destination.done():
        return
    elif source.cancelled():
        destination.cancel()
        return
    exception = source.exception()
    if exception is None:
        destination.set_result(source.result())
    else:
        destination.set_exception(_in_asyncio_terms(exception))


def _in_asyncio_terms(exception: BaseException) -> BaseException:
    """An exception of `concurrent.futures` as the one of the same name that asyncio's callers catch."""
    kind = type(exception)
    if kind is concurrent.futures.CancelledError:
        return asyncio.CancelledError(*exception.args).with_traceback(exception.__traceback__)
    if kind is cast(type, concurrent.futures.InvalidStateError):
        return asyncio.InvalidStateError(*exception.args).with_traceback(exception.__traceback__)
    return exception
