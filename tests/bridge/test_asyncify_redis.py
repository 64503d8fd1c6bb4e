"""redis-py's synchronous client made asynchronous, with a Redis server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import database_servers
import pytest

from weft import bridge
from weft.bridge import AsyncItems, asyncify

redis = database_servers.package("redis")

AsyncRedis = asyncify(redis.Redis)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with database_servers.redis() as port:
        yield port


async def test_commands_in_the_pool(world, port):
    async with AsyncRedis(port=port, decode_responses=True) as client:
        await client.flushall()
        assert await client.set("name", "weft") is True
        assert await client.get("name") == "weft"
        assert await asyncio.gather(*[client.incr("n") for _ in range(100)]) != []
        assert await client.get("n") == "100"
        await client.hset("h", mapping={"a": 1, "b": 2})
        assert await client.hgetall("h") == {"a": "1", "b": "2"}
        assert await client["name"] == "weft"
        with pytest.raises(redis.ResponseError, match="not an integer"):
            await client.incr("name")


async def test_never_more_connections_than_threads(world, port):
    """The server counts: each call at once takes a connection of its own."""
    async with asyncify(redis.Redis, threads=4)(port=port) as client:
        await client.flushall()
        script = "local t = redis.call('INCR', 'calls') return t"
        await asyncio.gather(*[client.eval(script, 0) for _ in range(200)])
        assert int(await client.get("calls")) == 200
        names = await client.client_list()
        assert len(names) <= 4 + 1


async def test_pipelines(world, port):
    async with AsyncRedis(port=port) as client:
        await client.flushall()
        async with client.pipeline() as pipe:
            assert await pipe.set("a", 1) is pipe
            assert await (await pipe.incr("a")).incr("a") is pipe
            assert await pipe.execute() == [True, 2, 3]
        async with client.pipeline() as pipe:
            await pipe.watch("a")
            assert await pipe.get("a") == b"3"
            await pipe.multi()
            await pipe.set("a", 10)
            await client.set("a", 5)
            with pytest.raises(redis.WatchError):
                await pipe.execute()

        async def change(pipe):
            await pipe.multi()
            await pipe.incrby("a", 100)

        assert await client.transaction(change, "a") == [105]


async def test_scan_iter(world, port):
    async with AsyncRedis(port=port) as client:
        await client.flushall()
        await client.mset({f"key:{number}": number for number in range(500)})
        assert {key async for key in client.scan_iter("key:*", count=50)} == {b"key:%d" % n for n in range(500)}
        items = await client.scan_iter()
        assert isinstance(items, AsyncItems)
        async for _ in items:
            break
        await items.aclose()
        assert await client.ping() is True


async def test_publish_and_subscribe(world, port):
    async with AsyncRedis(port=port) as client:
        async with client.pubsub(ignore_subscribe_messages=True) as pubsub:
            await pubsub.subscribe("news")
            assert await pubsub.get_message(timeout=5) is None  # the subscription itself
            listening = aiter(pubsub.listen())
            assert await client.publish("news", "one") == 1
            assert await client.publish("news", "two") == 1
            assert (await anext(listening))["data"] == b"one"
            assert (await anext(listening))["data"] == b"two"
            # From outside, as nothing can end a thread that waits for a message.
            await pubsub.unsubscribe()
            assert [message async for message in listening] == []


async def test_messages_go_to_an_async_function(world, port):
    got = asyncio.Queue()

    async def handle(message):
        await got.put((message["data"], threading.current_thread()))

    async with AsyncRedis(port=port) as client, client.pubsub() as pubsub:
        await pubsub.subscribe(news=handle)
        await pubsub.get_message(timeout=5)
        await client.publish("news", "one")
        while got.empty():
            await pubsub.get_message(timeout=5)
        assert got.get_nowait() == (b"one", threading.current_thread())


async def test_locks(world, port):
    """A lock of redis-py keeps its token in the thread, unless it is told not to."""
    async with AsyncRedis(port=port) as client:
        await client.flushall()
        async with client.lock("door", timeout=10, thread_local=False) as lock:
            assert await lock.owned() is True
            other = await client.lock("door", blocking=False, thread_local=False)
            assert await other.acquire() is False
        assert await client.exists("lock:door", "door") == 0
    async with asyncify(redis.Redis, one_thread=True)(port=port) as client, client.lock("door", timeout=10):
        assert await client.exists("door") == 1


async def test_class_methods_and_classes(world, port):
    async with AsyncRedis.from_url(f"redis://127.0.0.1:{port}/0", decode_responses=True) as client:
        assert isinstance(client, AsyncRedis)
        assert await client.echo("hello") == "hello"
    with pytest.raises(bridge.Closed):
        await client.ping()
    assert issubclass(AsyncRedis, asyncify(redis.commands.core.BasicKeyCommands))


async def test_a_blocking_command_that_is_cancelled(world, port):
    """The thread waits for the server; the task, by its contract, for the thread."""
    async with AsyncRedis(port=port) as client:
        await client.flushall()
        task = asyncio.create_task(client.blpop("list", timeout=10))
        while not [each for each in await client.client_list() if each["cmd"] == "blpop"]:
            await asyncio.sleep(0)
        task.cancel()
        await client.rpush("list", "item")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await client.ping() is True


async def test_a_connection_that_is_refused(world):
    async with AsyncRedis(port=1) as client:
        with pytest.raises(redis.ConnectionError, match="refused"):
            await client.ping()


async def test_hidden_commands(world, port):
    async with asyncify(redis.Redis, hide=("flushall", "flushdb"))(port=port) as client:
        with pytest.raises(AttributeError, match="Redis.flushall is hidden"):
            await client.flushall()
        assert await client.ping() is True
