"""Accepting: many at once, out of descriptors, contexts, Unix paths."""

from __future__ import annotations

import asyncio
import contextvars
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
