"""Cancellation in any nest of timeouts, shields, groups and gathers: what happens, and in which order, is asyncio's."""

from __future__ import annotations

import asyncio
import gc

import hypothesis
import pytest
from hypothesis import strategies as st
from worlds import World

pytestmark = pytest.mark.slow_test(600)

FUTURES = 4
LEAVES = st.one_of(
    st.tuples(st.just("yield"), st.integers(0, 3)),
    st.tuples(st.just("wait"), st.integers(0, FUTURES - 1)),
    st.tuples(st.just("fail")),
)


def _nest(body):
    several = st.lists(body, min_size=1, max_size=3)
    return st.one_of(
        st.tuples(st.just("shield"), body),
        st.tuples(st.just("timeout"), body),
        st.tuples(st.just("timed out"), body),
        st.tuples(st.just("stubborn"), body),
        st.tuples(st.just("uncancel"), body),
        st.tuples(st.just("group"), several),
        st.tuples(st.just("gather"), several),
        st.tuples(st.just("in turn"), several),
    )


BODIES = st.recursive(LEAVES, _nest, max_leaves=6)
DEEDS = st.one_of(
    st.tuples(st.just("cancel"), st.integers(0, 2)),
    st.tuples(st.just("set"), st.integers(0, FUTURES - 1)),
    st.tuples(st.just("cancel future"), st.integers(0, FUTURES - 1)),
    st.tuples(st.just("turns"), st.integers(1, 3)),
)


class Failure(Exception):
    """What a body raises."""


def shape(error):
    """An exception as it can be compared: the types, through groups."""
    if isinstance(error, BaseExceptionGroup):
        return sorted(repr(shape(each)) for each in error.exceptions)
    return type(error).__name__


class Program:
    def __init__(self, aio, bodies, deeds):
        self.aio, self.bodies, self.deeds = aio, bodies, deeds
        self.trace = []

    async def body(self, name, plan):
        word, *rest = plan
        self.trace.append((name, word))
        try:
            result = await getattr(self, "do_" + word.replace(" ", "_"))(name, *rest)
            self.trace.append((name, word, "ended", asyncio.current_task().cancelling()))
            return result
        except BaseException as error:
            self.trace.append((name, word, shape(error), asyncio.current_task().cancelling()))
            raise

    async def do_yield(self, name, count):
        for _ in range(count):
            await self.aio.sleep(0)

    async def do_wait(self, name, number):
        await self.futures[number]

    async def do_fail(self, name):
        raise Failure

    async def do_shield(self, name, plan):
        inner = self.aio.ensure_future(self.body(name + "s", plan))
        self.inner.append(inner)
        await self.aio.shield(inner)

    async def do_timeout(self, name, plan):
        async with self.aio.timeout(3600):
            await self.body(name + "t", plan)

    async def do_timed_out(self, name, plan):
        async with self.aio.timeout(-1):
            await self.body(name + "o", plan)

    async def do_stubborn(self, name, plan):
        try:
            await self.body(name + "b", plan)
        except (asyncio.CancelledError, Failure):
            await self.aio.sleep(0)

    async def do_uncancel(self, name, plan):
        try:
            await self.body(name + "u", plan)
        except asyncio.CancelledError:
            asyncio.current_task().uncancel()

    async def do_group(self, name, plans):
        async with self.aio.TaskGroup() as group:
            for number, plan in enumerate(plans):
                group.create_task(self.body(f"{name}g{number}", plan))

    async def do_gather(self, name, plans):
        await self.aio.gather(
            *(self.body(f"{name}a{number}", plan) for number, plan in enumerate(plans)), return_exceptions=True
        )

    async def do_in_turn(self, name, plans):
        for number, plan in enumerate(plans):
            await self.body(f"{name}i{number}", plan)

    async def run(self):
        loop = asyncio.get_running_loop()
        self.futures = [loop.create_future() for _ in range(FUTURES)]
        self.inner = []
        tasks = [self.aio.create_task(self.body(str(number), plan)) for number, plan in enumerate(self.bodies)]
        for word, number in self.deeds:
            if word == "turns":
                for _ in range(number):
                    await asyncio.sleep(0)
                    self.trace.append("turn")
            elif word == "cancel":
                self.trace.append(("cancel", tasks[number % len(tasks)].cancel()))
            elif not self.futures[number].done():
                self.futures[number].set_result(None) if word == "set" else self.futures[number].cancel()
        for future in self.futures:
            if not future.done():
                future.set_result(None)
        ended = await asyncio.gather(*tasks, *self.inner, return_exceptions=True)
        self.trace.append([shape(each) for each in ended if isinstance(each, BaseException)])


def trace_of(world, bodies, deeds):
    program = Program(world.aio, bodies, deeds)
    world.run(program.run(), orphans=True)
    trace = program.trace
    # A task that failed unseen is reported when it goes: the program holds some, and some are in cycles.
    del program
    gc.collect()
    reports = sorted(report["message"] for report in world.take_reports())
    if "'group'" in repr(bodies):
        # A group cancels its tasks in the order of a set, which is that of their addresses: compare each body for itself.
        trace = sorted((each for each in trace if type(each) is tuple), key=lambda each: each[0])
    return [*trace, reports]


def test_cancellation(world):
    @hypothesis.given(st.lists(BODIES, min_size=1, max_size=3), st.lists(DEEDS, max_size=8))
    def compare(bodies, deeds):
        oracle = World("asyncio")
        expected = trace_of(oracle, bodies, deeds)
        oracle.close()
        assert trace_of(world, bodies, deeds) == expected

    compare()
