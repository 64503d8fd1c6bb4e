"""Task: starting, ending, names, context, stack, what a task refuses."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import io
import weakref

import pytest
from worlds import since, turns

pytestmark = pytest.mark.every_world


async def give(value):
    return value


async def test_starts_in_the_next_turn(world, aio):
    seen = []

    async def body():
        seen.append("ran")

    task = aio.create_task(body())
    assert seen == []
    await turns()
    assert seen == ["ran"]
    await task


async def test_result(world, aio):
    task = aio.create_task(give(5))
    assert await task == 5
    assert task.result() == 5
    assert task.exception() is None
    assert task.done() and not task.cancelled()


@pytest.mark.parametrize("value", [None, (), (1, 2), StopIteration(4), ValueError("as a value")])
async def test_any_value_is_returned_as_it_is(world, aio, value):
    assert await aio.create_task(give(value)) is value


async def test_exception(world, aio):
    error = KeyError("k")

    async def fail():
        raise error

    task = aio.create_task(fail())
    with pytest.raises(KeyError) as caught:
        await task
    assert caught.value is error
    assert task.exception() is error


def test_result_cannot_be_set(world, same):
    async def body(world):
        task = world.aio.create_task(give(1))
        words = []
        for setter in (lambda: task.set_result(1), lambda: task.set_exception(ValueError())):
            with pytest.raises(RuntimeError) as caught:
                setter()
            words.append(caught.value)
        await task
        return words

    same(body)


def test_refuses_what_is_no_coroutine(world, same):
    async def body(world):
        words = []
        for wrong in (1, give, object(), asyncio.get_running_loop().create_future()):
            try:
                world.aio.Task(wrong, loop=asyncio.get_running_loop())
            except TypeError as error:
                words.append(str(error).split(" <")[0])
        return words

    assert len(same(body)["returned"]) == 4


def test_refuses_a_plain_generator(world, same):
    async def body(world):
        def generator():
            yield

        return await world.aio.Task(generator(), loop=asyncio.get_running_loop())

    assert ("raised" in same(body)) is since(3, 12)


def test_an_async_generator_is_no_coroutine(world, same):
    async def body(world):
        async def numbers():
            yield 1

        with pytest.raises(TypeError) as caught:
            world.aio.create_task(numbers())
        return caught.value

    same(body)


async def test_default_names_count_up(world, aio):
    one, two = aio.create_task(give(1)), aio.create_task(give(2))
    first, second = one.get_name(), two.get_name()
    assert first.startswith("Task-") and second.startswith("Task-")
    assert int(second[5:]) == int(first[5:]) + 1
    await asyncio.wait([one, two])


@pytest.mark.parametrize("name", ["a name", 17, ("t",)])
async def test_name_is_made_a_string(world, aio, name):
    task = aio.create_task(give(1), name=name)
    assert task.get_name() == str(name)
    task.set_name(99)
    assert task.get_name() == "99"
    await task


async def test_name_none_means_default(world, aio):
    task = aio.create_task(give(1), name=None)
    assert task.get_name().startswith("Task-")
    await task


async def test_coro_and_loop(world, aio):
    coro = give(1)
    task = aio.create_task(coro)
    assert task.get_coro() is coro
    assert task.get_loop() is asyncio.get_running_loop()
    await task
    assert task.get_coro() is coro


async def test_context_is_copied(world, aio):
    var = contextvars.ContextVar("var", default=0)
    var.set(1)

    async def body():
        before = var.get()
        var.set(10)
        await turns()
        return before, var.get()

    task = aio.create_task(body())
    var.set(2)
    assert await task == (1, 10)
    assert var.get() == 2


async def test_context_can_be_given(world, aio):
    var = contextvars.ContextVar("var", default=0)
    context = contextvars.copy_context()

    async def body():
        var.set(var.get() + 1)
        await turns()
        var.set(var.get() + 1)

    task = aio.create_task(body(), context=context)
    await task
    await aio.create_task(body(), context=context)
    assert context[var] == 4
    assert var.get() == 0
    assert asyncio.current_task().get_loop() is asyncio.get_running_loop()


async def test_get_context(world, aio):
    if not since(3, 12) and not world.weft_names and world.name != "unmodified":
        pytest.skip("asyncio has it from 3.12 on")
    context = contextvars.copy_context()
    task = aio.create_task(give(1), context=context)
    assert task.get_context() is context
    await task


async def test_current_task(world, aio):
    async def body():
        return asyncio.current_task(), aio.current_task()

    outer = asyncio.current_task()
    task = aio.create_task(body())
    assert await task == (task, task)
    assert asyncio.current_task() is outer


async def test_no_current_task_in_a_callback(world, aio):
    loop, seen = asyncio.get_running_loop(), []
    loop.call_soon(lambda: seen.append(asyncio.current_task()))
    task = aio.create_task(give(1))
    task.add_done_callback(lambda t: seen.append(asyncio.current_task()))
    await task
    await turns()
    assert seen == [None, None]


def test_no_current_task_outside(world, loop):
    assert asyncio.current_task(loop) is None
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.current_task()
    loop.run_until_complete(give(1))
    assert asyncio.current_task(loop) is None


async def test_all_tasks(world, aio):
    task = aio.create_task(give(1))
    assert asyncio.all_tasks() == aio.all_tasks() == {task, asyncio.current_task()}
    await task
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_all_tasks_of_this_loop_only(world, loop):
    gate = loop.create_future()

    async def wait():
        return await gate

    stranger = loop.create_task(wait())

    async def elsewhere():
        return stranger in asyncio.all_tasks(), asyncio.all_tasks(loop) == {stranger}

    assert world.run(elsewhere()) == (False, True)
    gate.set_result(1)
    assert loop.run_until_complete(stranger) == 1


async def test_is_instance(world, aio):
    task = aio.create_task(give(1))
    assert isinstance(task, asyncio.Task)
    assert isinstance(task, asyncio.Future)
    assert asyncio.isfuture(task)
    assert aio.isfuture(task)
    assert aio.ensure_future(task) is task
    await task


async def test_is_generic(world, aio):
    assert aio.Task[int].__origin__ is aio.Task


async def test_awaited_by_many(world, aio):
    gate = asyncio.get_running_loop().create_future()

    async def inner():
        return await gate

    async def outer(task):
        return await task

    task = aio.create_task(inner())
    waiters = [aio.create_task(outer(task)) for _ in range(5)]
    await turns(2)
    gate.set_result("all")
    assert await asyncio.gather(*waiters) == ["all"] * 5


async def test_done_callbacks(world, aio):
    seen = []
    task = aio.create_task(give(1))
    task.add_done_callback(seen.append)
    await task
    await turns()
    assert seen == [task]


async def test_order_of_many(world, aio):
    seen = []

    async def body(name):
        for step in range(3):
            seen.append((step, name))
            await asyncio.sleep(0)

    await asyncio.wait([aio.create_task(body(name)) for name in "abc"])
    assert seen == [(step, name) for step in range(3) for name in "abc"]


async def test_task_and_call_soon_share_one_queue(world, aio):
    loop, seen = asyncio.get_running_loop(), []

    async def body(name):
        seen.append(name)

    loop.call_soon(seen.append, "soon 1")
    one = aio.create_task(body("task 1"))
    loop.call_soon(seen.append, "soon 2")
    two = aio.create_task(body("task 2"))
    await asyncio.wait([one, two])
    assert seen == ["soon 1", "task 1", "soon 2", "task 2"]


async def test_stack_of_a_suspended_task(world, aio):
    async def inner():
        await asyncio.get_running_loop().create_future()

    task = aio.create_task(inner())
    assert len(task.get_stack()) == 1
    await turns()
    (frame,) = task.get_stack()
    assert frame.f_code.co_name == "inner"
    out = io.StringIO()
    task.print_stack(file=out)
    assert "in inner" in out.getvalue()
    assert out.getvalue().startswith("Stack for <Task pending")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.get_stack() == []


async def test_stack_of_a_failed_task(world, aio):
    def deep():
        raise ArithmeticError("deep")

    async def fail():
        deep()

    task = aio.create_task(fail())
    with pytest.raises(ArithmeticError):
        await task
    names = [frame.f_code.co_name for frame in task.get_stack()]
    assert names[-2:] == ["fail", "deep"]
    assert [frame.f_code.co_name for frame in task.get_stack(limit=1)] == names[:1]
    out = io.StringIO()
    task.print_stack(file=out)
    assert "Traceback for <Task finished" in out.getvalue()
    assert "ArithmeticError: deep" in out.getvalue()


async def test_traceback_shows_no_more_than_the_users_frames(world, aio):
    """The frames of the runtime between two of the user's stay out of a traceback, or are few."""

    async def fail():
        raise ArithmeticError("here")

    with pytest.raises(ArithmeticError) as caught:
        await aio.create_task(fail())
    names = [entry.name for entry in caught.traceback]
    assert names[0] == "test_traceback_shows_no_more_than_the_users_frames"
    assert names[-1] == "fail"
    assert len(names) <= 9


