"""The scheduler: the ready queue and one turn of the loop.

A turn: take what other threads left; ask the poller which descriptors are ready; move the timers that are due to the ready
queue; run everything that is in it now. What a callback queues runs in the next turn, never in this one.

Rules for whoever edits this file:

- The ready queue is two lists that change places each turn. Only this ring appends to `_ready_queue`, and only runnables: the
  compiled `_run_rest` does not look again (others use `_queue`, and what a poller appends is checked). Only it takes from
  the other, and puts back what it could not run if SystemExit or KeyboardInterrupt ends the turn early.
- The current task is left lazily. After a step `_current` still names its task; it is cleared before whoever could see
  it: a runnable that is not a step, the poller when it blocks (signal handlers), and every way out of the loop.
- While there is work the kernel is asked at least every `_POLL_TURNS` turns and every `_POLL_NS` nanoseconds, whichever
  comes first: often enough that a socket waits no longer than a few callbacks, seldom enough that a chain of small
  callbacks does not pay a system call for each. It is asked in the next turn when the loop itself sent something, or
  watched or closed a descriptor: programs count the turns until that arrives. The first turn of a run always polls.
- `_inbox` is the only thing that other threads touch. They append first and look at `_is_blocked` after; the loop
  sets `_is_blocked` first and looks at `_inbox` after. So either the loop sees the work or the thread sees the flag. Without
  a GIL the two looks could pass each other: there a thread always wakes.
- `_dirty` is what collected effects in the callback that ran last (a transport's writes), and is let out as soon as that
  callback returns: a list by way of `_following`, because it has one member as a rule, and is made for each message.

Everything but `_put_from_thread` is for the thread that runs the loop.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from typing import Any

from weft._core.clock import Clock
from weft._core.current import CurrentTask
from weft._core.handle import Flushable, Handle, Runnable, ThreadSafeHandle
from weft._core.hooks import Counters
from weft._core.timers import TimerHandle, Timers
from weft._native.drive import Drive
from weft._native.runningtask import RunningTask

try:
    import cython
except ImportError:
    from weft import _cython as cython

#: A busy loop asks the kernel after so many turns, or after so much time.
_POLL_TURNS = 61
_POLL_NS = 50_000

#: The longest a poll may block: a day, as in asyncio; C's timeouts end a little above that.
_POLL_LONGEST_NS = 24 * 3600 * 1_000_000_000

# From 3.14 on cancelling a handle of `call_soon_threadsafe` waits while it runs.
_LOCKS_HANDLES = sys.version_info >= (3, 14)

_IS_GIL_ON: bool = getattr(sys, "_is_gil_enabled", lambda: True)()


class Scheduler:
    """Everything of a loop that has to be fast, but for tasks and futures, which need it."""

    __slots__ = (
        "__weakref__",
        "_closed",
        "_counters",
        "_current",
        "_current_handle",
        "_debug",
        "_dirty",
        "_dirty_last",
        "_has_own_clock",
        "_inbox",
        "_is_blocked",
        "_is_timed",
        "_live",
        "_poller",
        "_ready_queue",
        "_registers_tasks",
        "_spare",
        "_stopping",
        "_taken",
        "_thread_id",
        "_timers",
        "_touched",
        "_turns_unpolled",
        "_polled_ns",
        "slow_callback_duration",
    )

    def __init__(self, poller: Any) -> None:
        self._poller = poller
        self._counters: Counters = poller.ops.counters
        self._timers = Timers()
        # The ready queue, and the list that takes its place while it runs.
        self._ready_queue: list[Runnable] = []
        self._spare: list[Runnable] = []
        # How many of the batch that runs were taken.
        self._taken = 0
        # What is to be flushed when the callback that runs now returns: the first and the last.
        self._dirty: Flushable | None = None
        self._dirty_last: Flushable | None = None
        self._inbox: deque[Runnable] = deque()
        # The loop is in, or about to enter, a poll that waits.
        self._is_blocked = False
        # The task whose step ran last, while asyncio still holds it for the current one; or None.
        self._current: Any = None
        # The tasks of this loop that are not done: what keeps them alive.
        self._live: set[Any] = set()
        # Whether asyncio must be told of each task, because its `all_tasks` does not see `_live`.
        self._registers_tasks = False
        self._stopping = False
        self._closed = False
        self._debug = False
        # Somebody asked for the longest callback.
        self._is_timed = False
        # In debug mode, the handle that runs now.
        self._current_handle: Any = None
        # The thread in which the loop runs; 0 while it doesn't.
        self._thread_id = 0
        self._turns_unpolled = 0
        self._polled_ns = 0
        # How often the loop had sent something, or touched a descriptor, at the last poll.
        self._touched = 0
        # `time` may be another's, of a subclass or a test, and is asked; otherwise the clock is read directly.
        self._has_own_clock = False
        #: In debug mode a callback that takes longer is reported; seconds.
        self.slow_callback_duration: float = 0.1

    # -- putting work in --

    def _check_closed(self) -> None:
        if self._closed:
            raise RuntimeError("Event loop is closed")

    def _check_thread(self) -> None:
        """In debug mode: raise when the caller is not in the loop's thread. A loop that doesn't run has no thread."""
        if self._thread_id != 0 and not self._is_here():
            raise RuntimeError("Non-thread-safe operation invoked on an event loop other than the current one")

    def _is_here(self) -> bool:
        """Whether the caller is in the thread that runs the loop: then some callback of it runs now."""
        return self._thread_id == Drive.thread_id()

    def _check_put(self) -> None:
        """Raise when nothing can be queued: the loop is closed or, in debug mode, another thread's."""
        if self._closed:
            self._check_closed()
        if self._debug:
            self._check_thread()

    def _put(self, runnable: Runnable) -> None:
        """Queue a runnable for the next turn."""
        if self._closed or self._debug:
            self._check_put()
        self._ready_queue.append(runnable)

    def _queue(self, runnable: Runnable) -> None:
        """`_put`, for modules that are not compiled."""
        self._put(runnable)

    @property
    def _ready(self) -> list[Runnable]:
        """What waits for the next turn: a copy, for those who look at asyncio's private name."""
        return list(self._ready_queue)

    def _ready_count(self) -> int:
        """How many runnables wait for the next turn."""
        return len(self._ready_queue)

    def _put_call(self, callback: Callable[..., object], args: tuple[Any, ...], context: Any) -> Handle:
        """Queue a callback for the next turn, in `context` or, for None, a copy of the present one."""
        handle = self._handle(callback, args, context)
        if self._thread_id == 0 and self._inbox:
            # The loop does not run, so nobody has taken what other threads left before this.
            self._take_inbox()
        self._ready_queue.append(handle)
        return handle

    def _put_from_thread(self, callback: Callable[..., object], args: tuple[Any, ...], context: Any) -> Handle:
        """As `_put_call`, from any thread or a signal handler; wakes the loop."""
        if _LOCKS_HANDLES:
            handle: Handle = ThreadSafeHandle(callback, args, self, context)  # type: ignore[arg-type]
        else:
            handle = self._handle(callback, args, context)
        if not self._is_blocked and self._is_here():
            # The loop's own thread: nothing to wake, and the order of calls is kept.
            self._ready_queue.append(handle)
            return handle
        self._inbox.append(handle)
        if self._is_blocked or not _IS_GIL_ON:
            self._poller.wake()
        return handle

    def _put_timer(
        self, when: float, callback: Callable[..., object], args: tuple[Any, ...], context: Any
    ) -> TimerHandle:
        """Queue a callback for a time in seconds of the loop's clock."""
        handle = TimerHandle.__new__(TimerHandle)
        handle._callback = callback
        handle._args = args
        handle._loop = self
        handle._context = Drive.copy_context() if context is None else context
        handle._cancelled = False
        handle._is_step = False
        handle._repr = None
        handle._source_traceback = None
        handle._when = when
        handle._when_ns = Clock.to_ns(when)
        handle._index = -1
        if self._debug:
            self._remember_origin(handle)
        self._timers.add(handle)
        return handle

    def _handle(self, callback: Callable[..., object], args: tuple[Any, ...], context: Any) -> Handle:
        handle = Handle.__new__(Handle)
        handle._callback = callback
        handle._args = args
        handle._loop = self
        handle._context = Drive.copy_context() if context is None else context
        handle._cancelled = False
        handle._is_step = False
        handle._repr = None
        handle._source_traceback = None
        if self._debug:
            self._remember_origin(handle)
        return handle

    def _remember_origin(self, handle: Handle) -> None:
        """Debug mode: note where a callback was scheduled. Loop methods between the user and here leave themselves out."""
        raise NotImplementedError

    def _mark_dirty(self, flushable: Flushable) -> bool:
        """Call `flushable._flush()` when the callback that runs now returns; False when none runs in this thread: nobody
        would."""
        if flushable._is_dirty:
            return True
        if not self._is_here():
            return False
        flushable._is_dirty = True
        if self._dirty is None:
            self._dirty = flushable
        else:
            self._dirty_last._following = flushable  # type: ignore[union-attr]
        self._dirty_last = flushable
        return True

    # -- the current task --

    def _enter(self, task: Any) -> None:
        """`task` runs now."""
        if self._current is not task:
            if not RunningTask.set(self, task):
                CurrentTask.set(self, task)
            self._current = task

    def _leave(self) -> None:
        """No task runs now."""
        if self._current is not None:
            self._current = None
            if not RunningTask.set(self, None):
                CurrentTask.set(self, None)

    # -- taking work out --

    def _now_ns(self) -> int:
        if self._has_own_clock:
            return Clock.to_ns(self.time())
        return Clock.now_ns()

    def time(self) -> float:
        """The loop's clock in seconds: `time.monotonic`. Any thread."""
        return Clock.now()

    def _run_until_stopped(self) -> None:
        """Turn until `_stopping` is set. Whatever ends it, no task is current afterwards."""
        self._turns_unpolled = _POLL_TURNS
        try:
            while True:
                self._turn()
                if self._stopping:
                    break
        finally:
            # A SystemExit passes the flush of the callback that raised it, and perhaps no other turn comes.
            if self._dirty is not None:
                self._flush_dirty()
            self._leave()

    def _turn(self) -> None:
        """One turn."""
        counters = self._counters
        counters.turns += 1
        if self._dirty is not None:
            # Left by whoever wrote while no callback ran.
            self._flush_dirty()
        if self._inbox:
            self._take_inbox()
        if self._ready_queue or self._stopping:
            now_ns = self._now_ns()
            self._turns_unpolled += 1
            if (
                self._turns_unpolled >= _POLL_TURNS
                or now_ns - self._polled_ns >= _POLL_NS
                or counters.sends + counters.touches != self._touched
            ):
                self._poll(0)
                self._polled_ns = now_ns
        else:
            now_ns = self._wait()
        if self._timers._heap:
            self._timers.pop_due(now_ns, self._ready_queue)
        batch = self._ready_queue
        if batch:
            self._ready_queue = self._spare
            self._spare = batch
            self._run_batch(batch)

    def _poll(self, timeout_ns: int) -> None:
        counters = self._counters
        counters.polls += 1
        self._touched = counters.sends + counters.touches
        self._turns_unpolled = 0
        count = len(self._ready_queue)
        try:
            self._poller.poll(timeout_ns, self._ready_queue)
        finally:
            while count < len(self._ready_queue):
                if not isinstance(self._ready_queue[count], Runnable):
                    wrong = self._ready_queue[count]
                    del self._ready_queue[count:]
                    raise TypeError(f"{self._poller!r} gave what can't be run: {wrong!r}")
                count += 1

    def _wait(self) -> int:
        """Nothing is ready: block until a descriptor, a timer, another thread or a signal; the time afterwards."""
        timeout_ns = -1
        if self._timers._heap:
            now_ns = self._now_ns()
            # Compared first: from a time long ago to now can be more than 64 bits of nanoseconds.
            timeout_ns = 0
            if self._timers.next_ns() > now_ns:
                timeout_ns = self._timers.next_ns() - now_ns
            if timeout_ns > _POLL_LONGEST_NS:
                timeout_ns = _POLL_LONGEST_NS
        self._leave()
        self._is_blocked = True
        try:
            # Work may have come before the flag could be seen: then nobody wakes us.
            self._poll(0 if self._inbox else timeout_ns)
        finally:
            self._is_blocked = False
        if self._inbox:
            self._take_inbox()
        now_ns = self._now_ns()
        self._polled_ns = now_ns
        return now_ns

    def _take_inbox(self) -> None:
        """Move what other threads left to the ready queue; what they add meanwhile waits for the next turn."""
        self._counters.wakes += 1
        count = len(self._inbox)
        while count > 0:
            self._ready_queue.append(self._inbox.popleft())
            count -= 1

    def _run_batch(self, batch: list[Any]) -> None:
        """Run every runnable of the batch, and empty it."""
        self._taken = 0
        try:
            while self._taken < len(batch):
                try:
                    if self._debug or self._is_timed:
                        self._run_timed(batch)
                    else:
                        self._run_rest(batch)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as exc:
                    # One `try` for all of them costs nothing for each; the loop below goes on behind the one that failed.
                    self._report_escaped(batch[self._taken - 1], exc)
        finally:
            self._counters.callbacks += self._taken
            if self._taken < len(batch):
                self._ready_queue[:0] = batch[self._taken :]
            batch.clear()

    def _run_rest(self, batch: list[Any]) -> None:
        """Run what was not taken yet. What has run is let go at once, as a queue would."""
        count = len(batch)
        while self._taken < count:
            place = self._taken
            # SAFETY: unchecked in C, because nothing but a Runnable ever gets into the ready queue: see the rules.
            runnable = cython.cast(Runnable, batch[place])
            self._taken = place + 1
            if self._current is not None and not runnable._is_step:
                self._leave()
            runnable._run()
            # A traceback that a task keeps reaches this frame by f_back: the task must not hang on it.
            runnable = None
            batch[place] = None
            if self._dirty is not None:
                self._flush_dirty()

    def _run_timed(self, batch: list[Any]) -> None:
        """As `_run_rest`, with the clock read around every runnable: debug mode, or somebody asked for the longest.

        Written twice so that the loop above, which is the hottest of all, asks nothing for each runnable.
        """
        count = len(batch)
        try:
            while self._taken < count:
                place = self._taken
                runnable = batch[place]
                self._taken = place + 1
                if self._current is not None and not runnable._is_step:
                    self._leave()
                self._current_handle = runnable
                start_ns = Clock.now_ns()
                runnable._run()
                if self._dirty is not None:
                    self._flush_dirty()
                self._note_duration(runnable, Clock.now_ns() - start_ns)
                self._current_handle = runnable = batch[place] = None
        finally:
            self._current_handle = None

    def _report_escaped(self, runnable: Any, exc: BaseException) -> None:
        """A runnable raised what it should have contained, such as a step of a task whose future can't be waited for."""
        self._leave()
        context = {"message": f"Exception in {self._describe(runnable)}", "exception": exc}
        if runnable is not None and runnable._is_step:
            context["task"] = runnable
        self.call_exception_handler(context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Report what nobody else can be told: the loop's part."""
        raise NotImplementedError

    def _note_duration(self, runnable: Any, duration_ns: int) -> None:
        """A runnable took so long: remember the longest, and in debug mode report what is slow."""
        if duration_ns > self._counters.longest_ns:
            self._counters.longest_ns = duration_ns
            self._counters.longest_what = self._describe(runnable)
        if self._debug and duration_ns >= self.slow_callback_duration * 1e9:
            self._leave()
            self._report_slow(runnable, duration_ns / 1e9)

    def _describe(self, runnable: Any) -> str:
        """What ran, for people. The loop's reports know how; a bare scheduler gives the repr."""
        return repr(runnable)

    def _report_slow(self, runnable: Any, duration: float) -> None:
        """Tell somebody that a callback took `duration` seconds: the loop's part."""
        raise NotImplementedError

    def _flush_dirty(self) -> None:
        """Let out what the last callback collected."""
        self._leave()
        while self._dirty is not None:
            # Each is taken out first: it may be marked again, and if it is interrupted the others are not lost.
            flushable = self._dirty
            self._dirty = flushable._following
            if self._dirty is None:
                self._dirty_last = None
            flushable._following = None
            flushable._is_dirty = False
            flushable._flush()

    def _clear(self) -> None:
        """Drop everything that is scheduled: the loop is closed."""
        self._ready_queue.clear()
        if self._spare:
            # A forked child in the middle of a turn: the rest of the batch must not run, and its length must stay.
            nothing = self._handle(None, (), None)  # type: ignore[arg-type]
            nothing._cancelled = True
            self._spare[:] = [nothing] * len(self._spare)
        self._inbox.clear()
        self._timers.clear()
        self._dirty = self._dirty_last = None
        self._live.clear()
