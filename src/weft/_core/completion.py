"""`as_completed`: futures in the order in which they are done.

Rules for whoever edits this file:

- It works on any loop and with any future: only asyncio's public methods are used, and what asyncio itself puts off to
  a later turn is put off here too. Programs see in which turn they go on.
- Where the versions of CPython differ, the running one is followed; the differences stand as constants below.
- Callbacks are bound methods, not closures: `remove_done_callback` finds them again by equality.

All for the thread that runs the loop.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from asyncio import coroutines, events
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from weft._core.ensure import AnyFuture
from weft._core.future import isfuture

_T = TypeVar("_T")

# Up to 3.12 as_completed is a generator: it looks at its arguments when the first result is asked for.
_STARTS_LATE = sys.version_info < (3, 13)
# Whether a cancelled wait for the next result leaves that result to be asked for again: a bug fix in some of 3.13.
_GIVES_BACK = not _STARTS_LATE and "_todo_left" in asyncio.tasks._AsCompletedIterator._wait_for_one.__code__.co_names  # type: ignore[attr-defined]
# Whether futures know who waits for them.
_KEEPS_AWAITERS = AnyFuture.keeps_awaiters()

# 3.11 has a variant that warns at the right depth when there is no running loop.
_find_loop: Callable[[], Any] = getattr(events, "_get_event_loop", events.get_event_loop)


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
        if _KEEPS_AWAITERS:
            self._task = asyncio.current_task()
        todo = {AnyFuture.ensure(one, loop) for one in set(awaitables)}
        self._todo = todo
        self._due = len(todo)
        on_done = self.on_done
        for future in todo:
            future.add_done_callback(on_done)
            if _KEEPS_AWAITERS:
                AnyFuture.note_awaiter(future, self._task)
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
        if _KEEPS_AWAITERS:
            AnyFuture.drop_awaiter(future, self._task)
        self._put(future)
        if not self._todo and self._timer is not None:
            self._timer.cancel()

    def time_is_over(self) -> None:
        """The callback of the timer."""
        on_done = self.on_done
        for future in self._todo:
            future.remove_done_callback(on_done)
            if _KEEPS_AWAITERS:
                AnyFuture.drop_awaiter(future, self._task)
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
