"""Calls in pools of processes or interpreters.

Rules for whoever edits this file:

- Pools of the standard library and of loky break as a whole when one worker dies: every call that was submitted
  fails. The board says which of them had begun: those get `WorkerDied`, for they may have done something; the others
  are sent again, to a new pool.
- Few more calls are submitted than there are workers; so little is lost with a pool, and what waits can be taken back.
- A call that dies unbegun again and again is given up: then it is the pool that can't live.
- `submit` may fail when the pool has the call already, for it then starts a worker. Such a call is taken back on the
  board, which is never used again; or it has begun, and is lost. (Of other owners' pools before Python 3.12 one may
  also break meanwhile. Ours can't: see `stdlib`.)
"""

from __future__ import annotations

import concurrent.futures
import functools
import sys
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from concurrent.futures import Executor as ConcurrentExecutor
from typing import Any

from weft.bridge._engines import remote, stdlib
from weft.bridge._engines.futures import Again, Call, FuturesEngine, shut_down
from weft.bridge._engines.spi import cores, need
from weft.bridge.errors import Closed, WorkerDied
from weft.bridge.threads import OnCancel

__all__ = ["PoolEngine", "interpreters", "is_pool", "processes"]

#: How often a call is sent again, to pools that break before it begins.
TRIES = 3

#: How all pools begin the words of the RuntimeError by which they refuse a call after their shutdown.
REFUSAL = "cannot schedule"


class _Generation:
    """One pool and one board of it. `is_broken`: it is given no more calls."""

    def __init__(self, pool: ConcurrentExecutor, slots: int) -> None:
        self.pool = pool
        self.board = remote.Board(slots)
        self.is_broken = False
        self.calls = 0

    def leave(self) -> None:
        """A call of it is over, or the pool is given up."""
        if self.is_broken and not self.calls:
            self.board.close()


class _Stuck(Exception):
    """A pool took a call, and then failed to start a worker for it (the error's cause).

    had_begun:  another worker has begun with it; otherwise none ever will
    """

    def __init__(self, had_begun: bool) -> None:
        self.had_begun = had_begun


class _PoolCall(Call):
    def __init__(self, function: Any, generation: _Generation, payload: bytes, tries: list[int]) -> None:
        self._generation = generation
        self._slot = generation.board.take()
        self._tries = tries
        self._had_begun = True
        try:
            future = generation.pool.submit(remote.call, payload, generation.board.path, self._slot)
        except Exception as error:
            if isinstance(error, BrokenExecutor) or str(error).startswith(REFUSAL):
                generation.board.give(self._slot)
                raise
            raise _Stuck(generation.board.cancel(self._slot)) from error
        generation.calls += 1
        super().__init__(function, future)

    def withdraw(self) -> bool:
        # And not by the future: if a pool of 3.11 breaks and holds a cancelled one, its thread dies of that.
        return not self._generation.board.cancel(self._slot)

    def ask(self) -> None:
        if not self.is_over:
            self._generation.board.cancel(self._slot)

    def end(self) -> None:
        if not self.future.cancelled() and isinstance(self.future.exception(), BrokenExecutor):
            self._had_begun = self._generation.board.cancel(self._slot)
            self._generation.is_broken = True
        self._generation.board.give(self._slot)
        self._generation.calls -= 1
        self._generation.leave()

    def outcome(self) -> Any:
        if not self.future.cancelled() and isinstance(error := self.future.exception(), BrokenExecutor):
            if not self._had_begun and len(self._tries) < TRIES:
                self._tries.append(1)
                raise Again
            when = "while it ran" if self._had_begun else "before it began, again and again"
            raise WorkerDied(
                f"{self.function!r} was lost: a worker died {when}, and its pool with it ({error})"
            ) from error
        answer = super().outcome()
        if answer[0] == remote.SKIPPED:
            raise Closed(f"{self.function!r} was not run: it was taken back, or its executor was closed")
        return remote.read(self.function, answer)


