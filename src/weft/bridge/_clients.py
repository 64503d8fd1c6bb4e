"""What the handles of one client share: its threads, and what is known of its objects on this side.

Rules for whoever edits this file:

- Everything but the calls themselves (`Use`, `Entering`, `Callback.__call__`) and `adopt` runs in the loop's thread.
- One object has one handle in a client, as long as somebody holds that.
- The objects of a client with one thread are let go of in that thread too.
- What is entered is left, exactly once, whoever gives up at which moment: `Entering.take` decides who does it.
"""

from __future__ import annotations

import asyncio
import inspect
import warnings
import weakref
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterable
from functools import update_wrapper
from typing import TYPE_CHECKING, Any

from weft.bridge._items import MISSING, AsyncItems
from weft.bridge._loopcall import LoopCall
from weft.bridge._workers import current_job
from weft.bridge.cancel import is_cancelled
from weft.bridge.errors import Closed
from weft.bridge.threads import OneThread, Threads, refuse_async

if TYPE_CHECKING:
    from weft.bridge._family import Family

__all__ = [
    "IS_ASYNC",
    "Apply",
    "Callback",
    "Client",
    "Entering",
    "Several",
    "Unawaited",
    "Use",
]

#: What `Family.kinds` says of a type whose objects are for a loop, not for a thread.
IS_ASYNC: Any = type("IsAsync", (), {})()

#: Arguments of these types need no look.
_PLAIN = frozenset({bool, bytes, dict, float, int, list, str, tuple, type(None)})


class Unawaited:
    """What stands for a value, and has to be awaited for it."""

    __slots__ = ()


class Use:
    """A method or an attribute of a synchronous object, to be called or read in a thread."""

    __slots__ = ("_family", "_name", "_thing")

    def __init__(self, thing: Any, name: str, family: Family) -> None:
        self._thing = thing
        self._name = name
        self._family = family

    def __repr__(self) -> str:
        kind = self._thing if isinstance(self._thing, type) else type(self._thing)
        return f"<{kind.__qualname__}.{self._name}>"

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self._family.scan(getattr(self._thing, self._name)(*args, **kwargs))

    def read(self) -> Any:
        return self._family.scan(getattr(self._thing, self._name))


class Apply:
    """A function that takes a synchronous object, to be called in a thread."""

    __slots__ = ("_family", "_function")

    def __init__(self, function: Callable[..., Any], family: Family) -> None:
        refuse_async(function)
        self._function = function
        self._family = family

    def __repr__(self) -> str:
        return repr(self._function)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self._family.scan(self._function(*args, **kwargs))


class Entering:
    """The entering of a synchronous context, in a thread, for a task that may give up meanwhile."""

    __slots__ = ("_entered", "thing", "value")

    def __init__(self, thing: Any) -> None:
        self.thing: Any = thing
        self.value: Any = None
        self._entered: list[Any] = []

    def __repr__(self) -> str:
        return f"<{type(self.thing).__qualname__}.__enter__>"

    def __call__(self) -> None:
        self.value = type(self.thing).__enter__(self.thing)
        self._entered.append(self.thing)
        # In this order, as the loop first cancels and then looks.
        if is_cancelled() and self.take():
            error = asyncio.CancelledError()
            type(self.thing).__exit__(self.thing, type(error), error, None)

    def take(self) -> bool:
        """Whether it is entered, and the caller the one who has to leave it."""
        try:
            self._entered.pop()
        except IndexError:
            return False
        return True


