"""A coroutine run in a loop for a thread that waits for it.

Rules for whoever edits this file:

- `LoopCall` is made and waited for in the calling thread; everything with a leading underscore runs in the loop's.
- The waiting thread is told exactly once, by `_tell`: the task has ended, was cancelled, or could not be made. Only a loop that
  was closed without running what it had been given tells nothing; so the waiting thread looks for that from time to time.
- A call made in the thread of a running loop blocks that loop. What it starts knows so by its context, and is refused
  when it calls that loop in turn.
- Where the waiting thread runs a job for the loop, its place is free for others meanwhile (`Job.pause`), and a cancellation
  of the job reaches the task.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar, copy_context
from typing import Any

from weft.bridge._workers import current_job, inside, own_thread
from weft.bridge.errors import Closed, Deadlock

__all__ = ["LOOK_S", "LoopCall", "awaitable"]

#: How often a waiting thread looks whether the loop was closed under it.
LOOK_S = 1.0

#: The calls that block a loop each, and wait for the coroutine that looks here.
_blocking: ContextVar[tuple[LoopCall, ...]] = ContextVar("weft.bridge.blocking", default=())


class LoopCall:
    """One call of an async function in `loop`, with the calling thread's context."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self._function: Callable[..., Any] = function
        self._is_over: bool = False
        self._blocks: asyncio.AbstractEventLoop | None = asyncio._get_running_loop()
        if self._blocks is loop:
            raise Deadlock(
                f"{function!r} was called from the thread of its own loop, which it would block: await it there"
            )
        outer = tuple(call for call in _blocking.get() if not call._is_over)
        for call in outer:
            if call._blocks is loop:
                raise Deadlock(
                    f"{function!r} can't be run: its loop is blocked by the call of {call._function!r}, which waits for this "
                    "one. Let that call wait in a thread (to_thread)"
                )
        self._loop = loop
        self._args = args
        self._kwargs = kwargs
        self._context = copy_context()
        self._task: asyncio.Task[None] | None = None
        self._is_paused = False
        self._over = threading.Lock()
        self._over.acquire()
        self._own = own_thread()
        job = current_job()
        self._job = job
        # Its place among the jobs of a loop can be lent by that loop only.
        self._lender = job if job is not None and job.loop is loop else None
        if inside.get() is not job:
            self._context.run(inside.set, job)
        if self._blocks is not None:
            self._context.run(_blocking.set, (*outer, self))
        self._result: Any = None
        self._error: BaseException | None = None

    def wait(self) -> Any:
        """Start it and wait for its outcome. Ctrl-C cancels it, and waits for its end."""
        job = self._job
        if job is not None:
            outer, job.on_cancel = job.on_cancel, self.cancel
            if job.cancelled:
                job.on_cancel = outer
                raise asyncio.CancelledError
        try:
            try:
                self._post(self._start)
                self._wait_over()
            except Closed:
                raise
            except BaseException:
                # A signal's handler has raised, most often KeyboardInterrupt. Once more, and nobody waits any longer.
                self.cancel()
                self._wait_over()
                raise
        finally:
            if job is not None:
                job.on_cancel = outer
        error = self._error
        if error is None:
            return self._result
        try:
            raise error
        finally:
            # Its traceback holds this frame.
            del error
            self._error = None

    def _wait_over(self) -> None:
        while not self._is_over:
            if self._own is not None:
                self._own.serve_until(self._is_told, LOOK_S)
            else:
                self._over.acquire(timeout=LOOK_S)
            if self._loop.is_closed() and not self._is_over:
                raise Closed(f"{self._function!r} was not run to its end: its loop was closed")

    def _is_told(self) -> bool:
        return self._is_over

    def _post(self, callback: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, context=self._context)
        except RuntimeError as error:
            raise Closed(f"{self._function!r} can't be run: its loop is closed") from error

    def cancel(self) -> None:
        """Cancel the task. Any thread."""
        with contextlib.suppress(Closed):
            self._post(self._cancel)

    # -- in the loop --

    def _start(self) -> None:
        if self._is_over:
            return
        try:
            self._task = task = self._loop.create_task(self._call(), context=self._context)
        except BaseException as error:
            self._tell(error)
            raise
        if self._lender is not None:
            self._is_paused = True
            self._lender.pause(task)
        task.add_done_callback(self._finish)

    async def _call(self) -> None:
        try:
            self._result = await awaitable(self._function(*self._args, **self._kwargs), self._function)
        except (SystemExit, KeyboardInterrupt) as error:
            # It belongs to the thread that waits, and must not end the loop of others.
            self._error = error

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
        elif not self._is_over:
            # It was interrupted before it could be started.
            self._tell(asyncio.CancelledError())

    def _finish(self, task: asyncio.Task[None]) -> None:
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        self._tell(self._error if error is None else error)

    def _tell(self, error: BaseException | None) -> None:
        if self._lender is not None and self._is_paused:
            self._lender.go_on()
        self._error = error
        self._task = None
        self._is_over = True
        if self._own is not None:
            self._own.nudge()
        else:
            self._over.release()


def awaitable(result: Any, function: Callable[..., Any]) -> Any:
    """What an async function gave; TypeError if that can't be awaited."""
    if inspect.isawaitable(result):
        return result
    if isinstance(result, AsyncIterator):
        remedy = "iterate over it (Portal.iterate)"
    else:
        remedy = "call it directly, or in a thread (to_thread)"
    raise TypeError(f"{function!r} is no async function, it gave {type(result).__name__!r}: {remedy}")
