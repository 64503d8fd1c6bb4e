"""TLS transports: data, flow control, what they tell of themselves, shutdown, start_tls."""

from __future__ import annotations

import asyncio
import socket
import ssl

import pytest
from tcp_pair import Pair, Recorder
from tls_pair import CERTS, TLSPair, client_context, server_context
from worlds import turns


async def test_echo(world):
    async with TLSPair() as pair:
        pair.transport.write(b"hello")
        assert await pair.server.received(5) == b"hello"
        pair.server.transport.writelines([b"hello ", b"", bytearray(b"your"), memoryview(b"self")])
        assert await pair.client.received(14) == b"hello yourself"
        assert isinstance(pair.transport, asyncio.Transport)
        assert pair.transport.get_protocol() is pair.client


@pytest.mark.parametrize("size", (16_383, 16_384, 16_385, 100_000, 3_000_000))
async def test_all_sizes_arrive(world, size):
    data = bytes(i * 7 % 251 for i in range(1000)) * (size // 1000 + 1)
    async with TLSPair() as pair:
        pair.transport.write(data[:size])
        assert await pair.server.received(size) == data[:size]
        pair.server.transport.write(memoryview(data)[:size])
        assert await pair.client.received(size) == data[:size]


async def test_many_small_writes_keep_their_order(world):
    async with TLSPair() as pair:
        for i in range(5000):
            pair.transport.write(b"%d," % i)
        expected = b"".join(b"%d," % i for i in range(5000))
        assert await pair.server.received(len(expected)) == expected


async def test_the_writer_may_reuse_its_buffer(world):
    async with TLSPair() as pair:
        buffer = bytearray(b"first")
        pair.transport.write(buffer)
        buffer[:] = b"other"
        assert await pair.server.received(5) == b"first"


async def test_extra_info(world):
    server_ssl, client_ssl = server_context(), client_context()
    async with TLSPair(server_ssl, client_ssl) as pair:
        info = pair.transport.get_extra_info
        assert info("sslcontext") is client_ssl
        assert pair.server.transport.get_extra_info("sslcontext") is server_ssl
        assert isinstance(info("ssl_object"), ssl.SSLObject)
        assert ("DNS", "localhost") in info("peercert")["subjectAltName"]
        assert info("cipher") == info("ssl_object").cipher()
        assert info("compression", "x") is None
        assert info("peername")[0] == "127.0.0.1"
        assert info("socket").fileno() > 0
        assert info("nonsense", 7) == 7


async def test_alpn_sni_and_client_certificate(world):
    names = []
    server_ssl, client_ssl = server_context(), client_context()
    server_ssl.set_alpn_protocols(["h2", "http/1.1"])
    client_ssl.set_alpn_protocols(["http/1.1"])
    server_ssl.sni_callback = lambda obj, name, context: names.append(name)
    server_ssl.verify_mode = ssl.CERT_REQUIRED
    server_ssl.load_verify_locations(CERTS / "ca.pem")
    client_ssl.load_cert_chain(CERTS / "client.pem")
    async with TLSPair(server_ssl, client_ssl) as pair:
        assert names == ["localhost"]
        assert pair.transport.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        subject = pair.server.transport.get_extra_info("peercert")["subject"]
        assert subject == ((("commonName", "weft-client"),),)


async def test_a_server_sees_a_resumed_session(world):
    server_ssl = server_context(maximum_version=ssl.TLSVersion.TLSv1_2)
    async with TLSPair(server_ssl) as pair:
        assert not pair.server.transport.get_extra_info("ssl_object").session_reused
        port = pair.listener.sockets[0].getsockname()[1]
        client_ssl = client_context()

        def connect(session):
            with socket.create_connection(("127.0.0.1", port)) as raw:
                with client_ssl.wrap_socket(raw, server_hostname="localhost", session=session) as sock:
                    return sock.session, sock.session_reused

        pair.listener.close()
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=server_ssl)
        port = listener.sockets[0].getsockname()[1]
        session, _ = await asyncio.to_thread(connect, None)
        assert (await asyncio.to_thread(connect, session))[1]
        listener.close()
        await turns(3)
        await loop.shutdown_default_executor()


