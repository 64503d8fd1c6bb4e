"""Waiting for futures and for time: wait, wait_for, as_completed, shield, sleep, ensure_future.

Rules for whoever edits this file:

- It works on any loop and with any future: only asyncio's public methods are used, and what asyncio itself puts off to
  a later turn is put off here too. Programs see in which turn they go on.
- Where the versions of CPython differ, the running one is followed; the differences stand as constants below.
- Callbacks are bound methods of small classes, not closures: their fields are typed when compiled, and
  `remove_done_callback` finds them again by equality.
- From 3.14 on a future knows who waits for it (`asyncio.print_call_graph`); `_Edges` tells it so.

All for the thread that runs the loop.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import sys
from asyncio import coroutines, events, futures
from asyncio.exceptions import CancelledError
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar, overload

from weft._core.awaitable import wrap_awaitable
from weft._core.future import Future, isfuture
from weft._core.timeouts import Timeout

_T = TypeVar("_T")
_F = TypeVar("_F", bound="asyncio.Future[Any] | Future")

FIRST_COMPLETED = asyncio.FIRST_COMPLETED
FIRST_EXCEPTION = asyncio.FIRST_EXCEPTION
ALL_COMPLETED = asyncio.ALL_COMPLETED

# 3.11 runs a coroutine given to wait_for as a task of its own.
_WAITS_BY_TASK = sys.version_info < (3, 12)
_REFUSES_NAN = sys.version_info >= (3, 13)
# Up to 3.13 an exception in a shielded future counts as retrieved when the outer future was cancelled before.
_SHIELD_RETRIEVES = sys.version_info < (3, 14)
# Up to 3.12 as_completed is a generator: it looks at its arguments when the first result is asked for.
_STARTS_LATE = sys.version_info < (3, 13)
# Whether a cancelled wait for the next result leaves that result to be asked for again: a bug fix in some of 3.13.
_GIVES_BACK = not _STARTS_LATE and "_todo_left" in asyncio.tasks._AsCompletedIterator._wait_for_one.__code__.co_names  # type: ignore[attr-defined]

_add_awaited_by: Any = getattr(futures, "future_add_to_awaited_by", None)
_discard_awaited_by: Any = getattr(futures, "future_discard_from_awaited_by", None)
_KEEPS_EDGES = _add_awaited_by is not None

# Bound here once: a look-up in another module costs as much as the call.
_running_loop: Any = asyncio.get_running_loop
# 3.11 has a variant that warns at the right depth when there is no running loop.
_find_loop: Callable[[], Any] = getattr(events, "_get_event_loop", events.get_event_loop)


# ----------------------------------------------------------------------------------------------------- ensure_future


if TYPE_CHECKING:

    @overload
    def ensure_future(coro_or_future: _F, *, loop: asyncio.AbstractEventLoop | None = None) -> _F: ...  # type: ignore[overload-overlap]
    @overload
    def ensure_future(
        coro_or_future: Awaitable[_T], *, loop: asyncio.AbstractEventLoop | None = None
    ) -> asyncio.Task[_T]: ...


def ensure_future(coro_or_future: Any, *, loop: Any = None) -> Any:
    """The future itself, or a task for a coroutine or another awaitable, made by `loop.create_task`.

    `loop` is the running loop by default. TypeError for what can't be awaited, ValueError for a future of another loop.
    As CPython's `asyncio.ensure_future`.
    """
    return _ensure(coro_or_future, loop)


def _ensure(awaitable: Any, loop: Any) -> Any:
    if isfuture(awaitable):
        if loop is not None and loop is not _loop_of(awaitable):
            raise ValueError("The future belongs to a different loop than the one specified as the loop argument")
        return awaitable
    coro = awaitable
    if not coroutines.iscoroutine(awaitable):
        if not inspect.isawaitable(awaitable):
            raise TypeError("An asyncio.Future, a coroutine or an awaitable is required")
        coro = wrap_awaitable(awaitable)
    if loop is None:
        loop = _find_loop()
    try:
        return loop.create_task(coro)
    except RuntimeError:
        # The loop is closed. A wrapper is left alone: its "never awaited" is all that tells of the awaitable.
        if coro is awaitable:
            coro.close()
        raise


def _loop_of(future: Any) -> Any:
    """The loop of any future; old ones have no `get_loop`."""
    try:
        get_loop = future.get_loop
    except AttributeError:
        return future._loop
    return get_loop()


# ------------------------------------------------------------------------------------------------------------- sleep


class Pause:
    """The coroutine of `sleep(0)`: one bare yield, which the task that runs it takes as "in the next turn".

    Not an `async def`, because this is the smallest thing that a program awaits: one object instead of three.
    """

    __slots__ = ("_result", "_stage")

    def __init__(self, result: Any) -> None:
        self._result = result
        # 0 not begun, 1 has yielded, 2 over.
        self._stage = 0

    def __await__(self) -> Pause:
        if self._stage == 1:
            raise RuntimeError("coroutine is being awaited already")
        return self

    def __iter__(self) -> Pause:
        return self

    def __next__(self) -> None:
        if self._stage == 0:
            self._stage = 1
            return
        if self._stage == 2:
            raise RuntimeError("cannot reuse already awaited coroutine")
        self._stage = 2
        if self._result is None:
            raise StopIteration
        raise StopIteration(self._result)

    def send(self, value: Any) -> None:
        """A coroutine's `send`."""
        if self._stage == 0 and value is not None:
            raise TypeError("can't send non-None value to a just-started coroutine")
        return self.__next__()

    def throw(self, typ: Any, val: Any = None, tb: Any = None) -> None:
        """A coroutine's `throw`: nothing here catches it."""
        if self._stage == 2:
            raise RuntimeError("cannot reuse already awaited coroutine")
        self._stage = 2
        error = typ if val is None else val
        if not isinstance(error, BaseException):
            error = typ() if val is None else typ(val)
        try:
            raise error if tb is None else error.with_traceback(tb)
        finally:
            # The traceback holds this frame, which must not hold the exception.
            typ = val = tb = error = None

    def close(self) -> None:
        """A coroutine's `close`."""
        self._stage = 2

    def __del__(self) -> None:
        if self._stage == 0:
            _warn_never_awaited(self)

    def __repr__(self) -> str:
        return f"<coroutine object sleep at {id(self):#x}>"

    def __getattr__(self, name: str) -> str:
        # By name, as a C type's own `__name__` can't be redefined.
        if name == "__name__" or name == "__qualname__":
            return "sleep"
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def cr_running(self) -> bool:
        """Never: it has no code that could look."""
        return False


