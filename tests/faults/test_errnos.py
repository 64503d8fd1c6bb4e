"""Every error that the kernel can answer with ends the connection once, with that error, and is named in debug mode."""

from __future__ import annotations

import asyncio
import errno

import pytest
from faulty import faults
from tcp_pair import Pair, Recorder

pytestmark = pytest.mark.weft_only

ENDING = (errno.EPIPE, errno.ECONNRESET, errno.ENOBUFS, errno.ENOMEM, errno.EIO, errno.ETIMEDOUT)


@pytest.mark.loop_debug
@pytest.mark.parametrize("number", ENDING, ids=errno.errorcode.get)
@pytest.mark.parametrize("call", ["send", "recv"])
async def test_an_error_ends_the_connection_once(world, call, number, log_lines):
    with faults() as ops:
        async with Pair() as pair:
            ops.fail(call, number)
            if call == "send":
                pair.transport.write(b"x" * 1000)
                ended = pair.client
            else:
                pair.server.transport.write(b"y")
                ended = pair.client
            exc = await ended.lost
            assert isinstance(exc, OSError)
            assert exc.errno == number
            assert ended.events == ["made", "lost"]
            pair.transport.write(b"more")  # dropped
            assert pair.transport.get_write_buffer_size() == 0
            assert pair.transport.is_closing()
            await pair.server.lost
    assert any("StreamTransport" in line and "Fatal" in line for line in log_lines)


async def test_nothing_raises_after_an_error_of_the_same_callback(world):
    with faults() as ops:
        async with Pair() as pair:
            ops.fail("send", errno.EPIPE)
            pair.transport.write(b"fails")
            pair.transport.write_eof()
            pair.transport.write(b"dropped")
            pair.transport.writelines([b"dropped", b"too"])
            assert isinstance(await pair.client.lost, BrokenPipeError)


@pytest.mark.parametrize("call", ["send", "recv"])
async def test_interrupted_calls_lose_nothing(world, call):
    with faults() as ops:
        async with Pair() as pair:
            ops.fail(call, None, 20)
            data = bytes(range(256)) * 2000
            pair.transport.write(data)
            assert await pair.server.received(len(data)) == data


@pytest.mark.parametrize("number", [errno.ECONNABORTED, None])
async def test_an_accept_that_comes_to_nothing_is_tried_again(world, number):
    with faults() as ops:
        ops.fail("accept", number, 3)
        async with Pair() as pair:
            pair.transport.write(b"hello")
            assert await pair.server.received(5) == b"hello"


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM], ids=errno.errorcode.get)
async def test_an_accept_out_of_resource_loses_no_connection(world, number, monkeypatch):
    monkeypatch.setattr("weft._net.server.ACCEPT_RETRY_S", 0.001)
    with faults() as ops:
        ops.fail("accept", number)
        async with Pair() as pair:
            pair.transport.write(b"hello")
            assert await pair.server.received(5) == b"hello"
    (report,) = world.take_reports()
    assert report["message"] == "socket.accept() out of system resource"
    assert report["exception"].errno == number
    assert "TransportSocket" in repr(report["socket"])


async def test_a_reader_that_never_reads_costs_no_more_than_the_mark(world):
    """A writer that heeds pause_writing holds little; abort frees what is held."""
    async with Pair() as pair:
        pair.server.transport.pause_reading()
        pair.transport.set_write_buffer_limits(high=100_000)
        most = 0
        while not pair.client.paused.done():
            pair.transport.write(b"z" * 10_000)
            most = max(most, pair.transport.get_write_buffer_size())
        assert 100_000 < most <= 110_000
        pair.transport.abort()
        assert pair.transport.get_write_buffer_size() == 0
        assert await pair.client.lost is None


async def test_a_peer_that_resets_in_the_middle_of_a_write(world):
    async with Pair() as pair:
        pair.server.transport.pause_reading()
        pair.transport.write(b"w" * 10_000_000)
        assert pair.transport.get_write_buffer_size() > 0
        pair.server.transport.abort()  # with bytes unread: a reset
        exc = await pair.client.lost
        assert isinstance(exc, ConnectionError)
        assert pair.transport.get_write_buffer_size() == 0
        assert pair.client.events == ["made", "pause", "lost"]


async def test_the_protocol_hears_of_it_although_it_wrote_in_its_own_callback(world):
    class Answering(Recorder):
        def data_received(self, data):
            ops.fail("send", errno.EPIPE)
            self.transport.write(b"answer")

    loop = asyncio.get_running_loop()
    with faults() as ops:
        server_end = loop.create_future()

        def serve():
            server_end.set_result(Answering())
            return server_end.result()

        async with await loop.create_server(serve, "127.0.0.1", 0) as server:
            transport, client = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
            # Through the kernel itself: the fault is for the answer.
            transport.write(b"question")
            answering = await server_end
            exc = await answering.lost
            assert isinstance(exc, BrokenPipeError)
            await client.lost
