"""websockets: its sdist ships no tests. A server and clients of its asyncio implementation, plain and over TLS."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trustme
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


@contextlib.asynccontextmanager
async def pair(
    handler: Callable[[ServerConnection], Awaitable[None]] = echo, **keywords: object
) -> AsyncIterator[tuple[ClientConnection, Server]]:
    async with asyncio.timeout(20), serve(handler, "127.0.0.1", 0, **keywords) as server:
        port = server.sockets[0].getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}", max_size=2**23) as client:
            yield client, server


def session(body: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """A test that runs a coroutine function by `asyncio.run`."""

    def test() -> None:
        asyncio.run(body())

    return test


@session
async def test_text_and_bytes() -> None:
    async with pair() as (client, _):
        for message in ("", "héllo", b"", b"\x00\xff" * 1000):
            await client.send(message)
            assert await client.recv() == message


@session
async def test_large_messages_and_fragments() -> None:
    async with pair(max_size=2**23) as (client, _):
        large = bytes(range(256)) * 16384  # 4 MiB
        await client.send(large)
        assert await client.recv() == large
        await client.send(["one ", "two ", "three"])
        assert [part async for part in client.recv_streaming()] == ["one two three"]


@session
async def test_many_in_flight() -> None:
    async with pair() as (client, _):

        async def send() -> None:
            for number in range(2000):
                await client.send(str(number))

        sending = asyncio.create_task(send())
        assert [await client.recv() for _ in range(2000)] == [str(number) for number in range(2000)]
        await sending


@session
async def test_ping_and_keepalive() -> None:
    async with pair(ping_interval=0.02, ping_timeout=5) as (client, server):
        pong = await client.ping(b"here")
        assert await pong >= 0
        (connection,) = server.connections
        while not connection.latency:
            await asyncio.sleep(0.01)


@session
async def test_orderly_close_from_the_client() -> None:
    codes = asyncio.Queue()

    async def handler(connection: ServerConnection) -> None:
        with pytest.raises(ConnectionClosedOK):
            await connection.recv()
        codes.put_nowait((connection.close_code, connection.close_reason))

    async with pair(handler) as (client, _):
        await client.close(1001, "away")
        assert await codes.get() == (1001, "away")
        with pytest.raises(ConnectionClosedOK):
            await client.send("late")


@session
async def test_a_handler_that_raises() -> None:
    async def handler(connection: ServerConnection) -> None:
        raise ValueError("meant")

    async with pair(handler) as (client, _):
        with pytest.raises(ConnectionClosedError) as caught:
            await client.recv()
        assert caught.value.rcvd is not None and caught.value.rcvd.code == 1011


@session
async def test_a_lost_connection() -> None:
    async def handler(connection: ServerConnection) -> None:
        connection.transport.abort()
        await connection.wait_closed()

    async with pair(handler) as (client, _):
        with pytest.raises(ConnectionClosedError):
            await client.recv()
        assert client.close_code == 1006


@session
async def test_recv_can_be_cancelled() -> None:
    async with pair() as (client, _):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await client.recv()
        await client.send("after")
        assert await client.recv() == "after"


@session
async def test_broadcast_to_many() -> None:
    everybody: set[ServerConnection] = set()
    arrived = asyncio.Semaphore(0)

    async def handler(connection: ServerConnection) -> None:
        everybody.add(connection)
        arrived.release()
        await connection.wait_closed()

    async with asyncio.timeout(20), serve(handler, "127.0.0.1", 0) as server, contextlib.AsyncExitStack() as stack:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        clients = [await stack.enter_async_context(connect(url)) for _ in range(30)]
        for _ in clients:
            await arrived.acquire()
        broadcast(everybody, "news")
        assert await asyncio.gather(*(client.recv() for client in clients)) == ["news"] * 30


@session
async def test_a_server_that_closes_tells_its_clients() -> None:
    async with pair() as (client, server):
        server.close()
        with pytest.raises(ConnectionClosedOK):
            await client.recv()
        assert client.close_code == 1001
        await server.wait_closed()


@session
async def test_a_request_that_is_refused() -> None:
    def refuse(connection: ServerConnection, request: object) -> object:
        return connection.respond(403, "no\n")

    with pytest.raises(InvalidStatus) as caught:
        async with pair(process_request=refuse):
            pass
    assert caught.value.response.status_code == 403


@session
async def test_over_tls_and_back_pressure() -> None:
    authority = trustme.CA()
    inside, outside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(inside)
    authority.configure_trust(outside)

    async def flood(connection: ServerConnection) -> None:
        for _ in range(200):
            await connection.send(b"x" * 50_000)

    async with asyncio.timeout(20), serve(flood, "localhost", 0, ssl=inside, compression=None) as server:
        port = server.sockets[0].getsockname()[1]
        async with connect(f"wss://localhost:{port}", ssl=outside, compression=None) as client:
            assert sum([len(message) async for message in client]) == 200 * 50_000
        assert client.close_code == 1000
