"""A connected pair of recording protocols on loopback, for tests of transports."""

from __future__ import annotations

import asyncio


class Recorder(asyncio.Protocol):
    """Writes down what happens; events as futures, so that a test waits for them."""

    def __init__(self):
        self.events = []
        self.data = bytearray()
        loop = asyncio.get_running_loop()
        self.made, self.lost, self.eof = loop.create_future(), loop.create_future(), loop.create_future()
        self._waits = []
        self.keep_open_after_eof = False
        self.paused = loop.create_future()
        self.resumed = loop.create_future()

    def connection_made(self, transport):
        self.transport = transport
        self.events.append("made")
        self.made.set_result(transport)

    def data_received(self, data):
        assert type(data) is bytes
        self.data += data
        for count, future in self._waits:
            if len(self.data) >= count and not future.done():
                future.set_result(None)

    def eof_received(self):
        self.events.append("eof")
        self.eof.set_result(None)
        return self.keep_open_after_eof

    def connection_lost(self, exc):
        self.events.append("lost")
        self.lost.set_result(exc)

    def pause_writing(self):
        self.events.append("pause")
        if not self.paused.done():
            self.paused.set_result(None)

    def resume_writing(self):
        self.events.append("resume")
        if not self.resumed.done():
            self.resumed.set_result(None)

    async def received(self, count):
        if len(self.data) < count:
            future = asyncio.get_running_loop().create_future()
            self._waits.append((count, future))
            await future
        return bytes(self.data)


class Pair:
    """A connected client and server protocol on loopback."""

    async def __aenter__(self):
        loop = asyncio.get_running_loop()
        accepted = loop.create_future()

        def serve():
            protocol = Recorder()
            accepted.set_result(protocol)
            return protocol

        self.listener = await loop.create_server(serve, "127.0.0.1", 0)
        port = self.listener.sockets[0].getsockname()[1]
        self.transport, self.client = await loop.create_connection(Recorder, "127.0.0.1", port)
        self.server = await accepted
        await self.server.made
        return self

    async def __aexit__(self, *args):
        self.listener.close()
        for protocol in (self.client, self.server):
            if not protocol.lost.done():
                protocol.transport.abort()
        await self.client.lost
        await self.server.lost
        await self.listener.wait_closed()