class PoolEngine(FuturesEngine):
    """Calls in a pool that `make` makes, and makes again when it has broken; or in one pool of somebody else's."""

    def __init__(
        self,
        name: str,
        make: Callable[[], ConcurrentExecutor],
        workers: int,
        on_cancel: OnCancel,
        owns: bool,
        can_remake: bool,
    ) -> None:
        slots = 2 * workers + 1
        super().__init__(name, workers, on_cancel, slots)
        self._make = make
        self._slots = slots
        self._owns = owns
        self._can_remake = can_remake
        self._generation: _Generation | None = None
        #: Each ends a pool that has broken: its workers, its thread, its pipes.
        self._endings: list[threading.Thread] = []

    async def start(self) -> None:
        self._generation = _Generation(self._make(), self._slots)

    def _pack(
        self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        # Sent as often as its pool breaks before it begins; `[]` counts that.
        return function, (remote.pack(function, args, kwargs), []), {}

    def _send(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        while True:
            generation = self._current()
            if generation.is_broken:
                raise WorkerDied(f"{function!r} can't be run: {generation.pool!r} is broken: make another one")
            try:
                return _PoolCall(function, generation, *args)
            except BrokenExecutor:
                # It broke with nothing under way, or the calls that it took along are not yet told.
                generation.is_broken = True
            except RuntimeError as error:
                raise Closed(f"{function!r} can't be run: {generation.pool!r} was shut down ({error})") from error
            except _Stuck as stuck:
                self._leave_stuck(function, generation, stuck, args[1])

    def _leave_stuck(self, function: Any, generation: _Generation, stuck: _Stuck, tries: list[int]) -> None:
        """Go on with another board after `stuck`, whose slot is no longer ours; raises what can't be mended so.

        With the same pool: if it has broken it will say so, and if not, what runs there need not be disturbed.
        """
        generation.is_broken = True
        generation.leave()
        self._generation = _Generation(generation.pool, self._slots)
        if stuck.had_begun:
            raise WorkerDied(f"{function!r} was lost: it had begun when its pool failed ({stuck.__cause__})") from stuck
        if len(tries) >= TRIES:
            assert stuck.__cause__ is not None
            raise stuck.__cause__
        tries.append(1)

    def _current(self) -> _Generation:
        generation = self._generation
        assert generation is not None, "started"
        if generation.is_broken and self._can_remake:
            ending = threading.Thread(target=generation.pool.shutdown, name="weft-bridge-ending")
            ending.start()
            self._endings = [each for each in self._endings if each.is_alive()] + [ending]
            generation.leave()
            generation = self._generation = _Generation(self._make(), self._slots)
        return generation

    async def _shut_down(self) -> None:
        generation = self._generation
        if generation is None:
            return
        try:
            if self._owns:
                is_clear = self._is_clear()
                await shut_down(lambda: _end_pool(generation.pool, is_clear))
            if self._endings:
                await shut_down(self._join_endings)
        finally:
            # What is left of its calls will not begin: it finds no board.
            generation.board.unlink()
            generation.is_broken = True
            generation.leave()

    def _join_endings(self) -> None:
        for ending in self._endings:
            ending.join()


def _end_pool(pool: ConcurrentExecutor, is_clear: bool) -> None:
    """End a pool; where a call runs that was abandoned, by force, if its kind allows that."""
    if is_clear:
        pool.shutdown(wait=True)
    elif isinstance(pool, ProcessPoolExecutor):
        for process in list((pool._processes or {}).values()):
            process.kill()
        pool.shutdown(wait=True, cancel_futures=True)
    elif _is_loky(pool):
        pool.shutdown(wait=True, kill_workers=True)  # type: ignore[call-arg]
    else:
        # No interpreter can be ended from outside.
        pool.shutdown(wait=False, cancel_futures=True)


def _is_loky(pool: ConcurrentExecutor) -> bool:
    module = sys.modules.get("loky.process_executor")
    return module is not None and isinstance(pool, module.ProcessPoolExecutor)


def is_pool(pool: ConcurrentExecutor) -> bool:
    """Whether an executor is of a kind that this file knows."""
    kind = getattr(concurrent.futures, "InterpreterPoolExecutor", None)
    return isinstance(pool, ProcessPoolExecutor) or _is_loky(pool) or (kind is not None and isinstance(pool, kind))


def existing(pool: Any, workers: int | None, on_cancel: OnCancel, shutdown: bool) -> PoolEngine:
    """Somebody else's pool."""
    count = getattr(pool, "_max_workers", cores()) if workers is None else workers
    return PoolEngine(type(pool).__name__, lambda: pool, count, on_cancel, shutdown, can_remake=False)


def processes(workers: int | None, on_cancel: OnCancel, pool: str | None = None) -> PoolEngine:
    """A pool of processes of our own: loky's, or the standard library's with new interpreters ("spawn")."""
    count = cores() if workers is None else workers
    if pool not in (None, "loky", "stdlib"):
        raise ValueError(f"pool is {pool!r}: it must be 'loky', 'stdlib', or None for loky where it is installed")
    make: Callable[[], ConcurrentExecutor] | None = None
    if pool != "stdlib":
        try:
            loky = need("loky", "bridge")
        except ImportError:
            if pool == "loky":
                raise
        else:
            make = functools.partial(loky.ProcessPoolExecutor, count, initializer=remote.ignore_ctrl_c)
    if make is None:
        make = functools.partial(stdlib.process_pool, count, remote.ignore_ctrl_c)
    return PoolEngine("processes", make, count, on_cancel, owns=True, can_remake=True)


def interpreters(workers: int | None, on_cancel: OnCancel) -> PoolEngine:
    """A pool of interpreters of this process, each with a lock of its own."""
    kind: Any = getattr(concurrent.futures, "InterpreterPoolExecutor", None)
    if kind is None:
        version = "{}.{}".format(*sys.version_info[:2])
        raise RuntimeError(f"interpreters need Python 3.14 or newer, and this is {version}: use processes or threads")
    count = cores() if workers is None else workers
    # A new interpreter looks for modules where Python did when it started. They shall find what the program finds.
    make = functools.partial(kind, count, initializer=exec, initargs=(f"import sys; sys.path[:] = {sys.path!r}",))
    return PoolEngine("interpreters", make, count, on_cancel, owns=True, can_remake=True)
