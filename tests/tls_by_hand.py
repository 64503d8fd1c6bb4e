"""A TLS peer that a test drives step by step: an SSLObject over a plain protocol, with nothing of the TLS under test."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct

from tcp_pair import Recorder
from tls_pair import client_context, server_context


class HandPeer(asyncio.Protocol):
    """Does its part of the handshake by itself; after that, only what it is told to."""

    def __init__(self, context=None, *, server_side=False, shakes=True):
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._server_side = server_side
        self._shakes = shakes
        if context is None:
            context = server_context() if server_side else client_context()
        self.tls = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_side,
            server_hostname=None if server_side else "localhost",
        )
        loop = asyncio.get_running_loop()
        self.made, self.shaken, self.lost = loop.create_future(), loop.create_future(), loop.create_future()
        #: The other side's close_notify was read; the other side's end of stream.
        self.notified, self.ended = loop.create_future(), loop.create_future()
        self.data = bytearray()
        self._waits = []

    def connection_made(self, transport):
        self.transport = transport
        self.made.set_result(transport)
        if self._shakes and not self._server_side:
            self._shake()

    def start(self):
        """Begin the handshake that it was told not to begin by itself."""
        self._shakes = True
        self._shake()

    def data_received(self, data):
        self._incoming.write(data)
        if self.shaken.done():
            self._read()
        elif self._shakes:
            self._shake()

    def eof_received(self):
        self.ended.set_result(None)
        return True

    def connection_lost(self, exc):
        self.lost.set_result(exc)

    def _send(self):
        if data := self._outgoing.read():
            self.transport.write(data)

    def _shake(self):
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            self._send()
        except ssl.SSLError as error:
            self._send()
            self.shaken.set_exception(error)
        else:
            self._send()
            self.shaken.set_result(None)
            self._read()

    def _read(self):
        over = True
        try:
            while chunk := self.tls.read(65536):
                self.data += chunk
        except ssl.SSLWantReadError:
            over = False
        except ssl.SSLZeroReturnError:
            over = True  # as an empty read, once it has said close_notify itself
        if over and not self.notified.done():
            self.notified.set_result(None)
        self._send()
        for count, future in self._waits:
            if len(self.data) >= count and not future.done():
                future.set_result(None)

    async def heard(self, count):
        """The first `count` bytes that the other side said."""
        if len(self.data) < count:
            future = asyncio.get_running_loop().create_future()
            self._waits.append((count, future))
            await future
        return bytes(self.data)

    def say(self, data):
        self.tls.write(data)
        self._send()

    def notify(self):
        """Say close_notify, and go on reading."""
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        self._send()

    def finish(self):
        """End the stream below, without a close_notify."""
        self.transport.write_eof()

    def reset(self):
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


class HandPair:
    """A `Recorder` behind the server's TLS of the loop under test, and a `HandPeer` that is its client."""

    def __init__(self, server_ssl=None, client_ssl=None, protocol=Recorder, **options):
        self.server_ssl = server_ssl or server_context()
        self.client_ssl = client_ssl or client_context()
        self.protocol = protocol
        self.options = options

    async def __aenter__(self):
        loop = asyncio.get_running_loop()
        accepted = loop.create_future()

        def serve():
            accepted.set_result(self.protocol())
            return accepted.result()

        self.listener = await loop.create_server(serve, "127.0.0.1", 0, ssl=self.server_ssl, **self.options)
        port = self.listener.sockets[0].getsockname()[1]
        _, self.peer = await loop.create_connection(lambda: HandPeer(self.client_ssl), "127.0.0.1", port)
        self.server = await accepted
        await self.peer.shaken
        self.transport = await self.server.made
        return self

    async def __aexit__(self, *args):
        self.listener.close()
        if not self.server.lost.done():
            self.transport.abort()
        await self.server.lost
        self.peer.transport.abort()
        await self.peer.lost
        await self.listener.wait_closed()
