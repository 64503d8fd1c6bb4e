"""The plain twin of `sock.pyx`: the calls a transport makes on its socket, through the `socket` module.

Rules for whoever edits either twin:

- A call that would block, or that a signal cut short, answers `None` (recv, accept) or -1 (counts). Raising
  BlockingIOError would cost more than the call itself. Every other error is raised as the OSError of its errno.
- `sock` is the socket object and `fd` its descriptor: the compiled twin uses only `fd`, this one mostly `sock`.
- `SEND_CHUNKS_MAX` chunks at most go in one `send`; whoever passes more gets a short count, as from a full socket.
- A `Kernel` belongs to one loop, so one thread: its buffer is reused by every `recv`.
"""

from __future__ import annotations

import os
import socket
from typing import Any

RECV_BYTES = 256 * 1024
SEND_CHUNKS_MAX = 1024


class Kernel:
    """Socket calls of one loop. `recv` reads into one buffer and copies out what came, unless it is told to expect much."""

    __slots__ = ("_buffer", "_view")

    def __init__(self) -> None:
        # Allocated by the first recv: a loop without sockets does not pay for it.
        self._buffer: bytearray | None = None
        self._view: memoryview | None = None

    def recv(self, sock: socket.socket, fd: int, fresh_bytes: int) -> bytes | None:
        """What has come, b"" at the end of the stream, None when nothing is there yet.

        `fresh_bytes` 0: at most RECV_BYTES, by way of the shared buffer. Above: at most so many, without a copy, into memory
        that is asked for first and cut to size after: for whoever expects to fill most of it.
        """
        if fresh_bytes > 0:
            try:
                return sock.recv(fresh_bytes)
            except (BlockingIOError, InterruptedError):
                return None
        view = self._view
        if view is None:
            self._buffer = bytearray(RECV_BYTES)
            view = self._view = memoryview(self._buffer)
        try:
            count = sock.recv_into(view)
        except (BlockingIOError, InterruptedError):
            return None
        return bytes(view[:count])

    def recv_into(self, sock: socket.socket, fd: int, target: Any) -> int:
        """Read into a writable buffer: bytes read, 0 at the end of the stream, -1 when nothing is there yet."""
        try:
            return sock.recv_into(target)
        except (BlockingIOError, InterruptedError):
            return -1

    def send(self, sock: socket.socket, fd: int, chunks: list[bytes], first: int, offset: int) -> int:
        """Send chunks[first:] without the first `offset` bytes, in one call: bytes taken, -1 when none could be."""
        try:
            if len(chunks) - first == 1:
                chunk = chunks[first]
                return sock.send(memoryview(chunk)[offset:] if offset else chunk)
            window: list[Any] = chunks[first : first + SEND_CHUNKS_MAX]
            if offset:
                window[0] = memoryview(window[0])[offset:]
            return sock.sendmsg(window)
        except (BlockingIOError, InterruptedError):
            return -1

    def send_one(self, sock: socket.socket, fd: int, chunk: bytes) -> int:
        """Send one chunk: bytes taken, -1 when none could be."""
        try:
            return sock.send(chunk)
        except (BlockingIOError, InterruptedError):
            return -1

    def send_buffer(self, sock: socket.socket, fd: int, data: Any) -> int:
        """Send from any contiguous buffer: bytes taken, -1 when none could be."""
        try:
            return sock.send(data)
        except (BlockingIOError, InterruptedError):
            return -1

    def sendfile(self, sock: socket.socket, fd: int, file_fd: int, offset: int, count: int) -> int:
        """Send from an open file by `os.sendfile`: bytes taken, 0 at the end of the file, -1 when none could be."""
        try:
            return os.sendfile(fd, file_fd, offset, count)
        except (BlockingIOError, InterruptedError):
            return -1

    def recvfrom(self, sock: socket.socket, fd: int) -> tuple[bytes, Any] | None:
        """A datagram, at most RECV_BYTES bytes of it, and its sender; None when there is none yet."""
        view = self._view
        if view is None:
            self._buffer = bytearray(RECV_BYTES)
            view = self._view = memoryview(self._buffer)
        try:
            count, address = sock.recvfrom_into(view)
        except (BlockingIOError, InterruptedError):
            return None
        return bytes(view[:count]), address

    def sendto(self, sock: socket.socket, fd: int, family: int, data: Any, address: Any) -> int:
        """Send one datagram from any contiguous buffer: its bytes, -1 when it could not be sent yet."""
        try:
            return sock.sendto(data, address)
        except (BlockingIOError, InterruptedError):
            return -1

    def read(self, fd: int) -> bytes | None:
        """At most RECV_BYTES bytes of a pipe, b"" at its end, None when nothing is there yet."""
        try:
            return os.read(fd, RECV_BYTES)
        except (BlockingIOError, InterruptedError):
            return None

    def write(self, fd: int, data: Any) -> int:
        """Write to a pipe from any contiguous buffer: bytes taken, -1 when none could be."""
        try:
            return os.write(fd, data)
        except (BlockingIOError, InterruptedError):
            return -1

    def accept(self, sock: socket.socket, fd: int) -> tuple[int, Any] | None:
        """A waiting connection as (descriptor, peer's address), non-blocking and not inheritable; None without one."""
        try:
            conn, address = sock._accept()  # type: ignore[attr-defined]
        except (BlockingIOError, InterruptedError):
            return None
        os.set_blocking(conn, False)
        return conn, address
