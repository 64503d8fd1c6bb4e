"""`gather`: many awaitables, one result, by a latch.

One `Latch` listens to all children. It counts them down as they finish, and takes a turn only when that decides
something: a child failed, or the last one finished. So a hundred children cost one turn of the latch, not a hundred
callbacks; what the caller sees, and in which turn, is as in asyncio.

Rules for whoever edits this file:

- `Latch._on_done` runs within the child's `set_result`: it counts and queues, nothing else.
- A child that is not one of Weft's own on Weft's loop gets an ordinary done-callback to the same `_judge`.
- The outer future is decided once; children that finish later only count their exception as retrieved.
- Cancelling the outer future cancels the children; it ends as cancelled when all of them have finished.
"""

from __future__ import annotations

import sys
from asyncio import events
from asyncio.exceptions import CancelledError
from collections.abc import Awaitable
from types import CoroutineType
from typing import Any

from weft._core.ensure import ensure_future
from weft._core.future import Future
from weft._core.handle import Listener
from weft._core.loopcore import LoopCore
from weft._core.scheduler import Scheduler
from weft._core.task import Task  # noqa: F401  (Task: its fields are typed in the .pxd)

# Children that are done already count at once from 3.12 on, which eager tasks brought; before, in the next turn.
_COUNTS_DONE_AT_ONCE = sys.version_info >= (3, 12)


# Cancelling a gather within a gather within ... is recursion, which C does not limit. As deep as Python's own default.
_DEEPEST = 1000
_depth = 0


class GatheringFuture(Future):
    """The future that `gather` gives. Cancelling it cancels the children."""

    __slots__ = ("_cancel_requested", "_children")

    def _adopt(self, children: list[Any], loop: Any) -> None:
        self._prepare(loop)
        self._fuses = True
        self._children = children
        self._cancel_requested = False

    def cancel(self, msg: Any = None) -> bool:
        """Cancel every child that is not done; False if there was none to cancel."""
        if self._status != 0:
            return False
        was_any = False
        global _depth
        if _depth >= _DEEPEST:
            raise RecursionError("maximum depth of nested gathers exceeded while cancelling them")
        _depth += 1
        try:
            for child in self._children:
                if child.cancel(msg=msg):
                    was_any = True
        finally:
            _depth -= 1
        if was_any:
            # The children's ends will end this future: they may still turn their cancellation down.
            self._cancel_requested = True
        return was_any


class Latch(Listener):
    """Counts the children down and decides the outer future."""

    __slots__ = ("_due", "_finished", "_outer", "_returns_exceptions", "_scheduler", "_total")

    def __init__(
        self, outer: GatheringFuture, total: int, returns_exceptions: bool, scheduler: Scheduler | None
    ) -> None:
        self._is_step = False
        self._outer = outer
        self._total = total
        self._finished = 0
        self._returns_exceptions = returns_exceptions
        self._scheduler = scheduler
        # Finished children that may decide, in order, until the latch's turn.
        self._due: list[Any] = []

    def _listen(self, child: Future) -> None:
        child._add_listener(self)

    def _on_done(self, future: Any) -> None:
        self._note(future)

    def _note(self, child: Future) -> None:
        self._finished += 1
        failed = child._status == 1 or child._exception is not None
        if self._finished == self._total or (failed and not self._returns_exceptions):
            if not self._due:
                self._scheduler._put(self)  # type: ignore[union-attr]
            self._due.append(child)

    def _run(self) -> None:
        due = self._due
        self._due = []
        for child in due:
            self._judge(child)

    def _on_callback(self, child: Any) -> None:
        """The done-callback on a child that the latch can't listen to."""
        self._finished += 1
        self._judge(child)

    def _judge(self, child: Any) -> None:
        """A child has finished: decide the outer future if that settles it."""
        outer = self._outer
        if outer._status != 0:
            if not child.cancelled():
                # Decided without it; its exception must not be reported as never retrieved.
                child.exception()
            return
        if not self._returns_exceptions:
            if child.cancelled():
                outer.set_exception(child._make_cancelled_error())
                return
            error = child.exception()
            if error is not None:
                outer.set_exception(error)
                return
        if self._finished == self._total:
            last = child
            results = []
            for last in outer._children:
                results.append(_outcome(last))
            if outer._cancel_requested:
                # Every child turned its cancellation into a result or an exception, but it was asked for.
                # As in asyncio, with the message of the last argument's own end, whichever child was the last to finish.
                outer.set_exception(last._make_cancelled_error())
            else:
                outer.set_result(results)

    def _awaiter(self) -> Any:
        return self._outer

    # For `Future._callbacks`, which shows listeners as callbacks.

    def _wakeup(self, future: Any) -> None:
        self._on_callback(future)

    @property
    def _context(self) -> None:
        return None


