"""`Task`: drives a coroutine, one step a turn, until it returns, raises or is cancelled.

A step sends None into the coroutine (or throws an exception into it) and looks at what comes out:

    yielded None              run again in the next turn
    yielded a pending future  wait: the future's end queues the next step (`_fut_waiter` names the future until then)
    yielded anything else     an error, thrown into the coroutine by the next step
    returned, raised          the task is done

Rules for whoever edits this file:

- On Weft's loop the task itself is what lies in the ready queue, and it listens to a future of Weft's own without a
  callback object: `_run` looks at `_fut_waiter` to know how the wait ended. On any other loop, and for any other future,
  steps are callbacks as in asyncio. `_step` is the same for both: it gets the context to enter, or None when it is in it.
- Between `_fut_waiter`'s end and the step that follows, `_fut_waiter` stays set: `cancel` finds it done and
  falls back to `_must_cancel`, which the step turns into the exception. Only `_step` clears it.
- Weft's loop keeps a task alive in `_live` until it is done. On another loop asyncio's weak registry holds.
- A task must not be kept alive by its own exception, whose traceback holds the frames from `_step` outwards: whatever
  may be among them drops its names before it returns (for an eager task also those that make it). Compiled functions
  leave no frame with names; the hot ones ask, since to set `self` costs them references and checks.

All for the thread that runs the loop.
"""

from __future__ import annotations

import asyncio
import inspect
import reprlib
import sys
from asyncio import base_futures, base_tasks, coroutines
from asyncio.exceptions import CancelledError, InvalidStateError
from collections.abc import Callable, Coroutine
from contextvars import Context
from types import CoroutineType
from typing import Any

from weft._core.current import CurrentTask
from weft._core.future import Future
from weft._core.signature import ClassSignature
from weft._native.drive import Drive, Raised, Returned

try:
    import cython
except ImportError:
    from weft import _cython as cython

_UNCANCEL_FORGETS = sys.version_info >= (3, 13)
_CHECKS_CONTEXT = sys.version_info >= (3, 15)

_missing = object()

_register_task: Callable[[Any], None] = asyncio._register_task
_unregister_task: Callable[[Any], None] = asyncio._unregister_task


#: Longer than any chain of tasks that await each other, unless it is a circle.
_LONGEST_CHAIN = 1_000_000

_made = 0


class Numbers:
    """The numbers of tasks without a name. Two threads of the plain edition may get the same one: it is for people."""

    __slots__ = ()

    @staticmethod
    def next() -> int:
        """1, 2, 3, ..."""
        global _made
        _made += 1
        return _made


