"""Which loop a program gets: Weft's, wherever it asks for asyncio's, or for one of the loops that stand in for that.

The design note is `docs/design/which-loop.md`. In short: whatever road a program takes (`asyncio.run`, a `Runner`, a policy, a
`loop_factory`, a framework's choice), in the end somebody *calls a loop class*. So one thing changes: what comes out when
such a class is called. No function, class or policy of asyncio is replaced or wrapped, nothing deprecated is touched, and it
is the same on every version of Python.

Rules for whoever edits this file:

- Only an exact class of `_STAND_INS`, called without arguments, gives Weft's loop. A subclass of one, or a class called
  with a selector, is a loop that somebody designed: it is made as asked, and reported to `on_other`.
- `uvloop.run()` checks that its loop is uvloop's, and raises if not. So a stand-in whose own `run` is on the stack is made
  as asked too, and reported.
- All this is for the life of the process, and only for `weft run`: nothing else may import this module.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from types import FrameType, FunctionType
from typing import Any

from weft.loop import Loop

__all__ = ["give_weft"]

# The loops that a program or a framework takes where it could as well have taken asyncio's: package -> name of the class.
_STAND_INS = {
    "rloop": "RLoop",
    "rsloop": "Loop",
    "uvloop": "Loop",
    "winloop": "Loop",
    "zuvloop": "EventLoop",
}

_PASSED = {"asyncio", "weft", *_STAND_INS}

_New = Callable[..., Any]


def give_weft(new_loop: Callable[[], Loop], on_other: Callable[[str, str], None]) -> None:
    """From now on, in this process, calling asyncio's loop class or a stand-in for it gives `new_loop()`.

    `on_other(kind, place)` is told of every other loop before it is made: the name of its class, and `file:line` of the code
    that asked for it. What it raises passes to that code.
    """

    def watched(make: _New) -> _New:
        """The `__new__` of a loop class, whose own is `make`."""

        def new(cls: type, /, *arguments: Any, **keywords: Any) -> Any:
            if issubclass(cls, Loop):
                return make(cls, *arguments, **keywords)
            is_plain = not any(value is not None for value in (*arguments, *keywords.values()))
            if is_plain and _is_stand_in(cls) and not _is_asked_by_name(cls):
                return new_loop()
            on_other(f"{cls.__module__}.{cls.__qualname__}", _place())
            return make(cls, *arguments, **keywords)

        return new

    def make_plain(cls: type[asyncio.AbstractEventLoop], *arguments: Any, **keywords: Any) -> Any:
        return super(asyncio.AbstractEventLoop, cls).__new__(cls)

    def watch(cls: type[asyncio.AbstractEventLoop]) -> None:
        """See a class that inherits its making from a C type, and so never comes to `AbstractEventLoop.__new__`."""
        make = cls.__new__
        if not isinstance(make, FunctionType) and not issubclass(cls, Loop):
            cls.__new__ = watched(make)  # type: ignore[method-assign]

    def init_subclass(cls: type[asyncio.AbstractEventLoop], /, **keywords: Any) -> None:
        super(asyncio.AbstractEventLoop, cls).__init_subclass__(**keywords)
        watch(cls)

    asyncio.AbstractEventLoop.__new__ = watched(make_plain)  # type: ignore[method-assign]
    asyncio.AbstractEventLoop.__init_subclass__ = classmethod(init_subclass)  # type: ignore[assignment]
    for cls in _subclasses(asyncio.AbstractEventLoop):  # type: ignore[type-abstract]
        watch(cls)


def _subclasses(cls: type[asyncio.AbstractEventLoop]) -> list[type[asyncio.AbstractEventLoop]]:
    found = []
    for child in cls.__subclasses__():
        found += [child, *_subclasses(child)]
    return found


def _is_stand_in(cls: type) -> bool:
    package = _package(cls.__module__)
    return cls is asyncio.SelectorEventLoop or _STAND_INS.get(package) == cls.__name__


def _is_asked_by_name(cls: type) -> bool:
    """Whether the `run` function of a stand-in's own package waits for it, up the stack."""
    package = _package(cls.__module__)
    if package not in _STAND_INS:
        return False
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "run" and _package(_module(frame)) == package:
            return True
        frame = frame.f_back
    return False


def _place() -> str:
    """`file:line` of the nearest caller that is neither asyncio, nor a package of a stand-in, nor Weft."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if _package(_module(frame)) not in _PASSED:
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return "an unknown place"


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _package(module: str) -> str:
    return module.partition(".")[0]
