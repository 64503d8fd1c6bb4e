"""An async iterable pushed to a subscriber: the task behind `to_observable`.

Rules for whoever edits this file:

- No item is asked for before there is room for it: items that were made and whose `on_next` has not returned are fewer than
  `bound`, and nobody holds the pump (`hold`). Without a scheduler `on_next` runs in the loop's thread, between two items.
- The subscriber is told of an end once, behind all items; after `dispose` it is told nothing.
- However it ends, the source is closed in the pump's task, the one that its items were made in. `dispose` cancels the task
  only while it waits for an item or for room (`_is_pulling`): `on_next` may dispose, and nobody may cancel the closing.
- `_lock` guards what the scheduler's threads touch: `_waiting`, `_is_draining`, `_made`, `_holds`.
- What the subscriber raises, and what the closing of the source raises, goes to the loop's exception handler.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable
from concurrent.futures import CancelledError as ConcurrentCancelledError
from typing import Any

from weft._host.foreign import post
from weft.bridge.errors import Closed

__all__ = ["Pump", "current_pump"]

#: A source that always has an item lets the others run after so many.
TURN = 64

_here = threading.local()


def current_pump() -> Pump | None:
    """The pump whose `on_next` runs in the calling thread."""
    return getattr(_here, "pump", None)


class Pump:
    """One subscription. Made in any thread; `start` and `dispose` in any, too.

    observer:   has on_next, on_error, on_completed
    scheduler:  has `schedule(action)`, as those of reactivex and rx; None: the observer is called in the loop's thread
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        make: Callable[[], AsyncIterable[Any]],
        observer: Any,
        bound: int,
        scheduler: Any,
    ) -> None:
        self.loop = loop
        self._make = make
        self._observer = observer
        self._bound = bound
        self._scheduler = scheduler
        #: None before the start.
        self.task: asyncio.Task[None] | None = None
        self._is_disposed = False
        self._is_pulling = False
        self._lock = threading.Lock()
        # For the scheduler: (method of the observer, its arguments).
        self._waiting: deque[tuple[str, tuple[Any, ...]]] = deque()
        self._is_draining = False
        self._made = 0
        self._holds = 0
        self._room: asyncio.Future[None] | None = None

    def start(self) -> None:
        if asyncio._get_running_loop() is self.loop:
            self._start()
            return
        try:
            self.loop.call_soon_threadsafe(self._start)
        except RuntimeError as error:
            raise Closed(f"{self.loop!r} is closed, so nothing can be subscribed to in it") from error

    def dispose(self) -> None:
        """Give the subscriber nothing more, and close the source. Twice is fine."""
        self._is_disposed = True
        if asyncio._get_running_loop() is self.loop:
            self._stop()
        else:
            post(self.loop, self._stop)

    # -- whoever is subscribed --

    def hold(self) -> None:
        """Ask for no further item before `release`. From within `on_next`."""
        with self._lock:
            self._holds += 1

    def release(self) -> None:
        """Any thread, once for each `hold`."""
        with self._lock:
            self._holds -= 1
            must_drain = bool(self._waiting) and not self._holds and not self._is_draining
            self._is_draining |= must_drain
        if must_drain:
            self._schedule()
        self._wake()

    # -- in the loop --

    def _start(self) -> None:
        self.task = self.loop.create_task(self._run())

    def _stop(self) -> None:
        if self._is_pulling and self.task is not None:
            self.task.cancel()

    async def _run(self) -> None:
        source: AsyncIterator[Any] | None = None
        end: tuple[str, tuple[Any, ...]] | None = None
        cancelled: asyncio.CancelledError | None = None
        try:
            source = aiter(self._make())
            end = await self._pull_all(source)
        except asyncio.CancelledError as error:
            if not self._is_disposed:
                # The loop is coming to its end, or somebody has found the task: the subscriber shall know.
                cancelled = error
                end = "on_error", (ConcurrentCancelledError("the task that made the items was cancelled"),)
        except Exception as error:
            end = "on_error", (error,)
        finally:
            await self._close(source)
        if end is not None:
            self._tell(*end)
        if cancelled is not None:
            try:
                raise cancelled
            finally:
                # Its traceback holds this frame.
                del cancelled

    async def _pull_all(self, source: AsyncIterator[Any]) -> tuple[str, tuple[Any, ...]] | None:
        count = 0
        while not self._is_disposed:
            self._is_pulling = True
            try:
                count += 1
                if count % TURN == 0:
                    await asyncio.sleep(0)
                await self._wait_for_room()
                item = await anext(source)
            except StopAsyncIteration:
                return "on_completed", ()
            finally:
                self._is_pulling = False
            self._tell("on_next", (item,))
        return None

    async def _wait_for_room(self) -> None:
        # Say that it is waited for, then look: whoever makes room does it the other way round.
        while self._holds or self._made >= self._bound:
            self._room = self.loop.create_future()
            try:
                if self._holds or self._made >= self._bound:
                    await self._room
            finally:
                self._room = None

    def _make_room(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    async def _close(self, source: Any) -> None:
        close = getattr(source, "aclose", None)
        if close is not None:
            try:
                await close()
            except Exception as error:
                self._report(f"{source!r} failed when it was closed", error)

    def _tell(self, method: str, arguments: tuple[Any, ...]) -> None:
        if self._scheduler is None:
            self._call(method, arguments)
            return
        with self._lock:
            self._waiting.append((method, arguments))
            self._made += method == "on_next"
            if self._is_draining or self._holds:
                return
            self._is_draining = True
        self._schedule()

    def _schedule(self) -> None:
        try:
            self._scheduler.schedule(self._drain)
        except Exception as error:
            self.dispose()
            self._report(f"{self._scheduler!r} does not call the subscriber", error)

    # -- wherever the subscriber is called --

    def _drain(self, scheduler: object = None, state: object = None) -> None:
        for _ in range(TURN):
            with self._lock:
                if self._is_disposed:
                    self._waiting.clear()
                if self._holds or not self._waiting:
                    self._is_draining = False
                    return
                method, arguments = self._waiting.popleft()
            self._call(method, arguments)
            with self._lock:
                self._made -= method == "on_next"
            self._wake()
        self._schedule()

    def _call(self, method: str, arguments: tuple[Any, ...]) -> None:
        if self._is_disposed:
            return
        outer = current_pump()
        _here.pump = self
        try:
            getattr(self._observer, method)(*arguments)
        except Exception as error:
            self.dispose()
            self._report(f"a subscriber failed in {method}", error)
        finally:
            _here.pump = outer

    def _wake(self) -> None:
        if self._room is not None:
            if asyncio._get_running_loop() is self.loop:
                self._make_room()
            else:
                post(self.loop, self._make_room)

    def _report(self, message: str, error: Exception) -> None:
        context = {"message": f"Observable: {message}", "exception": error}
        if asyncio._get_running_loop() is self.loop:
            self.loop.call_exception_handler(context)
        else:
            post(self.loop, self.loop.call_exception_handler, context)
