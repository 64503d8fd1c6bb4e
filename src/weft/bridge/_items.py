"""The items of a synchronous iterator, for `async for`.

Rules for whoever edits this file:

- An iterator that others use too (a cursor, with its methods) is never closed here, nor begun anew.
- What is iterated over, and its client with it, lives as long as somebody reads.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from weft._host.foreign import post
from weft.bridge.iterators import ThreadIterator
from weft.bridge.threads import Threads

if TYPE_CHECKING:
    from weft.bridge._clients import Client

__all__ = ["MISSING", "AsyncItems"]

_T = TypeVar("_T")

#: What a handle has for an object, before that is made.
MISSING: Any = type("Missing", (), {"__repr__": lambda self: "<not made yet>"})()


class AsyncItems(Generic[_T]):
    """The items of a synchronous iterator, made in the threads of its client. Used by one task at a time.

    As many items as `asyncify` was told are made ahead of the loop that takes them. `aclose`, or leaving `async with`, closes a
    generator after one more item at the most; left alone, as by a `break`, it is closed when it is collected.
    """

    def __init__(self, client: Client, ready: Callable[[], Coroutine[Any, Any, Any]], *, is_shared: bool) -> None:
        self._client = client
        self._ready = ready
        # Others use the iterator too: it is neither closed nor begun anew.
        self._is_shared = is_shared
        self._reader: _Reader | None = None
        #: The end was seen.
        self.is_over: bool = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _T:
        if self.is_over:
            raise StopAsyncIteration
        reader = self._reader
        if reader is None:
            reader = await self._open()
        try:
            item = await reader.__anext__()
        except BaseException as error:
            if not isinstance(error, asyncio.CancelledError):
                self.is_over = True
            raise
        return self._client.convert(item)  # type: ignore[no-any-return]

    async def batches(self) -> AsyncIterator[list[_T]]:
        """The items in lists, each of all that are there: at least one, and no more than are made ahead."""
        reader = self._reader if self._reader is not None or self.is_over else await self._open()
        if reader is not None:
            async for items in reader.batches():
                yield [self._client.convert(item) for item in items]
        self.is_over = True

    async def _open(self) -> _Reader:
        thing = await self._ready()
        self._client.check_open(self, "its iterator")
        source = _Source(thing, self._client, self._is_shared)
        ahead = self._client.family.ahead
        reader: _Reader = ThreadIterator(source, ahead, self._client.threads) if ahead else _Stepper(source)
        self._reader = reader
        return reader

    def refuse(self, name: str) -> None:
        """Raise RuntimeError if the object is further on than who calls this method of it knows."""
        reader = self._reader
        if self.is_over or not isinstance(reader, ThreadIterator):
            return
        making = reader._making
        if making.buffer or not making._is_over:
            raise RuntimeError(
                f"{name} was not called: `async for` has read ahead, and items are left. Take them all, or drop them "
                "(`items = aiter(handle)`, `await items.aclose()`), or let nothing be read ahead: asyncify(…, ahead=0)"
            )

    async def aclose(self) -> None:
        """Make no more items, drop those that were made, and close a generator. Waits for an item that is being made."""
        self.is_over = True
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()


class _Source:
    """An iterable for a thread, which keeps its client alive."""

    def __init__(self, thing: Any, client: Client, is_shared: bool) -> None:
        self.client = client
        self._thing = thing
        self._is_shared = is_shared

    def __repr__(self) -> str:
        return f"<{type(self._thing).__qualname__}>"

    def __iter__(self) -> Iterator[Any]:
        # A chain has no `close`.
        return itertools.chain(self._thing) if self._is_shared else iter(self._thing)


class _Stepper:
    """One item at a time, made when it is asked for."""

    def __init__(self, source: _Source) -> None:
        self._source = source
        self._threads = source.client.threads
        self._loop = asyncio.get_running_loop()
        self._iterator: Iterator[Any] | None = None

    async def __anext__(self) -> Any:
        item = await self._threads.run(self._step)
        if item is MISSING:
            raise StopAsyncIteration
        return item

    def _step(self) -> Any:
        if self._iterator is None:
            self._iterator = iter(self._source)
        return next(self._iterator, MISSING)

    async def batches(self) -> AsyncIterator[list[Any]]:
        while (item := await self._threads.run(self._step)) is not MISSING:
            yield [item]

    async def aclose(self) -> None:
        iterator, self._iterator = self._iterator, None
        close = getattr(iterator, "close", None)
        if close is not None:
            await self._threads.run(close)

    def __del__(self) -> None:
        close = getattr(self._iterator, "close", None)
        if close is not None and not self._source.client.is_ended:
            post(self._loop, _close_alone, self._threads, close)


_closing: set[asyncio.Task[None]] = set()


def _close_alone(threads: Threads, close: Callable[[], None]) -> None:
    _closing.add(task := asyncio.get_running_loop().create_task(threads.run(close)))
    task.add_done_callback(_closing.discard)


_Reader = ThreadIterator[Any] | _Stepper
