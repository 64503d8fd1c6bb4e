"""How the suite runs: the worlds of a test, warnings as errors, leaks as failures, hangs as failures.

- A test that takes `world` runs in asyncio (the oracle) and in Weft with each poller; `every_world` adds asyncio's names
  on Weft's loop and Weft's names on asyncio's loop; `weft_only` drops the oracle (a listed deviation, or Weft's own names).
- An `async def` test that takes `world` is run by its world, by nobody else.
- A test never sleeps to wait for something: events, or loop turns (`worlds.turns`). A meta test reads the files for it.
- A test that leaks an fd, a thread, a loop, a transport, a pending task or a live timer fails, and so does one that
  leaves an unraisable exception or a report to a loop's exception handler that it did not take.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import inspect
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import leaks
import pytest
import records
import worlds

HANG_SECONDS = float(os.environ.get("WEFT_HANG_SECONDS", "15"))
FIXTURE_SECONDS = 60.0
MARKERS = (
    "every_world: also asyncio's names on Weft's loop, and Weft's names on asyncio's loop",
    "weft_only: no oracle: a listed deviation, or something asyncio does not have",
    "loop_debug: run an async test in debug mode",
    "orphans: an async test may leave unfinished tasks to its runner",
    "leaky(reason): no leak check, for the reason given",
    "slow_test(seconds): may take this long before the hang guard fails it",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--world", default=None, help="run only these worlds, comma separated (asyncio, epoll, …)")


def pytest_configure(config: pytest.Config) -> None:
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    config.addinivalue_line("filterwarnings", "error")
    # A shell starts what runs in the background with Ctrl-C ignored, and every child inherits that: the tests press it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.stash[STDERR] = os.dup(2)


def pytest_unconfigure(config: pytest.Config) -> None:
    faulthandler.cancel_dump_traceback_later()
    os.close(config.stash[STDERR])


STDERR: pytest.StashKey[int] = pytest.StashKey()


def pytest_report_header(config: pytest.Config) -> str:
    try:
        import weft
    except ImportError as error:
        return f"weft: not importable ({error})"
    edition = getattr(sys.modules.get("weft._edition"), "EDITION", "unknown")
    return f"weft: {edition} edition, from {os.path.dirname(weft.__file__)}"


def pytest_collection_finish(session: pytest.Session) -> None:
    gc.collect()
    gc.freeze()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "world" not in metafunc.fixturenames:
        return
    names: tuple[str, ...] = worlds.LOOP_WORLDS
    if metafunc.definition.get_closest_marker("every_world"):
        names = worlds.EVERY_WORLD
    if metafunc.definition.get_closest_marker("weft_only"):
        names = tuple(name for name in names if name != "asyncio")
    if chosen := metafunc.config.getoption("--world"):
        names = tuple(name for name in names if name in chosen.split(","))
    metafunc.parametrize("world", names, indirect=True)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """An `async def` test runs in its world."""
    world = pyfuncitem.funcargs.get("world")
    if not isinstance(world, worlds.World) or not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    world.run(
        pyfuncitem.obj(**arguments),
        debug=pyfuncitem.get_closest_marker("loop_debug") is not None,
        orphans=pyfuncitem.get_closest_marker("orphans") is not None,
    )
    return True


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    outcome = yield
    if call.when == "call":
        item.stash[FAILED] = outcome.get_result().failed or call.excinfo is not None


FAILED: pytest.StashKey[bool] = pytest.StashKey()


class Hang(SystemExit):
    """A test took too long. A SystemExit, because a loop lets that through from any callback or task."""


def _hang_seconds(item: pytest.Item) -> float:
    marker = item.get_closest_marker("slow_test")
    return float(marker.args[0]) if marker else HANG_SECONDS


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Any:
    """A dump and the end, if that exception is swallowed, or what hangs is a fixture that many tests share."""
    faulthandler.dump_traceback_later(
        2 * _hang_seconds(item) + FIXTURE_SECONDS, exit=True, file=item.config.stash[STDERR]
    )
    yield
    faulthandler.cancel_dump_traceback_later()


def _on_alarm(signum: int, frame: Any) -> None:
    raise Hang("the test hangs: see the traceback for where the main thread waits")


@pytest.fixture(autouse=True)
def _hang_guard(request: pytest.FixtureRequest) -> Iterator[None]:
    """An exception in the main thread, so that the other tests go on."""
    previous = signal.signal(signal.SIGALRM, _on_alarm)
    signal.setitimer(signal.ITIMER_REAL, _hang_seconds(request.node), 5.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@pytest.fixture(autouse=True)
def _leak_guard(request: pytest.FixtureRequest, _hang_guard: None) -> Iterator[None]:
    """Fails the test that leaves something behind, unless it failed by itself."""
    unraisable: list[str] = []

    def on_unraisable(event: Any) -> None:
        unraisable.append(f"unraisable: {event.err_msg}: {event.object!r}: {event.exc_value!r}")

    watch = leaks.Watch()
    previous, sys.unraisablehook = sys.unraisablehook, on_unraisable
    try:
        yield
        failed = request.node.stash.get(FAILED, True)
        complaints = [] if failed or request.node.get_closest_marker("leaky") else watch.complaints()
        gc.collect()
        gc.freeze()  # what is left is not looked at again: each test pays for its own objects only
    finally:
        sys.unraisablehook = previous
    if not failed:
        complaints += unraisable
        assert not complaints, "the test leaks:\n  " + "\n  ".join(complaints)


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Iterator[worlds.World]:
    """The loop and the names that the test runs with."""
    made = worlds.World(request.param)
    yield made
    if not request.node.stash.get(FAILED, True):
        made.close()
    else:
        with contextlib.suppress(AssertionError):
            made.close()


@pytest.fixture
def aio(world: worlds.World) -> Any:
    """`asyncio` or `weft`: the namespace under test."""
    return world.aio


@pytest.fixture
def loop(world: worlds.World) -> Iterator[Any]:
    """A loop of the world, not running, closed after the test."""
    with worlds.closing_loop(world) as made:
        yield made


@pytest.fixture
def same(request: pytest.FixtureRequest, world: worlds.World) -> Callable[..., dict[str, Any]]:
    """`same(body, debug=…)`: `body(world)` comes out of this world as it comes out of asyncio; returns the record."""

    def compare(body: Callable[[worlds.World], Any], *, debug: bool | None = False) -> dict[str, Any]:
        assert not inspect.iscoroutinefunction(request.function), "a test that takes `same` is no `async def`"
        oracle = worlds.World("asyncio")
        expected = records.record(oracle, body, debug=debug)
        oracle.close()
        got = records.record(world, body, debug=debug)
        if got != expected:
            pytest.fail(f"differs from asyncio\n  asyncio  {expected}\n  {world.name:8} {got}", pytrace=False)
        return expected

    return compare


@pytest.fixture
def log_lines() -> Iterator[list[str]]:
    """The lines that go to the `asyncio` logger, as `LEVEL message`."""
    import logging

    logger, handler = logging.getLogger("asyncio"), records.LogLines()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield handler.lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@pytest.fixture
def in_thread() -> Iterator[Callable[..., threading.Thread]]:
    """`in_thread(function, *arguments)` starts a thread that is joined when the test ends."""
    threads: list[threading.Thread] = []

    def start(function: Callable[..., Any], *arguments: Any) -> threading.Thread:
        thread = threading.Thread(target=function, args=arguments)
        threads.append(thread)
        thread.start()
        return thread

    yield start
    for thread in threads:
        thread.join(10.0)
