"""Who waits for a future by way of asyncio's functions or Weft's: for asyncio's call graph, never for running anything.

`asyncio.print_call_graph` asks each future for `_asyncio_awaited_by`. A task that awaits a future of Weft is its listener
and easily told. But asyncio's `gather`, `wait`, `shield`, `TaskGroup` … note the waiting task with a C function that passes
over futures and tasks other than asyncio's own. What they leave on the future in any case is a done-callback; and in it,
as an object it is bound to, an argument, a default or a cell, is the task that waits, or a future that it awaits.

Weft's own functions leave bound methods of small objects, which name the task in the same way.

Why not replace that C function in `asyncio.futures`: nothing inside asyncio is replaced. A user's callback is not looked
into: it may hold a task for reasons of its own.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterator
from typing import Any

#: Attributes under which helper objects keep the task that waits (TaskGroup, as_completed), or a future that it awaits.
_OWNER_FIELDS = ("_parent_task", "_cur_task", "_waiter")
#: Names under which asyncio's nested functions keep it, or the future that it awaits.
_CELL_NAMES = ("cur_task", "parent_task", "waiter", "outer")


def awaiters(callbacks: list[Any]) -> Iterator[Any]:
    """The unfinished tasks that wait through (callback, context) pairs of a future; one may come twice."""
    seen: set[int] = set()
    pending = [callback for callback, _ in callbacks]
    while pending:
        for held in _held_by(pending.pop()):
            if isinstance(held, asyncio.Task):
                if not held.done():
                    yield held
            elif asyncio.isfuture(held) and id(held) not in seen:
                seen.add(id(held))
                pending += [callback for callback, _ in getattr(held, "_callbacks", None) or ()]


def _held_by(callback: Any) -> Iterator[Any]:
    """What an asyncio callback holds that may be, or lead to, the one who waits."""
    if isinstance(callback, functools.partial):
        if _is_ours(callback.func):
            yield from callback.args
        return
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        yield owner  # its wake-up: the task awaits this very future
        return
    if owner is not None and _is_ours(type(owner)):
        for name in _OWNER_FIELDS:
            yield getattr(owner, name, None)
        return
    if not _is_ours(callback):
        return
    cells = _cells(callback)
    outer = cells.get("outer")
    if outer is not None and outer.done():
        return  # a gather or shield that is decided: nobody waits any more
    yield from cells.values()
    yield from getattr(callback, "__defaults__", None) or ()


def _cells(function: Any) -> dict[str, Any]:
    """What a nested function holds under the names above."""
    names = getattr(getattr(function, "__code__", None), "co_freevars", ())
    found = {}
    for name, cell in zip(names, getattr(function, "__closure__", None) or (), strict=False):
        if name in _CELL_NAMES:
            try:
                found[name] = cell.cell_contents
            except ValueError:
                continue  # not set yet
    return found


def _is_ours(definition: Any) -> bool:
    """Whether a function or class is asyncio's or Weft's."""
    return (getattr(definition, "__module__", None) or "").startswith(("asyncio.", "weft."))
