"""TLS peers that stall, lie, vanish; callers that give up: an error each time, and nothing hangs or leaks."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct

import pytest
from tcp_pair import Recorder
from tls_pair import TLSPair, client_context, server_context
from worlds import turns


class Raw(Recorder):
    """A plain peer: it speaks no TLS, or only what a test lets it."""


async def plain_listener():
    loop = asyncio.get_running_loop()
    accepted = loop.create_future()

    def serve():
        protocol = Raw()
        accepted.set_result(protocol)
        return protocol

    listener = await loop.create_server(serve, "127.0.0.1", 0)
    return listener, listener.sockets[0].getsockname()[1], accepted


async def over(listener, protocol):
    if not protocol.lost.done():
        protocol.transport.abort()
    await protocol.lost
    listener.close()
    await listener.wait_closed()


def connect(port, **options):
    return asyncio.get_running_loop().create_connection(
        Recorder, "127.0.0.1", port, ssl=client_context(), server_hostname="localhost", **options
    )


async def test_a_peer_that_stalls_in_the_handshake(world):
    listener, port, accepted = await plain_listener()
    with pytest.raises(ConnectionAbortedError, match="SSL handshake is taking longer than 0.05 seconds"):
        await connect(port, ssl_handshake_timeout=0.05)
    await over(listener, await accepted)


async def test_garbage_instead_of_tls(world):
    listener, port, accepted = await plain_listener()
    task = asyncio.ensure_future(connect(port))
    protocol = await accepted
    await protocol.made
    protocol.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(ssl.SSLError):
        await task
    await over(listener, protocol)


@pytest.mark.parametrize("how", ("eof", "reset"))
async def test_the_peer_leaves_in_the_handshake(world, how):
    listener, port, accepted = await plain_listener()
    task = asyncio.ensure_future(connect(port))
    protocol = await accepted
    await protocol.received(5)
    if how == "reset":
        sock = protocol.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    protocol.transport.abort()
    with pytest.raises(ConnectionResetError):
        await task
    await over(listener, protocol)


async def test_a_certificate_that_is_not_trusted(world):
    async with TLSPair() as pair:
        port = pair.listener.sockets[0].getsockname()[1]
        pair.listener.close()
        listener = await asyncio.get_running_loop().create_server(
            asyncio.Protocol, "127.0.0.1", 0, ssl=server_context()
        )
        port = listener.sockets[0].getsockname()[1]
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.get_running_loop().create_connection(Recorder, "127.0.0.1", port, ssl=True)
        listener.close()
        await listener.wait_closed()


async def test_cancelled_in_the_handshake(world):
    listener, port, accepted = await plain_listener()
    task = asyncio.ensure_future(connect(port))
    protocol = await accepted
    await protocol.received(5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await protocol.lost
    await over(listener, protocol)


async def test_start_tls_cancelled_in_the_handshake(world):
    loop = asyncio.get_running_loop()
    listener, port, accepted = await plain_listener()
    transport, client = await loop.create_connection(Recorder, "127.0.0.1", port)
    protocol = await accepted
    task = loop.create_task(loop.start_tls(transport, client, client_context(), server_hostname="localhost"))
    await protocol.received(5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await protocol.lost
    await over(listener, protocol)


async def upgraded_server(**options):
    """A TLS server protocol, and a blocking socket that talks TLS to it by hand."""
    loop = asyncio.get_running_loop()
    accepted = loop.create_future()

    def serve():
        protocol = Recorder()
        accepted.set_result(protocol)
        return protocol

    listener = await loop.create_server(serve, "127.0.0.1", 0, ssl=server_context(), **options)
    port = listener.sockets[0].getsockname()[1]

    def dial():
        raw = socket.create_connection(("127.0.0.1", port))
        return client_context().wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=True)

    sock = await asyncio.to_thread(dial)
    protocol = await accepted
    await protocol.made
    await loop.shutdown_default_executor()
    return listener, protocol, sock


async def test_a_peer_that_stalls_in_the_shutdown(world):
    listener, protocol, sock = await upgraded_server(ssl_shutdown_timeout=0.05)
    protocol.transport.close()
    assert isinstance(await protocol.lost, TimeoutError)
    sock.close()
    await over(listener, protocol)


@pytest.mark.weft_only  # asyncio before 3.14.1 waits for as long as the peer does not read
async def test_a_peer_that_says_its_end_and_never_reads(world):
    listener, protocol, sock = await upgraded_server(ssl_shutdown_timeout=0.1)
    while protocol.transport.get_write_buffer_size() == 0:
        protocol.transport.write(b"x" * 1_000_000)
        await turns(1)
    protocol.transport.close()
    assert isinstance(await protocol.lost, TimeoutError)
    sock.close()
    await over(listener, protocol)


async def test_a_ragged_end(world):
    listener, protocol, sock = await upgraded_server()
    sock.shutdown(socket.SHUT_WR)
    assert await protocol.lost is None
    assert protocol.events == ["made", "eof", "lost"]
    sock.close()
    await over(listener, protocol)


async def test_a_peer_that_resets(world):
    listener, protocol, sock = await upgraded_server()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    protocol.transport.pause_reading()
    protocol.transport.write(b"x" * 5_000_000)
    await turns(2)
    sock.close()
    assert isinstance(await protocol.lost, OSError)
    for _ in range(3):
        protocol.transport.write(b"dropped")
    await over(listener, protocol)


async def test_garbage_after_the_handshake(world):
    listener, protocol, sock = await upgraded_server()
    raw = socket.socket(fileno=sock.detach())
    raw.sendall(b"this is no record" * 10)
    assert isinstance(await protocol.lost, ssl.SSLError)
    raw.close()
    await over(listener, protocol)


@pytest.mark.weft_only  # asyncio says that all is well, and never calls connection_made
async def test_closed_in_the_handshake(world):
    loop = asyncio.get_running_loop()
    listener, port, accepted = await plain_listener()
    transport, client = await loop.create_connection(Recorder, "127.0.0.1", port)
    protocol = await accepted
    task = loop.create_task(loop.start_tls(transport, client, client_context(), server_hostname="localhost"))
    await protocol.received(5)
    transport.abort()
    with pytest.raises(ConnectionAbortedError, match="closed during the SSL handshake"):
        await task
    await protocol.lost
    await over(listener, protocol)
