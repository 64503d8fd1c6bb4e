"""How each kind of stream connection is served and made: loopback TCP, Unix sockets, TLS over loopback TCP."""

from __future__ import annotations

import functools
import itertools
import os
import socket
from typing import Any

import tls_pair

from .bare import TlsSocket


class Tcp:
    """Loopback, IPv4."""

    name = "tcp"
    tells_eof = has_bare_deeds = True
    #: A connection that a client has made comes to the server, whatever the client does then.
    always_arrives = True

    async def serve(self, loop: Any, factory: Any) -> Any:
        return await loop.create_server(factory, "127.0.0.1", 0)

    async def connect(self, loop: Any, factory: Any, address: Any, dice: Any) -> Any:
        if dice.random() < 0.3:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            return await self.connect_socket(loop, factory, sock, address)
        return await loop.create_connection(factory, *address, **self.options())

    async def connect_socket(self, loop: Any, factory: Any, sock: socket.socket, address: Any) -> Any:
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
        return await loop.create_connection(factory, sock=sock, **self.options())

    def options(self) -> dict[str, Any]:
        """Of `create_connection`."""
        return {}

    def connect_bare(self, address: Any, dice: Any) -> Any:
        return socket.create_connection(address)

    def socket_of(self, transport: Any) -> Any:
        """The socket that a transport owns; None if it has none any more."""
        return getattr(transport, "_sock", None)


class Unix(Tcp):
    """Abstract addresses; a client binds to one of its own, so that its ends can be told apart."""

    name = "unix"
    numbers = itertools.count()

    def address(self) -> str:
        return f"\0weft-{os.getpid()}-{next(self.numbers)}"

    async def serve(self, loop: Any, factory: Any) -> Any:
        return await loop.create_unix_server(factory, self.address())

    def bound(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(self.address())
        return sock

    async def connect(self, loop: Any, factory: Any, address: Any, dice: Any) -> Any:
        return await self.connect_socket(loop, factory, self.bound(), address)

    def connect_bare(self, address: Any, dice: Any) -> Any:
        sock = self.bound()
        sock.connect(address)
        return sock


class Tls(Tcp):
    """TLS over TCP."""

    name = "tls"
    # The handshake comes between.
    always_arrives = False

    @functools.cached_property
    def server_context(self) -> Any:
        return tls_pair.server_context()

    @functools.cached_property
    def client_context(self) -> Any:
        return tls_pair.client_context()

    async def serve(self, loop: Any, factory: Any) -> Any:
        return await loop.create_server(factory, "127.0.0.1", 0, ssl=self.server_context)

    def options(self) -> dict[str, Any]:
        return {"ssl": self.client_context, "server_hostname": "localhost"}

    def connect_bare(self, address: Any, dice: Any) -> Any:
        return TlsSocket(socket.create_connection(address), self.client_context, dice)

    def socket_of(self, transport: Any) -> Any:
        return getattr(transport._ssl_protocol._transport, "_sock", None)


STREAMS = (Tcp(), Unix(), Tls())
