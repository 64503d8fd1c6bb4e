"""Socket options and the checks that the networking calls share. No I/O happens here."""

from __future__ import annotations

import socket
from typing import Any

#: A `weft.Loop`. That class lives above this room, and its base `LoopCore` has not all that is used here.
AnyLoop = Any

HAS_IPV6 = hasattr(socket, "AF_INET6")


def set_nodelay(sock: socket.socket) -> None:
    """Switch Nagle's algorithm off, on what is certainly TCP: small writes leave without waiting for an ACK."""
    if (
        hasattr(socket, "TCP_NODELAY")
        and sock.family in (socket.AF_INET, getattr(socket, "AF_INET6", None))
        and sock.type == socket.SOCK_STREAM
        and sock.proto == socket.IPPROTO_TCP
    ):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def set_reuseport(sock: socket.socket) -> None:
    """SO_REUSEPORT, or asyncio's ValueError where the platform has none."""
    if not hasattr(socket, "SO_REUSEPORT"):
        raise ValueError("reuse_port not supported by socket module")
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError:
        raise ValueError(
            "reuse_port not supported by socket module, SO_REUSEPORT defined but not implemented."
        ) from None


def check_not_ssl(sock: socket.socket) -> None:
    """Refuse an `ssl.SSLSocket`: its reads and writes are not those of the descriptor. Does not import ssl."""
    kind = type(sock)
    if kind is socket.socket:
        return
    for cls in kind.__mro__:
        if cls.__name__ == "SSLSocket" and cls.__module__ == "ssl":
            raise TypeError("Socket cannot be of type SSLSocket")


def check_nonblocking(loop: AnyLoop, sock: socket.socket) -> None:
    """In debug mode refuse a socket that would block the loop."""
    if loop._debug and sock.gettimeout() != 0:
        raise ValueError("the socket must be non-blocking")


def keep_open(sock: Any) -> None:
    """Have the descriptor outlive a `sock.close()` of somebody else, until `close_kept`.

    A transport uses the number of the descriptor. Were it closed by whoever passed the socket in, the number could be
    another connection's by the next write. The socket module counts its file objects for the same reason; what only
    looks like a socket has no such count, and its `close` is taken at its word.
    """
    if isinstance(sock, socket.socket):
        sock._io_refs += 1  # type: ignore[attr-defined]


def close_kept(sock: Any) -> None:
    """Close the descriptor that `keep_open` kept; once."""
    if isinstance(sock, socket.socket):
        sock._decref_socketios()  # type: ignore[attr-defined]
    sock.close()


def ensure_fd_no_transport(loop: AnyLoop, fd: Any) -> int:
    """The number of a descriptor (or of an object with `fileno`), unless an open transport owns it.

    Raises RuntimeError when one does, ValueError for what is no file object, both with asyncio's words.
    """
    if isinstance(fd, int):
        fileno = int(fd)
    else:
        try:
            fileno = int(fd.fileno())
        except (AttributeError, TypeError, ValueError):
            raise ValueError(f"Invalid file object: {fd!r}") from None
    reference = loop._poller.owners.get(fileno)
    if reference is not None:
        transport = reference()
        if transport is not None and not transport.is_closing():
            raise RuntimeError(f"File descriptor {fd!r} is used by transport {transport!r}")
    return fileno
