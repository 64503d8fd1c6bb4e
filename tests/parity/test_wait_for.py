"""wait_for, timeout, timeout_at: who is cancelled when, and what is raised."""

from __future__ import annotations

import asyncio

import pytest
from worlds import since, turns

pytestmark = pytest.mark.every_world


async def give(value, count=0):
    await turns(count)
    return value


def pending():
    return asyncio.get_running_loop().create_future()


# ---------------------------------------------------------------------------------------------------------- wait_for


@pytest.mark.parametrize("timeout", [None, 60, 0.5])
async def test_result_in_time(world, aio, timeout):
    assert await aio.wait_for(give(1, 2), timeout) == 1


async def test_exception_in_time(world, aio):
    async def fail():
        raise LookupError

    with pytest.raises(LookupError):
        await aio.wait_for(fail(), 60)


async def test_too_late(world, aio):
    future = pending()
    with pytest.raises(TimeoutError):
        await aio.wait_for(future, 0.001)
    assert future.cancelled()


async def test_too_late_is_asyncios_timeout_error(world, aio):
    with pytest.raises(asyncio.TimeoutError):
        await aio.wait_for(pending(), 0.001)


@pytest.mark.parametrize("timeout", [0, -1])
async def test_no_patience(world, aio, timeout):
    task = aio.create_task(give(1, 5))
    with pytest.raises(TimeoutError):
        await aio.wait_for(task, timeout)
    assert task.cancelled()


@pytest.mark.parametrize("timeout", [0, -1])
async def test_no_patience_and_done(world, aio, timeout):
    done = pending()
    done.set_result("there")
    assert await aio.wait_for(done, timeout) == "there"


async def test_waits_for_the_cleanup_of_the_inner(world, aio):
    seen = []

    async def inner():
        try:
            await pending()
        finally:
            await turns(3)
            seen.append("cleaned")

    with pytest.raises(TimeoutError):
        await aio.wait_for(inner(), 0.001)
    assert seen == ["cleaned"]


async def test_inner_answers_the_cancel_with_a_result(world, aio):
    async def inner():
        try:
            await pending()
        except asyncio.CancelledError:
            return "late result"

    task = aio.create_task(inner())
    try:
        got = await aio.wait_for(task, 0.001)
    except TimeoutError:
        got = "timeout"
    assert got in ("late result", "timeout")
    assert task.result() == "late result"


async def test_inner_answers_the_cancel_with_an_error(world, aio):
    async def inner():
        try:
            await pending()
        finally:
            raise LookupError("in cleanup")

    with pytest.raises(LookupError, match="in cleanup"):
        await aio.wait_for(inner(), 0.001)


async def test_outer_cancel_cancels_the_inner(world, aio):
    future = pending()

    async def body():
        await aio.wait_for(future, 60)

    task = aio.create_task(body())
    await turns(2)
    task.cancel("why")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert future.cancelled()


async def test_timeout_of_an_outer_wait_for(world, aio):
    with pytest.raises(TimeoutError):
        await aio.wait_for(aio.wait_for(pending(), 60), 0.001)


async def test_leaves_the_cancel_count_alone(world, aio):
    with pytest.raises(TimeoutError):
        await aio.wait_for(pending(), 0.001)
    assert asyncio.current_task().cancelling() == 0


@pytest.mark.parametrize("thing", [1, None])
def test_wait_for_refuses(world, same, thing):
    async def body(world):
        try:
            return await world.aio.wait_for(thing, 1)
        except TypeError as error:
            return type(error), str(error)

    assert same(body)["returned"][0] == "TypeError"


# ----------------------------------------------------------------------------------------------------------- timeout


async def test_timeout_not_reached(world, aio):
    async with aio.timeout(60) as scope:
        assert await give(1, 2) == 1
    assert not scope.expired()


