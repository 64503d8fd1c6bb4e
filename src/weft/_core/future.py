"""`Future`: a result that is not there yet, and who wants to hear of it.

States: PENDING (0) → FINISHED (2) by a result or an exception, or CANCELLED (1); never back. Leaving PENDING tells
everyone who asked, in the order in which they asked.

Rules for whoever edits this file:

- `_waiter` is the first to be told, if it is a Listener (a task that awaits this, a gather); `_listeners` holds those who
  came after, listeners and (callback, context) pairs, or those who came when `_waiter` could not be first any more. So
  a future that one task awaits costs no list, no Handle and no bound method.
- `_scheduler` is the loop if it is Weft's, else None; then everything goes through `loop.call_soon`, as in asyncio. A
  Listener is used on Weft's loop only.
- `_finish_*` change the state and tell everyone; the public methods check first. Task calls `_finish_*` only.
- An exception that nobody asked for is reported when the future dies: `_is_unseen` says that this is still due.

All for the thread that runs the loop. asyncio's private names are served, because asyncio's gather, anyio and debuggers
read them.
"""

from __future__ import annotations

import asyncio
import reprlib
import sys
from asyncio import base_futures, events
from asyncio.exceptions import CancelledError, InvalidStateError
from collections.abc import Callable, Generator
from contextvars import Context
from types import GenericAlias
from typing import Any

from weft._core.awaiters import awaiters
from weft._core.handle import Listener
from weft._core.origin import origin_of_caller
from weft._core.scheduler import Scheduler
from weft._core.signature import ClassSignature
from weft._native.drive import Drive

try:
    import cython
except ImportError:
    from weft import _cython as cython

_STATES = ("PENDING", "CANCELLED", "FINISHED")

_STOP_ITERATION = "StopIteration interacts badly with generators and cannot be raised into a Future"
_WRAPS_STOP_ITERATION = sys.version_info >= (3, 12, 2)
_REFUSES_SECOND_INIT = sys.version_info >= (3, 15)

# 3.11 has a variant that warns at the right depth when there is no running loop.
_find_loop: Callable[[], Any] = getattr(events, "_get_event_loop", events.get_event_loop)


def isfuture(obj: object) -> bool:
    """Whether `obj` is a future, asyncio's or one that looks like it: what `asyncio.isfuture` says."""
    return base_futures.isfuture(obj)


