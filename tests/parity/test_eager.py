"""Eager tasks: the first part runs at once, in the caller's turn. asyncio has them from 3.12 on, Weft on every version."""

from __future__ import annotations

import asyncio
import contextvars

import pytest
from worlds import since, turns

pytestmark = pytest.mark.every_world


@pytest.fixture
def eager(world, aio):
    if not since(3, 12) and not world.weft_names:
        pytest.skip("asyncio has eager tasks from 3.12 on")

    def start(coro, **options):
        return aio.eager_task_factory(asyncio.get_running_loop(), coro, **options)

    return start


def pending():
    return asyncio.get_running_loop().create_future()


async def test_runs_at_once(world, eager):
    seen = []

    async def body():
        seen.append("ran")
        return 5

    task = eager(body())
    assert seen == ["ran"]
    assert task.done()
    assert task.result() == 5
    assert await task == 5


async def test_stops_at_the_first_await(world, eager):
    gate, seen = pending(), []

    async def body():
        seen.append("before")
        await gate
        seen.append("after")

    task = eager(body())
    assert seen == ["before"]
    assert not task.done()
    gate.set_result(None)
    await task
    assert seen == ["before", "after"]


async def test_exception_at_once(world, eager):
    async def body():
        raise LookupError("at once")

    task = eager(body())
    assert task.done()
    with pytest.raises(LookupError):
        await task


async def test_what_a_finished_one_looks_like(world, eager):
    """Its coroutine is gone."""

    async def good():
        return 5

    async def bad():
        raise ValueError("early")

    task = eager(good(), name="one")
    assert repr(task) == "<Task finished name='one' result=5>"
    assert task.get_coro() is None
    assert task.get_stack() == []
    task = eager(bad(), name="two")
    assert repr(task) == "<Task finished name='two' exception=ValueError('early')>"
    assert isinstance(task.exception(), ValueError)


async def test_cancelled_error_at_once(world, eager):
    async def body():
        raise asyncio.CancelledError("at once")

    task = eager(body())
    assert task.cancelled()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_current_task_inside(world, eager):
    async def body():
        return asyncio.current_task()

    outer = asyncio.current_task()
    task = eager(body())
    assert task.result() is task
    assert asyncio.current_task() is outer


async def test_nested(world, eager):
    seen = []

    async def inner():
        seen.append(asyncio.current_task())
        await turns()

    async def outer():
        seen.append(asyncio.current_task())
        task = eager(inner())
        seen.append(asyncio.current_task())
        await task
        seen.append(asyncio.current_task())
        return task

    first = eager(outer())
    second = await first
    assert seen == [first, second, first, first]


async def test_all_tasks_while_suspended(world, eager):
    gate = pending()

    async def body():
        assert asyncio.current_task() in asyncio.all_tasks()
        await gate

    task = eager(body())
    assert task in asyncio.all_tasks()
    gate.set_result(None)
    await task
    assert task not in asyncio.all_tasks()


async def test_name_and_context(world, eager):
    var = contextvars.ContextVar("var", default="outside")
    context = contextvars.copy_context()

    async def body():
        var.set("inside")
        return asyncio.current_task().get_name()

    task = eager(body(), name="named", context=context)
    assert await task == "named"
    assert var.get() == "outside"
    assert context[var] == "inside"


async def test_own_context_is_a_copy(world, eager):
    var = contextvars.ContextVar("var", default="outside")

    async def body():
        var.set("inside")
        await turns()
        return var.get()

    task = eager(body())
    assert var.get() == "outside"
    assert await task == "inside"


async def test_cancel_while_suspended(world, eager):
    async def body():
        await pending()

    task = eager(body())
    task.cancel("stop")
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert caught.value.args == ("stop",)


async def test_done_callbacks_of_a_finished_eager_task(world, eager):
    async def body():
        return 1

    seen = []
    task = eager(body())
    task.add_done_callback(seen.append)
    assert seen == []
    await turns()
    assert seen == [task]


async def test_as_the_loops_factory(world, aio, eager):
    loop, seen = asyncio.get_running_loop(), []
    before = loop.get_task_factory()
    loop.set_task_factory(aio.eager_task_factory)

    async def body(name):
        seen.append(name)
        await turns()
        return name

    try:
        task = asyncio.create_task(body("one"), name="its name")
        assert seen == ["one"]
        assert task.get_name() == "its name"
        assert await asyncio.gather(task, body("two")) == ["one", "two"]
        async with asyncio.TaskGroup() as group:
            inner = group.create_task(body("three"))
            assert seen[-1] == "three"
        assert inner.result() == "three"
    finally:
        loop.set_task_factory(before)


async def test_factory_of_a_task_class(world, aio, eager):
    class Mine(aio.Task):
        pass

    async def body():
        return 1

    factory = aio.create_eager_task_factory(Mine)
    task = factory(asyncio.get_running_loop(), body())
    assert type(task) is Mine
    assert task.done()
    assert await task == 1


async def test_gather_of_finished_eager_tasks(world, aio, eager):
    async def body(value):
        return value

    assert await aio.gather(eager(body(1)), eager(body(2))) == [1, 2]


async def test_wait_for_with_an_eager_task(world, aio, eager):
    async def body():
        return 1

    assert await aio.wait_for(eager(body()), 1) == 1


async def test_task_group_with_an_eager_failure(world, aio, eager):
    loop = asyncio.get_running_loop()
    before = loop.get_task_factory()
    loop.set_task_factory(aio.eager_task_factory)

    async def fail():
        raise LookupError

    try:
        with pytest.raises(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
                await pending()
    finally:
        loop.set_task_factory(before)


async def test_eager_start_of_the_class(world, aio):
    async def body():
        return 1

    if not since(3, 12) and not world.weft_names:
        pytest.skip("asyncio has eager tasks from 3.12 on")
    loop = asyncio.get_running_loop()
    assert aio.Task(body(), loop=loop, eager_start=True).done()
    task = aio.Task(body(), loop=loop, eager_start=False)
    assert not task.done()
    assert await task == 1


@pytest.mark.skipif(not since(3, 12), reason="asyncio, which is asked here, has eager tasks from 3.12 on")
def test_eager_start_while_the_loop_does_not_run(world):
    async def body(world):
        return "nothing to do inside"

    loop = world.new_loop()
    try:
        coro = body(world)
        try:
            task = world.aio.Task(coro, loop=loop, eager_start=True)
            outcome = task.done()
            loop.run_until_complete(task)
        except RuntimeError as error:
            outcome = str(error)
            coro.close()
        oracle = asyncio.SelectorEventLoop()
        coro = body(world)
        try:
            task = asyncio.Task(coro, loop=oracle, eager_start=True)
            expected = task.done()
            oracle.run_until_complete(task)
        except RuntimeError as error:
            expected = str(error)
            coro.close()
        oracle.close()
        assert outcome == expected
    finally:
        loop.close()


async def test_system_exit_at_once(world, eager):
    async def body():
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        eager(body())
    world.take_reports()
