"""The classes that belong to a client class: which they are, and the asynchronous class of each.

A class is of the family when it, or a class it inherits from, lives in the top-level package of the client class or of a
class named by `also=`. Of other packages, iterators and context managers are converted all the same.

Rules for whoever edits this file:

- Data is never converted: it is what a caller looks into, and its methods don't block (`is_data`).
- `kinds` answers for every type that was ever returned; it is written by `classify`, under the lock, from any thread.
- The bases of an asynchronous class are those of the bases of the synchronous one, so that both have one order of resolution.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import inspect
import threading
import types
from abc import ABC
from collections.abc import AsyncIterable, Awaitable, Callable, Collection, Iterable, Mapping, Sequence, Set
from enum import Enum
from functools import cached_property, wraps
from numbers import Number
from typing import Any, Generic, Protocol

from weft.bridge._calls import Attribute, Call
from weft.bridge._clients import IS_ASYNC, Client, Several
from weft.bridge._items import AsyncItems
from weft.bridge.handles import AsyncHandle, HandleType
from weft.bridge.threads import OnCancel, OneThread, Threads

__all__ = ["Family", "is_data", "members"]

_DATA = (
    *(Sequence, Mapping, Set, Number, Enum, BaseException, bytes, bytearray, memoryview, type, types.ModuleType),
    *(datetime.date, datetime.time, datetime.timedelta, datetime.tzinfo),
)
_NO_BASES = {object, ABC, Generic, Protocol}
_FIELDS = (property, cached_property, types.GetSetDescriptorType, types.MemberDescriptorType)
#: What pydantic, attrs and their like leave in a class whose objects are records.
_RECORDS = ("__pydantic_fields__", "__attrs_attrs__", "__struct_fields__")
_SPECIAL = ("__call__", "__getitem__")


def is_data(kind: type) -> bool:
    """Whether objects of a class are values to look into."""
    return (
        issubclass(kind, _DATA) or dataclasses.is_dataclass(kind) or any(hasattr(kind, name) for name in _RECORDS)
    )  # fmt: skip


def members(cls: type) -> dict[str, tuple[str, Any]]:
    """What a class itself, without its bases, defines for its users: name -> (kind, what stands in the class).

    The kinds: "method", "async" (a method that is asynchronous already), "class" (class and static methods), "field" (a
    property, a slot), "constant".
    """
    found = {}
    for name, value in vars(cls).items():
        if name.startswith("_") and name not in _SPECIAL:
            continue
        if isinstance(value, classmethod | staticmethod):
            kind = "class"
        elif isinstance(value, _FIELDS):
            kind = "field"
        elif inspect.iscoroutinefunction(value) or inspect.isasyncgenfunction(value):
            kind = "async"
        elif callable(value) and not isinstance(value, type):
            kind = "method"
        else:
            kind = "constant"
        found[name] = (kind, value)
    return found


def _package(kind: type) -> str:
    return kind.__module__.partition(".")[0]


class Family:
    """The asynchronous classes that one `asyncify` makes, and its options."""

    def __init__(
        self,
        root: type,
        *,
        threads: int,
        one_thread: bool,
        on_cancel: OnCancel,
        timeout: float | None,
        ahead: int,
        only: Collection[str] | None,
        hide: Collection[str],
        direct: Collection[str],
        also: Iterable[type],
    ) -> None:
        self.root = root
        self.ahead = ahead
        self._threads = 1 if one_thread else threads
        self._is_one_thread = one_thread
        self._on_cancel = on_cancel
        self._timeout = timeout
        self._only = None if only is None else frozenset(only)
        self._hide = frozenset(hide)
        self._direct = frozenset(direct)
        self._also = tuple(also)
        self._packages = {_package(each) for each in (root, *self._also)} - {"builtins"}
        #: type -> its asynchronous class; `AsyncItems`, `IS_ASYNC`; None for what is handed on as it is.
        self.kinds: dict[type, Any] = {list: None, tuple: None, dict: None, Several: Several}
        self._classes: dict[type, type[AsyncHandle]] = {}
        self._lock = threading.RLock()

    def new_threads(self, name: str) -> Threads:
        """The threads of one client."""
        if self._is_one_thread:
            return OneThread(name, on_cancel=self._on_cancel, timeout=self._timeout)
        return Threads(self._threads, on_cancel=self._on_cancel, timeout=self._timeout)

    # -- names --

    def refusal(self, cls: type, name: str) -> str | None:
        """Why a name of a class can't be had; None if it may."""
        if self._is_named(cls, name, self._hide):
            return f"{cls.__qualname__}.{name} is hidden: asyncify(…, hide=…) names it"
        if self._only is not None and not self._is_named(cls, name, self._only):
            is_restricted = issubclass(cls, self.root) or any(
                f"{each.__qualname__}." in entry for each in cls.__mro__ for entry in self._only
            )
            if is_restricted and not name.startswith("_"):
                return f"{cls.__qualname__}.{name} is hidden: asyncify(…, only=…) does not name it"
        return None

    def is_direct(self, cls: type, name: str) -> bool:
        """Whether a name is read in the loop's thread."""
        return self._is_named(cls, name, self._direct)

    def _is_named(self, cls: type, name: str, entries: frozenset[str]) -> bool:
        """Whether entries hold `name`, which is of the root, or `Class.name`."""
        if name in entries and issubclass(cls, self.root):
            return True
        return any(f"{each.__qualname__}.{name}" in entries for each in cls.__mro__)

    # -- types --

    def is_member(self, kind: type) -> bool:
        """Whether objects of a class are converted because of where the class lives."""
        if is_data(kind) or (hasattr(kind, "__aenter__") and not hasattr(kind, "__enter__")):
            # What is asynchronous already stays as it is.
            return False
        return kind is self.root or any(each in self._also or _package(each) in self._packages for each in kind.__mro__)

    def classify(self, kind: type) -> Any:
        """What becomes of objects of a type; for `kinds`. Any thread."""
        with self._lock:
            if kind not in self.kinds:
                self.kinds[kind] = self._classify(kind)
            return self.kinds[kind]

    def _classify(self, kind: type) -> Any:
        if issubclass(kind, AsyncHandle | AsyncItems | Call):
            return None
        if issubclass(kind, Awaitable | AsyncIterable) and kind.__module__ in ("builtins", "asyncio", "_asyncio"):
            return IS_ASYNC
        if self.is_member(kind):
            return self.class_of(kind)
        if is_data(kind):
            return None
        if hasattr(kind, "__enter__") and hasattr(kind, "__exit__"):
            return self.class_of(kind)
        return AsyncItems if hasattr(kind, "__next__") else None

    def scan(self, result: Any) -> Any:
        """A result, in `Several` if it is a list or the like that holds what has to be converted. In the thread of the call."""
        kind = type(result)
        if kind is list or kind is tuple:
            found = set(map(type, result))
        elif kind is dict:
            found = set(map(type, result.values()))
        else:
            return result
        for each in found:
            if (self.kinds[each] if each in self.kinds else self.classify(each)) is not None:
                return Several(result)
        return result

    # -- classes --

    def class_of(self, sync: type) -> type[AsyncHandle]:
        """The asynchronous class of a class."""
        with self._lock:
            made = self._classes.get(sync)
            if made is None:
                made = self._classes[sync] = self._make(sync)
            return made

    def _make(self, sync: type) -> type[AsyncHandle]:
        bases = tuple(self.class_of(base) for base in sync.__bases__ if base not in _NO_BASES)
        names: dict[str, Any] = {
            "__doc__": sync.__doc__,
            "__module__": sync.__module__,
            "__qualname__": f"Async{sync.__qualname__}",
            "_weft_family": self,
            "_weft_sync_class": sync,
        }
        for name, (kind, value) in members(sync).items():
            if self.refusal(sync, name) is not None:
                names[name] = _Refused()
            elif self.is_direct(sync, name):
                names[name] = _Direct(name)
            elif kind == "method":
                names[name] = _method(name, value)
            elif kind == "async":
                names[name] = _async_method(name, value)
            elif kind == "class":
                names[name] = _ClassLevel(name, value)
            else:
                names[name] = _Field(name, value)
        # Those that a base shows and this class must not.
        for name in dir(sync):
            if name not in names and not name.startswith("_") and self.refusal(sync, name) is not None:
                names[name] = _Refused()
        # Where it is made by C, it may be silent about what it takes.
        with contextlib.suppress(ValueError, TypeError):
            names["__signature__"] = inspect.signature(sync)
        made: Any = HandleType(f"Async{sync.__name__}", bases or (AsyncHandle,), names)
        return made  # type: ignore[no-any-return]


