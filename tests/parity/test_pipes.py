"""Pipes: connect_read_pipe and connect_write_pipe over pipes, FIFOs, sockets and terminals, and readers that vanish."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import socket
import warnings

import pytest
from worlds import turns

CAPACITY = 1_000_000  # more than any pipe holds


class Reader(asyncio.Protocol):
    def __init__(self):
        self.events = []
        self.data = bytearray()
        self.transport = None
        self.arrived = asyncio.Event()
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        self.events.append("made")

    def data_received(self, data):
        assert type(data) is bytes
        self.data += data
        self.arrived.set()

    def eof_received(self):
        self.events.append("eof")

    def connection_lost(self, exc):
        self.events.append("lost")
        self.lost.set_result(exc)

    async def received(self, size):
        while len(self.data) < size:
            self.arrived.clear()
            await self.arrived.wait()
        return bytes(self.data)


class Writer(asyncio.BaseProtocol):
    def __init__(self):
        self.events = []
        self.resumed = asyncio.Event()
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.events.append("made")

    def pause_writing(self):
        self.events.append("pause")

    def resume_writing(self):
        self.events.append("resume")
        self.resumed.set()

    def connection_lost(self, exc):
        self.events.append("lost")
        self.lost.set_result(exc)


def ends(kind="pipe"):
    """(file to read, file to write) of a new pipe."""
    if kind == "socket":
        a, b = socket.socketpair()
        return a, b
    r, w = os.pipe()
    return open(r, "rb", 0), open(w, "wb", 0)


@contextlib.asynccontextmanager
async def reading(kind="pipe", protocol=Reader):
    ours, theirs = ends(kind)
    transport, protocol = await asyncio.get_running_loop().connect_read_pipe(protocol, ours)
    with theirs:
        yield transport, protocol, theirs
    transport.close()
    await protocol.lost


@contextlib.asynccontextmanager
async def writing(kind="pipe"):
    theirs, ours = ends(kind)
    transport, protocol = await asyncio.get_running_loop().connect_write_pipe(Writer, ours)
    with theirs:
        yield transport, protocol, theirs
    if not transport.is_closing():
        transport.abort()  # on asyncio not twice
    await protocol.lost


async def test_read(world):
    async with reading() as (transport, protocol, theirs):
        assert isinstance(transport, asyncio.ReadTransport)
        assert transport.get_protocol() is protocol
        assert transport.get_extra_info("pipe").fileno() >= 0
        assert transport.get_extra_info("nothing", 5) == 5
        theirs.write(b"one")
        assert await protocol.received(3) == b"one"
        theirs.write(b"two")
        assert await protocol.received(6) == b"onetwo"
        theirs.close()
        assert await protocol.lost is None
        assert protocol.events == ["made", "eof", "lost"]
        assert transport.is_closing()
        assert not transport.is_reading()


async def test_read_all_then_the_end(world):
    async with reading() as (transport, protocol, theirs):
        transport.pause_reading()
        theirs.write(b"x" * 60000)
        theirs.close()
        await turns(5)
        assert protocol.events == ["made"]
        transport.resume_reading()
        await protocol.lost
        assert len(protocol.data) == 60000
        assert protocol.events == ["made", "eof", "lost"]


async def test_pause_and_resume_reading(world):
    async with reading() as (transport, protocol, theirs):
        assert transport.is_reading()
        transport.pause_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        theirs.write(b"later")
        await turns(5)
        assert protocol.data == b""
        transport.resume_reading()
        transport.resume_reading()
        assert transport.is_reading()
        assert await protocol.received(5) == b"later"
        transport.close()
        transport.pause_reading()
        transport.resume_reading()
        assert not transport.is_reading()


async def test_paused_in_connection_made(world):
    class Paused(Reader):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.pause_reading()

    async with reading(protocol=Paused) as (transport, protocol, theirs):
        theirs.write(b"x")
        await turns(5)
        assert protocol.data == b""
        transport.resume_reading()
        await protocol.received(1)


async def test_closed_in_connection_made(world):
    class Closed(Reader):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.close()

    async with reading(protocol=Closed) as (transport, protocol, theirs):
        await protocol.lost
        assert protocol.events == ["made", "lost"]
        with pytest.raises(BrokenPipeError):
            theirs.write(b"x")


async def test_a_failing_data_received_is_reported_and_the_pipe_lives(world):
    class Failing(Reader):
        def data_received(self, data):
            super().data_received(data)
            if data == b"bad":
                raise ZeroDivisionError

    async with reading(protocol=Failing) as (_, protocol, theirs):
        theirs.write(b"bad")
        await protocol.received(3)
        theirs.write(b"good")
        await protocol.received(7)
        (report,) = world.take_reports()
        assert isinstance(report["exception"], ZeroDivisionError)
        assert report["message"].startswith("Exception in callback")


async def test_close_reading_twice(world):
    async with reading() as (transport, protocol, _):
        transport.close()
        transport.close()
        assert protocol.events == ["made"]
        await protocol.lost
        transport.close()
    assert protocol.events == ["made", "lost"]


@pytest.mark.parametrize("kind", ["pipe", "socket"])
async def test_write(world, kind):
    async with writing(kind) as (transport, protocol, theirs):
        assert isinstance(transport, asyncio.WriteTransport)
        assert transport.get_protocol() is protocol
        transport.write(b"one")
        transport.write(bytearray(b"two"))
        transport.write(memoryview(b"three"))
        transport.write(b"")
        assert transport.get_write_buffer_size() == 0
        read = theirs.recv if kind == "socket" else theirs.read
        assert read(100) == b"onetwothree"
        assert transport.can_write_eof()
        transport.write_eof()
        assert transport.is_closing()
        assert await protocol.lost is None
        assert read(100) == b""
        assert protocol.events == ["made", "lost"]


async def test_what_write_takes(world):
    async with writing() as (transport, _, _):
        with pytest.raises(AssertionError, match="'text'"):
            transport.write("text")


async def test_writelines(world):
    async with writing() as (transport, _, theirs):
        transport.writelines([b"a", bytearray(b"b"), b"c"])
        assert theirs.read(10) == b"abc"


async def test_a_full_pipe_pauses_and_is_sent_in_order(world):
    async with writing() as (transport, protocol, theirs):
        data = bytes(range(256)) * (CAPACITY // 256)
        transport.write(data)
        assert protocol.events == ["made", "pause"]
        assert 0 < transport.get_write_buffer_size() < len(data)
        transport.write(b"end")
        transport.close()
        received = bytearray()
        os.set_blocking(theirs.fileno(), False)
        while not protocol.lost.done():
            received += theirs.read(65536) or b""
            await turns()
        received += theirs.read() or b""
        assert bytes(received) == data + b"end"
        assert protocol.events == ["made", "pause", "resume", "lost"]
        assert protocol.lost.result() is None


async def test_limits(world):
    async with writing() as (transport, protocol, theirs):
        assert transport.get_write_buffer_limits() == (16384, 65536)
        transport.set_write_buffer_limits(high=1000)
        assert transport.get_write_buffer_limits() == (250, 1000)
        transport.set_write_buffer_limits(low=10)
        assert transport.get_write_buffer_limits() == (10, 40)
        with pytest.raises(ValueError, match=r"high \(1\) must be >= low \(2\) must be >= 0"):
            transport.set_write_buffer_limits(high=1, low=2)
        transport.write(b"x" * 65536)
        assert protocol.events == ["made"]
        transport.write(b"x" * 40)
        assert protocol.events == ["made"]
        transport.write(b"x")
        assert protocol.events == ["made", "pause"]
        theirs.read(65536)
        await protocol.resumed.wait()
        assert transport.get_write_buffer_size() == 0


async def test_a_bytearray_may_change_after_write(world):
    async with writing() as (transport, _, theirs):
        transport.write(b"x" * 65536)
        data = bytearray(b"before")
        transport.write(data)
        data[:] = b"after!"
        theirs.read(65536)
        while transport.get_write_buffer_size():
            await turns(1)
        assert theirs.read(100) == b"before"


async def test_the_reader_vanishes(world):
    async with writing() as (_, protocol, theirs):
        theirs.close()
        assert await protocol.lost is None
        assert protocol.events == ["made", "lost"]


async def test_the_reader_vanishes_while_data_waits(world):
    async with writing() as (transport, protocol, theirs):
        transport.write(b"x" * CAPACITY)
        theirs.close()
        assert isinstance(await protocol.lost, BrokenPipeError)
        assert transport.get_write_buffer_size() == 0
        assert protocol.events == ["made", "pause", "lost"]


async def test_a_write_after_the_reader_vanished(world, caplog):
    """The error of the write closes the transport; later writes are dropped, and the sixth is logged."""
    async with writing() as (transport, protocol, theirs):
        theirs.close()
        transport.write(b"x")
        assert transport.is_closing()
        with caplog.at_level(logging.WARNING, "asyncio"):
            for _ in range(4):
                transport.write(b"x")
            assert not caplog.records
            transport.write(b"x")
            assert "pipe closed by peer or os.write(pipe, data) raised exception." in caplog.text
        assert isinstance(await protocol.lost, BrokenPipeError)


async def test_abort_drops_the_buffer(world):
    async with writing() as (transport, protocol, theirs):
        transport.write(b"x" * CAPACITY)
        transport.abort()
        assert transport.get_write_buffer_size() == 0
        assert transport.is_closing()
        assert await protocol.lost is None
        assert len(theirs.read(CAPACITY)) < CAPACITY


@pytest.mark.weft_only
async def test_abort_after_close(world):
    """On asyncio connection_lost is then called twice when nothing waits."""
    async with writing() as (transport, protocol, _):
        transport.close()
        transport.abort()
        await protocol.lost
    async with writing() as (transport, protocol, _):
        transport.write(b"x" * CAPACITY)
        transport.close()
        await turns(2)
        assert "lost" not in protocol.events
        transport.abort()
        assert await protocol.lost is None


@pytest.mark.weft_only
async def test_what_resume_writing_writes_is_sent_before_the_end(world):
    """asyncio closes the pipe when the first buffer is sent, whatever was written since."""

    class Last(Writer):
        def resume_writing(self):
            super().resume_writing()
            transport.write(b"y" * CAPACITY)
            transport.close()

    theirs, ours = ends()
    transport, protocol = await asyncio.get_running_loop().connect_write_pipe(Last, ours)
    with theirs:
        transport.write(b"x" * CAPACITY)
        received = bytearray()
        os.set_blocking(theirs.fileno(), False)
        while not protocol.lost.done():
            received += theirs.read(65536) or b""
            await turns()
        while more := theirs.read(65536):
            received += more
    assert received == b"x" * CAPACITY + b"y" * CAPACITY


async def test_the_number_is_free_after_the_end(world):
    """A new pipe under the old numbers hears nothing of the former one's transports, whatever is called on these."""
    loop = asyncio.get_running_loop()
    r, w = ends()
    number = w.fileno()
    reader, read_protocol = await loop.connect_read_pipe(Reader, r)
    writer, protocol = await loop.connect_write_pipe(Writer, w)
    writer.close()
    await protocol.lost
    await read_protocol.lost
    r, w = ends()
    assert number in (r.fileno(), w.fileno())
    reader2, read_protocol2 = await loop.connect_read_pipe(Reader, r)
    writer2, protocol2 = await loop.connect_write_pipe(Writer, w)
    writer.write(b"nobody's")
    writer.close()
    reader.close()
    reader.pause_reading()
    reader.resume_reading()
    writer2.write(b"ours")
    assert await read_protocol2.received(4) == b"ours"
    writer2.close()
    await protocol2.lost
    await read_protocol2.lost
    assert read_protocol2.data == b"ours"


