"""Futures of both kinds, each as the other: results, errors with tracebacks, cancellation both ways, contexts."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import threading
import traceback

import pytest
from worlds import turns

import weft
from weft import bridge

VARIABLE = contextvars.ContextVar("variable", default="default")


class Running:
    """A loop of a world that runs in a thread until the block ends."""

    def __init__(self, world):
        self.loop = world.new_loop()

    def __enter__(self):
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        return self.loop

    def __exit__(self, *exc):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


async def add(one, other):
    await asyncio.sleep(0)
    return one + other


async def fail():
    raise KeyError("lost")


class Awaitable:
    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        return "awaited"


def traceback_of(function):
    """What `function` raises, as text, with its traceback."""
    with pytest.raises(KeyError, match="lost") as caught:
        function()
    return "".join(traceback.format_exception(caught.value))


def test_they_are_wefts_own_functions():
    assert bridge.wrap_future is weft.wrap_future
    assert bridge.run_coroutine_threadsafe is weft.run_coroutine_threadsafe


# ---------------------------------------------------------------------------------------------- asyncio -> concurrent


def test_a_coroutine_in_another_threads_loop(world):
    with Running(world) as loop:
        assert bridge.to_concurrent(add(1, 2), loop).result(10) == 3
        assert bridge.to_concurrent(Awaitable(), loop).result(10) == "awaited"
        future = bridge.to_concurrent(fail(), loop)
        assert "in fail\n" in traceback_of(lambda: future.result(10))


async def test_a_future_of_this_loop(world, in_thread):
    source = asyncio.get_running_loop().create_future()
    future = bridge.to_concurrent(source)
    seen = []
    thread = in_thread(lambda: seen.append(future.result(10)))
    source.set_result(5)
    await turns()
    thread.join(10)
    assert seen == [5]


async def test_a_coroutine_needs_no_loop_where_one_runs(world):
    assert await bridge.wrap_future(bridge.to_concurrent(add(1, 2))) == 3


async def test_a_task_that_has_failed(world):
    task = asyncio.ensure_future(fail())
    await asyncio.wait([task])
    assert "in fail\n" in traceback_of(bridge.to_concurrent(task).result)


def test_a_done_future_needs_no_loop_to_run(world):
    loop = world.new_loop()
    source = loop.create_future()
    source.set_result("early")
    loop.close()
    assert bridge.to_concurrent(source).result(0) == "early"


def test_a_cancelled_future(world):
    with Running(world) as loop:
        source = loop.create_future()
        future = bridge.to_concurrent(source)
        loop.call_soon_threadsafe(source.cancel)
        with pytest.raises(concurrent.futures.CancelledError):
            future.result(10)


def test_cancelling_reaches_the_task_and_its_end(world):
    began, ended = threading.Event(), threading.Event()

    async def work():
        began.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    with Running(world) as loop:
        future = bridge.to_concurrent(work(), loop)
        assert began.wait(10)
        assert future.cancel()
        assert ended.wait(10)
        assert future.cancelled()


def test_cancelling_when_the_loop_is_gone(world, caplog):
    loop = world.new_loop()
    source = loop.create_future()
    future = bridge.to_concurrent(source)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    assert future.cancel()
    assert caplog.records == []
    assert not source.done()


def test_the_context_of_the_caller(world):
    VARIABLE.set("mine")

    async def look():
        before = VARIABLE.get()
        VARIABLE.set("the task's")
        return before

    with Running(world) as loop:
        assert bridge.to_concurrent(look(), loop).result(10) == "mine"
        assert bridge.run_coroutine_threadsafe(look(), loop).result(10) == "mine"
    assert VARIABLE.get() == "mine"


def test_a_concurrent_future_stays_what_it_is():
    future = concurrent.futures.Future()
    assert bridge.to_concurrent(future) is future


@pytest.mark.parametrize("wrong", [5, None, add])
def test_what_cannot_be_awaited(wrong):
    with pytest.raises(TypeError, match="can't be awaited"):
        bridge.to_concurrent(wrong)


def test_no_loop_to_run_in():
    coro = add(1, 2)
    with pytest.raises(RuntimeError, match="pass `loop`, or use a Portal"):
        bridge.to_concurrent(coro)
    coro.close()


def test_a_future_of_another_loop(world):
    one, other = world.new_loop(), world.new_loop()
    with pytest.raises(ValueError, match="leave `loop` away"):
        bridge.to_concurrent(one.create_future(), other)
    one.close()
    other.close()


def test_a_closed_loop(world):
    loop = world.new_loop()
    source = loop.create_future()
    loop.close()
    for awaitable in (source, add(1, 2), Awaitable()):
        with pytest.raises(bridge.Closed, match="loop is closed|is closed"):
            bridge.to_concurrent(awaitable, loop)


# ---------------------------------------------------------------------------------------------- concurrent -> asyncio


async def test_an_executors_future(world):
    VARIABLE.set("mine")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        context = contextvars.copy_context()
        assert await bridge.wrap_future(pool.submit(context.run, VARIABLE.get)) == "mine"
        future = bridge.wrap_future(pool.submit(int, "x"))
        with pytest.raises(ValueError, match="invalid literal") as caught:
            await future
    assert "in run\n" in "".join(traceback.format_exception(caught.value)), "the pool's own frame"


async def test_callbacks_run_in_their_own_context(world, in_thread):
    source, seen = concurrent.futures.Future(), []
    future = bridge.wrap_future(source)
    context = contextvars.copy_context()
    context.run(VARIABLE.set, "the callback's")
    future.add_done_callback(lambda _: seen.append(VARIABLE.get()), context=context)
    in_thread(source.set_result, 1)
    await future
    await turns()
    assert seen == ["the callback's"]


async def test_cancellation_crosses_there_and_back(world):
    first, second = concurrent.futures.Future(), concurrent.futures.Future()
    forward, backward = bridge.wrap_future(first), bridge.wrap_future(second)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await forward
    backward.cancel()
    await turns()
    assert second.cancelled()


async def test_round_trip(world):
    """asyncio -> concurrent -> asyncio: the outcome and both cancellations pass all the way."""
    loop = asyncio.get_running_loop()
    one, two = loop.create_future(), loop.create_future()
    first = bridge.wrap_future(bridge.to_concurrent(one))
    second = bridge.wrap_future(bridge.to_concurrent(two))
    one.set_exception(KeyError("lost"))
    with pytest.raises(KeyError, match="lost"):
        await first
    second.cancel()
    await turns(3)
    assert two.cancelled()


def test_each_of_many_has_one_outcome(world, in_thread):
    """Faults of every kind at random places: as many outcomes as there were calls."""

    async def work(number):
        if number % 5 == 1:
            raise KeyError(number)
        if number % 5 == 2:
            raise asyncio.CancelledError
        await asyncio.sleep(0)
        return number

    with Running(world) as loop:
        futures = [bridge.to_concurrent(work(number), loop) for number in range(2000)]
        for future in futures[::7]:
            future.cancel()
        concurrent.futures.wait(futures, 10)
        kinds = {"cancelled": 0, "failed": 0, "done": 0}
        for future in futures:
            kind = "cancelled" if future.cancelled() else "failed" if future.exception(0) else "done"
            kinds[kind] += 1
        bridge.to_concurrent(turns(3), loop).result(10)
    assert sum(kinds.values()) == 2000
    assert all(kinds.values())
