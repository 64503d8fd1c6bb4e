"""`shield`: a future that its waiter may cancel while the work goes on.

Rules for whoever edits this file:

- It works on any loop and with any future: only asyncio's public methods are used, and what asyncio itself puts off to
  a later turn is put off here too. Programs see in which turn they go on.
- The end goes from the inner future to the outer one, and never a cancellation the other way. A cancelled outer future
  leaves no callback on the inner one.
- Where the versions of CPython differ, the running one is followed; the difference stands as a constant below.
- Callbacks are bound methods, not closures: `remove_done_callback` finds them again by equality.

All for the thread that runs the loop.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable
from typing import Any, TypeVar

from weft._core.ensure import AnyFuture

_T = TypeVar("_T")

# Up to 3.13 an exception in a shielded future counts as retrieved when the outer future was cancelled before.
_SHIELD_RETRIEVES = sys.version_info < (3, 14)
# Whether futures know who waits for them.
_KEEPS_AWAITERS = AnyFuture.keeps_awaiters()


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
            AnyFuture.drop_awaiter(inner, self._task)
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
                AnyFuture.drop_awaiter(self._inner, self._task)


def shield(arg: Awaitable[_T]) -> asyncio.Future[_T]:
    """A future that ends as `arg` does, and whose cancellation does not reach `arg`.

    A coroutine becomes a task, to which the caller should hold a reference on a loop that is not Weft's. What is done
    already is given back itself. As CPython's `asyncio.shield`. Cost: one future and two callbacks.
    """
    return _shield(arg)  # type: ignore[no-any-return]


def _shield(awaitable: Any) -> Any:
    inner = AnyFuture.ensure(awaitable, None)
    if inner.done():
        return inner
    loop = AnyFuture.loop_of(inner)
    outer = loop.create_future()
    guard = Shield(inner, outer)
    if _KEEPS_AWAITERS:
        guard._task = asyncio.current_task(loop)
        if guard._task is not None:
            AnyFuture.note_awaiter(inner, guard._task)
    inner.add_done_callback(guard.on_inner_done)
    outer.add_done_callback(guard.on_outer_done)
    return outer