def _warn_never_awaited(coro: Any) -> None:
    import warnings

    warnings.warn("coroutine 'sleep' was never awaited", RuntimeWarning, stacklevel=2, source=coro)


def _pause(result: Any) -> Pause:
    pause = Pause.__new__(Pause)
    pause._stage = 0
    pause._result = result
    return pause


if TYPE_CHECKING:

    @overload
    def sleep(delay: float) -> Coroutine[Any, Any, None]: ...
    @overload
    def sleep(delay: float, result: _T) -> Coroutine[Any, Any, _T]: ...


def sleep(delay: float, result: Any = None) -> Any:
    """A coroutine that gives `result` after `delay` seconds; zero and less: in the next turn of the loop.

    Cost: nothing but itself for zero; otherwise one future and one timer. As CPython's `asyncio.sleep`; differs: on
    every version what it gives for a delay of zero is a coroutine to asyncio, but no `types.CoroutineType`.
    """
    if (type(delay) is int or type(delay) is float) and delay <= 0:
        return _pause(result)
    return _sleep(delay, result)


async def _sleep(delay: Any, result: Any) -> Any:
    if delay <= 0:
        await _pause(None)
        return result
    if _REFUSES_NAN and math.isnan(delay):
        raise ValueError("Invalid delay: NaN (not a number)")
    loop = _running_loop()
    future = loop.create_future()
    timer = loop.call_later(delay, _end_sleep, future, result)
    try:
        return await future
    finally:
        timer.cancel()


def _end_sleep(future: Any, result: Any) -> None:
    if not future.done():
        future.set_result(result)


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
    future = _ensure(awaitable, None)
    if not future.done():
        await _cancel_and_wait(future)
        return _result_in_time(future)
    return future.result()


async def _wait_by_task(awaitable: Any, timeout: float) -> Any:
    """wait_for as Python 3.11 does it: a coroutine becomes a task, and this waits beside it."""
    loop = _running_loop()
    gate = Gate(loop.create_future())
    timer = loop.call_later(timeout, gate.open)
    future = _ensure(awaitable, loop)
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
    task = _note_waits(future) if _KEEPS_EDGES else None
    try:
        future.cancel()
        await gate._waiter
    finally:
        future.remove_done_callback(gate.open)
        if _KEEPS_EDGES:
            _discard_awaited_by(future, task)


