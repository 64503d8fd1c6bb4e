"""Collecting what async functions return: with no loop, on a given one, inside a running one, in a thread of its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import gc
import random
import subprocess
import sys
import textwrap
import threading
import traceback

import pytest
from worlds import turns

from weft import bridge

VARIABLE = contextvars.ContextVar("variable", default="default")


async def add(one, other):
    await asyncio.sleep(0)
    return one + other


async def fail():
    await asyncio.sleep(0)
    raise KeyError("lost")


class Awaitable:
    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        return "awaited"


class Stuck:
    """An async function that waits until it is cancelled, and says what became of it."""

    def __init__(self):
        self.began, self.ended = threading.Event(), []

    async def __call__(self):
        self.began.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0)
            self.ended.append(True)


@pytest.fixture(params=["no loop", "given", "current", "own thread", "another thread's"])
def collector(request, world):
    """A collector in each of the ways that synchronous code can have one."""
    if request.param == "no loop":
        with bridge.Collector() as made:
            yield made
    elif request.param == "own thread":
        with bridge.Collector(own_thread=True) as made:
            yield made
    elif request.param == "another thread's":
        loop = world.new_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        with bridge.Collector(loop) as made:
            yield made
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
    else:
        loop = world.new_loop()
        if request.param == "current":
            asyncio.set_event_loop(loop)
        with bridge.Collector(loop if request.param == "given" else None) as made:
            assert made.loop is loop
            yield made
        asyncio.set_event_loop(None)
        loop.close()


# ------------------------------------------------------------------------------------------- synchronous code collects


def test_results_and_errors(collector):
    three, awaited, failed = collector.execute(add, 1, other=2), collector.execute(Awaitable), collector.execute(fail)
    assert collector.execute(len, "four") == 4
    collector.wait_until_finished()
    assert (three.result(), awaited.result()) == (3, "awaited")
    with pytest.raises(KeyError, match="lost") as caught:
        failed.result()
    assert "in fail\n" in "".join(traceback.format_exception(caught.value))
    collector.wait_until_finished()


def test_a_function_that_raises(collector):
    with pytest.raises(ValueError, match="invalid literal"):
        collector.execute(int, "x")
    collector.wait_until_finished()


def test_the_context_of_the_caller(collector):
    VARIABLE.set("mine")

    async def look():
        before = VARIABLE.get()
        VARIABLE.set("the task's")
        return before

    future = collector.execute(look)
    VARIABLE.set("later")
    collector.wait_until_finished()
    assert future.result() == "mine"
    assert VARIABLE.get() == "later"


def test_what_an_end_collects_is_waited_for_too(collector):
    results = []

    def again(future):
        results.append(future.result())
        if len(results) < 5:
            collector._collect(add(future.result(), 1), again)

    collector._collect(add(0, 0), again)
    collector.wait_until_finished()
    assert results == [0, 1, 2, 3, 4]


def test_ends_are_told_in_the_thread_that_collected(collector):
    threads = []
    for _ in range(20):
        collector._collect(add(1, 2), lambda _: threads.append(threading.current_thread()))
    collector.wait_until_finished()
    assert threads == [threading.current_thread()] * 20


def test_a_concurrent_future(collector):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        future = collector.execute(pool.submit, add_now, 1, 2)
        collector.wait_until_finished()
    assert future.result() == 3


def add_now(one, other):
    return one + other


def test_clean_cancels_and_waits_for_the_end(collector):
    stuck, other = Stuck(), Stuck()
    futures = [collector.execute(stuck), collector.execute(other)]
    collector.execute(turns)
    if collector.loop.is_running():
        assert stuck.began.wait(10)
        assert other.began.wait(10)
    else:
        collector.loop.run_until_complete(turns(2))
    collector.clean()
    assert (stuck.ended, other.ended) == ([True], [True])
    assert all(future.cancelled() for future in futures)
    collector.wait_until_finished()


def test_work_may_ignore_a_cancellation(collector):
    async def stubborn():
        with pytest.raises(asyncio.CancelledError):
            await asyncio.get_running_loop().create_future()
        await turns(3)
        return "done all the same"

    collector.execute(stubborn)
    collector.execute(turns)
    if not collector.loop.is_running():
        collector.loop.run_until_complete(turns(2))
    collector.clean()
    assert "0 unfinished" in repr(collector)


def test_a_closed_collector(collector):
    stuck = Stuck()
    future = collector.execute(stuck)
    collector.close()
    collector.close()
    assert future.cancelled()
    assert "closed" in repr(collector)
    with pytest.raises(bridge.Closed, match="make another one"):
        collector.execute(add, 1, 2)


@pytest.mark.slow_test(60)
def test_each_of_many_has_one_outcome(collector):
    """Results, failures and cancellations, and as many ends as there were calls."""
    ends = []

    async def work(number):
        if number % 5 == 1:
            raise KeyError(number)
        if number % 5 == 2:
            raise asyncio.CancelledError
        if number % 5 == 3:
            await asyncio.sleep(0)
        return number

    works = [collector._collect(work(number), ends.append) for number in range(3000)]
    for each in works[::7]:
        each.future.cancel()
    collector.wait_until_finished()
    assert len(ends) == len(set(ends)) == 3000
    kinds = ["cancelled" if end.cancelled() else "failed" if end.exception() else "done" for end in ends]
    assert {kind: kinds.count(kind) > 300 for kind in kinds} == {"cancelled": True, "failed": True, "done": True}


@pytest.mark.slow_test(120)
@pytest.mark.parametrize(("count", "own_thread"), [(100_000, False), (20_000, True)])
def test_nothing_of_many_is_lost(count, own_thread):
    faults, ends = random.Random(1), {"done": 0, "failed": 0, "cancelled": 0}

    async def work(fault):
        if fault < 0.2:
            raise KeyError(fault)
        if fault < 0.4:
            raise asyncio.CancelledError
        if fault < 0.6:
            await asyncio.sleep(0)

    def on_end(future):
        ends["cancelled" if future.cancelled() else "failed" if future.exception() else "done"] += 1

    with bridge.Collector(own_thread=own_thread) as collector:
        for number in range(count):
            collected = collector._collect(work(faults.random()), on_end)
            if number % 10 == 0:
                collected.future.cancel()
        collector.wait_until_finished()
    assert sum(ends.values()) == count
    assert min(ends.values()) > count / 10


# --------------------------------------------------------------------------------------------- inside a running loop


async def test_inside_a_loop_it_refuses_to_block_at_once(world):
    collector = bridge.Collector()
    future = collector.execute(add, 1, 2)
    with pytest.raises(
        bridge.Deadlock, match=r"await executor.finished\(\)`, or make the executor with own_thread=True"
    ):
        collector.wait_until_finished()
    assert not future.done()
    await collector.finished()
    assert future.result() == 3
    collector.wait_until_finished()
    assert await collector.execute(add, 3, 4) == 7


async def test_clean_inside_a_loop(world):
    collector, stuck = bridge.Collector(), Stuck()
    future = collector.execute(stuck)
    await turns()
    collector.clean()
    assert stuck.ended == []
    await collector.finished()
    assert stuck.ended == [True]
    assert future.cancelled()


async def test_with_its_own_thread_it_may_be_waited_for_inside_a_loop(world):
    async with bridge.Collector(own_thread=True) as collector:
        assert collector.loop is not asyncio.get_running_loop()
        blocked, awaited = collector.execute(add, 1, 2), None
        collector.wait_until_finished()
        assert blocked.result(0) == 3
        awaited = collector.execute(add, 3, 4)
        await collector.finished()
        assert awaited.result(0) == 7


def test_what_was_collected_before_the_loop_ran_is_awaited_in_it(world):
    with bridge.Collector(own_thread=True) as collector:
        gate = threading.Event()

        async def wait_for_gate():
            while not gate.is_set():
                await asyncio.sleep(0)

        async def main():
            asyncio.get_running_loop().call_soon(gate.set)
            await collector.finished()

        future = collector.execute(wait_for_gate)
        world.run(main())
        assert future.result(0) is None


async def test_an_async_block(world):
    async with bridge.Collector() as collector:
        future = collector.execute(add, 1, 2)
    assert future.result() == 3
    stuck = Stuck()
    with pytest.raises(ZeroDivisionError):
        async with bridge.Collector() as collector:
            collector.execute(stuck)
            await turns()
            _ = 1 / 0
    assert stuck.ended == [True]


async def test_a_wait_that_is_cancelled_cancels_nothing_else(world):
    collector, gate = bridge.Collector(), asyncio.Event()
    future = collector.execute(gate.wait)
    waiting = asyncio.create_task(collector.finished())
    await turns()
    waiting.cancel()
    await asyncio.wait([waiting])
    assert not future.done()
    gate.set()
    await collector.finished()
    assert future.result() is True


async def test_finished_needs_the_loop_of_the_work(world):
    other = world.new_loop()
    collector = bridge.Collector(other)
    coro = add(1, 2)
    future = collector.execute(lambda: coro)
    with pytest.raises(bridge.Deadlock, match="which nobody runs"):
        await collector.finished()
    await asyncio.to_thread(other.run_until_complete, future)
    other.close()


async def test_work_of_the_loop_that_waits_is_found_with_an_own_thread_too(world):
    """A future of this loop can't come to its end while this loop is blocked."""
    async with bridge.Collector(own_thread=True) as collector:
        future = asyncio.get_running_loop().create_future()
        assert collector.execute(lambda: future) is future
        with pytest.raises(bridge.Deadlock):
            collector.wait_until_finished()
        future.set_result(None)


