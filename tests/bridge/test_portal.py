"""Async functions from synchronous code: calls, tasks, context managers, iterators, and ends."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import contextvars
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


def test_what_is_started_too_late_is_cancelled():
    """The loop takes it, and is closed before it runs anything more."""
    portal, ended = bridge.Portal(), threading.Event()
    loop = portal.call(running_loop)

    def take_and_forget(callback, *args, context=None):
        ended.set()

    loop.call_soon_threadsafe, true = take_and_forget, loop.call_soon_threadsafe
    future = portal.start(add, 1, 2)
    assert ended.is_set() and not future.done()
    loop.call_soon_threadsafe = true
    portal.close()
    assert future.cancelled()
    assert not portal._started


async def running_loop():
    return asyncio.get_running_loop()


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


# -------------------------------------------------------------------------------------------------- what can't be used


def test_a_sync_function_names_the_remedy(portal):
    async def generate():
        yield 5

    with pytest.raises(TypeError, match=r"built-in function len.* gave 'int': call it directly, or in a thread"):
        portal.call(len, "")
    with pytest.raises(TypeError, match=r"gave 'int': call it directly"):
        portal.start(len, "").result(10)
    with pytest.raises(TypeError, match=r"generate.*gave 'async_generator': iterate over it \(Portal.iterate\)"):
        portal.call(generate)
    with pytest.raises(TypeError, match="is no async context manager.*`with` enters it"):
        portal.enter(contextlib.nullcontext).__enter__()


def test_a_generator_used_twice(portal):
    source = Source(3)()
    items = portal.iterate(source)
    with pytest.raises(RuntimeError, match=r"async_generator object.*is iterated over already: call .* again"):
        portal.iterate(source)
    assert list(items) == [0, 1, 2]
    with pytest.raises(RuntimeError, match="has come to its end: call .* again for another one"):
        portal.iterate(source)
    # One that was never begun is given back.
    source = Source(3)()
    portal.iterate(source)
    assert list(portal.iterate(source)) == [0, 1, 2]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_an_exit_belongs_to_who_called(portal, error):
    async def leave():
        raise error

    async def source():
        yield 1
        raise error

    with pytest.raises(type(error)):
        portal.call(leave)
    items = portal.iterate(source())
    assert next(items) == 1
    with pytest.raises(type(error)):
        next(items)
    assert portal.call(add, 1, 2) == 3


def test_the_last_item_is_seen_before_the_end(portal):
    """The maker appends it and ends between two looks of the taker's."""

    async def source():
        await asyncio.get_running_loop().create_future()
        yield 1

    items = portal.iterate(source())
    pumping = items._pumping

    class Late(type(pumping.buffer)):
        looks = 0

        def __bool__(self):
            self.looks += 1
            if self.looks == 2:
                self.append("the last")
                pumping._is_over = True
                return False
            return len(self) > 0

    pumping.buffer = Late()
    assert next(items) == "the last"
    with pytest.raises(StopIteration):
        next(items)
    items.close()


def test_a_source_that_cannot_be_begun(portal):
    class Broken:
        def __aiter__(self):
            raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        next(portal.iterate(Broken()))


def test_a_source_that_cannot_be_closed(portal):
    async def source():
        try:
            while True:
                yield 1
        finally:
            raise KeyError("lost")

    items = portal.iterate(source())
    next(items)
    with pytest.raises(KeyError, match="lost"):
        items.close()
    items.close()


def test_a_source_that_never_waits_leaves_the_loop_to_others(portal):
    """Items are taken as fast as they are made."""

    class Taken(collections.deque):
        def append(self, item):
            pass

    async def source():
        while True:
            yield 1

    items = portal.iterate(source())
    items._pumping.buffer = Taken()
    items._pumping.is_begun = True
    portal._loop.call_soon_threadsafe(items._pumping._start)
    for _ in range(10):
        assert portal.call(add, 1, 2) == 3
    items.close()


def test_a_waiting_iterator_ends_with_its_portal(in_thread):
    outcome, began = [], threading.Event()

    async def source():
        began.set()
        await asyncio.get_running_loop().create_future()
        yield 1

    def take():
        try:
            next(items)
        except asyncio.CancelledError:
            outcome.append("cancelled")

    with bridge.Portal() as portal:
        items = portal.iterate(source())
        thread = in_thread(take)
        assert began.wait(10)
    thread.join(10)
    assert outcome == ["cancelled"]
    items.close()
