"""Accepting: many at once, out of descriptors, contexts, Unix paths."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import errno
import os
import resource
import socket

import pytest
from worlds import since, turns


class Quiet(asyncio.Protocol):
    """A connection that tells of its beginning and its end."""

    #: All of them since a test asked last: `gone` waits for their ends.
    born: list[Quiet] = []

    def __init__(self):
        self.born.append(self)
        loop = asyncio.get_running_loop()
        self.made, self.lost = loop.create_future(), loop.create_future()

    def connection_made(self, transport):
        self.transport = transport
        self.made.set_result(transport)

    def connection_lost(self, exc):
        self.lost.set_result(exc)


async def gone(server):
    """The server is closed and each connection has ended (3.11's wait_closed waits for neither)."""
    server.close()
    while Quiet.born:
        await Quiet.born.pop().lost
    await server.wait_closed()


@pytest.fixture(autouse=True)
def _nobody_born():
    Quiet.born.clear()


@pytest.mark.slow_test(30)
async def test_out_of_descriptors_rests_and_goes_on(world):
    """The listener must neither spin nor die: one report, and a second later it accepts again."""
    accepted = asyncio.get_running_loop().create_future()

    def serve():
        accepted.set_result(Quiet())
        return accepted.result()

    server = await asyncio.get_running_loop().create_server(serve, "127.0.0.1", 0)
    client = socket.socket()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    try:
        client.connect(server.sockets[0].getsockname())
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        while not world.reports:
            await turns()
        await turns(5)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    report, *more = world.take_reports()
    # asyncio goes on trying, once for each place in the backlog.
    assert not more or world.name == "asyncio"
    assert report["message"] == "socket.accept() out of system resource"
    assert isinstance(report["exception"], OSError)
    assert repr(report["socket"]).startswith("<asyncio.TransportSocket")
    protocol = await accepted
    transport = await protocol.made
    transport.close()
    client.close()
    await protocol.lost
    server.close()
    await server.wait_closed()


async def test_server_closed_while_it_rests(world):
    server = await asyncio.get_running_loop().create_server(Quiet, "127.0.0.1", 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as client:
        free = os.dup(0)
        os.close(free)
        try:
            client.connect(server.sockets[0].getsockname())
            resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
            while not world.reports:
                await turns()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        world.take_reports()
        server.close()
        await server.wait_closed()
        assert server.sockets == ()


async def test_all_that_wait_are_accepted(world):
    protocols = []

    def serve():
        protocols.append(Quiet())
        return protocols[-1]

    server = await asyncio.get_running_loop().create_server(serve, "127.0.0.1", 0, backlog=50)
    clients = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(30)]
    while len(protocols) < 30:
        await turns()
    for protocol in protocols:
        await protocol.made
    assert len({protocol.transport.get_extra_info("peername") for protocol in protocols}) == 30
    server.close()
    if since(3, 13):
        server.close_clients()
    else:
        for protocol in protocols:
            protocol.transport.close()
    for protocol in protocols:
        assert await protocol.lost is None
    await server.wait_closed()
    for client in clients:
        client.close()


async def test_connections_start_in_the_servers_context(world):
    who = contextvars.ContextVar("who", default="nobody")
    seen = asyncio.get_running_loop().create_future()

    class Asking(Quiet):
        def connection_made(self, transport):
            super().connection_made(transport)
            seen.set_result(who.get())
            who.set("connection")

    who.set("server")
    server = await asyncio.get_running_loop().create_server(Asking, "127.0.0.1", 0)
    who.set("later")
    with socket.create_connection(server.sockets[0].getsockname()):
        assert await seen == "server"
        assert who.get() == "later"
    await gone(server)


async def test_unix_path_is_taken_over_and_given_back(world, tmp_path):
    loop = asyncio.get_running_loop()
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    server = await loop.create_unix_server(Quiet, path)
    with socket.socket(socket.AF_UNIX) as second, pytest.raises(OSError):
        second.bind(str(path))
    transport, protocol = await loop.create_unix_connection(Quiet, str(path))
    assert transport.get_extra_info("peername") == str(path)
    transport.close()
    await protocol.lost
    await gone(server)
    assert path.exists() is not since(3, 13)


@pytest.mark.weft_only  # asyncio's calls are known by the names of its files
async def test_a_unix_server_passes_where_blocking_calls_are_refused(world, tmp_path, monkeypatch):
    """blockbuster, in the tests of aiohttp and anyio, puts such functions in `os`."""

    def blocking(path):
        raise AssertionError(f"a blocking call for {path!r}")

    loop = asyncio.get_running_loop()
    for name in ("stat", "unlink"):
        monkeypatch.setattr(os, name, blocking)
    path = os.path.join(tmp_path, "socket")
    server = await loop.create_unix_server(Quiet, path, cleanup_socket=True)
    server.close()
    monkeypatch.undo()
    assert not os.path.exists(path)
    await gone(server)


async def test_unix_path_that_is_no_socket_is_kept(world, tmp_path):
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(OSError, match=f"Address '{path}' is already in use"):
        await asyncio.get_running_loop().create_unix_server(Quiet, str(path))
    assert path.read_text() == "precious"


async def test_abstract_unix_address(world):
    loop = asyncio.get_running_loop()
    name = f"\0weft-test-{os.getpid()}"
    server = await loop.create_unix_server(Quiet, name)
    transport, protocol = await loop.create_unix_connection(Quiet, name)
    transport.close()
    await protocol.lost
    await gone(server)


@pytest.mark.slow_test(40)
async def test_nothing_is_lost_while_descriptors_are_out(world):
    """Connections wait in the backlog, the loop does not spin on them, and each is served when descriptors are free."""
    loop, count = asyncio.get_running_loop(), 40
    served = loop.create_future()
    protocols = []

    class Greeting(Quiet):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.write(b"hello")
            protocols.append(self)
            if len(protocols) == count:
                served.set_result(None)

    server = await loop.create_server(Greeting, "127.0.0.1", 0, backlog=100)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    clients = [socket.socket() for _ in range(count)]
    free = os.dup(0)
    os.close(free)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + 5, hard))
        for client in clients:
            client.connect(server.sockets[0].getsockname())
        while not world.reports:
            await turns()
        assert len(protocols) < count
        before, counters = len(world.reports), getattr(loop, "_counters", None)
        turns_before = counters.turns if counters is not None else 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await asyncio.shield(served)
        # Nothing has changed, so it was quiet meanwhile (asyncio reports once for each place in the backlog).
        assert len(world.reports) == before or world.name == "asyncio"
        if counters is not None:
            assert counters.turns - turns_before < 20
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    world.take_reports()
    await served
    world.take_reports()
    for client in clients:
        client.settimeout(10)
        assert client.recv(5) == b"hello"
        client.close()
    if world.name == "asyncio":
        # It starts again once for each place in the backlog, and may serve everything before it came to the last of them.
        for timer in loop._scheduled:
            timer.cancel()
    server.close()
    for protocol in protocols:
        await protocol.lost
    await server.wait_closed()


