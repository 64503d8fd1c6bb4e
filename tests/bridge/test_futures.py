"""Futures of the two kinds, tied together: outcomes one way, cancellations the other, contexts along."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import threading
import traceback

import pytest

import weft
from weft import bridge

VARIABLE = contextvars.ContextVar("variable", default="default")


def fail():
    raise KeyError("lost")


@pytest.mark.parametrize("where", ["in its loop", "in a thread"])
async def test_an_outcome_for_threads(world, where):
    loop = asyncio.get_running_loop()

    async def tied(future):
        return (
            bridge.concurrent_future(future)
            if where == "in its loop"
            else await bridge.to_thread(bridge.concurrent_future, future)
        )

    async def work():
        fail()

    future = loop.create_future()
    outcome = await tied(future)
    assert isinstance(outcome, concurrent.futures.Future) and not outcome.done()
    future.set_result(5)
    assert await bridge.to_thread(outcome.result, 10) == 5
    failed = await tied(loop.create_task(work()))
    with pytest.raises(KeyError) as caught:
        await bridge.to_thread(failed.result, 10)
    assert "in fail\n" in "".join(traceback.format_exception(caught.value))


async def test_cancellations_cross_both_ways(world):
    loop = asyncio.get_running_loop()
    task = loop.create_task(asyncio.sleep(1000))
    outcome = bridge.concurrent_future(task)
    await bridge.to_thread(outcome.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    task = loop.create_task(asyncio.sleep(1000))
    outcome = bridge.concurrent_future(task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await bridge.wrap_future(outcome)
    assert outcome.cancelled()


async def test_there_and_back_again(world):
    future = asyncio.get_running_loop().create_future()
    back = bridge.wrap_future(bridge.concurrent_future(future))
    future.set_result("the same")
    assert await back == "the same"


async def test_it_refuses_what_is_no_future(world):
    with pytest.raises(TypeError, match="an asyncio future is needed.*takes a coroutine"):
        bridge.concurrent_future(5)


def test_a_loop_that_is_closed(world):
    loop = world.new_loop()
    future = loop.create_future()
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        bridge.concurrent_future(future)


@pytest.mark.parametrize("to_thread", [weft.to_thread, bridge.to_thread], ids=["asyncio's", "the bridge's"])
async def test_contexts_cross_both_ways(world, to_thread):
    """A thread sees the coroutine's variables, and a coroutine that it starts sees the thread's; none sets another's."""
    loop, seen = asyncio.get_running_loop(), []

    async def in_loop():
        seen.append(VARIABLE.get())
        VARIABLE.set("the second coroutine's")
        return threading.get_ident()

    def in_thread():
        seen.append(VARIABLE.get())
        VARIABLE.set("the thread's")
        ident = weft.run_coroutine_threadsafe(in_loop(), loop).result(10)
        seen.append(VARIABLE.get())
        return ident

    VARIABLE.set("the coroutine's")
    assert await to_thread(in_thread) == threading.get_ident()
    assert seen == ["the coroutine's", "the thread's", "the thread's"]
    assert VARIABLE.get() == "the coroutine's"
