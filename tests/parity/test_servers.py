"""Servers: when they listen, what closing them waits for and ends, how many wait, sockets accepted by somebody else."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl

import pytest
from tcp_pair import Recorder
from tls_by_hand import HandPeer
from tls_pair import server_context
from worlds import since, turns


@contextlib.asynccontextmanager
async def serving(**options):
    """(server, its address, the protocols that it has made)"""
    born = []

    def serve():
        born.append(Recorder())
        return born[-1]

    server = await asyncio.get_running_loop().create_server(serve, "127.0.0.1", 0, **options)
    try:
        yield server, server.sockets[0].getsockname(), born
    finally:
        server.close()
        for protocol in born:
            if not protocol.lost.done():
                protocol.transport.abort()
            await protocol.lost
        await server.wait_closed()


async def connected(address, born):
    """A client's protocol and the server's, both connected."""
    count = len(born)
    _, client = await asyncio.get_running_loop().create_connection(Recorder, *address)
    while len(born) == count:
        await turns()
    await born[-1].made
    return client, born[-1]


async def parted(client):
    client.transport.close()
    await client.lost


async def test_it_listens_when_it_is_told_to(world):
    loop = asyncio.get_running_loop()
    async with serving(start_serving=False) as (server, address, born):
        with pytest.raises(ConnectionRefusedError):
            await loop.create_connection(Recorder, *address)
        assert not server.is_serving() and len(server.sockets) == 1
        await server.start_serving()
        assert server.is_serving()
        client, _ = await connected(address, born)
        await parted(client)


async def test_serve_forever_begins_to_listen(world):
    async with serving(start_serving=False) as (server, address, born):
        task = asyncio.ensure_future(server.serve_forever())
        await turns()
        assert server.is_serving()
        client, _ = await connected(address, born)
        await parted(client)
        await born[0].lost
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("how", ("cancelled", "closed"))
def test_the_end_of_serve_forever(world, same, how):
    """With a connection that lives: it is waited for from 3.12 on, and ended from 3.14 on."""

    async def body(world):
        async with serving() as (server, address, born):
            client, accepted = await connected(address, born)
            task = asyncio.ensure_future(server.serve_forever())
            await turns(2)
            if how == "cancelled":
                task.cancel()
            else:
                server.close()
            await turns(5)
            seen = [task.done(), server.is_serving(), server.sockets, list(accepted.events)]
            if accepted.lost.done():
                await client.lost
            else:
                await parted(client)
                await accepted.lost
            (outcome,) = await asyncio.gather(task, return_exceptions=True)
            return seen, type(outcome)

    seen, outcome = same(body)["returned"]
    assert outcome == "CancelledError"
    assert seen[0] is (since(3, 14) or not since(3, 12))
    assert ("lost" in seen[3]) is since(3, 14)


@pytest.mark.parametrize("when", ("before", "between", "after"))
def test_who_waits_for_the_end(world, same, when):
    """Several at once; before the server is closed, while its last connection lives, and when all is over."""

    async def body(world):
        loop = asyncio.get_running_loop()
        async with serving() as (server, address, born):
            client, accepted = await connected(address, born)

            def waiters():
                return [loop.create_task(server.wait_closed()) for _ in range(2)]

            tasks = waiters() if when == "before" else []
            await turns(2)
            seen = [[task.done() for task in tasks]]
            server.close()
            tasks = tasks or (waiters() if when == "between" else [])
            await turns(2)
            seen.append([task.done() for task in tasks])
            await parted(client)
            await accepted.lost
            await turns(2)
            tasks = tasks or waiters()
            await turns(2)
            seen.append([task.done() for task in tasks])
            return seen

    assert same(body)["returned"][2] == [True, True]


async def test_the_context_manager(world):
    async with serving() as (server, address, born):
        async with server as entered:
            assert entered is server
            client, _ = await connected(address, born)
            await parted(client)
            await born[0].lost
        assert not server.is_serving() and server.sockets == ()


@pytest.mark.weft_only  # asyncio: TypeError, as there are no sockets to go through
async def test_a_closed_server_does_not_start_again(world):
    async with serving() as (server, _, _):
        server.close()
        with pytest.raises(RuntimeError, match=r"^server <Server sockets=\(\)> is closed$"):
            await server.start_serving()
        assert not server.is_serving()


@pytest.mark.parametrize("method", ("close_clients", "abort_clients"))
async def test_connections_that_a_server_ends(world, method):
    if world.name == "asyncio" and not since(3, 13):
        pytest.skip("asyncio has it from 3.13 on")
    async with serving() as (server, address, born):
        getattr(server, method)()
        pairs = [await connected(address, born) for _ in range(3)]
        pairs[0][1].transport.close()
        assert await pairs[0][1].lost is None
        for _, accepted in pairs[1:]:
            accepted.transport.write(b"x" * 8_000_000)
        getattr(server, method)()
        assert server.is_serving()
        for client, accepted in pairs[1:]:
            assert await accepted.lost is None
            await client.lost
            assert (len(client.data) == 8_000_000) is (method == "close_clients")
        # Another may come.
        client, _ = await connected(address, born)
        await parted(client)


async def test_how_many_wait(world, tmp_path):
    """Where the loop does not run, nobody accepts: the kernel queues `backlog` connections and one more."""
    loop = asyncio.get_running_loop()
    path, born = str(tmp_path / "socket"), []

    def serve():
        born.append(Recorder())
        return born[-1]

    server = await loop.create_unix_server(serve, path, backlog=2)
    clients = [socket.socket(socket.AF_UNIX) for _ in range(4)]
    for client in clients:
        client.setblocking(False)
    for client in clients[:3]:
        client.connect(path)
    with pytest.raises(BlockingIOError):
        clients[3].connect(path)
    while len(born) < 3:
        await turns()
    clients[3].connect(path)
    while len(born) < 4:
        await turns()
    for client in clients:
        client.close()
    for protocol in born:
        assert await protocol.lost is None
    server.close()
    await server.wait_closed()


async def test_what_an_accepted_socket_is_like(world):
    async with serving() as (server, address, born):
        client, accepted = await connected(address, born)
        for protocol in (client, accepted):
            sock = protocol.transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert sock.gettimeout() == 0 and not sock.get_inheritable()
            assert sock.getsockname() == protocol.transport.get_extra_info("sockname")
        await parted(client)


@pytest.mark.weft_only  # asyncio leaves the socket to the garbage collector
@pytest.mark.loop_debug
async def test_a_protocol_factory_that_fails(world):
    def bad():
        raise ArithmeticError("factory")

    loop = asyncio.get_running_loop()
    async with await loop.create_server(bad, "127.0.0.1", 0) as server:
        for _ in range(2):
            _, client = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
            await client.lost
            (report,) = world.take_reports()
            assert report["message"] == "Error on transport creation for incoming connection"
            assert isinstance(report["exception"], ArithmeticError)


async def test_a_connection_made_that_fails(world):
    class Bad(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            raise ArithmeticError("connection_made")

    loop = asyncio.get_running_loop()
    made = loop.create_future()

    def serve():
        made.set_result(Bad())
        return made.result()

    async with await loop.create_server(serve, "127.0.0.1", 0) as server:
        _, client = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
        protocol = await made
        await protocol.made
        # The connection lives; it was only a callback that failed.
        client.transport.write(b"hello")
        assert await protocol.received(5) == b"hello"
        protocol.transport.close()
        await protocol.lost
        await client.lost
    (report,) = world.take_reports()
    assert isinstance(report["exception"], ArithmeticError)
    assert report["message"].startswith("Exception in callback")


# ------------------------------------------------------------------------------------------ connect_accepted_socket


async def accepted_by_hand():
    """(an accepted socket, the address of whoever may connect) with a client that is being connected."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        client = socket.socket()
        client.setblocking(False)
        await loop.sock_connect(client, listening.getsockname())
        accepted, _ = await loop.sock_accept(listening)
    return accepted, client


