"""What reports of other libraries call a deadlock: here it works, or is refused with `Deadlock` before anybody waits.

The suite's hang guard fails a test that hangs.
"""

from __future__ import annotations

import asyncio
import threading
import traceback

import pytest
from worlds import turns

from weft import bridge

THREADS = {
    "one thread": lambda: bridge.OneThread("alone"),
    "limit of one": lambda: bridge.Threads(1),
    "limit of three": lambda: bridge.Threads(3),
}


@pytest.fixture(params=list(THREADS))
def make(request):
    return THREADS[request.param]


@pytest.fixture(params=["weft", "asyncio"])
def factory(request):
    return asyncio.SelectorEventLoop if request.param == "asyncio" else None


# ------------------------------------------------------------------------------------------------ nested, and one thread


@pytest.mark.parametrize("depth", [1, 3, 8])
async def test_nested_through_other_tasks(world, make, depth):
    """Each level asks by a child task, as `gather` and `wait_for` do, and for two calls at once."""
    threads = make()

    async def between(depth):
        return sum(await asyncio.gather(threads.run(work, depth - 1), asyncio.wait_for(threads.run(len, "x"), 1000)))

    def work(depth):
        return 0 if depth == 0 else bridge.call_async(between, depth)

    assert await threads.run(work, depth) == depth
    await threads.aclose()


async def test_many_nested_at_once(world, make):
    threads = make()

    async def between(number):
        await turns(3)
        return await threads.run(lambda: number)

    def work(number):
        return bridge.call_async(between, number)

    numbers = range(200)
    assert await asyncio.gather(*[threads.run(work, number) for number in numbers]) == list(numbers)
    await threads.aclose()


async def test_a_call_that_waits_for_another_call(world):
    """With a limit of one: the first lends its place, or the second could never set what the first waits for."""
    threads, event, began = bridge.Threads(1), asyncio.Event(), asyncio.Event()

    async def wait():
        began.set()
        await event.wait()
        return "waited"

    async def second():
        event.set()

    first = asyncio.create_task(threads.run(bridge.call_async, wait))
    await began.wait()
    await threads.run(bridge.call_async, second)
    assert await first == "waited"
    await threads.aclose()


async def test_one_thread_stays_with_a_call_until_it_ends(world):
    """A lock of the loop that two calls take: the second must not run inside of the first, which would never give it back."""
    one, lock, log = bridge.OneThread("alone"), asyncio.Lock(), []

    async def release():
        lock.release()

    def work(name):
        bridge.call_async(lock.acquire)
        log.append(name)
        bridge.call_async(turns, 5)
        log.append(name)
        bridge.call_async(release)

    await asyncio.gather(one.run(work, "first"), one.run(work, "second"), one.run(work, "third"))
    assert log == [name for name in ("first", "second", "third") for _ in range(2)]
    await one.aclose()


async def test_two_hundred_callers_are_no_deep_recursion(world):
    one = bridge.OneThread("alone")
    depths = []

    def work():
        depths.append(len(list(traceback.walk_stack(None))))
        bridge.call_async(turns, 10)

    await asyncio.gather(*[one.run(work) for _ in range(200)])
    assert len(depths) == 200 and len(set(depths)) == 1
    await one.aclose()


async def test_a_call_that_blocks_for_one_behind_it(world):
    """In one thread it can't work, and nobody can see it; a time-out ends it for both."""
    one, event = bridge.OneThread("alone", timeout=0.01), threading.Event()
    both = await asyncio.gather(one.run(event.wait), one.run(event.set), return_exceptions=True)
    assert [type(error) for error in both] == [bridge.StillRunning] * 2
    assert "is still running" in str(both[0]) and "was not called: every thread" in str(both[1])
    assert not event.is_set()
    event.set()
    while bridge.abandoned():
        await turns()
    assert await one.run(len, "works again") == 11
    await one.aclose()


async def test_iterators_inside_of_a_nested_call(world, make):
    threads = make()

    async def between():
        return [item async for item in bridge.iterate(iter(range(200)), bound=3, threads=threads)]

    assert await threads.run(bridge.call_async, between) == list(range(200))
    await threads.aclose()


def test_an_async_iterator_that_needs_the_thread_that_takes(factory, make):
    """The portal's loop waits for a call, which takes items from an async generator of that loop, which calls in turn."""

    async def main(portal):
        async with make() as threads:

            async def source():
                for number in range(50):
                    yield await threads.run(lambda number=number: number)

            return await threads.run(lambda: list(portal.iterate(source(), bound=2)))

    with bridge.Portal(loop_factory=factory) as portal:
        assert portal.call(main, portal) == list(range(50))


def test_a_loop_in_a_thread_of_a_loop(world):
    """A portal's call, within a running loop's thread of an executor, that goes back into a thread: three loops deep."""

    async def innermost():
        return await asyncio.to_thread(lambda: "innermost")

    def enter(depth):
        with bridge.Portal() as portal:
            return portal.call(innermost) if depth == 0 else portal.call(descend, depth - 1)

    async def descend(depth):
        return await bridge.to_thread(enter, depth)

    assert world.run(descend(3)) == "innermost"


