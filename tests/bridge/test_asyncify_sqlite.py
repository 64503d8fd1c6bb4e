"""sqlite3 made asynchronous: objects that belong to the thread that made them. And what a cancellation does to its blocks."""

from __future__ import annotations

import asyncio
import sqlite3
import threading

import pytest
from worlds import since

from weft import bridge
from weft.bridge import apply, asyncify

AsyncConnection = asyncify(sqlite3.Connection, one_thread=True)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "test.db")


async def filled(path, count=1000):
    db = await AsyncConnection(path)
    await db.execute("create table numbers (number integer)")
    async with db:
        await db.executemany("insert into numbers values (?)", [(number,) for number in range(count)])
    return db


async def test_thread_affinity_is_kept(world, path):
    """sqlite3 raises ProgrammingError in every thread but the one that made the connection."""
    async with await filled(path, 10) as db:
        cursor = await db.execute("select number from numbers")
        assert await cursor.fetchone() == (0,)
        assert await cursor.fetchmany(2) == [(1,), (2,)]
        assert await cursor.connection is db
        assert [column[0] for column in await cursor.description] == ["number"]
        assert await asyncio.gather(*[db.execute(f"select {n}") for n in range(20)])
        # Any other thread would be the wrong one.
        with pytest.raises(sqlite3.ProgrammingError, match="thread"):
            await bridge.to_thread(db._weft_object.execute, "select 1")
    await db.close()


async def test_rows_in_order_and_all(world, path):
    db = await filled(path, 5000)
    rows = [number async for (number,) in db.execute("select number from numbers order by number")]
    assert rows == list(range(5000))
    async with db.execute("select number from numbers") as cursor:
        batches = [batch async for batch in aiter(cursor).batches()]
    assert [number for batch in batches for (number,) in batch] == rows
    assert max(map(len, batches)) <= 64
    with pytest.raises(sqlite3.ProgrammingError, match="closed cursor"):
        await cursor.fetchone()
    await db.close()


async def test_transactions(world, path):
    async with AsyncConnection(path) as db:
        await db.execute("create table t (a)")
        async with db:
            await db.execute("insert into t values (1)")
        with pytest.raises(ZeroDivisionError):
            async with db:
                await db.execute("insert into t values (2)")
                raise ZeroDivisionError
        assert await (await db.execute("select a from t")).fetchall() == [(1,)]
        assert not await db.in_transaction
        with pytest.raises(sqlite3.OperationalError, match="no such table: missing"):
            await db.execute("select * from missing")
    with pytest.raises(bridge.Closed):
        await db.execute("select 1")


async def test_rows_are_data(world, path):
    async with await filled(path, 3) as db:
        await apply(db, setattr, "row_factory", sqlite3.Row)
        row = await (await db.execute("select * from numbers")).fetchone()
        assert type(row) is sqlite3.Row and row["number"] == 0
    await db.close()


async def test_functions_that_sql_calls(world, path):
    async with AsyncConnection(path) as db:
        here = threading.get_ident()

        async def double(number):
            await asyncio.sleep(0)
            return 2 * number if threading.get_ident() == here else None

        await db.create_function("double", 1, double)
        assert await (await db.execute("select double(21)")).fetchone() == (42,)

        async def fail(number):
            raise ValueError("lost")

        await db.create_function("fail", 1, fail)
        with pytest.raises(sqlite3.OperationalError, match="user-defined function raised exception"):
            await db.execute("select fail(1)")


async def test_blobs_dumps_and_scripts(world, path):
    async with await filled(path, 2) as db:
        await db.executescript("create table b (data blob); insert into b values (zeroblob(10));")
        async with db.blobopen("b", "data", 1) as blob:
            await blob.write(b"hello")
            await blob.seek(0)
            assert await blob.read(5) == b"hello"
            assert await blob[0:2] == b"he"
        lines = [line async for line in db.iterdump()]
        assert lines[0] == "BEGIN TRANSACTION;" and lines[-1] == "COMMIT;"
    await db.close()


@pytest.mark.skipif(not since(3, 12), reason="autocommit came with 3.12")
async def test_an_attribute_that_is_set(world, path):
    async with AsyncConnection(path) as db:
        await apply(db, setattr, "autocommit", True)
        assert await db.autocommit is True


