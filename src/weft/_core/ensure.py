"""Futures of any make, seen from outside: `create_task`, `ensure_future`, the loop of a future, and who waits for it.

Rules for whoever edits this file:

- It works on any loop and with any future: only asyncio's own methods are used.
- From 3.14 on a future knows who waits for it (`asyncio.print_call_graph`). Every function of this room that waits says so
  by `note_awaiter`, and takes it back by `drop_awaiter`; on older versions nobody calls these two.

All for the thread that runs the loop.
"""

from __future__ import annotations

import asyncio
import inspect
from asyncio import coroutines, events, futures
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar, overload

from weft._core.awaitable import wrap_awaitable
from weft._core.future import Future, isfuture

if TYPE_CHECKING:
    from contextvars import Context
    from typing import TypedDict, Unpack

    class TaskOptions(TypedDict, total=False):
        """What `create_task` takes."""

        name: str | None
        context: Context | None
        eager_start: bool | None


_T = TypeVar("_T")
_F = TypeVar("_F", bound="asyncio.Future[Any] | Future")

_add_awaited_by: Any = getattr(futures, "future_add_to_awaited_by", None)
_discard_awaited_by: Any = getattr(futures, "future_discard_from_awaited_by", None)

_running_loop: Any = asyncio.get_running_loop
# 3.11 has a variant that warns at the right depth when there is no running loop.
_find_loop: Callable[[], Any] = getattr(events, "_get_event_loop", events.get_event_loop)


class AnyFuture:
    """Static functions only, so that both editions can import them under one name."""

    __slots__ = ()

    @staticmethod
    def ensure(awaitable: Any, loop: Any) -> Any:
        """What `ensure_future` gives; None is the running loop."""
        if isfuture(awaitable):
            if loop is not None and loop is not AnyFuture.loop_of(awaitable):
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

    @staticmethod
    def loop_of(future: Any) -> Any:
        """The loop of any future; old ones have no `get_loop`."""
        try:
            get_loop = future.get_loop
        except AttributeError:
            return future._loop
        return get_loop()

    @staticmethod
    def keeps_awaiters() -> bool:
        """Whether this version of asyncio has call graphs: without them the next two must not be called."""
        return _add_awaited_by is not None

    @staticmethod
    def note_awaiter(future: Any, task: Any) -> None:
        """Tell `future` that `task` waits for it."""
        _add_awaited_by(future, task)

    @staticmethod
    def drop_awaiter(future: Any, task: Any) -> None:
        """Tell `future` that `task` does not wait for it any more."""
        _discard_awaited_by(future, task)


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
    return AnyFuture.ensure(coro_or_future, loop)


def create_task(coro: Coroutine[Any, Any, _T], **options: Unpack[TaskOptions]) -> asyncio.Task[_T]:
    """A task for `coro`, made by the running loop's `create_task`, with `name`, `context`, `eager_start` as given.

    As CPython 3.14 `asyncio.create_task`, on every version; another loop than Weft's may know fewer keywords.
    """
    task: asyncio.Task[_T] = _running_loop().create_task(coro, **options)
    return task
