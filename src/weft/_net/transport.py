"""The face of a stream that protocols and users see: a real `asyncio.Transport`.

It can't inherit the stream (a C-layout class and `asyncio.Transport` conflict in layout), so it holds it, and every
method is one call. Private names kept because others use them: `_force_close` (asyncio.sslproto),
`_start_tls_compatible` (start_tls), `_sendfile_compatible` (sendfile),
`_sock`, `_sock_fd`, `_protocol`, `_loop` (debuggers and older libraries).
"""

from __future__ import annotations

import asyncio
import socket
import sys
import warnings
from asyncio import constants
from asyncio.trsock import TransportSocket
from typing import TYPE_CHECKING, Any

from weft._net.sockops import AnyLoop, ensure_fd_no_transport, set_nodelay
from weft._net.stream import Stream

try:
    import cython
except ImportError:
    from weft import _cython as cython

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Iterable

    from weft._net.server import Server

#: Whether an accepted socket has TCP_NODELAY from its listener (`Server` sets it there).
_NODELAY_INHERITED = sys.platform == "linux"


class StreamTransport(asyncio.Transport):
    """A connected stream socket (TCP or Unix). All methods: the loop's thread; semantics as asyncio's socket transport.

    Differs in one thing: what a callback writes is sent when the callback returns (at once above 64 KiB).
    """

    # A dict of its own, so that a method can be replaced on the object, as with asyncio's: tests do that.
    __slots__ = ("__dict__", "__weakref__", "_stream")

    _start_tls_compatible = True
    _sendfile_compatible = constants._SendfileMode.TRY_NATIVE

    def __init__(
        self,
        loop: AnyLoop,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        extra: dict[str, Any] | None = None,
        server: Server | None = None,
        context: contextvars.Context | None = None,
    ) -> None:
        info: dict[str, Any] = {} if extra is None else extra
        super().__init__(info)
        info["socket"] = TransportSocket(sock)
        try:
            info["sockname"] = sock.getsockname()
        except OSError:
            info["sockname"] = None
        if "peername" not in info:
            try:
                info["peername"] = sock.getpeername()
            except OSError:
                info["peername"] = None
        self._stream = Stream(loop, sock, self, protocol, server, context)

    def __repr__(self) -> str:
        stream = self._stream
        info = [self.__class__.__name__]
        if stream._sock is None:
            info.append("closed")
        elif stream._closing:
            info.append("closing")
        info.append(f"fd={stream._fd}")
        if stream._sock is not None and not stream._loop.is_closed():
            reading = stream._watching and not stream._paused
            info.append("read=polling" if reading else "read=idle")
            state = "polling" if stream._writing else "idle"
            info.append(f"write=<{state}, bufsize={stream._size}>")
        return f"<{' '.join(info)}>"

    def __del__(self, _warn: Any = warnings.warn) -> None:
        stream = getattr(self, "_stream", None)
        if stream is not None and stream._sock is not None:
            _warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            stream._release()

    def is_closing(self) -> bool:
        return bool(self._stream._closing)

    def close(self) -> None:
        self._stream.close()

    def abort(self) -> None:
        self._stream.abort()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._stream._set_protocol(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._stream._protocol
        return protocol

    def is_reading(self) -> bool:
        return not self._stream._closing and not self._stream._paused

    def pause_reading(self) -> None:
        self._stream.pause_reading()

    def resume_reading(self) -> None:
        self._stream.resume_reading()

    @cython.locals(stream=Stream)  # type: ignore[untyped-decorator]
    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        stream = self._stream
        stream.write(data)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview[Any]]) -> None:
        self._stream.writelines(list_of_data)

    def write_eof(self) -> None:
        self._stream.write_eof()

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return self._stream.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._stream._low, self._stream._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._stream.set_write_buffer_limits(high, low)

    def _force_close(self, exc: BaseException | None) -> None:
        self._stream._force_close(exc)

    @property
    def _loop(self) -> Any:
        return self._stream._loop

    @property
    def _sock(self) -> socket.socket | None:
        return self._stream._sock

    @property
    def _sock_fd(self) -> int:
        return self._stream._fd

    @property
    def _server(self) -> Server | None:
        return self._stream._server

    @property
    def _protocol(self) -> Any:
        return self._stream._protocol

    @property
    def _paused(self) -> bool:
        return bool(self._stream._paused)

    @property
    def _protocol_paused(self) -> bool:
        return bool(self._stream._protocol_paused)


def make_stream_transport(
    loop: AnyLoop,
    sock: socket.socket,
    protocol: asyncio.BaseProtocol,
    waiter: asyncio.Future[None] | None = None,
    *,
    extra: dict[str, Any] | None = None,
    server: Server | None = None,
    context: contextvars.Context | None = None,
) -> StreamTransport:
    """A transport over a connected, non-blocking socket, which it owns from now on.

    In asyncio's order, in the turns to come: connection_made; reading starts; `waiter` is resolved.
    Raises RuntimeError when an open transport has this descriptor already.
    """
    ensure_fd_no_transport(loop, sock)
    transport = StreamTransport(loop, sock, protocol, extra, server, context)
    stream = transport._stream
    context = stream._context
    if server is None or not _NODELAY_INHERITED:
        set_nodelay(sock)
    loop.call_soon(protocol.connection_made, transport, context=context)
    loop.call_soon(stream._start_reading, context=context)
    if waiter is not None:
        loop.call_soon(set_result_unless_cancelled, waiter, context=context)
    return transport


def set_result_unless_cancelled(waiter: asyncio.Future[None]) -> None:
    """Resolve a waiter that its owner may have given up meanwhile."""
    if not waiter.done():
        waiter.set_result(None)
