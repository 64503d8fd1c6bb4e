"""Nothing is lost: of 20,000 items, with faults drawn from a seed, each ends in exactly one result, error or cancellation."""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import random
import threading

import pytest
from worlds import turns

from weft import bridge

ITEMS = 20_000
AT_ONCE = 400
GENERATION = 1000


class Refused(Exception):
    """What an item raises by itself."""


class Tally:
    """Which items began, and how each ended. Any thread."""

    def __init__(self):
        self.lock = threading.Lock()
        self.began = collections.Counter()
        self.ended = collections.Counter()
        self.how = collections.Counter()

    def begin(self, number):
        with self.lock:
            self.began[number] += 1

    def end(self, number, how):
        with self.lock:
            self.ended[number] += 1
            self.how[how] += 1

    def check(self, kinds):
        assert set(self.ended) == set(range(ITEMS))
        assert set(self.ended.values()) == {1}, "each exactly once"
        assert max(self.began.values()) == 1, "none was called twice"
        assert set(self.how) == kinds, self.how


def work(tally, number, fault):
    tally.begin(number)
    if fault == "raise":
        raise Refused(number)
    if fault == "look":
        bridge.check_cancelled()
    elif fault == "sleep":
        bridge.sleep(0.0005)
    elif fault == "call":
        return bridge.call_async(come_back, number)
    return number


async def come_back(number):
    await asyncio.sleep(0)
    return number


@pytest.mark.slow_test(60)
@pytest.mark.parametrize("on_cancel", ["wait", "abandon"])
async def test_threads(world, on_cancel):
    rng = random.Random(f"threads {on_cancel}")
    tally = Tally()
    places = asyncio.Semaphore(AT_ONCE)
    generations = [bridge.Threads(8, on_cancel=on_cancel, timeout=timeout) for timeout in (None, 0.0004) * 10]
    closings = []

    async def item(number, fault):
        threads = generations[number // GENERATION]
        try:
            result = await threads.run(work, tally, number, fault)
        except Refused as error:
            assert error.args == (number,)
            tally.end(number, "error")
        except bridge.StillRunning:
            tally.end(number, "overdue")
        except bridge.Closed:
            tally.end(number, "closed")
        except asyncio.CancelledError:
            tally.end(number, "cancelled")
        else:
            assert result == number
            tally.end(number, "result")

    tasks, alive = collections.deque(maxlen=AT_ONCE), set()

    def end(task):
        alive.discard(task)
        places.release()

    for number in range(ITEMS):
        await places.acquire()
        fault = rng.choice(["none", "none", "raise", "look", "sleep", "call"])
        tasks.append(task := asyncio.create_task(item(number, fault)))
        alive.add(task)
        task.add_done_callback(end)
        if rng.random() < 0.1:
            await turns(rng.randrange(3))
        if rng.random() < 0.3:
            # It may be waiting for a place or for its thread, or have ended.
            rng.choice(tasks).cancel()
        if number % GENERATION == GENERATION - rng.randrange(1, 100):
            closings.append(asyncio.create_task(generations[number // GENERATION].aclose()))
    # A cancelled task ends before its first step, without a word: it never asked for anything.
    await asyncio.wait([*alive, *tasks])
    await asyncio.gather(*closings)
    while bridge.abandoned():
        await turns()
    for number in range(ITEMS):
        if number not in tally.ended and number not in tally.began:
            tally.end(number, "never begun")
    tally.check({"result", "error", "cancelled", "closed", "overdue"} | ({"never begun"} & set(tally.how)))
    for threads in generations:
        await threads.aclose()
    await turns(3)
    assert all(not threads._running and threads._free == 8 for threads in generations)
    # What an abandoned call raises is reported, by the rules; nothing else is.
    assert {type(report["exception"]) for report in world.take_reports()} <= {Refused}


@pytest.mark.slow_test(60)
@pytest.mark.parametrize("kind", ["weft", "asyncio"])
def test_portals(in_thread, kind):
    """Four threads call, start and cancel, while portals are closed under them."""
    factory = asyncio.SelectorEventLoop if kind == "asyncio" else None
    tally = Tally()
    portals = [bridge.Portal(loop_factory=factory) for _ in range(8)]
    crossed = threading.Semaphore(0)

    async def far(number, fault):
        tally.begin(number)
        if fault == "raise":
            raise Refused(number)
        if fault == "wait":
            await asyncio.sleep(0.001)
        elif fault == "thread":
            return await bridge.to_thread(lambda: number)
        return number

    def settle(number, outcome):
        try:
            result = outcome()
        except Refused as error:
            assert error.args == (number,)
            tally.end(number, "error")
        except bridge.Closed:
            tally.end(number, "closed")
        except (asyncio.CancelledError, concurrent.futures.CancelledError):
            tally.end(number, "cancelled")
        else:
            assert result == number
            tally.end(number, "result")

    def caller(which):
        rng = random.Random(f"portals {which}")
        for number in range(which, ITEMS, 4):
            portal = portals[number * len(portals) // ITEMS]
            fault = rng.choice(["none", "none", "raise", "wait", "thread"])
            if rng.random() < 0.5:
                settle(number, lambda: portal.call(far, number, fault))  # noqa: B023
            else:
                try:
                    future = portal.start(far, number, fault)
                except bridge.Closed:
                    tally.end(number, "closed")
                    continue
                if rng.random() < 0.3:
                    future.cancel()
                settle(number, lambda: future.result(30))  # noqa: B023
            if number % (ITEMS // len(portals)) > ITEMS // len(portals) - 40:
                crossed.release()

    threads = [in_thread(caller, which) for which in range(4)]
    for portal in portals:
        for _ in range(20):
            assert crossed.acquire(timeout=60)
        portal.close()
    for thread in threads:
        thread.join(60)
    tally.check({"result", "error", "cancelled", "closed"})


@pytest.mark.slow_test(60)
@pytest.mark.parametrize("bound", [1, 7, 64])
async def test_items_of_iterators(world, bound):
    """What is taken is what was made, in order, however often who takes is cancelled and goes on."""
    rng = random.Random(f"iterators {bound}")
    count = ITEMS if bound > 1 else ITEMS // 10
    items, taken = bridge.iterate(iter(range(count)), bound=bound), []
    while True:
        taking = asyncio.create_task(anext(items, None))
        if rng.random() < 0.2:
            await turns(rng.randrange(2))
            taking.cancel()
        try:
            item = await taking
        except asyncio.CancelledError:
            continue
        if item is None:
            break
        taken.append(item)
    assert taken == list(range(count))
