"""Random programs of futures, tasks, callbacks and cancellations: the order of everything that happens is asyncio's.

A program is made from a seed, so a failure can be run again. It draws what it does from the seed's dice while it runs:
if a world orders two events otherwise, the traces part there, and the first difference is what to look at.
"""

from __future__ import annotations

import asyncio
import random

import pytest
from worlds import World, since

pytestmark = pytest.mark.every_world

SEEDS = 60
STEPS = 60


class Program:
    """What one seed does in one world, and its trace."""

    def __init__(self, aio, seed):
        self.aio = aio
        self.dice = random.Random(seed)
        self.trace = []
        self.futures = []
        self.tasks = []
        self.count = 0

    def note(self, *what):
        self.trace.append(what)

    def name(self, kind):
        self.count += 1
        return f"{kind}{self.count}"

    async def run(self):
        loop = asyncio.get_running_loop()
        for _ in range(STEPS):
            for _ in range(self.dice.randrange(4)):
                self.do_something(loop)
            await asyncio.sleep(0)
            self.note("turn", asyncio.current_task() is not None)
        for _, future in self.futures:
            if not future.done():
                future.cancel("end")
        while left := [task for _, task in self.tasks if not task.done()]:
            for task in left:
                task.cancel("end")
            await asyncio.sleep(0)
        for name, task in self.tasks:
            self.note("end", name, task.cancelled(), not task.cancelled() and repr(task.exception()))

    def do_something(self, loop):
        deed = self.dice.choice(
            ["task"] * 4
            + ["future"] * 3
            + ["end"] * 5
            + ["cancel"] * 3
            + ["callback"] * 2
            + ["soon", "remove", "gather", "twice"]
        )
        if deed == "task":
            name = self.name("task")
            body = self.dice.choice(
                [self.waits, self.waits, self.yields, self.joins, self.stubborn, self.fails, self.times_out]
            )
            self.tasks.append((name, self.aio.create_task(body(name), name=name)))
        elif deed == "future":
            self.futures.append((self.name("future"), loop.create_future()))
        elif deed == "end":
            self.end_a_future()
        elif deed == "cancel" and self.tasks:
            name, task = self.dice.choice(self.tasks)
            self.note("cancel", name, task.cancel(self.name("message")), task.cancelling())
        elif deed == "callback" and self.futures:
            (name, future), own = self.dice.choice(self.futures), self.name("callback")
            future.add_done_callback(lambda f: self.note(own, name, f.cancelled(), asyncio.current_task() is None))
        elif deed == "soon":
            own = self.name("soon")
            handle = loop.call_soon(self.note, own)
            if self.dice.random() < 0.3:
                handle.cancel()
        elif deed == "remove" and self.futures:
            name, future = self.dice.choice(self.futures)
            future.add_done_callback(repr)
            self.note("removed", future.remove_done_callback(repr))
        elif deed == "gather" and len(self.tasks) > 2:
            name = self.name("gather")
            chosen = [task for _, task in self.dice.sample(self.tasks, 3)]
            if not since(3, 12):
                # asyncio's gather of 3.11 looks at what is done a turn later; Weft's is that of 3.12 on every version.
                chosen = [task for task in chosen if not task.done()] or [self.aio.create_task(self.yields(name))]
            outer = self.aio.gather(*chosen, return_exceptions=True)
            outer.add_done_callback(lambda f: self.note(name, f.cancelled()))
        elif deed == "twice" and self.tasks:
            name, task = self.dice.choice(self.tasks)
            task.cancel()
            self.note("twice", name, task.cancel("second"), task.uncancel(), task.cancelling())

    def end_a_future(self):
        if not self.futures:
            return
        name, future = self.futures.pop(self.dice.randrange(len(self.futures)))
        way = self.dice.randrange(3)
        if future.done():
            self.note("done already", name)
        elif way == 0:
            future.set_result(name)
        elif way == 1:
            future.set_exception(LookupError(name))
            future.exception()
        else:
            future.cancel(name)
        self.note("ended", name, way)

    def a_future(self):
        """One that may be done, waited for by others, or new."""
        if self.futures and self.dice.random() < 0.8:
            return self.dice.choice(self.futures)
        self.futures.append((self.name("future"), asyncio.get_running_loop().create_future()))
        return self.futures[-1]

    async def waits(self, own):
        for _ in range(self.dice.randrange(1, 4)):
            name, future = self.a_future()
            self.note(own, "waits for", name)
            try:
                self.note(own, "got", await future)
            except LookupError as error:
                self.note(own, "failed", error.args)
            except asyncio.CancelledError as error:
                self.note(own, "cancelled", asyncio.current_task().cancelling(), error.args == ())
                raise

    async def yields(self, own):
        for step in range(self.dice.randrange(5)):
            self.note(own, "step", step)
            await self.aio.sleep(0)
        return own

    async def joins(self, own):
        if len(self.tasks) < 2:
            return
        name, task = self.dice.choice(self.tasks[:-1])
        self.note(own, "joins", name)
        if task is asyncio.current_task():
            return
        try:
            await self.aio.shield(task)
            self.note(own, "joined", name)
        except LookupError:
            self.note(own, "joined a failure", name)

    async def stubborn(self, own):
        for _ in range(2):
            name, future = self.a_future()
            try:
                await future
            except (asyncio.CancelledError, LookupError) as error:
                self.note(own, "goes on", type(error).__name__, asyncio.current_task().cancelling())
                await asyncio.sleep(0)
        self.note(own, "ends")

    async def fails(self, own):
        await self.aio.sleep(0)
        self.note(own, "fails")
        raise LookupError(own)

    async def times_out(self, own):
        name, future = self.a_future()
        try:
            async with self.aio.timeout(None) as scope:
                asyncio.get_running_loop().call_soon(scope.reschedule, 0)
                await future
        except (TimeoutError, LookupError) as error:
            self.note(own, type(error).__name__, scope.expired(), asyncio.current_task().cancelling())


def trace_of(world, seed):
    program = Program(world.aio, seed)
    try:
        world.run(program.run(), orphans=True)
    except RuntimeError as error:  # a scope that ended before it was rescheduled
        program.note(repr(error))
    program.trace += sorted(report["message"] for report in world.take_reports())
    return program.trace


@pytest.mark.parametrize("seed", range(SEEDS))
def test_same_trace(world, seed):
    oracle = World("asyncio")
    expected = trace_of(oracle, seed)
    oracle.close()
    got = trace_of(world, seed)
    for number, (one, other) in enumerate(zip(expected, got, strict=False)):
        if one != other:
            pytest.fail(
                f"event {number}: asyncio {expected[number - 3 : number + 2]}, here {got[number - 3 : number + 2]}"
            )
    assert len(got) == len(expected)
    assert len(expected) > 50
