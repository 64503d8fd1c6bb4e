"""The plain twin of `incontext.pyx`: call a method of a protocol inside a context.

The one reason for this module: `Context.run(obj.method, arg)` builds a bound method and goes through `run`, for every
message; the compiled twin enters the context, calls the method by its name and leaves.
"""

from __future__ import annotations

from contextvars import Context
from typing import Any


class InContext:
    """Static functions only, so that both editions can import it under one name."""

    __slots__ = ()

    @staticmethod
    def method0(context: Context, target: Any, name: str) -> Any:
        """`target.name()` inside `context`."""
        return context.run(getattr(target, name))

    @staticmethod
    def method1(context: Context, target: Any, name: str, argument: Any) -> Any:
        """`target.name(argument)` inside `context`."""
        return context.run(getattr(target, name), argument)

    @staticmethod
    def method2(context: Context, target: Any, name: str, first: Any, second: Any) -> Any:
        """`target.name(first, second)` inside `context`."""
        return context.run(getattr(target, name), first, second)
