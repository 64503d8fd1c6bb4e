"""A connection whose other end, and whose kernel, a test decides about: the same program can be run on two loops and compared.

`Rig(loop, protocol, capacity_bytes)` has a transport over one end of a socket pair; the other end, `peer`, is a bare socket.
The kernel takes bytes until `capacity_bytes` of them wait to be read, whatever their number of chunks, and not one more: on
asyncio's side a socket sees to that, on Weft's an `Ops`. Unix sockets deliver at once, so nothing is left to chance.
"""

from __future__ import annotations

import importlib
import socket
from typing import Any


class Meter:
    """How much the kernel takes at this moment."""

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self.waiting = 0
        self.peer_is_open = True

    def part(self, data: bytes) -> bytes:
        """The front of `data` that is taken; BlockingIOError for none of it. Errors are left to the kernel."""
        room = self.capacity_bytes - self.waiting
        if not self.peer_is_open:
            return data
        if room <= 0:
            raise BlockingIOError
        return data[:room]


class MeteredSocket(socket.socket):
    """What asyncio's transport sends through."""

    meter: Meter

    def send(self, data: Any, *args: Any) -> int:
        sent = super().send(self.meter.part(bytes(data)))
        self.meter.waiting += sent
        return sent

    def sendmsg(self, buffers: Any, *args: Any) -> int:
        return self.send(b"".join(buffers))


def metered_ops(meter: Meter) -> Any:
    """What Weft's transports send through."""

    class MeteredOps(importlib.import_module("weft._io.ops").Ops):
        def send_one(self, sock: Any, fd: int, chunk: bytes) -> int:
            return self.send(sock, fd, [chunk], 0, 0)

        def send(self, sock: Any, fd: int, chunks: list[bytes], first: int, offset: int) -> int:
            try:
                data = meter.part(b"".join(chunks[first:])[offset:])
            except BlockingIOError:
                return -1
            sent: int = super().send(sock, fd, [data], 0, 0)
            meter.waiting += max(sent, 0)
            return sent

    return MeteredOps()


class Rig:
    """A loop with one connection; it runs when it is told to."""

    def __init__(self, loop: Any, protocol: Any, capacity_bytes: int) -> None:
        self.loop = loop
        self.meter = Meter(capacity_bytes)
        mine, self.peer = socket.socketpair()
        self.peer.setblocking(False)
        if hasattr(loop, "_poller"):
            loop._poller.ops = metered_ops(self.meter)
        else:
            mine = MeteredSocket(fileno=mine.detach())
            mine.meter = self.meter
        self.transport, _ = loop.run_until_complete(loop.create_connection(lambda: protocol, sock=mine))

    def turns(self, count: int) -> None:
        for _ in range(count):
            self.loop.stop()
            self.loop.run_forever()

    def in_callback(self, function: Any, *args: Any) -> None:
        """Call it from within the loop."""
        self.loop.call_soon(function, *args)
        self.turns(1)

    def peer_sends(self, data: bytes) -> int:
        """How much of it fits."""
        if not self.meter.peer_is_open:
            return 0
        try:
            return self.peer.send(data)
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            return 0

    def peer_reads(self, count: int) -> bytes | str:
        """What the peer gets, or the name of its error."""
        try:
            data = self.peer.recv(count)
        except OSError as exc:
            return type(exc).__name__
        self.meter.waiting -= len(data)
        return data

    def peer_leaves(self) -> None:
        """With bytes unread, that is a reset."""
        self.meter.peer_is_open = False
        self.peer.close()

    def close(self) -> None:
        self.transport.abort()
        self.turns(5)
        self.peer.close()
        self.loop.close()
