"""psycopg's synchronous connections made asynchronous, with a PostgreSQL server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import database_servers
import pytest

from weft import bridge
from weft.bridge import apply, asyncify

psycopg = database_servers.package("psycopg")

AsyncConnection = asyncify(psycopg.Connection)


@pytest.fixture(scope="module")
def conninfo() -> Iterator[str]:
    with database_servers.postgresql() as conninfo:
        yield conninfo


@pytest.fixture
def table(conninfo):
    with psycopg.connect(conninfo) as connection:
        connection.execute("drop table if exists numbers")
        connection.execute("create table numbers (number integer, word text)")
        connection.execute("insert into numbers select n, 'word ' || n from generate_series(0, 999) as n")
    return conninfo


async def test_queries(world, table):
    async with AsyncConnection.connect(table) as connection:
        assert isinstance(connection, AsyncConnection)
        cursor = await connection.execute("select number from numbers where number < %s order by 1", (3,))
        assert await cursor.fetchall() == [(0,), (1,), (2,)]
        assert await cursor.rowcount == 3
        assert await cursor.connection is connection
        with pytest.raises(psycopg.errors.DivisionByZero):
            await connection.execute("select 1 / 0")
    with pytest.raises(bridge.Closed):
        await connection.execute("select 1")


async def test_cursors(world, table):
    async with AsyncConnection.connect(table) as connection:
        async with connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
            assert await cursor.execute("select * from numbers order by number") is cursor
            assert await cursor.fetchone() == {"number": 0, "word": "word 0"}
            assert [row["number"] async for row in cursor] == list(range(1, 1000))
        assert await cursor.closed is True
        async with connection.cursor() as cursor:
            rows = [number async for (number,) in cursor.stream("select number from numbers order by number")]
        assert rows == list(range(1000))


async def test_a_cursor_of_the_server(world, table):
    async with AsyncConnection.connect(table) as connection:
        async with connection.cursor("mine") as cursor:
            assert type(cursor).__name__ == "AsyncServerCursor"
            assert isinstance(cursor, asyncify(psycopg.ServerCursor))
            await apply(cursor, setattr, "itersize", 100)
            await cursor.execute("select number from numbers order by number")
            assert [number async for (number,) in cursor] == list(range(1000))
            await cursor.scroll(0, mode="absolute")
            assert await cursor.fetchone() == (0,)


async def test_transactions(world, table):
    async with AsyncConnection.connect(table, autocommit=True) as connection:

        async def count():
            return (await (await connection.execute("select count(*) from numbers")).fetchone())[0]

        async with connection.transaction():
            await connection.execute("insert into numbers values (1000)")
            with pytest.raises(ZeroDivisionError):
                async with connection.transaction() as inner:
                    assert await inner.connection is connection
                    await connection.execute("delete from numbers")
                    assert await count() == 0
                    raise ZeroDivisionError
            assert await count() == 1001
        assert await count() == 1001
        async with connection.transaction():
            await connection.execute("delete from numbers")
            raise psycopg.Rollback
        assert await count() == 1001


async def test_a_transaction_whose_task_is_cancelled(world, table):
    async with AsyncConnection.connect(table, autocommit=True) as connection:
        in_block = asyncio.Event()

        async def work():
            async with connection.transaction():
                await connection.execute("delete from numbers")
                in_block.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(work())
        await in_block.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await (await connection.execute("select count(*) from numbers")).fetchone()) == (1000,)
        status = await (await connection.info).transaction_status
        assert status == psycopg.pq.TransactionStatus.IDLE


async def test_copy(world, table):
    async with AsyncConnection.connect(table) as connection, connection.cursor() as cursor:
        await cursor.execute("create temporary table copied (number integer, word text)")
        async with cursor.copy("copy copied from stdin") as copy:
            for number in range(200):
                await copy.write_row((number, f"word {number}"))
        async with cursor.copy("copy (select number from copied order by number) to stdout") as copy:
            assert [number async for (number,) in copy.rows()] == [str(number) for number in range(200)]
        async with cursor.copy("copy copied to stdout") as copy:
            data = b"".join([bytes(block) async for block in copy])
        assert data.count(b"\n") == 200
        with pytest.raises(ZeroDivisionError):
            async with cursor.copy("copy copied from stdin") as copy:
                await copy.write_row((5, "lost"))
                raise ZeroDivisionError


async def test_connections_at_once(world, conninfo):
    """Each its own pool, and its own session of the server."""
    connections = await asyncio.gather(*[AsyncConnection.connect(conninfo) for _ in range(5)])
    pids = [(await (await each.execute("select pg_backend_pid()")).fetchone())[0] for each in connections]
    assert len(set(pids)) == 5
    for each in connections:
        await each.close()


async def test_a_block_that_closes_the_connection_ends_the_client(world, conninfo):
    connection = await AsyncConnection.connect(conninfo)
    async with connection:
        await connection.execute("select 1")
    with pytest.raises(bridge.Closed):
        await connection.execute("select 1")


async def test_notifications(world, conninfo):
    got = []

    async def note(notification):
        got.append(notification.payload)

    async with AsyncConnection.connect(conninfo, autocommit=True) as connection:
        await connection.add_notify_handler(note)
        await connection.execute("listen news")
        await connection.execute("notify news, 'one'")
        assert got == ["one"]
        await connection.remove_notify_handler(note)
        await connection.execute("notify news, 'two'")
        assert [each.payload async for each in connection.notifies(timeout=5, stop_after=1)] == ["two"]


async def test_a_query_that_is_cancelled_at_the_server(world, conninfo):
    """`cancel` goes by another thread, while the query holds one."""
    async with AsyncConnection.connect(conninfo, autocommit=True) as connection:
        pid = (await (await connection.execute("select pg_backend_pid()")).fetchone())[0]
        task = asyncio.create_task(connection.execute("select pg_sleep(60)"))
        async with AsyncConnection.connect(conninfo, autocommit=True) as other:
            query = "select 1 from pg_stat_activity where pid = %s and wait_event = 'PgSleep'"
            while not await (await other.execute(query, (pid,))).fetchone():
                await asyncio.sleep(0)
        await connection.cancel_safe()
        with pytest.raises(psycopg.errors.QueryCanceled):
            await task
