"""sqlite3 made asynchronous: objects that belong to the thread that made them."""

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
