"""Methods that return a coroutine without being `async def`, known as coroutine functions all the same.

`Loop` forwards most of asyncio's `async def` methods to a coroutine function of another module. Being `async def` itself
would add a coroutine and a frame to each call. But code asks: `mock.patch.object(loop, "create_connection")` makes an
AsyncMock only for what `inspect` takes for a coroutine function.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from typing import TypeVar

__all__ = ["mark_coroutine_functions"]

_C = TypeVar("_C", bound=type)


def mark_coroutine_functions(cls: _C) -> _C:
    """A class decorator: mark those of the class's own methods that are `async def` in `asyncio.AbstractEventLoop`."""
    for name, method in vars(cls).items():
        if inspect.iscoroutinefunction(getattr(asyncio.AbstractEventLoop, name, None)):
            if sys.version_info >= (3, 12):
                inspect.markcoroutinefunction(method)
            else:
                method._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]
    return cls
