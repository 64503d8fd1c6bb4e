"""The kernel calls of transports, counted: the only door from a transport to the kernel.

Each answers as `_native.sock` does: None or -1 for "not now", an OSError for the rest. One `Ops` belongs to one loop,
is used by its thread only, and shares one receive buffer among all its transports.

Why a door and not direct calls: a poller that completes operations (io_uring) or a simulated network has to stand
exactly here.
"""

from __future__ import annotations

import socket
from typing import Any

from weft._core.hooks import Counters
from weft._native.sock import Kernel


class Ops:
    """The calls on sockets and pipes for one loop."""

    __slots__ = ("_kernel", "counters")

    def __init__(self) -> None:
        self._kernel = Kernel()
        #: The loop's counters; a poller without a loop counts for itself.
        self.counters: Counters = Counters()

    def recv(self, sock: socket.socket, fd: int, fresh_bytes: int) -> bytes | None:
        """What has arrived, up to 256 KiB; b"" at the end of the stream; None when nothing is there yet.

        `fresh_bytes` above 0: up to so many, read to where they stay, which saves the copy of a large amount.
        """
        self.counters.recvs += 1
        return self._kernel.recv(sock, fd, fresh_bytes)

    def recv_into(self, sock: socket.socket, fd: int, target: Any) -> int:
        """Bytes read into `target`; 0 at the end of the stream; -1 when nothing is there yet."""
        self.counters.recvs += 1
        return self._kernel.recv_into(sock, fd, target)

    def send(self, sock: socket.socket, fd: int, chunks: list[bytes], first: int, offset: int) -> int:
        """Send chunks[first:] less `offset` bytes in one call; bytes taken, -1 when none could be."""
        self.counters.sends += 1
        return self._kernel.send(sock, fd, chunks, first, offset)

    def send_one(self, sock: socket.socket, fd: int, chunk: bytes) -> int:
        """Send one chunk, as most messages are; bytes taken, -1 when none could be."""
        self.counters.sends += 1
        return self._kernel.send_one(sock, fd, chunk)

    def send_buffer(self, sock: socket.socket, fd: int, data: Any) -> int:
        """Send from any contiguous buffer, without copying it; bytes taken, -1 when none could be."""
        self.counters.sends += 1
        return self._kernel.send_buffer(sock, fd, data)

    def shutdown(self, sock: socket.socket) -> None:
        """Say to the peer that nothing more will be sent."""
        self.counters.touches += 1
        sock.shutdown(socket.SHUT_WR)

    def sendfile(self, sock: socket.socket, fd: int, file_fd: int, offset: int, count: int) -> int:
        """Send from an open file, at most `count` bytes from `offset` on; bytes taken, 0 at its end, -1 when none could be."""
        self.counters.sends += 1
        return self._kernel.sendfile(sock, fd, file_fd, offset, count)

    def recvfrom(self, sock: socket.socket, fd: int) -> tuple[bytes, Any] | None:
        """A datagram, up to 256 KiB of it, and its sender; None when there is none yet."""
        self.counters.recvs += 1
        return self._kernel.recvfrom(sock, fd)

    def sendto(self, sock: socket.socket, fd: int, family: int, data: Any, address: Any) -> int:
        """Send one datagram from any contiguous buffer; its bytes, -1 when it could not be sent yet."""
        self.counters.sends += 1
        return self._kernel.sendto(sock, fd, family, data, address)

    def read(self, fd: int) -> bytes | None:
        """What a pipe has, up to 256 KiB; b"" at its end; None when nothing is there yet."""
        self.counters.recvs += 1
        return self._kernel.read(fd)

    def write(self, fd: int, data: Any) -> int:
        """Write to a pipe from any contiguous buffer; bytes taken, -1 when none could be."""
        self.counters.sends += 1
        return self._kernel.write(fd, data)

    def accept(self, sock: socket.socket, fd: int) -> tuple[int, Any] | None:
        """A waiting connection as (non-blocking descriptor, peer's address), or None."""
        self.counters.accepts += 1
        return self._kernel.accept(sock, fd)
