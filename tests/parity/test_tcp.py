"""TCP transports: life, data, flow control, half-close, abort, write after close, protocols that fail."""

from __future__ import annotations

import asyncio
import socket

import pytest
from tcp_pair import Pair, Recorder
from worlds import turns


async def test_echo(world):
    async with Pair() as pair:
        pair.transport.write(b"hello")
        assert await pair.server.received(5) == b"hello"
        pair.server.transport.write(b"hello yourself")
        assert await pair.client.received(14) == b"hello yourself"


async def test_is_asyncios_transport(world):
    async with Pair() as pair:
        assert isinstance(pair.transport, asyncio.Transport)
        assert pair.transport.get_protocol() is pair.client


async def test_close_tells_both_sides(world):
    async with Pair() as pair:
        pair.transport.close()
        assert pair.transport.is_closing()
        assert pair.client.events == ["made"]
        assert await pair.client.lost is None
        assert await pair.server.lost is None
    assert pair.client.events == ["made", "lost"]
    assert pair.server.events == ["made", "eof", "lost"]


async def test_close_flushes_first(world):
    size = 3_000_000
    async with Pair() as pair:
        pair.transport.write(b"x" * size)
        pair.transport.close()
        assert len(await pair.server.received(size)) == size
        assert await pair.client.lost is None


async def test_close_twice_is_close_once(world):
    async with Pair() as pair:
        pair.transport.close()
        pair.transport.close()
        await pair.client.lost
        pair.transport.close()
        pair.transport.abort()
    assert pair.client.events == ["made", "lost"]


async def test_abort_drops_the_buffer(world):
    async with Pair() as pair:
        pair.server.transport.pause_reading()
        pair.transport.write(b"x" * 20_000_000)
        assert pair.transport.get_write_buffer_size() > 0
        pair.transport.abort()
        assert await pair.client.lost is None
        assert pair.transport.get_write_buffer_size() == 0
        pair.server.transport.resume_reading()
        await pair.server.lost


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_write_after_close_is_dropped(world, how):
    async with Pair() as pair:
        getattr(pair.transport, how)()
        for _ in range(10):
            pair.transport.write(b"dropped")
            if world.weft_loop:  # asyncio's writelines raises TypeError here on some versions
                pair.transport.writelines([b"also", b"dropped"])
        await pair.client.lost
        for _ in range(10):
            pair.transport.write(b"dropped")
        await pair.server.lost
        assert bytes(pair.server.data) == b""


async def test_write_after_the_peer_reset(world):
    """A write to a lost connection never raises; the loss comes as connection_lost."""
    async with Pair() as pair:
        pair.server.transport.abort()
        await pair.server.lost
        for _ in range(20):
            pair.transport.write(b"x" * 1000)
            await turns()
        error = await pair.client.lost
        assert error is None or isinstance(error, OSError)
        pair.transport.write(b"x")


async def test_reset_by_the_peer(world):
    async with Pair() as pair:
        sock = pair.server.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        pair.server.transport.abort()
        assert isinstance(await pair.client.lost, ConnectionResetError)
    assert pair.client.events == ["made", "lost"]


async def test_half_close(world):
    async with Pair() as pair:
        pair.server.keep_open_after_eof = True
        assert pair.transport.can_write_eof()
        pair.transport.write(b"question")
        pair.transport.write_eof()
        await pair.server.eof
        assert await pair.server.received(8) == b"question"
        assert not pair.server.transport.is_closing()
        pair.server.transport.write(b"answer")
        pair.server.transport.close()
        assert await pair.client.received(6) == b"answer"
        await pair.client.lost
    assert pair.server.events == ["made", "eof", "lost"]


async def test_eof_closes_by_default(world):
    async with Pair() as pair:
        pair.transport.write_eof()
        await pair.server.lost
        await pair.client.lost


def test_write_after_eof(world, same):
    async def body(world):
        async with Pair() as pair:
            pair.transport.write_eof()
            pair.transport.write_eof()
            try:
                pair.transport.write(b"late")
            except RuntimeError as error:
                return error

    assert same(body)["returned"][0] == "RuntimeError"


async def test_write_eof_flushes_first(world):
    async with Pair() as pair:
        pair.server.keep_open_after_eof = True
        size = 2_000_000
        pair.transport.write(b"x" * size)
        pair.transport.write_eof()
        await pair.server.eof
        assert len(pair.server.data) == size


@pytest.mark.parametrize(
    "data", [b"bytes", bytearray(b"bytearray"), memoryview(b"memoryview"), memoryview(b"x1y2")[::2], b""]
)
async def test_write_takes_bytes_like(world, data):
    if isinstance(data, memoryview) and not data.contiguous:
        pytest.skip("the kernel takes contiguous memory only, and asyncio says so late")
    async with Pair() as pair:
        pair.transport.write(data)
        pair.transport.write(b".")
        assert await pair.server.received(len(data) + 1) == bytes(data) + b"."


async def test_written_bytearray_may_change_at_once(world):
    async with Pair() as pair:
        data = bytearray(b"before")
        pair.transport.write(data)
        data[:] = b"after!"
        assert await pair.server.received(6) == b"before"


