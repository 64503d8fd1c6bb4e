"""gather: the latch; order, errors, cancellation, what it takes."""

from __future__ import annotations

import asyncio

import pytest
from worlds import turns

pytestmark = pytest.mark.every_world


async def give(value, count=0):
    await turns(count)
    return value


async def fail(error, count=0):
    await turns(count)
    raise error


def pending():
    return asyncio.get_running_loop().create_future()


async def test_results_in_order_of_arguments(world, aio):
    assert await aio.gather(give(1, 3), give(2), give(3, 1)) == [1, 2, 3]


async def test_of_nothing(world, aio):
    outer = aio.gather()
    assert asyncio.isfuture(outer)
    assert await outer == []


async def test_of_one(world, aio):
    assert await aio.gather(give("x")) == ["x"]


async def test_futures_and_coroutines_mixed(world, aio):
    future = pending()
    asyncio.get_running_loop().call_soon(future.set_result, "future")
    task = asyncio.ensure_future(give("task"))
    assert await aio.gather(give("coro"), future, task) == ["coro", "future", "task"]


async def test_same_argument_twice(world, aio):
    coro = give(1)
    future = pending()
    asyncio.get_running_loop().call_soon(future.set_result, 2)
    assert await aio.gather(coro, future, coro, future) == [1, 2, 1, 2]


async def test_already_done(world, aio):
    done = pending()
    done.set_result(1)
    outer = aio.gather(done, done)
    assert await outer == [1, 1]


async def test_first_exception_goes_on_at_once(world, aio):
    never = pending()
    with pytest.raises(LookupError, match="first"):
        await aio.gather(never, fail(LookupError("first")), fail(ValueError("second"), 3))
    assert not never.done()
    await turns(5)


async def test_others_keep_running_after_an_exception(world, aio):
    seen = []

    async def survivor():
        await turns(3)
        seen.append("survived")

    task = asyncio.ensure_future(survivor())
    with pytest.raises(LookupError):
        await aio.gather(task, fail(LookupError()))
    await task
    assert seen == ["survived"]


async def test_return_exceptions(world, aio):
    error = LookupError()
    cancelled = pending()
    cancelled.cancel("c")
    results = await aio.gather(give(1), fail(error), cancelled, return_exceptions=True)
    assert results[:2] == [1, error]
    assert isinstance(results[2], asyncio.CancelledError)


async def test_child_cancelled(world, aio):
    child = pending()
    outer = aio.gather(child, give(1))
    child.cancel("child")
    with pytest.raises(asyncio.CancelledError) as caught:
        await outer
    assert caught.value.args in (("child",), ())


async def test_cancel_outer_cancels_the_children(world, aio):
    children = [pending() for _ in range(3)]
    outer = aio.gather(*children)
    assert outer.cancel() is True
    assert all(child.cancelled() for child in children)
    with pytest.raises(asyncio.CancelledError):
        await outer


async def test_cancel_outer_when_a_child_is_done(world, aio):
    done, waits = pending(), pending()
    done.set_result(1)
    outer = aio.gather(done, waits)
    await turns()
    assert outer.cancel() is True
    with pytest.raises(asyncio.CancelledError):
        await outer
    assert waits.cancelled()


async def test_cancel_outer_with_return_exceptions(world, aio):
    outer = aio.gather(pending(), pending(), return_exceptions=True)
    await turns()
    outer.cancel("why")
    with pytest.raises(asyncio.CancelledError):
        await outer


async def test_cancel_outer_when_a_child_swallows_it(world, aio):
    async def swallow():
        try:
            await pending()
        except asyncio.CancelledError:
            return "swallowed"

    outer = aio.gather(swallow(), swallow())
    await turns()
    outer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await outer


async def test_cancel_done_outer(world, aio):
    outer = aio.gather(give(1))
    await outer
    assert outer.cancel() is False


async def test_cancel_the_waiting_task(world, aio):
    children = [asyncio.ensure_future(give(n, 100)) for n in range(3)]

    async def body():
        await aio.gather(*children)

    task = aio.create_task(body())
    await turns(2)
    task.cancel("message")
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert caught.value.args in (("message",), ())
    assert all(child.cancelled() for child in children)


async def test_exception_of_a_later_child_is_not_reported(world, aio):
    """A second failure after the outer is done was asked for by nobody, but it is the child's to report."""
    with pytest.raises(LookupError):
        await aio.gather(fail(LookupError()), fail(ValueError(), 1))
    await turns(4)


async def test_unawaited_failed_gather_is_reported(world, aio):
    outer = aio.gather(fail(LookupError("nobody asked")))
    await turns(4)
    del outer
    reports = world.take_reports()
    assert [report["message"].lstrip("_") for report in reports] == ["GatheringFuture exception was never retrieved"]


async def test_done_callbacks_run_once(world, aio):
    seen = []
    outer = aio.gather(give(1), give(2))
    outer.add_done_callback(seen.append)
    await outer
    await turns()
    assert seen == [outer]


async def test_context_of_children(world, aio):
    import contextvars

    var = contextvars.ContextVar("var", default="none")

    async def read():
        await turns()
        return var.get()

    var.set("at the call")
    outer = aio.gather(read(), read())
    var.set("later")
    assert await outer == ["at the call", "at the call"]


def test_futures_of_different_loops(world, same):
    async def body(world):
        other = asyncio.SelectorEventLoop()
        try:
            await world.aio.gather(other.create_future(), asyncio.get_running_loop().create_future())
        finally:
            other.close()

    assert same(body)["raised"][0] == "ValueError"


def test_what_is_no_awaitable(world, same):
    async def body(world):
        return await world.aio.gather(1)

    assert same(body)["raised"][0] == "TypeError"


def test_outside_of_a_loop_takes_the_futures_loop(world, loop):
    future = loop.create_future()
    outer = world.aio.gather(future)
    loop.call_soon(future.set_result, 3)
    assert loop.run_until_complete(outer) == [3]


def test_repr(world, same):
    async def body(world):
        future = asyncio.get_running_loop().create_future()
        outer = world.aio.gather(future)
        words = [repr(outer)]
        future.set_result(1)
        await outer
        words.append(repr(outer))
        return [word.replace("<_", "<") for word in words]

    same(body)


async def test_many(world, aio):
    assert await aio.gather(*(give(n, n % 3) for n in range(1000))) == list(range(1000))


async def test_nested(world, aio):
    outer = aio.gather(aio.gather(give(1), give(2)), aio.gather(give(3)), give(4))
    assert await outer == [[1, 2], [3], 4]


async def test_nested_cancel(world, aio):
    children = [pending(), pending()]
    inner = aio.gather(*children)
    outer = aio.gather(inner, pending())
    outer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await outer
    assert all(child.cancelled() for child in children)
