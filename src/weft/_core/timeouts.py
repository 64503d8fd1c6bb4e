"""`timeout` and `timeout_at`: a deadline for a block of code, by one timer and one `cancel`.

How it works: the timer cancels the task that entered; on the way out the CancelledError turns into TimeoutError, if no
other cancellation was asked for since the entry. `Task.cancelling` and `uncancel` keep the count.

Rules for whoever edits this file:

- `_enter` and `_leave` are the whole of it; `__aenter__`, `__aexit__` and `waiting.wait_for` are doors to them.
- They do not wait, so leaving gives an awaitable that is over at once and is shared (`_NOTHING`): no coroutine is made.
- Works on any loop and any task: only public asyncio methods. For the thread that runs the loop.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio.exceptions import CancelledError
from types import TracebackType
from typing import Any

from weft._core.signature import ClassSignature

_CREATED = 0
_ENTERED = 1
_EXPIRING = 2
_EXPIRED = 3
_EXITED = 4
_STAGES = ("created", "active", "expiring", "expired", "finished")

# Newer versions look for the cancellation behind an exception that took its place; one may have got it by a bug fix.
_LOOKS_BEHIND = hasattr(asyncio.Timeout, "_insert_timeout_error")
_TAKES_SUBCLASSES = sys.version_info >= (3, 13)

# Bound here once: a look-up in another module costs as much as the call.
_running_loop: Any = asyncio.get_running_loop
_current_task: Any = asyncio.current_task


class Nothing:
    """An awaitable that is over at once, with None."""

    __slots__ = ()

    def __await__(self) -> Nothing:
        return self

    def __iter__(self) -> Nothing:
        return self

    def __next__(self) -> None:
        raise StopIteration


_NOTHING = Nothing()


class Timeout:
    """An asynchronous context manager that ends its block with TimeoutError when its time is over.

    Made by `timeout` and `timeout_at`. `when` is a time of `loop.time()`, in seconds; None is no deadline; one in the
    past ends the block the next time it waits. To be entered once, inside a task. As CPython's `asyncio.Timeout`.
    """

    __slots__ = ("_cancelling", "_stage", "_task", "_timer", "_when")
    __signature__: Any = ClassSignature(lambda when: None)

    def __init__(self, when: float | None) -> None:
        self._when = when
        self._stage = _CREATED
        # The task that entered, and how many cancellations it had been asked for by then.
        self._task: Any = None
        self._cancelling = 0
        self._timer: asyncio.Handle | None = None

    def when(self) -> float | None:
        """The deadline, in seconds of `loop.time()`, or None."""
        return self._when

    def reschedule(self, when: float | None) -> None:
        """Move the deadline; None takes it away. RuntimeError unless the block is running and its time is not over."""
        if self._stage != _ENTERED:
            if self._stage == _CREATED:
                raise RuntimeError("Timeout has not been entered")
            raise RuntimeError(f"Cannot change state of {_STAGES[self._stage]} Timeout")
        self._schedule(when)

    def _schedule(self, when: Any) -> None:
        self._when = when
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if when is not None:
            loop = _running_loop()
            if when <= loop.time():
                self._timer = loop.call_soon(self._on_timeout)
            else:
                self._timer = loop.call_at(when, self._on_timeout)

    def expired(self) -> bool:
        """Whether the deadline has passed while the block was running."""
        return self._stage == _EXPIRING or self._stage == _EXPIRED

    def __repr__(self) -> str:
        if self._stage != _ENTERED:
            return f"<Timeout [{_STAGES[self._stage]}]>"
        when = None if self._when is None else round(self._when, 3)
        return f"<Timeout [active] when={when}>"

    def _enter(self) -> None:
        """Start the clock for the current task."""
        if self._stage != _CREATED:
            raise RuntimeError("Timeout has already been entered")
        task = _current_task()
        if task is None:
            raise RuntimeError("Timeout should be used inside a task")
        self._stage = _ENTERED
        self._task = task
        self._cancelling = task.cancelling()
        self._schedule(self._when)

    def _leave(self, error_type: Any, error: Any) -> None:
        """Stop the clock; raise TimeoutError in place of `error` if that is the cancellation asked for here.

        To be called while `error` is being handled, so that it becomes the context of the TimeoutError.
        """
        assert self._stage == _ENTERED or self._stage == _EXPIRING
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._stage == _ENTERED:
            self._stage = _EXITED
            return
        self._stage = _EXPIRED
        # Somebody else's cancellation, asked for since the entry, goes on.
        if self._task.uncancel() > self._cancelling or error_type is None:
            return
        if error_type is CancelledError or (_TAKES_SUBCLASSES and issubclass(error_type, CancelledError)):
            try:
                raise TimeoutError from error
            finally:
                error = None  # a traceback holds this frame: the cancellation must not live as long
        if _LOOKS_BEHIND and error is not None:
            _put_timeout_behind(error)
            if isinstance(error, ExceptionGroup):
                for one in error.exceptions:
                    _put_timeout_behind(one)

    async def __aenter__(self) -> Timeout:
        self._enter()
        return self

    def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> Nothing:
        try:
            self._leave(exc_type, exc_val)
        finally:
            exc_val = None  # as in `_leave`
        return _NOTHING

    def _on_timeout(self) -> None:
        assert self._stage == _ENTERED
        self._task.cancel()
        self._stage = _EXPIRING
        self._timer = None


def _put_timeout_behind(error: BaseException) -> None:
    """In the chain of contexts of `error`, put a TimeoutError in front of the first cancellation."""
    behind = error.__context__
    while behind is not None:
        if isinstance(behind, CancelledError):
            timed_out = TimeoutError()
            timed_out.__context__ = timed_out.__cause__ = behind
            error.__context__ = timed_out
            return
        error = behind
        behind = error.__context__


def timeout(delay: float | None) -> Timeout:
    """`async with timeout(delay):` ends the block with TimeoutError after `delay` seconds; None: no limit.

    Where the block waits it gets a CancelledError, which turns into TimeoutError on leaving. Needs a running loop.
    Cost: one timer. As CPython's `asyncio.timeout`.
    """
    loop = _running_loop()
    return Timeout(None if delay is None else loop.time() + delay)


def timeout_at(when: float | None) -> Timeout:
    """As `timeout`, with the deadline as a time of `loop.time()`, in seconds. As CPython's `asyncio.timeout_at`."""
    return Timeout(when)
