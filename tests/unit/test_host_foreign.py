"""wrap_future and run_coroutine_threadsafe: results one way, cancellation the other, across threads."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import threading
import weakref

import pytest
from worlds import turns

pytestmark = pytest.mark.every_world


@pytest.fixture
def source():
    return concurrent.futures.Future()


async def test_result_crosses_from_another_thread(world, aio, source, in_thread):
    future = aio.wrap_future(source)
    in_thread(source.set_result, 5)
    assert await future == 5


async def test_exception_crosses(world, aio, source, in_thread):
    future = aio.wrap_future(source)
    in_thread(source.set_exception, KeyError("k"))
    with pytest.raises(KeyError):
        await future


async def test_cancelled_source_cancels(world, aio, source, in_thread):
    future = aio.wrap_future(source)
    in_thread(source.cancel)
    with pytest.raises(asyncio.CancelledError):
        await future


async def test_cancelling_cancels_the_source(world, aio, source):
    future = aio.wrap_future(source)
    future.cancel()
    await turns()
    assert source.cancelled()


async def test_running_work_goes_on_when_the_wrapper_is_cancelled(world, aio, source):
    assert source.set_running_or_notify_cancel()
    future = aio.wrap_future(source)
    future.cancel()
    await turns()
    assert not source.cancelled()
    source.set_result(1)
    await turns(2)
    assert future.cancelled()


@pytest.mark.parametrize("name", ["CancelledError", "InvalidStateError"])
async def test_exceptions_of_concurrent_futures_become_asyncio_s(world, aio, source, name):
    source.set_exception(getattr(concurrent.futures, name)("why"))
    with pytest.raises(getattr(asyncio, name)):
        await aio.wrap_future(source)


async def test_done_source(world, aio, source):
    source.set_result("early")
    assert await aio.wrap_future(source) == "early"


async def test_an_asyncio_future_is_returned_as_it_is(world, aio):
    future = asyncio.get_running_loop().create_future()
    assert aio.wrap_future(future) is future


def test_needs_a_future(world, aio, loop):
    with pytest.raises(AssertionError, match=r"concurrent\.futures\.Future is expected, got 1"):
        aio.wrap_future(1, loop=loop)


def test_a_result_for_a_closed_loop_is_dropped(world, aio, source):
    loop = world.new_loop()
    future = aio.wrap_future(source, loop=loop)
    loop.close()
    source.set_result(1)
    assert not future.done()


class Running:
    """A loop that runs in a thread until the block ends."""

    def __init__(self, world):
        self.loop = world.new_loop()

    def __enter__(self):
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        return self.loop

    def __exit__(self, *exc):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


def test_coroutine_from_another_thread(world, aio):
    async def main():
        return asyncio.get_running_loop()

    with Running(world) as loop:
        assert aio.run_coroutine_threadsafe(main(), loop).result(10) is loop


def test_coroutine_that_raises(world, aio):
    async def main():
        raise KeyError("k")

    with Running(world) as loop, pytest.raises(KeyError):
        aio.run_coroutine_threadsafe(main(), loop).result(10)


def test_cancelling_from_another_thread_cancels_the_task(world, aio):
    began, ended = threading.Event(), threading.Event()

    async def main():
        began.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    with Running(world) as loop:
        future = aio.run_coroutine_threadsafe(main(), loop)
        assert began.wait(10)
        assert future.cancel()
        assert ended.wait(10)


def test_a_task_factory_that_fails_is_told_to_the_waiter(world, aio):
    async def main():
        pass

    def factory(loop, coro, **options):
        coro.close()
        raise KeyError("factory")

    with Running(world) as loop:
        loop.set_task_factory(factory)
        with pytest.raises(KeyError):
            aio.run_coroutine_threadsafe(main(), loop).result(10)
    assert isinstance(world.take_reports()[0]["exception"], KeyError)


def test_needs_a_coroutine(world, aio, loop):
    with pytest.raises(TypeError, match="A coroutine object is required"):
        aio.run_coroutine_threadsafe(1, loop)


def test_no_cycle_is_left_for_the_collector(world, aio, loop):
    async def main():
        source = concurrent.futures.Future()
        wrapped = aio.wrap_future(source)
        source.set_result(None)
        await wrapped
        # The wrapper's own callback, which looks whether it was cancelled, holds the source until it has run.
        await turns(3)
        return weakref.ref(source)

    gc.disable()
    try:
        assert loop.run_until_complete(main())() is None
    finally:
        gc.enable()
