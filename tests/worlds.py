"""The worlds a parity test runs in: one body, asyncio as the oracle, Weft on each poller.

A world is a pair: the loop that runs, and the namespace whose `gather`, `wait`, `Task`… the body calls.

    name         loop            namespace   why
    asyncio      asyncio's       asyncio     the oracle: the body itself must be right
    epoll        Weft, epoll     weft        Weft as it is meant to be used on Linux
    selector     Weft, selector  weft        the portable poller
    unmodified   Weft, epoll     asyncio     a program that never heard of Weft
    guest        asyncio's       weft        Weft's tasks and functions on a loop that is not Weft's

The edition (compiled or plain) is no world: it is decided by the environment in which pytest runs, and the suite runs
once in each. Nothing here may import weft before a Weft world is asked for, so the oracle side runs without Weft.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sys
from typing import Any

LOOP_WORLDS = ("asyncio", "epoll", "selector")
EVERY_WORLD = ("asyncio", "epoll", "selector", "unmodified", "guest")
WEFT_WORLDS = ("epoll", "selector")


class Names:
    """A module's names; what the module does not have comes from asyncio (Weft has no Queue of its own yet)."""

    def __init__(self, module: str) -> None:
        self._module = importlib.import_module(module)

    def __getattr__(self, name: str) -> Any:
        try:
            return getattr(self._module, name)
        except AttributeError:
            return getattr(asyncio, name)


class World:
    """One loop kind and one namespace. Not reusable after `close`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.weft_loop = name in ("epoll", "selector", "unmodified")
        self.weft_names = name in ("epoll", "selector", "guest")
        self.aio: Any = Names("weft" if self.weft_names else "asyncio")
        # What the loops of this world reported to their exception handler and no test has taken yet.
        self.reports: list[dict[str, Any]] = []
        self._loops: list[Any] = []

    def __repr__(self) -> str:
        return f"<World {self.name}>"

    @property
    def poller(self) -> str:
        return "selector" if self.name == "selector" else "epoll"

    def new_loop(self, poller: Any = None) -> Any:
        """A loop of this world, with a poller of the test's making if it is Weft's. Its reports go to `reports`; `close`
        fails the test if it is not closed."""
        if self.weft_loop:
            loop = importlib.import_module("weft").Loop(poller=poller or self.poller)
        else:
            loop = GuestLoop() if self.name == "guest" else asyncio.SelectorEventLoop()
        loop.set_exception_handler(self._report)
        self._loops.append(loop)
        return loop

    def _report(self, loop: Any, context: dict[str, Any]) -> None:
        self.reports.append(context)

    def take_reports(self) -> list[dict[str, Any]]:
        """The reports so far, and forget them: a report that nobody takes fails the test."""
        taken, self.reports = self.reports, []
        return taken

    def runner(self, *, debug: bool | None = False) -> Any:
        """A Runner with a loop of this world."""
        return self.aio.Runner(debug=debug, loop_factory=self.new_loop)

    def run(self, main: Any, *, debug: bool | None = False, orphans: bool = False) -> Any:
        """Run coroutine `main` to its end; a task that it leaves behind unfinished is an error unless `orphans`."""
        with self.runner(debug=debug) as runner:
            return runner.run(main if orphans else without_orphans(main))

    def close(self) -> None:
        loops, self._loops = self._loops, []
        unclosed = [loop for loop in loops if not loop.is_closed()]
        for loop in unclosed:
            if not loop.is_running():
                loop.close()
        reports = self.take_reports()
        assert not unclosed, f"the test left loops unclosed: {unclosed}"
        assert not reports, f"reports that the test did not take: {reports}"


class GuestLoop(asyncio.SelectorEventLoop):
    """asyncio's loop with Weft's tasks. No task factory: 3.13.0 names a factory's task "None" when it gets no name."""

    def create_task(self, coro: Any, **options: Any) -> Any:
        if self.get_task_factory() is not None:
            return super().create_task(coro, **options)
        return importlib.import_module("weft").Task(coro, loop=self, **options)


async def without_orphans(main: Any) -> Any:
    """Await `main`, then fail if it left unfinished tasks."""
    try:
        result = await main
    except BaseException:
        raise
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"the test left tasks unfinished: {left}"
    return result


async def turns(count: int = 1) -> None:
    """Let the loop make `count` turns: the only way a test passes time."""
    for _ in range(count):
        await asyncio.sleep(0)


@contextlib.contextmanager
def closing_loop(world: World) -> Any:
    """A loop of `world` that is closed at the end."""
    loop = world.new_loop()
    try:
        yield loop
    finally:
        loop.close()


def since(*version: int) -> bool:
    """Whether the running CPython is at least `version`."""
    return sys.version_info >= version
