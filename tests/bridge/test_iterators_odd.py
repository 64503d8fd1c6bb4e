"""Blocking iterators at odd moments: used twice, closed while they work, failing as they are closed."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from weft import bridge


def generate(count):
    yield from range(count)


async def test_a_generator_used_twice(world):
    source = generate(3)
    items = bridge.iterate(source)
    with pytest.raises(RuntimeError, match="generator object.*is iterated over already: call .* again for another one"):
        bridge.iterate(source)
    assert [item async for item in items] == [0, 1, 2]
    with pytest.raises(RuntimeError, match="has come to its end"):
        bridge.iterate(source)
    # One that was never begun is given back.
    source = generate(3)
    bridge.iterate(source)
    assert [item async for item in bridge.iterate(source)] == [0, 1, 2]


async def test_the_last_item_is_seen_before_the_end(world):
    """The maker appends it and ends between two looks of the taker's."""
    items = bridge.iterate(iter(()))
    making = items._making

    class Late(type(making.buffer)):
        looks = 0

        def __bool__(self):
            self.looks += 1
            if self.looks == 2:
                self.append("the last")
                making._is_over = True
                return False
            return len(self) > 0

    making.buffer = Late()
    assert await anext(items) == "the last"
    with pytest.raises(StopAsyncIteration):
        await anext(items)


@pytest.mark.parametrize("on_cancel", ["wait", "abandon"])
async def test_a_source_at_work_is_closed_by_its_own_thread(world, on_cancel):
    """With `abandon`, closing does not wait for it; it is closed all the same, behind the item that is being made."""
    gate, making, closed = threading.Event(), threading.Event(), threading.Event()

    def source():
        try:
            yield 1
            making.set()
            gate.wait(10)
            yield 2
            raise AssertionError("one item more")
        finally:
            closed.set()

    items = bridge.iterate(source(), threads=bridge.Threads(on_cancel=on_cancel))
    assert await anext(items) == 1
    while not making.is_set():
        await asyncio.sleep(0)
    closing = asyncio.create_task(items.aclose())
    if on_cancel == "abandon":
        await closing
        assert not closed.is_set()
    gate.set()
    await closing
    while not closed.is_set() or bridge.abandoned():
        await asyncio.sleep(0)


@pytest.mark.parametrize("state", ["making", "full"])
async def test_a_source_that_cannot_be_closed(world, state):
    gate, making = threading.Event(), threading.Event()

    def source():
        try:
            for number in range(1000):
                if number == 1 and state == "making":
                    making.set()
                    gate.wait(10)
                yield number
        finally:
            raise KeyError("lost")

    items = bridge.iterate(source(), bound=2)
    await anext(items)
    while not making.is_set() if state == "making" else items._making._run is not None:
        await asyncio.sleep(0)
    closing = asyncio.create_task(items.aclose())
    await asyncio.sleep(0)
    gate.set()
    with pytest.raises(KeyError, match="lost"):
        await closing
    await items.aclose()


async def test_a_failure_of_a_source_that_was_left_is_reported(world):
    def source():
        try:
            while True:
                yield 1
        finally:
            raise KeyError("lost")

    async for _ in bridge.iterate(source()):
        break
    gc.collect()
    while not (reports := world.take_reports()):
        await asyncio.sleep(0)
    assert isinstance(reports[0]["exception"], KeyError)
    while len(asyncio.all_tasks()) > 1:
        await asyncio.sleep(0)


async def test_closed_while_another_task_waits(world):
    gate, making = threading.Event(), threading.Event()

    def source():
        making.set()
        gate.wait(10)
        yield 1

    items = bridge.iterate(source())
    waiting = asyncio.create_task(anext(items, "the end"))
    while not making.is_set():
        await asyncio.sleep(0)
    closing = asyncio.create_task(items.aclose())
    await asyncio.sleep(0)
    gate.set()
    await closing
    # The item that was being made is its own, if it hears of it before the end.
    assert await waiting in (1, "the end")
    assert await anext(items, "the end") == "the end"


async def test_a_cancelled_run_makes_no_more_than_an_item(world):
    """As at the end of a program, which cancels every task: a slow source must not be drained first."""
    gate, making, made = threading.Event(), threading.Event(), []

    def source():
        for number in range(1000):
            made.append(number)
            if number == 3:
                making.set()
                gate.wait(10)
            yield number

    items = bridge.iterate(source())
    assert await anext(items) == 0
    while not making.is_set():
        await asyncio.sleep(0)
    items._making._run.cancel()
    await asyncio.sleep(0)
    gate.set()
    while items._making._run is not None:
        await asyncio.sleep(0)
    assert made == [0, 1, 2, 3]
    assert [item async for item in items] == list(range(1, 1000))


async def test_threads_closed_before_the_iterator(world):
    async with bridge.OneThread("mine") as one:
        items = bridge.iterate(generate(100), bound=2, threads=one)
        assert await anext(items) == 0
    with pytest.raises(bridge.Closed, match="takes no more calls"):
        async for _ in items:
            pass
