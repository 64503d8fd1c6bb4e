"""What a loop can run: `Runnable`, and asyncio's `Handle`, a callback that was scheduled.

Rules for whoever writes a Runnable:

- `_run` contains its own exceptions; only SystemExit and KeyboardInterrupt may leave it, and they end `run_forever`.
- `_is_step` says that the runnable is a step of a task and sets the current task itself. Before any other runnable the
  scheduler clears the current task, so that a plain callback never sees the task that ran before it.
- A runnable may be queued more than once; it decides in `_run` whether there is still something to do.

All of this is for the thread that runs the loop.
"""

from __future__ import annotations

import asyncio
import sys
from _thread import RLock
from asyncio import format_helpers
from collections.abc import Callable
from contextvars import Context
from typing import Any

from weft._core.origin import origin_of_caller
from weft._core.signature import ClassSignature
from weft._native.drive import Drive

#: 3.13 and later leave the arguments of callbacks out of reprs, but for debug mode.
_DEBUG_ARGUMENTS = sys.version_info >= (3, 13)


class Runnable:
    """Something that waits in the ready queue for its turn."""

    __slots__ = ("__weakref__", "_is_step")

    def __reduce__(self) -> Any:
        raise TypeError(f"cannot pickle {type(self).__name__!r} object: it belongs to its loop, and can't be copied")

    def _run(self) -> None:
        """Called by the scheduler, once for each time it was queued."""
        raise NotImplementedError(f"{type(self).__name__} has no _run")


class Flushable(Runnable):
    """A runnable that may collect effects while a callback runs, and lets them out when that callback returns.

    `_is_dirty` and `_following` are the scheduler's: whether this will be flushed, and what after it.
    """

    __slots__ = ("_following", "_is_dirty")

    def __init__(self) -> None:
        self._is_step = False
        self._following: Flushable | None = None
        self._is_dirty = False

    def _flush(self) -> None:
        """Called by the scheduler after the callback in which `Scheduler._mark_dirty` was called."""
        raise NotImplementedError(f"{type(self).__name__} has no _flush")


class Listener(Runnable):
    """A runnable that is told when a future is done, at once and in the order of the future's callbacks.

    It must do no more than note it and queue itself: user code runs in a later turn, never within `set_result`.
    """

    __slots__ = ()

    def _on_done(self, future: Any) -> None:
        """`future`, to which this was added, is done."""
        raise NotImplementedError(f"{type(self).__name__} has no _on_done")


class Handle(Runnable):
    """A callback with its arguments and context, as `call_soon` gives it: asyncio's Handle, and an instance of it.

    `loop` is any loop with `get_debug` and `call_exception_handler`. `context` None means a copy of the present one.
    Cancelling drops callback and arguments, so that what they hold is freed before the callback's time.
    """

    __slots__ = ("_args", "_callback", "_cancelled", "_context", "_loop", "_repr", "_source_traceback")
    __signature__: Any = ClassSignature(lambda callback, args, loop, context=None: None)

    def __init__(
        self,
        callback: Callable[..., object],
        args: Any,
        loop: asyncio.AbstractEventLoop,
        context: Context | None = None,
    ) -> None:
        self._is_step = False
        self._callback: Callable[..., object] | None = callback
        self._args: tuple[Any, ...] | None = tuple(args)
        self._loop: Any = loop
        self._context = Drive.copy_context() if context is None else context
        self._cancelled = False
        self._repr: str | None = None
        self._source_traceback: Any = None
        if loop.get_debug():
            self._source_traceback = origin_of_caller()

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """asyncio's class, so that `isinstance(handle, asyncio.Handle)` holds; `type(handle)` tells the truth."""
        return asyncio.Handle

    def _run(self) -> None:
        if self._cancelled:
            return
        try:
            Drive.call(self._context, self._callback, self._args)  # type: ignore[arg-type]
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._report(exc)

    def __getattr__(self, name: str) -> Callable[[], None]:
        # Asked for what is not there: in the compiled edition `_run`, which is a C method. asyncio's handles show theirs.
        if name == "_run":
            return lambda: self._run()
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _report(self, exc: BaseException) -> None:
        callback = _describe(self._callback, self._args, self._loop.get_debug())
        context: dict[str, Any] = {
            "message": f"Exception in callback {callback}",
            "exception": exc,
            "handle": self,
        }
        if self._source_traceback:
            context["source_traceback"] = self._source_traceback
        self._loop.call_exception_handler(context)

    def _info(self) -> list[str]:
        info = [type(self).__name__]
        if self._cancelled:
            info.append("cancelled")
        if self._callback is not None:
            info.append(_describe(self._callback, self._args, self._loop.get_debug()))
        if self._source_traceback:
            frame = self._source_traceback[len(self._source_traceback) - 1]
            info.append(f"created at {frame[0]}:{frame[1]}")
        return info

    def __repr__(self) -> str:
        if self._repr is not None:
            return self._repr
        return f"<{' '.join(self._info())}>"

    def cancel(self) -> None:
        """Never run it. Twice is fine. Cost: constant."""
        self._drop()

    def _drop(self) -> None:
        if not self._cancelled:
            self._cancelled = True
            if self._source_traceback is not None:
                # Made in debug mode: the repr still tells what it was.
                self._repr = repr(self)
            self._callback = None
            self._args = None

    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled

    def get_context(self) -> Context:
        """The context in which the callback runs."""
        return self._context


class ThreadSafeHandle(Handle):
    """What `call_soon_threadsafe` gives from 3.14 on: cancelling it from another thread waits while it runs.

    So who has cancelled it may free what the callback uses. The lock is re-entrant: the callback may cancel its own handle.
    """

    __slots__ = ("_lock",)

    def __init__(
        self,
        callback: Callable[..., object],
        args: Any,
        loop: asyncio.AbstractEventLoop,
        context: Context | None = None,
    ) -> None:
        self._lock = RLock()
        Handle.__init__(self, callback, args, loop, context)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """asyncio's class of that name, where there is one."""
        return getattr(asyncio.events, "_ThreadSafeHandle", asyncio.Handle)

    def _run(self) -> None:
        with self._lock:
            Handle._run(self)

    def cancel(self) -> None:
        """Never run it; if it runs right now in the loop's thread, wait until it has returned."""
        with self._lock:
            self._drop()

    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        with self._lock:
            return self._cancelled

    def get_context(self) -> Context:
        """The context in which the callback runs."""
        with self._lock:
            return self._context


def _describe(callback: Any, args: Any, debug: bool) -> str:
    """A callback with its arguments and its place in the source, in asyncio's form."""
    if _DEBUG_ARGUMENTS:
        return str(format_helpers._format_callback_source(callback, args, debug=debug))  # type: ignore[call-arg]
    return str(format_helpers._format_callback_source(callback, args))
