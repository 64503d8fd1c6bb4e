"""Calls in any `concurrent.futures.Executor`: what is known of one is `submit`, and the future that it gives.

Rules for whoever edits this file:

- A `Call` is one submission, and holds one place until its future is done, whether or not somebody still awaits it.
- The future's callback comes in any thread, and only posts `_on_end` to the loop.
- What a subclass knows better than `concurrent.futures` stands in `_send` and in its own kind of `Call`.
"""

from __future__ import annotations

import asyncio
import functools
import pickle
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from concurrent.futures import Executor as ConcurrentExecutor
from concurrent.futures import Future as ConcurrentFuture
from typing import Any

from weft._host.foreign import post
from weft.bridge._engines.places import Places
from weft.bridge.errors import Closed, NotPicklable, WorkerDied
from weft.bridge.threads import OnCancel, Threads

__all__ = ["Again", "Call", "FuturesEngine"]


class Again(Exception):
    """A call ended before it began, through no fault of its own: it is to be sent once more."""


class Call:
    """One submission. In the loop's thread.

    arrived:       done when the loop has heard of its end; it may be cancelled by who awaits it
    is_over:       the loop has heard of its end
    is_abandoned:  it runs, or may run, and nobody waits for it any more
    is_withdrawn:  it will not begin; its executor may hold it until its turn comes
    """

    def __init__(self, function: Any, future: ConcurrentFuture[Any]) -> None:
        self.function = function
        self.future = future
        self.loop = asyncio.get_running_loop()
        self.arrived: asyncio.Future[None] = self.loop.create_future()
        self.is_over = False
        self.is_abandoned = False
        self.is_withdrawn = False

    def withdraw(self) -> bool:
        """Take it back; False if it has begun, or may have."""
        return self.future.cancel()

    def ask(self) -> None:
        """Ask what runs to end. Nothing that is known of a plain executor can do that."""

    def end(self) -> None:
        """It is over: free what was held for it."""

    def outcome(self) -> Any:
        """Its result, or its error raised in our terms."""
        if self.future.cancelled():
            raise Closed(f"{self.function!r} was not run: its executor was shut down before it began")
        error = self.future.exception()
        try:
            if error is None:
                return self.future.result()
            if isinstance(error, BrokenExecutor):
                raise WorkerDied(
                    f"a worker died while {self.function!r} ran, or another call beside it ({error}): make another executor"
                ) from error
            if isinstance(error, pickle.PicklingError):
                raise NotPicklable(f"{self.function!r}, its arguments or its result can't be sent: {error}") from error
            raise error
        finally:
            # Its traceback holds this frame.
            del error

    async def wait_out(self) -> None:
        """Wait for its end, however often this task is cancelled meanwhile."""
        while not self.is_over:
            self.arrived = self.loop.create_future()
            try:
                await self.arrived
            except asyncio.CancelledError:
                self.ask()


class FuturesEngine:
    """Calls in a `concurrent.futures.Executor`, at most `limit` of them submitted at once; None: all."""

    def __init__(self, name: str, workers: int, on_cancel: OnCancel, limit: int) -> None:
        self.name = name
        self.workers = workers
        self._on_cancel = on_cancel
        self._places = Places(limit)
        self._calls: set[Call] = set()
        self._is_closed = False
        self._changed = asyncio.Event()

    async def start(self) -> None:
        pass

    def _send(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        raise NotImplementedError

    def _pack(
        self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        """What `_send` is given for a call, however often; raises NotPicklable."""
        return function, args, kwargs

    async def run(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        packed = self._pack(function, args, kwargs)
        while True:
            await self._places.take()
            try:
                call = self._send(*packed)
            except BaseException:
                self._places.give()
                raise
            self._calls.add(call)
            call.future.add_done_callback(functools.partial(_tell, call.loop, self._on_end, call))
            try:
                await call.arrived
            except asyncio.CancelledError:
                if call.is_over:
                    raise
                if call.withdraw():
                    call.is_withdrawn = True
                    self._changed.set()
                    raise
                call.ask()
                if self._on_cancel == "abandon":
                    call.is_abandoned = True
                    self._changed.set()
                    raise
                await call.wait_out()
                try:
                    call.outcome()
                except Again:
                    pass
                raise
            try:
                return call.outcome()
            except Again:
                continue

    def _on_end(self, call: Call) -> None:
        call.is_over = True
        call.end()
        self._calls.discard(call)
        self._places.give()
        self._changed.set()
        if not call.arrived.done():
            call.arrived.set_result(None)
        elif call.is_abandoned and not self._is_closed:
            self._report(call)

    def _report(self, call: Call) -> None:
        try:
            call.outcome()
        except (asyncio.CancelledError, Again):
            return
        except BaseException as error:
            call.loop.call_exception_handler(
                {"message": f"An abandoned call of {call.function!r} failed in {self.name}", "exception": error}
            )

    async def close(self) -> None:
        self._is_closed = True
        self._places.close(Closed(f"the executor ({self.name}) was closed before the call began"))
        is_cancelled = False
        while any(not (call.is_abandoned or call.is_withdrawn) for call in self._calls):
            self._changed.clear()
            try:
                await self._changed.wait()
            except asyncio.CancelledError:
                is_cancelled = True
                for call in self._calls:
                    call.ask()
        await self._shut_down()
        if is_cancelled:
            raise asyncio.CancelledError

    async def _shut_down(self) -> None:
        """Free the executor. No call runs but for the abandoned."""

    def _is_clear(self) -> bool:
        """Whether nothing runs any more: at the end the executor can be waited for."""
        return not any(call.is_abandoned for call in self._calls)


def _tell(
    loop: asyncio.AbstractEventLoop, on_end: Callable[[Any], None], call: Any, future: ConcurrentFuture[Any]
) -> None:
    post(loop, on_end, call)


async def shut_down(shutdown: Callable[[], None]) -> None:
    """Run a shutdown that blocks, in a thread; a cancellation waits for its end."""
    await Threads(1).run(shutdown)


class ForeignEngine(FuturesEngine):
    """Calls in an executor of which nothing more is known. They are given to it as they are."""

    def __init__(self, pool: ConcurrentExecutor, workers: int | None, on_cancel: OnCancel, shutdown: bool) -> None:
        limit = 1 << 30 if workers is None else workers
        super().__init__(
            type(pool).__name__, getattr(pool, "_max_workers", 1) if workers is None else workers, on_cancel, limit
        )
        self._pool = pool
        self._must_shut_down = shutdown

    def _send(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        try:
            return Call(function, self._pool.submit(function, *args, **kwargs))
        except BrokenExecutor as error:
            raise WorkerDied(f"{function!r} can't be run: {self._pool!r} is broken: make another one") from error
        except RuntimeError as error:
            raise Closed(f"{function!r} can't be run: {self._pool!r} was shut down ({error})") from error

    async def _shut_down(self) -> None:
        if self._must_shut_down:
            is_clear = self._is_clear()
            await shut_down(lambda: self._pool.shutdown(wait=is_clear))
