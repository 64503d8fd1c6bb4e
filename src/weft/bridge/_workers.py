"""The threads that run synchronous calls for coroutines.

Rules for whoever edits this file:

- A `Job` ends in exactly one of three ways: it is taken back before a thread began it, it ends in its thread, or the
  process ends. Its `_lock` decides between the first two; what it came to is told to the loop once.
- The loop's thread never waits for a worker. A worker waits for a loop only inside a job that asks it to, and then does
  what is queued for that thread alone meanwhile: else a nested call to it could never be run.
- `inside` says of which job a coroutine is part: the one that waits for it, or for what started it. Contexts carry it, so it
  must never hold more than jobs that have not ended.
- Workers are daemon threads: a call that never returns must not keep the interpreter from exiting. Whoever must
  not be cut off in the middle is awaited by its own coroutine.
- A forked child has none of these threads, and starts its own.

Why not `ThreadPoolExecutor`: a coroutine needs neither its future nor the second one that wraps it, nor its join at
exit, which is where programs with a stuck thread hang; and it can't give a caller the same thread twice.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from queue import Empty, SimpleQueue
from typing import Any, Protocol

__all__ = ["Job", "OwnThread", "Pool", "abandoned_jobs", "current_job", "inside", "own_thread", "submit"]

#: A thread of the pool that has had nothing to do for so long ends.
IDLE_S = 10.0

_here = threading.local()

#: The job that waits, in its thread, for the coroutine that looks here.
inside: ContextVar[Job | None] = ContextVar("weft.bridge.inside", default=None)

#: Those that nobody waits for any more and that still run, in all loops.
abandoned_jobs: set[Job] = set()


def _waiting() -> Job | None:
    """The innermost job that still waits for the coroutine that runs, or for what started it."""
    job = inside.get()
    while job is not None and not job.is_running:
        job = job.parent
    return job


def current_job() -> Job | None:
    """The job that runs in the calling thread; None if the thread runs none."""
    return getattr(_here, "job", None)


class Owner(Protocol):
    """Who submits jobs, and limits how many run at once. In the loop's thread, but for `_next` and `_on_lost`."""

    def _next(self, job: Job) -> Job | None:
        """A job of yours gives its thread back: the one that is to run there now. In the worker's thread."""

    def _on_end(self, job: Job) -> None:
        """A job of yours has ended in its thread."""

    def _on_pause(self, job: Job) -> None:
        """A job waits for the loop: another may run in its place."""

    def _on_go_on(self, job: Job) -> None:
        """It goes on."""

    def _on_lost(self, job: Job) -> None:
        """A job has ended, and its loop is closed. In the worker's thread."""


class Job:
    """One synchronous call for one loop. Made and awaited in the loop's thread; `run` is called by a worker.

    cancelled:     somebody asked it to end; for the call to look at. Written by the loop's thread, once.
    calls:         the task that it waits for in its loop, if it does
    is_abandoned:  nobody waits for it
    is_guest:      it has no place of its own among its owner's jobs
    overdue:       why it is waited for no longer, if it has taken too long
    timer:         ends the wait for it
    parent:        the job that waits for the coroutine that submitted this one
    """

    __slots__ = (
        "_args",
        "_context",
        "_function",
        "_kwargs",
        "_lock",
        "_owner",
        "_state",
        "calls",
        "cancelled",
        "ended",
        "error",
        "is_abandoned",
        "is_guest",
        "loop",
        "on_cancel",
        "overdue",
        "parent",
        "result",
        "started_at",
        "thread",
        "thread_id",
        "timer",
        "waiters",
        "what",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        owner: Owner,
    ) -> None:
        self.loop: asyncio.AbstractEventLoop = loop
        #: What is called, for messages.
        self.what: Callable[..., Any] = function
        self._function: Callable[..., Any] | None = function
        self._args: Any = args
        self._kwargs: Any = kwargs
        self._context: Context | None = copy_context()
        self._lock = threading.Lock()
        # "queued", then "running" and "done", or "withdrawn".
        self._state = "queued"
        self._owner = owner
        self.cancelled: bool = False
        #: Called, once, in the thread that cancels; set by the call itself, to be woken from a wait.
        self.on_cancel: Callable[[], object] | None = None
        #: Done when the loop has heard of the call's end; it may be cancelled by who awaits it.
        self.ended: asyncio.Future[None] = loop.create_future()
        #: More of them, of those that wait however often they are cancelled.
        self.waiters: list[asyncio.Future[None]] = []
        self.result: Any = None
        self.error: BaseException | None = None
        self.calls: asyncio.Task[Any] | None = None
        self.is_abandoned: bool = False
        self.is_guest: bool = False
        self.overdue: Exception | None = None
        self.parent: Job | None = _waiting()
        self.thread: str = ""
        self.thread_id: int = 0
        self.started_at: float = 0.0
        self.timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<call of {self.what!r}, {self._state}>"

    @property
    def is_running(self) -> bool:
        return self._state == "running"

    @property
    def is_done(self) -> bool:
        return self._state == "done"

    @property
    def is_over(self) -> bool:
        """It has ended, or will never begin."""
        return self._state in ("done", "withdrawn")

    def withdraw(self) -> bool:
        """Take it back; False if a thread has begun it."""
        with self._lock:
            if self._state != "queued":
                return False
            self._state = "withdrawn"
        self._function = self._args = self._kwargs = self._context = None
        return True

    def cancel(self) -> None:
        """Ask the call to end. It does so if it looks."""
        if not self.cancelled:
            self.cancelled = True
            wake = self.on_cancel
            if wake is not None:
                wake()

    def abandon(self) -> None:
        """Nobody waits for it any more: it counts among the abandoned until it ends."""
        self.is_abandoned = True
        abandoned_jobs.add(self)
        if self._state == "done":
            # It ended meanwhile, and perhaps before it was added.
            abandoned_jobs.discard(self)

    def belongs_to(self, owner: Owner) -> bool:
        """Whether it was submitted by `owner`."""
        return self._owner is owner

    def pause(self, task: asyncio.Task[Any]) -> None:
        """It waits for a task of the loop."""
        self.calls = task
        self._owner._on_pause(self)

    def go_on(self) -> None:
        """It has what it waited for."""
        self.calls = None
        self._owner._on_go_on(self)

    def run(self) -> None:
        """Do it, and then what its owner has for this thread. In a worker's thread."""
        job: Job | None = self
        while job is not None:
            is_run = job._call()
            following = job._owner._next(job)
            if is_run:
                job._tell()
            job = following

    def _call(self) -> bool:
        with self._lock:
            if self._state != "queued":
                return False
            self._state = "running"
        outer = getattr(_here, "job", None)
        _here.job = self
        self.thread_id = threading.get_ident()
        self.thread = threading.current_thread().name
        self.started_at = time.monotonic()
        try:
            self.result = self._context.run(self._function, *self._args, **self._kwargs)  # type: ignore[union-attr, arg-type]
        except BaseException as error:
            # Whatever it is, a SystemExit too: it belongs to who awaits the call, not to this thread.
            self.error = error
        finally:
            _here.job = outer
            self._function = self._args = self._kwargs = self._context = None
        self._state = "done"
        abandoned_jobs.discard(self)
        return True

    def _tell(self) -> None:
        """Let the loop hear of the end."""
        try:
            self.loop.call_soon_threadsafe(self._owner._on_end, self)
        except RuntimeError:
            if not self.loop.is_closed():
                raise
            self._owner._on_lost(self)

    def outcome(self) -> Any:
        """What the call returned; raises what it raised. Once."""
        error, self.error = self.error, None
        if error is None:
            # A context may keep this job for longer than what it gave.
            result, self.result = self.result, None
            return result
        try:
            raise error
        finally:
            # Its traceback holds this frame.
            del error

    def where(self) -> str:
        """The line that the call is at, as `file:line in function`; "" if it does not run. Any thread."""
        frame = sys._current_frames().get(self.thread_id) if self._state == "running" else None
        if frame is None:
            return ""
        return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"


