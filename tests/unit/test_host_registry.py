"""asyncio.all_tasks() and asyncio.current_task() see Weft's tasks, and those of other loops as before."""

from __future__ import annotations

import asyncio
import threading
from asyncio import all_tasks

import pytest
from worlds import turns

import weft
from weft._host import registry

pytestmark = pytest.mark.weft_only


def test_served_through_the_set(world, loop):
    assert registry.how_all_tasks() == "task set"


async def test_sees_this_loops_tasks(world):
    gate = asyncio.get_running_loop().create_future()

    async def wait():
        await gate

    tasks = {weft.create_task(wait()) for _ in range(3)}
    me = asyncio.current_task()
    assert isinstance(me, asyncio.Task)
    assert all_tasks() == asyncio.all_tasks() == tasks | {me}
    gate.set_result(None)
    await asyncio.wait(tasks)
    assert all_tasks() == {me}


async def test_sees_asyncios_own_tasks_on_our_loop(world):
    async def nothing():
        pass

    task = asyncio.Task(nothing())
    assert task in all_tasks()
    await task


async def test_only_the_loop_that_was_asked_for(world):
    async def other():
        return len(all_tasks())

    def in_thread():
        with weft.Runner() as runner:
            return runner.run(other())

    def in_asyncio():
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            return runner.run(other())

    loop = asyncio.get_running_loop()
    assert await loop.run_in_executor(None, in_thread) == 1
    assert await loop.run_in_executor(None, in_asyncio) == 1
    assert len(all_tasks()) == 1


def test_while_loops_come_and_go_in_another_thread(world):
    stop = threading.Event()

    def churn():
        while not stop.is_set():
            weft.Loop().close()

    async def main():
        for _ in range(300):
            assert len(all_tasks()) == 1
            await turns()

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        with world.runner() as runner:
            runner.run(main())
    finally:
        stop.set()
        thread.join()


def test_registered_one_by_one_where_the_set_does_not_serve(world, monkeypatch):
    monkeypatch.setattr(registry, "_how", "registration")
    monkeypatch.setattr(registry._TaskSet, "__iter__", super(registry._TaskSet, registry._TaskSet).__iter__)

    async def main():
        return all_tasks() == {asyncio.current_task()}

    with world.runner() as runner:
        assert runner.run(main())


def test_a_loop_is_known_until_it_is_closed(world):
    loop = world.new_loop()
    assert loop in registry.live()
    loop.close()
    assert loop not in registry.live()
