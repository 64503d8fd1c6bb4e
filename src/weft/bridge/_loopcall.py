"""A coroutine run in a loop for a thread that waits for it.

Rules for whoever edits this file:

- `LoopCall` is made and waited for in the calling thread; everything with a leading underscore runs in the loop's.
- The waiting thread is told exactly once, by `_tell`: the task has ended, was cancelled, or could not be made. Only a loop that
  was closed without running what it had been given tells nothing; so the waiting thread looks for that from time to time.
- Where the waiting thread runs a job for the loop, its place is free for others meanwhile (`Job.pause`), and a cancellation
  of the job reaches the task.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from weft.bridge._workers import current_job, own_thread
from weft.bridge.errors import Closed, Deadlock

__all__ = ["LoopCall"]

#: How often a waiting thread looks whether the loop was closed under it.
LOOK_S = 1.0


class LoopCall:
    """One call of an async function in `loop`, with the calling thread's context."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        if asyncio._get_running_loop() is loop:
            raise Deadlock(
                f"{function!r} was called from the thread of its own loop, which it would block: await it there"
            )
        self._loop = loop
        self._function = function
        self._args = args
        self._kwargs = kwargs
        self._context = copy_context()
        self._task: asyncio.Task[Any] | None = None
        self._is_cancelled = False
        self._is_over = False
        self._over = threading.Lock()
        self._over.acquire()
        self._own = own_thread()
        job = current_job()
        self._job = job
        # Its place among the jobs of a loop can be lent by that loop only.
        self._lender = job if job is not None and job.loop is loop else None
        self._result: Any = None
        self._error: BaseException | None = None

    def wait(self) -> Any:
        """Start it and wait for its outcome. Ctrl-C cancels it, and waits for its end."""
        job = self._job
        if job is not None:
            if job.cancelled:
                raise asyncio.CancelledError
            job.on_cancel = self._cancel
        try:
            self._post(self._start)
            try:
                self._wait_over()
            except BaseException:
                # A signal's handler has raised, most often KeyboardInterrupt. Once more, and nobody waits any longer.
                self.cancel()
                self._wait_over()
                raise
        finally:
            if job is not None:
                job.on_cancel = None
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
        if self._lender is not None:
            self._lender.pause()
        try:
            self._task = self._loop.create_task(_call(self._function, self._args, self._kwargs), context=self._context)
        except BaseException as error:
            self._tell(None, error)
            raise
        if self._is_cancelled:
            self._task.cancel()
        self._task.add_done_callback(self._finish)

    def _cancel(self) -> None:
        self._is_cancelled = True
        if self._task is not None:
            self._task.cancel()

    def _finish(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            self._tell(None, asyncio.CancelledError())
        elif (error := task.exception()) is not None:
            self._tell(None, error)
        else:
            self._tell(task.result(), None)

    def _tell(self, result: Any, error: BaseException | None) -> None:
        if self._lender is not None:
            self._lender.go_on()
        self._result, self._error = result, error
        self._task = None
        self._is_over = True
        if self._own is not None:
            self._own.nudge()
        else:
            self._over.release()


async def _call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return await function(*args, **kwargs)
