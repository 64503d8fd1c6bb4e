"""A blocking iterator for `async for`: all items, in order, never more than the bound, and an end that closes the source."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from weft import bridge


class Source:
    """Counts what it made, and knows in which threads it ran and how it ended."""

    def __init__(self, count, error=None):
        self.count, self.error = count, error
        self.made = 0
        self.closed = False
        self.threads = set()

    def __call__(self):
        try:
            for number in range(self.count):
                self.made += 1
                self.threads.add(threading.current_thread())
                yield number
            if self.error:
                raise self.error
        finally:
            self.threads.add(threading.current_thread())
            self.closed = True


@pytest.mark.parametrize("bound", [1, 2, 3, 64, 1000])
async def test_all_items_in_order(world, bound):
    source = Source(500)
    assert [item async for item in bridge.iterate(source(), bound=bound)] == list(range(500))
    assert source.closed
    assert threading.main_thread() not in source.threads


async def test_any_iterable(world):
    assert [item async for item in bridge.iterate([1, 2, 3])] == [1, 2, 3]
    assert [item async for item in bridge.iterate({"a": 1}.items())] == [("a", 1)]
    assert [item async for item in bridge.iterate("")] == []


@pytest.mark.parametrize("bound", [1, 10])
async def test_never_above_the_bound(world, bound):
    source = Source(10_000)
    async with bridge.iterate(source(), bound=bound) as items:
        taken = 0
        async for _ in items:
            taken += 1
            for _ in range(3):
                await asyncio.sleep(0)
            assert source.made - taken <= bound
            if taken == 200:
                break
    assert source.closed
    assert source.made - taken <= bound


async def test_batches(world):
    source = Source(1000)
    batches = [batch async for batch in bridge.iterate(source(), bound=50).batches()]
    assert [item for batch in batches for item in batch] == list(range(1000))
    assert max(map(len, batches)) <= 50
    assert min(map(len, batches)) >= 1


async def test_an_error_comes_behind_the_items(world):
    source = Source(5, KeyError("lost"))
    items = bridge.iterate(source())
    assert [await anext(items) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(KeyError, match="lost"):
        await anext(items)
    for _ in range(2):
        with pytest.raises(StopAsyncIteration):
            await anext(items)
    assert source.closed


async def test_aclose_stops_within_one_item(world):
    gate, making = threading.Event(), threading.Event()
    made = []

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
    closing = asyncio.create_task(items.aclose())
    await asyncio.sleep(0)
    assert not closing.done()
    gate.set()
    await closing
    assert made == [0, 1, 2, 3]
    with pytest.raises(StopAsyncIteration):
        await anext(items)
    await items.aclose()


async def test_a_source_can_see_that_it_is_closed(world):
    began = threading.Event()

    def source():
        yield 1
        began.set()
        bridge.sleep(1000)
        yield 2

    items = bridge.iterate(source())
    assert await anext(items) == 1
    while not began.is_set():
        await asyncio.sleep(0)
    await items.aclose()


async def test_an_iterator_that_is_dropped_closes_its_source(world):
    source = Source(100_000)
    async for item in bridge.iterate(source()):
        if item == 3:
            break
    gc.collect()
    while not source.closed or len(asyncio.all_tasks()) > 1:
        await asyncio.sleep(0)
    assert source.made < 1000


async def test_a_cancelled_wait_loses_no_item(world):
    gate = threading.Event()

    def source():
        yield 1
        gate.wait(10)
        yield 2
        yield 3

    items = bridge.iterate(source())
    assert await anext(items) == 1
    waiting = asyncio.create_task(anext(items))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.set()
    assert [item async for item in items] == [2, 3]


async def test_one_task_at_a_time(world):
    gate = threading.Event()

    def source():
        gate.wait(10)
        yield 1

    items = bridge.iterate(source())
    first = asyncio.create_task(anext(items))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="two tasks wait"):
        await anext(items)
    gate.set()
    assert await first == 1
    await items.aclose()


async def test_in_a_thread_of_ones_own(world):
    async with bridge.OneThread("mine") as one:
        source = Source(300)
        assert [item async for item in bridge.iterate(source(), bound=7, threads=one)] == list(range(300))
        async with bridge.iterate(Source(300)(), threads=one) as items:
            await anext(items)
    assert {thread.name for thread in source.threads} == {"mine"}


@pytest.mark.parametrize(("wrong", "words"), [(5, "is not iterable"), (None, "is not iterable")])
async def test_refuses(world, wrong, words):
    with pytest.raises(TypeError, match=words):
        bridge.iterate(wrong)
    with pytest.raises(ValueError, match="at least 1"):
        bridge.iterate([], bound=0)


async def test_refuses_what_is_async(world):
    async def source():
        yield 1

    with pytest.raises(TypeError, match="`async for` needs no thread"):
        bridge.iterate(source())
