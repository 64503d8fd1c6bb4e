"""The asynchronous face of a synchronous object: what `asyncify` builds its classes from.

A handle holds the synchronous object and the threads in which that is used. Nothing of the object is touched in the loop's
thread, but for names that were declared `direct`.

Rules for whoever edits this file:

- The object of a handle is made in its threads, by the first use or by `await handle`; `_weft_lock` lets only one make it.
- A `Call` is what a method gives: nothing has begun before it is awaited, entered or iterated over, and that once.
- What a call returns goes through `Family.convert`, always: so a handle never lets a synchronous object of its family out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any, Self, TypeVar

from weft.bridge.threads import Threads

__all__ = ["AsyncHandle"]

_T = TypeVar("_T")
_MISSING = object()


class AsyncHandle:
    """The base of every class that `asyncify` makes."""

    _weft_family: Any = None
    _weft_sync_class: type = object

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._weft_hold(_MISSING, None, (args, kwargs))

    def _weft_hold(self, thing: Any, threads: Threads | None, arguments: Any) -> None:
        self._weft_object = thing
        self._weft_threads = threads
        self._weft_lock: asyncio.Lock | None = None
        self._weft_arguments = arguments

    @classmethod
    def _weft_wrap(cls, thing: Any, threads: Threads) -> Self:
        handle = cls.__new__(cls)
        handle._weft_hold(thing, threads, None)
        return handle

    def __repr__(self) -> str:
        state = "" if self._weft_object is not _MISSING else ", not made yet"
        return f"<{type(self).__qualname__} at {id(self):#x}{state}>"

    def __await__(self) -> Generator[Any, None, Self]:
        """Make the synchronous object, if it is not made yet."""
        yield from self._weft_ready().__await__()
        return self

    async def _weft_ready(self) -> Any:
        """The synchronous object."""
        if self._weft_object is _MISSING:
            if self._weft_lock is None:
                self._weft_lock = asyncio.Lock()
            async with self._weft_lock:
                if self._weft_object is _MISSING:
                    args, kwargs = self._weft_arguments
                    threads = self._weft_threads = self._weft_family.new_threads()
                    self._weft_object = await self._weft_family.run(threads, self._weft_sync_class, args, kwargs)
                    self._weft_arguments = None
        return self._weft_object

    async def _weft_apply(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        thing = await self._weft_ready()
        family = self._weft_family
        result = await family.run(self._weft_threads, function, (thing, *args), kwargs)
        return family.convert(result, self)
