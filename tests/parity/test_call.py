"""call_soon, call_later, call_at, call_soon_threadsafe: order, turns, handles, contexts, refusals."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from unittest import mock

import pytest
from worlds import since, turns


def run_turns(loop, count=1):
    """Run `count` turns of a loop that does not run."""

    def tick(left):
        if left == 0:
            loop.stop()
        else:
            loop.call_soon(tick, left - 1)

    tick(count - 1)
    loop.run_forever()


def test_order(world, loop):
    seen = []
    for number in range(10):
        loop.call_soon(seen.append, number)
    run_turns(loop)
    assert seen == list(range(10))


def test_what_a_callback_adds_runs_in_the_next_turn(world, loop):
    seen = []

    def first():
        seen.append("first")
        loop.call_soon(seen.append, "added")

    loop.call_soon(first)
    loop.call_soon(seen.append, "second")
    run_turns(loop)
    assert seen == ["first", "second"]
    run_turns(loop)
    assert seen == ["first", "second", "added"]


def test_stop_finishes_the_turn(world, loop):
    seen = []
    loop.call_soon(seen.append, 1)
    loop.call_soon(loop.stop)
    loop.call_soon(seen.append, 2)
    loop.run_forever()
    assert seen == [1, 2]


def test_stop_before_run_forever_is_one_turn(world, loop):
    seen = []
    loop.call_soon(seen.append, 1)
    loop.stop()
    loop.run_forever()
    assert seen == [1]


def test_stop_before_run_forever_polls_once(world, loop):
    """A ready fd is served, and its callback runs in that one turn."""
    import socket

    left, right = socket.socketpair()
    with left, right:
        right.send(b"x")
        seen = []
        loop.add_reader(left, seen.append, "readable")
        loop.stop()
        loop.run_forever()
        assert seen == ["readable"]
        loop.remove_reader(left)


def test_stop_twice_is_stop_once(world, loop):
    loop.stop()
    loop.stop()
    loop.run_forever()
    loop.call_soon(loop.stop)
    loop.run_forever()


def test_cancelled_handle_does_not_run(world, loop):
    seen = []
    handle = loop.call_soon(seen.append, "never")
    assert not handle.cancelled()
    handle.cancel()
    handle.cancel()
    assert handle.cancelled()
    run_turns(loop)
    assert seen == []


def test_cancelled_by_an_earlier_callback_of_the_same_turn(world, loop):
    seen = []
    loop.call_soon(lambda: handle.cancel())
    handle = loop.call_soon(seen.append, "never")
    run_turns(loop, 2)
    assert seen == []


def test_cancelled_handle_lets_go_of_its_callback(world, loop):
    import weakref

    class Big:
        def method(self):
            raise AssertionError

    big = Big()
    gone = weakref.ref(big)
    handles = [loop.call_soon(big.method), loop.call_later(3600, big.method)]
    for handle in handles:
        handle.cancel()
    del big
    assert gone() is None


def test_timers_run_in_order_of_time(world, loop):
    seen, now = [], loop.time()
    for offset in (0.005, 0.001, 0.003, -1.0, 0.001):
        loop.call_at(now + offset, seen.append, offset)
    loop.call_at(now + 0.006, loop.stop)
    loop.run_forever()
    assert seen == [-1.0, 0.001, 0.001, 0.003, 0.005]


def test_timers_of_equal_time_keep_their_order(world, loop):
    """asyncio's heap gives no such promise for more than a few; Weft does, and for asyncio it holds for two."""
    seen, when = [], loop.time() + 0.001
    for number in range(2 if world.name == "asyncio" else 50):
        loop.call_at(when, seen.append, number)
    loop.call_at(when + 0.001, loop.stop)
    loop.run_forever()
    assert seen == sorted(seen)


def test_timer_never_runs_early(world, loop):
    seen = []

    def check(when):
        seen.append(loop.time() - when)
        if len(seen) == 20:
            loop.stop()

    for number in range(20):
        when = loop.time() + number * 0.0003
        loop.call_at(when, check, when)
    loop.run_forever()
    assert min(seen) >= -1e-3


def test_cancelled_timer_does_not_run(world, loop):
    seen = []
    handle = loop.call_later(0.001, seen.append, "never")
    loop.call_later(0.003, loop.stop)
    handle.cancel()
    assert handle.cancelled()
    loop.run_forever()
    assert seen == []