async def test_a_call_that_is_cancelled_is_waited_for(world, path):
    """And its connection is usable afterwards."""
    async with AsyncConnection(path) as db:
        began, gate = threading.Event(), threading.Event()

        def hold():
            began.set()
            gate.wait(10)
            return 1

        await db.create_function("hold", 0, hold)
        task = asyncio.create_task(db.execute("select hold()"))
        while not began.is_set():
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await (await db.execute("select 5")).fetchone() == (5,)


class Entered:
    """What is entered slowly."""

    def __init__(self):
        self.began, self.gate = threading.Event(), threading.Event()
        self.log = []

    def __enter__(self):
        self.began.set()
        assert self.gate.wait(10)
        self.log.append("enter")
        return self

    def __exit__(self, kind, error, trace):
        self.log.append(("exit", kind))

    def close(self):
        self.log.append("close")


@pytest.mark.parametrize("on_cancel", ["wait", "abandon"])
async def test_a_block_that_nobody_comes_into_is_left(world, on_cancel):
    """The task is cancelled while the thread enters: the thread enters, so somebody has to leave."""
    client = await asyncify(Entered, on_cancel=on_cancel)()
    entered = client._weft_object

    async def enter():
        async with client:
            pytest.fail("it must not come here")

    task = asyncio.create_task(enter())
    while not entered.began.is_set():
        await asyncio.sleep(0)
    task.cancel()
    if on_cancel == "abandon":
        with pytest.raises(asyncio.CancelledError):
            await task
        assert entered.log == []
    else:
        await asyncio.sleep(0)
        task.cancel()
    entered.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    while len(entered.log) < 2:
        await asyncio.sleep(0)
    assert entered.log == ["enter", ("exit", asyncio.CancelledError)]
    while bridge.abandoned():
        await asyncio.sleep(0)
    await client.close()
    assert entered.log[2:] == ["close"]


async def test_a_block_that_is_entered_just_when_its_task_is_cancelled(world):
    """The thread has entered and is gone, the task has not heard of it."""
    client = await asyncify(Entered)()
    entered = client._weft_object
    entered.gate.set()

    async def enter():
        async with client:
            pytest.fail("it must not come here")

    task = asyncio.create_task(enter())
    while not (jobs := list(client._weft_client.threads._running)):
        await asyncio.sleep(0)
    # The loop does not turn meanwhile.
    assert entered.began.wait(10)
    while not jobs[0].is_done:
        threading.Event().wait(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert entered.log == ["enter", ("exit", asyncio.CancelledError)]
    await client.close()


async def test_a_client_whose_making_is_cancelled_is_closed(world):
    began, gate = threading.Event(), threading.Event()
    log = []

    class Slow:
        def __init__(self):
            began.set()
            assert gate.wait(10)
            log.append("made")

        def close(self):
            log.append("closed")

    async def use():
        async with asyncify(Slow, one_thread=True)():
            pytest.fail("it must not come here")

    task = asyncio.create_task(use())
    while not began.is_set():
        await asyncio.sleep(0)
    task.cancel()
    # The thread is asked to end before it has made anything.
    for _ in range(5):
        await asyncio.sleep(0)
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == ["made", "closed"]


async def test_the_block_is_left_however_often_it_is_cancelled(world):
    """Leaving waits for its turn behind a call that holds the only thread."""
    gate = threading.Event()
    log = []

    class Held:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            log.append("exit")

        def hold(self):
            gate.wait(10)

    client = await asyncify(Held, threads=1)()
    in_block = asyncio.Event()

    async def use():
        async with client:
            in_block.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(use())
    await in_block.wait()
    holding = asyncio.create_task(client.hold())
    await asyncio.sleep(0)
    for _ in range(5):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == ["exit"]
    await holding
    await client.aclose()


async def test_a_call_that_takes_too_long_says_so(world):
    gate = threading.Event()

    class Slow:
        def work(self):
            gate.wait(10)

    client = await asyncify(Slow, timeout=0.01)()
    with pytest.raises(bridge.StillRunning, match=r"Slow.work> is still running after 0.01 s") as caught:
        await client.work()
    assert "threading.py" in caught.value.where
    gate.set()
    while bridge.abandoned():
        await asyncio.sleep(0)
    await client.aclose()