@pytest.mark.parametrize("data", ["text", 5, None, [b"x"]])
def test_write_refuses(world, same, data):
    async def body(world):
        async with Pair() as pair:
            try:
                pair.transport.write(data)
            except TypeError as error:
                return type(error)

    assert same(body)["returned"] == "TypeError"


async def test_many_small_writes_keep_their_order(world):
    async with Pair() as pair:
        expected = b"".join(b"%d," % number for number in range(5000))
        for number in range(5000):
            pair.transport.write(b"%d," % number)
            if number % 100 == 0:
                await turns()
        assert await pair.server.received(len(expected)) == expected


async def test_writelines(world):
    async with Pair() as pair:
        pair.transport.writelines([b"a", bytearray(b"b"), memoryview(b"c")])
        pair.transport.writelines(part for part in (b"d", b"e"))
        pair.transport.writelines([])
        pair.transport.writelines([b"x" * 300_000 for _ in range(5)])
        got = await pair.server.received(5 + 1_500_000)
        assert got == b"abcde" + b"x" * 1_500_000


async def test_pause_writing_may_write_after_all_lines(world):
    async with Pair() as pair:
        pair.server.transport.pause_reading()
        lines = [b"%d" % (number % 10) * 1_000_000 for number in range(20)]
        pair.client.pause_writing = lambda: pair.transport.write(b"paused")
        pair.transport.writelines(lines)
        pair.client.pause_writing = lambda: None
        pair.server.transport.resume_reading()
        pair.transport.write(b"end")
        pair.transport.write_eof()
        await pair.server.eof
        # 3.11.7 to 3.13.0: asyncio's writelines pauses nobody, or joins and pauses as `write` does.
        ends = (b"pausedend",) if world.weft_loop else (b"pausedend", b"end")
        assert pair.server.data in [b"".join(lines) + end for end in ends]


async def test_big_data_both_ways(world):
    size = 5_000_000
    async with Pair() as pair:
        pair.transport.write(b"c" * size)
        pair.server.transport.write(b"s" * size)
        assert await pair.server.received(size) == b"c" * size
        assert await pair.client.received(size) == b"s" * size


# ------------------------------------------------------------------------------------------------------ flow control


async def test_pause_and_resume_writing(world):
    async with Pair() as pair:
        pair.server.transport.pause_reading()
        while not pair.client.paused.done():
            pair.transport.write(b"x" * 100_000)
        assert pair.transport.get_write_buffer_size() > pair.transport.get_write_buffer_limits()[1]
        assert pair.client.events == ["made", "pause"]
        pair.server.transport.resume_reading()
        await pair.client.resumed
        assert pair.transport.get_write_buffer_size() <= pair.transport.get_write_buffer_limits()[0]
        assert pair.client.events == ["made", "pause", "resume"]


def test_buffer_limits(world, same):
    async def body(world):
        async with Pair() as pair:
            limits = [pair.transport.get_write_buffer_limits()]
            for arguments in ({"high": 100}, {"low": 10}, {"high": 0}, {"high": 100, "low": 100}, {}):
                pair.transport.set_write_buffer_limits(**arguments)
                limits.append(pair.transport.get_write_buffer_limits())
            for arguments in ({"high": 10, "low": 11}, {"high": -1}, {"low": -1}):
                try:
                    pair.transport.set_write_buffer_limits(**arguments)
                except ValueError as error:
                    limits.append(error)
            return limits

    assert len(same(body)["returned"]) == 9


async def test_high_water_zero_pauses_for_any_rest(world):
    async with Pair() as pair:
        pair.transport.set_write_buffer_limits(high=0)
        pair.server.transport.pause_reading()
        while not pair.client.paused.done():
            pair.transport.write(b"x" * 500_000)
            await turns()
        pair.server.transport.resume_reading()
        await pair.client.resumed
        assert pair.transport.get_write_buffer_size() == 0


async def test_pause_and_resume_reading(world):
    async with Pair() as pair:
        assert pair.server.transport.is_reading()
        pair.server.transport.pause_reading()
        assert not pair.server.transport.is_reading()
        pair.server.transport.pause_reading()
        pair.transport.write(b"waits")
        await turns(20)
        assert bytes(pair.server.data) == b""
        pair.server.transport.resume_reading()
        pair.server.transport.resume_reading()
        assert await pair.server.received(5) == b"waits"
        pair.server.transport.close()
        assert not pair.server.transport.is_reading()
        pair.server.transport.pause_reading()
        pair.server.transport.resume_reading()