def _copy_about(made: Any, original: Any) -> Any:
    """Let a function say of itself what the original says, where that is a function too."""
    return wraps(original)(made) if hasattr(original, "__name__") else made


def _method(name: str, original: Any) -> Any:
    def method(self: AsyncHandle, /, *args: Any, **kwargs: Any) -> Call[Any]:
        return self._weft_call(name, args, kwargs)

    return _copy_about(method, original)


def _async_method(name: str, original: Any) -> Any:
    """A method that is asynchronous already: it runs in the loop, with the object itself."""

    if inspect.isasyncgenfunction(original):

        async def items(self: AsyncHandle, /, *args: Any, **kwargs: Any) -> Any:
            async for item in getattr(await self._weft_ready(), name)(*args, **kwargs):
                yield self._weft_client.convert(item)

        return _copy_about(items, original)

    async def method(self: AsyncHandle, /, *args: Any, **kwargs: Any) -> Any:
        thing = await self._weft_ready()
        return self._weft_client.convert(await getattr(thing, name)(*args, **kwargs))

    return _copy_about(method, original)


class _ClassLevel:
    """A class or static method. Called on a handle, it is a call of that handle's client; on the class, it has a client of its
    own, which belongs to the handle that comes out, or ends at once where none does."""

    def __init__(self, name: str, original: Any) -> None:
        self._name = name
        self.__doc__ = original.__func__.__doc__

    def __get__(self, handle: AsyncHandle | None, cls: type[AsyncHandle]) -> Callable[..., Call[Any]]:
        name = self._name

        def method(*args: Any, **kwargs: Any) -> Call[Any]:
            if handle is not None:
                return handle._weft_call(name, args, kwargs)
            return Call(_use_class(cls, name, args, kwargs), f"{cls._weft_sync_class.__qualname__}.{name}")

        method.__name__, method.__doc__ = name, self.__doc__
        return method


