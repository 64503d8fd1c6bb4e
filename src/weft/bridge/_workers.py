"""The threads that run synchronous calls for coroutines.

Rules for whoever edits this file:

- A `Job` ends in exactly one of three ways: it is taken back before a thread began it, it ends in its thread, or the
  process ends. Its `_lock` decides between the first two; what it came to is told to the loop once.
- The loop's thread never waits for a worker. A worker waits for a loop only inside a job that asks it to (`waits`),
  and meanwhile does what else is queued for that thread alone: else a nested call to it could never be run.
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
from collections.abc import Callable
from contextvars import Context, copy_context
from queue import Empty, SimpleQueue
from typing import Any, Protocol

__all__ = ["Job", "OwnThread", "Pool", "current_job", "own_thread", "submit"]

#: A thread of the pool that has had nothing to do for so long ends.
IDLE_S = 10.0

_here = threading.local()


def current_job() -> Job | None:
    """The job that runs in the calling thread; None if the thread runs none."""
    return getattr(_here, "job", None)


class Owner(Protocol):
    """Who submits jobs, and limits how many run at once. All in the loop's thread."""

    def _on_end(self, job: Job) -> None:
        """A job of yours has ended in its thread."""

    def _lend_place(self) -> None:
        """A job waits for the loop: another may run in its place."""

    def _take_place(self) -> None:
        """It goes on."""


class Job:
    """One synchronous call for one loop. Made and awaited in the loop's thread; `run` is called by a worker.

    cancelled:  somebody asked it to end; for the call to look at. Written by the loop's thread, once.
    """

    __slots__ = (
        "_args",
        "_context",
        "_function",
        "_kwargs",
        "_lock",
        "_owner",
        "_state",
        "cancelled",
        "ended",
        "error",
        "loop",
        "on_cancel",
        "result",
        "started_at",
        "thread",
        "thread_id",
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
        self.thread: str = ""
        self.thread_id: int = 0
        self.started_at: float = 0.0

    def __repr__(self) -> str:
        return f"<call of {self.what!r}, {self._state}>"

    @property
    def is_running(self) -> bool:
        return self._state == "running"

    @property
    def is_done(self) -> bool:
        return self._state == "done"

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

    def pause(self) -> None:
        """It waits for the loop."""
        self._owner._lend_place()

    def go_on(self) -> None:
        """It has what it waited for."""
        self._owner._take_place()

    def run(self) -> None:
        """Do it. In a worker's thread."""
        with self._lock:
            if self._state != "queued":
                return
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
        try:
            self.loop.call_soon_threadsafe(self._owner._on_end, self)
        except RuntimeError:
            # The loop is closed, so nobody is left to hear of it.
            if not self.loop.is_closed():
                raise

    def outcome(self) -> Any:
        """What the call returned; raises what it raised. Once."""
        error, self.error = self.error, None
        if error is None:
            return self.result
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
                self._made += 1
                is_new = True
        if is_new:
            threading.Thread(target=self._work, args=(job,), name=f"weft-bridge-{self._made}", daemon=True).start()
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
        self.name = name
        self._queue: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._ident = 0
        self._is_closed = False

    def submit(self, job: Job) -> None:
        """Run a job after those that wait. Any thread."""
        self._put(job.run)

    def _put(self, call: Callable[[], object]) -> None:
        with self._lock:
            if self._is_closed:
                raise RuntimeError(f"the thread {self.name!r} has ended")
            if not self._ident:
                self._ident = -1
                threading.Thread(target=self._work, name=self.name, daemon=True).start()
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


_pool = Pool()


def submit(job: Job) -> None:
    """Run a job in any thread of the process."""
    _pool.submit(job)


def _start_anew() -> None:
    """In a forked child: the threads are the parent's."""
    global _pool
    _pool = Pool()
    _here.__dict__.clear()


os.register_at_fork(after_in_child=_start_anew)
