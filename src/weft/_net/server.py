"""Listening sockets: `Server`, what users hold, and `Acceptor`, what the poller runs.

Rules for whoever edits this file:

- A connection is accepted, its protocol made and its transport started in one callback, without asyncio's task for each
  connection. Only a TLS handshake gets a task, as somebody must report how it ended.
- `_active_count` counts transports attached and not yet detached; `wait_closed` depends on it being exact.
- The server does not hold its connections: a transport that its users dropped must still be found to be unclosed. Which
  ones are its own stands in the poller's table of owners; a set of weak references would cost each connection 130 bytes.
- `_sockets` and `_waiters` become None when the server is closed, and when it is closed without connections left.
"""

from __future__ import annotations

import asyncio
import contextvars
import errno
import os
import socket
import sys
from asyncio.log import logger
from asyncio.trsock import TransportSocket
from collections.abc import Callable
from typing import Any

from weft._core.handle import Runnable
from weft._io.spi import READ
from weft._net import handed
from weft._net.sockops import AnyLoop, ensure_fd_no_transport, set_nodelay
from weft._net.transport import make_stream_transport

#: The process or the machine is out of something that comes back: descriptors, buffers, memory.
OUT_OF_RESOURCE = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
#: How long a listener rests then, in seconds (asyncio's number).
ACCEPT_RETRY_S = 1
_NONBLOCK = getattr(socket, "SOCK_NONBLOCK", 0)
#: Bound at import: a tool that watches `os` for calls that block (blockbuster) knows asyncio's by the names of its files,
#: lets them pass, and would take these for the program's.
_stat, _unlink = os.stat, os.unlink


class Acceptor(Runnable):
    """One listening socket of a server; runs when a connection waits."""

    __slots__ = ("_backlog", "_family", "_fd", "_loop", "_ops", "_proto", "_server", "_sock", "_type", "unlink")

    def __init__(self, server: Server, sock: socket.socket) -> None:
        self._is_step = False
        #: None once closed: this breaks the cycle.
        self._server: Any = server
        self._loop: Any = server._loop
        self._ops = self._loop._poller.ops
        self._sock: socket.socket | None = sock
        self._fd = sock.fileno()
        self._family = int(sock.family)
        self._type = int(sock.type) | _NONBLOCK
        self._proto = sock.proto
        self._backlog = server._backlog
        #: For a Unix socket to be removed on close: (path, inode).
        self.unlink: tuple[str | bytes, int] | None = None

    def __repr__(self) -> str:
        return f"<Acceptor fd={self._fd} of {self._server!r}>"

    def start(self) -> None:
        """Have the poller report waiting connections; nothing once closed."""
        if self._sock is not None:
            self._loop._poller.watch(self._fd, READ, self)

    def accept_rest(self) -> None:
        """Accept what waits already, for whoever closes this next: a queue that is closed resets its connections."""
        if self._sock is not None and self._sock.fileno() == self._fd:
            self._run()

    def close(self) -> None:
        sock, self._sock = self._sock, None
        if sock is None:
            return
        path = None
        if self.unlink is not None and sock.fileno() == self._fd:
            path = sock.getsockname()
        if sock.fileno() == self._fd:
            # Else somebody has closed it, and the number may be another's.
            self._loop._poller.unwatch(self._fd, READ)
        sock.close()
        self._server = None
        if path is not None and self.unlink is not None:
            _remove_unix_path(path, self.unlink[1])

    def _run(self) -> None:
        for _ in range(self._backlog + 1):
            sock = self._sock
            if sock is None:
                return  # closed by what accepted the connection before
            try:
                accepted = self._ops.accept(sock, self._fd)
            except ConnectionAbortedError:
                continue  # its peer gave up before it was accepted
            except OSError as exc:
                self._accept_failed(sock, exc)
                return
            if accepted is None:
                return
            self._connect(accepted[0], accepted[1])

    def _accept_failed(self, sock: socket.socket, exc: OSError) -> None:
        if exc.errno in OUT_OF_RESOURCE:
            # The descriptor stays ready: without a rest the loop would spin on the error.
            message = "socket.accept() out of system resource"
            self._loop._poller.unwatch(self._fd, READ)
            self._loop.call_later(ACCEPT_RETRY_S, self.start)
        else:
            message = "socket.accept() failed"
        self._loop.call_exception_handler({"message": message, "exception": exc, "socket": TransportSocket(sock)})

    def _connect(self, fd: int, address: Any) -> None:
        """Make socket, protocol and transport of a new connection; whatever fails closes it."""
        server = self._server
        loop = self._loop
        try:
            conn = socket.socket(self._family, self._type, self._proto, fileno=fd)
        except BaseException as exc:
            os.close(fd)
            if not isinstance(exc, OSError):
                raise
            _report_accept(loop, exc, None, None)
            return
        if not _NONBLOCK:
            conn.setblocking(False)
        if loop._debug:
            logger.debug("%r got a new connection from %r: %r", server, address, conn)
        context = server._context.copy()
        protocol = None
        try:
            protocol = context.run(server._protocol_factory)
            extra = {"peername": address}
            if server._ssl_context is not None:
                _accept_tls(server, conn, protocol, extra, context)
            else:
                make_stream_transport(loop, conn, protocol, extra=extra, server=server, context=context)
        except (SystemExit, KeyboardInterrupt):
            conn.close()
            raise
        except BaseException as exc:
            conn.close()
            _report_accept(loop, exc, protocol, None)


