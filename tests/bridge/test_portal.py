"""Async functions from synchronous code: calls, tasks, context managers, iterators, Ctrl-C, and ends."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import subprocess
import sys
import textwrap
import threading
import traceback

import pytest

from weft import bridge

VARIABLE = contextvars.ContextVar("variable", default="default")


@pytest.fixture(params=["weft", "asyncio"])
def portal(request):
    factory = asyncio.SelectorEventLoop if request.param == "asyncio" else None
    with bridge.Portal(loop_factory=factory) as made:
        yield made


async def add(one, other):
    await asyncio.sleep(0)
    return one + other


async def fail():
    raise KeyError("lost")


def test_call(portal):
    assert portal.call(add, 1, other=2) == 3
    with pytest.raises(KeyError, match="lost") as caught:
        portal.call(fail)
    assert "in fail\n" in "".join(traceback.format_exception(caught.value))


def test_the_context_of_the_caller(portal):
    VARIABLE.set("mine")

    async def look():
        before = VARIABLE.get()
        VARIABLE.set("the portal's")
        return before

    assert portal.call(look) == "mine"
    assert VARIABLE.get() == "mine"


def test_many_threads_call(portal, in_thread):
    results = []
    threads = [in_thread(lambda n=n: results.append(portal.call(add, n, n))) for n in range(50)]
    for thread in threads:
        thread.join()
    assert sorted(results) == [2 * n for n in range(50)]


def test_start(portal):
    future = portal.start(add, 1, 2)
    assert future.result(10) == 3
    waiting = portal.start(asyncio.sleep, 1000)
    assert waiting.cancel()
    with pytest.raises(Exception) as caught:
        waiting.result(10)
    assert type(caught.value).__name__ == "CancelledError"


@pytest.mark.parametrize("wrong", [5, None])
def test_what_cannot_be_awaited(portal, wrong):
    with pytest.raises(TypeError, match="an async function is needed"):
        portal.call(wrong)
    with pytest.raises(TypeError, match="an async function is needed"):
        portal.start(wrong)


def test_a_coroutine_is_no_function(portal):
    coro = add(1, 2)
    with pytest.raises(TypeError, match="pass the function itself"):
        portal.call(coro)
    coro.close()
    with pytest.raises(TypeError, match="lambda.* is no async function, it gave 'int': call it directly"):
        portal.call(lambda: 5)


def test_a_call_from_its_own_thread_raises_at_once(portal):
    async def nested(method, *args):
        with pytest.raises(bridge.Deadlock, match="await it there|can't be closed"):
            getattr(portal, method)(*args)
        return True

    assert portal.call(nested, "call", add, 1, 2)
    assert portal.call(nested, "close")


def test_a_closed_portal():
    portal = bridge.Portal()
    with portal:
        assert "running" in repr(portal)
    portal.close()
    for use in (lambda: portal.call(add, 1, 2), lambda: portal.start(add, 1, 2), lambda: portal.__enter__()):
        with pytest.raises(bridge.Closed, match="closed.*make another one"):
            use()


def test_a_portal_that_was_never_used():
    portal = bridge.Portal()
    assert "not started" in repr(portal)
    portal.close()


def test_a_loop_that_cannot_be_made():
    def broken():
        raise OSError("no loop today")

    portal = bridge.Portal(loop_factory=broken)
    with pytest.raises(OSError, match="no loop today"):
        portal.call(add, 1, 2)


def test_the_end_cancels_what_runs(portal):
    log = []

    async def work(began):
        began.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0)
            log.append("cleaned up")

    began = threading.Event()
    future = portal.start(work, began)
    assert began.wait(10)
    portal.close()
    assert log == ["cleaned up"]
    assert future.cancelled()


def test_the_end_reaches_a_thread_that_waits(portal, in_thread):
    outcome, began = [], threading.Event()

    async def work():
        began.set()
        await asyncio.get_running_loop().create_future()

    def wait():
        try:
            portal.call(work)
        except BaseException as error:
            outcome.append(type(error))

    thread = in_thread(wait)
    assert began.wait(10)
    portal.close()
    thread.join(10)
    assert outcome == [asyncio.CancelledError]


# ------------------------------------------------------------------------------------------------- context managers


class Manager:
    def __init__(self, swallow=False, enter_error=None, exit_error=None):
        self.swallow, self.enter_error, self.exit_error = swallow, enter_error, exit_error
        self.log = []

    async def __aenter__(self):
        self.log.append(asyncio.current_task())
        if self.enter_error:
            raise self.enter_error
        return "value"

    async def __aexit__(self, kind, error, trace):
        await asyncio.sleep(0)
        self.log.append(asyncio.current_task())
        self.log.append(kind)
        if self.exit_error:
            raise self.exit_error
        return self.swallow


def test_enter(portal):
    manager = Manager()
    with portal.enter(manager) as value:
        assert value == "value"
        assert portal.call(add, 1, 2) == 3
    enter, leave, kind = manager.log
    assert enter is leave, "both ends in one task"
    assert kind is None


@pytest.mark.parametrize("swallow", [True, False])
def test_enter_tells_of_errors(portal, swallow):
    manager = Manager(swallow)
    with contextlib.nullcontext() if swallow else pytest.raises(ZeroDivisionError):
        with portal.enter(manager):
            raise ZeroDivisionError
    assert manager.log[2] is ZeroDivisionError


def test_errors_of_a_manager(portal):
    with pytest.raises(KeyError, match="enter"):
        with portal.enter(Manager(enter_error=KeyError("enter"))):
            raise AssertionError("entered all the same")
    with pytest.raises(KeyError, match="exit"):
        with portal.enter(Manager(exit_error=KeyError("exit"))):
            pass


def test_a_portal_closed_within_a_block_exits_the_manager():
    manager = Manager()
    portal = bridge.Portal()
    with pytest.raises((bridge.Closed, asyncio.CancelledError)):
        with portal.enter(manager):
            portal.close()
    assert manager.log[2] is asyncio.CancelledError


def test_an_asyncio_timeout_as_a_manager(portal):
    """It cancels the task that holds it, which is not in the block: the block ends by itself, and then hears of it."""

    @contextlib.asynccontextmanager
    async def soon():
        async with asyncio.timeout(0):
            yield

    with pytest.raises(TimeoutError):
        with portal.enter(soon()):
            portal.call(asyncio.sleep, 0.01)


# --------------------------------------------------------------------------------------------------------- iterators


class Source:
    """Counts what it made, and knows how it ended."""

    def __init__(self, count, error=None):
        self.count, self.error = count, error
        self.made = 0
        self.closed = False

    async def __call__(self):
        try:
            for number in range(self.count):
                self.made += 1
                yield number
            if self.error:
                raise self.error
        finally:
            await asyncio.sleep(0)
            self.closed = True


@pytest.mark.parametrize("bound", [1, 2, 64])
def test_iterate(portal, bound):
    source = Source(500)
    assert list(portal.iterate(source(), bound=bound)) == list(range(500))
    assert source.closed


def test_iterate_is_bounded(portal):
    source = Source(10_000)
    with portal.iterate(source(), bound=10) as items:
        for number in items:
            assert source.made - number <= 11
            if number == 100:
                break
    assert source.closed
    assert source.made <= 112


def test_iterate_raises_behind_the_items(portal):
    source = Source(5, KeyError("lost"))
    items = portal.iterate(source())
    assert [next(items) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(KeyError, match="lost"):
        next(items)
    with pytest.raises(StopIteration):
        next(items)
    assert source.closed


def test_an_iterator_that_is_dropped_closes_its_source(portal):
    source = Source(1000)
    for number in portal.iterate(source()):
        if number == 3:
            break
    while not source.closed:
        portal.call(asyncio.sleep, 0)


def test_close_ends_a_source_that_waits(portal):
    ended = []

    async def source():
        try:
            yield 1
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append(True)

    items = portal.iterate(source())
    assert next(items) == 1
    items.close()
    assert ended == [True]
    with pytest.raises(StopIteration):
        next(items)


@pytest.mark.parametrize("wrong", [[1, 2], 5])
def test_iterate_refuses(portal, wrong):
    with pytest.raises(TypeError, match="is no async iterable"):
        portal.iterate(wrong)
    with pytest.raises(ValueError, match="at least 1"):
        portal.iterate(Source(1)(), bound=0)


def test_iterating_in_the_portals_own_thread_raises_at_once(portal):
    items = portal.iterate(Source(3)())

    async def nested():
        with pytest.raises(bridge.Deadlock, match="use `async for`"):
            next(items)

    portal.call(nested)
    items.close()


# ------------------------------------------------------------------------------------------------------------ Ctrl-C

CTRL_C = """
import asyncio, os, signal, sys, threading
from weft import bridge

async def work():
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        await asyncio.sleep(1000)
    finally:
        await asyncio.sleep(0)
        print("cleaned up", flush=True)

try:
    with bridge.Portal() as portal:
        {use}
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("use", ["portal.call(work)", "portal.start(work).result()"])
def test_one_ctrl_c_ends_both(use):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CTRL_C.replace("{use}", use))],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout.split("\n")[:2] == ["cleaned up", "interrupted"], done.stderr
    assert done.returncode == 0
    assert done.stderr == ""
