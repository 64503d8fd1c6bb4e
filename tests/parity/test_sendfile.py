"""sendfile and sock_sendfile: every byte once, in its place, whatever becomes of file, peer, transport and task meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import random
import socket

import pytest
from tcp_pair import Pair
from tls_pair import TLSPair
from worlds import since, turns

DATA = random.Random(5).randbytes(3_000_000)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(DATA)
    with path.open("rb") as opened:
        yield opened


@contextlib.asynccontextmanager
async def slow_pair():
    """A pair whose sockets hold little, and whose server does not read yet."""
    async with Pair() as pair:
        for protocol in (pair.client, pair.server):
            sock = protocol.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 17)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
        pair.server.transport.pause_reading()
        yield pair


@contextlib.contextmanager
def socks():
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    with ends[0], ends[1]:
        yield ends


async def drained(sock, count):
    data = bytearray()
    while len(data) < count and (chunk := await asyncio.get_running_loop().sock_recv(sock, 1 << 20)):
        data += chunk
    return bytes(data)


@pytest.mark.parametrize(("offset", "count"), [(0, None), (1000, None), (1000, 70_000), (0, len(DATA)), (5, len(DATA))])
async def test_a_transport_sends_a_file(world, file, offset, count):
    expected = DATA[offset:][:count]
    async with Pair() as pair:
        sent = await asyncio.get_running_loop().sendfile(pair.transport, file, offset, count)
        assert sent == len(expected)
        assert await pair.server.received(sent) == expected
        assert file.tell() == offset + sent


@pytest.mark.parametrize(("offset", "count"), [(0, None), (1000, 70_000), (5, len(DATA))])
@pytest.mark.parametrize("native", [True, False])
async def test_a_socket_sends_a_file(world, file, offset, count, native):
    loop, expected = asyncio.get_running_loop(), DATA[offset:][:count]
    source = file if native else io.BytesIO(DATA)
    with socks() as (left, right):
        reading = loop.create_task(drained(right, len(expected)))
        assert await loop.sock_sendfile(left, source, offset, count) == len(expected)
        assert await reading == expected
        assert source.tell() == offset + len(expected)


async def test_what_was_written_before_leaves_first(world, file):
    async with Pair() as pair:
        pair.transport.write(b"head")
        await asyncio.get_running_loop().sendfile(pair.transport, file)
        pair.transport.write(b"tail")
        assert await pair.server.received(len(DATA) + 8) == b"head" + DATA + b"tail"


async def test_a_full_buffer_leaves_first(world, file):
    async with slow_pair() as pair:
        head = b"h" * 2_000_000
        pair.transport.write(head)
        assert pair.transport.get_write_buffer_size() > 0
        sending = asyncio.ensure_future(asyncio.get_running_loop().sendfile(pair.transport, file))
        await turns(3)
        assert not sending.done()
        pair.server.transport.resume_reading()
        assert await sending == len(DATA)
        assert await pair.server.received(len(head) + len(DATA)) == head + DATA


async def test_a_paused_transport_is_resumed_afterwards(world, file):
    """Reading rests meanwhile; what came is delivered afterwards. A transport that was paused stays so."""
    loop = asyncio.get_running_loop()
    async with slow_pair() as pair:
        sending = asyncio.ensure_future(loop.sendfile(pair.transport, file))
        await turns()
        assert not pair.transport.is_reading()
        pair.server.transport.write(b"meanwhile")
        await turns(5)
        assert pair.client.data == b""
        pair.server.transport.resume_reading()
        await sending
        assert pair.transport.is_reading()
        assert await pair.client.received(9) == b"meanwhile"
        pair.transport.pause_reading()
        await loop.sendfile(pair.transport, file, 0, 10)
        assert not pair.transport.is_reading()


@pytest.mark.parametrize("method", ["write", "writelines"])
def test_words_of_a_write_meanwhile(world, same, tmp_path, method):
    path = tmp_path / "file"
    path.write_bytes(DATA)

    async def body(world):
        with path.open("rb") as file:
            async with slow_pair() as pair:
                sending = asyncio.ensure_future(asyncio.get_running_loop().sendfile(pair.transport, file))
                await turns()
                try:
                    getattr(pair.transport, method)([b"x"] if method == "writelines" else b"x")
                except RuntimeError as error:
                    said = str(error)
                pair.server.transport.resume_reading()
                await sending
                pair.transport.write(b"tail")
                assert (await pair.server.received(len(DATA) + 4)).endswith(b"tail")
                return said

    same(body)


@pytest.mark.parametrize(
    ("offset", "count"), [(-1, None), ("0", None), (0, 0), (0, -1), (0, "1"), (1.0, None), (0, 1.5)]
)
@pytest.mark.parametrize("kind", ["transport", "socket"])
def test_words_of_wrong_numbers(world, same, tmp_path, offset, count, kind):
    path = tmp_path / "file"
    path.write_bytes(b"12345")

    async def body(world):
        loop = asyncio.get_running_loop()
        with path.open("rb") as file, socks() as (left, _):
            if kind == "socket":
                await loop.sock_sendfile(left, file, offset, count)
            else:
                async with Pair() as pair:
                    await loop.sendfile(pair.transport, file, offset, count)

    same(body)


@pytest.mark.parametrize("case", ["text", "datagram", "closing", "memory", "memory, transport", "pipe", "TLS socket"])
def test_words_of_what_cannot_be(world, same, tmp_path, case):
    path = tmp_path / "file"
    path.write_bytes(b"12345")

    async def body(world):
        loop = asyncio.get_running_loop()
        with socks() as (left, _), path.open("r" if case == "text" else "rb") as file:
            if case == "text":
                await loop.sock_sendfile(left, file)
            elif case == "datagram":
                with socket.socket(type=socket.SOCK_DGRAM) as sock:
                    sock.setblocking(False)
                    await loop.sock_sendfile(sock, file)
            elif case == "memory":
                await loop.sock_sendfile(left, io.BytesIO(b"1"), fallback=False)
            elif case == "pipe":
                reader, writer = os.pipe()
                with open(reader, "rb") as pipe, open(writer, "wb"):
                    return await loop.sock_sendfile(left, pipe, 0, 5, fallback=False)
            elif case == "TLS socket":
                import ssl

                with ssl.create_default_context().wrap_socket(
                    socket.socket(), do_handshake_on_connect=False, server_hostname="x"
                ) as sock:
                    sock.setblocking(False)
                    await loop.sock_sendfile(sock, file)
            else:
                async with Pair() as pair:
                    if case == "closing":
                        pair.transport.close()
                        await loop.sendfile(pair.transport, file)
                    else:
                        await loop.sendfile(pair.transport, io.BytesIO(b"1"), fallback=False)

    same(body)


async def test_an_empty_file(world, tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    with (tmp_path / "empty").open("rb") as file:
        async with Pair() as pair:
            assert await asyncio.get_running_loop().sendfile(pair.transport, file) == 0
            pair.transport.write(b"x")
            assert await pair.server.received(1) == b"x"


async def test_a_file_that_shrinks(world, tmp_path):
    """The count is what was sent, not what was wished."""
    path = tmp_path / "file"
    path.write_bytes(DATA)
    with path.open("rb") as file:
        async with slow_pair() as pair:
            sending = asyncio.ensure_future(asyncio.get_running_loop().sendfile(pair.transport, file, 0, len(DATA)))
            await turns()
            os.truncate(path, 2_900_000)
            pair.server.transport.resume_reading()
            assert await sending == 2_900_000
            assert await pair.server.received(2_900_000) == DATA[:2_900_000]
            assert file.tell() == 2_900_000


async def test_from_memory_through_the_transport(world):
    source = io.BytesIO(DATA)
    async with Pair() as pair:
        assert await asyncio.get_running_loop().sendfile(pair.transport, source, 100) == len(DATA) - 100
        assert await pair.server.received(len(DATA) - 100) == DATA[100:]
        assert source.tell() == len(DATA)
        assert pair.transport.get_protocol() is pair.client


async def test_a_protocol_that_waits_is_told_after_the_fallback(world):
    async with slow_pair() as pair:
        pair.transport.write(b"h" * 4_000_000)
        await pair.client.paused
        sending = asyncio.ensure_future(asyncio.get_running_loop().sendfile(pair.transport, io.BytesIO(DATA)))
        await turns(2)
        pair.server.transport.resume_reading()
        assert await sending == len(DATA)
        await pair.client.resumed
        assert (await pair.server.received(4_000_000 + len(DATA)))[4_000_000:] == DATA


@pytest.mark.parametrize("native", [True, False])
async def test_the_peer_resets_in_the_middle(world, file, native):
    source = file if native else io.BytesIO(DATA)
    async with slow_pair() as pair:
        sending = asyncio.ensure_future(asyncio.get_running_loop().sendfile(pair.transport, source))
        await turns(5)
        assert not sending.done()
        pair.server.transport.abort()
        with pytest.raises(ConnectionError):
            await sending
        if native:
            assert 0 < source.tell() < len(DATA)
        await pair.client.lost
        assert pair.client.events[-1] == "lost"


@pytest.mark.parametrize("native", [True, False])
async def test_cancelled_in_the_middle(world, file, native):
    """The transport is as it was before: it writes, reads, and closes."""
    source = file if native else io.BytesIO(DATA)
    async with slow_pair() as pair:
        sending = asyncio.ensure_future(asyncio.get_running_loop().sendfile(pair.transport, source))
        await turns(5)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert pair.transport.is_reading()
        assert pair.transport.get_protocol() is pair.client
        pair.server.transport.write(b"x")
        await pair.client.received(1)
        pair.server.transport.resume_reading()
        pair.transport.write(b"the end")
        pair.transport.close()
        await pair.server.lost
        assert pair.server.data.endswith(b"the end")
        before = bytes(pair.server.data[:-7])
        assert before == DATA[: len(before)]
        if native and world.weft_loop:
            # asyncio leaves the file where it was.
            assert source.tell() == len(before)


async def test_a_socket_s_call_cancelled(world, file):
    loop = asyncio.get_running_loop()
    with socks() as (left, right):
        sending = asyncio.ensure_future(loop.sock_sendfile(left, file))
        await turns(3)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert not loop.remove_writer(left)
        assert not loop.remove_reader(right)


@pytest.mark.weft_only
@pytest.mark.parametrize("method", ["close", "abort"])
@pytest.mark.parametrize("is_waiting", [True, False])
async def test_closed_in_the_middle(world, file, method, is_waiting):
    """asyncio's sendfile would wait for ever. The descriptor must not be watched when it is closed."""
    loop = asyncio.get_running_loop()
    async with slow_pair() as pair:
        if is_waiting:
            pair.transport.write(b"h" * 4_000_000)
        sending = asyncio.ensure_future(loop.sendfile(pair.transport, file))
        await turns(3)
        fd = pair.transport.get_extra_info("socket").fileno()
        getattr(pair.transport, method)()
        pair.server.transport.resume_reading()
        with pytest.raises(ConnectionError, match="Connection is closed by peer"):
            await sending
        await pair.client.lost
        assert loop._poller.watched(fd, 2) is None


