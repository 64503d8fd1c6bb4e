"""TCP servers and connections: life of a server, many connections, addresses, refusals in asyncio's words, what is known."""

from __future__ import annotations

import asyncio
import socket

import pytest
from tcp_pair import Pair, Recorder
from worlds import turns


async def test_extra_info(world):
    async with Pair() as pair:
        sock = pair.transport.get_extra_info("socket")
        assert sock.family == socket.AF_INET
        assert sock.type == socket.SOCK_STREAM
        assert pair.transport.get_extra_info("sockname") == sock.getsockname()
        assert pair.transport.get_extra_info("peername") == pair.listener.sockets[0].getsockname()
        assert pair.transport.get_extra_info("no such thing") is None
        assert pair.transport.get_extra_info("no such thing", "default") == "default"
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.fileno() >= 0
        with pytest.raises((AttributeError, TypeError)):
            sock.recv(1)


async def test_server_life(world):
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(Recorder, "127.0.0.1", 0, start_serving=False)
    assert isinstance(listener, asyncio.AbstractServer)
    assert not listener.is_serving()
    assert listener.get_loop() is loop
    await listener.start_serving()
    await listener.start_serving()
    assert listener.is_serving()
    assert len(listener.sockets) == 1
    assert isinstance(listener.sockets, tuple)
    listener.close()
    listener.close()
    assert not listener.is_serving()
    assert listener.sockets == ()
    await listener.wait_closed()


async def test_serve_forever_is_cancelled_and_closes(world):
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(Recorder, "127.0.0.1", 0)
    task = asyncio.ensure_future(listener.serve_forever())
    await turns(3)
    with pytest.raises(RuntimeError, match="is already being awaited on serve_forever"):
        await listener.serve_forever()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not listener.is_serving()


def test_a_closed_loop_serves_nothing(world):
    """Asked by another loop. Made before and started now, or both now."""
    loop = world.new_loop()
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        listener = loop.run_until_complete(loop.create_server(Recorder, sock=first, start_serving=False))
        loop.close()
        for started in (listener.start_serving(), loop.create_server(Recorder, sock=second)):
            with pytest.raises(RuntimeError, match="^Event loop is closed$"):
                world.run(started)


async def test_closed_server_refuses(world):
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(Recorder, "127.0.0.1", 0)
    address = listener.sockets[0].getsockname()
    listener.close()
    await listener.wait_closed()
    with pytest.raises(ConnectionRefusedError):
        await loop.create_connection(Recorder, *address)
    with pytest.raises(RuntimeError, match="is closed"):
        await listener.serve_forever()