async def test_close_tells_both_sides(world):
    async with TLSPair() as pair:
        pair.transport.write(b"last words")
        pair.transport.close()
        assert pair.transport.is_closing()
        pair.transport.write(b"dropped")
        pair.transport.writelines([b"dropped"])
        assert await pair.client.lost is None
        assert await pair.server.lost is None
        assert bytes(pair.server.data) == b"last words"
        pair.transport.write(b"dropped")
        pair.transport.close()
        pair.transport.abort()
    assert pair.server.events == ["made", "eof", "lost"]


async def test_close_flushes_first(world):
    async with TLSPair() as pair:
        pair.transport.write(b"x" * 3_000_000)
        pair.transport.close()
        assert await pair.server.lost is None
        assert len(pair.server.data) == 3_000_000


async def test_abort(world):
    async with TLSPair() as pair:
        pair.transport.abort()
        assert pair.transport.is_closing()
        assert await pair.client.lost is None
        await pair.server.lost


async def test_abort_during_shutdown(world):
    async with TLSPair() as pair:
        pair.server.transport.pause_reading()
        pair.transport.close()
        pair.transport.abort()
        assert await pair.client.lost is None


async def test_no_half_close(world):
    async with TLSPair() as pair:
        assert not pair.transport.can_write_eof()
        with pytest.raises(NotImplementedError):
            pair.transport.write_eof()


@pytest.mark.parametrize("wrong", ("text", 7, None))
async def test_write_refuses(world, wrong):
    async with TLSPair() as pair:
        with pytest.raises(TypeError, match=f"data: expecting a bytes-like instance, got {type(wrong).__name__}"):
            pair.transport.write(wrong)


async def test_flow_control_of_writing(world):
    async with TLSPair() as pair:
        pair.server.transport.pause_reading()
        size = 0
        while not pair.client.paused.done():
            pair.transport.write(b"x" * 100_000)
            size += 100_000
            await turns(1)
        assert pair.transport.get_write_buffer_size() >= 512 * 1024
        pair.server.transport.resume_reading()
        await pair.client.resumed
        await pair.server.received(size)
        assert pair.transport.get_write_buffer_size() == 0


async def test_pause_writing_may_write_after_all_lines(world):
    async with TLSPair() as pair:
        pair.server.transport.pause_reading()
        # What the transport below holds does not count: fill it.
        first = b"first" * 2_000_000
        pair.transport.write(first)
        lines = [b"%d" % (number % 10) * 1_000_000 for number in range(10)]
        pair.client.pause_writing = lambda: pair.transport.write(b"paused")
        pair.transport.writelines(lines)
        pair.client.pause_writing = lambda: None
        pair.server.transport.resume_reading()
        expected = first + b"".join(lines) + b"paused"
        assert await pair.server.received(len(expected)) == expected


async def test_limits(world):
    async with TLSPair() as pair:
        assert pair.transport.get_write_buffer_limits() == (128 * 1024, 512 * 1024)
        pair.transport.set_write_buffer_limits(high=1000)
        assert pair.transport.get_write_buffer_limits() == (250, 1000)
        with pytest.raises(ValueError, match="must be >= low"):
            pair.transport.set_write_buffer_limits(high=1, low=2)
        assert pair.transport.get_read_buffer_limits() == (64 * 1024, 256 * 1024)
        assert pair.transport.get_read_buffer_size() == 0


async def test_pause_and_resume_reading(world):
    async with TLSPair() as pair:
        pair.server.transport.pause_reading()
        assert not pair.server.transport.is_reading()
        pair.transport.write(b"x" * 1_000_000)
        await turns(20)
        assert not pair.server.data
        pair.server.transport.resume_reading()
        assert len(await pair.server.received(1_000_000)) == 1_000_000


@pytest.mark.parametrize("method", ("pause_writing", "resume_writing"))
async def test_flow_control_that_fails_is_reported(world, method):
    async with TLSPair() as pair:

        def bad():
            raise ArithmeticError(method)

        setattr(pair.client, method, bad)
        pair.server.transport.pause_reading()
        size = 0
        while not (world.reports or pair.client.paused.done()):
            pair.transport.write(b"x" * 500_000)
            size += 500_000
            await turns()
        pair.server.transport.resume_reading()
        assert len(await pair.server.received(size)) == size
        (report,) = world.take_reports()
        assert report["message"] == f"protocol.{method}() failed"
        assert isinstance(report["exception"], ArithmeticError)
        assert report["transport"] is pair.transport