async def test_a_loop_run_by_a_call_can_call_the_outer_loop(world):
    loop = asyncio.get_running_loop()

    async def outer():
        return asyncio.get_running_loop() is loop

    async def inner():
        return await bridge.to_thread(lambda: 5), bridge.call_async(outer)

    assert await bridge.to_thread(lambda: asyncio.run(inner())) == (5, True)


# ------------------------------------------------------------------------------------------- it can't work: refused


def test_a_portal_that_is_called_back_while_it_waits(factory):
    """A coroutine of one portal blocks its loop with a call of another, whose coroutine calls the first."""
    with bridge.Portal(loop_factory=factory, name="first") as first, bridge.Portal(name="second") as second:

        async def back(way):
            call = first.call if way == "directly" else None
            if call:
                return call(turns)
            return await bridge.to_thread(first.call, turns)

        async def blocking(way):
            with pytest.raises(bridge.Deadlock, match="its loop is blocked by the call of .*back"):
                second.call(back, way)
            return "refused"

        assert first.call(blocking, "directly") == "refused"
        assert first.call(blocking, "through a thread") == "refused"
        # Nothing is left of it: the same call works from elsewhere, also when the first had called the second.
        assert second.call(back, "through a thread") is None


@pytest.mark.parametrize(
    "use",
    [
        lambda portal: portal.call(turns),
        lambda portal: portal.start(turns),
        lambda portal: portal.close(),
        lambda portal: portal.enter(asyncio.Lock()).__enter__(),
        lambda portal: next(portal.iterate(forever())),
        lambda portal: portal.iterate(forever()).close(),
    ],
    ids=["call", "start", "close", "enter", "iterate", "close an iterator"],
)
def test_a_portal_in_its_own_thread(factory, use):
    async def inside():
        with pytest.raises(bridge.Deadlock):
            use(portal)
        return "refused"

    with bridge.Portal(loop_factory=factory) as portal:
        assert portal.call(inside) == "refused"


async def forever():
    number = 0
    while True:
        yield number
        number += 1


def test_a_portal_closed_by_a_call_that_it_waits_for(factory):
    async def inside():
        with pytest.raises(bridge.Deadlock, match="a call that it waits for itself"):
            await bridge.to_thread(portal.close)
        return "refused"

    with bridge.Portal(loop_factory=factory) as portal:
        assert portal.call(inside) == "refused"


async def test_threads_closed_by_a_coroutine_that_their_call_waits_for(world, make):
    threads = make()
    with pytest.raises(bridge.Deadlock, match="would have to end first"):
        await threads.run(bridge.call_async, threads.aclose)
    other = bridge.Threads()
    with pytest.raises(bridge.Deadlock, match="would have to end first"):
        await threads.run(bridge.call_async, other.run, bridge.call_async, threads.aclose)
    assert await threads.run(len, "still open") == 10

    async def ask():
        return asyncio.create_task(threads.aclose())

    closing = await threads.run(bridge.call_async, ask)
    await closing
    with pytest.raises(bridge.Closed):
        await threads.run(len, "")
    await other.aclose()


# ------------------------------------------------------------------------------------------------ shutdown while waiting


async def test_threads_closed_while_a_call_waits_for_the_loop(world, make):
    threads, began, event = make(), asyncio.Event(), asyncio.Event()

    async def wait():
        began.set()
        await event.wait()
        with pytest.raises(bridge.Closed):
            await threads.run(len, "")
        return "ended"

    waiting = asyncio.create_task(threads.run(bridge.call_async, wait))
    await began.wait()
    closing = asyncio.create_task(threads.aclose())
    await turns(3)
    assert not closing.done()
    event.set()
    await closing
    assert await waiting == "ended"


def test_a_portal_closed_while_calls_wait_in_both_directions(factory, in_thread, make):
    """A thread waits for the portal, which waits for a thread, which waits for the portal's loop."""
    outcome, began = [], threading.Event()

    async def innermost():
        began.set()
        await asyncio.get_running_loop().create_future()

    async def middle():
        async with make() as threads:
            await threads.run(bridge.call_async, innermost)

    def outermost():
        try:
            portal.call(middle)
        except asyncio.CancelledError:
            outcome.append("cancelled")

    with bridge.Portal(loop_factory=factory) as portal:
        thread = in_thread(outermost)
        assert began.wait(10)
    thread.join(10)
    assert outcome == ["cancelled"]


async def test_a_loop_that_ends_while_its_call_waits_for_a_portal(world):
    """The cancellation reaches the portal's task through the thread, in the portal's own loop."""
    log, began = [], threading.Event()

    async def far():
        began.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            log.append(asyncio.get_running_loop())

    with bridge.Portal() as portal:
        task = asyncio.create_task(bridge.to_thread(portal.call, far))
        while not began.is_set():
            await turns()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert log == [portal._loop]