def _note_waits(future: Any) -> Any:
    """Tell `future` that the current task waits for it; gives the task."""
    task = asyncio.current_task()
    _add_awaited_by(future, task)
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
        if _KEEPS_EDGES:
            _discard_awaited_by(future, self._task)

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
    if _KEEPS_EDGES:
        countdown._task = asyncio.current_task()
    for future in awaited:
        future.add_done_callback(on_done)
        if _KEEPS_EDGES:
            _add_awaited_by(future, countdown._task)
    try:
        await countdown._waiter
    finally:
        if countdown._timer is not None:
            countdown._timer.cancel()
        for future in awaited:
            future.remove_done_callback(on_done)
            if _KEEPS_EDGES:
                _discard_awaited_by(future, countdown._task)
    done: set[_F] = set()
    pending: set[_F] = set()
    for future in awaited:
        (done if future.done() else pending).add(future)
    return done, pending


# ------------------------------------------------------------------------------------------------------ as_completed


class Completions:
    """What `as_completed` gives: hands out the futures in the order in which they are done.

    As many results are due as futures were given. `_done` holds what is done and not handed out yet, None in place of
    each that the timeout cut off; `_getters` are the futures of those who wait for one, first come, first served.
    """

    __slots__ = (
        "_awaitables",
        "_done",
        "_due",
        "_getters",
        "_is_started",
        "_loop",
        "_task",
        "_timeout",
        "_timer",
        "_todo",
    )

    def __init__(self, awaitables: Any, timeout: float | None) -> None:
        self._awaitables = awaitables
        self._timeout = timeout
        self._is_started = False
        self._due = 0
        self._loop: Any = None
        self._done: deque[Any] = deque()
        self._getters: deque[Any] = deque()
        self._task: Any = None
        self._timer: Any = None
        self._todo: set[Any] = set()
        if not _STARTS_LATE:
            self._start()

    def _start(self) -> None:
        self._is_started = True
        awaitables = self._awaitables
        self._awaitables = None
        if _STARTS_LATE:
            if isfuture(awaitables) or coroutines.iscoroutine(awaitables):
                raise TypeError(f"expect an iterable of futures, not {type(awaitables).__name__}")
        elif inspect.isawaitable(awaitables):
            raise TypeError(f"expects an iterable of awaitables, not {type(awaitables).__name__}")
        loop = self._loop = _find_loop()
        if _KEEPS_EDGES:
            self._task = asyncio.current_task()
        todo = {_ensure(one, loop) for one in set(awaitables)}
        self._todo = todo
        self._due = len(todo)
        on_done = self.on_done
        for future in todo:
            future.add_done_callback(on_done)
            if _KEEPS_EDGES:
                _add_awaited_by(future, self._task)
        if todo and self._timeout is not None:
            self._timer = loop.call_later(self._timeout, self.time_is_over)

    @property
    def _cur_task(self) -> Any:
        """The task that waits, for `awaiters`."""
        return self._task

    def on_done(self, future: Any) -> None:
        """The callback of each future."""
        if future not in self._todo:
            # The time was over first.
            return
        self._todo.remove(future)
        if _KEEPS_EDGES:
            _discard_awaited_by(future, self._task)
        self._put(future)
        if not self._todo and self._timer is not None:
            self._timer.cancel()

    def time_is_over(self) -> None:
        """The callback of the timer."""
        on_done = self.on_done
        for future in self._todo:
            future.remove_done_callback(on_done)
            if _KEEPS_EDGES:
                _discard_awaited_by(future, self._task)
            self._put(None)
        self._todo.clear()

    def _put(self, future: Any) -> None:
        self._done.append(future)
        self._wake_one()

    def _wake_one(self) -> None:
        getters = self._getters
        while getters:
            getter = getters.popleft()
            if not getter.done():
                getter.set_result(None)
                return

    def __aiter__(self) -> Completions:
        return self

    def __iter__(self) -> Completions:
        return self

    async def __anext__(self) -> Any:
        if not self._is_started:
            self._start()
        if not self._due:
            raise StopAsyncIteration
        self._due -= 1
        return await self._next()

    def __next__(self) -> Coroutine[Any, Any, Any]:
        if not self._is_started:
            self._start()
        if not self._due:
            raise StopIteration
        self._due -= 1
        return self._wait_for_one()

    async def _wait_for_one(self) -> Any:
        future = await self._next()
        return future.result()

    async def _next(self) -> Any:
        """The next future that is done; TimeoutError when the time was over before."""
        while not self._done:
            getter = self._loop.create_future()
            self._getters.append(getter)
            try:
                await getter
            except BaseException:
                getter.cancel()
                if getter in self._getters:
                    self._getters.remove(getter)
                elif self._done and not getter.cancelled():
                    # Woken for a future, and cancelled before taking it: that one is the next one's.
                    self._wake_one()
                if _GIVES_BACK:
                    self._due += 1
                raise
        future = self._done.popleft()
        if future is None:
            raise TimeoutError
        return future


