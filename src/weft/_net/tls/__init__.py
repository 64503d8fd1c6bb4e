"""TLS over any stream transport: `record` (records, without I/O), `connection` (the state machine), `transport` (its face).

`ssl` is imported when TLS is used, not before: it takes longer than the whole of Weft, and some Pythons have none.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from weft._net.sockops import AnyLoop
from weft._net.transport import make_stream_transport

if TYPE_CHECKING:
    import contextvars
    import socket

    from weft._net.server import Server
    from weft._net.tls.transport import SSLTransport


def check_ssl_timeouts(ssl: Any, handshake_timeout: float | None, shutdown_timeout: float | None) -> None:
    """Refuse TLS time-outs without TLS. `ssl` falsy means none."""
    if ssl:
        return
    if handshake_timeout is not None:
        raise ValueError("ssl_handshake_timeout is only meaningful with ssl")
    if shutdown_timeout is not None:
        raise ValueError("ssl_shutdown_timeout is only meaningful with ssl")


def check_server_ssl(ssl: Any, handshake_timeout: float | None, shutdown_timeout: float | None) -> None:
    """What a server may be given for TLS: a context or None; time-outs only with one."""
    if isinstance(ssl, bool):
        raise TypeError("ssl argument must be an SSLContext or None")
    check_ssl_timeouts(ssl is not None, handshake_timeout, shutdown_timeout)


def _timeout(name: str, given: float | None, default: float) -> float:
    if given is None:
        return default
    if given <= 0:
        raise ValueError(f"{name} should be a positive number, got {given}")
    return given


def _default_context(server_side: bool, server_hostname: str | None) -> Any:
    import ssl

    if server_side:
        raise ValueError("Server side SSL needs a valid SSLContext")
    context = ssl.create_default_context()
    if not server_hostname:
        context.check_hostname = False
    return context


def _make_connection(
    loop: AnyLoop,
    protocol: asyncio.BaseProtocol,
    sslcontext: Any,
    waiter: asyncio.Future[None] | None,
    server_side: bool,
    server_hostname: str | None,
    ssl_handshake_timeout: float | None,
    ssl_shutdown_timeout: float | None,
    call_connection_made: bool = True,
) -> SSLTransport:
    """The upper transport with its machine; the machine still needs a transport below."""
    try:
        import ssl  # noqa: F401
    except ImportError:
        raise RuntimeError("stdlib ssl module not available") from None
    from weft._net.tls import connection
    from weft._net.tls.transport import SSLTransport

    handshake_timeout_s = _timeout("ssl_handshake_timeout", ssl_handshake_timeout, connection.HANDSHAKE_TIMEOUT_S)
    shutdown_timeout_s = _timeout("ssl_shutdown_timeout", ssl_shutdown_timeout, connection.SHUTDOWN_TIMEOUT_S)
    if not sslcontext:
        sslcontext = _default_context(server_side, server_hostname)
    if server_side or not server_hostname:
        server_hostname = None
    return SSLTransport(
        connection.TLSConnection(
            loop,
            protocol,
            sslcontext,
            waiter,
            server_side,
            server_hostname,
            handshake_timeout_s,
            shutdown_timeout_s,
            call_connection_made,
        )
    )


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
    transport = _make_connection(
        loop,
        protocol,
        sslcontext,
        waiter,
        server_side,
        server_hostname,
        ssl_handshake_timeout,
        ssl_shutdown_timeout,
    )
    machine: Any = transport._ssl_protocol
    try:
        make_stream_transport(loop, sock, machine, extra=extra, server=server, context=context)
    except BaseException:
        transport._closed = True
        raise
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
) -> asyncio.Transport | None:
    """As `loop.start_tls`: the transport that `protocol` must use from now on; None if `transport` is closing already."""
    try:
        import ssl
    except ImportError:
        raise RuntimeError("Python ssl module is not available") from None
    if not isinstance(sslcontext, ssl.SSLContext):
        raise TypeError(f"sslcontext is expected to be an instance of ssl.SSLContext, got {sslcontext!r}")
    if not getattr(transport, "_start_tls_compatible", False):
        raise TypeError(f"transport {transport!r} is not supported by start_tls()")
    from weft._net.tls.transport import is_closing

    raw: Any = transport
    waiter: asyncio.Future[None] | None = loop.create_future()
    upgraded = _make_connection(
        loop,
        protocol,
        sslcontext,
        waiter,
        server_side,
        server_hostname,
        ssl_handshake_timeout,
        ssl_shutdown_timeout,
        call_connection_made=False,
    )
    if is_closing(raw):
        upgraded._closed = True
        return None
    machine: Any = upgraded._ssl_protocol
    # Paused first: not a byte may reach the machine before its connection_made.
    raw.pause_reading()
    if server_side:
        _move_read_ahead(protocol, machine)
    raw.set_protocol(machine)
    made = loop.call_soon(machine.connection_made, raw)
    resumed = loop.call_soon(raw.resume_reading)
    try:
        await waiter  # type: ignore[misc]
    except BaseException:
        upgraded._closed = True
        raw.close()
        made.cancel()
        resumed.cancel()
        # The future keeps the error, whose traceback keeps this frame: let go.
        waiter = None
        raise
    finally:
        del waiter  # it holds the exception whose traceback holds this frame
    return upgraded


def _move_read_ahead(protocol: asyncio.BaseProtocol, machine: Any) -> None:
    """The client's hello may already stand in the plain stream's reader: it belongs to the TLS layer."""
    if isinstance(protocol, asyncio.StreamReaderProtocol):
        reader: Any = getattr(protocol, "_stream_reader", None)
        if reader is not None and reader._buffer:
            machine._records.feed(bytes(reader._buffer))
            reader._buffer.clear()
