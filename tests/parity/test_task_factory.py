"""Task factories get the keywords that the running Python's loop gives them; eager tasks exist on every version."""

from __future__ import annotations

import asyncio
import contextvars

import pytest
from worlds import since


async def nothing():
    return "done"


def recording(calls):
    def factory(loop, coro, **options):
        calls.append(dict(options))
        options.pop("eager_start", None)
        return asyncio.Task(coro, loop=loop, **options)

    return factory


@pytest.mark.parametrize("given", [{}, {"name": "n"}, {"context": None}, {"name": None}])
def test_keywords(world, same, given):
    async def body(world):
        loop, calls = asyncio.get_running_loop(), []
        loop.set_task_factory(recording(calls))
        task = loop.create_task(nothing(), **given)
        loop.set_task_factory(None)
        return calls, task.get_name() == "n", await task

    assert same(body)["returned"][2] == "done"


async def test_context_reaches_the_factory(world):
    loop, calls = asyncio.get_running_loop(), []
    loop.set_task_factory(recording(calls))
    context = contextvars.copy_context()
    await loop.create_task(nothing(), context=context)
    assert calls[0]["context"] is context
    loop.set_task_factory(None)


async def test_a_factory_without_keywords(world):
    """As they were written for 3.10: good as long as nobody gives a context (or, from 3.13.3 on, a name)."""
    loop = asyncio.get_running_loop()
    loop.set_task_factory(lambda loop, coro: asyncio.Task(coro, loop=loop))
    assert await loop.create_task(nothing()) == "done"
    coro = nothing()
    with pytest.raises(TypeError):
        loop.create_task(coro, context=contextvars.copy_context())
    coro.close()
    if not since(3, 13):
        task = loop.create_task(nothing(), name="set afterwards")
        assert task.get_name() == "set afterwards"
        await task
    loop.set_task_factory(None)


@pytest.mark.parametrize("value", [5, "x", object()])
def test_words_of_a_wrong_factory(world, same, value):
    async def body(world):
        loop = asyncio.get_running_loop()
        with pytest.raises(TypeError) as caught:
            loop.set_task_factory(value)
        return str(caught.value), loop.get_task_factory() is None

    assert same(body)["returned"][1] is True


@pytest.mark.weft_only
async def test_eager_start_on_every_version(world):
    loop, seen = asyncio.get_running_loop(), []

    async def first_step(name):
        seen.append(name)
        await asyncio.sleep(0)
        seen.append(name + " again")

    eager = loop.create_task(first_step("eager"), eager_start=True)
    lazy = loop.create_task(first_step("lazy"), eager_start=False)
    assert seen == ["eager"]
    await asyncio.gather(eager, lazy)
    assert seen == ["eager", "eager again", "lazy", "lazy again"]
    done = loop.create_task(nothing(), eager_start=True)
    assert done.done() and done.result() == "done"


@pytest.mark.weft_only
async def test_wefts_create_task_takes_it_too(world):
    import weft

    async def first_step():
        return asyncio.current_task().get_name()

    context = contextvars.copy_context()
    task = weft.create_task(first_step(), name="eager", context=context, eager_start=True)
    assert task.done() and task.result() == "eager"
    assert await weft.create_task(first_step(), name="lazy") == "lazy"
    with pytest.raises(RuntimeError, match="no running event loop"):
        await asyncio.to_thread(weft.create_task, None)


@pytest.mark.weft_only
async def test_eager_start_reaches_the_factory(world):
    loop, calls = asyncio.get_running_loop(), []
    loop.set_task_factory(recording(calls))
    await loop.create_task(nothing(), eager_start=True)
    await loop.create_task(nothing())
    loop.set_task_factory(None)
    assert [call.get("eager_start") for call in calls] == [True, None]


@pytest.mark.weft_only
async def test_the_eager_factory_can_be_told_to_wait(world, aio):
    loop = asyncio.get_running_loop()
    loop.set_task_factory(aio.eager_task_factory)
    try:
        eager, lazy = loop.create_task(nothing()), loop.create_task(nothing(), eager_start=False)
        assert (eager.done(), lazy.done()) == (True, False)
        assert await lazy == "done"
    finally:
        loop.set_task_factory(None)


def test_words_of_an_unknown_keyword(world):
    loop = world.new_loop()
    coro = nothing()
    with pytest.raises(TypeError, match="colour"):
        loop.create_task(coro, colour="red")
    coro.close()
    loop.close()
