"""10,000 tasks created, cancelled and failed in random order, 100 times: no object, fd or byte grows.

The order is random but seeded: a failure can be repeated. Growth is measured between a round after which every cache and
free list is warm and the last one, by what the collector tracks, by what Python's allocator and C's have handed out, and by
the open fds. Not by the resident size: it goes up and down by several MiB from round to round, as C's allocator gives
holes back to the system or keeps them, and says nothing of a kilobyte; the counts are exact.
"""

from __future__ import annotations

import asyncio
import collections
import ctypes
import gc
import json
import os
import random
import subprocess
import sys

import leaks
import pytest

import weft

pytestmark = pytest.mark.slow_test(300)

TASKS = 10_000
# The plain edition makes fewer rounds, to stay within the suite's minutes; the compiled one makes all.
ROUNDS = 100 if weft._edition.EDITION == "compiled" else 20
ROUNDS_WITH_ASYNCIOS_NAMES = 10
WARM_ROUNDS = 4
# Slack for what is not a leak: the sets and lists of pytest, the collector and this test, and an allocator's arenas.
OBJECT_SLACK = 200
BLOCK_SLACK = 2_000
# About one byte for each of the million tasks. The table of the loop's set of tasks alone is 512 KiB more or less, as it falls.
MALLOC_SLACK_KIB = 1_024


KINDS = ("waits", "fails", "stubborn", "timed", "nested", "wait_for")
WEIGHTS = (46, 24, 18, 4, 4, 4)


class Expected(Exception):
    """What the failing tasks raise."""