class Future(Listener):
    """asyncio's Future, and an instance of it: a result that somebody will set.

    `loop` is any event loop; by default the current one. Methods, states, errors and reports are those of the running
    version's asyncio. Not thread-safe. Cost on Weft's loop: no callback object for the first task that awaits it.
    """

    __slots__ = (
        "__dict__",
        "_asyncio_future_blocking",
        "_cancelled_exc",
        "_exception",
        "_exception_tb",
        "_fuses",
        "_is_unseen",
        "_listeners",
        "_loop",
        "_message",
        "_result",
        "_scheduler",
        "_source_traceback",
        "_status",
        "_waiter",
    )
    __signature__: Any = ClassSignature(lambda *, loop=None: None)

    __class_getitem__: Any = classmethod(GenericAlias)

    def __init__(self, *, loop: Any = None) -> None:
        if _REFUSES_SECOND_INIT and getattr(self, "_loop", None) is not None:
            raise RuntimeError(f"{type(self).__name__} object is already initialized")
        self._prepare(_find_loop() if loop is None else loop)

    def _prepare(self, loop: Any) -> None:
        """Set every field: what `__init__` and the loop's fast constructors share."""
        self._loop = loop
        if isinstance(loop, Scheduler):
            scheduler = loop
            self._scheduler: Scheduler | None = scheduler
            is_debug = scheduler._debug
        else:
            self._scheduler = None
            is_debug = loop.get_debug()
        Drive.make_lazy(self)
        self._is_step = False
        # A subclass from outside may have changed what waiting means: it is awaited the long way.
        self._fuses = type(self) is Future
        self._status = 0
        self._result: Any = None
        self._exception: BaseException | None = None
        self._exception_tb: Any = None
        self._waiter: Listener | None = None
        self._listeners: list[Any] | None = None
        self._message: Any = None
        self._cancelled_exc: BaseException | None = None
        self._is_unseen = False
        # True between `yield self` in __await__ and the task that takes it: tells `await` from a bare yield.
        self._asyncio_future_blocking = False
        self._source_traceback: Any = None
        if is_debug:
            self._source_traceback = origin_of_caller()

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """asyncio's class, so that `isinstance(future, asyncio.Future)` holds; `type(future)` tells the truth."""
        return asyncio.Future

    def __del__(self) -> None:
        if self._is_unseen:
            self._report_unseen()

    def _report_unseen(self) -> None:
        """Tell the loop's exception handler of an exception that nobody retrieved."""
        self._is_unseen = False
        context: dict[str, Any] = {
            "message": f"{type(self).__name__} exception was never retrieved",
            "exception": self._exception,
            "future": self,
        }
        if self._source_traceback:
            context["source_traceback"] = self._source_traceback
        self._loop.call_exception_handler(context)

    def __repr__(self) -> str:
        return _future_repr(self)

    # -- asyncio's private names --

    @property
    def _state(self) -> str:
        return _STATES[self._status]

    @property
    def _cancel_message(self) -> Any:
        return self._message

    @_cancel_message.setter
    def _cancel_message(self, message: Any) -> None:
        self._message = message

    @_cancel_message.deleter
    def _cancel_message(self) -> None:
        raise AttributeError(f"cannot delete the cancel message of {type(self).__name__} objects")

    @property
    def _log_traceback(self) -> bool:
        return self._is_unseen

    @_log_traceback.setter
    def _log_traceback(self, value: bool) -> None:
        if value:
            raise ValueError("_log_traceback can only be set to False")
        self._is_unseen = False

    @property
    def _callbacks(self) -> list[tuple[Any, Any]]:
        """Who is told, as asyncio shows it: (callback, context), in order."""
        return [one if type(one) is tuple else (one._wakeup, one._context) for one in self._told()]

    def _told(self) -> list[Any]:
        """Who is told, in order: listeners, and (callback, context) pairs."""
        told: list[Any] = [] if self._waiter is None else [self._waiter]
        return told if self._listeners is None else told + self._listeners

    @property
    def _asyncio_awaited_by(self) -> frozenset[Any] | None:
        """The tasks that wait for this one, for asyncio's call graph; None when there is none."""
        found: list[Any] = []
        pending: list[Any] = [self]
        # Not by recursion: gathers may be nested without end.
        while pending:
            told = pending.pop()._told()
            for one in told:
                if type(one) is tuple:
                    continue
                waiting = one._awaiter()
                if isinstance(waiting, asyncio.Task):
                    found.append(waiting)
                elif not waiting.done():
                    # A gather: whoever awaits it. One that was decided early still listens, but nobody waits for it.
                    pending.append(waiting)
            found.extend(awaiters([one for one in told if type(one) is tuple]))
        return frozenset(found) or None

    # -- asking --

    def get_loop(self) -> Any:
        """The loop it belongs to."""
        if self._loop is None:
            raise RuntimeError("Future object is not initialized.")
        return self._loop

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._status == 1

    def done(self) -> bool:
        """Whether it has a result or an exception, or was cancelled."""
        return self._status != 0

    def result(self) -> Any:
        """The result; raises what was set as exception, CancelledError if cancelled, InvalidStateError if not done."""
        try:
            return self._take_result()
        finally:
            # As there: this frame, too, is in the traceback of what is raised.
            self = None  # type: ignore[assignment]

    def _take_result(self) -> Any:
        if self._status == 2:
            self._is_unseen = False
            if self._exception is None:
                return self._result
            try:
                raise self._exception.with_traceback(self._exception_tb)
            finally:
                # The traceback that is being made has this frame: it must not hold the future, which holds the exception.
                self = None  # type: ignore[assignment]
        if self._status == 1:
            raise self._cancelled_error()
        raise InvalidStateError("Result is not ready.")

    def exception(self) -> BaseException | None:
        """The exception that was set, or None; raises CancelledError if cancelled, InvalidStateError if not done."""
        if self._status == 2:
            self._is_unseen = False
            return self._exception
        if self._status == 1:
            raise self._cancelled_error()
        raise InvalidStateError("Exception is not set.")

    def _make_cancelled_error(self) -> BaseException:
        return self._cancelled_error()

    def _cancelled_error(self) -> BaseException:
        """The CancelledError to raise: the one that ended the task, the first time; then new ones with the message."""
        error = self._cancelled_exc
        if error is not None:
            self._cancelled_exc = None
            return error
        if self._message is None:
            return CancelledError()
        return CancelledError(self._message)

    def _seen_error(self) -> BaseException | None:
        """How a done future ends an `await`: None for a result, else what to raise there. It counts as retrieved."""
        if self._status == 1:
            return self._cancelled_error()
        if self._exception is None:
            return None
        self._is_unseen = False
        return self._exception.with_traceback(self._exception_tb)

    # -- telling --

    def add_done_callback(self, fn: Callable[[Any], object], *, context: Context | None = None) -> None:
        """Call `fn(self)` soon after it is done, in `context` or a copy of the present one."""
        self._add_callback(fn, Drive.copy_context() if context is None else context)

    def _add_callback(self, callback: Any, context: Any) -> None:
        if self._loop is None:
            raise RuntimeError("Future object is not initialized.")
        if self._status != 0:
            self._call_soon(callback, context)
        elif self._listeners is None:
            self._listeners = [(callback, context)]
        else:
            self._listeners.append((callback, context))

    def _add_listener(self, listener: Listener) -> None:
        """Tell a listener when this is done. Only while it is pending, and only on Weft's loop."""
        if self._listeners is not None:
            self._listeners.append(listener)
        elif self._waiter is None:
            self._waiter = listener
        else:
            self._listeners = [listener]

    def remove_done_callback(self, fn: Callable[[Any], object]) -> int:
        """Remove every callback equal to `fn`; how many there were."""
        if self._loop is None:
            raise RuntimeError("Future object is not initialized.")
        return self._remove_callback(fn)

    def _remove_callback(self, callback: Any) -> int:
        listeners = self._listeners
        if listeners is None:
            return 0
        kept = [one for one in listeners if type(one) is not tuple or one[0] != callback]
        removed = len(listeners) - len(kept)
        if removed:
            # Comparing ran foreign code, which may have added or removed some: what came since stays.
            kept += self._listeners[len(listeners) :] if self._listeners is not None else []
            self._listeners = kept or None
        return removed

    def _call_soon(self, callback: Any, context: Any) -> None:
        scheduler = self._scheduler
        if scheduler is None:
            self._loop.call_soon(callback, self, context=context)
        else:
            scheduler._check_put()
            scheduler._put_call(callback, (self,), context)

    def _tell(self) -> None:
        """The state has changed: tell everyone, once."""
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            waiter._on_done(self)
        listeners = self._listeners
        if listeners is not None:
            self._listeners = None
            for one in listeners:
                if type(one) is tuple:
                    self._call_soon(one[0], one[1])
                else:
                    waiter = one
                    waiter._on_done(self)

    # -- ending --

    def cancel(self, msg: Any = None) -> bool:
        """Cancel it; False if it is done already. `msg` goes into the CancelledError."""
        if self._loop is None:
            raise RuntimeError("Future object is not initialized.")
        self._is_unseen = False
        if self._status != 0:
            return False
        self._message = msg
        self._finish_cancelled()
        return True

    def set_result(self, result: Any) -> None:
        """End it with a result; InvalidStateError if it is done."""
        if self._loop is None:
            raise RuntimeError("Future object is not initialized.")
        if self._status != 0:
            raise InvalidStateError(f"{self._state}: {self!r}")
        self._finish_result(result)

    def set_exception(self, exception: Any) -> None:
        """End it with an exception, an instance or a class; InvalidStateError if it is done."""
        if self._loop is None:
            raise RuntimeError("Future object is not initialized.")
        if self._status != 0:
            raise InvalidStateError(f"{self._state}: {self!r}")
        if isinstance(exception, type):
            exception = exception()
        if isinstance(exception, StopIteration):
            if not _WRAPS_STOP_ITERATION:
                raise TypeError(_STOP_ITERATION)
            error = RuntimeError(_STOP_ITERATION)
            error.__cause__ = exception
            error.__context__ = exception
            exception = error
        if not isinstance(exception, BaseException):
            raise TypeError("invalid exception object")
        self._finish_exception(exception)

    def _finish_cancelled(self) -> None:
        self._status = 1
        self._tell()

    def _finish_result(self, result: Any) -> None:
        self._result = result
        self._status = 2
        self._tell()

    def _finish_exception(self, exception: BaseException) -> None:
        self._exception = exception
        self._exception_tb = exception.__traceback__
        self._status = 2
        self._is_unseen = True
        self._tell()

    # -- waiting --

    def __await__(self) -> Generator[Any, None, Any]:
        if self._loop is None:
            raise RuntimeError("Future object is not initialized.")
        try:
            if self._status == 0:
                self._asyncio_future_blocking = True
                yield self
            if self._status == 0:
                raise RuntimeError("await wasn't used with future")
            return self._take_result()
        finally:
            # The traceback of what is raised or thrown here has this frame: see `_take_result`.
            self = None  # type: ignore[assignment]

    # A future may also stand behind `yield from`.
    def __iter__(self) -> Generator[Any, None, Any]:
        return self.__await__()

    # -- as a listener: only a task and a gather are one --

    def _on_done(self, future: Any) -> None:
        raise RuntimeError(f"{self!r} does not listen")

    def _awaiter(self) -> Any:
        """Whom `_asyncio_awaited_by` names for this listener."""
        return self


@reprlib.recursive_repr()
def _future_repr(future: Any) -> str:
    return f"<{type(future).__name__} {' '.join(base_futures._future_repr_info(future))}>"


# Made by `__new__` alone, a compiled future has zeros and None in its fields; the plain one gets the same from here.
_UNSET = {"_status": 0, "_is_unseen": False, "_asyncio_future_blocking": False, "_log_destroy_pending": False}


def _unset_field(self: Future, name: str) -> Any:
    if any(name in vars(kind).get("__slots__", ()) for kind in type(self).__mro__):
        return _UNSET.get(name)
    raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


if not cython.compiled:
    Future.__getattr__ = _unset_field  # type: ignore[attr-defined]
