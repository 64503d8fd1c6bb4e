"""The asynchronous face of a synchronous object: what `asyncify` builds its classes from.

A handle holds the synchronous object and the client in whose threads that is used. Nothing of the object is touched in the
loop's thread, but for names that were declared `direct`.

Rules for whoever edits this file:

- The object of a handle is made in its threads, by the first use or by `await handle`; `_weft_lock` lets only one make it.
  It is kept by the thread that made it, so that a cancellation of who awaits that doesn't lose it.
- What a call returns goes through `Client.convert`, always: so a handle never lets a synchronous object of its family out.
- Whoever enters a context in a thread leaves it too, also when nobody waits for the entering any more (`Entering`).
- An object that is its own iterator is read ahead of the loop that takes its items. So until those are taken, no
  other method of it may run: it would find the object further on than its caller believes.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from weft.bridge._calls import Attribute, Call
from weft.bridge._clients import Apply, Client, Entering, Use
from weft.bridge._items import MISSING, AsyncItems
from weft.bridge.errors import Closed

__all__ = ["AsyncHandle", "HandleType", "apply"]


class HandleType(type):
    """The class of the classes that `asyncify` makes: `issubclass` and `isinstance` see the inheritance of the originals,
    however many times those were asyncified, and with which options."""

    def __subclasscheck__(cls, other: type) -> bool:
        if super().__subclasscheck__(other):
            return True
        sync = cls.__dict__.get("_weft_sync_class")
        return sync is not None and isinstance(other, HandleType) and issubclass(other._weft_sync_class, sync)

    def __instancecheck__(cls, thing: Any) -> bool:
        return super().__instancecheck__(thing) or (
            isinstance(type(thing), HandleType) and issubclass(type(thing), cls)
        )

    if not TYPE_CHECKING:

        def __getattr__(cls, name: str) -> Any:
            raise AttributeError(cls._weft_refusal(name) or f"{cls.__qualname__} has no attribute {name!r}")

    _weft_sync_class: type


class AsyncHandle(metaclass=HandleType):
    """The base of every class that `asyncify` makes, which says what holds for them all.

    await handle             makes the synchronous object, if that is not made yet, and gives the handle
    async with handle:       enters the object (or nothing, where that is only to be closed), and leaves it; of a client
                             that was not made yet, leaving also calls `close` and ends the client's threads
    await handle.aclose()    calls the object's `close`, if it has one, and ends the client's threads
    """

    _weft_family: Any = None
    _weft_sync_class: type = object

    def __init__(self, /, *args: Any, **kwargs: Any) -> None:
        self._weft_hold(MISSING, Client(self._weft_family, type(self).__qualname__), True)
        self._weft_arguments: Any = (args, kwargs)

    def _weft_hold(self, thing: Any, client: Client, is_root: bool) -> None:
        self._weft_object = thing
        self._weft_client = client
        self._weft_is_root = is_root
        # How many blocks have entered it, and whether the last to leave ends the client.
        self._weft_depth = 0
        self._weft_ends_client = False
        self._weft_lock: asyncio.Lock | None = None
        self._weft_arguments = None
        # What reads ahead of an object that is its own iterator.
        self._weft_items: AsyncItems[Any] | None = None

    @classmethod
    def _weft_wrap(cls, thing: Any, client: Client, is_root: bool) -> Self:
        handle = cls.__new__(cls)
        handle._weft_hold(thing, client, is_root)
        return handle

    @classmethod
    def _weft_refusal(cls, name: str) -> str | None:
        """Why a name can't be had; None if nothing was said against it."""
        family = cls._weft_family
        return None if family is None else family.refusal(cls._weft_sync_class, name)

    def __repr__(self) -> str:
        state = ", closed" if self._weft_client.is_ended else ", not made yet" if self._weft_object is MISSING else ""
        return f"<{type(self).__qualname__} at {id(self):#x}{state}>"

    def __await__(self) -> Generator[Any, None, Self]:
        yield from self._weft_ready().__await__()
        return self

    async def aclose(self) -> None:
        """Call `close` of the object, if it is made and has one; for a client, also end its threads. Twice is fine."""
        try:
            await self._weft_close()
        finally:
            if self._weft_is_root:
                await self._weft_client.end()

    async def __aenter__(self) -> Self:
        cls = self._weft_sync_class
        if not hasattr(cls, "__enter__") and not hasattr(cls, "close") and not self._weft_is_root:
            raise TypeError(f"{self!r} can't be entered: {cls.__qualname__} has neither __enter__ nor close")
        if self._weft_object is MISSING:
            self._weft_ends_client = True
        self._weft_depth += 1
        try:
            thing = await self._weft_ready()
            if not hasattr(type(thing), "__enter__"):
                return self
            value = await self._weft_client.enter(Entering(thing))
        except BaseException:
            self._weft_depth -= 1
            if self._weft_ends_client and not self._weft_depth:
                await self.aclose()
            raise
        return self if value is thing else self._weft_client.convert(value)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._weft_depth -= 1
        thing, client = self._weft_object, self._weft_client
        has_exit = hasattr(type(thing), "__exit__")
        is_last = self._weft_ends_client and not self._weft_depth
        try:
            await self._weft_stop_reading()
            if not has_exit or client.is_ended:
                left = False
            else:
                left = await client.leave(thing, error)
        finally:
            if is_last:
                await self.aclose()
            elif not has_exit:
                await self._weft_close()
        if self._weft_is_root and not client.is_ended and await client.threads.run(_is_closed, thing):
            await client.end()
        return left

    # Not of every handle, so a stub says of which.
    if not TYPE_CHECKING:

        def __aiter__(self) -> AsyncIterator[Any]:
            cls = self._weft_sync_class
            if not hasattr(cls, "__iter__") and not hasattr(cls, "__next__"):
                raise TypeError(f"{self!r} can't be iterated over: {cls.__qualname__} is not iterable")
            if not hasattr(cls, "__next__"):
                return AsyncItems(self._weft_client, self._weft_ready, is_shared=False)
            items = self._weft_items
            if items is None or items.is_over:
                items = self._weft_items = AsyncItems(self._weft_client, self._weft_ready, is_shared=True)
            return items

        def __getattr__(self, name: str) -> Any:
            cls = type(self)
            if name.startswith("_"):
                raise AttributeError(
                    f"{cls.__qualname__} has no attribute {name!r}: private names stay with the original"
                )
            refusal = cls._weft_refusal(name)
            if refusal is not None:
                raise AttributeError(refusal)
            thing = self._weft_object
            if thing is not MISSING:
                if name not in getattr(thing, "__dict__", ()) and not hasattr(type(thing), "__getattr__"):
                    raise AttributeError(f"{cls.__qualname__} has no attribute {name!r}")
                if self._weft_family.is_direct(self._weft_sync_class, name):
                    return self._weft_client.convert(getattr(thing, name))
            return Attribute(self, name)

        def __setattr__(self, name: str, value: Any) -> None:
            if not name.startswith("_") and self._weft_is_theirs(name):
                if not self._weft_family.is_direct(self._weft_sync_class, name):
                    raise AttributeError(
                        f"{name!r} can't be set here, in the loop's thread: `await weft.bridge.apply(handle, setattr, "
                        f"{name!r}, value)`, or name it in asyncify's direct="
                    )
                setattr(self._weft_made(), name, value)
            else:
                super().__setattr__(name, value)

    def _weft_is_theirs(self, name: str) -> bool:
        """Whether an attribute is the object's, and not one that a subclass of the handle's class gives itself."""
        cls, sync = type(self), self._weft_sync_class
        if "_weft_sync_class" in cls.__dict__ or hasattr(sync, name):
            return True
        return name in getattr(self._weft_object, "__dict__", ()) or name in inspect.get_annotations(sync)

    def _weft_made(self) -> Any:
        """The object, for a name that is read straight."""
        if self._weft_object is MISSING:
            raise Closed(f"{self!r} has no object yet: await it first")
        return self._weft_object

    async def _weft_ready(self) -> Any:
        """The synchronous object."""
        if self._weft_object is MISSING:
            if self._weft_lock is None:
                self._weft_lock = asyncio.Lock()
            async with self._weft_lock:
                if self._weft_object is MISSING:
                    self._weft_client.check_open(self, "its object")
                    args, kwargs = await self._weft_client.unwrap(*self._weft_arguments)
                    await self._weft_client.threads.run(_Making(self), *args, **kwargs)
                    self._weft_arguments = None
        return self._weft_object

    def _weft_call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call[Any]:
        return Call(self._weft_use(name, args, kwargs), f"{self._weft_sync_class.__qualname__}.{name}")

    async def _weft_use(self, name: str, args: tuple[Any, ...] | None, kwargs: dict[str, Any] | None) -> Any:
        """Call a method of the object; without arguments, read an attribute."""
        client = self._weft_client
        if name == "close" and self._weft_is_root and (self._weft_object is MISSING or client.is_ended):
            return await client.end()
        thing = self._weft_object
        if thing is MISSING:
            thing = await self._weft_ready()
        client.check_open(self, name)
        if args is None or kwargs is None:
            return client.convert(await client.threads.run(Use(thing, name, client.family).read))
        items = self._weft_items
        if items is not None:
            if name == "close":
                await self._weft_stop_reading()
            else:
                items.refuse(name)
        args, kwargs = await client.unwrap(args, kwargs)
        result = await client.use(thing, name, args, kwargs)
        if name == "close" and self._weft_is_root:
            await client.end()
        return self if result is thing else result

    async def _weft_stop_reading(self) -> None:
        items, self._weft_items = self._weft_items, None
        if items is not None:
            await items.aclose()

    async def _weft_close(self) -> None:
        thing, client = self._weft_object, self._weft_client
        await self._weft_stop_reading()
        if thing is not MISSING and not client.is_ended and hasattr(type(thing), "close"):
            await client.threads.run(_close, thing)

    def __del__(self) -> None:
        client = self.__dict__.get("_weft_client")
        if client is not None:
            thing, self._weft_object = self._weft_object, MISSING
            client.drop([thing])


