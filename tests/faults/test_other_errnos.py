"""Errors of the kernel on datagrams, pipes and files: each is told once, to who should hear it, and names the transport."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import signal
import threading

import pytest
from faulty import faults
from tcp_pair import Pair, Recorder

LOCAL = ("127.0.0.1", 0)


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self):
        self.got, self.errors = asyncio.Queue(), []
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.got.put_nowait(data)

    def error_received(self, exc):
        self.errors.append(exc)

    def connection_lost(self, exc):
        self.lost.set_result(exc)


async def two_endpoints():
    loop = asyncio.get_running_loop()
    _, receiver = await loop.create_datagram_endpoint(Datagrams, LOCAL)
    address = receiver.transport.get_extra_info("sockname")
    return receiver, address


async def over(*endpoints):
    for endpoint in endpoints:
        endpoint.transport.close()
        assert await endpoint.lost is None


@pytest.mark.weft_only
@pytest.mark.parametrize("number", [errno.ENOBUFS, errno.ENOMEM, errno.EPERM], ids=errno.errorcode.get)
@pytest.mark.parametrize("connected", [True, False], ids=["connected", "open"])
async def test_a_datagram_that_cannot_be_sent(world, number, connected):
    loop = asyncio.get_running_loop()
    receiver, address = await two_endpoints()
    with faults() as ops:
        remote = address if connected else None
        _, sender = await loop.create_datagram_endpoint(Datagrams, None if connected else LOCAL, remote_addr=remote)
        ops.fail("send_buffer" if connected else "sendto", number)
        sender.transport.sendto(b"dropped", address)
        sender.transport.sendto(b"sent", address)
        assert await receiver.got.get() == b"sent"
        (error,) = sender.errors
        assert error.errno == number
        await over(sender, receiver)


@pytest.mark.weft_only
@pytest.mark.parametrize("number", [errno.ENOBUFS, errno.ECONNREFUSED], ids=errno.errorcode.get)
async def test_a_waiting_datagram_that_cannot_be_sent(world, number):
    loop = asyncio.get_running_loop()
    receiver, address = await two_endpoints()
    with faults() as ops:
        _, sender = await loop.create_datagram_endpoint(Datagrams, LOCAL)
        ops.fail("sendto", None)
        ops.fail("sendto", number)
        sender.transport.sendto(b"waits, and is dropped", address)
        sender.transport.sendto(b"waits, and is sent", address)
        assert await receiver.got.get() == b"waits, and is sent"
        assert [error.errno for error in sender.errors] == [number]
        assert sender.transport.get_write_buffer_size() == 0
        await over(sender, receiver)


@pytest.mark.weft_only
async def test_an_interrupted_datagram_is_neither_lost_nor_doubled(world):
    loop = asyncio.get_running_loop()
    with faults() as ops:
        receiver, address = await two_endpoints()
        _, sender = await loop.create_datagram_endpoint(Datagrams, LOCAL)
        ops.fail("sendto", None, 3)
        ops.fail("recvfrom", None, 3)
        for number in range(5):
            sender.transport.sendto(b"%d" % number, address)
        assert [await receiver.got.get() for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]
        await over(sender, receiver)
        assert receiver.got.empty()


async def pipe_writer(fd):
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(Recorder, os.fdopen(fd, "wb", 0))
    return transport, protocol


@pytest.mark.weft_only
@pytest.mark.loop_debug
@pytest.mark.parametrize("number", [errno.EPIPE, errno.EIO, errno.ENOSPC], ids=errno.errorcode.get)
async def test_a_pipe_that_cannot_be_written(world, number, log_lines):
    reading, writing = os.pipe()
    with faults() as ops:
        transport, protocol = await pipe_writer(writing)
        ops.fail("write", number)
        transport.write(b"lost")
        transport.write(b"dropped")
        exc = await protocol.lost
    assert exc.errno == number
    assert protocol.events == ["made", "lost"]
    assert os.read(reading, 100) == b""
    os.close(reading)
    assert any("WritePipeTransport" in line and "Fatal write error" in line for line in log_lines)


@pytest.mark.weft_only
async def test_interrupted_pipes_lose_nothing(world):
    loop = asyncio.get_running_loop()
    reading, writing = os.pipe()
    data = bytes(range(256)) * 1_000
    with faults() as ops:
        transport, writer = await pipe_writer(writing)
        _, reader = await loop.connect_read_pipe(Recorder, os.fdopen(reading, "rb", 0))
        ops.fail("write", None, 10)
        ops.fail("read", None, 10)
        transport.write(data)
        assert await reader.received(len(data)) == data
        transport.close()
        await writer.lost
        await reader.lost


async def test_a_full_disk_under_a_pipe_transport(world):
    """/dev/full answers every write with ENOSPC."""
    transport, protocol = await pipe_writer(os.open("/dev/full", os.O_WRONLY))
    transport.write(b"no room")
    exc = await protocol.lost
    assert isinstance(exc, OSError)
    assert exc.errno == errno.ENOSPC
    transport.write(b"dropped")


@pytest.mark.parametrize("way", ["transport", "socket"])
async def test_sendfile_to_a_peer_whose_disk_is_full(world, tmp_path, way):
    """The peer stores what it gets, finds no room and goes: whoever sends is told, in the middle of the file."""

    class Storing(Recorder):
        def data_received(self, data):
            self.transport.pause_reading()
            try:
                with open("/dev/full", "wb", 0) as disk:
                    disk.write(data)
            except OSError as exc:
                assert exc.errno == errno.ENOSPC
                self.transport.abort()

    loop = asyncio.get_running_loop()
    path = tmp_path / "file"
    path.write_bytes(b"x" * 20_000_000)
    accepted = loop.create_future()

    def serve():
        accepted.set_result(Storing())
        return accepted.result()

    async with await loop.create_server(serve, *LOCAL) as server:
        transport, client = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
        with open(path, "rb") as file:
            if way == "transport":
                sending = loop.sendfile(transport, file)
            else:
                sock = transport.get_extra_info("socket").dup()
                sock.setblocking(False)
                transport.abort()
                sending = loop.sock_sendfile(sock, file)
            with pytest.raises(OSError) as error:
                await sending
        assert isinstance(error.value, ConnectionError)
        if way == "socket":
            sock.close()
        transport.abort()
        await client.lost
        await (await accepted).lost


@pytest.mark.weft_only
@pytest.mark.parametrize("number", [errno.EPIPE, errno.ECONNRESET, errno.EIO, errno.ENOBUFS], ids=errno.errorcode.get)
async def test_an_error_in_the_middle_of_a_file(world, tmp_path, number):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 20_000_000)
    with faults() as ops:
        async with Pair() as pair:
            with open(path, "rb") as file:
                task = asyncio.ensure_future(asyncio.get_running_loop().sendfile(pair.transport, file))
                await pair.server.received(1)
                ops.fail("sendfile", None, 2)
                ops.fail("sendfile", number)
                with pytest.raises(OSError) as error:
                    await task
                assert error.value.errno == number
                # The file stands where the sending ended.
                assert 0 < file.tell() < 20_000_000


async def test_real_interrupts_lose_nothing(world):
    """System calls that a signal interrupts, all the time."""
    stop = threading.Event()
    previous = signal.signal(signal.SIGUSR1, lambda *_: None)

    def storm():
        while not stop.wait(0.0005):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    thread = threading.Thread(target=storm)
    thread.start()
    try:
        async with Pair() as pair:
            data = bytes(range(256)) * 20_000
            pair.transport.write(data)
            pair.server.transport.write(data)
            assert await pair.server.received(len(data)) == data
            assert await pair.client.received(len(data)) == data
    finally:
        stop.set()
        await asyncio.get_running_loop().run_in_executor(None, thread.join)
        signal.signal(signal.SIGUSR1, previous)


async def test_nothing_can_be_opened(world):
    """Out of descriptors: each call says so, leaves nothing behind, and works again afterwards."""
    loop = asyncio.get_running_loop()
    async with Pair() as pair:
        address = pair.listener.sockets[0].getsockname()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        held = []
        try:
            spare = os.dup(0)
            resource.setrlimit(resource.RLIMIT_NOFILE, (spare + 1, hard))
            os.close(spare)
            with pytest.raises(OSError):
                while True:
                    held.append(os.dup(0))
            for opening in (
                loop.create_connection(Recorder, *address),
                loop.create_datagram_endpoint(Datagrams, LOCAL),
                loop.create_unix_server(Recorder, "\0weft-out-of-descriptors"),
                loop.create_unix_connection(Recorder, "\0weft-out-of-descriptors"),
            ):
                with pytest.raises(OSError) as error:
                    await opening
                assert error.value.errno == errno.EMFILE
            if world.name != "asyncio":  # a listed deviation
                with pytest.raises(OSError) as error:
                    await loop.create_server(Recorder, *LOCAL)
                assert error.value.errno == errno.EMFILE
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in held:
                os.close(fd)
        async with await loop.create_server(Recorder, *LOCAL):
            pair.transport.write(b"still there")
            assert await pair.server.received(11) == b"still there"