def _plain_running_loop() -> LoopCore | None:
    """The running loop, if its tasks are Weft's own and nothing but that."""
    loop = events._get_running_loop()
    if isinstance(loop, LoopCore):
        own = loop
        if own._task_factory is None and not own._closed:
            return own
    return None


def _outcome(child: Any) -> Any:
    """The result of a done future, or its exception as a value."""
    if isinstance(child, Future):
        future = child
        if future._fuses and future._status == 2:
            future._is_unseen = False
            return future._result if future._exception is None else future._exception
    if child.cancelled():
        message = child._cancel_message
        return CancelledError("" if message is None else message)
    error = child.exception()
    return child.result() if error is None else error


def gather(*coros_or_futures: Awaitable[Any], return_exceptions: bool = False) -> Any:
    """A future for the list of all results, in the order of the arguments.

    Coroutines become tasks; the same object given twice runs once. The first exception ends the future (the other children
    go on), unless `return_exceptions`, which puts exceptions among the results. Cancelling it cancels every child.
    For the thread of the loop. Cost: one latch, and one turn of it. As CPython's `asyncio.gather`; differs: the future
    for no arguments and all futures are Weft's when the loop is.
    """
    if not coros_or_futures:
        loop = _current_loop()
        empty = loop.create_future()
        empty.set_result([])
        return empty
    return _gather(coros_or_futures, return_exceptions)


def _gather(arguments: tuple[Any, ...], returns_exceptions: bool) -> Any:
    children: list[Any] = []
    made: dict[Any, Any] = {}
    loop: Any = None
    own_loop = _plain_running_loop()
    for argument in arguments:
        child = made.get(argument)
        if child is None:
            if own_loop is not None and type(argument) is CoroutineType and (loop is None or loop is own_loop):
                # What `ensure_future` comes to for a coroutine, without its questions.
                task = own_loop._make_task(argument, None, None, False)
                task._log_destroy_pending = False
                loop = own_loop
                made[argument] = task
                children.append(task)
                continue
            child = ensure_future(argument, loop=loop)
            if loop is None:
                loop = child.get_loop()
            if child is not argument:
                # The outer future tells of its end; a report of its own would be a second one.
                child._log_destroy_pending = False
            made[argument] = child
        children.append(child)
    outer = GatheringFuture.__new__(GatheringFuture)
    outer._adopt(children, loop)
    latch = Latch(outer, len(made), returns_exceptions, outer._scheduler)
    done: list[Any] = []
    for child in made.values():
        if _COUNTS_DONE_AT_ONCE and child.done():
            done.append(child)
        elif outer._scheduler is not None and _fuses_on(child, outer._scheduler):
            latch._listen(child)
        else:
            child.add_done_callback(latch._on_callback)
    for child in done:
        latch._on_callback(child)
    return outer


def _fuses_on(child: Any, scheduler: Scheduler) -> bool:
    """Whether a latch can listen to this future: one of Weft's own, on this loop, and pending."""
    if not isinstance(child, Future):
        return False
    future = child
    return future._fuses and future._scheduler is scheduler and future._status == 0


def _current_loop() -> Any:
    """asyncio's rule for a call outside a coroutine: the current loop, or the running version's error for none."""
    find = getattr(events, "_get_event_loop", events.get_event_loop)
    return find()
