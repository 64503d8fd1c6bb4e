"""What a cancellation means to a synchronous call that runs in a thread: the contract, and the call's side of it.

No thread can be ended from outside. So when the task that awaits a call is cancelled,

- a call that no thread has begun never runs;
- a call that runs is *asked* to end. It sees that when it calls `check_cancelled()`, which raises CancelledError, or
  waits by `sleep(seconds)`, which is cut short;
- and the task, by what was chosen for the call, either **waits** for it (the default: afterwards nothing of it goes on behind
  your back, and its own error is what the task gets; a result is dropped), or **abandons** it: the task is cancelled at once,
  the call runs on, and counts among `abandoned()` until it ends. What an abandoned call raises goes to the loop's exception
  handler.

A time-out abandons, always, and its error says which thread is still running, and where; a call that is waited for after a
cancellation is given up at its time-out too. The interpreter's exit waits for no such thread.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from weft.bridge._workers import Job, abandoned_jobs, current_job

__all__ = ["AbandonedCall", "abandoned", "check_cancelled", "is_cancelled", "sleep"]

#: In a worker process or interpreter: whether the call that it runs was asked to end. Set by the worker for each call.
asked_elsewhere: Callable[[], bool] | None = None

#: How often `sleep` looks for that.
LOOK_S = 0.05


class AbandonedCall:
    """A synchronous call that nobody waits for any more and that still runs.

    function:   what was called
    thread:     the name of the thread that runs it
    running_s:  for how many seconds it has run
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self.function: Any = job.what
        self.thread: str = job.thread

    def __repr__(self) -> str:
        where = self.where() or "its end"
        return f"<abandoned call of {self.function!r}, {self.running_s:.1f} s in {self.thread!r}, at {where}>"

    @property
    def running_s(self) -> float:
        return time.monotonic() - self._job.started_at

    def where(self) -> str:
        """The line that it is at, as `file:line in function`; "" if it has ended just now."""
        return self._job.where()

    def stack(self) -> list[str]:
        """Its whole stack, as `traceback.format_stack` gives it; empty if it has ended just now."""
        frame = sys._current_frames().get(self._job.thread_id) if self._job.is_running else None
        return [] if frame is None else traceback.format_stack(frame)


def abandoned() -> tuple[AbandonedCall, ...]:
    """The calls that were abandoned and still run, in all loops of this process, the longest first. Any thread."""
    jobs = sorted(abandoned_jobs, key=lambda job: job.started_at)
    return tuple(AbandonedCall(job) for job in jobs if job.is_running)


def is_cancelled() -> bool:
    """Whether the call that runs in this thread (in a worker process: in this process) was asked to end; False where
    none of ours runs. Cheap."""
    job = current_job()
    if job is None:
        return asked_elsewhere is not None and asked_elsewhere()
    return job.cancelled


def check_cancelled() -> None:
    """Raise `asyncio.CancelledError` if the call that runs in this thread was asked to end. Cheap: call it often."""
    if is_cancelled():
        raise asyncio.CancelledError


def sleep(seconds: float) -> None:
    """`time.sleep` that ends with CancelledError as soon as the call is asked to end."""
    job = current_job()
    if job is None:
        _sleep_elsewhere(seconds)
        return
    woken = threading.Event()
    job.on_cancel = woken.set
    try:
        check_cancelled()
        woken.wait(seconds)
    finally:
        job.on_cancel = None
    check_cancelled()


def _sleep_elsewhere(seconds: float) -> None:
    """`sleep` where nobody can wake it."""
    end = time.monotonic() + seconds
    while asked_elsewhere is not None and (left := end - time.monotonic()) > 0:
        check_cancelled()
        time.sleep(min(left, LOOK_S))
    check_cancelled()
    if (left := end - time.monotonic()) > 0:
        time.sleep(left)