def test_timer_cancelled_by_another_of_the_same_moment(world, loop):
    seen, when = [], loop.time() - 1
    loop.call_at(when, lambda: handle.cancel())
    handle = loop.call_at(when + 0.5, seen.append, "never")
    run_turns(loop, 3)
    assert seen == []


def test_timer_cancel_after_it_ran(world, loop):
    handle = loop.call_later(0, loop.stop)
    loop.run_forever()
    handle.cancel()
    assert handle.cancelled()


def test_when(world, loop):
    when = loop.time() + 100.123456789
    handle = loop.call_at(when, print)
    assert handle.when() == when
    handle.cancel()
    assert handle.when() == when


def test_call_later_is_relative(world, loop):
    before = loop.time()
    handle = loop.call_later(100, print)
    assert before + 100 <= handle.when() <= loop.time() + 100
    handle.cancel()


@pytest.mark.parametrize("delay", [float("inf"), 10**12, 1e300])
def test_far_away_timer(world, loop, delay):
    handle = loop.call_later(delay, print)
    seen = []
    loop.call_soon(seen.append, 1)
    run_turns(loop, 2)
    assert seen == [1]
    handle.cancel()


@pytest.mark.parametrize("when", [-1, -1e10, -1e300, float("-inf")])
def test_a_time_long_ago_has_come(world, loop, when):
    """With nothing else to do: the loop does not wait for what is that long ago."""
    loop.call_at(when, loop.stop)
    loop.run_forever()


def test_far_away_timer_alone_does_not_spin_or_fail(world, loop):
    """With nothing else to do the loop blocks although the timer's moment is past any clock."""
    handle = loop.call_later(10**12, print)
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(loop.stop,))
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    handle.cancel()


def test_timer_order_and_equality(world, loop):
    now = loop.time()
    one, two, same = (loop.call_at(now + offset, print) for offset in (100, 200, 100))
    assert one < two and two > one and one <= same and one >= same
    assert one == same and one != two
    assert hash(one) == hash(same)
    assert (one == 5) is False
    with pytest.raises(TypeError):
        one < 5  # noqa: B015
    for handle in (one, two, same):
        handle.cancel()


@pytest.mark.parametrize("method", ["call_soon", "call_later", "call_at", "call_soon_threadsafe"])
def test_context(world, loop, method):
    var = contextvars.ContextVar("var", default="outside")
    context = contextvars.copy_context()
    context.run(var.set, "given")
    seen = []

    def read():
        seen.append(var.get())

    call = getattr(loop, method)
    before = (0,) if method in ("call_later", "call_at") else ()
    handle = call(*before, read, context=context)
    if since(3, 12):
        assert handle.get_context() is context

    def set_and_call():
        var.set("current")
        call(*before, read)
        var.set("later")

    contextvars.copy_context().run(set_and_call)
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert sorted(seen) == ["current", "given"]


def test_callbacks_of_a_context_share_it(world, loop):
    var = contextvars.ContextVar("var", default=0)
    context = contextvars.copy_context()

    def add():
        var.set(var.get() + 1)

    for _ in range(3):
        loop.call_soon(add, context=context)
    run_turns(loop)
    assert context[var] == 3
    assert var.get() == 0


def test_handles_are_asyncios(world, loop):
    soon, later = loop.call_soon(print), loop.call_later(100, print)
    assert isinstance(soon, asyncio.Handle)
    assert isinstance(later, asyncio.TimerHandle)
    assert isinstance(later, asyncio.Handle)
    assert not isinstance(soon, asyncio.TimerHandle)
    soon.cancel()
    later.cancel()


