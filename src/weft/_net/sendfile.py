"""`loop.sendfile` and `loop.sock_sendfile`: a file to a stream, by the kernel where it can, else through a buffer.

Rules for whoever edits this file:

- One system call a turn, as large as the socket takes: a file to a quick peer must not starve the others.
- While the kernel sends for a transport, the stream refuses writes (`Stream._begin_sendfile`), and what was written
  before has left. The stream ends the wait itself when the connection is lost: the descriptor is closed then, and
  nothing here may touch it.
- However the kernel's sending ends, cancelled too, the file stands where it ended: whoever waits can go on from there.
- SendfileNotAvailableError means that not a byte was sent: only then the fallback may take over.
"""

from __future__ import annotations

import asyncio
import errno
import io
import os
import socket
import sys
from asyncio import constants
from typing import Any

from weft._io.spi import WRITE
from weft._net.sockcalls import sock_sendall, when_ready
from weft._net.sockops import AnyLoop, check_not_ssl, ensure_fd_no_transport
from weft._net.transport import StreamTransport

_Mode: Any = constants._SendfileMode

#: How much the fallback reads at once: for a socket (asyncio's number), and for a transport, which buffers it again.
_SOCKET_READ_BYTES = 256 * 1024
_TRANSPORT_READ_BYTES = 16 * 1024
#: The most to ask the kernel for in one call: fits a 32-bit off_t.
_CALL_BYTES_MAX = sys.maxsize // 2 + 1
#: From 3.14 on the file is put at `offset` whatever it is, and at its end position even if nothing was sent.
_ALWAYS_SEEKS = sys.version_info >= (3, 14)


async def sendfile(
    loop: AnyLoop, transport: Any, file: Any, offset: int = 0, count: int | None = None, *, fallback: bool = True
) -> int:
    """As `loop.sendfile` of the running CPython: the number of bytes sent. Position of `file`: after the last of them."""
    if transport.is_closing():
        raise RuntimeError("Transport is closing")
    mode = getattr(transport, "_sendfile_compatible", _Mode.UNSUPPORTED)
    if mode is _Mode.UNSUPPORTED:
        raise RuntimeError(f"sendfile is not supported for transport {transport!r}")
    if mode is _Mode.TRY_NATIVE:
        try:
            sent: int = await loop._sendfile_native(transport, file, offset, count)
            return sent
        except asyncio.SendfileNotAvailableError:
            if not fallback:
                raise
    if not fallback:
        raise RuntimeError(f"fallback is disabled and native sendfile is not supported for transport {transport!r}")
    return await _by_writing(loop, transport, file, offset, count)


async def sendfile_native(loop: AnyLoop, transport: Any, file: Any, offset: int, count: int | None) -> int:
    """The kernel sends; raises SendfileNotAvailableError when it can't and nothing was sent."""
    if not isinstance(transport, StreamTransport):
        raise asyncio.SendfileNotAvailableError("sendfile syscall is not supported")
    stream: Any = transport._stream
    was_reading = transport.is_reading()
    waiter = stream._begin_sendfile()
    try:
        transport.pause_reading()
        await waiter
        sock = transport._sock
        if sock is None or transport.is_closing():
            raise ConnectionError("Connection is closed by peer")
        _check_params(sock, file, offset, count)
        sending = _open(loop, sock, file, offset, count)
        if sending is None:
            return 0
        try:
            waiter = stream._sendfile_waits()
            sent: int = await when_ready(loop, stream._fd, WRITE, sending.attempt, waiter, at_once=True)
            return sent
        finally:
            sending.seek()
    finally:
        stream._end_sendfile()
        if was_reading:
            transport.resume_reading()


