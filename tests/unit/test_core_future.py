"""Future and Task on Weft's own loop: the fused way, in which a task waits for a future without a callback object.

It must not be seen: callbacks, waiters and cancellations keep asyncio's order, whatever mixture a future holds.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import weakref

import pytest
from worlds import turns

import weft

pytestmark = pytest.mark.weft_only


async def wait_for(future, name, seen):
    try:
        seen.append((name, await future))
    except asyncio.CancelledError:
        seen.append((name, "cancelled"))
        raise


@pytest.mark.parametrize("pattern", ["".join(each) for each in itertools.product("tc", repeat=4)])
async def test_any_mixture_of_waiters_and_callbacks_keeps_its_order(world, pattern):
    loop, seen, tasks = asyncio.get_running_loop(), [], []
    future = loop.create_future()
    for number, kind in enumerate(pattern):
        if kind == "t":
            tasks.append(asyncio.create_task(wait_for(future, number, seen)))
            await turns()
        else:
            future.add_done_callback(lambda f, number=number: seen.append((number, f.result())))
    future.set_result("value")
    await turns()
    assert seen == [(number, "value") for number in range(len(pattern))]
    await asyncio.gather(*tasks)


@pytest.mark.parametrize("which", range(5))
async def test_cancelling_one_of_many_waiters_cancels_the_future_for_all(world, which):
    """As asyncio: a task's cancellation goes to what it waits for."""
    loop, seen = asyncio.get_running_loop(), []
    future = loop.create_future()
    tasks = [asyncio.create_task(wait_for(future, number, seen)) for number in range(5)]
    await turns()
    tasks[which].cancel()
    assert future.cancelled()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert seen == [(number, "cancelled") for number in range(5)]


async def test_removing_callbacks_leaves_waiters(world):
    loop, seen = asyncio.get_running_loop(), []
    future = loop.create_future()
    future.add_done_callback(print)
    task = asyncio.create_task(wait_for(future, "task", seen))
    await turns()
    future.add_done_callback(print)
    assert future.remove_done_callback(print) == 2
    future.set_result(1)
    await task
    assert seen == [("task", 1)]


async def test_callbacks_are_shown_with_the_waiter(world):
    future = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(wait_for(future, "task", []))
    await turns()
    future.add_done_callback(print)
    assert len(future._callbacks) == 2
    assert future._callbacks[1][0] is print
    future.set_result(None)
    await task
    await turns()


async def test_result_and_cancel_in_one_turn(world):
    """The task is on its way into the ready queue when it is cancelled: it runs once, and is cancelled."""
    loop, seen = asyncio.get_running_loop(), []
    future = loop.create_future()
    task = asyncio.create_task(wait_for(future, "task", seen))
    await turns()
    future.set_result("too late")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == [("task", "cancelled")]


async def test_cancel_and_uncancel_in_one_turn(world):
    loop, seen = asyncio.get_running_loop(), []
    future = loop.create_future()
    task = asyncio.create_task(wait_for(future, "task", seen))
    await turns()
    task.cancel()
    task.uncancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert future.cancelled()


async def test_waiting_again_and_again_on_done_futures(world):
    loop = asyncio.get_running_loop()
    futures = []
    for number in range(50):
        futures.append(loop.create_future())
        futures[-1].set_result(number)

    async def sums():
        return sum([await future for future in futures] * 1)

    assert await asyncio.create_task(sums()) == sum(range(50))


async def test_a_subclass_is_not_fused(world):
    """Whoever overrides add_done_callback or result sees them called."""
    calls = []

    class Own(weft.Future):
        def add_done_callback(self, callback, *, context=None):
            calls.append("add")
            super().add_done_callback(callback, context=context)

        def result(self):
            calls.append("result")
            return super().result()

    future = Own(loop=asyncio.get_running_loop())
    task = asyncio.create_task(wait_for(future, "task", []))
    await turns()
    assert calls == ["add"]
    future.set_result(1)
    await task
    assert "result" in calls


async def test_a_subclass_of_task_sees_its_futures(world):
    class Own(weft.Task):
        pass

    async def give():
        await turns(2)
        return "given"

    task = Own(give(), loop=asyncio.get_running_loop())
    assert await task == "given"
    other = Own(wait_for(asyncio.get_running_loop().create_future(), "x", []), loop=asyncio.get_running_loop())
    await turns()
    other.cancel()
    with pytest.raises(asyncio.CancelledError):
        await other


async def test_done_tasks_are_let_go_by_the_loop(world):
    loop = asyncio.get_running_loop()
    before = len(loop._tasks())
    tasks = [asyncio.create_task(turns(number % 3)) for number in range(50)]
    assert len(loop._tasks()) == before + 50
    await asyncio.gather(*tasks)
    assert len(loop._tasks()) == before
    gone = weakref.ref(tasks[0])
    tasks.clear()
    await turns()
    gc.collect()
    assert gone() is None


async def test_ends_without_a_reference(world):
    """create_task and forget: the loop keeps the task until it is done, and not longer."""
    seen = []
    gone = []

    def start():
        future = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(wait_for(future, "forgotten", seen))
        gone.append(weakref.ref(task))
        asyncio.get_running_loop().call_later(0.001, future.set_result, "woken")

    start()
    gc.collect()
    while not seen:
        await asyncio.sleep(0.001)
    await turns(2)
    gc.collect()
    assert seen == [("forgotten", "woken")]
    assert gone[0]() is None


async def test_many_waiters_ended_in_random_order(world):
    loop, dice, seen = asyncio.get_running_loop(), random.Random(5), []
    futures = [loop.create_future() for _ in range(20)]
    tasks = [asyncio.create_task(wait_for(dice.choice(futures), number, seen)) for number in range(200)]
    await turns()
    dice.shuffle(futures)
    for future in futures:
        dice.choice([future.cancel, lambda f=future: f.set_result("value")])()
        if dice.random() < 0.5:
            await turns()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert sorted(number for number, _ in seen) == list(range(200))


def test_constructor_refusals(world, loop):
    with pytest.raises(TypeError):
        weft.Future(loop)
    with pytest.raises(TypeError):
        weft.Task()
    with pytest.raises(TypeError):
        weft.Task(turns, loop=loop)
    coro = turns()
    with pytest.raises(TypeError):
        weft.Task(coro, loop=loop, no_such_option=1)
    coro.close()


def test_closed_loop_refuses_a_task(world, loop):
    loop.close()
    coro = turns()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        weft.Task(coro, loop=loop)
    coro.close()