if TYPE_CHECKING:

    class _Completions(Iterator[Coroutine[Any, Any, _T]], AsyncIterator["asyncio.Future[_T]"]):
        """The typed face of `Completions`."""


def as_completed(fs: Iterable[Awaitable[_T]], *, timeout: float | None = None) -> _Completions[_T]:
    """Hand out what is done first, first: to be iterated by `for` or by `async for`, on every version.

    `for` gives coroutines, each of which gives the next result or raises the next exception; `async for` gives the
    futures themselves, done, and for what was no future the task made for it. When `timeout` seconds are over, what is
    left raises TimeoutError; nothing is cancelled. As CPython's `asyncio.as_completed`; up to Python 3.12 the tasks are
    made when the first result is asked for.
    """
    return Completions(fs, timeout)  # type: ignore[return-value]


# ------------------------------------------------------------------------------------------------------------ shield


class Shield:
    """Takes the end of the inner future to the outer one, and never a cancellation the other way."""

    __slots__ = ("_inner", "_outer", "_task")

    def __init__(self, inner: Any, outer: Any) -> None:
        self._inner = inner
        self._outer = outer
        self._task: Any = None

    @property
    def _cur_task(self) -> Any:
        """The task that waits, for `awaiters`; nobody does any more when the outer future is done."""
        return None if self._outer.done() else self._task

    def on_inner_done(self, inner: Any) -> None:
        """The callback of the inner future."""
        if self._task is not None:
            _discard_awaited_by(inner, self._task)
        outer = self._outer
        if outer.cancelled():
            if _SHIELD_RETRIEVES and not inner.cancelled():
                inner.exception()
            return
        if inner.cancelled():
            outer.cancel()
            return
        error = inner.exception()
        if error is not None:
            outer.set_exception(error)
        else:
            outer.set_result(inner.result())

    def on_outer_done(self, outer: Any) -> None:
        """The callback of the outer future, which may have been cancelled."""
        if not self._inner.done():
            self._inner.remove_done_callback(self.on_inner_done)
            if self._task is not None:
                _discard_awaited_by(self._inner, self._task)


def shield(arg: Awaitable[_T]) -> asyncio.Future[_T]:
    """A future that ends as `arg` does, and whose cancellation does not reach `arg`.

    A coroutine becomes a task, to which the caller should hold a reference on a loop that is not Weft's. What is done
    already is given back itself. As CPython's `asyncio.shield`. Cost: one future and two callbacks.
    """
    return _shield(arg)  # type: ignore[no-any-return]


def _shield(awaitable: Any) -> Any:
    inner = _ensure(awaitable, None)
    if inner.done():
        return inner
    loop = _loop_of(inner)
    outer = loop.create_future()
    guard = Shield(inner, outer)
    if _KEEPS_EDGES:
        guard._task = asyncio.current_task(loop)
        if guard._task is not None:
            _add_awaited_by(inner, guard._task)
    inner.add_done_callback(guard.on_inner_done)
    outer.add_done_callback(guard.on_outer_done)
    return outer


def _mark_coroutine_functions() -> None:
    """Say to `inspect.iscoroutinefunction` (3.12 and later) what it can't see in a compiled function, or in `sleep`."""
    mark: Any = getattr(inspect, "markcoroutinefunction", None)
    for function in (sleep, wait, wait_for):
        if mark is not None and not inspect.iscoroutinefunction(function):
            mark(function)


_mark_coroutine_functions()
