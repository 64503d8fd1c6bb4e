"""A kernel that fails on demand: an `Ops` whose next answers a test decides. Works in both editions."""

from __future__ import annotations

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

    def accept(self, sock: Any, fd: int) -> Any:
        return None if self._fault("accept") else super().accept(sock, fd)