@pytest.mark.parametrize("method", ["connect_read_pipe", "connect_write_pipe"])
async def test_a_regular_file_is_refused(world, method, tmp_path):
    words = {
        "connect_read_pipe": "Pipe transport is for pipes/sockets only.",
        "connect_write_pipe": "Pipe transport is only for pipes, sockets and character devices",
    }
    with open(tmp_path / "file", "w+b") as file:
        with pytest.raises(ValueError, match=words[method]):
            await getattr(asyncio.get_running_loop(), method)(asyncio.Protocol, file)
        assert not file.closed


async def test_a_terminal_both_ways(world):
    """One descriptor, two transports."""
    loop = asyncio.get_running_loop()
    master, slave = os.openpty()
    with open(master, "r+b", 0) as theirs:
        rfile, wfile = open(slave, "rb", 0), open(slave, "wb", 0, closefd=False)
        reader, reading = await loop.connect_read_pipe(Reader, rfile)
        writer, writing = await loop.connect_write_pipe(Writer, wfile)
        theirs.write(b"typed\n")
        assert await reading.received(6) == b"typed\n"
        theirs.read(100)
        writer.write(b"shown")
        assert theirs.read(100) == b"shown"
        writer.close()
        await writing.lost
        reader.close()
        await reading.lost


async def test_a_fifo(world, tmp_path):
    loop = asyncio.get_running_loop()
    path = tmp_path / "fifo"
    os.mkfifo(path)
    rfile = open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", 0)
    wfile = open(os.open(path, os.O_WRONLY | os.O_NONBLOCK), "wb", 0)
    _, reading = await loop.connect_read_pipe(Reader, rfile)
    writer, writing = await loop.connect_write_pipe(Writer, wfile)
    writer.write(b"x" * 200_000)
    writer.write_eof()
    await writing.lost
    await reading.lost
    assert len(reading.data) == 200_000


