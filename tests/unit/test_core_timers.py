"""Timers: the indexed heap. A cancelled timer leaves at once, wherever it is; the others keep their order."""

from __future__ import annotations

import gc
import random
import weakref

import pytest

pytestmark = pytest.mark.weft_only


def run_out(loop, when):
    loop.call_at(when, loop.stop)
    loop.run_forever()


@pytest.mark.parametrize("seed", range(8))
def test_random_timers_against_a_sorted_list(world, loop, seed):
    """Added and cancelled in random order, many at equal moments: they run sorted by time, then by age."""
    dice, ran, alive = random.Random(seed), [], []
    base = loop.time()
    for number in range(400):
        when = base + dice.choice([0.001, 0.002, 0.003, dice.random() / 200])
        alive.append((when, number, loop.call_at(when, ran.append, number)))
        if dice.random() < 0.45:
            _, _, handle = alive.pop(dice.randrange(len(alive)))
            handle.cancel()
            handle.cancel()
        assert len(loop._timers) == len(alive)
    run_out(loop, base + 0.01)
    assert ran == [number for _, number, _ in sorted(alive, key=lambda each: each[:2])]
    assert len(loop._timers) == 0


def test_cancelled_ones_free_what_they_hold(world, loop):
    class Big:
        pass

    refs = []
    for _ in range(50):
        big = Big()
        refs.append(weakref.ref(big))
        loop.call_later(3600, print, big).cancel()
    del big
    assert [ref() for ref in refs] == [None] * 50
    assert len(loop._timers) == 0


def test_cancel_from_inside_callbacks(world, loop):
    """A timer that cancels others of its own moment, before and after it in the heap."""
    ran, when = [], loop.time() - 1
    handles = [loop.call_at(when, ran.append, number) for number in range(10)]
    loop.call_at(when - 1, lambda: [handles[number].cancel() for number in (0, 3, 9)])
    run_out(loop, loop.time())
    assert ran == [1, 2, 4, 5, 6, 7, 8]


def test_a_timer_set_by_a_timer_runs_in_a_later_turn(world, loop):
    """However late the loop is: otherwise two timers that set each other would starve everything else."""
    seen = []

    def again(left):
        seen.append(left)
        if left:
            loop.call_at(0.0, again, left - 1)
            loop.call_soon(seen.append, "between")

    loop.call_at(0.0, again, 2)
    run_out(loop, loop.time() + 0.005)
    assert seen == [2, "between", 1, "between", 0]


@pytest.mark.parametrize("when", [float("inf"), 1e300, 9.3e9, -1e300, float("-inf"), 0, 5, True])
def test_any_number_is_a_time(world, loop, when):
    handle = loop.call_at(when, print)
    assert handle.when() == when
    handle.cancel()
    assert len(loop._timers) == 0


def test_late_timers_keep_their_order(world, loop):
    """All due at once, in one turn."""
    ran, now = [], loop.time()
    for offset in (5, 1, 4, 2, 3):
        loop.call_at(now - offset, ran.append, offset)
    run_out(loop, now)
    assert ran == [5, 4, 3, 2, 1]


def test_close_drops_timers(world):
    loop = world.new_loop()
    handles = [loop.call_later(3600, print, number) for number in range(10)]
    loop.close()
    for handle in handles:
        handle.cancel()
    refs = [weakref.ref(handle) for handle in handles]
    del handles, handle
    gc.collect()
    assert [ref() for ref in refs] == [None] * 10


def test_order_of_handles(world, loop):
    early, late = loop.call_at(1e6, print), loop.call_at(2e6, print)
    assert sorted([late, early]) == [early, late]
    assert early != late and early == early
    early.cancel()
    late.cancel()
