"""A kernel that fails on demand: an `Ops` whose next answers a test decides. Works in both editions."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any

from weft._io.ops import Ops


class FaultyOps(Ops):
    """`fail(call, errno, times)`: that call raises that OSError; everything else reaches the kernel."""

    def __init__(self) -> None:
        super().__init__()
        self._faults: dict[str, list[int | None]] = {}

    def fail(self, call: str, errno: int | None, times: int = 1) -> None:
        """None for an errno: "not now", as after EINTR or EAGAIN."""
        self._faults.setdefault(call, []).extend([errno] * times)

    def _fault(self, call: str) -> bool:
        faults = self._faults.get(call)
        if not faults:
            return False
        errno = faults.pop(0)
        if errno is not None:
            raise OSError(errno, os.strerror(errno))
        return True

    def recv(self, sock: Any, fd: int, fresh_bytes: int) -> Any:
        return None if self._fault("recv") else super().recv(sock, fd, fresh_bytes)

    def recv_into(self, sock: Any, fd: int, target: Any) -> int:
        return -1 if self._fault("recv_into") else super().recv_into(sock, fd, target)

    def send(self, sock: Any, fd: int, chunks: list[bytes], first: int, offset: int) -> int:
        return -1 if self._fault("send") else super().send(sock, fd, chunks, first, offset)

    def send_one(self, sock: Any, fd: int, chunk: bytes) -> int:
        return -1 if self._fault("send") else super().send_one(sock, fd, chunk)

    def accept(self, sock: Any, fd: int) -> Any:
        return None if self._fault("accept") else super().accept(sock, fd)

    def send_buffer(self, sock: Any, fd: int, data: Any) -> int:
        return -1 if self._fault("send_buffer") else super().send_buffer(sock, fd, data)

    def sendfile(self, sock: Any, fd: int, file_fd: int, offset: int, count: int) -> int:
        return -1 if self._fault("sendfile") else super().sendfile(sock, fd, file_fd, offset, count)

    def recvfrom(self, sock: Any, fd: int) -> Any:
        return None if self._fault("recvfrom") else super().recvfrom(sock, fd)

    def sendto(self, sock: Any, fd: int, family: int, data: Any, address: Any) -> int:
        return -1 if self._fault("sendto") else super().sendto(sock, fd, family, data, address)

    def read(self, fd: int) -> Any:
        return None if self._fault("read") else super().read(fd)

    def write(self, fd: int, data: Any) -> int:
        return -1 if self._fault("write") else super().write(fd, data)


@contextlib.contextmanager
def faults() -> Any:
    """Transports that the running loop makes from now on are given these answers."""
    loop: Any = asyncio.get_running_loop()
    real, ops = loop._poller.ops, FaultyOps()
    loop._poller.ops = ops
    try:
        yield ops
    finally:
        loop._poller.ops = real
