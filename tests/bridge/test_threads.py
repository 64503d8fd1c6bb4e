"""Synchronous calls in threads: results, limits, what a cancellation does, and the way back into the loop."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import traceback

import pytest

from weft import bridge
from weft.bridge._workers import abandoned_jobs

VARIABLE = contextvars.ContextVar("variable", default="default")


def fail():
    raise KeyError("lost")


async def test_result_error_and_context(world):
    VARIABLE.set("mine")

    def work(*args, **kwargs):
        VARIABLE.set("the thread's")
        return VARIABLE.get(), args, kwargs, threading.current_thread()

    value, args, kwargs, thread = await bridge.to_thread(work, 1, 2, function=3)
    assert (value, args, kwargs) == ("the thread's", (1, 2), {"function": 3})
    assert thread is not threading.current_thread()
    assert VARIABLE.get() == "mine"
    with pytest.raises(KeyError, match="lost") as caught:
        await bridge.to_thread(fail)
    assert "in fail\n" in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), StopIteration(1), GeneratorExit()])
async def test_errors_that_end_more_than_a_call(world, error):
    def work():
        raise error

    if isinstance(error, StopIteration):
        with pytest.raises(RuntimeError, match="StopIteration"):
            await bridge.to_thread(work)
    else:
        with pytest.raises(type(error)):
            await bridge.to_thread(work)


@pytest.mark.parametrize("wrong", [asyncio.sleep, 5, None])
async def test_what_cannot_be_called_in_a_thread(world, wrong):
    with pytest.raises(TypeError, match="async function: await it|can't be called"):
        await bridge.to_thread(wrong)


@pytest.mark.parametrize(
    ("options", "words"), [({"limit": 0}, "at least 1"), ({"on_cancel": "kill"}, "'wait' or 'abandon'")]
)
def test_options_are_checked(options, words):
    with pytest.raises(ValueError, match=words):
        bridge.Threads(**options)


async def test_limit_and_order(world):
    threads = bridge.Threads(2)
    gate = threading.Event()
    lock = threading.Lock()
    running = most = 0
    order = []

    def work(number):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            order.append(number)
        gate.wait(10)
        with lock:
            running -= 1
        return number

    tasks = [asyncio.create_task(threads.run(work, number)) for number in range(20)]
    while running < 2:
        await asyncio.sleep(0)
    gate.set()
    assert await asyncio.gather(*tasks) == list(range(20))
    assert most == 2
    assert sorted(order) == list(range(20))
    await threads.aclose()


async def test_the_order_in_which_they_came(world):
    threads, order = bridge.Threads(1), []
    tasks = [asyncio.create_task(threads.run(order.append, number)) for number in range(100)]
    await asyncio.sleep(0)
    for task in tasks[10:90:2]:
        task.cancel()
    await asyncio.wait(tasks)
    assert order == sorted(order) and len(order) >= 60
    assert not threads._waiting and not threads._running
    await threads.aclose()


async def test_cancelled_before_it_began(world):
    threads = bridge.Threads(1)
    gate, called = threading.Event(), []
    first = asyncio.create_task(threads.run(gate.wait, 10))
    second = asyncio.create_task(threads.run(called.append, 1))
    third = asyncio.create_task(threads.run(called.append, 3))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    gate.set()
    assert await first is True
    await third
    assert called == [3]


async def test_cancelled_while_it_runs_is_waited_for(world):
    began, gate, log = threading.Event(), threading.Event(), []

    def work():
        began.set()
        gate.wait(10)
        log.append(bridge.is_cancelled())
        return "dropped"

    task = asyncio.create_task(bridge.to_thread(work))
    while not began.is_set():
        await asyncio.sleep(0)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == [True]
    assert task.cancelling() == 3
    assert not bridge.abandoned()


@pytest.mark.parametrize("wait", ["check", "sleep"])
async def test_a_call_can_see_that_it_is_cancelled(world, wait):
    began = threading.Event()
    ended = []

    def work():
        began.set()
        try:
            while True:
                if wait == "check":
                    bridge.check_cancelled()
                else:
                    bridge.sleep(100)
        finally:
            ended.append(True)

    task = asyncio.create_task(bridge.to_thread(work))
    while not began.is_set():
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [True]
    # Outside of a call of ours nobody is cancelled.
    bridge.check_cancelled()
    bridge.sleep(0)


async def test_the_error_of_a_cancelled_call_is_not_lost(world):
    began, gate = threading.Event(), threading.Event()

    def work():
        began.set()
        gate.wait(10)
        fail()

    task = asyncio.create_task(bridge.to_thread(work))
    while not began.is_set():
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    gate.set()
    with pytest.raises(KeyError, match="lost"):
        await task


async def test_abandoned(world):
    threads = bridge.Threads(1, on_cancel="abandon")
    began, gate = threading.Event(), threading.Event()

    def work():
        began.set()
        gate.wait(10)
        fail()

    task = asyncio.create_task(threads.run(work))
    while not began.is_set():
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (call,) = bridge.abandoned()
    assert call.function is work
    assert call.thread.startswith("weft-bridge-")
    assert call.running_s >= 0
    assert "in Event.wait" in call.where() or "wait" in call.where()
    assert any("gate.wait(10)" in line for line in call.stack())
    assert "abandoned call" in repr(call)
    # Its place is taken until it ends.
    other = asyncio.create_task(threads.run(lambda: "other"))
    await asyncio.sleep(0)
    assert not other.done()
    gate.set()
    assert await other == "other"
    assert not bridge.abandoned() and not abandoned_jobs
    assert call.where() == "" and call.stack() == []
    (report,) = world.take_reports()
    assert "abandoned call" in report["message"]
    assert isinstance(report["exception"], KeyError)
    await threads.aclose()


async def test_a_timeout_says_where_the_thread_is(world):
    threads = bridge.Threads(timeout=0.01)
    gate = threading.Event()
    try:
        words = r"is still running after 0.01 s, in thread 'weft-bridge-\d+', at "
        with pytest.raises(bridge.StillRunning, match=words) as caught:
            await threads.run(gate.wait, 10)
        assert isinstance(caught.value, TimeoutError)
        assert "threading.py" in caught.value.where
        assert len(bridge.abandoned()) == 1
    finally:
        gate.set()
    while bridge.abandoned():
        await asyncio.sleep(0)
    await threads.aclose()


async def test_a_timeout_before_any_thread_was_free(world):
    one = bridge.OneThread("busy", timeout=0.01)
    gate = threading.Event()
    first = asyncio.create_task(one.run(gate.wait, 10))
    with pytest.raises(bridge.StillRunning):
        await first
    gate.set()
    assert await one.run(lambda: 5) == 5
    await one.aclose()


async def test_one_thread_is_always_the_same(world):
    async with bridge.OneThread("mine") as one:
        threads = await asyncio.gather(*[one.run(threading.current_thread) for _ in range(10)])
        assert len(set(threads)) == 1
        assert threads[0].name == "mine"
    threads[0].join(10)
    assert not threads[0].is_alive()
    with pytest.raises(bridge.Closed, match="closed"):
        await one.run(len, "")


async def test_closing_waits_for_what_runs_and_refuses_what_waits(world):
    threads = bridge.Threads(1)
    gate, began = threading.Event(), threading.Event()

    def work():
        began.set()
        return gate.wait(10)

    first = asyncio.create_task(threads.run(work))
    second = asyncio.create_task(threads.run(len, ""))
    while not began.is_set():
        await asyncio.sleep(0)
    closing = asyncio.create_task(threads.aclose())
    await asyncio.sleep(0)
    with pytest.raises(bridge.Closed):
        await second
    assert not closing.done()
    gate.set()
    await closing
    assert await first is True


# ------------------------------------------------------------------------------------------------ back into the loop


async def test_call_async(world):
    VARIABLE.set("mine")
    loop = asyncio.get_running_loop()

    async def inner(value):
        await asyncio.sleep(0)
        assert asyncio.get_running_loop() is loop
        return value, VARIABLE.get()

    async def failing():
        fail()

    def work():
        VARIABLE.set("the thread's")
        result = bridge.call_async(inner, 5)
        with pytest.raises(KeyError):
            bridge.call_async(failing)
        return result

    assert await bridge.to_thread(work) == (5, "the thread's")


def test_call_async_needs_a_loop_that_waits():
    with pytest.raises(RuntimeError, match="use weft.bridge.Portal"):
        bridge.call_async(asyncio.sleep, 0)


@pytest.mark.parametrize("kind", ["one thread", "limit of one", "no limit"])
async def test_nested_to_any_depth(world, kind):
    """Sync calls async calls sync …: what reports of other libraries call a deadlock."""
    threads = {
        "one thread": lambda: bridge.OneThread("nested"),
        "limit of one": lambda: bridge.Threads(1),
        "no limit": bridge.Threads,
    }[kind]()
    seen = set()

    def work(depth):
        seen.add(threading.get_ident())
        return 0 if depth == 0 else 1 + bridge.call_async(threads.run, work, depth - 1)

    assert await threads.run(work, 20) == 20
    assert (len(seen) == 1) == (kind == "one thread")
    # Everything is given back.
    assert await asyncio.gather(*[threads.run(len, "x") for _ in range(5)]) == [1] * 5
    await threads.aclose()


async def test_a_cancellation_reaches_the_async_side(world):
    began = asyncio.Event()
    log = []

    async def inner():
        began.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            log.append("inner")
            raise

    def work():
        try:
            bridge.call_async(inner)
        except asyncio.CancelledError:
            log.append("work")
            raise

    task = asyncio.create_task(bridge.to_thread(work))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == ["inner", "work"]


def test_a_loop_that_ends_under_a_waiting_call_hangs_nobody(world):
    """The call is told that its coroutine is cancelled, or that its loop is closed."""
    outcome = []
    done = threading.Event()

    def work():
        try:
            bridge.call_async(asyncio.sleep, 1000)
        except BaseException as error:
            outcome.append(type(error))
        finally:
            done.set()

    async def main():
        threads = bridge.Threads(on_cancel="abandon")
        task = asyncio.create_task(threads.run(work))
        while not bridge.abandoned():
            await asyncio.sleep(0)
            if threads._running and any(job.is_running for job in threads._running):
                task.cancel()

    world.run(main(), orphans=True)
    assert done.wait(10)
    assert outcome[0] in (asyncio.CancelledError, bridge.Closed)
    while bridge.abandoned():
        pass