@pytest.mark.parametrize("code", [errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EPERM])
@pytest.mark.weft_only
async def test_other_errors_of_accept(world, monkeypatch, code):
    """Out of a resource: a rest. Else (a firewall's EPERM) the error is reported, and the listener goes on."""
    from weft._net import server as module

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(module, "ACCEPT_RETRY_S", 0)
    server = await loop.create_server(Quiet, "127.0.0.1", 0)
    acceptor = server._acceptors[0]
    error = OSError(code, "injected")
    if not hasattr(acceptor, "_accept_failed"):
        pytest.skip("the compiled edition's method can't be called from here")
    acceptor._accept_failed(acceptor._sock, error)
    (report,) = world.take_reports()
    rests = code != errno.EPERM
    assert report["message"] == ("socket.accept() out of system resource" if rests else "socket.accept() failed")
    assert report["exception"] is error
    with socket.create_connection(server.sockets[0].getsockname()):
        while not Quiet.born:
            await turns()
        await Quiet.born[0].made
    await gone(server)


@pytest.mark.weft_only
async def test_clients_of_a_server_are_closed_and_aborted(world):
    """On every version; asyncio has them from 3.13 on."""
    for method in ("close_clients", "abort_clients"):
        server = await asyncio.get_running_loop().create_server(Quiet, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()) as client:
            while not Quiet.born:
                await turns()
            protocol = Quiet.born[0]
            await protocol.made
            getattr(server, method)()
            assert await protocol.lost is None
            client.settimeout(10)
            assert client.recv(1) == b""
        await gone_after(server)


async def gone_after(server):
    Quiet.born.clear()
    server.close()
    await server.wait_closed()


async def test_ports_are_shared_and_options_set(world):
    loop = asyncio.get_running_loop()
    options = {"keep_alive": True} if world.weft_loop or since(3, 13) else {}
    first = await loop.create_server(Quiet, "127.0.0.1", 0, reuse_port=True, **options)
    port = first.sockets[0].getsockname()[1]
    second = await loop.create_server(Quiet, "127.0.0.1", port, reuse_port=True)
    for sock in (first.sockets[0], second.sockets[0]):
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
    if options:
        assert first.sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    third = await loop.create_server(Quiet, "127.0.0.1", 0, reuse_address=False)
    assert not third.sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
    for server in (first, second, third):
        server.close()
        await server.wait_closed()