@pytest.mark.parametrize("tls", (False, True))
@pytest.mark.parametrize("debug", (False, True))
def test_a_socket_that_was_accepted_by_hand(world, same, tls, debug):
    async def body(world):
        loop = asyncio.get_running_loop()
        accepted, client = await accepted_by_hand()
        if tls:
            peer = HandPeer()
            await loop.create_connection(lambda: peer, sock=client)
        else:
            _, peer = await loop.create_connection(Recorder, sock=client)
        options = {"ssl": server_context(), "ssl_handshake_timeout": 5, "ssl_shutdown_timeout": 5} if tls else {}
        transport, protocol = await loop.connect_accepted_socket(Recorder, accepted, **options)
        transport.write(b"hello")
        assert await (peer.heard(5) if tls else peer.received(5)) == b"hello"
        seen = protocol.events, transport.get_extra_info("peername") is not None, accepted.gettimeout()
        transport.abort()
        await protocol.lost
        peer.transport.abort()
        await peer.lost
        return seen

    assert same(body, debug=debug)["returned"]


WRONG = {
    "a datagram socket": {"sock": "datagram"},
    "an SSLSocket": {"sock": "ssl"},
    "ssl_handshake_timeout alone": {"ssl_handshake_timeout": 1},
    "ssl_shutdown_timeout alone": {"ssl_shutdown_timeout": 1},
    "ssl as a bool": {"ssl": True},
    "no handshake time": {"ssl": "context", "ssl_handshake_timeout": 0},
}


@pytest.mark.parametrize("case", WRONG)
def test_words_about_an_accepted_socket(world, same, case):
    if case in ("ssl as a bool", "no handshake time") and not since(3, 14):
        pytest.skip("asyncio leaves the socket to the garbage collector before 3.14")

    async def body(world):
        options = dict(WRONG[case])
        kind = socket.SOCK_DGRAM if options.get("sock") == "datagram" else socket.SOCK_STREAM
        sock = socket.socket(socket.AF_INET, kind)
        if options.pop("sock", None) == "ssl":
            sock = ssl.create_default_context().wrap_socket(sock, do_handshake_on_connect=False, server_hostname="x")
        if options.get("ssl") == "context":
            options["ssl"] = server_context()
        with sock:
            try:
                await asyncio.get_running_loop().connect_accepted_socket(Recorder, sock, **options)
            except (TypeError, ValueError) as error:
                return type(error), str(error).split("<socket")[0]

    assert same(body)["returned"]
