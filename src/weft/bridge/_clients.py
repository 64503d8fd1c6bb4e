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
import itertools
import warnings
import weakref
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from weft._host.foreign import post
from weft.bridge._loopcall import LoopCall
from weft.bridge._workers import current_job
from weft.bridge.cancel import is_cancelled
from weft.bridge.errors import Closed
from weft.bridge.iterators import ThreadIterator
from weft.bridge.threads import OneThread, Threads, refuse_async

if TYPE_CHECKING:
    from weft.bridge._family import Family

__all__ = [
    "IS_ASYNC",
    "MISSING",
    "Apply",
    "AsyncItems",
    "Callback",
    "Client",
    "Entering",
    "Several",
    "Unawaited",
    "Use",
]

_T = TypeVar("_T")

MISSING: Any = type("Missing", (), {"__repr__": lambda self: "<not made yet>"})()
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
        self.thing = thing
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
        self.threads = family.new_threads(f"weft-{name}")
        self.name = name
        self.is_ended = False
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
        if inspect.iscoroutinefunction(value):
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
        self.is_over = False

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
