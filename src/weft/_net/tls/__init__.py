"""TLS over a stream transport, by `asyncio.sslproto`: the same record layer and the same words as asyncio."""

from __future__ import annotations

import asyncio
from asyncio import sslproto
from typing import TYPE_CHECKING, Any

from weft._net.sockops import AnyLoop
from weft._net.transport import make_stream_transport

if TYPE_CHECKING:
    import contextvars
    import socket

    from weft._net.server import Server

#: Untyped: typeshed's signature is narrower than the class (time-outs are floats, the waiter may be None).
_SSLProtocol: Any = sslproto.SSLProtocol


def make_tls_transport(
    loop: AnyLoop,
    sock: socket.socket,
    protocol: asyncio.BaseProtocol,
    sslcontext: Any,
    waiter: asyncio.Future[None] | None = None,
    *,
    server_side: bool = False,
    server_hostname: str | None = None,
    extra: dict[str, Any] | None = None,
    server: Server | None = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
    context: contextvars.Context | None = None,
) -> asyncio.Transport:
    """A TLS transport over a connected socket; `waiter` is resolved when the handshake is over, or gets its error.

    `sslcontext` None means a client's context with asyncio's defaults. Time-outs are seconds, None asyncio's defaults.
    """
    wrapper = _SSLProtocol(
        loop,
        protocol,
        sslcontext,
        waiter,
        server_side,
        server_hostname,
        ssl_handshake_timeout=ssl_handshake_timeout,
        ssl_shutdown_timeout=ssl_shutdown_timeout,
    )
    make_stream_transport(loop, sock, wrapper, extra=extra, server=server, context=context)
    transport: asyncio.Transport = wrapper._app_transport
    return transport


async def start_tls(
    loop: AnyLoop,
    transport: asyncio.BaseTransport,
    protocol: asyncio.BaseProtocol,
    sslcontext: Any,
    *,
    server_side: bool = False,
    server_hostname: str | None = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
) -> asyncio.Transport:
    """As `loop.start_tls`: the transport that `protocol` must use from now on."""
    try:
        import ssl
    except ImportError:
        raise RuntimeError("Python ssl module is not available") from None
    if not isinstance(sslcontext, ssl.SSLContext):
        raise TypeError(f"sslcontext is expected to be an instance of ssl.SSLContext, got {sslcontext!r}")
    if not getattr(transport, "_start_tls_compatible", False):
        raise TypeError(f"transport {transport!r} is not supported by start_tls()")
    raw: Any = transport
    waiter: asyncio.Future[None] | None = loop.create_future()
    wrapper = _SSLProtocol(
        loop,
        protocol,
        sslcontext,
        waiter,
        server_side,
        server_hostname,
        ssl_handshake_timeout=ssl_handshake_timeout,
        ssl_shutdown_timeout=ssl_shutdown_timeout,
        call_connection_made=False,
    )
    # Paused first: not a byte may reach the wrapper before its connection_made.
    raw.pause_reading()
    if server_side:
        _move_read_ahead(protocol, wrapper)
    raw.set_protocol(wrapper)
    made = loop.call_soon(wrapper.connection_made, raw)
    resumed = loop.call_soon(raw.resume_reading)
    try:
        await waiter  # type: ignore[misc]
    except BaseException:
        raw.close()
        made.cancel()
        resumed.cancel()
        # The future keeps the error, whose traceback keeps this frame: let go.
        waiter = None
        raise
    finally:
        del waiter  # it holds the exception whose traceback holds this frame
    upgraded: asyncio.Transport = wrapper._app_transport
    return upgraded


def _move_read_ahead(protocol: asyncio.BaseProtocol, wrapper: Any) -> None:
    """The client's hello may already stand in the plain stream's reader: it belongs to the TLS layer."""
    if isinstance(protocol, asyncio.StreamReaderProtocol):
        reader: Any = getattr(protocol, "_stream_reader", None)
        if reader is not None and reader._buffer:
            wrapper._incoming.write(bytes(reader._buffer))
            reader._buffer.clear()
