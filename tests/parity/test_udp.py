"""Datagram endpoints: arguments, data, addresses, errors of single datagrams, a full kernel, and the end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import socket
import sys
import warnings

import pytest
from worlds import turns

LOCAL = ("127.0.0.1", 0)


class Peer(asyncio.DatagramProtocol):
    def __init__(self):
        self.events = []
        self.datagrams = []
        self.errors = []
        self.arrived = asyncio.Event()
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        self.events.append("made")

    def datagram_received(self, data, addr):
        self.datagrams.append((data, addr))
        self.arrived.set()

    def error_received(self, exc):
        self.errors.append(exc)
        self.arrived.set()

    def pause_writing(self):
        self.events.append("pause")

    def resume_writing(self):
        self.events.append("resume")
        self.arrived.set()

    def connection_lost(self, exc):
        self.events.append("lost")
        self.lost.set_result(exc)

    async def until(self, condition):
        while not condition():
            self.arrived.clear()
            await self.arrived.wait()


@contextlib.asynccontextmanager
async def endpoint(local_addr=LOCAL, protocol=Peer, **options):
    loop = asyncio.get_running_loop()
    transport, peer = await loop.create_datagram_endpoint(protocol, local_addr, **options)
    try:
        yield transport, peer
    finally:
        if not peer.lost.done():
            transport.abort()  # on asyncio not once it is lost
        await peer.lost


def name(transport):
    return transport.get_extra_info("sockname")


async def test_echo(world):
    async with endpoint() as (a, pa), endpoint(None, remote_addr=name(a)) as (b, pb):
        if world.weft_loop:
            assert isinstance(a, asyncio.DatagramTransport)
        assert a.get_extra_info("peername") is None
        assert b.get_extra_info("peername") == name(a)
        assert a.get_extra_info("socket").type == socket.SOCK_DGRAM
        b.sendto(b"one")
        b.sendto(bytearray(b"two"), None)
        b.sendto(memoryview(b"three"), name(a))
        await pa.until(lambda: len(pa.datagrams) == 3)
        assert pa.datagrams == [(data, name(b)) for data in (b"one", b"two", b"three")]
        a.sendto(b"back", name(b))
        await pb.until(lambda: pb.datagrams)
        assert pb.datagrams == [(b"back", name(a))]


async def test_many_in_order(world):
    async with endpoint() as (a, pa), endpoint(None, remote_addr=name(a)) as (b, _):
        for number in range(100):
            b.sendto(b"%d" % number)
        await pa.until(lambda: len(pa.datagrams) == 100)
        assert [data for data, _ in pa.datagrams] == [b"%d" % number for number in range(100)]


async def test_closed_by_the_first_of_many(world):
    class Once(Peer):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            self.transport.close()

    async with endpoint(protocol=Once) as (a, pa), endpoint(None, remote_addr=name(a)) as (b, _):
        for _ in range(10):
            b.sendto(b"x")
        assert await pa.lost is None
        assert len(pa.datagrams) == 1


async def test_empty_datagram(world):
    async with endpoint() as (a, pa), endpoint(None, remote_addr=name(a)) as (b, _):
        b.sendto(b"")
        b.sendto(b"end")
        await pa.until(lambda: (b"end", name(b)) in pa.datagrams)
        empty = [(b"", name(b))] if sys.version_info >= (3, 13) else []
        assert pa.datagrams == [*empty, (b"end", name(b))]


async def test_what_sendto_takes(world):
    async with endpoint() as (a, _), endpoint(None, remote_addr=name(a)) as (b, _):
        with pytest.raises(TypeError, match="data argument must be a bytes-like object, not 'str'"):
            a.sendto("text", name(b))
        with pytest.raises(ValueError, match="Invalid address: must be None or "):
            b.sendto(b"x", ("127.0.0.1", 9))


async def test_an_address_that_is_none_ends_it(world):
    async with endpoint() as (a, pa):
        a.sendto(b"x", ("127.0.0.1", 70000))
        assert isinstance(await pa.lost, OverflowError)
        (report,) = world.take_reports()
        assert report["message"] == "Fatal write error on datagram transport"


async def test_refused_by_nobody_there(world):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind(LOCAL)
        address = gone.getsockname()
    async with endpoint(None, remote_addr=address) as (a, pa):
        a.sendto(b"x")
        await pa.until(lambda: pa.errors)
        assert isinstance(pa.errors[0], ConnectionRefusedError)
        assert not a.is_closing()


async def test_too_long(world):
    async with endpoint() as (a, pa):
        a.sendto(b"x" * 70000, name(a))
        assert [error.errno for error in pa.errors] == [errno.EMSGSIZE]
        assert not a.is_closing()


async def test_a_failing_datagram_received_is_reported(world):
    class Failing(Peer):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            raise ZeroDivisionError

    async with endpoint(protocol=Failing) as (a, pa):
        a.sendto(b"x", name(a))
        a.sendto(b"y", name(a))
        await pa.until(lambda: len(pa.datagrams) == 2)
        await turns()
        assert [type(report["exception"]) for report in world.take_reports()] == [ZeroDivisionError] * 2
        assert not a.is_closing()


async def test_a_slow_reader_pauses_the_writer(world, tmp_path):
    """A Unix datagram socket is full when its peer does not read: nothing is lost, and the order is kept."""
    theirs = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    theirs.bind(str(tmp_path / "s"))
    theirs.setblocking(False)
    with theirs:
        async with endpoint(None, family=socket.AF_UNIX, remote_addr=str(tmp_path / "s")) as (a, pa):
            count = 0
            while "pause" not in pa.events:
                a.sendto(b"%05d" % count + b"x" * 1000)
                count += 1
            assert a.get_write_buffer_size() > 65536
            a.close()
            assert not pa.lost.done()
            got = []
            while not pa.lost.done():
                with contextlib.suppress(BlockingIOError):
                    got.append(theirs.recv(2000))
                await turns()
            with contextlib.suppress(BlockingIOError):
                while True:
                    got.append(theirs.recv(2000))
            assert [int(data[:5]) for data in got] == list(range(count))
            assert pa.lost.result() is None
            if sys.version_info[:2] != (3, 13):
                assert pa.events == ["made", "pause", "resume", "lost"]


async def test_abort_drops_what_waits(world, tmp_path):
    theirs = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    theirs.bind(str(tmp_path / "s"))
    with theirs:
        async with endpoint(None, family=socket.AF_UNIX, remote_addr=str(tmp_path / "s")) as (a, pa):
            while a.get_write_buffer_size() == 0:
                a.sendto(b"x" * 1000)
            a.abort()
            assert a.get_write_buffer_size() == 0 or not world.weft_loop
            assert await pa.lost is None


async def test_limits(world):
    async with endpoint() as (a, _):
        a.set_write_buffer_limits(high=1000, low=10)
        assert a.get_write_buffer_size() == 0
        with pytest.raises(ValueError, match=r"high \(1\) must be >= low \(2\) must be >= 0"):
            a.set_write_buffer_limits(high=1, low=2)


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_sendto_after_the_end(world, how, caplog):
    async with endpoint() as (a, _), endpoint(None, remote_addr=name(a)) as (b, pb):
        getattr(b, how)()
        getattr(b, how)()
        assert b.is_closing()
        with caplog.at_level(logging.WARNING, "asyncio"):
            for _ in range(4):
                b.sendto(b"x")
            assert not caplog.records
            for _ in range(2):
                b.sendto(b"x")
            assert "socket.send() raised exception." in caplog.text
        await pb.lost
        assert pb.events == ["made", "lost"]


@pytest.mark.weft_only
async def test_sendto_on_a_closed_endpoint_without_address_is_dropped(world):
    async with endpoint() as (a, pa):
        a.close()
        await pa.lost
        await turns()
        for _ in range(3):
            a.sendto(b"x", ("127.0.0.1", 9))


async def test_unix(world, tmp_path):
    server = str(tmp_path / "server")
    client = str(tmp_path / "client")
    for _ in range(2):  # the second finds stale sockets
        async with (
            endpoint(server, family=socket.AF_UNIX) as (a, pa),
            endpoint(client, family=socket.AF_UNIX, remote_addr=server) as (b, pb),
        ):
            b.sendto(b"hello")
            await pa.until(lambda: pa.datagrams)
            assert pa.datagrams == [(b"hello", client)]
            a.sendto(b"back", client)
            await pb.until(lambda: pb.datagrams)
            assert pb.datagrams == [(b"back", server)]


@pytest.mark.skipif(sys.platform != "linux", reason="abstract addresses are Linux's")
async def test_unix_abstract_and_nameless(world, tmp_path):
    address = "\0weft-test-udp-" + tmp_path.name
    async with (
        endpoint(address, family=socket.AF_UNIX) as (a, pa),
        endpoint(None, family=socket.AF_UNIX, remote_addr=address) as (b, _),
    ):
        assert name(a) == address.encode()
        b.sendto(b"hello")
        await pa.until(lambda: pa.datagrams)
        assert pa.datagrams == [(b"hello", None)]


async def test_broadcast_is_not_connected(world):
    async with endpoint() as (a, pa), endpoint(None, remote_addr=name(a), allow_broadcast=True) as (b, _):
        assert b.get_extra_info("peername") is None
        assert b.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST)
        b.sendto(b"x")
        await pa.until(lambda: pa.datagrams)
        with pytest.raises(ValueError, match="Invalid address"):
            b.sendto(b"x", ("127.0.0.1", 9))


async def test_reuse_port(world):
    async with endpoint(reuse_port=True) as (a, _), endpoint(name(a), reuse_port=True) as (b, _):
        assert name(a) == name(b)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({}, ValueError, "unexpected address family"),
        ({"local_addr": "text"}, TypeError, "2-tuple is expected"),
        ({"local_addr": ("127.0.0.1", 0, 0)}, TypeError, "2-tuple is expected"),
        ({"local_addr": 5, "family": socket.AF_UNIX}, TypeError, "string is expected"),
        (
            {"local_addr": ("::1", 0), "remote_addr": ("127.0.0.1", 1)},
            ValueError,
            "can not get address information",
        ),
    ],
)
async def test_words_of_errors(world, options, error, words):
    with pytest.raises(error, match=words):
        await asyncio.get_running_loop().create_datagram_endpoint(Peer, **options)


async def test_the_first_error_is_raised(world):
    async with endpoint() as (a, _):
        with pytest.raises(OSError) as caught:
            await asyncio.get_running_loop().create_datagram_endpoint(Peer, name(a))
        assert caught.value.errno == errno.EADDRINUSE


async def test_sock_and_what_goes_with_it(world):
    loop = asyncio.get_running_loop()
    with socket.socket() as stream, pytest.raises(ValueError, match="ocket was expected, got <socket"):
        await loop.create_datagram_endpoint(Peer, sock=stream)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        with pytest.raises(ValueError, match=r"socket modifier .* \(local_addr=\('127.0.0.1', 0\), reuse_port=True\)"):
            await loop.create_datagram_endpoint(Peer, LOCAL, sock=sock, reuse_port=True)


async def test_repr(world):
    async with endpoint() as (a, pa):
        await turns(2)
        fd = a.get_extra_info("socket").fileno()
        assert repr(a).split(" ", 1)[1] == f"fd={fd} read=polling write=<idle, bufsize=0>>"
        a.close()
        assert f" closing fd={fd} " in repr(a)
        await pa.lost
        await turns()
        assert repr(a).split(" ", 1)[1] == f"closed fd={fd}>"


def test_unclosed_is_warned_of(world):
    loop = world.new_loop()
    loop.run_until_complete(loop.create_datagram_endpoint(asyncio.DatagramProtocol, LOCAL))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop.close()
        del loop
        gc.collect()
    assert any("unclosed transport <" in str(warning.message) for warning in caught)