@pytest.mark.weft_only
async def test_one_file_at_a_time(world, file):
    async with slow_pair() as pair:
        loop = asyncio.get_running_loop()
        sending = asyncio.ensure_future(loop.sendfile(pair.transport, file))
        await turns()
        with pytest.raises(RuntimeError, match="sendfile is in progress"):
            await loop.sendfile(pair.transport, file)
        pair.server.transport.resume_reading()
        assert await sending == len(DATA)


# ------------------------------------------------------------------------------------------- TLS, through a buffer


@pytest.mark.parametrize(("offset", "count"), [(0, None), (1000, 70_000), (5, len(DATA))])
async def test_over_tls(world, file, offset, count):
    expected = DATA[offset:][:count]
    async with TLSPair() as pair:
        pair.transport.write(b"before")
        assert await asyncio.get_running_loop().sendfile(pair.transport, file, offset, count) == len(expected)
        pair.transport.write(b"after")
        whole = b"before" + expected + b"after"
        assert await pair.server.received(len(whole)) == whole
        assert file.tell() == offset + len(expected)
        assert pair.transport.get_protocol() is pair.client and pair.transport.is_reading()


async def test_over_tls_to_a_peer_that_reads_late(world, file):
    async with TLSPair() as pair:
        pair.server.transport.pause_reading()
        pair.transport.write(b"h" * 8_000_000)
        sending = asyncio.ensure_future(asyncio.get_running_loop().sendfile(pair.transport, file))
        await turns(10)
        assert not sending.done()
        pair.server.transport.resume_reading()
        assert await sending == len(DATA)
        assert (await pair.server.received(8_000_000 + len(DATA)))[8_000_000:] == DATA


async def test_over_tls_to_a_peer_that_goes_away(world, file):
    async with TLSPair() as pair:
        pair.server.transport.pause_reading()
        pair.transport.write(b"h" * 8_000_000)
        sending = asyncio.ensure_future(asyncio.get_running_loop().sendfile(pair.transport, file))
        await turns(10)
        pair.server.transport.abort()
        with pytest.raises(ConnectionError):
            await sending
        await pair.client.lost


def test_words_of_a_fallback_that_is_forbidden(world, same):
    async def body(world):
        async with TLSPair() as pair:
            try:
                await asyncio.get_running_loop().sendfile(pair.transport, io.BytesIO(b"1"), fallback=False)
            except RuntimeError as error:
                return str(error).split("<")[0]

    assert same(body)["returned"]


async def test_position_without_an_offset(world):
    """Before 3.14 the fallback begins where the file stands."""
    source = io.BytesIO(b"0123456789")
    source.seek(4)
    loop = asyncio.get_running_loop()
    with socks() as (left, right):
        sent = await loop.sock_sendfile(left, source)
        assert sent == (10 if since(3, 14) else 6)
        assert await drained(right, sent) == b"0123456789"[-sent:]
