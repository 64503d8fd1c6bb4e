"""A synchronous client class as an asynchronous one."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable
from typing import Any

from weft.bridge._family import Family, members
from weft.bridge.handles import AsyncHandle
from weft.bridge.iterators import BOUND
from weft.bridge.threads import OnCancel

__all__ = ["asyncify"]


def asyncify(
    cls: type,
    *,
    threads: int = 8,
    one_thread: bool = False,
    on_cancel: OnCancel = "wait",
    timeout: float | None = None,
    ahead: int = BOUND,
    only: Collection[str] | None = None,
    hide: Collection[str] = (),
    direct: Collection[str] = (),
    also: Iterable[type] = (),
) -> Any:
    """An asynchronous class for a synchronous client class: what blocks there is awaited here, and runs in a thread.

    threads:     calls of one client at once; the others wait in the order they came
    one_thread:  each client has a thread, in which its object is made, and all is done that is done with it or with what came
                 out of it: for objects that may be touched by the thread that made them only, as those of sqlite3
    on_cancel:   what becomes of a call that runs when its task is cancelled, see `weft.bridge.cancel`
    timeout:     seconds that each call may take before `StillRunning` is raised; None: any
    ahead:       items that `async for` makes ahead of the loop that takes them; 0: each is made when it is asked for
    only:        the names that may be used; None: all public ones
    hide:        names that may not; AttributeError says so
    direct:      attributes that are read and set, and methods that are called, in the loop's thread: those that don't block
    also:        classes, whose packages belong to the client too

    A name in `only`, `hide` and `direct` is one of `cls`, or `Class.name` of a class that comes out of it.

    The handles of a client are for one loop, and for its thread. Cost of a call: that of `Threads.run`, and a few objects
    more. Raises TypeError for what is no synchronous class, ValueError for a name that `cls` does not have.
    """
    _check_class(cls)
    for what, names in (("only", only or ()), ("hide", hide), ("direct", direct)):
        if isinstance(names, str):
            raise TypeError(f"{what}={names!r} is one text: a collection of names is needed, as {what}=({names!r},)")
    for name in (*(only or ()), *hide):
        if "." not in name and not hasattr(cls, name):
            raise ValueError(f"{cls.__qualname__} has no {name!r} that only= or hide= could mean")
    if threads < 1:
        raise ValueError(f"threads={threads} lets nothing run: at least 1 is needed")
    if ahead < 0:
        raise ValueError(f"ahead={ahead} is no number of items: 0 makes none ahead")
    family = Family(
        cls,
        threads=threads,
        one_thread=one_thread,
        on_cancel=on_cancel,
        timeout=timeout,
        ahead=ahead,
        only=only,
        hide=hide,
        direct=direct,
        also=also,
    )
    # Its options are looked at, before a client is made.
    family.new_threads("")
    return family.class_of(cls)


def _check_class(cls: Any) -> None:
    if inspect.iscoroutinefunction(cls) or inspect.isasyncgenfunction(cls):
        raise TypeError(f"{cls!r} is an async function: it needs no asyncify, await it")
    if not isinstance(cls, type):
        if inspect.isroutine(cls):
            remedy = "call it by weft.bridge.to_thread, or asyncify the class that it belongs to"
        else:
            remedy = f"asyncify its class, {type(cls).__qualname__}, and make the object by that"
        raise TypeError(f"asyncify takes a class, not {cls!r}: {remedy}")
    if issubclass(cls, AsyncHandle):
        raise TypeError(f"{cls.__qualname__} is what asyncify makes: it needs no second time")
    kinds = {name: kind for each in cls.__mro__ for name, (kind, _) in members(each).items()}
    has_methods = {kind for kind in kinds.values() if kind in ("method", "async", "class")}
    if has_methods == {"async"}:
        raise TypeError(
            f"{cls.__qualname__} is asynchronous already, all its methods are async functions: use it as it is"
        )