@pytest.mark.weft_only  # asyncio pauses and resumes by turns, with nothing waiting, and drain waits for ever
async def test_a_mark_of_zero(world):
    async with TLSPair() as pair:
        pair.transport.set_write_buffer_limits(high=0)
        assert pair.transport.get_write_buffer_limits() == (0, 0)
        for _ in range(3):
            pair.transport.write(b"x")
            await turns()
        assert pair.client.events == ["made"]
        pair.server.transport.pause_reading()
        size = 3
        while not pair.client.paused.done():
            pair.transport.write(b"x" * 500_000)
            size += 500_000
            await turns()
        assert pair.transport.get_write_buffer_size() > 0
        pair.server.transport.resume_reading()
        await pair.client.resumed
        assert len(await pair.server.received(size)) == size


def test_writes_after_the_end_are_counted(world, same, log_lines):
    """As without TLS: dropped, and from the fifth on each is logged."""

    async def body(world):
        async with TLSPair() as pair:
            del log_lines[:]
            pair.transport.close()
            for _ in range(4):
                pair.transport.write(b"x")
                pair.transport.writelines([b"x"])
            lines = [[line for line in log_lines if "SSL" in line]]
            await pair.client.lost
            for _ in range(3):
                pair.transport.write(b"x")
            return lines, [line for line in log_lines if "SSL" in line]

    assert len(same(body)["returned"][1]) > 1


async def test_keeping_the_connection_open_is_not_possible(world, log_lines):
    async with TLSPair() as pair:
        pair.server.keep_open_after_eof = True
        pair.transport.close()
        assert await pair.server.lost is None
        assert pair.server.events == ["made", "eof", "lost"]
    assert "WARNING returning true from eof_received() has no effect when using ssl" in log_lines


