"""Async iterables as observables, and observables as async iterables, with back-pressure both ways.

    observable = weft.bridge.to_observable(async_generator_function)
    async for item in weft.bridge.from_observable(observable):

Observables push: they have no way to say "not yet". So it is said beside them. The async iterable behind an observable of
`to_observable` is asked for an item only

- when the `on_next` of the one before has returned, where no scheduler is given;
- when fewer than `bound` items wait for the subscriber's scheduler or are in its `on_next`, where one is;
- and when there is room in every `from_observable` that the last item came to, through whatever operators.

What an operator keeps for itself (`buffer`, `observe_on`, `delay`, `replay`) is the operator's: it has taken the item.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar

from weft._host.foreign import post
from weft.bridge._emission import Pump, current_pump
from weft.bridge._loopcall import LOOK_S
from weft.bridge.errors import Overflow
from weft.bridge.iterators import BOUND

if TYPE_CHECKING:
    from reactivex import Observable

__all__ = ["ObservableIterator", "OnFull", "Source", "from_observable", "to_observable"]

_T = TypeVar("_T")

OnFull = Literal["error", "drop_new", "drop_old"]


def to_observable(
    source: AsyncIterable[_T] | Callable[[], AsyncIterable[_T]],
    *,
    loop: asyncio.AbstractEventLoop | None = None,
    bound: int = BOUND,
    scheduler: Any = None,
) -> Observable[_T]:
    """An async generator, or any async iterable, as an observable of `reactivex` (`pip install weft[reactive]`).

    source:     an async iterable, or a function that makes one for each subscriber; an async generator takes one subscriber
    loop:       where it runs, one task for each subscriber; None: the loop that runs where it is subscribed to
    bound:      items that may wait for the scheduler
    scheduler:  of reactivex: subscribers are called there; None: the one that `subscribe` was given, else in the loop's thread

    Subscribe and dispose in any thread. `dispose` closes the generator: what it waits for is cancelled, its `finally` blocks
    run in its task. An error of the source goes to `on_error`; one of the subscriber disposes and goes to the loop's
    exception handler.
    """
    try:
        import reactivex
    except ImportError as error:
        raise ImportError("observables need the package reactivex: pip install 'weft[reactive]'") from error
    from reactivex.disposable import Disposable

    made = Source(source, loop, bound, scheduler)

    def subscribe(observer: Any, scheduler: Any = None) -> Disposable:
        return Disposable(made.subscribe(observer, scheduler))

    return reactivex.Observable(subscribe)


class Source:
    """What an observable subscribes to, whatever the package of the observable."""

    def __init__(self, source: Any, loop: asyncio.AbstractEventLoop | None, bound: int, scheduler: Any) -> None:
        if not (isinstance(source, AsyncIterable) or callable(source)) or inspect.iscoroutinefunction(source):
            raise TypeError(
                f"{source!r} is no async iterable: an async generator, or the function that makes one, is needed"
            )
        if bound < 1:
            raise ValueError(f"a bound of {bound} lets no item through: at least 1 is needed")
        self._source = source
        self._loop = loop
        self._bound = bound
        self._scheduler = scheduler
        self._is_used = False

    def subscribe(self, observer: Any, scheduler: Any = None) -> Callable[[], None]:
        """Start to push; the function that disposes of it."""
        source = self._source
        loop = self._loop or asyncio._get_running_loop()
        if loop is None:
            raise RuntimeError(f"no loop runs in this thread, so {source!r} needs one to be subscribed to: pass `loop`")
        make: Callable[[], AsyncIterable[Any]]
        if isinstance(source, AsyncIterable):
            if isinstance(source, AsyncIterator):
                if self._is_used:
                    raise RuntimeError(
                        f"{source!r} can be iterated over once, and was subscribed to before: "
                        "pass the function that makes it, and each subscriber gets its own"
                    )
                self._is_used = True

            def make() -> AsyncIterable[Any]:
                return source
        else:
            make = source
        pump = Pump(loop, make, observer, self._bound, self._scheduler or scheduler)
        pump.start()
        return pump.dispose


def from_observable(
    observable: Observable[_T] | Any, *, bound: int = BOUND, on_full: OnFull = "error"
) -> ObservableIterator[_T]:
    """An observable, of reactivex or of rx 1, as an async iterator with a buffer of `bound` items.

    on_full:  for a source that can't be held up: "error" raises `Overflow` behind the items that are there, "drop_new" and
              "drop_old" leave out the newest or the oldest

    It is subscribed to by the first `anext`, in the running loop. A source that was made by `to_observable` waits for room,
    and so does one that pushes from a thread without a loop (that thread is blocked). What an operator makes of one item
    comes in one piece, above the bound if need be. `aclose`, or leaving `async with`, disposes.
    """
    return ObservableIterator(observable, bound, on_full)


class ObservableIterator(Generic[_T]):
    """Made by `from_observable`; used by one task at a time, once. Left alone, it disposes when it is collected."""

    def __init__(self, observable: Any, bound: int, on_full: OnFull) -> None:
        if not callable(getattr(observable, "subscribe", None)):
            raise TypeError(f"{observable!r} is no observable: it has no `subscribe`")
        if bound < 1:
            raise ValueError(f"a buffer of {bound} items holds nothing: at least 1 is needed")
        if on_full not in ("error", "drop_new", "drop_old"):
            raise ValueError(f"on_full is {on_full!r}: it must be 'error', 'drop_new' or 'drop_old'")
        self._observable = observable
        self._receiver: _Receiver[_T] = _Receiver(bound, on_full)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _T:
        if self._observable is not None:
            observable, self._observable = self._observable, None
            self._receiver.subscribe_to(observable)
        return await self._receiver.next()

    async def aclose(self) -> None:
        """Drop what is there, and dispose. Waits until a source of `to_observable` is closed, if it runs in this loop."""
        self._observable = None
        await self._receiver.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        receiver = getattr(self, "_receiver", None)
        if receiver is not None:
            receiver.leave()


class _Receiver(Generic[_T]):
    """The subscriber. `on_…` are called in any thread, the rest in the loop's. `_changed` guards everything."""

    def __init__(self, bound: int, on_full: OnFull) -> None:
        self._bound = bound
        self._on_full = on_full
        self._loop: asyncio.AbstractEventLoop | None = None
        self._buffer: deque[_T] = deque()
        self._changed = threading.Condition()
        self._waiter: asyncio.Future[None] | None = None
        self._is_awaited = False
        self._is_over = False
        self._error: BaseException | None = None
        self._subscription: Any = None
        # Those that wait for room, and the last that gave something.
        self._held: list[Pump] = []
        self._pump: Pump | None = None

    def subscribe_to(self, observable: Any) -> None:
        self._loop = asyncio.get_running_loop()
        self._subscription = observable.subscribe(self.on_next, self.on_error, self.on_completed)

    # -- any thread --

    def on_next(self, item: _T) -> None:
        pump = current_pump()
        with self._changed:
            if len(self._buffer) >= self._bound and pump is None and not self._is_over:
                self._wait_for_room()
            if self._is_over:
                return
            if len(self._buffer) >= self._bound and pump is None:
                if self._on_full == "drop_new":
                    return
                if self._on_full == "error":
                    message = f"an observable gave more than {self._bound} items before one was taken: "
                    self._error = Overflow(message + "raise the bound, or let `on_full` drop some")
                    self._is_over = True
                    self._wake()
                    return
                self._buffer.popleft()
            self._buffer.append(item)
            if pump is not None:
                self._pump = pump
                if len(self._buffer) >= self._bound and pump not in self._held:
                    pump.hold()
                    self._held.append(pump)
            self._wake()

    def on_error(self, error: BaseException) -> None:
        with self._changed:
            if not self._is_over:
                self._error, self._is_over = error, True
                self._wake()

    def on_completed(self) -> None:
        with self._changed:
            self._is_over = True
            self._wake()

    def _wait_for_room(self) -> None:
        if asyncio._get_running_loop() is not None:
            # To block it would be to block a loop, perhaps the one that takes the items.
            return
        assert self._loop is not None
        while len(self._buffer) >= self._bound and not self._is_over and not self._loop.is_closed():
            self._changed.wait(LOOK_S)

    def _wake(self) -> None:
        if self._is_awaited and self._loop is not None:
            self._is_awaited = False
            post(self._loop, self._awake)

    def leave(self) -> None:
        """Nobody will take another item. Any thread."""
        subscription = self._end()
        if subscription is not None:
            subscription.dispose()

    def _end(self) -> Any:
        """No more items; the subscription, for whoever disposes of it."""
        with self._changed:
            self._is_over = True
            self._error = None
            self._buffer.clear()
            self._release()
            subscription, self._subscription = self._subscription, None
            return subscription

    def _release(self) -> None:
        self._changed.notify_all()
        held, self._held = self._held, []
        for pump in held:
            pump.release()

    # -- in the loop --

    def _awake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next(self) -> _T:
        while True:
            with self._changed:
                if self._buffer:
                    item = self._buffer.popleft()
                    if 2 * len(self._buffer) <= self._bound:
                        self._release()
                    return item
                if self._is_over:
                    error = self._error
                    break
                if self._waiter is not None:
                    raise RuntimeError("two tasks wait for the next item of one iterator")
                self._waiter = asyncio.get_running_loop().create_future()
                self._is_awaited = True
            try:
                await self._waiter
            finally:
                self._waiter = None
        await self.close()
        if error is None:
            raise StopAsyncIteration
        raise error

    async def close(self) -> None:
        subscription = self._end()
        if subscription is not None:
            subscription.dispose()
        pump, self._pump = self._pump, None
        task = None if pump is None or pump.loop is not asyncio.get_running_loop() else pump.task
        if task is not None and task is not asyncio.current_task():
            await asyncio.wait([task])
