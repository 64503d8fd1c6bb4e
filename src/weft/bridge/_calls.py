"""What stands for a value until it is awaited: a call of a method, and an attribute.

Rules for whoever edits this file:

- Nothing has begun before a call is awaited, entered or iterated over, and that happens once: its coroutine sees to both.
- A call passes for a coroutine (`create_task` asks), and warns as one when it is forgotten.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Coroutine, Generator, Iterable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from weft.bridge._clients import Unawaited

if TYPE_CHECKING:
    from weft.bridge.handles import AsyncHandle

__all__ = ["Attribute", "Call"]

_T_co = TypeVar("_T_co", covariant=True)
_V = TypeVar("_V")
_Exit = TypeVar("_Exit", bound=bool | None)


class Call(Coroutine[Any, Any, _T_co]):
    """What a method of a handle gives. Once only, either

    await call                  for its result
    async with call as value:   to enter what it returns; where a class or static method gave a client, the block ends that too
    async for item in call:     for the items of what it returns
    """

    __slots__ = ("_coroutine", "_entered")

    def __init__(self, coroutine: Coroutine[Any, Any, _T_co], name: str) -> None:
        self._coroutine: Any = coroutine
        # By another name, as type checkers narrow.
        about: Any = coroutine
        about.__qualname__ = name
        self._entered: Any = None

    def __repr__(self) -> str:
        return f"<call of {self._coroutine.__qualname__}: await it, enter it, or iterate over it>"

    def __await__(self) -> Generator[Any, Any, _T_co]:
        return self._unused().__await__()  # type: ignore[no-any-return]

    def __bool__(self) -> bool:
        raise TypeError(f"{self!r}: it is neither true nor false")

    def _unused(self) -> Any:
        coroutine = self._coroutine
        if coroutine.cr_frame is None:
            raise RuntimeError(f"this call of {coroutine.__qualname__} is over: call it again for another result")
        return coroutine

    def send(self, value: Any) -> Any:
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        return self._coroutine.throw(*error)

    def close(self) -> None:
        self._coroutine.close()

    async def __aenter__(self: Call[AbstractAsyncContextManager[_V, Any]]) -> _V:
        name = self._coroutine.__qualname__
        manager = await self._unused()
        if not isinstance(manager, AbstractAsyncContextManager):
            raise TypeError(f"{name} gave {manager!r}, which can't be entered: await it instead")
        entered: Any = manager
        if hasattr(entered, "_weft_ends_client"):
            entered._weft_ends_client = entered._weft_is_root
        self._entered = entered
        return await entered.__aenter__()  # type: ignore[no-any-return]

    async def __aexit__(
        self: Call[AbstractAsyncContextManager[Any, _Exit]],
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> _Exit:
        entered, self._entered = self._entered, None
        return await entered.__aexit__(kind, error, trace)  # type: ignore[no-any-return]

    def __aiter__(self: Call[AsyncIterable[_V] | Iterable[_V]]) -> AsyncIterator[_V]:
        return _CallItems(self._unused())


class _CallItems(Generic[_V]):
    """The items of what a call gives, which is called with the first."""

    def __init__(self, coroutine: Any) -> None:
        self._coroutine = coroutine
        self._items: Any = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _V:
        if self._items is None:
            result = await self._coroutine
            if hasattr(type(result), "__aiter__"):
                self._items = aiter(result)
            elif isinstance(result, Iterable) and not isinstance(result, str | bytes):
                self._items = _InMemory(result)
            else:
                raise TypeError(
                    f"{self._coroutine.__qualname__} gave {result!r}, which can't be iterated over: await it"
                )
        item: _V = await self._items.__anext__()
        return item

    async def aclose(self) -> None:
        """Make no more items, and close what made them."""
        if self._items is None:
            self._coroutine.close()
        else:
            await self._items.aclose()


class _InMemory:
    """The items of a list or the like."""

    def __init__(self, result: Iterable[Any]) -> None:
        self._items = iter(result)

    async def __anext__(self) -> Any:
        for item in self._items:
            return item
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self._items = iter(())


class Attribute(Unawaited):
    """An attribute of the object of a handle: awaited for its value, or called if that is a function."""

    __slots__ = ("_handle", "_name")

    def __init__(self, handle: AsyncHandle, name: str) -> None:
        self._handle = handle
        self._name = name

    def __repr__(self) -> str:
        return f"<{self._name} of {self._handle!r}: await it>"

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._handle._weft_use(self._name, None, None).__await__()

    def __call__(self, /, *args: Any, **kwargs: Any) -> Call[Any]:
        return self._handle._weft_call(self._name, args, kwargs)

    def __bool__(self) -> bool:
        raise TypeError(f"{self!r}: it is neither true nor false")