# ------------------------------------------------------------------------------------------------------------ threads


def test_each_thread_waits_for_its_own(in_thread):
    gate = threading.Event()
    with bridge.Collector(own_thread=True) as collector:
        stuck = Stuck()
        future = collector.execute(stuck)
        sums = []

        def other(number):
            mine = collector.execute(add, number, number)
            collector.wait_until_finished()
            sums.append(mine.result(0))
            gate.set()

        threads = [in_thread(other, number) for number in range(20)]
        for thread in threads:
            thread.join(10)
        assert gate.is_set()
        assert sorted(sums) == [2 * number for number in range(20)]
        assert not future.done()
        collector.clean()
        assert stuck.ended == [True]


def test_a_loop_of_ones_own_for_each_thread(in_thread):
    """Without a loop, threads that share a collector do not meet in one."""
    loops = []

    def work(collector):
        collector.execute(add, 1, 2)
        loops.append(collector.loop)
        collector.wait_until_finished()

    collector = bridge.Collector()
    for thread in [in_thread(work, collector) for _ in range(5)]:
        thread.join(10)
    del thread
    assert len(set(map(id, loops))) == 5
    del collector
    gc.collect()
    assert all(loop.is_closed() for loop in loops)


def test_an_own_thread_that_nobody_closed_ends():
    collector = bridge.Collector(own_thread=True)
    loop = collector.loop
    del collector
    gc.collect()
    for thread in threading.enumerate():
        if thread.name.startswith("weft-collector"):
            thread.join(10)
    assert loop.is_closed()


