"""`sleep`: a turn of the loop, or a time.

Rules for whoever edits this file:

- A delay of zero is `Pause`: one object, no future, no timer. For a program it is a coroutine in every other way.
- Any other delay works on any loop: only asyncio's public methods are used.
- Where the versions of CPython differ, the running one is followed; the difference stands as a constant below.

All for the thread that runs the loop.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar, overload

_T = TypeVar("_T")

_REFUSES_NAN = sys.version_info >= (3, 13)

# Bound here once: a look-up in another module costs as much as the call.
_running_loop: Any = asyncio.get_running_loop


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


def _mark_coroutine_function() -> None:
    """Say to `inspect.iscoroutinefunction` (3.12 and later) what it can't see in a plain function."""
    mark: Any = getattr(inspect, "markcoroutinefunction", None)
    if mark is not None:
        mark(sleep)


_mark_coroutine_function()
