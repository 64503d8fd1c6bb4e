"""wait, as_completed, shield, sleep."""

from __future__ import annotations

import asyncio

import pytest
from worlds import since, turns

pytestmark = pytest.mark.every_world


async def give(value, count=0):
    await turns(count)
    return value


async def fail(error, count=0):
    await turns(count)
    raise error


def pending():
    return asyncio.get_running_loop().create_future()


def tasks_of(aio, *coros):
    return [aio.create_task(coro) for coro in coros]


# -------------------------------------------------------------------------------------------------------------- wait


async def test_wait_for_all(world, aio):
    tasks = tasks_of(aio, give(1), give(2, 3))
    assert await aio.wait(tasks) == (set(tasks), set())


async def test_wait_for_the_first(world, aio):
    fast, slow = tasks_of(aio, give(1), give(2, 20))
    done, left = await aio.wait([fast, slow], return_when=aio.FIRST_COMPLETED)
    assert (done, left) == ({fast}, {slow})
    await slow


async def test_wait_for_the_first_exception(world, aio):
    fine, bad, slow = tasks_of(aio, give(1), fail(LookupError(), 2), give(2, 20))
    done, left = await aio.wait([fine, bad, slow], return_when=aio.FIRST_EXCEPTION)
    assert (done, left) == ({fine, bad}, {slow})
    bad.exception()
    await slow


async def test_wait_first_exception_without_one(world, aio):
    tasks = tasks_of(aio, give(1), give(2, 2))
    assert await aio.wait(tasks, return_when=aio.FIRST_EXCEPTION) == (set(tasks), set())


async def test_wait_first_exception_ignores_a_cancelled_one(world, aio):
    cancelled, slow = tasks_of(aio, give(1, 5), give(2, 3))
    cancelled.cancel()
    done, left = await aio.wait([cancelled, slow], return_when=aio.FIRST_EXCEPTION)
    assert (done, left) == ({cancelled, slow}, set())


async def test_wait_already_done(world, aio):
    done = pending()
    done.set_result(1)
    assert await aio.wait([done]) == ({done}, set())
    assert await aio.wait([done, done], return_when=aio.FIRST_COMPLETED) == ({done}, set())


async def test_wait_times_out(world, aio):
    future = pending()
    assert await aio.wait([future], timeout=0.001) == (set(), {future})
    assert not future.cancelled()


@pytest.mark.parametrize("timeout", [0, -1])
async def test_wait_without_patience(world, aio, timeout):
    future = pending()
    assert await aio.wait([future], timeout=timeout) == (set(), {future})