async def _use_class(cls: type[AsyncHandle], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    client = Client(cls._weft_family, cls.__qualname__)
    made: Any = None
    try:
        args, kwargs = await client.unwrap(args, kwargs)
        made = await client.use(cls._weft_sync_class, name, args, kwargs, cls)
    finally:
        if isinstance(made, AsyncHandle):
            made._weft_is_root = True
            client.adopt(made._weft_object, made)
        elif not isinstance(made, AsyncItems):
            await client.end()
    return made


class _Field:
    """A property, a slot or a constant: of a handle it is awaited, of the class it is what stands there."""

    def __init__(self, name: str, original: Any) -> None:
        self._name = name
        self._original = original
        self.__doc__ = getattr(original, "__doc__", None)

    def __get__(self, handle: AsyncHandle | None, cls: type[AsyncHandle]) -> Any:
        return self._original if handle is None else Attribute(handle, self._name)


class _Direct:
    """A name that is read, or set, in the loop's thread."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, handle: AsyncHandle | None, cls: type[AsyncHandle]) -> Any:
        if handle is None:
            return getattr(cls._weft_sync_class, self._name)
        return handle._weft_client.convert(getattr(handle._weft_made(), self._name))


class _Refused:
    """A name that is hidden: `__getattr__` says why."""

    def __get__(self, handle: AsyncHandle | None, cls: type[AsyncHandle]) -> Any:
        raise AttributeError