async def test_finished_task_is_freed_at_once(world, aio):
    class Big:
        pass

    async def body():
        big = Big()
        alive.append(weakref.ref(big))
        await turns()

    alive = []
    task = aio.create_task(body())
    await task
    gc.disable()
    try:
        assert alive[0]() is None
        gone = weakref.ref(task)
        del task
        await turns()
        assert gone() is None
    finally:
        gc.enable()


async def test_failed_task_leaves_no_cycle(world, aio):
    async def fail():
        raise ArithmeticError

    task = aio.create_task(fail())
    await asyncio.wait([task])
    task.exception()
    gone = weakref.ref(task)
    gc.collect()
    gc.disable()
    try:
        del task
        await turns()
        assert gone() is None
    finally:
        gc.enable()


async def test_subclass(world, aio):
    steps = []

    class Mine(aio.Task):
        def __init__(self, coro, *, loop=None):
            super().__init__(coro, loop=loop)
            self.extra = 3

        def add_done_callback(self, callback, *, context=None):
            steps.append("added")
            super().add_done_callback(callback, context=context)

    task = Mine(give(2), loop=asyncio.get_running_loop())
    task.add_done_callback(lambda t: None)
    assert await task + task.extra == 5
    assert steps[0] == "added"


async def test_task_factory(world, aio):
    loop, made = asyncio.get_running_loop(), []
    before = loop.get_task_factory()

    def factory(loop, coro, **options):
        made.append(sorted(key for key, value in options.items() if value is not None))
        return aio.Task(coro, loop=loop, **options)

    loop.set_task_factory(factory)
    assert loop.get_task_factory() is factory
    task = loop.create_task(give(1), name="named")
    assert await task == 1
    assert task.get_name() == "named"
    assert len(made) == 1
    loop.set_task_factory(before)
    with pytest.raises(TypeError, match="task factory must be a callable or None"):
        loop.set_task_factory(5)


async def test_factory_gets_the_context(world, aio):
    loop, seen = asyncio.get_running_loop(), []
    before = loop.get_task_factory()

    def factory(loop, coro, **options):
        seen.append(options.get("context"))
        return aio.Task(coro, loop=loop, **options)

    loop.set_task_factory(factory)
    context = contextvars.copy_context()
    await loop.create_task(give(1), context=context)
    await loop.create_task(give(1))
    loop.set_task_factory(before)
    assert seen == [context, None]


async def test_private_fields_that_others_read(world, aio):
    future = asyncio.get_running_loop().create_future()

    async def wait_for_it():
        await future

    task = aio.create_task(wait_for_it())
    await turns()
    assert task._fut_waiter is future
    assert task._must_cancel is False
    assert task._coro is task.get_coro()
    assert task._log_destroy_pending is True
    task._log_destroy_pending = False
    assert task._log_destroy_pending is False
    future.set_result(None)
    await task
    assert task._fut_waiter is None