async def test_many_connections(world):
    loop, servers = asyncio.get_running_loop(), []

    class Echo(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport
            servers.append(self)

        def data_received(self, data):
            self.transport.write(data)

    async with await loop.create_server(Echo, "127.0.0.1", 0) as listener:
        address = listener.sockets[0].getsockname()
        clients = await asyncio.gather(*(loop.create_connection(Recorder, *address) for _ in range(100)))
        for number, (transport, _) in enumerate(clients):
            transport.write(b"%03d" % number)
        for number, (_, client) in enumerate(clients):
            assert await client.received(3) == b"%03d" % number
        for transport, client in clients:
            transport.close()
            await client.lost
    assert len(servers) == 100
    while not all(each.transport.get_extra_info("socket").fileno() < 0 for each in servers):
        await asyncio.sleep(0)


@pytest.mark.weft_only  # asyncio accepts in a task, and leaks the socket here
async def test_protocol_factory_that_raises(world):
    loop = asyncio.get_running_loop()

    def bad():
        raise ArithmeticError("factory")

    async with await loop.create_server(Recorder, "127.0.0.1", 0) as listener:
        with pytest.raises(ArithmeticError):
            await loop.create_connection(bad, *listener.sockets[0].getsockname())


async def test_connection_by_name_and_to_a_given_socket(world):
    loop = asyncio.get_running_loop()
    async with await loop.create_server(Recorder, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        for options in (
            {"host": "localhost", "port": port, "family": socket.AF_INET},
            {"host": "127.0.0.1", "port": port, "local_addr": ("127.0.0.1", 0)},
            {"host": "localhost", "port": port, "happy_eyeballs_delay": 0.25},
            {"sock": connected(port)},
        ):
            transport, client = await loop.create_connection(Recorder, **options)
            transport.abort()
            await client.lost
        await turns(5)


def connected(port):
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setblocking(False)
    return sock


CONNECT_ERRORS = {
    "nothing": {},
    "host and sock": {"host": "127.0.0.1", "port": 1, "sock": 5},
    "a datagram socket": {"sock": "datagram"},
    "server_hostname alone": {"host": "127.0.0.1", "port": 1, "server_hostname": "x"},
    "ssl without a name": {"sock": "stream", "ssl": True},
    "ssl timeout alone": {"host": "127.0.0.1", "port": 1, "ssl_handshake_timeout": 1},
}


@pytest.mark.parametrize("case", CONNECT_ERRORS)
def test_connection_words(world, same, case):
    async def body(world):
        options = dict(CONNECT_ERRORS[case])
        kind = {"datagram": socket.SOCK_DGRAM, "stream": socket.SOCK_STREAM}.get(options.get("sock"))
        with socket.socket(socket.AF_INET, kind or socket.SOCK_STREAM) as sock:
            sock.setblocking(False)
            if kind is not None:
                options["sock"] = sock
            try:
                await asyncio.get_running_loop().create_connection(Recorder, **options)
            except ValueError as error:
                return str(error).split("<socket")[0]

    assert same(body)["returned"]


SERVER_ERRORS = {
    "nothing": {},
    "host and sock": {"host": "127.0.0.1", "port": 1, "sock": 5},
    "a datagram socket": {"sock": "datagram"},
    "ssl as a bool": {"host": "127.0.0.1", "port": 0, "ssl": True},
    "ssl timeout alone": {"host": "127.0.0.1", "port": 0, "ssl_handshake_timeout": 1},
}


@pytest.mark.parametrize("case", SERVER_ERRORS)
def test_server_words(world, same, case):
    async def body(world):
        options = dict(SERVER_ERRORS[case])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            if options.get("sock") == "datagram":
                options["sock"] = sock
            try:
                await asyncio.get_running_loop().create_server(Recorder, **options)
            except (ValueError, TypeError) as error:
                return type(error), str(error).split("<socket")[0]

    assert same(body)["returned"]


def test_address_in_use(world, same):
    async def body(world):
        loop = asyncio.get_running_loop()
        async with await loop.create_server(Recorder, "127.0.0.1", 0) as listener:
            address = listener.sockets[0].getsockname()
            try:
                await loop.create_server(Recorder, *address)
            except OSError as error:
                return error.errno, str(error).replace(str(address[1]), "PORT")

    assert same(body)["returned"]


def test_refused(world, same):
    async def body(world):
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
            try:
                await asyncio.get_running_loop().create_connection(Recorder, "127.0.0.1", port)
            except OSError as error:
                return type(error), error.errno, str(error).replace(str(port), "PORT")

    assert same(body)["returned"][0] == "ConnectionRefusedError"


@pytest.mark.weft_only  # asyncio accepts in a task, and leaks the socket here
async def test_cancelled_connect_leaves_nothing(world):
    loop = asyncio.get_running_loop()
    async with await loop.create_server(Recorder, "127.0.0.1", 0, backlog=1) as listener:
        address = listener.sockets[0].getsockname()
        task = asyncio.ensure_future(loop.create_connection(Recorder, *address))
        await turns()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def test_unclosed_transport_warns(world):
    import gc
    import warnings

    async def body():
        left, right = socket.socketpair()
        left.setblocking(False)
        transport, _ = await asyncio.get_running_loop().create_connection(Recorder, sock=left)
        transport.pause_reading()
        right.close()
        return transport

    loop = world.new_loop()
    transport = loop.run_until_complete(body())
    loop.close()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del transport
        gc.collect()
    assert any("unclosed transport" in str(each.message) for each in caught)


def test_transport_repr(world):
    async def body():
        async with Pair() as pair:
            words = [repr(pair.transport)]
            pair.transport.close()
            words.append(repr(pair.transport))
            await pair.client.lost
            words.append(repr(pair.transport))
            return words

    opened, closing, closed = world.run(body())
    assert "fd=" in opened and "read=polling" in opened
    assert "closing" in closing
    assert "closed" in closed
