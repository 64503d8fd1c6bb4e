"""One function over many items: what `Executor.map` gives.

Rules for whoever edits this file:

- An item is *in flight* from the moment it was taken from its source until its result is handed to who iterates.
  There are never more than `bound`: room is looked for before the next item is taken. So memory is bounded, in every
  order.
- One task, the *pull*, takes items from the sources, for the whole iteration: async generators care which task they
  run in.
- Each item is a task that runs one call. `close` cancels what is not done and waits for it all: nothing goes on
  afterwards.
- `MapIterator` is apart from `_Mapping`, so that an iterator nobody holds any more is collected while its mapping runs.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Sized
from typing import Any, Generic, Self, TypeVar

from weft._host.foreign import post
from weft.bridge._progress import Bar, bar
from weft.bridge.errors import Closed

__all__ = ["MapIterator", "Mapping"]

_T = TypeVar("_T")


class MapIterator(Generic[_T]):
    """The results of `Executor.map`, as an async iterator. Used by one task at a time, once.

    Nothing is taken from the sources before the first `async for` or `anext`. `aclose`, or leaving `async with`,
    cancels what is in flight and waits for its end. Left alone, as by a `break`, that is done when the iterator is
    collected, or the executor closed.
    """

    def __init__(self, mapping: Mapping) -> None:
        self._mapping = mapping

    def __aiter__(self) -> Self:
        if self._mapping.is_closed:
            raise Closed(f"{self._mapping!r} has come to its end: call map again")
        return self

    async def __anext__(self) -> _T:
        return await self._mapping.next()  # type: ignore[no-any-return]

    async def aclose(self) -> None:
        """Take no more items, cancel those in flight, and wait for their end; what they come to is dropped."""
        await self._mapping.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        mapping = getattr(self, "_mapping", None)
        if mapping is not None:
            mapping.leave()


class Mapping:
    """What runs a `MapIterator`. All in the loop's thread, but for `leave`.

    is_closed:  it has come to its end, or was closed
    """

    def __init__(
        self,
        run: Callable[..., Any],
        function: Any,
        sources: tuple[Any, ...],
        bound: int,
        is_ordered: bool,
        return_exceptions: bool,
        progress: bool | str | None,
        on_close: Callable[[Mapping], object],
    ) -> None:
        if not sources:
            raise TypeError(f"map needs something to call {function!r} with: give at least one iterable")
        for source in sources:
            if not isinstance(source, (Iterable, AsyncIterable)):
                raise TypeError(f"{source!r} is no iterable, neither a plain nor an async one")
        if bound < 1:
            raise ValueError(f"a bound of {bound} lets nothing run: at least 1 is needed")
        self._run = run
        self._function = function
        self._sources = sources
        self._bound = bound
        self._is_ordered = is_ordered
        self._return_exceptions = return_exceptions
        self._progress = progress
        self._on_close = on_close
        self._bar: Bar | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pull: asyncio.Task[None] | None = None
        self._iterators: list[Any] = []
        self._source_error: BaseException | None = None
        # Every item in flight, in the order of the source; and the done ones, in the order in which they were done.
        self._items: dict[asyncio.Task[Any], None] = {}
        self._done: deque[asyncio.Task[Any]] = deque()
        # The taker waits for an item; the pull waits for room.
        self._waiter: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._is_ending = False
        self._ended = asyncio.Event()
        # Why there are no more items, where that is neither their end nor who iterates.
        self._refusal: Exception | None = None
        self.is_closed: bool = False

    def __repr__(self) -> str:
        state = "closed" if self.is_closed else "not begun" if self._loop is None else f"{len(self._items)} in flight"
        return f"<map of {self._function!r}, {state}>"

    # -- the taker --

    async def next(self) -> Any:
        while True:
            if self._is_ending:
                if self._refusal is not None:
                    raise self._refusal
                raise StopAsyncIteration
            if self._loop is None:
                self._begin()
            item = self._ready()
            if item is not None:
                return await self._take(item)
            if self._pull is None and not self._items:
                error, self._source_error = self._source_error, None
                await self.close()
                if error is not None:
                    raise error
                raise StopAsyncIteration
            await self._wait()

    def _begin(self) -> None:
        totals = [len(source) for source in self._sources if isinstance(source, Sized)]
        self._bar = bar(self._progress, min(totals) if len(totals) == len(self._sources) else None)
        self._loop = asyncio.get_running_loop()
        self._pull = self._loop.create_task(self._pull_all())
        self._pull.add_done_callback(self._on_pulled)

    def _ready(self) -> asyncio.Task[Any] | None:
        if self._is_ordered:
            first = next(iter(self._items), None)
            return first if first is not None and first.done() else None
        return self._done[0] if self._done else None

    async def _take(self, item: asyncio.Task[Any]) -> Any:
        del self._items[item]
        if not self._is_ordered:
            self._done.popleft()
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        error = asyncio.CancelledError() if item.cancelled() else item.exception()
        if error is None:
            return item.result()
        if self._return_exceptions and (isinstance(error, (Exception, asyncio.CancelledError))):
            return error
        await self.close()
        try:
            raise error
        finally:
            # Its traceback holds this frame.
            del error, item

    async def _wait(self) -> None:
        if self._waiter is not None:
            raise RuntimeError(f"two tasks wait for the next item of {self!r}: let each iterate over a map of its own")
        assert self._loop is not None
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- the items --

    async def _pull_all(self) -> None:
        assert self._loop is not None
        run, function = self._run, self._function
        try:
            self._iterators = [_iterator(source) for source in self._sources]
            while True:
                while len(self._items) >= self._bound:
                    await self._wait_for_room()
                args = []
                for each, is_async in self._iterators:
                    args.append(await anext(each) if is_async else next(each))
                item = self._loop.create_task(run(function, *args))
                self._items[item] = None
                item.add_done_callback(self._on_done)
                del args, item
        except (StopIteration, StopAsyncIteration):
            return
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            # It is raised behind the items that came before it.
            self._source_error = error
            if not isinstance(error, Exception):
                raise

    async def _wait_for_room(self) -> None:
        assert self._loop is not None
        self._room = self._loop.create_future()
        try:
            await self._room
        finally:
            self._room = None

    def _on_pulled(self, pull: asyncio.Task[None]) -> None:
        self._pull = None
        if pull.cancelled():
            if not self._is_ending:
                # A source was cancelled by itself.
                self._source_error = asyncio.CancelledError()
        else:
            # It stands in `_source_error`.
            pull.exception()
        self._wake()

    def _on_done(self, item: asyncio.Task[Any]) -> None:
        if self._bar is not None:
            self._bar.advance()
        if self._is_ending:
            return
        if self._is_ordered:
            if next(iter(self._items), None) is item:
                self._wake()
        else:
            self._done.append(item)
            self._wake()

    # -- the end --

    async def close(self, refusal: Exception | None = None) -> None:
        """Cancel what is in flight, and wait until it has ended. Who still iterates gets `refusal`."""
        if self._is_ending:
            # Somebody closes it already, and is waited for.
            await self._ended.wait()
            return
        self._is_ending = True
        self._refusal = refusal
        is_cancelled = False
        left = [*self._items, *([] if self._pull is None else [self._pull])]
        for task in left:
            task.cancel()
        while any(not task.done() for task in left):
            try:
                await asyncio.wait(left)
            except asyncio.CancelledError:
                is_cancelled = True
                for task in left:
                    task.cancel()
        for item in self._items:
            if not item.cancelled():
                # What it came to is dropped, and no report of that is due.
                item.exception()
        self._items.clear()
        self._done.clear()
        try:
            await self._close_sources()
        finally:
            self.is_closed = True
            if self._bar is not None:
                self._bar.close()
            self._on_close(self)
            self._wake()
            self._ended.set()
        if is_cancelled:
            raise asyncio.CancelledError

    async def _close_sources(self) -> None:
        iterators, self._iterators = self._iterators, []
        for each, is_async in iterators:
            if is_async and isinstance(each, AsyncGenerator):
                await each.aclose()
            elif inspect.isgenerator(each):
                each.close()

    def leave(self) -> None:
        """Nobody will take another item. Any thread."""
        if self._loop is not None and not self._is_ending:
            post(self._loop, self._close_alone)

    def _close_alone(self) -> None:
        assert self._loop is not None
        _closing.add(task := self._loop.create_task(self.close()))
        task.add_done_callback(_closing.discard)


_closing: set[asyncio.Task[None]] = set()


def _iterator(source: Any) -> tuple[Any, bool]:
    """The iterator of a source, and whether it is an async one. What is both is taken as a plain one."""
    if isinstance(source, Iterable):
        return iter(source), False
    return aiter(source), True
