"""timeout, timeout_at and wait_for: what they raise, what they leave, what they are to introspection."""

from __future__ import annotations

import asyncio
import inspect

import pytest
from worlds import since, turns

pytestmark = pytest.mark.every_world


def pending():
    return asyncio.get_running_loop().create_future()


async def give(value, count=0):
    await turns(count)
    return value


# ----------------------------------------------------------------------------------------------------------- timeout


@pytest.mark.parametrize("delay", [0, -1, 0.001])
async def test_timeout_ends_the_block(world, aio, delay):
    task = asyncio.current_task()
    with pytest.raises(TimeoutError) as caught:
        async with aio.timeout(delay) as limit:
            await pending()
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert limit.expired()
    assert repr(limit) == "<Timeout [expired]>"
    assert task.cancelling() == 0


async def test_timeout_in_time_leaves_no_timer(world, aio):
    async with aio.timeout(3600) as limit:
        await turns(2)
        assert limit.when() > asyncio.get_running_loop().time()
        assert repr(limit).startswith("<Timeout [active] when=")
    assert not limit.expired()
    assert repr(limit) == "<Timeout [finished]>"


async def test_timeout_of_none_and_reschedule(world, aio):
    loop = asyncio.get_running_loop()
    with pytest.raises(TimeoutError):
        async with aio.timeout(None) as limit:
            assert repr(limit) == "<Timeout [active] when=None>"
            limit.reschedule(3600 + loop.time())
            limit.reschedule(None)
            limit.reschedule(loop.time())
            await pending()


async def test_timeout_lets_a_foreign_cancel_through(world, aio):
    async def body():
        async with aio.timeout(0):
            asyncio.current_task().cancel("mine")
            await pending()

    task = aio.create_task(body())
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_inner_and_outer_timeout(world, aio):
    async with aio.timeout(3600) as outer:
        with pytest.raises(TimeoutError):
            async with aio.timeout(0):
                await pending()
    assert not outer.expired()


@pytest.mark.parametrize("case", ["twice", "not entered", "finished", "no task", "another error", "an error group"])
def test_timeout_words(world, same, case):
    async def twice(aio):
        async with aio.timeout(10) as limit, limit:
            pass

    async def not_entered(aio):
        aio.timeout(10).reschedule(3)

    async def finished(aio):
        async with aio.timeout(10) as limit:
            pass
        limit.reschedule(3)

    async def no_task(aio):
        limit, said = aio.timeout(10), pending()

        def callback():
            try:
                limit.__aenter__().send(None)
            except BaseException as error:
                said.set_result(error)

        asyncio.get_running_loop().call_soon(callback)
        return await said

    async def another_error(aio):
        chain = []
        try:
            async with aio.timeout(0):
                try:
                    await pending()
                finally:
                    raise LookupError
        except LookupError as error:
            while error is not None:
                chain.append(type(error))
                error = error.__context__
        return chain

    async def an_error_group(aio):
        chain = []
        try:
            async with aio.timeout(0):
                try:
                    await pending()
                except asyncio.CancelledError:
                    try:
                        raise LookupError
                    except LookupError as error:
                        raise ExceptionGroup("both", [error]) from None
        except ExceptionGroup as group:
            error = group.exceptions[0]
            while error is not None:
                chain.append(type(error))
                error = error.__context__
        return chain

    bodies = {
        "twice": twice,
        "not entered": not_entered,
        "finished": finished,
        "no task": no_task,
        "another error": another_error,
        "an error group": an_error_group,
    }

    async def body(world):
        return await bodies[case](world.aio)

    same(body)


# ---------------------------------------------------------------------------------------------------------- wait_for


@pytest.mark.parametrize("timeout", [None, 0, 10])
async def test_wait_for_what_is_done(world, aio, timeout):
    done = pending()
    done.set_result(1)
    assert await aio.wait_for(done, timeout) == 1


@pytest.mark.parametrize("timeout", [0, -1, 0.001])
async def test_wait_for_too_long(world, aio, timeout):
    future = pending()
    with pytest.raises(TimeoutError):
        await aio.wait_for(future, timeout)
    assert future.cancelled()


async def test_wait_for_without_patience_starts_nothing(world, aio):
    seen = []

    async def body():
        seen.append("started")

    with pytest.raises(TimeoutError):
        await aio.wait_for(body(), 0)
    assert not seen


def test_wait_for_runs_the_coroutine_where_asyncio_does(world, same):
    async def body(world):
        outer = asyncio.current_task()

        async def inner():
            return asyncio.current_task() is outer

        return await world.aio.wait_for(inner(), 10)

    assert same(body)["returned"] == since(3, 12)


async def test_wait_for_keeps_a_result_given_on_cancel(world, aio):
    async def body():
        try:
            await pending()
        except asyncio.CancelledError:
            return "kept"

    assert await aio.wait_for(aio.create_task(body()), 0.001) == "kept"


async def test_cancel_of_wait_for_reaches_the_inner(world, aio):
    inner = aio.create_task(give(1, 20))
    outer = aio.create_task(aio.wait_for(inner, 10))
    await turns(2)
    outer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await outer
    assert inner.cancelled()


# ----------------------------------------------------------------------------------------------------- introspection


async def test_sleep_is_a_coroutine_to_asyncio(world, aio):
    coro = aio.sleep(0, "value")
    assert asyncio.iscoroutine(coro)
    assert inspect.isawaitable(coro)
    assert await asyncio.create_task(coro) == "value"
    if since(3, 12):
        assert inspect.iscoroutinefunction(aio.sleep)
        assert inspect.iscoroutinefunction(aio.wait)
        assert inspect.iscoroutinefunction(aio.wait_for)


@pytest.mark.parametrize("value", [(1, 2), LookupError("a value"), None])
async def test_sleep_gives_awkward_values(world, aio, value):
    assert await aio.sleep(0, value) is value


async def test_sleep_awaited_twice(world, aio):
    coro = aio.sleep(0)
    await coro
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        await coro


async def test_sleep_cancelled_within(world, aio):
    task = aio.create_task(aio.sleep(0))
    await turns(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_sleep_never_awaited_warns(world, aio):
    with pytest.warns(RuntimeWarning, match="coroutine 'sleep' was never awaited"):
        aio.sleep(0)


@pytest.mark.weft_only
async def test_as_completed_by_async_for_on_every_version(world, aio):
    first, second = aio.create_task(give(1)), aio.create_task(give(2, 4))
    if world.weft_names:
        assert [task async for task in aio.as_completed([second, first])] == [first, second]
    else:
        await asyncio.wait([first, second])