# --------------------------------------------------------------------------------------------------------- bad input


def test_a_loop_and_a_thread(world):
    loop = world.new_loop()
    with pytest.raises(ValueError, match="pass one of the two"):
        bridge.Collector(loop, own_thread=True)
    loop.close()


def test_a_closed_loop(world):
    loop = world.new_loop()
    collector = bridge.Collector(loop)
    loop.close()
    with pytest.raises(bridge.Closed, match="can.t be run: its loop is closed"):
        collector.execute(add, 1, 2)


def test_a_loop_that_is_closed_under_a_waiting_thread(world, monkeypatch):
    monkeypatch.setattr("weft.bridge._collecting.LOOK_S", 0.01)
    loop, began = world.new_loop(), threading.Event()

    def run():
        loop.call_soon(began.set)
        loop.run_forever()
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    assert began.wait(10)
    collector = bridge.Collector(loop)
    future = collector.execute(loop.create_future)
    loop.call_soon_threadsafe(loop.stop)
    with pytest.raises(bridge.Closed, match="the loop was closed"):
        collector.wait_until_finished()
    assert not future.done()
    thread.join()


def test_the_package_of_the_graphql_executor_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "promise", None)
    with pytest.raises(ImportError, match=r"pip install 'weft\[legacy\]'"):
        bridge.AsyncioExecutor()


@pytest.mark.parametrize("own_thread", [True, False])
def test_a_failure_that_nobody_takes_is_reported(world, own_thread):
    loop = world.new_loop()
    thread = threading.Thread(target=loop.run_forever)
    if own_thread:
        thread.start()
    collector = bridge.Collector(loop)
    collector.execute(fail)
    collector.wait_until_finished()
    gc.collect()
    if own_thread:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
    loop.run_until_complete(turns())
    loop.close()
    (report,) = world.take_reports()
    assert "never retrieved" in report["message"]
    assert isinstance(report["exception"], KeyError)


CTRL_C = """
import asyncio, os, signal
from weft import bridge

ended = []

async def work():
    asyncio.get_running_loop().call_later(0.05, os.kill, os.getpid(), signal.SIGINT)
    try:
        await asyncio.sleep(1000)
    finally:
        ended.append("ended")

collector = bridge.Collector(own_thread={own_thread})
collector.execute(work)
try:
    collector.wait_until_finished()
except KeyboardInterrupt:
    print("interrupted", *ended)
collector.close()
"""


@pytest.mark.parametrize("own_thread", [True, False])
def test_one_ctrl_c_ends_the_work_and_the_wait(own_thread):
    program = textwrap.dedent(CTRL_C.replace("{own_thread}", str(own_thread)))
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr, done.returncode) == ("interrupted ended\n", "", 0)