async def sock_sendfile(
    loop: AnyLoop,
    sock: socket.socket,
    file: Any,
    offset: int = 0,
    count: int | None = None,
    *,
    fallback: bool | None = True,
) -> int:
    """As `loop.sock_sendfile` of the running CPython: the number of bytes sent."""
    if loop._debug and sock.gettimeout() != 0:
        raise ValueError("the socket must be non-blocking")
    check_not_ssl(sock)
    _check_params(sock, file, offset, count)
    try:
        sending = _open(loop, sock, file, offset, count)
        if sending is None:
            return 0
        fd = ensure_fd_no_transport(loop, sock)
        try:
            sent: int = await when_ready(loop, fd, WRITE, sending.attempt, loop.create_future(), at_once=True)
            return sent
        finally:
            sending.seek()
    except asyncio.SendfileNotAvailableError:
        if not fallback:
            raise
    return await _by_sendall(loop, sock, file, offset, count)


def _check_params(sock: socket.socket, file: Any, offset: Any, count: Any) -> None:
    if "b" not in getattr(file, "mode", "b"):
        raise ValueError("file should be opened in binary mode")
    if sock.type != socket.SOCK_STREAM:
        raise ValueError("only SOCK_STREAM type sockets are supported")
    if count is not None:
        if not isinstance(count, int):
            raise TypeError(f"count must be a positive integer (got {count!r})")
        if count <= 0:
            raise ValueError(f"count must be a positive integer (got {count!r})")
    if not isinstance(offset, int):
        raise TypeError(f"offset must be a non-negative integer (got {offset!r})")
    if offset < 0:
        raise ValueError(f"offset must be a non-negative integer (got {offset!r})")


def _open(loop: AnyLoop, sock: socket.socket, file: Any, offset: int, count: int | None) -> _Sending | None:
    """What sends `file`; None when there is nothing to send."""
    if not hasattr(os, "sendfile"):
        raise asyncio.SendfileNotAvailableError("os.sendfile() is not available")
    try:
        file_fd = file.fileno()
    except (AttributeError, io.UnsupportedOperation):
        raise asyncio.SendfileNotAvailableError("not a regular file") from None
    try:
        size = os.fstat(file_fd).st_size
    except OSError:
        raise asyncio.SendfileNotAvailableError("not a regular file") from None
    if not (count or size):
        return None
    return _Sending(loop._poller.ops, sock, file_fd, offset, count, size)


class _Sending:
    """A file on its way through the kernel into one socket."""

    __slots__ = ("_count", "_fd", "_file_fd", "_offset", "_ops", "_sent", "_size", "_sock")

    def __init__(self, ops: Any, sock: socket.socket, file_fd: int, offset: int, count: int | None, size: int) -> None:
        self._ops = ops
        self._sock = sock
        self._fd = sock.fileno()
        self._file_fd = file_fd
        #: Of the next byte, in the file.
        self._offset = offset
        self._sent = 0
        #: None: to the end of the file, wherever that is by then.
        self._count = count
        #: Of the file, when it began: how much to ask for where no count is given.
        self._size = size

    def attempt(self) -> int:
        """One system call: the bytes sent in all when that was the last; BlockingIOError while there is more to do."""
        wanted = self._size if self._count is None else self._count - self._sent
        try:
            sent = self._ops.sendfile(self._sock, self._fd, self._file_fd, self._offset, min(wanted, _CALL_BYTES_MAX))
        except OSError as exc:
            if self._sent == 0:
                # Most often the file is none that the kernel can read by pages.
                raise asyncio.SendfileNotAvailableError("os.sendfile call failed") from exc
            if exc.errno == errno.ENOTCONN and type(exc) is not ConnectionError:
                raise ConnectionError("socket is not connected", errno.ENOTCONN) from exc
            raise
        if sent > 0:
            self._offset += sent
            self._sent += sent
        if sent == 0 or self._sent == self._count:
            return self._sent
        raise BlockingIOError

    def seek(self) -> None:
        """Leave the file at the first byte that was not sent."""
        if self._sent > 0 or _ALWAYS_SEEKS:
            os.lseek(self._file_fd, self._offset, os.SEEK_SET)


