"""The loops of this process, and how `asyncio.all_tasks()` comes to see their tasks.

asyncio finds the tasks of other implementations in one `WeakSet`, to which each task must be added (half a microsecond
a task). Weft's loop has its unfinished tasks at hand anyway, so the set gets a class whose iteration also goes over
those. Its data stays as it is, tasks of other loops register in it as before, and no function of asyncio is replaced:
so it also holds for `from asyncio import all_tasks`. `docs/design/all-tasks.md` has the figures and the choices not
taken.

Rules for whoever edits this file:

- Nothing happens at import: `serve_all_tasks` runs when the first loop of the process is made.
- It tests itself at that moment, with an object that only Weft's way can find. If that fails (a later Python keeps its
  tasks elsewhere), tasks are registered one by one; `how_all_tasks` says which way is used.
- No lock: a child forked in the middle of a change must be able to make a loop. Two threads may do the same work twice.
- Any thread may iterate the set at any time: take a copy of the loops, and of the tasks of each.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol

__all__ = ["HowAllTasks", "LiveLoop", "add", "discard", "how_all_tasks", "live", "observers", "serve_all_tasks"]

HowAllTasks = Literal["not asked yet", "task set", "registration"]


class LiveLoop(Protocol):
    """What this room asks of a loop of Weft."""

    def _tasks(self) -> list[Any]:
        """Its unfinished tasks: a copy, which any thread may ask for."""

    def _lose(self) -> None:
        """Be closed to use, because this process is a child that was forked from the one the loop belongs to."""


# id(loop) -> the loop, while it is open. A dict of references and not a WeakSet: `list(dict.values())` is one step of
# the interpreter, so a copy can be taken while another thread makes a loop.
_loops: dict[int, weakref.ref[LiveLoop]] = {}

# Called with each new loop, once it is complete. For the commands of `weft`, which tell what the loops did.
observers: list[Callable[[Any], object]] = []

_how: HowAllTasks = "not asked yet"


def add(loop: LiveLoop) -> None:
    """Know an open loop, until `discard` or until it is collected; tell the observers. Any thread."""
    key = id(loop)
    _loops[key] = weakref.ref(loop, lambda _: _loops.pop(key, None))
    for observer in observers:
        observer(loop)


def discard(loop: LiveLoop) -> None:
    """Forget a loop, because it was closed. Any thread; nothing happens for one that isn't known."""
    _loops.pop(id(loop), None)


def live() -> list[LiveLoop]:
    """The open loops of this process, of every thread."""
    return [loop for loop in [reference() for reference in list(_loops.values())] if loop is not None]


def how_all_tasks() -> HowAllTasks:
    """How `asyncio.all_tasks()` sees Weft's tasks: through the set's class, or by registering each ("registration")."""
    return _how


def serve_all_tasks() -> bool:
    """Let `asyncio.all_tasks()` see the tasks of `live()`, once for the process.

    True if it does; False if a task must be registered with `asyncio._register_task` to be seen.
    """
    global _how
    if _how == "not asked yet":
        _how = "task set" if _adopt_sets() else "registration"
    return _how == "task set"


class _TaskSet(weakref.WeakSet[Any]):
    """asyncio's set of tasks, whose iteration also goes over the unfinished tasks of Weft's loops.

    Only `__iter__` differs: asyncio asks the set for nothing else, and adding, discarding and length are about what is
    in it. It must stay without fields of its own, or the class of an existing set could not be changed to it.
    """

    def __iter__(self) -> Iterator[Any]:
        yield from super().__iter__()
        for loop in live():
            yield from loop._tasks()
        yield from list(_probes)


class _Probe:
    """Looks like a task of a loop of its own, as far as `all_tasks` asks: found only if the set's iteration is ours."""

    def __init__(self) -> None:
        self.loop = object()

    def get_loop(self) -> object:
        return self.loop

    def done(self) -> bool:
        return False


# The probes of tests that are under way: more than one where two threads make their first loops at once.
_probes: list[_Probe] = []


def _adopt_sets() -> bool:
    """Change the class of asyncio's sets and see whether `all_tasks` follows."""
    for tasks in _asyncio_sets():
        if type(tasks) is weakref.WeakSet:
            tasks.__class__ = _TaskSet
    probe = _Probe()
    _probes.append(probe)
    try:
        return asyncio.all_tasks(probe.loop) == {probe}  # type: ignore[arg-type, comparison-overlap]
    except Exception:
        # An `all_tasks` that asks a task for more than two methods: not one we know how to serve.
        return False
    finally:
        _probes.remove(probe)


def _asyncio_sets() -> list[Any]:
    """The sets in which asyncio keeps the tasks of other implementations, as this version names them."""
    name = "_all_tasks" if sys.version_info < (3, 12) else "_scheduled_tasks"
    found = [getattr(asyncio.tasks, name, None)]
    if sys.version_info >= (3, 14):
        # `all_tasks` is C there, and its set is the state of a C module that nothing names: but the collector can see
        # it.
        module = sys.modules.get("_asyncio")
        if module is not None:
            found += gc.get_referents(module)
    return [tasks for tasks in found if isinstance(tasks, weakref.WeakSet)]