class Pool:
    """Threads for anybody's jobs: as many as there is work for at once. Who wants fewer limits what it submits."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Job] = SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0
        self._made = 0

    def submit(self, job: Job) -> None:
        """Run a job in a thread. Any thread; RuntimeError if none can be started."""
        with self._lock:
            if self._idle:
                self._idle -= 1
                is_new = False
            else:
                self._made = number = self._made + 1
                is_new = True
        if is_new:
            threading.Thread(target=self._work, args=(job,), name=f"weft-bridge-{number}", daemon=True).start()
        else:
            self._queue.put(job)

    def _work(self, first: Job) -> None:
        first.run()
        del first
        while True:
            with self._lock:
                self._idle += 1
            try:
                job = self._queue.get(timeout=IDLE_S)
            except Empty:
                with self._lock:
                    if self._idle:
                        self._idle -= 1
                        return
                # Somebody has counted on this thread just now.
                job = self._queue.get()
            job.run()
            del job


class OwnThread:
    """A thread that runs its jobs one after the other, and is always the same. It ends with `close`."""

    def __init__(self, name: str) -> None:
        self.name: str = name
        self._is_closed = False
        self.start_anew()
        _own_threads.add(self)

    def start_anew(self) -> None:
        """In a forked child: no thread, nothing queued."""
        self._queue: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._ident = 0

    def submit(self, job: Job) -> None:
        """Run a job after those that wait. Any thread."""
        self._put(job.run)

    def _put(self, call: Callable[[], object]) -> None:
        with self._lock:
            if self._is_closed:
                raise RuntimeError(f"the thread {self.name!r} has ended")
            if not self._ident:
                self._ident = -1
                try:
                    threading.Thread(target=self._work, name=self.name, daemon=True).start()
                except BaseException:
                    self._ident = 0
                    raise
        self._queue.put(call)

    def close(self) -> None:
        """Let it end when it has done what is queued."""
        with self._lock:
            self._is_closed = True
        self._queue.put(None)

    def is_mine(self) -> bool:
        """Whether the calling thread is this one."""
        return self._ident == threading.get_ident()

    def _work(self) -> None:
        self._ident = threading.get_ident()
        _here.own = self
        while (call := self._queue.get()) is not None:
            call()
            del call

    def serve_until(self, is_over: Callable[[], bool], timeout_s: float) -> None:
        """Do what is queued until `is_over`, which somebody makes true and then calls `nudge`, or until nothing came for a
        while. In this thread."""
        must_end = False
        while not is_over():
            try:
                call = self._queue.get(timeout=timeout_s)
            except Empty:
                break
            if call is None:
                must_end = True
            else:
                call()
        if must_end:
            self._queue.put(None)

    def nudge(self) -> None:
        """Let `serve_until` look again. Any thread."""
        self._queue.put(_nothing)


def _nothing() -> None:
    pass


def own_thread() -> OwnThread | None:
    """The `OwnThread` that the calling thread is, if any."""
    return getattr(_here, "own", None)


_own_threads: weakref.WeakSet[OwnThread] = weakref.WeakSet()
_pool = Pool()


def submit(job: Job) -> None:
    """Run a job in any thread of the process."""
    _pool.submit(job)


def _start_anew() -> None:
    """In a forked child: the threads are the parent's."""
    global _pool
    _pool = Pool()
    _here.__dict__.clear()
    abandoned_jobs.clear()
    for own in list(_own_threads):
        own.start_anew()


os.register_at_fork(after_in_child=_start_anew)
