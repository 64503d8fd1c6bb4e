"""The hot methods of the loop, under asyncio's names: what `Loop` inherits and never forwards.

Each is thin: asyncio's checks, then the scheduler. Methods with `*args` cannot be typed, so the work is in
declared methods of `Scheduler` and `Task`. All but `call_soon_threadsafe` are for the thread that runs the loop.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

from weft._core.clock import Clock
from weft._core.future import Future
from weft._core.handle import Handle
from weft._core.origin import origin_of_caller
from weft._core.scheduler import Scheduler
from weft._core.task import Task
from weft._core.timers import TimerHandle

try:
    import cython
except ImportError:
    from weft import _cython as cython

#: From 3.14 on a task factory gets every keyword that create_task got; before, the loop sets the name itself.
_HANDS_ON = sys.version_info >= (3, 14)
_NOT_GIVEN: Any = object()


class LoopCore(Scheduler):
    """What every loop of Weft is made of. `Loop` adds asyncio's other methods."""

    __slots__ = ("_task_factory",)

    def __init__(self, poller: Any) -> None:
        Scheduler.__init__(self, poller)
        self._task_factory: Callable[..., Any] | None = None
        # Plain code is not told of a `time` that is set on the loop itself (`Loop.__setattr__`): there it is always asked.
        self._has_own_clock = not cython.compiled or type(self).time is not Scheduler.time

    # -- callbacks --

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> Handle:
        """Call `callback(*args)` in the next turn, in `context` or a copy of the present one."""
        if self._closed or self._debug:
            self._check_call(callback, "call_soon", True)
        return self._put_call(callback, args, context)

    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        """As `call_soon`, from any thread or a signal handler. Wakes a loop that waits; costs a system call only then."""
        if self._closed or self._debug:
            self._check_call(callback, "call_soon_threadsafe", False)
        return self._put_from_thread(callback, args, context)

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> TimerHandle:
        """Call `callback(*args)` in `delay` seconds. O(log n) of the live timers, and so is cancelling it."""
        if delay is None:
            raise TypeError("delay must not be None")
        if self._closed or self._debug:
            self._check_call(callback, "call_at", True)
        if self._has_own_clock:
            return self._put_timer(self.time() + delay, callback, args, context)
        return self._put_timer(Clock.now() + delay, callback, args, context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> TimerHandle:
        """Call `callback(*args)` when `loop.time()` reaches `when`, in seconds."""
        if when is None:
            raise TypeError("when cannot be None")
        if self._closed or self._debug:
            self._check_call(callback, "call_at", True)
        return self._put_timer(when, callback, args, context)

    def _check_call(self, callback: Any, method: str, is_own_thread: bool) -> None:
        """What asyncio checks before it schedules: the loop is open; in debug mode, the thread and the callback."""
        self._check_closed()
        if self._debug:
            if is_own_thread:
                self._check_thread()
            self._check_callback(callback, method)

    def _check_callback(self, callback: Any, method: str) -> None:
        """Refuse a coroutine, or what can't be called, where a callback is wanted."""
        if inspect.iscoroutine(callback) or inspect.iscoroutinefunction(callback):
            raise TypeError(f"coroutines cannot be used with {method}()")
        if not callable(callback):
            raise TypeError(f"a callable object was expected by {method}(), got {callback!r}")

    def _remember_origin(self, handle: Handle) -> None:
        handle._source_traceback = origin_of_caller()

    # -- futures and tasks --

    def create_future(self) -> Future:
        """A future of this loop."""
        future = Future.__new__(Future)
        future._prepare(self)
        return future

    def create_task(
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        name: object = _NOT_GIVEN,
        context: Context | None = _NOT_GIVEN,
        eager_start: bool | None = _NOT_GIVEN,
        **options: Any,
    ) -> Any:
        """A task for `coro`, made by the task factory if one is set; its first step runs in the next turn.

        `eager_start=True` runs the first step at once. On every version, though asyncio takes it from 3.14 on.
        """
        if self._closed:
            self._check_closed()
        if self._task_factory is not None or options:
            return self._create_by_factory(coro, name, context, eager_start, options)
        if name is _NOT_GIVEN:
            name = None
        if context is _NOT_GIVEN:
            context = None
        return self._make_task(coro, name, context, eager_start is not _NOT_GIVEN and bool(eager_start))

    def _make_task(self, coro: Any, name: Any, context: Any, eager_start: bool) -> Task:
        task = Task.__new__(Task)
        task._prepare(self)
        task._start(coro, name, context, eager_start)
        return task

    def _create_by_factory(self, coro: Any, name: Any, context: Any, eager_start: Any, options: dict[str, Any]) -> Any:
        factory = self._task_factory
        if _HANDS_ON:
            # Whatever was given, None too.
            if name is not _NOT_GIVEN:
                options["name"] = name
            if context is not _NOT_GIVEN:
                options["context"] = context
            if eager_start is not _NOT_GIVEN:
                options["eager_start"] = eager_start
            if factory is None:
                # Task itself says which keyword it does not know.
                return Task(coro, loop=self, **options)
            return factory(self, coro, **options)
        if name is _NOT_GIVEN:
            name = None
        if context is not _NOT_GIVEN and context is not None:
            options["context"] = context
        if eager_start is not _NOT_GIVEN and eager_start is not None:
            options["eager_start"] = eager_start
        if factory is None:
            return Task(coro, loop=self, name=name, **options)
        task = factory(self, coro, **options)
        if name is not None:
            task.set_name(name)
        return task

    def set_task_factory(self, factory: Callable[..., Any] | None) -> None:
        """Let `factory(loop, coro, **options)` make the tasks; None for the default."""
        if factory is not None and not callable(factory):
            raise TypeError("task factory must be a callable or None")
        self._task_factory = factory

    def get_task_factory(self) -> Callable[..., Any] | None:
        """The task factory, or None for the default."""
        return self._task_factory

    def _tasks(self) -> list[Any]:
        """The tasks of this loop that are not done: a copy. Any thread."""
        return list(self._live)

    # -- state --

    def stop(self) -> None:
        """Let the loop stop at the end of this turn."""
        self._stopping = True

    def is_running(self) -> bool:
        """Whether the loop runs now."""
        return self._thread_id != 0

    def is_closed(self) -> bool:
        """Whether the loop was closed."""
        return self._closed

    def get_debug(self) -> bool:
        """Whether debug mode is on."""
        return self._debug
