"""The scheduler: what a turn runs, how often the kernel is asked, what is left behind when a turn ends early.

Only what asyncio does not promise, or promises by other means: order and words are compared in tests/parity.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
import socket
import threading

import pytest
from worlds import turns

pytestmark = pytest.mark.weft_only


def run_turns(loop, count):
    def tick(left):
        if left == 0:
            loop.stop()
        else:
            loop.call_soon(tick, left - 1)

    tick(count - 1)
    loop.run_forever()


def test_counters_count(world, loop):
    counters = loop._counters
    before = counters.turns, counters.callbacks, counters.polls, counters.tasks
    run_turns(loop, 1000)
    loop.run_until_complete(loop.create_task(turns(1)))
    assert counters.turns - before[0] >= 1001
    assert counters.callbacks - before[1] >= 1001
    assert counters.tasks - before[3] == 1
    assert 1 <= counters.polls - before[2] <= counters.turns - before[0]


def test_a_busy_loop_asks_the_kernel_seldom(world, loop):
    """A chain of callbacks pays for far fewer polls than turns."""
    before = loop._counters.turns, loop._counters.polls
    run_turns(loop, 20_000)
    turned, polled = loop._counters.turns - before[0], loop._counters.polls - before[1]
    assert turned >= 19_999
    assert polled < turned / 2


def test_a_busy_loop_asks_the_kernel_often_enough(world, loop):
    """A socket that is readable is served within a bounded number of turns, however busy the loop is."""
    left, right = socket.socketpair()
    with left, right:
        served_after = []
        count = 0

        def busy():
            nonlocal count
            count += 1
            if count == 1000:
                right.send(b"x")
            if not served_after:
                loop.call_soon(busy)

        def readable():
            served_after.append(count - 1000)
            loop.stop()

        loop.add_reader(left, readable)
        loop.call_soon(busy)
        loop.run_forever()
        loop.remove_reader(left)
    assert 0 <= served_after[0] <= 70


def test_a_busy_loop_keeps_its_timers(world, loop):
    fired_after = []
    count = 0

    def busy():
        nonlocal count
        count += 1
        if count == 100:
            loop.call_at(loop.time(), lambda: (fired_after.append(count - 100), loop.stop()))
        if not fired_after:
            loop.call_soon(busy)

    loop.call_soon(busy)
    loop.run_forever()
    assert fired_after[0] <= 3


def test_a_busy_loop_hears_other_threads(world, loop, in_thread):
    heard = []

    def busy():
        if not heard:
            loop.call_soon(busy)

    def elsewhere():
        loop.call_soon_threadsafe(lambda: (heard.append(threading.get_ident()), loop.stop()))

    loop.call_soon(busy)
    loop.call_soon(in_thread, elsewhere)
    loop.run_forever()
    assert heard == [threading.get_ident()]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("from_task", [False, True], ids=["callback", "task"])
def test_the_rest_of_a_turn_survives_an_exit(world, loop, kind, from_task):
    """What an exit left of its batch runs first when the loop runs again, in order, before what was queued later."""
    seen = []

    def leave():
        loop.call_soon(seen.append, "queued by the one that left")
        raise kind

    async def leaves():
        leave()

    async def child(name):
        seen.append(name)

    loop.call_soon(seen.append, "before")
    if from_task:
        left = loop.create_task(leaves())
    else:
        loop.call_soon(leave)
    loop.call_soon(seen.append, "after")
    task = loop.create_task(child("task after"))
    with pytest.raises(kind):
        loop.run_forever()
    assert seen == ["before"]
    run_turns(loop, 3)
    assert seen == ["before", "after", "task after", "queued by the one that left"]
    assert task.done()
    if from_task:
        assert isinstance(left.exception(), kind)


def test_an_exit_leaves_no_current_task(world, loop):
    async def leaves():
        raise SystemExit

    with pytest.raises(SystemExit):
        loop.run_until_complete(leaves())
    assert asyncio.current_task(loop) is None
    assert asyncio._get_running_loop() is None
    assert not loop.is_running()


async def test_the_current_task_is_left_before_whoever_could_see_it(world):
    """Leaving is lazy: a callback, a timer, a reader, an exception handler of theirs: none sees the task before it."""
    loop, seen = asyncio.get_running_loop(), {}
    left, right = socket.socketpair()
    with left, right:

        def look(name):
            seen[name] = asyncio.current_task()

        def bad():
            raise ArithmeticError

        loop.add_reader(left, lambda: (look("reader"), loop.remove_reader(left)))
        right.send(b"x")
        before = loop.get_exception_handler()
        loop.set_exception_handler(lambda loop, context: look("handler"))
        loop.call_soon(look, "callback")
        loop.call_soon(bad)
        loop.call_at(loop.time(), look, "timer")
        loop.call_soon_threadsafe(look, "from a thread")
        future = loop.create_future()
        future.add_done_callback(lambda f: look("done callback"))
        future.set_result(None)
        while len(seen) < 6:
            await asyncio.sleep(0)
        loop.set_exception_handler(before)
    assert set(seen.values()) == {None}


async def test_each_step_sees_its_own_task(world):
    async def child():
        for _ in range(5):
            assert asyncio.current_task() is mine[asyncio.current_task().get_name()]
            await asyncio.sleep(0)

    mine = {}
    for number in range(20):
        task = asyncio.create_task(child(), name=str(number))
        mine[str(number)] = task
    await asyncio.gather(*mine.values())


def test_stop_inside_a_step_ends_the_turn(world, loop):
    seen = []

    async def stops():
        loop.stop()
        seen.append("stopped")
        await asyncio.sleep(0)
        seen.append("later")

    task = loop.create_task(stops())
    loop.call_soon(seen.append, "same turn")
    loop.run_forever()
    assert seen == ["stopped", "same turn"]
    loop.run_until_complete(task)
    assert seen == ["stopped", "same turn", "later"]


def test_what_is_queued_survives_from_run_to_run(world, loop):
    seen = []
    loop.call_soon(seen.append, 1)
    loop.call_soon(loop.stop)
    loop.call_soon(lambda: loop.call_soon(seen.append, 2))
    loop.run_forever()
    assert seen == [1]
    run_turns(loop, 1)
    assert seen == [1, 2]


def test_contexts_do_not_leak_between_runnables(world, loop):
    var = contextvars.ContextVar("var", default="clean")
    seen = []

    async def sets():
        var.set("dirty")
        await asyncio.sleep(0)
        assert var.get() == "dirty"

    tasks = [loop.create_task(sets()) for _ in range(3)]
    loop.call_soon(lambda: seen.append(var.get()))
    loop.run_until_complete(turns(3))
    assert seen == ["clean"]
    assert var.get() == "clean"
    assert all(task.done() for task in tasks)


def test_random_queueing_is_first_in_first_out(world, loop):
    """Callbacks and tasks, queued from callbacks and tasks: each turn runs what was there when it began, in order."""
    dice, order, made = random.Random(11), [], 0
    turn_of: dict[int, int] = {}

    def queue(turn):
        nonlocal made
        for _ in range(dice.randrange(3)):
            if made >= 500:
                return
            number = made
            made += 1
            turn_of[number] = turn + 1
            if dice.random() < 0.5:
                loop.call_soon(run, number, turn + 1)
            else:
                tasks.append(loop.create_task(step(number, turn + 1)))

    def run(number, turn):
        order.append(number)
        queue(turn)

    async def step(number, turn):
        run(number, turn)

    tasks: list[object] = []
    while made < 500:
        queue(0)
        run_turns(loop, 5)
    run_turns(loop, 600)
    assert order == list(range(500))