class Task(Future):
    """asyncio's Task, and an instance of it: a coroutine that runs by itself.

    `coro` is anything `asyncio.iscoroutine` accepts: native, `@types.coroutine`, compiled. `eager_start` runs the first
    step at once if the loop runs; otherwise it is queued for the next turn. Not thread-safe. Cost on Weft's loop: the
    task, its context, and no other object.
    """

    __slots__ = (
        "_context",
        "_coro",
        "_fut_waiter",
        "_log_destroy_pending",
        "_must_cancel",
        "_name",
        "_num_cancels_requested",
        "_number",
    )
    __signature__: Any = ClassSignature(lambda coro, *, loop=None, name=None, context=None, eager_start=False: None)

    def __init__(
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        loop: Any = None,
        name: object = None,
        context: Context | None = None,
        eager_start: bool = False,
    ) -> None:
        Future.__init__(self, loop=loop)
        self._start(coro, name, context, eager_start)
        self = None  # type: ignore[assignment]

    def _start(self, coro: Any, name: Any, context: Any, eager_start: bool) -> None:
        """The rest of `__init__`, once the fields of Future are set."""
        self._fuses = type(self) is Task
        self._fut_waiter: Any = None
        self._must_cancel = False
        self._num_cancels_requested = 0
        self._coro = coro
        self._context = context
        # Off until the task is sure to run: one that was refused leaves no report.
        self._log_destroy_pending = False
        self._name = name
        self._number = 0
        if type(coro) is not CoroutineType and not coroutines.iscoroutine(coro):
            raise TypeError(f"a coroutine was expected, got {coro!r}")
        if name is None:
            self._number = Numbers.next()
        elif type(name) is not str:
            self._name = str(name)
        if context is None:
            self._context = Drive.copy_context()
        elif _CHECKS_CONTEXT and not isinstance(context, Context):
            raise TypeError(f"a contextvars.Context was expected, got {type(context).__name__}")
        scheduler = self._scheduler
        if eager_start and self._loop.is_running():
            self._start_eagerly()
        elif scheduler is None:
            self._log_destroy_pending = True
            self._loop.call_soon(self._step_now, context=self._context)
            _register_task(self)
        else:
            self._is_step = True
            scheduler._put(self)
            scheduler._counters.tasks += 1
            scheduler._live.add(self)
            if scheduler._registers_tasks:
                _register_task(self)
        self._log_destroy_pending = True
        if not cython.compiled:
            self = None  # type: ignore[assignment]

    def _start_eagerly(self) -> None:
        """Run the first step now, as the current task, in place of whichever task creates this one."""
        scheduler = self._scheduler
        loop = self._loop
        previous = CurrentTask.swap(loop, self)
        creator = None
        if scheduler is not None:
            self._is_step = True
            creator = scheduler._current
            scheduler._current = self
            scheduler._counters.tasks += 1
            scheduler._live.add(self)
            if scheduler._registers_tasks:
                _register_task(self)
        else:
            _register_task(self)
        try:
            # A context that is entered already can't be entered: that error is the creator's, not the task's.
            Drive.call(self._context, self._step_eagerly, ())
        except BaseException:
            if self._status == 0:
                self._end()
            raise
        finally:
            CurrentTask.swap(loop, previous)
            if scheduler is not None:
                scheduler._current = creator
            if self._status != 0:
                self._coro = None
                if scheduler is None:
                    _unregister_task(self)
            self = None  # type: ignore[assignment]

    def _step_eagerly(self) -> None:
        try:
            self._step(None, None)
        finally:
            self = None  # type: ignore[assignment]

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """asyncio's class, so that `isinstance(task, asyncio.Task)` holds; `type(task)` tells the truth."""
        return asyncio.Task

    def __del__(self) -> None:
        if self._status == 0 and self._log_destroy_pending:
            context: dict[str, Any] = {"task": self, "message": "Task was destroyed but it is pending!"}
            if self._source_traceback:
                context["source_traceback"] = self._source_traceback
            self._loop.call_exception_handler(context)
        if self._is_unseen:
            self._report_unseen()

    def __repr__(self) -> str:
        return _task_repr(self)

    # -- asking --

    def get_coro(self) -> Any:
        """The coroutine; None if it ended in its eager first step."""
        return self._coro

    def get_context(self) -> Context:
        """The context in which it runs."""
        return self._context  # type: ignore[no-any-return]

    def get_name(self) -> str:
        """Its name: what was given, or "Task-" and a number."""
        if self._name is None:
            self._name = f"Task-{self._number}"
        return self._name  # type: ignore[no-any-return]

    def set_name(self, value: object) -> None:
        """Give it a name: the `str` of any object."""
        self._name = str(value)

    def get_stack(self, *, limit: int | None = None) -> list[Any]:
        """The frames where it waits, oldest first; those of the exception if it failed; none if it ended otherwise."""
        return base_tasks._task_get_stack(self, limit)  # type: ignore[arg-type]

    def print_stack(self, *, limit: int | None = None, file: Any = None) -> None:
        """Print `get_stack` as a traceback, to `file` or stderr."""
        base_tasks._task_print_stack(self, limit, file)  # type: ignore[arg-type]

    def set_result(self, result: Any) -> None:
        """Refused: the coroutine ends a task."""
        raise RuntimeError("Task does not support set_result operation")

    def set_exception(self, exception: Any) -> None:
        """Refused: the coroutine ends a task."""
        raise RuntimeError("Task does not support set_exception operation")

    # -- cancelling --

    def cancel(self, msg: Any = None) -> bool:
        """Ask it to end: CancelledError is thrown where it waits, as soon as it runs. False if it is done already.

        The coroutine may catch that and go on. Each call counts one request, see `cancelling`.
        """
        self._is_unseen = False
        if self._status != 0:
            return False
        self._request_cancel(msg)
        return True

    def _request_cancel(self, msg: Any) -> None:
        """Count the request, and pass it on to what the task waits for, down a chain of tasks of any length."""
        task = self
        hops = 0
        while True:
            task._num_cancels_requested += 1
            waiter = task._fut_waiter
            if type(waiter) is not Task:
                break
            awaited = waiter
            if awaited._status != 0:
                break
            # What `waiter.cancel()` would do. Not by recursion: C has no limit to stop at but the end of its stack.
            awaited._is_unseen = False
            task = awaited
            hops += 1
            if hops > _LONGEST_CHAIN:
                raise RecursionError(f"{self!r} waits for itself, through other tasks")
        # The waiter stays: it may be a task that survives its cancellation, and then has to be cancelled again.
        if waiter is not None and waiter.cancel(msg=msg):
            return
        # A step is queued, or runs right now.
        task._must_cancel = True
        task._message = msg

    def cancelling(self) -> int:
        """How many requests to cancel it are open."""
        return self._num_cancels_requested

    def uncancel(self) -> int:
        """Take one request back, for whoever made it; how many are left."""
        if self._num_cancels_requested > 0:
            self._num_cancels_requested -= 1
            if _UNCANCEL_FORGETS and self._num_cancels_requested == 0:
                self._must_cancel = False
        return self._num_cancels_requested

    # -- running --

    def _run(self) -> None:
        """The task's turn on Weft's loop: its first step, or the one after what it waited for."""
        if self._fut_waiter is not None:
            self._step(_seen_error_of(self._fut_waiter), self._context)
        elif self._status != 0 or self._must_cancel:
            self._step(None, self._context)
        else:
            # The commonest step, without the questions of the others.
            if self._scheduler._current is not self:  # type: ignore[union-attr]
                self._scheduler._enter(self)  # type: ignore[union-attr]
            outcome = Drive.send(self._context, self._coro)
            if outcome is None:
                self._scheduler._ready_queue.append(self)  # type: ignore[union-attr]
            else:
                self._take(outcome)
        if not cython.compiled:
            self = outcome = None  # type: ignore[assignment]

    def _on_done(self, future: Any) -> None:
        """The future of Weft's that it waits for is done: be queued."""
        scheduler = self._scheduler
        scheduler._put(self)  # type: ignore[union-attr]

    def _wakeup(self, future: Any) -> None:
        """The callback on any other future that it waits for. Runs inside the task's context."""
        error = None
        try:
            future.result()
        except BaseException as exc:
            error = exc
        # Not within the `except`: there the coroutine would find the error in `sys.exc_info()` after it has handled it.
        try:
            self._step_now(error)
        finally:
            # The traceback of the error has this frame.
            self = future = error = None  # type: ignore[assignment]

    def _step_now(self, exc: BaseException | None = None) -> None:
        """A step as a plain callback, which the loop has put into the task's context."""
        loop = self._loop
        if self._scheduler is None:
            asyncio._enter_task(loop, self)  # type: ignore[arg-type]
            try:
                self._step(exc, None)
            finally:
                asyncio._leave_task(loop, self)  # type: ignore[arg-type]
                self = None  # type: ignore[assignment]
        else:
            self._step(exc, None)
            self = None  # type: ignore[assignment]

    def _step(self, exc: Any, context: Any) -> None:
        """One step; `exc` is thrown into the coroutine if it is not None. `context` None: it is entered already."""
        if self._status != 0:
            raise InvalidStateError(f"__step(): already done: {self!r}, {exc!r}")
        if self._must_cancel:
            if not isinstance(exc, CancelledError):
                exc = self._cancelled_error()
            self._must_cancel = False
        self._fut_waiter = None
        scheduler = self._scheduler
        if scheduler is not None:
            scheduler._enter(self)
        if exc is None:
            outcome = Drive.send(context, self._coro)
        else:
            outcome = Drive.throw(context, self._coro, exc)
        if outcome is None:
            # A bare yield: run again in the next turn.
            if scheduler is not None:
                scheduler._ready_queue.append(self)
            else:
                self._loop.call_soon(self._step_now, context=self._context)
        else:
            self._take(outcome)
        if not cython.compiled:
            self = exc = outcome = None  # type: ignore[assignment]

    def _take(self, outcome: Any) -> None:
        """What a step came to, if it was not a bare yield."""
        if type(outcome) is Returned:
            returned = outcome
            self._end()
            if self._must_cancel:
                # Cancelled in its last step, from which it returned all the same.
                self._must_cancel = False
                self._finish_cancelled()
            else:
                self._finish_result(returned.value)
        elif type(outcome) is Raised:
            raised = outcome
            self._fail_with(raised.error)
        else:
            self._wait_for(outcome)
        if not cython.compiled:
            self = outcome = raised = None  # type: ignore[assignment]

    def _fail_with(self, error: BaseException) -> None:
        """The coroutine raised `error`."""
        self._end()
        if isinstance(error, CancelledError):
            # Kept, so that whoever awaits the task gets this very exception. It carries the message; those who come
            # later get one without, as in asyncio.
            self._cancelled_exc = error
            self._message = None
            self._finish_cancelled()
            return
        self._finish_exception(error)
        if isinstance(error, KeyboardInterrupt | SystemExit):
            # Somebody's decision to end the program: through the loop, to whoever runs it.
            raise error

    def _end(self) -> None:
        """The coroutine ended: nobody needs to keep the task alive any more."""
        if self._scheduler is not None:
            self._scheduler._live.discard(self)

    def _wait_for(self, yielded: Any) -> None:
        """The coroutine yielded something: wait for it, if that can be done."""
        if isinstance(yielded, Future) and self._wait_fused(yielded):
            return
        is_blocking = getattr(yielded, "_asyncio_future_blocking", _missing)
        if is_blocking is _missing or is_blocking is None:
            if inspect.isgenerator(yielded):
                self._fail(f"yield was used instead of yield from for generator in task {self!r} with {yielded!r}")
            else:
                self._fail(f"Task got bad yield: {yielded!r}")
        elif _loop_of(yielded) is not self._loop:
            self._fail(f"Task {self!r} got Future {yielded!r} attached to a different loop")
        elif yielded is self:
            self._fail(f"Task cannot await on itself: {self!r}")
        elif not is_blocking:
            self._fail(f"yield was used instead of yield from in task {self!r} with {yielded!r}")
        else:
            yielded._asyncio_future_blocking = False
            yielded.add_done_callback(self._wakeup, context=self._context)
            self._fut_waiter = yielded
            if self._must_cancel and yielded.cancel(msg=self._message):
                self._must_cancel = False

    def _wait_fused(self, future: Future) -> bool:
        """Wait for one of Weft's own futures on the task's own loop, as its listener; False if that is not what it is."""
        if (
            self._scheduler is None
            or not future._fuses
            or future._scheduler is not self._scheduler
            or not future._asyncio_future_blocking
            or future is self
        ):
            return False
        future._asyncio_future_blocking = False
        self._fut_waiter = future
        if future._status == 0:
            future._add_listener(self)
        else:
            self._scheduler._put(self)
        if self._must_cancel and future.cancel(msg=self._message):
            self._must_cancel = False
        return True

    def _fail(self, message: str) -> None:
        """The coroutine yielded what it must not: tell it so in the next step."""
        self._loop.call_soon(self._step_now, RuntimeError(message), context=self._context)

    def _awaiter(self) -> Any:
        return self


