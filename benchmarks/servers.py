"""The I/O rows: echo servers as a user writes them, measured by the CPU time of their process per message.

The load comes from another process on another core (`load`): closed loop, one message in flight on each connection.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["CERTIFICATES", "SERVERS", "Server"]

#: A server's certificate with its key, and the authority that vouches for it.
CERTIFICATES = Path(__file__).resolve().parent.parent / "tests" / "certs"


@dataclass(frozen=True, slots=True)
class Server:
    """One I/O row: how the server is started, and the load it gets.

    start:       `await start(names, size_bytes, folder)` listens, on 127.0.0.1 or in the folder, and gives what is to be
                 closed, and the host and port that `load.c` takes
    own:         as `rows.Row.own`
    tls:         the load speaks TLS
    """

    name: str
    title: str
    start: Callable[[Any, int, str], Awaitable[tuple[Any, str, int]]]
    size_bytes: int
    connections: int
    own: tuple[str, ...] = ()
    tls: bool = False


class _Echo(asyncio.Protocol):
    __slots__ = ("transport",)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)  # type: ignore[attr-defined]  # uvloop's is not an asyncio.Transport


class _DatagramEcho(asyncio.DatagramProtocol):
    __slots__ = ("transport",)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.transport.sendto(data, address)  # type: ignore[attr-defined]


def _where(server: Any) -> tuple[Any, str, int]:
    return (server, *server.sockets[0].getsockname())


async def _protocol(names: Any, size_bytes: int, folder: str) -> tuple[Any, str, int]:
    return _where(await asyncio.get_running_loop().create_server(_Echo, "127.0.0.1", 0, backlog=1024))


async def _unix(names: Any, size_bytes: int, folder: str) -> tuple[Any, str, int]:
    path = f"{folder}/echo"
    return await asyncio.get_running_loop().create_unix_server(_Echo, path, backlog=1024), f"unix:{path}", 0


async def _udp(names: Any, size_bytes: int, folder: str) -> tuple[Any, str, int]:
    endpoint = await asyncio.get_running_loop().create_datagram_endpoint(_DatagramEcho, local_addr=("127.0.0.1", 0))
    transport = endpoint[0]
    host, port = transport.get_extra_info("sockname")
    return transport, f"udp:{host}", port


async def _tls(names: Any, size_bytes: int, folder: str) -> tuple[Any, str, int]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATES / "server.pem")
    return _where(await asyncio.get_running_loop().create_server(_Echo, "127.0.0.1", 0, backlog=1024, ssl=context))


async def _streams(names: Any, size_bytes: int, folder: str) -> tuple[Any, str, int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(await reader.readexactly(size_bytes))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionResetError):
            writer.close()

    return _where(await names.start_server(serve, "127.0.0.1", 0, backlog=1024))


SERVERS: tuple[Server, ...] = (
    Server("tcp_protocol", "TCP echo, Protocol, 1 KiB × 100 connections", _protocol, 1024, 100),
    Server("tcp_bulk", "TCP echo, Protocol, 100 KiB × 10 connections", _protocol, 100 * 1024, 10),
    Server("tcp_streams", "TCP echo, streams, 1 KiB × 100 connections", _streams, 1024, 100, own=("start_server",)),
    Server("unix", "Unix echo, Protocol, 1 KiB × 100 connections", _unix, 1024, 100),
    # Fewer than a hundred: their datagrams have to find room in the server's receive buffer all at once.
    Server("udp", "UDP echo, 1 KiB × 50 clients", _udp, 1024, 50),
    Server("tls_1", "TLS echo, Protocol, 1 KiB × 1 connection", _tls, 1024, 1, tls=True),
    Server("tls_100", "TLS echo, Protocol, 1 KiB × 100 connections", _tls, 1024, 100, tls=True),
    Server("tls_bulk", "TLS echo, Protocol, 100 KiB × 10 connections", _tls, 100 * 1024, 10, tls=True),
)
