"""Many threads on one loop: nothing is lost, nothing is out of its thread's order, nobody sleeps through a wake-up."""

from __future__ import annotations

import asyncio
import concurrent.futures
import random
import sys
import threading

import pytest

pytestmark = [pytest.mark.weft_only, pytest.mark.slow_test(60)]

THREADS = 6
CALLS = 5_000


def test_call_soon_threadsafe_loses_nothing(world, loop, in_thread):
    seen: list[list[int]] = [[] for _ in range(THREADS)]
    left = THREADS

    def ended():
        nonlocal left
        left -= 1
        if left == 0:
            loop.stop()

    def elsewhere(which):
        for number in range(CALLS):
            loop.call_soon_threadsafe(seen[which].append, number)
        loop.call_soon_threadsafe(ended)

    for which in range(THREADS):
        in_thread(elsewhere, which)
    loop.run_forever()
    assert seen == [list(range(CALLS))] * THREADS


def test_a_blocked_loop_is_woken_every_time(world, loop):
    """One call at a time, each made when the loop has nothing else to do: a lost wake-up would hang."""
    asked, answers = threading.Semaphore(0), []
    count = 3_000

    def elsewhere():
        for number in range(count):
            asked.acquire()
            loop.call_soon_threadsafe(answer, number)

    def answer(number):
        answers.append(number)
        if number == count - 1:
            loop.stop()
        else:
            asked.release()

    thread = threading.Thread(target=elsewhere)
    thread.start()
    asked.release()
    loop.run_forever()
    thread.join()
    assert answers == list(range(count))


@pytest.mark.slow_test(150)
def test_a_million_calls_from_many_threads(world, loop, in_thread):
    """None is lost, and each thread's come in its order, though all compete for the inbox."""
    threads, calls = 8, 125_000
    next_of, left = [0] * threads, threads

    def take(which, number):
        assert next_of[which] == number
        next_of[which] = number + 1

    def ended():
        nonlocal left
        left -= 1
        if left == 0:
            loop.stop()

    def elsewhere(which):
        call = loop.call_soon_threadsafe
        for number in range(calls):
            call(take, which, number)
        call(ended)

    for which in range(threads):
        in_thread(elsewhere, which)
    loop.run_forever()
    assert next_of == [calls] * threads


def test_two_idle_loops_wake_each_other_every_time(world, in_thread):
    """Ping-pong between two threads' loops, each idle until the other calls: one lost wake-up would hang."""
    first, second = world.new_loop(), world.new_loop()
    count, turns_of = 5_000, [0, 0]

    def ping(number):
        turns_of[0] += 1
        if number == count:
            second.call_soon_threadsafe(second.stop)
            first.stop()
        else:
            second.call_soon_threadsafe(pong, number + 1)

    def pong(number):
        turns_of[1] += 1
        first.call_soon_threadsafe(ping, number)

    thread = in_thread(second.run_forever)
    first.call_soon(ping, 0)
    first.run_forever()
    thread.join()
    first.close()
    second.close()
    assert turns_of == [count + 1, count]


@pytest.mark.skipif(
    getattr(sys, "_is_gil_enabled", lambda: True)(), reason="needs a free-threaded CPython without its GIL"
)
def test_loops_of_free_threads_share_nothing(world, in_thread):
    """Loops that really run at the same time, and call each other."""
    loops = [world.new_loop() for _ in range(4)]
    counts = [0] * len(loops)

    def step(which, left):
        counts[which] += 1
        if left:
            following = (which + 1) % len(loops)
            loops[following].call_soon_threadsafe(step, following, left - 1)
        else:
            for other in loops:
                other.call_soon_threadsafe(other.stop)

    running = [in_thread(other.run_forever) for other in loops]
    loops[0].call_soon_threadsafe(step, 0, 20_000)
    for thread in running:
        thread.join()
    for other in loops:
        other.close()
    assert sum(counts) == 20_001


def test_coroutines_from_many_threads(world, loop, in_thread):
    results: list[int] = []

    async def double(number):
        for _ in range(number % 3):
            await asyncio.sleep(0)
        return number * 2

    def elsewhere(start):
        futures = [asyncio.run_coroutine_threadsafe(double(start + number), loop) for number in range(300)]
        results.extend(future.result(30) for future in futures)
        loop.call_soon_threadsafe(done.release)

    done = threading.Semaphore(0)
    threads = [in_thread(elsewhere, which * 1000) for which in range(THREADS)]

    def stop_when_done():
        for thread in threads:
            thread.join()
        loop.call_soon_threadsafe(loop.stop)

    in_thread(stop_when_done)
    loop.run_forever()
    assert sorted(results) == sorted((which * 1000 + number) * 2 for which in range(THREADS) for number in range(300))


async def test_executor_under_load_and_cancellation(world):
    loop, dice = asyncio.get_running_loop(), random.Random(7)
    with concurrent.futures.ThreadPoolExecutor(8) as executor:
        futures = [loop.run_in_executor(executor, pow, number, 2) for number in range(2_000)]
        # Those that are done already refuse.
        cancelled = {number for number in range(2_000) if dice.random() < 0.2 and futures[number].cancel()}
        results = await asyncio.gather(*futures, return_exceptions=True)
    for number, result in enumerate(results):
        if number in cancelled:
            assert isinstance(result, asyncio.CancelledError)
        else:
            assert result == number**2


def test_loops_in_many_threads_at_once(world, in_thread):
    results = []

    async def body():
        await asyncio.gather(*(asyncio.sleep(0.001 * (number % 3)) for number in range(50)))
        return threading.get_ident()

    def elsewhere():
        results.append(world.run(body()))

    threads = [in_thread(elsewhere) for _ in range(8)]
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert len(set(results)) > 1


def test_timers_set_and_cancelled_by_thousands(world, loop):
    """Cancelled timers leave the heap at once; the others run in order."""
    dice, ran = random.Random(3), []
    now = loop.time()
    handles = [loop.call_at(now + dice.random() * 0.05, ran.append, None) for _ in range(5_000)]
    for handle in handles:
        if dice.random() < 0.7:
            handle.cancel()
    left = sum(not handle.cancelled() for handle in handles)
    assert len(loop._timers) == left
    loop.call_at(now + 0.06, loop.stop)
    loop.run_forever()
    assert len(ran) == left