def _accept_tls(
    server: Server, conn: socket.socket, protocol: Any, extra: dict[str, Any], context: contextvars.Context
) -> None:
    """The connection is the server's at once, as a plain one: `wait_closed` waits for it even if it is closed now."""
    from weft._net.tls import make_tls_transport

    loop: Any = server._loop
    waiter: asyncio.Future[None] = loop.create_future()
    transport = make_tls_transport(
        loop,
        conn,
        protocol,
        server._ssl_context,
        waiter,
        server_side=True,
        extra=extra,
        server=server,
        ssl_handshake_timeout=server._ssl_handshake_timeout,
        ssl_shutdown_timeout=server._ssl_shutdown_timeout,
        context=context,
    )
    loop.create_task(_watch_handshake(loop, waiter, protocol, transport), context=context)


async def _watch_handshake(
    loop: Any, waiter: asyncio.Future[None] | None, protocol: Any, transport: asyncio.Transport
) -> None:
    try:
        await waiter  # type: ignore[misc]
    except BaseException as exc:
        transport.close()
        # The future keeps the error, whose traceback keeps this frame: let go.
        waiter = None
        if isinstance(exc, (SystemExit, KeyboardInterrupt)):
            raise
        _report_accept(loop, exc, protocol, transport)


def _report_accept(loop: Any, exc: BaseException, protocol: Any, transport: Any) -> None:
    """asyncio reports a connection that could not be set up in debug mode only: anybody can cause it from outside."""
    if loop._debug:
        context = {"message": "Error on transport creation for incoming connection", "exception": exc}
        if protocol is not None:
            context["protocol"] = protocol
        if transport is not None:
            context["transport"] = transport
        loop.call_exception_handler(context)


def _remove_unix_path(path: str | bytes, inode: int) -> None:
    """Remove a listening socket's path, unless somebody has put another file there."""
    try:
        if _stat(path).st_ino == inode:
            _unlink(path)
    except FileNotFoundError:
        return
    except OSError as exc:
        logger.error("Unable to clean up listening UNIX socket %r: %r", path, exc)


