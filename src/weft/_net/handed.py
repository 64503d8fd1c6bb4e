"""Listening sockets that this process does not bind itself: a supervisor owns them and hands them over.

`weft.workers` makes a process a worker by setting `source`. From then on `create_server` and `create_unix_server` ask it for
the socket of each address before they bind one. Without a source, everything here is what `socket.bind` does.

Rules for whoever edits this file:

- A socket from the source is a copy: closing it closes this process's descriptor, and the queue of connections lives on.
- So nobody may `shutdown` it, nor remove its path.
- A failure looks as if this process had bound the address: an OSError with the errno of `bind`.
"""

from __future__ import annotations

import os
import socket
import weakref
from typing import Any, Protocol

__all__ = ["Source", "adopt", "bind", "note_serving", "servers", "set_source", "unix_socket"]


class Source(Protocol):
    """Who hands sockets over."""

    def socket_for(self, family: int, address: Any) -> socket.socket | None:
        """A bound socket for an address (a path, for AF_UNIX); None: bind it yourself. OSError as from `bind`."""

    def is_ours(self, sock: socket.socket) -> bool:
        """Whether a socket came from here."""

    def note_serving(self) -> None:
        """A server has begun to accept from a socket that came from here."""


_source: Source | None = None

#: The servers that listen on a socket which was handed over.
servers: weakref.WeakSet[Any] = weakref.WeakSet()


def set_source(source: Source | None) -> None:
    """Ask `source` for listening sockets from now on; None: bind them."""
    global _source
    _source = source


def bind(sock: socket.socket, address: Any) -> socket.socket:
    """`sock` bound to an address, or in its place the one that is handed over for it; then `sock` is closed."""
    given = None if _source is None else _source.socket_for(int(sock.family), address)
    if given is None:
        sock.bind(address)
        return sock
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE):
        given.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, True)
    sock.close()
    return given


def unix_socket(path: str | bytes) -> socket.socket | None:
    """The socket that is handed over for a path; None: bind it."""
    if _source is None or not path:
        return None
    return _source.socket_for(int(socket.AF_UNIX), os.fsdecode(path))


def adopt(server: Any, sockets: list[socket.socket]) -> None:
    """Know a new server, if one of its sockets was handed over."""
    source = _source
    if source is not None and any(source.is_ours(sock) for sock in sockets):
        servers.add(server)


def note_serving(server: Any) -> None:
    """A server has begun to accept."""
    if _source is not None and server in servers:
        _source.note_serving()