class Mallinfo(ctypes.Structure):
    """What glibc's `mallinfo2` gives."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    )


mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Mallinfo


def malloc_kib() -> int:
    """What C's allocator has handed out; Python's small objects are counted as blocks."""
    info = mallinfo()
    return (info.uordblks + info.hblkhd) // 1024


class Size(collections.namedtuple("Size", "objects blocks fds malloc_kib")):
    @classmethod
    def now(cls) -> Size:
        gc.collect()
        return cls(len(gc.get_objects()), sys.getallocatedblocks(), len(leaks.open_fds()), malloc_kib())


async def wait_for(future):
    return await future


async def fail_later(future):
    await future
    raise Expected


async def stubborn(future):
    """Swallows its first cancellation."""
    try:
        await future
    except asyncio.CancelledError:
        await asyncio.sleep(0)
        return "survived"


async def timed(aio):
    async with aio.timeout(3600):
        await aio.sleep(1800)


async def nested(aio, future):
    return await aio.gather(aio.shield(future), aio.sleep(0), return_exceptions=True)


async def one_round(aio, dice):
    """Make the tasks, then end each in a random way, in random order, with the loop running in between."""
    loop = asyncio.get_running_loop()
    pending = []
    counts = collections.Counter()
    for number in range(TASKS):
        future = loop.create_future()
        kind = dice.choices(KINDS, WEIGHTS)[0]
        if kind == "waits":
            coro = wait_for(future)
        elif kind == "fails":
            coro = fail_later(future)
        elif kind == "stubborn":
            coro = stubborn(future)
        elif kind == "timed":
            coro = timed(aio)
        elif kind == "nested":
            coro = nested(aio, future)
        else:
            coro = aio.wait_for(future, 3600)
        task = aio.create_task(coro)
        pending.append((task, future, kind))
        if dice.random() < 0.1:
            end(dice, *pending.pop(dice.randrange(len(pending))), counts)
        if number % 1000 == 0:
            await asyncio.sleep(0)
    dice.shuffle(pending)
    for number, each in enumerate(pending):
        end(dice, *each, counts)
        if number % 500 == 0:
            await asyncio.sleep(0)
    pending.clear()
    del task, future, coro, each
    # No timer is due and nobody waits for I/O: turns are all that the rest needs.
    while len(loop._live) > 1:
        await asyncio.sleep(0)
    assert sum(counts.values()) == TASKS, counts
    return counts


def end(dice, task, future, kind, counts):
    """End a task through its future, or cancel it; its exception is taken."""
    task.add_done_callback(take_exception)
    way = dice.randrange(4)
    if kind == "timed" or way == 0:
        task.cancel()
        counts["task cancelled"] += 1
    elif way == 1:
        future.cancel()
        counts["future cancelled"] += 1
    elif way == 2:
        future.set_exception(Expected())
        future.exception()
        counts["exception"] += 1
    else:
        future.set_result(None)
        counts["result"] += 1


def take_exception(task):
    if not task.cancelled():
        task.exception()


def churn(names, rounds):
    """Make the rounds with Weft's functions, or with asyncio's own on Weft's loop: the sizes before and after."""
    aio = weft if names == "weft" else asyncio
    dice = random.Random(20260_11_23)
    early, late, reports = [], [], []
    # Free lists and dicts breathe from round to round: the smallest of several rounds tells what is really held.
    window = min(10, (rounds - WARM_ROUNDS) // 2)
    loop = weft.new_event_loop()
    loop.set_exception_handler(lambda loop, context: reports.append(context))
    try:
        for number in range(rounds):
            loop.run_until_complete(one_round(aio, dice))
            if WARM_ROUNDS <= number + 1 < WARM_ROUNDS + window:
                early.append(Size.now())
            if number + 1 > rounds - window:
                late.append(Size.now())
        assert len(loop._timers) == 0
        assert loop._tasks() == []
        assert loop._ready_count() == 0
    finally:
        loop.close()
    assert reports == []
    return [[min(column) for column in zip(*sizes, strict=True)] for sizes in (early, late)]


@pytest.mark.parametrize("names", ["weft", "asyncio"])
def test_nothing_grows(names):
    """In a process of its own: in one that has run thousands of tests, the resident size says where their holes are."""
    rounds = ROUNDS if names == "weft" else ROUNDS_WITH_ASYNCIOS_NAMES
    code = f"import json, test_churn; print(json.dumps(test_churn.churn({names!r}, {rounds})))"
    path = [os.path.dirname(__file__), os.path.dirname(leaks.__file__), *filter(None, sys.path)]
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    before, after = (Size(*size) for size in json.loads(done.stdout))
    print(f"\n{names}: {rounds} rounds of {TASKS} tasks: {before} -> {after}")
    assert after.fds == before.fds
    assert after.objects - before.objects <= OBJECT_SLACK, (before, after)
    assert after.blocks - before.blocks <= BLOCK_SLACK, (before, after)
    assert after.malloc_kib - before.malloc_kib <= MALLOC_SLACK_KIB, (before, after)


def test_loops_made_and_closed_leave_nothing():
    async def body():
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
        await asyncio.to_thread(int)

    sizes = []
    for number in range(60):
        weft.run(body())
        if number in (20, 59):
            sizes.append(Size.now())
    before, after = sizes
    print(f"\nloops: {before} -> {after}")
    assert after.fds == before.fds
    assert after.objects - before.objects <= OBJECT_SLACK, (before, after)
    assert after.blocks - before.blocks <= BLOCK_SLACK, (before, after)


def test_connections_leave_nothing():
    """2,000 connections opened and ended in four ways, ten at a time."""

    class Server(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport
            open_servers.add(self)

        def data_received(self, data):
            self.transport.write(data)

        def connection_lost(self, exc):
            open_servers.discard(self)

    class Client(asyncio.Protocol):
        def __init__(self):
            self.got = asyncio.get_running_loop().create_future()
            self.lost = asyncio.get_running_loop().create_future()

        def data_received(self, data):
            if not self.got.done():
                self.got.set_result(data)

        def connection_lost(self, exc):
            self.lost.set_result(None)

    async def one(address, way):
        transport, client = await asyncio.get_running_loop().create_connection(Client, *address)
        transport.write(b"x" * 1000)
        await client.got
        if way == 0:
            transport.close()
        elif way == 1:
            transport.abort()
        elif way == 2:
            transport.write_eof()
        else:
            transport.write(b"y" * 300_000)
            transport.close()
        await client.lost

    async def body(sizes):
        server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        async with server:
            for batch in range(200):
                await asyncio.gather(*(one(address, (batch + number) % 4) for number in range(10)))
                while open_servers:
                    await asyncio.sleep(0)
                if batch in (50, 199):
                    sizes.append(Size.now())

    open_servers, sizes = set(), []
    weft.run(body(sizes))
    before, after = sizes
    print(f"\nconnections: {before} -> {after}")
    assert after.fds == before.fds
    assert after.objects - before.objects <= OBJECT_SLACK, (before, after)
    assert after.blocks - before.blocks <= BLOCK_SLACK, (before, after)