class Server(asyncio.AbstractServer):
    """As `asyncio.Server`; `close_clients` and `abort_clients` exist on every version."""

    def __init__(
        self,
        loop: AnyLoop,
        sockets: list[socket.socket],
        protocol_factory: Callable[[], Any],
        ssl_context: Any,
        backlog: int,
        ssl_handshake_timeout: float | None,
        ssl_shutdown_timeout: float | None = None,
    ) -> None:
        self._loop = loop
        self._sockets: list[socket.socket] | None = sockets
        self._active_count = 0
        self._waiters: list[asyncio.Future[None]] | None = []
        self._protocol_factory = protocol_factory
        self._backlog = backlog
        self._ssl_context = ssl_context
        self._ssl_handshake_timeout = ssl_handshake_timeout
        self._ssl_shutdown_timeout = ssl_shutdown_timeout
        self._serving = False
        self._serving_forever_fut: asyncio.Future[None] | None = None
        #: Each connection gets a copy.
        self._context = contextvars.copy_context()
        self._acceptors = [Acceptor(self, sock) for sock in sockets]
        for sock in sockets:
            # On Linux accepted sockets inherit it: one call less for each connection. Elsewhere the transport sets it.
            set_nodelay(sock)

    def __repr__(self) -> str:
        return f"<{self.__class__.__name__} sockets={self.sockets!r}>"

    def _attach(self, transport: Any = None) -> None:
        self._active_count += 1

    def _detach(self, transport: Any = None) -> None:
        self._active_count -= 1
        if self._active_count == 0 and self._sockets is None:
            self._wakeup()

    def _wakeup(self) -> None:
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    def _start_serving(self) -> None:
        if self._serving:
            return
        if self._sockets is None:
            raise RuntimeError(f"server {self!r} is closed")
        self._serving = True
        for acceptor in self._acceptors:
            if acceptor._sock is not None:
                acceptor._sock.listen(self._backlog)
                ensure_fd_no_transport(self._loop, acceptor._fd)
                acceptor.start()
        handed.note_serving(self)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        loop: asyncio.AbstractEventLoop = self._loop
        return loop

    def is_serving(self) -> bool:
        return self._serving

    @property
    def sockets(self) -> tuple[TransportSocket, ...]:
        """The listening sockets; empty once closed."""
        if self._sockets is None:
            return ()
        return tuple(TransportSocket(sock) for sock in self._sockets)

    def close(self) -> None:
        """Stop listening; connections already made live on."""
        if self._sockets is None:
            return
        self._sockets = None
        for acceptor in self._acceptors:
            acceptor.close()
        self._serving = False
        waiting = self._serving_forever_fut
        if waiting is not None and not waiting.done():
            waiting.cancel()
            self._serving_forever_fut = None
        if self._active_count == 0:
            self._wakeup()

    def _stop_accepting(self) -> None:
        """Accept what waits, and close this process's listening sockets: whoever owns the server closes it later."""
        for acceptor in self._acceptors:
            if self._serving:
                acceptor.accept_rest()
            acceptor.close()

    def _clients(self) -> list[Any]:
        """The open transports that this server accepted."""
        # A copy first: whoever supervises workers asks from another loop's thread.
        found = [reference() for reference in list(self._loop._poller.owners.values())]
        return [transport for transport in found if getattr(transport, "_server", None) is self]

    def close_clients(self) -> None:
        """Close all connections that this server accepted, after what they have to send."""
        for transport in self._clients():
            transport.close()

    def abort_clients(self) -> None:
        """Drop all connections that this server accepted, with what they had to send."""
        for transport in self._clients():
            transport.abort()

    async def start_serving(self) -> None:
        self._start_serving()
        await asyncio.sleep(0)

    async def serve_forever(self) -> None:
        """Accept connections until cancelled or closed; then closed, and (3.14+) its connections too."""
        if self._serving_forever_fut is not None:
            raise RuntimeError(f"server {self!r} is already being awaited on serve_forever()")
        if self._sockets is None:
            raise RuntimeError(f"server {self!r} is closed")
        self._start_serving()
        waiting: asyncio.Future[None] = self._loop.create_future()
        self._serving_forever_fut = waiting
        try:
            await waiting
        except asyncio.CancelledError:
            try:
                self.close()
                if sys.version_info >= (3, 14):
                    self.close_clients()
                await self.wait_closed()
            finally:
                raise
        finally:
            self._serving_forever_fut = None

    async def wait_closed(self) -> None:
        """Wait until the server is closed and (3.12+) its last connection is gone. 3.11: at once when it is closed."""
        if self._waiters is None or (sys.version_info < (3, 12) and self._sockets is None):
            return
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter
