"""Contexts of the test authority, and a connected pair of recording protocols over TLS."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

from tcp_pair import Recorder

CERTS = Path(__file__).parent / "certs"


def server_context(**options):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTS / "server.pem")
    for name, value in options.items():
        setattr(context, name, value)
    return context


def client_context(**options):
    context = ssl.create_default_context(cafile=str(CERTS / "ca.pem"))
    for name, value in options.items():
        setattr(context, name, value)
    return context


class TLSPair:
    """A connected client and server protocol on loopback, over TLS."""

    def __init__(self, server_ssl=None, client_ssl=None, protocol=Recorder, server_hostname="localhost", **options):
        self.server_ssl = server_ssl or server_context()
        self.client_ssl = client_ssl or client_context()
        self.protocol = protocol
        self.server_hostname = server_hostname
        self.options = options

    async def __aenter__(self):
        loop = asyncio.get_running_loop()
        accepted = loop.create_future()

        def serve():
            protocol = self.protocol()
            accepted.set_result(protocol)
            return protocol

        self.listener = await loop.create_server(serve, "127.0.0.1", 0, ssl=self.server_ssl, **self.options)
        port = self.listener.sockets[0].getsockname()[1]
        self.transport, self.client = await loop.create_connection(
            self.protocol,
            "127.0.0.1",
            port,
            ssl=self.client_ssl,
            server_hostname=self.server_hostname,
            **self.options,
        )
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