class _Making:
    """The making of a handle's object, to be called in its thread."""

    __slots__ = ("_handle",)

    def __init__(self, handle: AsyncHandle) -> None:
        self._handle = handle

    def __repr__(self) -> str:
        return f"<{self._handle._weft_sync_class.__qualname__}>"

    def __call__(self, /, *args: Any, **kwargs: Any) -> None:
        handle = self._handle
        thing = handle._weft_sync_class(*args, **kwargs)
        handle._weft_client.adopt(thing, handle)
        handle._weft_object = thing


def _is_closed(thing: Any) -> bool:
    return getattr(thing, "closed", None) is True


def _close(thing: Any) -> None:
    if not _is_closed(thing):
        thing.close()


async def apply(handle: AsyncHandle, function: Any, /, *args: Any, **kwargs: Any) -> Any:
    """The result of `function(object, *args, **kwargs)`, called in a thread of the handle's client with its synchronous object.

    For what has no method, as `await apply(handle, setattr, "row_factory", make)`, and for several steps at the price of one
    hop between threads. What it returns is converted as a method's result is.
    """
    if not isinstance(handle, AsyncHandle):
        raise TypeError(f"{handle!r} is no handle: apply takes what a class made by asyncify gives")
    client = handle._weft_client
    thing = await handle._weft_ready()
    client.check_open(handle, repr(function))
    args, kwargs = await client.unwrap(args, kwargs)
    result = await client.threads.run(Apply(function, client.family), thing, *args, **kwargs)
    return handle if result is thing else client.convert(result)
