"""What nobody should do, and what must not crash the process when somebody does."""

from __future__ import annotations

import asyncio
import copy

import pytest

import weft


class Unmade(weft.Future):
    def __init__(self):
        """Leaves out what a future needs."""


def test_a_long_chain_of_tasks_is_cancelled():
    async def body():
        loop = asyncio.get_running_loop()
        last = first = loop.create_future()
        chain = []
        for _ in range(100_000):
            last = loop.create_task(await_it(last))
            chain.append(last)
        await asyncio.sleep(0)
        assert last.cancel("all of you")
        await asyncio.wait(chain)
        assert first.cancelled()
        assert all(task.cancelled() and task.cancelling() == 1 for task in chain)

    weft.run(body())


def test_tasks_that_wait_for_each_other_are_told_from_a_chain():
    async def body():
        loop = asyncio.get_running_loop()
        tasks = []
        for other in (1, 0):
            tasks.append(loop.create_task(await_one_of(tasks, other)))
        await asyncio.sleep(0)
        with pytest.raises(RecursionError):
            tasks[0].cancel()
        for task in tasks:
            task._log_destroy_pending = False
            # Nothing else gets out of a circle.
            task._coro.close()

    loop = weft.new_event_loop()
    loop.run_until_complete(body())
    loop.close()


def test_gathers_nested_without_end_are_not_cancelled_by_the_end_of_the_stack():
    async def body():
        inner = asyncio.get_running_loop().create_future()
        outer = inner
        for _ in range(100_000):
            outer = weft.gather(outer)
        assert inner._asyncio_awaited_by is None
        with pytest.raises(RecursionError):
            outer.cancel()
        inner.set_result(1)
        while not outer.done():
            await asyncio.sleep(0)

    weft.run(body())


@pytest.mark.parametrize("make", ["future", "task", "handle", "timer", "gather"])
def test_what_belongs_to_a_loop_is_not_copied(make):
    async def body():
        loop = asyncio.get_running_loop()
        thing = {
            "future": loop.create_future,
            "task": asyncio.current_task,
            "handle": lambda: loop.call_soon(int),
            "timer": lambda: loop.call_later(60, int),
            "gather": lambda: weft.gather(asyncio.sleep(0)),
        }[make]()
        for duplicate in (copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="cannot pickle"):
                duplicate(thing)
        if make == "timer":
            thing.cancel()
        elif make == "gather":
            await thing

    weft.run(body())


def test_a_gather_whose_private_fields_were_emptied():
    async def body():
        child = asyncio.get_running_loop().create_future()
        outer = weft.gather(child)
        outer._children = []
        outer._cancel_requested = True
        child.set_result(1)
        with pytest.raises(asyncio.CancelledError):
            await outer

    weft.run(body())


@pytest.mark.parametrize("method", ["call_soon", "call_later", "call_at", "call_soon_threadsafe"])
def test_a_loop_whose_init_never_ran(method):
    class Unmade(weft.Loop):
        def __init__(self):
            self._closed = False

        def __del__(self):
            """The real one would close what was never opened."""

    arguments = (1, int) if method in ("call_later", "call_at") else (int,)
    with pytest.raises(AttributeError):
        getattr(Unmade(), method)(*arguments)


def test_awaiting_a_future_whose_init_never_ran():
    async def body():
        with pytest.raises(RuntimeError, match="not initialized"):
            await Unmade()

    weft.run(body())


async def await_it(future):
    return await future


async def await_one_of(tasks, place):
    return await tasks[place]