def _seen_error_of(future: Future) -> BaseException | None:
    return future._seen_error()


def _loop_of(future: Any) -> Any:
    """The loop of any future: `get_loop` is public but younger than `_loop`."""
    get_loop = getattr(future, "get_loop", None)
    return future._loop if get_loop is None else get_loop()


@reprlib.recursive_repr()
def _task_repr(task: Any) -> str:
    if task._coro is None:
        # An eager task that is done. CPython 3.11 has none, and no words for it: those of later versions.
        info = base_futures._future_repr_info(task)
        return f"<{type(task).__name__} {info[0]} name={task.get_name()!r} {' '.join(info[1:])}>"
    return f"<{type(task).__name__} {' '.join(base_tasks._task_repr_info(task))}>"


def create_eager_task_factory(custom_task_constructor: Callable[..., Any]) -> Callable[..., Any]:
    """A task factory whose tasks run their first step at once; the constructor takes Task's parameters."""

    def factory(loop: Any, coro: Any, *, eager_start: bool = True, **options: Any) -> Any:
        """A new task whose first step has run already; the keywords are those of the Task."""
        return custom_task_constructor(coro, loop=loop, eager_start=eager_start, **options)

    return factory


#: `loop.set_task_factory(weft.eager_task_factory)`: tasks run their first step at once.
eager_task_factory: Callable[..., Any] = create_eager_task_factory(Task)
