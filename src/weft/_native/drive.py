"""Drive a coroutine one step, or call a callback, inside a context: the plain twin of `drive.pyx`, and the contract.

Why a binding at all: `coro.send(None)` ends a coroutine by raising StopIteration, which compiled code would have to catch;
C has `PyIter_Send`, which hands over the value and says that it was the last one. Both editions say it by `Returned`. And a
coroutine that fails is no error of who drives it: the exception is handed over, too, as `Raised`.
"""

from __future__ import annotations

from _thread import get_ident
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any


class Returned:
    """What `send` and `throw` give when the coroutine ended: its value. Nothing else has this type."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class Raised:
    """What `send` and `throw` give when the coroutine failed: its exception."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Drive:
    """Static functions only, so that both editions can import them under one name."""

    __slots__ = ()

    @staticmethod
    def send(context: Context | None, coro: Any) -> Any:
        """One step: what `coro` yields, or `Returned` or `Raised`. Runs inside `context`; None means the present one."""
        try:
            return coro.send(None) if context is None else context.run(coro.send, None)
        except StopIteration as stop:
            return Returned(stop.value)
        except BaseException as error:
            return Raised(error)

    @staticmethod
    def throw(context: Context | None, coro: Any, exc: BaseException) -> Any:
        """As `send`, but raises `exc` at the point where `coro` waits."""
        try:
            return coro.throw(exc) if context is None else context.run(coro.throw, exc)
        except StopIteration as stop:
            return Returned(stop.value)
        except BaseException as error:
            return Raised(error)
        finally:
            exc = None  # type: ignore[assignment]  # its traceback holds this frame

    @staticmethod
    def call_two(function: Callable[[Any, Any], Any], first: Any, second: Any) -> Any:
        """`function(first, second)`, the quickest way: a builtin goes without the wrapper that packs arguments."""
        return function(first, second)

    @staticmethod
    def copy_context() -> Context:
        """A copy of the present context."""
        return copy_context()

    @staticmethod
    def thread_id() -> int:
        """Of the thread that calls: `threading.get_ident()`."""
        return get_ident()

    @staticmethod
    def make_lazy(target: object) -> None:
        """Let the attribute dict of a new object be made when it is first needed: compiled classes make it at once."""

    @staticmethod
    def call(context: Context, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        """`callback(*args)` inside `context`."""
        try:
            context.run(callback, *args)
        finally:
            callback = args = None  # type: ignore[assignment]  # a traceback may hold this frame