async def test_pause_reading_inside_data_received(world):
    class Pauses(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.pause_reading()

    async with Pair() as pair:
        pauses = Pauses()
        pauses.transport = pair.server.transport
        pair.server.transport.set_protocol(pauses)
        pair.transport.write(b"1")
        await pauses.received(1)
        pair.transport.write(b"2")
        await turns(20)
        assert bytes(pauses.data) == b"1"
        pair.server.transport.resume_reading()
        assert await pauses.received(2) == b"12"
        pair.server.transport.set_protocol(pair.server)


async def test_pause_reading_in_connection_made(world):
    loop = asyncio.get_running_loop()
    accepted = loop.create_future()

    class Pauses(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.pause_reading()
            accepted.set_result(self)

    async with await loop.create_server(Pauses, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        transport, client = await loop.create_connection(Recorder, "127.0.0.1", port)
        transport.write(b"early")
        server = await accepted
        await turns(20)
        assert bytes(server.data) == b""
        server.transport.resume_reading()
        assert await server.received(5) == b"early"
        transport.close()
        await client.lost
        await server.lost


async def test_resume_writing_may_write_again(world):
    class Refills(Recorder):
        def resume_writing(self):
            super().resume_writing()
            if self.events.count("resume") == 1:
                self.transport.write(b"z" * 400_000)

    async with Pair() as pair:
        refills = Refills()
        refills.transport = pair.transport
        pair.transport.set_protocol(refills)
        total = 0
        while "pause" not in refills.events:
            pair.transport.write(b"y" * 400_000)
            total += 400_000
        expected = b"y" * total + b"z" * 400_000
        assert await pair.server.received(len(expected)) == expected
        pair.transport.set_protocol(pair.client)


# ------------------------------------------------------------------------------------------------ protocols that fail


@pytest.mark.parametrize("method", ["data_received", "eof_received"])
async def test_exception_in_a_protocol_closes_the_connection(world, method):
    async with Pair() as pair:

        def bad(*args):
            raise ArithmeticError(method)

        setattr(pair.server, method, bad)
        if method == "data_received":
            pair.transport.write(b"x")
        else:
            pair.transport.write_eof()
        assert isinstance(await pair.server.lost, ArithmeticError)
        await pair.client.lost
    (report,) = world.take_reports()
    assert isinstance(report["exception"], ArithmeticError)
    assert report["message"].startswith("Fatal error: protocol." + method)
    assert report["transport"] is pair.server.transport
    assert report["protocol"] is pair.server


@pytest.mark.parametrize("method", ["data_received", "eof_received", "buffer_updated"])
async def test_what_a_protocol_wrote_before_it_failed_is_sent(world, method):
    async with Pair() as pair:
        lost = pair.server.lost
        protocol = Buffered() if method == "buffer_updated" else pair.server

        def bad(*args):
            pair.server.transport.write(b"last words")
            raise ArithmeticError(method)

        setattr(protocol, method, bad)
        protocol.connection_lost = pair.server.connection_lost
        pair.server.transport.set_protocol(protocol)
        if method == "eof_received":
            pair.transport.write_eof()
        else:
            pair.transport.write(b"x")
        assert isinstance(await lost, ArithmeticError)
        await pair.client.lost
        assert bytes(pair.client.data) == b"last words"
    world.take_reports()


async def test_exception_in_connection_lost_is_reported(world):
    async with Pair() as pair:
        lost = pair.client.connection_lost

        def bad(exc):
            lost(exc)
            raise ArithmeticError("in connection_lost")

        pair.client.connection_lost = bad
        pair.transport.close()
        await pair.client.lost
        await turns(2)
    (report,) = world.take_reports()
    assert isinstance(report["exception"], ArithmeticError)


# --------------------------------------------------------------------------------------------------- BufferedProtocol


class Buffered(asyncio.BufferedProtocol):
    def __init__(self, size=16):
        self.buffer, self.data, self.hints = bytearray(size), bytearray(), []
        self.lost, self.eof = (asyncio.get_running_loop().create_future() for _ in range(2))

    def connection_made(self, transport):
        self.transport = transport

    def get_buffer(self, sizehint):
        self.hints.append(sizehint)
        return self.buffer

    def buffer_updated(self, nbytes):
        self.data += self.buffer[:nbytes]

    def eof_received(self):
        self.eof.set_result(None)

    def connection_lost(self, exc):
        self.lost.set_result(exc)


async def test_buffered_protocol(world):
    async with Pair() as pair:
        buffered = Buffered()
        buffered.transport = pair.server.transport
        pair.server.transport.set_protocol(buffered)
        pair.transport.write(bytes(range(200)))
        pair.transport.close()
        await buffered.lost
        assert bytes(buffered.data) == bytes(range(200))
        assert buffered.eof.done()
        pair.server.lost.set_result(None)


@pytest.mark.parametrize("case", ["raises", "no buffer", "empty buffer", "updated raises"])
async def test_buffered_protocol_that_fails(world, case):
    class Bad(Buffered):
        def get_buffer(self, sizehint):
            if case == "raises":
                raise ArithmeticError(case)
            return {"no buffer": None, "empty buffer": bytearray()}.get(case, self.buffer)

        def buffer_updated(self, nbytes):
            raise ArithmeticError(case)

    async with Pair() as pair:
        bad = Bad()
        pair.server.transport.set_protocol(bad)
        pair.transport.write(b"x")
        error = await bad.lost
        expected = {"no buffer": TypeError, "empty buffer": RuntimeError}.get(case, ArithmeticError)
        assert isinstance(error, expected)
        pair.server.lost.set_result(None)
        await pair.client.lost
    assert len(world.take_reports()) == 1
