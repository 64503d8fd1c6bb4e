"""Async generators as observables of reactivex, and back: nothing is made too early, and disposing closes the generator."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import gc
import sys
import threading

import pytest
import reactivex
from reactivex import operators
from reactivex.scheduler import CurrentThreadScheduler, EventLoopScheduler, NewThreadScheduler
from reactivex.scheduler.eventloop import AsyncIOScheduler
from reactivex.subject import Subject
from worlds import turns

from weft import bridge

VARIABLE = contextvars.ContextVar("variable", default="default")


class Ticks:
    """An async generator function that counts what it made, and knows how it ended."""

    def __init__(self, count, error=None):
        self.count, self.error = count, error
        self.made = 0
        self.tasks = set()
        self.ended = []

    async def __call__(self):
        self.tasks.add(asyncio.current_task())
        try:
            for number in range(self.count):
                self.made += 1
                yield number
                await asyncio.sleep(0)
            if self.error:
                raise self.error
        finally:
            await asyncio.sleep(0)
            self.tasks.add(asyncio.current_task())
            self.ended.append(sys.exc_info()[0])


class Log:
    """A subscriber that writes down what it is told."""

    def __init__(self, loop=None):
        self.items, self.error, self.threads = [], None, set()
        self.over = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def on_next(self, item):
        self.threads.add(threading.current_thread())
        self.items.append(item)

    def on_error(self, error):
        self.error = error
        self._loop.call_soon_threadsafe(self.over.set)

    def on_completed(self):
        self._loop.call_soon_threadsafe(self.over.set)


async def until(condition):
    while not condition():
        await asyncio.sleep(0)


async def others_done():
    await until(lambda: len(asyncio.all_tasks()) == 1)


# ------------------------------------------------------------------------------------------------------ to_observable


async def test_items_in_order_and_the_end(world):
    ticks, log = Ticks(500), Log()
    bridge.to_observable(ticks).pipe(operators.map(lambda n: 2 * n)).subscribe(log)
    await log.over.wait()
    assert (log.items, log.error) == ([2 * n for n in range(500)], None)
    assert log.threads == {threading.current_thread()}
    assert ticks.ended == [None]
    await others_done()


async def test_an_error_comes_behind_the_items(world):
    log = Log()
    bridge.to_observable(Ticks(3, KeyError("lost"))).subscribe(log)
    await log.over.wait()
    assert log.items == [0, 1, 2]
    assert isinstance(log.error, KeyError)
    assert log.error.__traceback__ is not None
    await others_done()


async def test_each_subscriber_of_a_function_has_its_own(world):
    ticks, logs = Ticks(10), [Log(), Log()]
    observable = bridge.to_observable(ticks)
    for log in logs:
        observable.subscribe(log)
        await log.over.wait()
    assert [log.items for log in logs] == [list(range(10))] * 2
    await others_done()


async def test_a_generator_is_subscribed_to_once(world):
    first, second = Log(), Log()
    observable = bridge.to_observable(Ticks(3)())
    observable.subscribe(first)
    observable.subscribe(second)
    await first.over.wait()
    assert first.items == [0, 1, 2]
    assert isinstance(second.error, RuntimeError)
    assert "pass the function that makes it" in str(second.error)
    await others_done()


async def test_dispose_closes_a_generator_that_waits(world):
    ended = []

    async def source():
        try:
            yield 1
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0)
            ended.append(sys.exc_info()[0])

    log = Log()
    subscription = bridge.to_observable(source).subscribe(log)
    await until(lambda: log.items)
    await turns(2)
    subscription.dispose()
    subscription.dispose()
    await others_done()
    assert ended == [asyncio.CancelledError]
    assert (log.items, log.error, log.over.is_set()) == ([1], None, False)


@pytest.mark.parametrize("count", [1, 3])
async def test_dispose_within_on_next(world, count):
    """`take` disposes while it is called: the generator stands at its `yield`, and is closed there."""
    ticks, log = Ticks(100), Log()
    bridge.to_observable(ticks).pipe(operators.take(count)).subscribe(log)
    await log.over.wait()
    await others_done()
    assert log.items == list(range(count))
    assert ticks.made == count
    assert ticks.ended == [GeneratorExit]
    assert len(ticks.tasks) == 1, "closed in the task that made the items"


async def test_dispose_before_the_start(world):
    ticks, log = Ticks(100), Log()
    bridge.to_observable(ticks).subscribe(log).dispose()
    await others_done()
    assert (ticks.made, ticks.ended, log.items) == (0, [], [])


async def test_a_generator_that_ignores_its_cancellation_is_closed_all_the_same(world):
    ended = []

    async def source():
        try:
            while True:
                try:
                    await asyncio.get_running_loop().create_future()
                except asyncio.CancelledError:
                    yield "more"
        finally:
            ended.append(True)

    log = Log()
    subscription = bridge.to_observable(source).subscribe(log)
    await turns(3)
    subscription.dispose()
    await others_done()
    assert (ended, log.items) == ([True], [])


async def test_an_iterator_of_any_class_is_closed(world):
    class Source:
        closed = 0

        def __aiter__(self):
            return self

        async def __anext__(self):
            return 1

        async def aclose(self):
            self.closed += 1

    source, log = Source(), Log()
    bridge.to_observable(source).pipe(operators.take(5)).subscribe(log)
    await others_done()
    assert (log.items, source.closed) == ([1] * 5, 1)
    unstarted = Source()
    bridge.to_observable(unstarted).subscribe(log).dispose()
    await others_done()
    assert unstarted.closed == 1


async def test_a_source_that_never_waits_lets_others_run(world):
    async def source():
        while True:
            yield 1

    seen = []
    subscription = bridge.to_observable(source).subscribe(seen.append)
    await turns(3)
    subscription.dispose()
    await others_done()
    assert 0 < len(seen) < 1000


async def test_a_subscriber_that_fails_closes_the_generator_and_is_reported(world):
    ticks = Ticks(10)

    def fail(item):
        raise ZeroDivisionError

    bridge.to_observable(ticks).subscribe(fail)
    await others_done()
    assert (ticks.made, ticks.ended) == (1, [GeneratorExit])
    (report,) = world.take_reports()
    assert isinstance(report["exception"], ZeroDivisionError)
    assert "a subscriber failed in on_next" in report["message"]


async def test_an_error_that_nobody_listens_to_is_reported(world):
    bridge.to_observable(Ticks(1, KeyError("lost"))).subscribe(lambda item: None)
    await others_done()
    (report,) = world.take_reports()
    assert isinstance(report["exception"], KeyError)


async def test_a_closing_that_fails_is_reported(world):
    async def source():
        try:
            yield 1
        finally:
            raise KeyError("lost")

    log = Log()
    bridge.to_observable(source).pipe(operators.take(1)).subscribe(log)
    await others_done()
    (report,) = world.take_reports()
    assert "failed when it was closed" in report["message"]
    assert isinstance(report["exception"], KeyError)


async def test_a_subscriber_hears_that_its_source_was_cancelled(world):
    ticks, log = Ticks(1_000_000), Log()
    bridge.to_observable(ticks).subscribe(log)
    await until(lambda: log.items)
    (task,) = asyncio.all_tasks() - {asyncio.current_task()}
    task.cancel()
    await asyncio.wait([task])
    await log.over.wait()
    assert isinstance(log.error, concurrent.futures.CancelledError)
    assert task.cancelled()
    assert len(ticks.ended) == 1


async def test_the_context_of_the_subscriber(world):
    VARIABLE.set("mine")

    async def source():
        yield VARIABLE.get()

    log = Log()
    bridge.to_observable(source).subscribe(log)
    await log.over.wait()
    assert log.items == ["mine"]
    await others_done()


async def test_subscribe_and_dispose_in_another_thread(world, in_thread):
    loop, ticks, log = asyncio.get_running_loop(), Ticks(1_000_000), Log()
    observable, got = bridge.to_observable(ticks, loop=loop), []
    in_thread(lambda: got.append(observable.subscribe(log))).join(10)
    await until(lambda: len(log.items) > 10)
    in_thread(lambda: got[0].dispose())
    await until(lambda: ticks.ended)
    await others_done()
    assert log.threads == {threading.main_thread()}


# ------------------------------------------------------------------------------------------------------ back-pressure


@pytest.mark.parametrize("bound", [1, 3, 10])
@pytest.mark.parametrize("kind", [EventLoopScheduler, NewThreadScheduler])
async def test_a_slow_subscriber_on_a_scheduler_holds_the_generator_back(world, kind, bound):
    ticks, log = Ticks(60), Log()
    scheduler = kind()
    gate, ahead = threading.Semaphore(0), []

    def slow(item):
        gate.acquire()
        ahead.append(ticks.made - len(log.items))
        log.on_next(item)

    observable = bridge.to_observable(ticks, bound=bound, scheduler=scheduler)
    observable.subscribe(slow, log.on_error, log.on_completed)
    for number in range(60):
        # As far as it gets by itself.
        await turns(3 * bound + 5)
        assert ticks.made <= number + bound
        gate.release()
        await until(lambda number=number: len(log.items) > number)
    await log.over.wait()
    assert log.items == list(range(60))
    assert max(ahead) == bound, "the bound is used, and kept"
    assert threading.main_thread() not in log.threads
    await others_done()
    if kind is EventLoopScheduler:
        scheduler.dispose()


async def test_the_scheduler_of_the_subscription(world):
    ticks, log = Ticks(300), Log()
    scheduler = AsyncIOScheduler(asyncio.get_running_loop())
    bridge.to_observable(ticks, bound=2).subscribe(log, scheduler=scheduler)
    await log.over.wait()
    assert log.items == list(range(300))
    again = Log()
    bridge.to_observable(ticks, scheduler=CurrentThreadScheduler()).subscribe(again)
    await again.over.wait()
    assert again.items == log.items
    await others_done()


async def test_dispose_drops_what_waits_for_the_scheduler(world):
    ticks, log, gate = Ticks(100), Log(), threading.Event()
    scheduler = EventLoopScheduler()

    def slow(item):
        gate.wait(10)
        log.on_next(item)

    subscription = bridge.to_observable(ticks, bound=10, scheduler=scheduler).subscribe(slow)
    await until(lambda: ticks.made == 10)
    subscription.dispose()
    gate.set()
    await others_done()
    scheduler.dispose()
    assert len(log.items) <= 1
    assert len(ticks.ended) == 1


async def test_a_subscriber_that_fails_on_a_scheduler(world):
    ticks = Ticks(100)
    scheduler = EventLoopScheduler()

    def fail(item):
        raise ZeroDivisionError

    bridge.to_observable(ticks, bound=5, scheduler=scheduler).subscribe(fail)
    await others_done()
    await turns(2)
    assert len(ticks.ended) == 1
    (report,) = world.take_reports()
    assert isinstance(report["exception"], ZeroDivisionError)
    scheduler.dispose()


async def test_a_scheduler_that_fails_closes_the_generator_and_is_reported(world):
    ticks, log = Ticks(100), Log()
    scheduler = EventLoopScheduler()
    scheduler.dispose()
    bridge.to_observable(ticks, scheduler=scheduler).subscribe(log)
    await others_done()
    assert (ticks.ended, log.items) == ([GeneratorExit], [])
    (report,) = world.take_reports()
    assert "does not call the subscriber" in report["message"]


@pytest.mark.parametrize("bound", [1, 2, 7, 64])
async def test_there_and_back_is_bounded(world, bound):
    """Through operators: the generator is no further ahead of the `async for` than the bound."""
    ticks = Ticks(300)
    doubled = bridge.to_observable(ticks).pipe(operators.map(lambda n: 2 * n), operators.filter(lambda n: n % 4 == 0))
    taken, most = [], 0
    async with bridge.from_observable(doubled, bound=bound) as items:
        async for item in items:
            taken.append(item)
            await turns(10)
            most = max(most, ticks.made - 2 * len(taken))
    assert taken == list(range(0, 600, 4))
    assert most <= 2 * bound, "every other tick is filtered out"


async def test_there_and_back_over_a_scheduler_is_bounded(world):
    ticks, taken = Ticks(200), 0
    scheduler = EventLoopScheduler()
    observable = bridge.to_observable(ticks, bound=3, scheduler=scheduler)
    items = bridge.from_observable(observable, bound=4)
    async for item in items:
        assert item == taken
        taken += 1
        await turns(20)
        assert ticks.made - taken <= 3 + 4
        assert len(items._receiver._buffer) <= 4
    assert taken == 200
    scheduler.dispose()


async def test_leaving_halfway_closes_the_generator(world):
    ticks = Ticks(100)
    async with bridge.from_observable(bridge.to_observable(ticks), bound=5) as items:
        async for item in items:
            if item == 10:
                break
    assert len(ticks.ended) == 1, "when the block is left, it is closed"
    assert ticks.made <= 16
    with pytest.raises(StopAsyncIteration):
        await anext(items)
    await others_done()


async def test_an_iterator_that_is_dropped_disposes(world):
    ticks = Ticks(100)
    async for item in bridge.from_observable(bridge.to_observable(ticks), bound=5):
        if item == 10:
            break
    gc.collect()
    await others_done()
    assert len(ticks.ended) == 1


# ---------------------------------------------------------------------------------------------------- from_observable


async def test_any_observable(world):
    assert [n async for n in bridge.from_observable(reactivex.from_iterable(range(20)), bound=20)] == list(range(20))
    assert [n async for n in bridge.from_observable(reactivex.empty())] == []
    items = bridge.from_observable(reactivex.concat(reactivex.of(1), reactivex.throw(KeyError("lost"))))
    assert await anext(items) == 1
    with pytest.raises(KeyError, match="lost"):
        await anext(items)
    with pytest.raises(StopAsyncIteration):
        await anext(items)


async def test_what_can_not_be_held_up(world):
    """A subject pushes from this very thread."""
    for on_full, wanted in (("error", [0, 1, 2]), ("drop_new", [0, 1, 2]), ("drop_old", [7, 8, 9])):
        subject, got = Subject(), []
        items = bridge.from_observable(subject, bound=3, on_full=on_full)
        first = asyncio.create_task(anext(items))
        await turns()
        for number in range(-1, 10):
            subject.on_next(number)
            await first
        subject.on_completed()
        try:
            async for item in items:
                got.append(item)
        except bridge.Overflow as error:
            assert on_full == "error"
            assert "raise the bound" in str(error)
        else:
            assert on_full != "error"
        assert got == wanted
        assert await first == -1
        assert not subject.observers


async def test_a_thread_that_pushes_is_blocked(world, in_thread):
    pushed, subject = [], Subject()

    def push():
        for number in range(50):
            subject.on_next(number)
            pushed.append(number)
        subject.on_completed()

    items, taken = bridge.from_observable(subject, bound=4), []
    first = asyncio.create_task(anext(items))
    await turns()
    in_thread(push)
    taken.append(await first)
    async for item in items:
        taken.append(item)
        await turns(3)
        assert len(pushed) - len(taken) <= 5
    assert taken == list(range(50))


async def test_a_thread_that_is_blocked_goes_on_when_nobody_listens(world, in_thread):
    subject = Subject()
    items = bridge.from_observable(subject, bound=1)
    first = asyncio.create_task(anext(items))
    await turns()
    thread = in_thread(lambda: [subject.on_next(number) for number in range(100)])
    assert await first == 0
    await items.aclose()
    thread.join(10)
    assert not thread.is_alive()


async def test_what_an_operator_makes_of_one_item_comes_in_one_piece(world):
    ticks = Ticks(20)
    many = bridge.to_observable(ticks).pipe(operators.flat_map(lambda n: reactivex.of(n, n, n, n, n)))
    got = []
    async for item in bridge.from_observable(many, bound=2):
        got.append(item)
        await turns(5)
        assert 5 * ticks.made - len(got) <= 5 + 1
    assert got == [n for n in range(20) for _ in range(5)]


async def test_one_task_at_a_time(world):
    items = bridge.from_observable(Subject())
    first = asyncio.create_task(anext(items))
    await turns()
    with pytest.raises(RuntimeError, match="two tasks wait"):
        await anext(items)
    await items.aclose()
    first.cancel()
    await asyncio.wait([first])


async def test_a_cancelled_wait_loses_no_item(world):
    subject = Subject()
    items = bridge.from_observable(subject)
    waiting = asyncio.create_task(anext(items))
    await turns()
    subject.on_next(1)
    waiting.cancel()
    await asyncio.wait([waiting])
    subject.on_next(2)
    subject.on_completed()
    assert [item async for item in items] == [1, 2]


# --------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("wrong", [5, None, [1, 2], asyncio.sleep])
def test_what_is_no_async_iterable(wrong):
    with pytest.raises(TypeError, match="is no async iterable"):
        bridge.to_observable(wrong)


async def test_a_function_that_makes_no_async_iterable(world):
    log = Log()
    bridge.to_observable(lambda: 5).subscribe(log)
    await log.over.wait()
    assert isinstance(log.error, TypeError)
    await others_done()


def test_bounds():
    with pytest.raises(ValueError, match="at least 1"):
        bridge.to_observable(Ticks(1), bound=0)
    with pytest.raises(ValueError, match="at least 1"):
        bridge.from_observable(Subject(), bound=0)
    with pytest.raises(ValueError, match="'drop_new' or 'drop_old'"):
        bridge.from_observable(Subject(), on_full="block")
    with pytest.raises(TypeError, match="is no observable"):
        bridge.from_observable([1, 2])


def test_no_loop(world):
    errors = []
    bridge.to_observable(Ticks(1)).subscribe(on_error=errors.append)
    loop = world.new_loop()
    loop.close()
    bridge.to_observable(Ticks(1), loop=loop).subscribe(on_error=errors.append)
    assert "pass `loop`" in str(errors[0])
    assert isinstance(errors[1], bridge.Closed)


def test_the_package_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "reactivex", None)
    with pytest.raises(ImportError, match=r"pip install 'weft\[reactive\]'"):
        bridge.to_observable(Ticks(1))