async def test_timeout_reached(world, aio):
    with pytest.raises(TimeoutError) as caught:
        async with aio.timeout(0.001) as scope:
            await pending()
    assert scope.expired()
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert asyncio.current_task().cancelling() == 0


async def test_timeout_at(world, aio):
    loop = asyncio.get_running_loop()
    when = loop.time() + 0.001
    with pytest.raises(TimeoutError):
        async with aio.timeout_at(when) as scope:
            assert scope.when() == when
            await pending()


@pytest.mark.parametrize("delay", [0, -1, 0.0])
async def test_timeout_in_the_past(world, aio, delay):
    with pytest.raises(TimeoutError):
        async with aio.timeout(delay):
            await pending()


async def test_timeout_in_the_past_and_no_await(world, aio):
    async with aio.timeout(0) as scope:
        pass
    assert not scope.expired() or since(3, 12)
    await turns()


async def test_timeout_none(world, aio):
    async with aio.timeout(None) as scope:
        assert scope.when() is None
        await turns()
    assert not scope.expired()


async def test_reschedule(world, aio):
    loop = asyncio.get_running_loop()
    with pytest.raises(TimeoutError):
        async with aio.timeout(None) as scope:
            scope.reschedule(loop.time() + 0.001)
            await pending()
    async with aio.timeout(0.001) as scope:
        scope.reschedule(None)
        await asyncio.sleep(0.003)
    assert scope.when() is None


async def test_timeout_foreign_cancel_passes(world, aio):
    async def body():
        async with aio.timeout(60):
            await pending()

    task = aio.create_task(body())
    await turns()
    task.cancel("foreign")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelling() == 1


async def test_timeout_other_exception_passes(world, aio):
    with pytest.raises(LookupError):
        async with aio.timeout(60):
            raise LookupError


async def test_timeout_error_of_the_body_passes(world, aio):
    with pytest.raises(TimeoutError) as caught:
        async with aio.timeout(60) as scope:
            raise TimeoutError("my own")
    assert caught.value.args == ("my own",)
    assert not scope.expired()


async def test_nested_the_inner_fires(world, aio):
    async with aio.timeout(60) as outer:
        with pytest.raises(TimeoutError):
            async with aio.timeout(0.001) as inner:
                await pending()
    assert (inner.expired(), outer.expired()) == (True, False)


async def test_nested_the_outer_fires(world, aio):
    with pytest.raises(TimeoutError):
        async with aio.timeout(0.001) as outer:
            async with aio.timeout(60) as inner:
                await pending()
    assert (inner.expired(), outer.expired()) == (False, True)


async def test_timeout_and_a_foreign_cancel_together(world, aio):
    """The scope swallows only its own cancellation."""

    async def body():
        async with aio.timeout(0.001):
            try:
                await pending()
            finally:
                asyncio.current_task().cancel()

    task = aio.create_task(body())
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("case", ["entered twice", "not entered", "after the end"])
def test_timeout_refuses(world, same, case):
    async def body(world):
        scope = world.aio.timeout(60)
        if case == "not entered":
            scope.reschedule(1)
        async with scope:
            if case == "entered twice":
                async with scope:
                    pass
        if case == "after the end":
            scope.reschedule(1)

    assert same(body)["raised"][0] == "RuntimeError"


def test_timeout_outside_of_a_task(world, loop):
    async def enter():
        async with world.aio.timeout(1):
            pass

    caught = []

    def step():
        try:
            enter().send(None)
        except RuntimeError as error:
            caught.append(str(error))
        loop.stop()

    loop.call_soon(step)
    loop.run_forever()
    assert caught == ["Timeout should be used inside a task"]


def test_timeout_repr(world, same):
    async def body(world):
        scope = world.aio.timeout(None)
        words = [repr(scope)]
        async with scope:
            words.append(repr(scope))
        return [*words, repr(scope)]

    same(body)


async def test_asyncios_own_timeout(world):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await pending()
    assert asyncio.current_task().cancelling() == 0
