"""What ties a loop to its process: async generators, executors, threads, foreign futures."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import threading

import pytest
from worlds import turns

pytestmark = pytest.mark.every_world


# -------------------------------------------------------------------------------------------------- async generators


async def numbers(seen):
    try:
        for number in range(10):
            yield number
    finally:
        await asyncio.sleep(0)
        seen.append("finalised")


async def test_dropped_generator_is_finalised(world):
    seen = []

    async def take_one():
        async for _ in numbers(seen):
            break

    await take_one()
    gc.collect()
    await turns(5)
    assert seen == ["finalised"]


def test_shutdown_asyncgens(world, loop):
    seen = []

    async def start():
        generator = numbers(seen)
        await generator.__anext__()
        return generator

    generator = loop.run_until_complete(start())
    assert seen == []
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert seen == ["finalised"]
    del generator


def test_shutdown_asyncgens_reports_errors(world, loop):
    async def bad():
        try:
            yield 1
        finally:
            raise ArithmeticError("in the generator")

    async def start():
        generator = bad()
        await generator.__anext__()
        return generator

    generator = loop.run_until_complete(start())
    loop.run_until_complete(loop.shutdown_asyncgens())
    (report,) = world.take_reports()
    assert isinstance(report["exception"], ArithmeticError)
    assert report["asyncgen"] is generator
    assert report["message"].startswith("an error occurred during closing of asynchronous generator")


def test_generator_started_after_the_shutdown_warns(world, loop):
    async def start():
        await loop.shutdown_asyncgens()
        generator = numbers([])
        with pytest.warns(ResourceWarning, match="was scheduled after loop.shutdown_asyncgens"):
            await generator.__anext__()
        await generator.aclose()

    loop.run_until_complete(start())


def test_runner_finalises_generators(world):
    seen, kept = [], []

    async def body():
        generator = numbers(seen)
        kept.append(generator)
        await generator.__anext__()

    world.run(body())
    assert seen == ["finalised"]
    kept.clear()


def test_hooks_are_put_back(world, loop):
    import sys

    before = sys.get_asyncgen_hooks()
    loop.run_until_complete(turns())
    assert sys.get_asyncgen_hooks() == before


# --------------------------------------------------------------------------------------------------------- executors


async def test_run_in_executor(world):
    loop = asyncio.get_running_loop()
    here = threading.get_ident()
    there = await loop.run_in_executor(None, threading.get_ident)
    assert here != there


async def test_run_in_executor_passes_arguments_and_errors(world):
    loop = asyncio.get_running_loop()
    assert await loop.run_in_executor(None, divmod, 7, 3) == (2, 1)
    with pytest.raises(ZeroDivisionError):
        await loop.run_in_executor(None, divmod, 1, 0)


async def test_run_in_own_executor(world):
    loop = asyncio.get_running_loop()
    with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="own") as executor:
        name = await loop.run_in_executor(executor, lambda: threading.current_thread().name)
    assert name.startswith("own")


async def test_default_executor_can_be_set(world):
    loop = asyncio.get_running_loop()
    executor = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="default")
    loop.set_default_executor(executor)
    name = await loop.run_in_executor(None, lambda: threading.current_thread().name)
    assert name.startswith("default")
    with pytest.raises(TypeError, match="executor must be ThreadPoolExecutor instance"):
        loop.set_default_executor(5)


async def test_cancelled_before_it_runs(world):
    loop, release, seen = asyncio.get_running_loop(), threading.Event(), []
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        first = loop.run_in_executor(executor, release.wait)
        second = loop.run_in_executor(executor, seen.append, "never")
        second.cancel()
        await turns(2)
        release.set()
        await first
        with pytest.raises(asyncio.CancelledError):
            await second
    assert seen == []


async def test_to_thread(world, aio):
    import contextvars

    var = contextvars.ContextVar("var", default="none")
    var.set("here")
    assert await asyncio.to_thread(var.get) == "here"


def test_shutdown_default_executor_waits(world, loop):
    started, release, ended = threading.Event(), threading.Event(), []

    def work():
        started.set()
        release.wait(10)
        ended.append(True)

    async def body():
        future = loop.run_in_executor(None, work)
        while not started.is_set():
            await asyncio.sleep(0)
        loop.call_later(0.001, release.set)
        await loop.shutdown_default_executor()
        assert ended == [True]
        await future

    loop.run_until_complete(body())


def test_no_executor_after_its_shutdown(world, same):
    async def body(world):
        loop = asyncio.get_running_loop()
        await loop.shutdown_default_executor()
        await loop.run_in_executor(None, print)

    assert same(body)["raised"][0] == "RuntimeError"


# --------------------------------------------------------------------------------------------------- foreign futures


async def test_wrap_future(world, aio, in_thread):
    foreign = concurrent.futures.Future()
    future = aio.wrap_future(foreign)
    assert asyncio.isfuture(future)
    in_thread(foreign.set_result, "from a thread")
    assert await future == "from a thread"
    assert aio.wrap_future(future) is future


async def test_wrap_future_exception(world, aio, in_thread):
    foreign = concurrent.futures.Future()
    future = aio.wrap_future(foreign)
    in_thread(foreign.set_exception, LookupError("from a thread"))
    with pytest.raises(LookupError):
        await future


async def test_wrap_future_cancel_goes_both_ways(world, aio):
    foreign = concurrent.futures.Future()
    future = aio.wrap_future(foreign)
    future.cancel()
    await turns(2)
    assert foreign.cancelled()
    foreign = concurrent.futures.Future()
    future = aio.wrap_future(foreign)
    foreign.cancel()
    foreign.set_running_or_notify_cancel()
    with pytest.raises(asyncio.CancelledError):
        await future


async def test_wrap_future_of_a_done_one(world, aio):
    foreign = concurrent.futures.Future()
    foreign.set_result(1)
    assert await aio.wrap_future(foreign) == 1


async def test_concurrent_errors_become_asyncios(world, aio):
    foreign = concurrent.futures.Future()
    future = aio.wrap_future(foreign)
    foreign.set_exception(concurrent.futures.CancelledError("c"))
    with pytest.raises(asyncio.CancelledError):
        await future


def test_run_coroutine_threadsafe(world, loop, in_thread):
    async def answer(value):
        await turns(2)
        return value

    async def fail():
        raise LookupError("in the loop")

    seen = []

    def elsewhere():
        seen.append(world.aio.run_coroutine_threadsafe(answer(5), loop).result(10))
        try:
            world.aio.run_coroutine_threadsafe(fail(), loop).result(10)
        except LookupError as error:
            seen.append(str(error))
        loop.call_soon_threadsafe(loop.stop)

    in_thread(elsewhere)
    loop.run_forever()
    assert seen == [5, "in the loop"]


def test_run_coroutine_threadsafe_cancel(world, loop, in_thread):
    started, seen = threading.Event(), []

    async def waits():
        started.set()
        try:
            await loop.create_future()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        finally:
            loop.call_later(0, loop.stop)

    def elsewhere():
        future = world.aio.run_coroutine_threadsafe(waits(), loop)
        started.wait(10)
        future.cancel()

    in_thread(elsewhere)
    loop.run_forever()
    assert seen == ["cancelled"]


def test_run_coroutine_threadsafe_refuses(world, same):
    async def body(world):
        world.aio.run_coroutine_threadsafe(5, asyncio.get_running_loop())

    assert same(body)["raised"][0] == "TypeError"


async def test_many_threads_at_once(world, aio):
    loop = asyncio.get_running_loop()
    with concurrent.futures.ThreadPoolExecutor(8) as executor:
        results = await aio.gather(*(loop.run_in_executor(executor, pow, number, 2) for number in range(200)))
    assert results == [number**2 for number in range(200)]
