"""Threads at odd moments: closed meanwhile, in two loops, behind a loop's end, after a fork."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
import warnings

import pytest

from weft import bridge


def fail():
    raise KeyError("lost")


async def test_closing_waits_for_no_call_that_is_taken_back(world):
    """It was given to the threads, and none had begun it."""
    threads, submitted = bridge.Threads(), []
    threads._submit = submitted.append
    task = asyncio.create_task(threads.run(len, ""))
    await asyncio.sleep(0)
    closing = asyncio.create_task(threads.aclose())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await closing
    submitted[0].run()
    assert not threads._running


async def test_closing_waits_for_no_call_that_is_abandoned_meanwhile(world):
    threads = bridge.Threads(on_cancel="abandon")
    began, gate = threading.Event(), threading.Event()

    def work():
        began.set()
        gate.wait(10)

    task = asyncio.create_task(threads.run(work))
    while not began.is_set():
        await asyncio.sleep(0)
    closing = asyncio.create_task(threads.aclose())
    await asyncio.sleep(0)
    task.cancel()
    await closing
    assert len(bridge.abandoned()) == 1
    gate.set()
    while bridge.abandoned():
        await asyncio.sleep(0)


async def test_a_timeout_ends_the_wait_for_a_cancelled_call(world):
    threads = bridge.Threads(timeout=0.05)
    began, gate = threading.Event(), threading.Event()

    def work():
        began.set()
        gate.wait(10)

    task = asyncio.create_task(threads.run(work))
    while not began.is_set():
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert isinstance(caught.value.__cause__, bridge.StillRunning)
    (call,) = bridge.abandoned()
    assert call.function is work
    gate.set()
    while bridge.abandoned():
        await asyncio.sleep(0)


async def test_two_loops_at_a_time(world):
    threads = bridge.Threads()
    gate = threading.Event()
    task = asyncio.create_task(threads.run(gate.wait, 10))
    await asyncio.sleep(0)

    def elsewhere():
        with pytest.raises(RuntimeError, match="works for .*make others for"):
            asyncio.run(threads.run(len, ""))
        return True

    assert await bridge.to_thread(elsewhere)
    gate.set()
    await task
    # With nothing running they go over to the next.
    assert await bridge.to_thread(lambda: asyncio.run(threads.run(len, "123"))) == 3


def test_one_loop_after_the_other(world):
    """What a loop has left behind holds no place in the next."""
    threads = bridge.Threads(1, on_cancel="abandon")
    gate, began = threading.Event(), threading.Event()

    def work():
        began.set()
        gate.wait(10)

    async def first():
        task = asyncio.create_task(threads.run(work))
        while not began.is_set():
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def second():
        return await threads.run(len, "123")

    world.run(first())
    assert len(bridge.abandoned()) == 1
    assert world.run(second()) == 3
    gate.set()
    while bridge.abandoned():
        pass


def test_an_abandoned_call_that_outlives_its_loop_is_heard(world, monkeypatch):
    heard, done = [], threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda args: (heard.append(args.exc_value), done.set()))
    gate, began = threading.Event(), threading.Event()

    def work():
        began.set()
        gate.wait(10)
        fail()

    async def main():
        task = asyncio.create_task(bridge.Threads(on_cancel="abandon").run(work))
        while not began.is_set():
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    world.run(main())
    gate.set()
    assert done.wait(10)
    assert isinstance(heard[0], KeyError)


async def test_objects_whose_call_is_async(world):
    class Caller:
        async def __call__(self):
            return 5

    class Made:
        async def __call__(self):
            return 5

    async def generate():
        yield 5

    for wrong in (Caller(), functools.partial(asyncio.sleep, 0), generate, Caller().__call__):
        with pytest.raises(TypeError, match="is an async function: await it, it needs no thread"):
            await bridge.to_thread(wrong)
    assert isinstance(await bridge.to_thread(Made), Made)


@pytest.mark.parametrize("timeout", [0, -1])
def test_a_timeout_that_lets_nothing_run(timeout):
    with pytest.raises(ValueError, match="more than 0"):
        bridge.Threads(timeout=timeout)


async def test_a_cancellation_between_threads_and_a_portal(world):
    """`on_cancel` of a call belongs to whoever waits last: after a wait in the loop the outer one has it back."""
    began = threading.Event()

    async def quick():
        pass

    def work():
        bridge.call_async(quick)
        began.set()
        bridge.sleep(1000)

    task = asyncio.create_task(bridge.to_thread(work))
    while not began.is_set():
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
async def test_an_exit_in_the_loop_belongs_to_the_call(world, error):
    async def leave():
        raise error

    def work():
        with pytest.raises(type(error)):
            bridge.call_async(leave)
        return "went on"

    assert await bridge.to_thread(work) == "went on"


def test_a_forked_child_has_threads_of_its_own(world):
    one = bridge.OneThread("mine")

    async def use():
        return await bridge.to_thread(len, "12"), await one.run(len, "123")

    assert world.run(use()) == (2, 3)
    with warnings.catch_warnings():
        # Python 3.12 and later warn of a fork in a process with threads: it is the subject.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            os._exit(7 if world.run(use()) == (2, 3) and not bridge.abandoned() else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    world.run(one.aclose())


async def test_a_call_that_goes_on_is_one_too_many_and_no_more(world):
    """It had lent its place. When it ends, the place is with whom it was lent to, and not for the next."""
    threads, began, gate = bridge.Threads(1), asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def borrow():
        loop.call_soon_threadsafe(began.set)
        gate.wait(10)

    first = asyncio.create_task(threads.run(bridge.call_async, began.wait))
    second = asyncio.create_task(threads.run(borrow))
    third = asyncio.create_task(threads.run(len, "123"))
    await first
    assert len(threads._waiting) == 1
    gate.set()
    await second
    assert await third == 3
    assert threads._free == 1