async def test_dev_null_is_written(world):
    transport, protocol = await asyncio.get_running_loop().connect_write_pipe(Writer, open(os.devnull, "wb", 0))
    transport.write(b"x")
    transport.close()
    await protocol.lost


async def test_reprs(world):
    def shape(transport):
        return repr(transport).split(" ", 1)[1]

    async with reading() as (transport, protocol, _):
        fd = transport.get_extra_info("pipe").fileno()
        await turns(2)
        assert shape(transport) == f"fd={fd} polling>"
        transport.pause_reading()
        assert shape(transport) == f"fd={fd} idle>"
        transport.close()
        assert shape(transport) == f"closing fd={fd} idle>"
        await protocol.lost
        await turns()
        assert shape(transport) == f"closed fd={fd} closed>"
    async with writing() as (transport, protocol, _):
        fd = transport.get_extra_info("pipe").fileno()
        assert shape(transport) == f"fd={fd} idle bufsize=0>"
        transport.write(b"x" * CAPACITY)
        size = transport.get_write_buffer_size()
        assert shape(transport) == f"fd={fd} polling bufsize={size}>"
        transport.abort()
        await protocol.lost
        await turns()
        assert shape(transport) == f"closed fd={fd} closed>"


@pytest.mark.parametrize("method", ["connect_read_pipe", "connect_write_pipe"])
def test_unclosed_is_warned_of(world, method):
    loop = world.new_loop()
    r, w = ends()
    ours, theirs = (r, w) if method == "connect_read_pipe" else (w, r)

    loop.run_until_complete(getattr(loop, method)(asyncio.Protocol, ours))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop.close()
        del loop
        gc.collect()
    theirs.close()
    assert any("unclosed transport <" in str(warning.message) for warning in caught)
    assert ours.closed


async def test_set_protocol(world):
    async with reading() as (transport, _, theirs):
        other = Reader()
        transport.set_protocol(other)
        assert transport.get_protocol() is other
        theirs.write(b"x")
        await other.received(1)
        transport.set_protocol(_)


async def test_streams_over_pipes(world):
    loop = asyncio.get_running_loop()
    r, w = ends()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), r)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, w)
    writer = asyncio.StreamWriter(transport, protocol, None, loop)

    async def write():
        for _ in range(20):
            writer.write(b"x" * 49_999 + b"\n")
            await writer.drain()
        writer.close()

    task = asyncio.ensure_future(write())
    lines = [line async for line in reader]
    await task
    assert [len(line) for line in lines] == [50_000] * 20


async def test_cancelled_while_connecting(world):
    r, w = ends()
    task = asyncio.ensure_future(asyncio.get_running_loop().connect_read_pipe(Reader, r))
    await turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await turns(3)
    assert r.closed
    w.close()
