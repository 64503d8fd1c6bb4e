"""`wait` and `wait_for`: waiting for futures, as long as it takes or for a time.

Rules for whoever edits this file:

- It works on any loop and with any future: only asyncio's public methods are used, and what asyncio itself puts off to
  a later turn is put off here too. Programs see in which turn they go on.
- Where the versions of CPython differ, the running one is followed; the differences stand as constants below.
- Callbacks are bound methods of small classes, not closures: their fields are typed when compiled, and
  `remove_done_callback` finds them again by equality.

All for the thread that runs the loop.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from asyncio import coroutines
from asyncio.exceptions import CancelledError
from collections.abc import Awaitable, Iterable
from typing import Any, TypeVar

from weft._core.awaitable import wrap_awaitable
from weft._core.ensure import AnyFuture
from weft._core.future import Future, isfuture
from weft._core.timeouts import Timeout

_T = TypeVar("_T")
_F = TypeVar("_F", bound="asyncio.Future[Any] | Future")

FIRST_COMPLETED = asyncio.FIRST_COMPLETED
FIRST_EXCEPTION = asyncio.FIRST_EXCEPTION
ALL_COMPLETED = asyncio.ALL_COMPLETED

# 3.11 runs a coroutine given to wait_for as a task of its own.
_WAITS_BY_TASK = sys.version_info < (3, 12)
# Whether futures know who waits for them.
_KEEPS_AWAITERS = AnyFuture.keeps_awaiters()

# Bound here once: a look-up in another module costs as much as the call.
_running_loop: Any = asyncio.get_running_loop


# ---------------------------------------------------------------------------------------------------------- wait_for


async def wait_for(fut: Awaitable[_T], timeout: float | None) -> _T:
    """The result of `fut`; TimeoutError when it takes longer than `timeout` seconds. None: no limit.

    `fut` is cancelled when the time is over, or when this is cancelled, and has ended when this raises; if it turns the
    cancellation into a result, that is the result. From Python 3.12 on a coroutine runs within the calling task, before
    in one of its own, as in asyncio. As CPython's `asyncio.wait_for`. Cost: one timer.
    """
    if timeout is not None and timeout <= 0:
        return await _wait_without_patience(fut)  # type: ignore[no-any-return]
    if _WAITS_BY_TASK:
        if timeout is None:
            return await fut
        return await _wait_by_task(fut, timeout)  # type: ignore[no-any-return]
    if not isfuture(fut) and not coroutines.iscoroutine(fut):
        # What is only awaitable is awaited by Python's own code, so that a wrong `__await__` gets Python's own words.
        fut = wrap_awaitable(fut)
    limit = Timeout(None if timeout is None else _running_loop().time() + timeout)
    limit._enter()
    try:
        result = await fut
    except BaseException as error:
        limit._leave(type(error), error)
        raise
    limit._leave(None, None)
    return result


async def _wait_without_patience(awaitable: Any) -> Any:
    """wait_for with a timeout of zero or less: what is done counts, a coroutine does not even start."""
    future = AnyFuture.ensure(awaitable, None)
    if not future.done():
        await _cancel_and_wait(future)
        return _result_in_time(future)
    return future.result()


async def _wait_by_task(awaitable: Any, timeout: float) -> Any:
    """wait_for as Python 3.11 does it: a coroutine becomes a task, and this waits beside it."""
    loop = _running_loop()
    gate = Gate(loop.create_future())
    timer = loop.call_later(timeout, gate.open)
    future = AnyFuture.ensure(awaitable, loop)
    future.add_done_callback(gate.open)
    try:
        try:
            await gate._waiter
        except CancelledError:
            if future.done():
                return future.result()
            future.remove_done_callback(gate.open)
            # It must not go on running when this has ended.
            await _cancel_and_wait(future)
            raise
        if future.done():
            return future.result()
        future.remove_done_callback(gate.open)
        await _cancel_and_wait(future)
        return _result_in_time(future)
    finally:
        timer.cancel()


def _result_in_time(future: Any) -> Any:
    """The result of a future that was told to stop: its cancellation means that the time was over."""
    try:
        return future.result()
    except CancelledError as error:
        raise TimeoutError from error


class Gate:
    """A future that any number of callbacks may open."""

    __slots__ = ("_waiter",)

    def __init__(self, waiter: Any) -> None:
        self._waiter = waiter

    def open(self, future: Any = None) -> None:
        """The callback."""
        if not self._waiter.done():
            self._waiter.set_result(None)


async def _cancel_and_wait(future: Any) -> None:
    """Cancel it and wait for its end. Not by awaiting it: then a cancellation of this could not be told from its."""
    gate = Gate(_running_loop().create_future())
    future.add_done_callback(gate.open)
    task = _note_waits(future) if _KEEPS_AWAITERS else None
    try:
        future.cancel()
        await gate._waiter
    finally:
        future.remove_done_callback(gate.open)
        if _KEEPS_AWAITERS:
            AnyFuture.drop_awaiter(future, task)


def _note_waits(future: Any) -> Any:
    """Tell `future` that the current task waits for it; gives the task."""
    task = asyncio.current_task()
    AnyFuture.note_awaiter(future, task)
    return task


# -------------------------------------------------------------------------------------------------------------- wait


class Countdown:
    """What `wait` waits for: opens its future when enough of the others are done."""

    __slots__ = ("_left", "_task", "_timer", "_waiter", "_when")

    def __init__(self, waiter: Any, left: int, when: str) -> None:
        self._waiter = waiter
        self._left = left
        self._when = when
        self._timer: Any = None
        # The task that waits, kept only where asyncio has call graphs.
        self._task: Any = None

    @property
    def _cur_task(self) -> Any:
        """The task that waits, for `awaiters`."""
        return self._task

    def time_is_over(self) -> None:
        """The callback of the timer."""
        if not self._waiter.done():
            self._waiter.set_result(None)

    def on_done(self, future: Any) -> None:
        """The callback of each future."""
        self._left -= 1
        if self._left <= 0 or self._is_enough(future):
            if self._timer is not None:
                self._timer.cancel()
            if not self._waiter.done():
                self._waiter.set_result(None)
        if _KEEPS_AWAITERS:
            AnyFuture.drop_awaiter(future, self._task)

    def _is_enough(self, future: Any) -> bool:
        if self._when == FIRST_COMPLETED:
            return True
        return self._when == FIRST_EXCEPTION and not future.cancelled() and future.exception() is not None


async def wait(
    fs: Iterable[_F], *, timeout: float | None = None, return_when: str = ALL_COMPLETED
) -> tuple[set[_F], set[_F]]:
    """Wait for futures; gives those that are done and those that are not, as two sets.

    `return_when` says for what: all, the first, or the first that failed (the constants of this module). `timeout`, in
    seconds, ends the wait without an error. Nothing is cancelled. ValueError for no futures at all, TypeError for
    coroutines. As CPython's `asyncio.wait`. Cost: one future, and one callback for each.
    """
    if isfuture(fs) or coroutines.iscoroutine(fs):
        raise TypeError(f"expect a list of futures, not {type(fs).__name__}")
    if not fs:
        raise ValueError("Set of Tasks/Futures is empty.")
    if return_when not in (FIRST_COMPLETED, FIRST_EXCEPTION, ALL_COMPLETED):
        raise ValueError(f"Invalid return_when value: {return_when}")
    awaited = set(fs)
    for future in awaited:
        if not isinstance(future, Future) and coroutines.iscoroutine(future):
            raise TypeError("Passing coroutines is forbidden, use tasks explicitly.")
    assert awaited, "Set of Futures is empty."
    loop = _running_loop()
    countdown = Countdown(loop.create_future(), len(awaited), return_when)
    if timeout is not None:
        countdown._timer = loop.call_later(timeout, countdown.time_is_over)
    on_done = countdown.on_done
    if _KEEPS_AWAITERS:
        countdown._task = asyncio.current_task()
    for future in awaited:
        future.add_done_callback(on_done)
        if _KEEPS_AWAITERS:
            AnyFuture.note_awaiter(future, countdown._task)
    try:
        await countdown._waiter
    finally:
        if countdown._timer is not None:
            countdown._timer.cancel()
        for future in awaited:
            future.remove_done_callback(on_done)
            if _KEEPS_AWAITERS:
                AnyFuture.drop_awaiter(future, countdown._task)
    done: set[_F] = set()
    pending: set[_F] = set()
    for future in awaited:
        (done if future.done() else pending).add(future)
    return done, pending


def _mark_coroutine_functions() -> None:
    """Say to `inspect.iscoroutinefunction` (3.12 and later) what it can't see in a compiled function."""
    mark: Any = getattr(inspect, "markcoroutinefunction", None)
    for function in (wait, wait_for):
        if mark is not None and not inspect.iscoroutinefunction(function):
            mark(function)


_mark_coroutine_functions()
