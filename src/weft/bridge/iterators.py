"""Iterators across the border, both ways, with a bounded buffer between the side that makes items and the side that takes them.

How the two sides keep to the bound is written in `_making` (from a thread to a loop) and `_pumping` (from a loop to a thread).
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from types import AsyncGeneratorType, GeneratorType, TracebackType
from typing import Any, Generic, Self, TypeVar

from weft.bridge._making import Making
from weft.bridge._pumping import Pumping
from weft.bridge.threads import Threads, default_threads

__all__ = ["SyncIterator", "ThreadIterator", "iterate"]

_T = TypeVar("_T")

#: Items on their way, where nothing else is asked for.
BOUND = 64

_claimed: weakref.WeakSet[Any] = weakref.WeakSet()
_claiming = threading.Lock()


def claim(source: object) -> None:
    """Raise RuntimeError for a generator that was used already: its items would be missing, or shared by two."""
    if isinstance(source, GeneratorType):
        is_over = source.gi_frame is None
    elif isinstance(source, AsyncGeneratorType):
        is_over = source.ag_frame is None
    else:
        return
    with _claiming:
        if is_over or source in _claimed:
            state = "has come to its end" if is_over else "is iterated over already"
            raise RuntimeError(f"{source!r} {state}: call {source.__qualname__!r} again for another one")
        _claimed.add(source)


def unclaim(source: object) -> None:
    """It was not used at all."""
    if isinstance(source, GeneratorType | AsyncGeneratorType):
        _claimed.discard(source)


def _check_bound(bound: int) -> None:
    if bound < 1:
        raise ValueError(f"a buffer of {bound} items holds nothing: at least 1 is needed")


class ThreadIterator(Generic[_T]):
    """A blocking iterable as an async iterator. Made by `iterate`; used by one task at a time, once.

    What the source raises is raised behind the items that it gave before. `aclose`, or leaving `async with`, closes
    the source after one more item at the most. Left alone, as by a `break`, it is closed when it is collected.
    """

    def __init__(self, iterable: Iterable[_T], bound: int, threads: Threads) -> None:
        if not isinstance(iterable, Iterable):
            kind = (
                "an async iterable: `async for` needs no thread"
                if isinstance(iterable, AsyncIterable)
                else "not iterable"
            )
            raise TypeError(f"{iterable!r} is {kind}")
        _check_bound(bound)
        claim(iterable)
        self._iterable = iterable
        self._making = Making(iterable, bound, threads)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _T:
        making: Making[_T] = self._making
        if not making.buffer:
            await making.wait()
        return making.take()

    async def batches(self) -> AsyncIterator[list[_T]]:
        """The items in lists, each of all that are there: at least one, at most `bound`."""
        making: Making[_T] = self._making
        while True:
            try:
                if not making.buffer:
                    await making.wait()
            except StopAsyncIteration:
                return
            yield making.take_all()

    async def aclose(self) -> None:
        """Make no more items, drop those that were made, and close the source. Waits for an item that is being made."""
        await self._making.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        making = getattr(self, "_making", None)
        if making is not None:
            if not making.is_begun:
                unclaim(self._iterable)
            making.leave()


def iterate(iterable: Iterable[_T], *, bound: int = BOUND, threads: Threads | None = None) -> ThreadIterator[_T]:
    """A blocking iterable or generator for `async for`: its items are made in a thread, at most `bound` of them ahead.

    `threads` says in whose threads, by default in those of `to_thread`. Call it in a running loop.
    """
    return ThreadIterator(iterable, bound, default_threads() if threads is None else threads)


class SyncIterator(Generic[_T]):
    """An async iterable as a plain iterator: it runs in a loop of another thread, at most `bound` items ahead. Once only.

    `close`, or leaving `with`, ends it: the source is cancelled where it waits, and closed.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, iterable: AsyncIterable[_T], bound: int) -> None:
        if not isinstance(iterable, AsyncIterable):
            raise TypeError(f"{iterable!r} is no async iterable: a plain one needs no portal")
        _check_bound(bound)
        claim(iterable)
        self._iterable = iterable
        self._pumping = Pumping(loop, iterable, bound)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> _T:
        pumping: Pumping[_T] = self._pumping
        if not pumping.buffer:
            pumping.wait()
        return pumping.take()

    def close(self) -> None:
        """Make no more items, drop those that were made, and wait until the source is closed."""
        self._pumping.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        pumping = getattr(self, "_pumping", None)
        if pumping is not None:
            if not pumping.is_begun:
                unclaim(self._iterable)
            pumping.leave()