async def test_wait_leaves_no_callback(world, aio):
    future = pending()
    await aio.wait([future], timeout=0)
    assert not future._callbacks
    task = aio.create_task(aio.wait([future]))
    await turns(2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not future._callbacks
    assert not future.cancelled()


@pytest.mark.skipif(not since(3, 12), reason="a generator is accepted from 3.12 on")
async def test_wait_takes_a_generator(world, aio):
    tasks = tasks_of(aio, give(1), give(2))
    assert await aio.wait(task for task in tasks) == (set(tasks), set())


@pytest.mark.parametrize("case", ["nothing", "a future", "coroutines", "a wrong word"])
def test_wait_refuses(world, same, case):
    async def body(world):
        future = asyncio.get_running_loop().create_future()
        coro = give(1)
        try:
            await {
                "nothing": lambda: world.aio.wait([]),
                "a future": lambda: world.aio.wait(future),
                "coroutines": lambda: world.aio.wait([coro]),
                "a wrong word": lambda: world.aio.wait([future], return_when="some day"),
            }[case]()
        finally:
            coro.close()

    assert "raised" in same(body)


# ------------------------------------------------------------------------------------------------------ as_completed


async def test_as_completed_in_order_of_completion(world, aio):
    seen = []
    for future in aio.as_completed([give("slow", 9), give("fast"), give("middle", 4)]):
        seen.append(await future)
    assert seen == ["fast", "middle", "slow"]


async def test_as_completed_gives_exceptions(world, aio):
    outcomes = []
    for future in aio.as_completed([fail(LookupError()), give(1, 3)]):
        try:
            outcomes.append(await future)
        except LookupError:
            outcomes.append("failed")
    assert outcomes == ["failed", 1]


async def test_as_completed_times_out(world, aio):
    never = pending()
    with pytest.raises(TimeoutError):
        for future in aio.as_completed([never], timeout=0.001):
            await future
    assert not never.cancelled()


@pytest.mark.skipif(not since(3, 13), reason="async for over as_completed is 3.13's")
async def test_as_completed_by_async_for(world, aio):
    tasks = tasks_of(aio, give(1, 5), give(2))
    assert [task async for task in aio.as_completed(tasks)] == [tasks[1], tasks[0]]
    never = pending()
    with pytest.raises(TimeoutError):
        async for _ in aio.as_completed([never], timeout=0):
            pass


@pytest.mark.parametrize("case", ["a future", "a coroutine", "a number"])
def test_as_completed_refuses(world, same, case):
    async def body(world):
        future = asyncio.get_running_loop().create_future()
        coro = give(1)
        try:
            for each in world.aio.as_completed({"a future": future, "a coroutine": coro, "a number": [1]}[case]):
                await each
        finally:
            coro.close()

    assert same(body)["raised"][0] == "TypeError"


async def test_as_completed_same_twice(world, aio):
    coro = give("a")
    assert [await future for future in aio.as_completed([coro, coro])] == ["a"]


async def test_as_completed_of_nothing(world, aio):
    assert [future for future in aio.as_completed([])] == []


# ------------------------------------------------------------------------------------------------------------ shield


async def test_shield_gives_the_result(world, aio):
    assert await aio.shield(give(3, 2)) == 3


async def test_shield_gives_the_exception(world, aio):
    with pytest.raises(LookupError):
        await aio.shield(fail(LookupError(), 1))


async def test_shield_of_a_done_future_is_it(world, aio):
    done = pending()
    done.set_result(1)
    assert aio.shield(done) is done


async def test_shield_keeps_a_cancel_from_the_inner(world, aio):
    inner = aio.create_task(give("survived", 4))
    outer = aio.shield(inner)
    await turns()
    outer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await outer
    assert await inner == "survived"


async def test_shield_in_a_cancelled_task(world, aio):
    inner = aio.create_task(give("survived", 5))

    async def body():
        await aio.shield(inner)

    task = aio.create_task(body())
    await turns(2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await inner == "survived"


async def test_shield_passes_a_cancel_of_the_inner(world, aio):
    inner = pending()
    outer = aio.shield(inner)
    inner.cancel()
    with pytest.raises(asyncio.CancelledError):
        await outer


def test_shield_and_an_inner_failure_after_the_cancel(world, same):
    """Nobody is left to see the exception: what is reported differs by version, so it is compared."""

    async def body(world):
        future = asyncio.get_running_loop().create_future()
        outer = world.aio.shield(future)
        await turns()
        outer.cancel()
        await turns()
        future.set_exception(LookupError("late"))
        await turns(3)
        reports = [(sorted(report), report["message"]) for report in world.take_reports()]
        future.exception()
        return reports

    same(body)


async def test_shield_that_ends_leaves_no_callback(world, aio):
    inner, done = pending(), []
    outer = aio.shield(inner)
    outer.add_done_callback(done.append)
    inner.set_result("value")
    assert await outer == "value"
    await turns()
    assert done == [outer]
    assert not inner._callbacks


# ------------------------------------------------------------------------------------------------------------- sleep


async def test_sleep_zero_is_one_turn(world, aio):
    loop, seen = asyncio.get_running_loop(), []
    loop.call_soon(seen.append, "callback")
    assert await aio.sleep(0, "result") == "result"
    assert seen == ["callback"]


@pytest.mark.parametrize("delay", [0, -1, 0.001, 0.0])
async def test_sleep_gives_its_result(world, aio, delay):
    assert await aio.sleep(delay, result=delay) == delay


async def test_sleeps_end_in_order(world, aio):
    seen = []

    async def body(delay):
        await aio.sleep(delay)
        seen.append(delay)

    await asyncio.wait(tasks_of(aio, body(0.006), body(0.002), body(0.004)))
    assert seen == [0.002, 0.004, 0.006]


async def test_sleep_takes_at_least_its_time(world, aio):
    loop = asyncio.get_running_loop()
    start = loop.time()
    await aio.sleep(0.01)
    assert loop.time() - start >= 0.01 - 1e-3


async def test_cancelled_sleep_leaves_no_timer(world, aio):
    task = aio.create_task(aio.sleep(3600))
    await turns(2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_endless_sleep(world, aio):
    task = aio.create_task(aio.sleep(float("inf")))
    await turns(3)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("delay", [float("nan"), "1", None])
def test_sleep_refuses(world, same, delay):
    async def body(world):
        await world.aio.sleep(delay)

    if delay != delay and not since(3, 13):
        pytest.skip("before 3.13 nan is not refused")
    assert "raised" in same(body)
