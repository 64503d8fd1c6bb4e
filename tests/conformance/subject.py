"""The loop under test, as the recipes see it.

A subject names what goes into the holes of CPython's tests: how a loop is made, which Task and Future are meant, and,
for Weft, which of asyncio's names it has functions of its own for. asyncio is a subject too: it is the oracle, and it
proves that the plugging is right (everything must pass on it).
"""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .virtual import TimeGenerator, make_virtual_loop

LOOPS = ("weft", "asyncio", "uvloop")

# asyncio's names that Weft has functions of its own for. The tests run once with asyncio's functions on Weft's loop and
# tasks (what an unmodified program gets), and where a recipe says so once more with these.
OWN_NAMES = (
    "Future", "Task", "Handle", "TimerHandle", "Runner", "run", "gather", "wait", "wait_for", "as_completed", "shield",
    "sleep", "timeout", "timeout_at", "Timeout", "ensure_future", "wrap_future", "run_coroutine_threadsafe", "isfuture",
    "create_eager_task_factory", "eager_task_factory", "create_task", "current_task", "all_tasks",
)  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """What is plugged into the holes."""

    name: str
    """`weft`, `asyncio` or `uvloop`."""
    loop_class: type
    """Answers `isinstance(loop, …)` where a test asks for asyncio's concrete loop class."""
    new_loop: Callable[[], Any]
    task: type
    future: type
    describe: str
    """One line for the report: version, edition, poller, where it was imported from."""
    new_virtual_loop: Callable[[TimeGenerator], Any] | None = None
    """A loop whose time a test drives by hand; None where the loop can't do that (those tests are skipped)."""
    own: Mapping[str, Any] = field(default_factory=dict)
    """asyncio name -> the subject's own object of that name (empty unless the subject is Weft)."""
    logger_modules: tuple[Any, ...] = ()
    """Modules whose `logger` must follow `asyncio.base_events.logger`, which the tests replace by a mock."""

    def lacks(self, method: str) -> bool:
        """Whether the loop still has `AbstractEventLoop`'s refusal for this method."""
        return getattr(self.loop_class, method, None) is getattr(asyncio.AbstractEventLoop, method, None)


def load(name: str, poller: str | None = None) -> Subject:
    """Import the subject. Raises ImportError where it is not installed."""
    if name == "asyncio":
        return _load_asyncio(poller)
    if name == "uvloop":
        return _load_uvloop()
    if name == "weft":
        return _load_weft(poller)
    raise ValueError(f"no such loop: {name!r}; one of {', '.join(LOOPS)}")


def python_version() -> str:
    """`3.14`: the key of exclusions and features."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _load_asyncio(poller: str | None) -> Subject:
    import selectors

    loop_class = asyncio.SelectorEventLoop
    kinds = {"epoll": "EpollSelector", "selector": "PollSelector"}
    selector = getattr(selectors, kinds[poller]) if poller else selectors.DefaultSelector

    return Subject(
        name="asyncio",
        loop_class=loop_class,
        new_loop=lambda: loop_class(selector()),
        task=asyncio.Task,
        future=asyncio.Future,
        new_virtual_loop=importlib.import_module("test.test_asyncio.utils").TestLoop,
        describe=f"asyncio of CPython {sys.version.split()[0]}, {selector.__name__}",
    )


def _load_uvloop() -> Subject:
    uvloop = importlib.import_module("uvloop")
    return Subject(
        name="uvloop",
        loop_class=uvloop.Loop,
        new_loop=uvloop.new_event_loop,
        task=asyncio.Task,
        future=asyncio.Future,
        describe=f"uvloop {uvloop.__version__}",
    )


def _load_weft(poller: str | None) -> Subject:
    weft = importlib.import_module("weft")
    edition = importlib.import_module("weft._edition").edition()
    probe = importlib.import_module("weft._io").make_poller(poller)
    probe.close()
    modules = [module for key, module in sorted(sys.modules.items()) if key.startswith("weft.")]
    return Subject(
        name="weft",
        loop_class=weft.Loop,
        new_loop=(lambda: weft.Loop(poller=poller)) if poller else weft.Loop,
        new_virtual_loop=lambda gen: make_virtual_loop(weft.Loop, type(probe), gen),
        task=weft.Task,
        future=weft.Future,
        describe=f"weft, {edition} edition, poller {poller or 'default'}, CPython {sys.version.split()[0]}, "
        f"from {os.path.dirname(weft.__file__)}",
        own={name: getattr(weft, name) for name in OWN_NAMES if hasattr(weft, name)},
        logger_modules=tuple(module for module in modules if hasattr(module, "logger")),
    )