@pytest.mark.parametrize("high", (None, 50_000))
async def test_what_nobody_reads_is_bounded(world, high):
    """From the mark on the transport below reads no more, and the peer's writes wait."""
    async with TLSPair() as pair:
        server = pair.server.transport
        if high is not None:
            server.set_read_buffer_limits(high=high)
            assert server.get_read_buffer_limits() == (high // 4, high)
        server.pause_reading()
        size = 0
        while not pair.client.paused.done():
            pair.transport.write(b"x" * 500_000)
            size += 500_000
            await turns()
        await turns(300)
        waiting = server.get_read_buffer_size()
        # One read more than the mark at most.
        assert (high or 256 * 1024) <= waiting <= (high or 256 * 1024) + 256 * 1024
        server.resume_reading()
        assert len(await pair.server.received(size)) == size
        assert server.get_read_buffer_size() == 0


class Buffered(asyncio.BufferedProtocol):
    def __init__(self):
        self.recorder = Recorder()
        self.made, self.lost = self.recorder.made, self.recorder.lost
        self.buffer = bytearray(5_000)

    def connection_made(self, transport):
        self.transport = transport
        self.recorder.connection_made(transport)

    def get_buffer(self, hint):
        # asyncio slices what it is given, and of a bytearray that would be a copy.
        return memoryview(self.buffer)

    def buffer_updated(self, count):
        self.recorder.data_received(bytes(self.buffer[:count]))

    def connection_lost(self, exc):
        self.recorder.connection_lost(exc)


async def test_buffered_protocol(world):
    async with TLSPair(protocol=Buffered) as pair:
        data = bytes(range(256)) * 1000
        pair.transport.write(data)
        assert await pair.server.recorder.received(len(data)) == data


@pytest.mark.weft_only  # asyncio stops reading when there is nothing to read
@pytest.mark.parametrize("kind", (Buffered, Recorder))
async def test_a_read_mark_of_zero(world, kind):
    async with TLSPair(protocol=kind) as pair:
        recorder = getattr(pair.server, "recorder", pair.server)
        pair.server.transport.set_read_buffer_limits(high=0)
        for count in range(1, 4):
            pair.transport.write(b"x" * 10_000)
            assert await recorder.received(count * 10_000) == b"x" * count * 10_000
        pair.server.transport.pause_reading()
        pair.transport.write(b"y")
        while pair.server.transport.get_read_buffer_size() == 0:
            await turns()
        pair.server.transport.resume_reading()
        assert (await recorder.received(30_001))[-1:] == b"y"


async def test_protocols_change_midway(world):
    """Bytes go to whoever is the protocol when they are read, in whichever way that wants them."""
    async with TLSPair() as pair:
        pair.transport.write(b"one")
        await pair.server.received(3)
        server = pair.server.transport
        buffered = Buffered()
        server.set_protocol(buffered)
        assert server.get_protocol() is buffered
        pair.transport.write(b"two" * 5_000)
        assert await buffered.recorder.received(15_000) == b"two" * 5_000
        server.pause_reading()
        pair.transport.write(b"three")
        while server.get_read_buffer_size() == 0:
            await turns()
        server.set_protocol(pair.server)
        server.resume_reading()
        assert await pair.server.received(8) == b"onethree"
        assert pair.server.events == ["made"]
        pair.transport.close()
        assert await pair.server.lost is None


@pytest.mark.parametrize("wrong", (None, b"", "raises"))
async def test_a_buffered_protocol_that_fails(world, wrong):
    class Bad(Buffered):
        def get_buffer(self, hint):
            if wrong == "raises":
                raise ArithmeticError
            return wrong

    if wrong == b"" and not world.weft_loop:
        pytest.skip("asyncio takes it for the end of the connection")
    async with TLSPair() as pair:
        pair.server.transport.set_protocol(bad := Bad())
        pair.transport.write(b"x")
        expected = {None: TypeError, b"": RuntimeError}.get(wrong, ArithmeticError)
        assert isinstance(await bad.lost, expected)
        (report,) = world.take_reports()
        assert report["message"] == "Fatal error on SSL protocol"
        pair.server.lost.set_result(None)


async def test_an_error_in_data_received_closes(world):
    class Broken(Recorder):
        def data_received(self, data):
            raise ZeroDivisionError

    async with TLSPair(protocol=Broken) as pair:
        pair.transport.write(b"x")
        assert isinstance(await pair.server.lost, ZeroDivisionError)
        (report,) = world.take_reports()
        assert report["message"] == "Fatal error on SSL protocol"


@pytest.mark.parametrize("tls_in_tls", (False, True))
async def test_start_tls(world, tls_in_tls):
    loop = asyncio.get_running_loop()
    async with TLSPair() if tls_in_tls else Pair() as pair:
        server = loop.create_task(
            loop.start_tls(pair.server.transport, pair.server, server_context(), server_side=True)
        )
        upper = await loop.start_tls(pair.transport, pair.client, client_context(), server_hostname="localhost")
        accepted = await server
        upper.write(b"x" * 200_000)
        assert len(await pair.server.received(200_000)) == 200_000
        accepted.write(b"secret")
        assert await pair.client.received(6) == b"secret"
        upper.close()
        assert await pair.client.lost is None
        assert await pair.server.lost is None


async def test_start_tls_refuses(world):
    loop = asyncio.get_running_loop()
    async with Pair() as pair:
        with pytest.raises(TypeError, match="expected to be an instance of ssl.SSLContext"):
            await loop.start_tls(pair.transport, pair.client, None)
        with pytest.raises(TypeError, match="is not supported by start_tls"):
            await loop.start_tls(asyncio.Transport(), pair.client, client_context())
        with pytest.raises(ValueError, match="ssl_handshake_timeout should be a positive number, got 0"):
            await loop.start_tls(pair.transport, pair.client, client_context(), ssl_handshake_timeout=0)


async def test_the_context_has_its_private_name(world):
    """aiohttp's tests and others look for it there."""
    async with TLSPair() as pair:
        assert pair.transport._ssl_protocol._sslcontext is pair.transport.get_extra_info("sslcontext")


async def test_streams(world):
    async def serve(reader, writer):
        writer.write(await reader.readexactly(70_000))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context())
    port = server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_context(), server_hostname="localhost")
    writer.write(b"y" * 70_000)
    assert await reader.read() == b"y" * 70_000
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def test_unix(world, tmp_path):
    loop = asyncio.get_running_loop()
    path = str(tmp_path / "socket")
    accepted = loop.create_future()

    def serve():
        accepted.set_result(Recorder())
        return accepted.result()

    server = await loop.create_unix_server(serve, path, ssl=server_context())
    transport, client = await loop.create_unix_connection(
        Recorder, path, ssl=client_context(), server_hostname="localhost"
    )
    transport.write(b"over a path")
    assert await (await accepted).received(11) == b"over a path"
    transport.close()
    await client.lost
    await accepted.result().lost
    server.close()
    await server.wait_closed()
