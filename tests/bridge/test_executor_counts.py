"""Nothing is lost: every call ends in exactly one result, error or cancellation, whatever goes wrong meanwhile."""

from __future__ import annotations

import asyncio
import multiprocessing.resource_tracker
import os
import random
import signal
import sys
from collections import Counter

import cloudpickle
import loky.backend.resource_tracker
import pytest

from weft import bridge

cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture(autouse=True, scope="module")
def _trackers():
    """The processes that watch over what pools share live as long as this one: they are no test's leak."""
    multiprocessing.resource_tracker.ensure_running()
    loky.backend.resource_tracker.ensure_running()


class Fault(Exception):
    pass


def work(number, fate):
    if fate == "error":
        raise Fault(number)
    if fate == "exit":
        raise SystemExit(number)
    if fate == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fate == "cancelled":
        raise asyncio.CancelledError
    return number


def plan(count, seed, weights):
    """What becomes of each item: how it ends by itself, and whether somebody cancels it before or while it runs."""
    chance = random.Random(seed)
    fates = chance.choices(list(weights), list(weights.values()), k=count)
    return fates, [chance.random() < 0.1 for _ in range(count)], chance


class Tally:
    """How each item ended. It ends twice: the test fails."""

    def __init__(self, count):
        self.ends = [None] * count

    def note(self, number, end):
        assert self.ends[number] is None, f"item {number} ended twice: {self.ends[number]} and {end}"
        self.ends[number] = end

    async def follow(self, ex, number, fate):
        try:
            result = await ex.run(work, number, fate)
        except asyncio.CancelledError:
            self.note(number, "cancelled")
        except Fault as error:
            assert error.args == (number,)
            self.note(number, "error")
        except SystemExit as error:
            assert error.code == number
            self.note(number, "exit")
        except bridge.WorkerDied:
            self.note(number, "died")
        else:
            assert result == number
            self.note(number, "result")


async def run_all(ex, fates, cancelled, chance):
    """At most a few hundred at a time, cancelled ones among them; what came of each."""
    count = len(fates)
    tally = Tally(count)
    window = asyncio.Semaphore(300)
    tasks = []

    async def one(number):
        try:
            await tally.follow(ex, number, fates[number])
        finally:
            window.release()

    for number in range(count):
        await window.acquire()
        tasks.append(asyncio.create_task(one(number)))
        if number % 50 == 49:
            # Some have not begun by now, some run, some are done.
            for late in range(number - 49, number + 1):
                if cancelled[late] and tasks[late] is not None:
                    if chance.random() < 0.5:
                        await asyncio.sleep(0)
                    tasks[late].cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    # A task that was cancelled before its first step never came to note it, nor to hold a place: that is its one end.
    for number, outcome in enumerate(outcomes):
        if isinstance(outcome, asyncio.CancelledError):
            tally.note(number, "cancelled")
        else:
            assert outcome is None, outcome
    return tally


@pytest.mark.slow_test(60)
async def test_a_hundred_thousand_calls_in_threads(world):
    count = 100_000 // 3 + 1  # in each of the three worlds
    fates, cancelled, chance = plan(count, 4, {"result": 90, "error": 8, "exit": 1, "cancelled": 1})
    async with bridge.executor("threads", workers=8) as ex:
        tally = await run_all(ex, fates, cancelled, chance)
    ends = Counter(tally.ends)
    assert sum(ends.values()) == count and None not in ends
    for number, end in enumerate(tally.ends):
        assert end == fates[number] or (end == "cancelled" and cancelled[number]), (number, end)
    assert (
        ends["cancelled"] > count // 100
        and ends["error"] > count // 100
        and ends["exit"]
        and ends["result"] > count // 2
    )


@pytest.mark.slow_test(60)
async def test_a_hundred_thousand_items_of_maps_in_threads(world):
    count = 100_000 // 3 + 1
    fates, _, _ = plan(count, 5, {"result": 90, "error": 8, "exit": 0, "cancelled": 2})
    seen = Counter()
    async with bridge.executor("threads", workers=8) as ex:
        number = 0
        async for end in ex.map(work, range(count), fates, return_exceptions=True, bound=200):
            kind = "result" if end == number else "error" if isinstance(end, Fault) else "cancelled"
            assert kind == fates[number]
            assert kind != "error" or end.args == (number,)
            seen[kind] += 1
            number += 1
    assert number == count and seen == Counter(fates)


@pytest.mark.slow_test(60)
@pytest.mark.parametrize("pool", ["loky", "stdlib"])
async def test_a_thousand_calls_in_processes_that_are_killed(world, pool):
    count = 400  # in each world, with each pool
    fates, cancelled, chance = plan(count, 6, {"result": 90, "error": 8, "exit": 1, "kill": 1})
    async with bridge.executor("processes", workers=2, pool=pool) as ex:
        tally = await run_all(ex, fates, cancelled, chance)
    ends = Counter(tally.ends)
    assert sum(ends.values()) == count and None not in ends
    kills = 0
    for number, end in enumerate(tally.ends):
        kills += fates[number] == "kill" and end == "died"
        assert end in (fates[number], "died") or (end == "cancelled" and cancelled[number]), (number, end)
        assert end != fates[number] or end != "kill"
    assert kills and ends["result"] > count // 2
    # A death takes along what had begun and was not heard of yet: of all that wait, never more than the pool was given.
    assert ends["died"] <= 5 * fates.count("kill"), (ends, kills)