async def _by_sendall(loop: AnyLoop, sock: socket.socket, file: Any, offset: int, count: int | None) -> int:
    """Read in the executor, and send: for what only looks like a file."""
    _go_to(file, offset)
    size = min(count, _SOCKET_READ_BYTES) if count else _SOCKET_READ_BYTES
    buffer = bytearray(size)
    sent = 0
    try:
        while True:
            if count:
                size = min(count - sent, size)
                if size <= 0:
                    break
            view = memoryview(buffer)[:size]
            read = await loop.run_in_executor(None, file.readinto, view)
            if not read:
                break
            await sock_sendall(loop, sock, view[:read])
            sent += read
        return sent
    finally:
        if sent > 0 and hasattr(file, "seek"):
            file.seek(offset + sent)


async def _by_writing(loop: AnyLoop, transport: Any, file: Any, offset: int, count: int | None) -> int:
    """Read in the executor, and write to the transport as fast as it takes it: for TLS."""
    _go_to(file, offset)
    size = min(count, _TRANSPORT_READ_BYTES) if count else _TRANSPORT_READ_BYTES
    buffer = bytearray(size)
    sent = 0
    stand_in = _StandIn(loop, transport)
    try:
        while True:
            if count:
                size = min(count - sent, size)
                if size <= 0:
                    return sent
            view = memoryview(buffer)[:size]
            read = await loop.run_in_executor(None, file.readinto, view)
            if not read:
                return sent
            await stand_in.drain()
            # A copy: the buffer is read into again before a transport must have sent it.
            transport.write(bytes(view[:read]))
            sent += read
            await stand_in.drain()
    finally:
        if sent > 0 and hasattr(file, "seek"):
            file.seek(offset + sent)
        stand_in.restore()


def _go_to(file: Any, offset: int) -> None:
    if offset or (_ALWAYS_SEEKS and hasattr(file, "seek")):
        file.seek(offset)


class _StandIn(asyncio.Protocol):
    """Has the place of a transport's protocol while a file is written: the flow control is its, the end is both's."""

    def __init__(self, loop: AnyLoop, transport: Any) -> None:
        if not hasattr(transport, "_protocol_paused"):
            raise TypeError("transport should be _FlowControlMixin instance")
        self._loop = loop
        self._transport = transport
        self._protocol = transport.get_protocol()
        self._was_reading = transport.is_reading()
        self._was_paused = bool(transport._protocol_paused)
        #: Done when the transport takes more; None while it does.
        self._writable: asyncio.Future[None] | None = loop.create_future() if self._was_paused else None
        transport.pause_reading()
        transport.set_protocol(self)

    async def drain(self) -> None:
        """Wait until the transport takes more; ConnectionError when it never will."""
        if self._transport.is_closing():
            raise ConnectionError("Connection closed by peer")
        if self._writable is not None:
            await self._writable

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        raise RuntimeError("Invalid state: connection should have been established already.")

    def connection_lost(self, exc: Exception | None) -> None:
        if self._writable is not None and not self._writable.done():
            # The file is not at its end, so this is an error even where the peer said good-bye.
            self._writable.set_exception(ConnectionError("Connection is closed by peer") if exc is None else exc)
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        if self._writable is None:
            self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    def data_received(self, data: bytes) -> None:
        raise RuntimeError("Invalid state: reading should be paused")

    def eof_received(self) -> None:
        raise RuntimeError("Invalid state: reading should be paused")

    def restore(self) -> None:
        """Give the protocol its place back, and what it was told or would have been told of the flow."""
        is_paused = self._writable is not None
        if self._writable is not None:
            self._writable.cancel()
        self._transport.set_protocol(self._protocol)
        if self._was_reading:
            self._transport.resume_reading()
        if self._was_paused:
            self._protocol.resume_writing()
        elif is_paused and self._transport._protocol_paused:
            self._protocol.pause_writing()
