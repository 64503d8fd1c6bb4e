"""A coroutine around what is only awaitable. Never compiled: a coroutine of Cython is no `types.CoroutineType`."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

_T = TypeVar("_T")


async def wrap_awaitable(awaitable: Awaitable[_T]) -> _T:
    """What `ensure_future` makes a task of when it is given an object with `__await__`."""
    return await awaitable
