"""The default executor: made late, refused after its shutdown, joined without blocking the loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading

import pytest
from worlds import since


def running_loop():
    return asyncio.get_running_loop()


async def test_runs_in_a_thread(world):
    assert await running_loop().run_in_executor(None, threading.get_ident) != threading.get_ident()


async def test_arguments_result_and_exception(world):
    assert await running_loop().run_in_executor(None, divmod, 7, 3) == (2, 1)
    with pytest.raises(ZeroDivisionError):
        await running_loop().run_in_executor(None, divmod, 7, 0)


async def test_threads_are_named_as_asyncio_s(world):
    name = await running_loop().run_in_executor(None, lambda: threading.current_thread().name)
    assert name.startswith("asyncio_")


async def test_executor_given(world):
    with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="given") as pool:
        name = await running_loop().run_in_executor(pool, lambda: threading.current_thread().name)
    assert name.startswith("given")


async def test_to_thread(world):
    assert await asyncio.to_thread(divmod, 7, 3) == (2, 1)


async def test_worker_that_needs_the_loop(world):
    async def answer():
        return 5

    loop = running_loop()
    asked = loop.run_in_executor(None, lambda: asyncio.run_coroutine_threadsafe(answer(), loop).result(10))
    assert await asked == 5


async def test_shutdown_lets_a_worker_finish_that_needs_the_loop(world):
    gate = threading.Event()

    async def answer():
        return 5

    def work(loop):
        gate.wait(10)
        return asyncio.run_coroutine_threadsafe(answer(), loop).result(10)

    loop = running_loop()
    asked = loop.run_in_executor(None, work, loop)
    shutdown = asyncio.ensure_future(loop.shutdown_default_executor())
    await asyncio.sleep(0)
    gate.set()
    await shutdown
    assert await asked == 5


async def test_no_work_after_shutdown(world):
    loop = running_loop()
    await loop.shutdown_default_executor()
    with pytest.raises(RuntimeError, match=r"^Executor shutdown has been called$"):
        loop.run_in_executor(None, int)


@pytest.mark.parametrize("seconds", (0, 0.001))
async def test_shutdown_with_a_timeout_warns_and_goes_on(world, seconds):
    if world.name == "asyncio" and not since(3, 13):
        pytest.skip("asyncio knows no time-out before 3.12, and in 3.12 waits all the same")
    gate = threading.Event()
    loop = running_loop()
    work = loop.run_in_executor(None, gate.wait, 10)
    words = f"The executor did not finishing joining its threads within {seconds} seconds"
    with pytest.warns(RuntimeWarning, match=words) as caught:
        await loop.shutdown_default_executor(seconds)
    assert caught[0].filename == __file__
    with pytest.raises(RuntimeError, match=r"^Executor shutdown has been called$"):
        loop.run_in_executor(None, int)
    gate.set()
    assert await work


async def test_shutdown_in_time_says_nothing(world):
    options = {"timeout": 10} if world.weft_loop or since(3, 12) else {}
    loop = running_loop()
    threads = []
    await loop.run_in_executor(None, lambda: threads.append(threading.current_thread()))
    for _ in range(2):
        await loop.shutdown_default_executor(**options)
    assert not threads[0].is_alive()


async def test_shutdown_that_is_cancelled(world):
    if world.name == "asyncio" and not since(3, 13):
        pytest.skip("asyncio joins the threads all the same, and sets the result of a cancelled future, before 3.13")
    gate = threading.Event()
    loop = running_loop()
    work = loop.run_in_executor(None, gate.wait, 10)
    shutdown = asyncio.ensure_future(loop.shutdown_default_executor())
    await asyncio.sleep(0)
    shutdown.cancel()
    loop.call_soon(gate.set)
    with pytest.raises(asyncio.CancelledError):
        await shutdown
    assert await work


async def test_shutdown_that_fails(world):
    failed = []

    class Broken(concurrent.futures.ThreadPoolExecutor):
        def shutdown(self, wait=True, **options):
            super().shutdown(wait, **options)
            if not failed:  # the runner asks once more
                failed.append(self)
                raise ArithmeticError("shutdown")

    loop = running_loop()
    loop.set_default_executor(Broken(1))
    assert await loop.run_in_executor(None, divmod, 7, 3) == (2, 1)
    with pytest.raises(ArithmeticError, match="shutdown"):
        await loop.shutdown_default_executor()


async def test_the_default_executor_that_was_set_does_all_the_work(world):
    loop = running_loop()
    pool = concurrent.futures.ThreadPoolExecutor(2, thread_name_prefix="mine")
    loop.set_default_executor(pool)

    def who():
        return threading.current_thread().name

    assert (await loop.run_in_executor(None, who)).startswith("mine")
    assert (await asyncio.to_thread(who)).startswith("mine")
    await loop.shutdown_default_executor()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        pool.submit(who)
    other = concurrent.futures.ThreadPoolExecutor(1)
    loop.set_default_executor(other)
    with pytest.raises(RuntimeError, match=r"^Executor shutdown has been called$"):
        loop.run_in_executor(None, who)
    other.shutdown()


def test_set_default_executor(world, loop):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        loop.set_default_executor(pool)
        assert loop._default_executor is pool
    with pytest.raises(TypeError, match=r"^executor must be ThreadPoolExecutor instance$"):
        loop.set_default_executor(object())


def test_closed_loop_takes_no_work(world):
    loop = world.new_loop()
    loop.close()
    with pytest.raises(RuntimeError, match=r"^Event loop is closed$"):
        loop.run_in_executor(None, int)


def test_close_does_not_wait_for_workers(world, in_thread):
    loop = world.new_loop()
    gate = threading.Event()

    async def main():
        running_loop().run_in_executor(None, gate.wait, 10)

    loop.run_until_complete(main())
    pool = loop._default_executor
    loop.close()
    gate.set()
    pool.shutdown(wait=True)


@pytest.mark.loop_debug
async def test_debug_mode_refuses_coroutine_functions(world):
    async def work():
        pass

    with pytest.raises(TypeError, match=r"^coroutines cannot be used with run_in_executor\(\)$"):
        running_loop().run_in_executor(None, work)