class Callback:
    """An async function in the place of a synchronous one: called in a thread, run by the loop of its client."""

    def __init__(
        self, function: Callable[..., Awaitable[Any]], client: Client, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._function = function
        self._client = client
        self._loop = loop
        update_wrapper(self, function, updated=())

    def __repr__(self) -> str:
        return f"<{self._function!r} for a thread>"

    # A library may be given the function a second time, to forget it.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Callback) and self._function == other._function

    def __hash__(self) -> int:
        return hash(self._function)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        job = current_job()
        return LoopCall(self._loop if job is None else job.loop, self._run, args, kwargs).wait()

    async def _run(self, /, *args: Any, **kwargs: Any) -> Any:
        convert = self._client.convert
        result = await self._function(*map(convert, args), **{name: convert(value) for name, value in kwargs.items()})
        (result,), _ = await self._client.unwrap((result,), {})
        return result


class Client:
    """What the handles of one client share."""

    def __init__(self, family: Family, name: str) -> None:
        self.family = family
        self.threads: Threads = family.new_threads(f"weft-{name}")
        self.name = name
        self.is_ended: bool = False
        # An object was made that has to be closed.
        self._is_open = False
        self._own = self.threads._thread if isinstance(self.threads, OneThread) else None
        self._handles: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()

    def adopt(self, thing: Any, handle: Any) -> None:
        """A handle has its object, and a client its first. Any thread."""
        self._handles[id(thing)] = handle
        self._is_open = hasattr(type(thing), "close") or hasattr(type(thing), "__exit__") or self._own is not None

    def check_open(self, whose: object, what: str) -> None:
        if self.is_ended:
            raise Closed(f"{whose!r} can't be used any more, so {what} was not called: make another one")

    async def end(self) -> None:
        """Take no more calls, wait for those that run, and end the thread if there is one of its own. Twice is fine."""
        self.is_ended = True
        await self.threads.aclose()

    # -- results --

    async def use(self, thing: Any, name: str, args: Any, kwargs: Any, into: Any = None) -> Any:
        """What a method returns, converted; the object itself as it is, for whoever knows its handle."""
        result = await self.threads.run(Use(thing, name, self.family), *args, **kwargs)
        return result if result is thing else self.convert(result, into)

    def convert(self, thing: Any, into: Any = None) -> Any:
        """A synchronous object as its handle, of class `into` if that fits; data as it is."""
        kind = type(thing)
        kinds = self.family.kinds
        made = kinds[kind] if kind in kinds else self.family.classify(kind)
        if made is None:
            return thing
        if made is AsyncItems:
            return AsyncItems(self, _give(thing), is_shared=False)
        if made is IS_ASYNC:
            if isinstance(thing, Coroutine):
                thing.close()
            raise TypeError(
                f"{self.name}: {thing!r} came out of a thread: it is asynchronous already, use the original for it"
            )
        if kind is Several:
            return thing.convert(self)
        handle = self._handles.get(id(thing))
        if handle is None:
            cls = into if into is not None and issubclass(into, made) else made
            handle = self._handles[id(thing)] = cls._weft_wrap(thing, self, False)
        return handle

    # -- arguments --

    async def unwrap(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments for a thread: the objects of handles, and async functions as synchronous ones."""
        for value in args:
            if type(value) not in _PLAIN:
                args = tuple([await self._unwrap(value) for value in args])
                break
        for value in kwargs.values():
            if type(value) not in _PLAIN:
                kwargs = {name: await self._unwrap(value) for name, value in kwargs.items()}
                break
        return args, kwargs

    async def _unwrap(self, value: Any) -> Any:
        if isinstance(value, type):
            return getattr(value, "_weft_sync_class", value)
        if hasattr(type(value), "_weft_ready"):
            return await value._weft_ready()
        # An object whose class has an `async def __call__` will do.
        if inspect.iscoroutinefunction(value) or (
            callable(value) and inspect.iscoroutinefunction(type(value).__call__)
        ):
            return Callback(value, self, asyncio.get_running_loop())
        if isinstance(value, Coroutine | Unawaited):
            raise TypeError(f"{value!r} was given as an argument: await it first, and pass what that gives")
        if isinstance(value, AsyncIterable) and not isinstance(value, Iterable):
            raise TypeError(f"{value!r} can't be iterated over in a thread: pass [item async for item in …]")
        return value

    # -- contexts --

    async def enter(self, entering: Entering) -> Any:
        """The value of a context that is entered; when this raises, it has been left again."""
        try:
            await self.threads.run(entering)
        except BaseException as error:
            if entering.take():
                await self.leave(entering.thing, error)
            raise
        return entering.value

    async def leave(self, thing: Any, error: BaseException | None) -> bool:
        """Leave a context, however often this task is cancelled meanwhile; whether that has dealt with the error."""
        given = (None, None, None) if error is None else (type(error), error, error.__traceback__)
        leaving = asyncio.ensure_future(self.threads.run(Use(thing, "__exit__", self.family), *given))
        cancelled: asyncio.CancelledError | None = None
        while not leaving.done():
            try:
                await asyncio.wait([leaving])
            except asyncio.CancelledError as again:
                cancelled = again
        has_dealt = bool(leaving.result())
        if cancelled is not None:
            raise cancelled
        return has_dealt

    # -- ends --

    def drop(self, box: list[Any]) -> None:
        """Forget what is in a box where that has to be forgotten. Any thread."""
        if self._own is not None and not self.is_ended and box[0] is not MISSING:
            self._own._put(box.clear)

    def __del__(self) -> None:
        if self.is_ended:
            return
        if self._is_open:
            warnings.warn(
                f"unclosed {self.name}: `await client.close()` or `aclose()`, or use `async with`",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )
        if self._own is not None:
            self._own.close()


class Several:
    """A list, tuple or dict that holds objects to be converted."""

    __slots__ = ("_things",)

    def __init__(self, things: Any) -> None:
        self._things = things

    def convert(self, client: Client) -> Any:
        things = self._things
        if isinstance(things, dict):
            return {key: client.convert(value) for key, value in things.items()}
        return type(things)(map(client.convert, things))


def _give(thing: Any) -> Callable[[], Coroutine[Any, Any, Any]]:
    async def give() -> Any:
        return thing

    return give
