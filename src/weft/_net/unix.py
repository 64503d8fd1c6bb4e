"""Unix-domain stream sockets, over the same streams and servers as TCP. Checks and words are asyncio's."""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from asyncio.log import logger
from collections.abc import Callable
from typing import Any

from weft._net import handed
from weft._net.server import Server
from weft._net.sockcalls import sock_connect
from weft._net.sockops import AnyLoop
from weft._net.tcp import make_connection
from weft._net.tls import check_server_ssl, check_ssl_timeouts

#: Bound at import, for the reason that `server` tells.
_stat = os.stat


def _check_unix_stream(sock: socket.socket) -> None:
    if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
        raise ValueError(f"A UNIX Domain Stream Socket was expected, got {sock!r}")


def _is_abstract(path: str | bytes) -> bool:
    """Whether a name lives in Linux's abstract space (or the socket is unnamed): no file to look after."""
    return not path or path[0] in (0, "\x00")


async def create_unix_connection(
    loop: AnyLoop,
    protocol_factory: Callable[[], Any],
    path: Any = None,
    *,
    ssl: Any = None,
    sock: socket.socket | None = None,
    server_hostname: str | None = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
) -> tuple[Any, Any]:
    """As `loop.create_unix_connection`: (transport, protocol)."""
    if ssl:
        if server_hostname is None:
            raise ValueError("you have to pass server_hostname when using ssl")
    elif server_hostname is not None:
        raise ValueError("server_hostname is only meaningful with ssl")
    check_ssl_timeouts(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
    if path is not None:
        if sock is not None:
            raise ValueError("path and sock can not be specified at the same time")
        path = os.fspath(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0)
        try:
            sock.setblocking(False)
            await sock_connect(loop, sock, path)
        except BaseException:
            sock.close()
            raise
    else:
        if sock is None:
            raise ValueError("no path and sock were specified")
        _check_unix_stream(sock)
    return await make_connection(
        loop,
        sock,
        protocol_factory,
        ssl,
        server_hostname,
        ssl_handshake_timeout=ssl_handshake_timeout,
        ssl_shutdown_timeout=ssl_shutdown_timeout,
    )


async def create_unix_server(
    loop: AnyLoop,
    protocol_factory: Callable[[], Any],
    path: Any = None,
    *,
    sock: socket.socket | None = None,
    backlog: int = 100,
    ssl: Any = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
    start_serving: bool = True,
    cleanup_socket: bool | None = None,
) -> Server:
    """As `loop.create_unix_server`. `cleanup_socket` None is the version's habit: the path is removed from 3.13 on."""
    check_server_ssl(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
    if cleanup_socket is None:
        cleanup_socket = sys.version_info >= (3, 13)
    if path is not None:
        if sock is not None:
            raise ValueError("path and sock can not be specified at the same time")
        path = os.fspath(path)
        sock = handed.unix_socket(path)
        if sock is None:
            sock = bind_path(path)
        else:
            # The path is its owner's to remove.
            cleanup_socket = False
    else:
        if sock is None:
            raise ValueError("path was not specified, and no sock specified")
        _check_unix_stream(sock)
    sock.setblocking(False)
    server = Server(loop, [sock], protocol_factory, ssl, backlog, ssl_handshake_timeout, ssl_shutdown_timeout)
    handed.adopt(server, [sock])
    if cleanup_socket:
        bound = sock.getsockname()
        if not _is_abstract(bound):
            try:
                server._acceptors[0].unlink = (bound, _stat(bound).st_ino)
            except FileNotFoundError:
                logger.debug("the path of %r is gone already; nothing to clean up", sock)
    if start_serving:
        await server.start_serving()
    return server


def bind_path(path: str | bytes) -> socket.socket:
    """A socket bound to `path`, in place of one that a former process left there."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if not _is_abstract(path):
            try:
                if stat.S_ISSOCK(_stat(path).st_mode):
                    os.remove(path)
            except FileNotFoundError:
                logger.debug("no stale socket at %r", path)
            except OSError as exc:
                # The directory may let us make a socket and nothing else.
                logger.error("Unable to check or remove stale UNIX socket %r: %r", path, exc)
        sock.bind(path)
    except OSError as exc:
        sock.close()
        if exc.errno == errno.EADDRINUSE:
            raise OSError(errno.EADDRINUSE, f"Address {path!r} is already in use") from None
        raise
    except BaseException:
        sock.close()
        raise
    return sock
