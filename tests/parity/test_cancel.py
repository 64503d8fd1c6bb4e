"""cancel, uncancel, cancelling: asyncio's exact rules."""

from __future__ import annotations

import asyncio

import pytest
from worlds import since, turns

pytestmark = pytest.mark.every_world


def pending():
    return asyncio.get_running_loop().create_future()


async def test_before_the_first_step(world, aio):
    seen = []

    async def body():
        seen.append("ran")

    task = aio.create_task(body())
    assert task.cancel() is True
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == []
    assert task.cancelled()


async def test_while_waiting(world, aio):
    future = pending()

    async def body():
        await future

    task = aio.create_task(body())
    await turns()
    assert task.cancel() is True
    assert future.cancelled()
    assert not task.done()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_done_task_refuses(world, aio):
    async def body():
        return 1

    task = aio.create_task(body())
    await task
    assert task.cancel() is False
    assert task.cancelling() == 0


@pytest.mark.parametrize("args", [(), (None,), ("why",), (5,)])
async def test_message(world, aio, args):
    async def body():
        await pending()

    task = aio.create_task(body())
    await turns()
    task.cancel(*args)
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert caught.value.args == (() if args in ((), (None,)) else args)


async def test_message_before_the_first_step(world, aio):
    async def body():
        raise AssertionError("never runs")

    task = aio.create_task(body())
    task.cancel("early")
    with pytest.raises(asyncio.CancelledError, match="^early$"):
        await task


async def test_last_message_wins_before_the_step(world, aio):
    async def body():
        raise AssertionError("never runs")

    task = aio.create_task(body())
    task.cancel("one")
    task.cancel("two")
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert caught.value.args == ("two",)


async def test_swallowed(world, aio):
    async def body():
        try:
            await pending()
        except asyncio.CancelledError:
            return "went on"

    task = aio.create_task(body())
    await turns()
    task.cancel()
    assert await task == "went on"
    assert not task.cancelled()
    assert task.cancelling() == 1


async def test_other_exception_while_cancelled(world, aio):
    async def body():
        try:
            await pending()
        finally:
            raise LookupError("in finally")

    task = aio.create_task(body())
    await turns()
    task.cancel()
    with pytest.raises(LookupError):
        await task
    assert isinstance(task.exception().__context__, asyncio.CancelledError)


async def test_during_cleanup(world, aio):
    seen = []

    async def body():
        try:
            await pending()
        finally:
            seen.append("cleanup")
            await asyncio.sleep(0)
            seen.append("cleaned")

    task = aio.create_task(body())
    await turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["cleanup", "cleaned"]


async def test_twice_while_cleaning_up(world, aio):
    seen = []

    async def body():
        try:
            await pending()
        except asyncio.CancelledError:
            try:
                await pending()
            except asyncio.CancelledError:
                seen.append("second")
                raise

    task = aio.create_task(body())
    await turns()
    task.cancel()
    await turns(2)
    assert not task.done()
    task.cancel()
    assert task.cancelling() == 2
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["second"]


async def test_counts(world, aio):
    async def body():
        try:
            await pending()
        except asyncio.CancelledError:
            await pending()

    task = aio.create_task(body())
    await turns()
    assert task.cancelling() == 0
    assert task.uncancel() == 0
    task.cancel()
    task.cancel()
    assert task.cancelling() == 2
    assert task.uncancel() == 1
    assert task.uncancel() == 0
    assert task.uncancel() == 0
    await turns(2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelling() == 1


async def test_uncancel_takes_back_a_cancel_not_yet_delivered(world, aio):
    """From 3.13 an uncancel before the step clears the pending cancellation; before, it is delivered."""

    async def body():
        await asyncio.sleep(0)
        return "ran"

    task = aio.create_task(body())
    task.cancel()
    task.uncancel()
    if since(3, 13):
        assert await task == "ran"
    else:
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_itself(world, aio):
    async def body():
        asyncio.current_task().cancel()
        seen.append("still running")
        await pending()

    seen = []
    task = aio.create_task(body())
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["still running"]


async def test_itself_and_then_returns(world, aio):
    async def body():
        asyncio.current_task().cancel()
        return "value"

    task = aio.create_task(body())
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_itself_and_then_raises(world, aio):
    async def body():
        asyncio.current_task().cancel()
        raise LookupError("mine")

    with pytest.raises(LookupError):
        await aio.create_task(body())


async def test_itself_at_a_bare_yield(world, aio):
    async def body():
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    with pytest.raises(asyncio.CancelledError):
        await aio.create_task(body())


async def test_after_the_future_is_done(world, aio):
    """The wake-up is on its way: the cancellation is delivered instead of the result."""
    future, seen = pending(), []

    async def body():
        try:
            await future
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    task = aio.create_task(body())
    await turns()
    future.set_result("value")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["cancelled"]


async def test_chain_of_tasks(world, aio):
    """Cancelling the outer cancels the innermost first."""
    seen = []

    async def leaf():
        try:
            await pending()
        finally:
            seen.append("leaf")

    async def middle():
        try:
            await aio.create_task(leaf())
        finally:
            seen.append("middle")

    async def root():
        try:
            await aio.create_task(middle())
        finally:
            seen.append("root")

    task = aio.create_task(root())
    await turns(4)
    task.cancel("down")
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert seen == ["leaf", "middle", "root"]
    assert caught.value.args == ("down",)


async def test_inner_task_swallows(world, aio):
    async def leaf():
        try:
            await pending()
        except asyncio.CancelledError:
            return "kept"

    async def root():
        return await aio.create_task(leaf())

    task = aio.create_task(root())
    await turns(3)
    task.cancel()
    assert await task == "kept"


async def test_coroutine_raises_cancelled_error_itself(world, aio):
    async def body():
        raise asyncio.CancelledError("by hand")

    task = aio.create_task(body())
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert task.cancelled()
    assert caught.value.args == ("by hand",)


async def test_result_of_a_cancelled_task_raises_each_time(world, aio):
    async def body():
        await pending()

    task = aio.create_task(body())
    await turns()
    task.cancel("again")
    await asyncio.wait([task])
    for read in (task.result, task.exception, task.result):
        with pytest.raises(asyncio.CancelledError) as caught:
            read()
        assert caught.value.args in (("again",), ())


async def test_future_that_refuses(world, aio):
    """`cancel` of what the task waits for says no: the task is cancelled at its next step."""

    class Stubborn(aio.Future):
        def cancel(self, msg=None):
            return False

    future = Stubborn(loop=asyncio.get_running_loop())

    async def body():
        await future

    task = aio.create_task(body())
    await turns()
    task.cancel()
    await turns(2)
    assert not task.done()
    future.set_result(None)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_by_a_callback_in_the_same_turn(world, aio):
    loop, future = asyncio.get_running_loop(), pending()

    async def body():
        await future

    task = aio.create_task(body())
    loop.call_soon(task.cancel)
    await turns()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_task_group_cancels_its_siblings(world, aio):
    seen = []

    async def waits():
        try:
            await pending()
        finally:
            seen.append("sibling")

    async def fails():
        await turns()
        raise LookupError("one")

    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            group.create_task(waits())
            group.create_task(fails())
    assert seen == ["sibling"]
    assert [type(error) for error in caught.value.exceptions] == [LookupError]
    assert asyncio.current_task().cancelling() == (0 if since(3, 13) else 1)


async def test_task_group_is_cancelled_from_outside(world, aio):
    async def body():
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(3600))
            group.create_task(asyncio.sleep(3600))

    task = aio.create_task(body())
    await turns(2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