def test_exception_goes_to_the_handler_and_the_rest_runs(world, loop):
    seen = []

    def bad():
        raise ArithmeticError("callback")

    loop.call_soon(bad)
    loop.call_soon(seen.append, "still")
    run_turns(loop)
    assert seen == ["still"]
    (report,) = world.take_reports()
    assert isinstance(report["exception"], ArithmeticError)
    assert isinstance(report["handle"], asyncio.Handle)
    assert report["message"].startswith("Exception in callback ")
    assert "bad()" in report["message"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_exits_leave_run_forever(world, loop, kind):
    seen = []

    def leave():
        raise kind

    loop.call_soon(leave)
    loop.call_soon(seen.append, "after")
    with pytest.raises(kind):
        loop.run_forever()
    assert not loop.is_running()
    assert seen == []
    run_turns(loop)
    assert seen == ["after"]


@pytest.mark.parametrize("method", ["call_soon", "call_later", "call_at", "call_soon_threadsafe"])
def test_closed_loop_refuses(world, loop, method):
    loop.close()
    before = (0,) if method in ("call_later", "call_at") else ()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        getattr(loop, method)(*before, print)


def test_refusals_in_debug_mode(world, same):
    async def body(world):
        loop = asyncio.get_running_loop()
        coro = asyncio.sleep(0)
        words = []
        for call in (
            lambda: loop.call_soon(asyncio.sleep),
            lambda: loop.call_soon(coro),
            lambda: loop.call_soon("text"),
            lambda: loop.call_later(1, asyncio.sleep),
            lambda: loop.call_at(1, None),
            lambda: loop.call_later(None, print),
            lambda: loop.call_at(None, print),
            lambda: loop.call_soon_threadsafe(coro),
        ):
            try:
                call().cancel()
            except Exception as error:
                words.append(error)
            else:
                words.append("accepted")
        coro.close()
        return words

    same(body, debug=True)


def test_wrong_thread_in_debug_mode(world, same):
    async def body(world):
        loop, words = asyncio.get_running_loop(), []

        def elsewhere():
            for call in (
                lambda: loop.call_soon(print),
                lambda: loop.call_later(1, print),
                lambda: loop.call_at(1, print),
            ):
                try:
                    call()
                except RuntimeError as error:
                    words.append(error)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        return words

    assert len(same(body, debug=True)["returned"]) == 3


def test_threadsafe_wakes_a_blocked_loop(world, loop, in_thread):
    seen = []

    def elsewhere():
        loop.call_soon_threadsafe(seen.append, threading.get_ident())
        loop.call_soon_threadsafe(loop.stop)

    loop.call_soon(in_thread, elsewhere)
    loop.run_forever()
    assert len(seen) == 1


def test_threadsafe_keeps_a_threads_order(world, loop, in_thread):
    seen = []

    def elsewhere():
        for number in range(500):
            loop.call_soon_threadsafe(seen.append, number)
        loop.call_soon_threadsafe(loop.stop)

    in_thread(elsewhere)
    loop.run_forever()
    assert seen == list(range(500))


def test_threadsafe_handle_can_be_cancelled(world, loop):
    seen = []
    loop.call_soon_threadsafe(seen.append, "never").cancel()
    run_turns(loop, 2)
    assert seen == []


def test_threadsafe_from_the_loops_own_thread_keeps_its_place(world, loop):
    seen = []
    loop.call_soon(seen.append, 1)
    loop.call_soon_threadsafe(seen.append, 2)
    loop.call_soon(seen.append, 3)
    run_turns(loop, 3)
    assert sorted(seen) == [1, 2, 3]


def test_before_the_loop_runs(world, loop):
    seen = []
    loop.call_soon_threadsafe(seen.append, "queued")
    loop.call_later(0, seen.append, "timer")
    loop.call_soon(seen.append, "soon")
    run_turns(loop, 4)
    assert sorted(seen) == ["queued", "soon", "timer"]


def test_due_timers_run_after_what_was_ready(world, loop):
    seen = []
    loop.call_at(loop.time() - 1, seen.append, "timer")
    loop.call_soon(seen.append, "ready")
    run_turns(loop, 2)
    assert seen == ["ready", "timer"]


def test_time_is_monotonic(world, loop):
    import time

    before = time.monotonic()
    assert before <= loop.time() <= time.monotonic()


@pytest.mark.parametrize("method", ["call_at", "call_later"])
def test_time_can_be_replaced_on_the_loop(world, loop, method):
    """Tests do it, while the loop runs: it decides which timers are due. Afterwards the clock is the loop's own again."""

    async def body():
        start, seen = loop.time(), []
        with mock.patch.object(loop, "time", return_value=start) as clock:
            getattr(loop, method)(100 if method == "call_later" else start + 100, seen.append, 1)
            clock.return_value = start + 99
            await turns(3)
            assert seen == []
            clock.return_value = start + 100
            await turns(3)
            assert seen == [1]
        later = loop.call_later(100, seen.append, 2)
        assert start + 100 <= later.when() < start + 200
        await asyncio.sleep(0.001)

    loop.run_until_complete(body())
