"""`asyncify`: which classes are made, what they show, and what is refused."""

from __future__ import annotations

import asyncio
import inspect
import threading

import pytest
from sync_client import Base, Better, Client, Cursor, Record, Row, sync

from weft import bridge
from weft.bridge import AsyncHandle, asyncify

AsyncClient = asyncify(Client)
AsyncOne = asyncify(Client, one_thread=True)


async def test_handles_come_back_as_handles(world):
    async with AsyncClient() as client:
        cursor = await client.cursor()
        assert isinstance(cursor, AsyncHandle)
        assert type(cursor).__name__ == "AsyncCursor"
        assert await cursor.again() is cursor
        assert await cursor.client is client
        assert await client.is_cursor(cursor)
        assert await client.is_cursor(cursor=cursor)
        found = await client.cursors()
        assert isinstance(found[0], AsyncHandle)
        assert found[1:] == [Row((1, 2)), Record(3), {"x": 1}]
        view = memoryview(b"data, though it has a context")
        assert await bridge.apply(client, lambda thing: view) is view
        named = await client.named()
        assert isinstance(named["one"], AsyncHandle) and named["two"] == 2


async def test_class_and_static_methods(world):
    assert await AsyncClient.add(1, 2) == 3
    async with AsyncClient.make("made") as client:
        assert isinstance(client, AsyncClient)
        assert await client.name == "made"
        assert await client.add(3, 4) == 7
        assert type(await client.make("other")) is type(client)
    assert sync(client).closed_times == 1
    with pytest.raises(bridge.Closed, match="ping was not called"):
        await client.ping()


async def test_allow_and_deny(world):
    async with asyncify(Client, hide=("ping", "LIMIT", "Cursor.fetch"))() as client:
        for name in ("ping", "LIMIT"):
            with pytest.raises(AttributeError, match=rf"Client.{name} is hidden: asyncify\(…, hide"):
                getattr(client, name)
            with pytest.raises(AttributeError, match="is hidden"):
                getattr(type(client), name)
        cursor = await client.cursor()
        with pytest.raises(AttributeError, match=r"Cursor.fetch is hidden"):
            cursor.fetch  # noqa: B018
        assert await cursor.again() is cursor
    async with asyncify(Client, only=("cursor", "close"))() as client:
        assert await (await client.cursor()).fetch() == 0
        for name in ("ping", "echo", "name"):
            with pytest.raises(AttributeError, match=rf"Client.{name} is hidden: asyncify\(…, only"):
                getattr(client, name)
    async with AsyncClient() as client:
        with pytest.raises(AttributeError, match="private"):
            client._secret  # noqa: B018
        with pytest.raises(AttributeError, match="no attribute 'missing'"):
            client.missing  # noqa: B018
        with pytest.raises(AttributeError, match="no attribute 'missing'"):
            AsyncClient.missing  # noqa: B018


async def test_direct(world):
    made = asyncify(Client, direct=("name", "size", "where", "Cursor.closed"))
    client = made("one")
    with pytest.raises(bridge.Closed, match="await it first"):
        client.size  # noqa: B018
    async with client:
        assert client.name == "one" and client.size == 5
        assert client.where() is threading.current_thread()
        client.name = "two"
        assert sync(client).name == "two"
        assert (await client.cursor()).closed is False
        with pytest.raises(AttributeError, match="'gate' can't be set here.*apply"):
            client.gate = 5


async def test_inheritance(world):
    class Mine(AsyncClient):
        def __init__(self, *args):
            super().__init__(*args)
            self.counter = 1

        async def pings(self):
            self.counter += 1
            return [await self.ping(), self.counter]

    AsyncBetter, AsyncBase = asyncify(Better), asyncify(Base)
    assert issubclass(AsyncBetter, AsyncClient) and issubclass(AsyncClient, AsyncBase)
    assert issubclass(Mine, AsyncBase) and not issubclass(AsyncClient, Mine)
    assert not issubclass(AsyncBase, AsyncClient) and not issubclass(AsyncClient, AsyncBetter)
    assert issubclass(AsyncOne, AsyncClient) and issubclass(AsyncClient, AsyncHandle)
    assert [each.__name__ for each in AsyncBetter.__mro__[:3]] == ["AsyncBetter", "AsyncClient", "AsyncBase"]
    async with AsyncBetter() as better, Mine("mine") as mine:
        assert await better.extra() == "extra" and await better.ping() == "pong"
        assert isinstance(better, AsyncClient) and isinstance(better, AsyncBase)
        assert not isinstance(better, Mine) and not isinstance(5, AsyncClient)
        assert await mine.pings() == ["pong", 2]
        assert isinstance(await better.cursor(), asyncify(Cursor))
        with pytest.raises(AttributeError, match="can't be set here"):
            mine.log = []
    async with Mine.make("made") as mine:
        assert type(mine) is Mine


def test_what_a_class_says_of_itself():
    assert AsyncClient.__doc__ == "A client."
    assert str(inspect.signature(AsyncClient)) == "(name='x', *, gate=None)"
    assert str(inspect.signature(AsyncClient.cursor)) == "(self, count=3)"
    assert AsyncClient.make.__name__ == "make"


def test_what_is_no_class():
    async def coroutine_function():
        pass

    with pytest.raises(TypeError, match=r"coroutine_function.* is an async function: it needs no asyncify"):
        asyncify(coroutine_function)
    with pytest.raises(TypeError, match=r"takes a class, not .*open.*to_thread"):
        asyncify(open)
    with pytest.raises(TypeError, match=r"takes a class, not .*asyncify its class, Client"):
        asyncify(Client())
    with pytest.raises(TypeError, match="second time"):
        asyncify(AsyncClient)

    class Native:
        async def work(self):
            pass

    with pytest.raises(TypeError, match="asynchronous already"):
        asyncify(Native)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"threads": 0}, ValueError, "at least 1"),
        ({"ahead": -1}, ValueError, "0 makes none ahead"),
        ({"hide": ("pnig",)}, ValueError, "has no 'pnig'"),
        ({"only": ("pnig",)}, ValueError, "has no 'pnig'"),
        ({"direct": "name"}, TypeError, "one text"),
        ({"on_cancel": "kill"}, ValueError, "'wait' or 'abandon'"),
    ],
)
def test_options_are_checked(options, error, words):
    with pytest.raises(error, match=words):
        asyncify(Client, **options)


async def test_what_is_asynchronous_already_is_refused(world):
    class Pretends:
        def get(self):
            return asyncio.sleep(0)

        def close(self):
            pass

    async with asyncify(Pretends)() as client:
        with pytest.raises(TypeError, match="asynchronous already"):
            await client.get()
