"""The loop's `sock_*` calls: one operation on a socket that belongs to the caller.

Rules for whoever edits this file:

- Each call first tries at once; only when the socket says "not now" a handle is put on the poller, and it is taken off
  before the result is set, so that the caller may close the socket in the very next step.
- A cancelled call takes its handle off by a done-callback, and only its own: meanwhile another call on the same socket
  may have replaced it (then the poller's entry is not ours).
- The socket is the caller's: nothing is ever closed here but what `sock_accept` made and could not hand over.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import socket
from collections.abc import Callable
from typing import Any

from weft._core.handle import Handle
from weft._io.spi import READ, WRITE
from weft._net.dns import ensure_resolved
from weft._net.sockops import HAS_IPV6, AnyLoop, check_nonblocking, check_not_ssl, ensure_fd_no_transport

_Address = Any

#: How long a connection to a Unix socket waits for a place in the backlog before it asks again, in seconds.
_FIRST_PAUSE_S = 0.001
_LONGEST_PAUSE_S = 0.05


def watch(loop: AnyLoop, fd: int, direction: int, callback: Callable[..., object], *args: Any) -> Handle:
    """Run `callback(*args)` while `fd` is ready; the handle that was there before is cancelled, as by add_reader."""
    loop._check_closed()
    handle = Handle(callback, args, loop, None)
    previous = loop._poller.watch(fd, direction, handle)
    if isinstance(previous, Handle):
        previous.cancel()
    return handle


def watch_file(loop: AnyLoop, fd: Any, direction: int, callback: Callable[..., object], *args: Any) -> None:
    """As `add_reader` and `add_writer`. A file object is remembered, so that it can be named when it is closed."""
    number = ensure_fd_no_transport(loop, fd)
    handle = watch(loop, number, direction, callback, *args)
    if fd is not number:
        loop._watched_files[number, direction] = (fd, handle)


def unwatch_file(loop: AnyLoop, fd: Any, direction: int) -> bool:
    """As `remove_reader` and `remove_writer`: whether there was a callback. ValueError for a closed file that has none."""
    number = ensure_fd_no_transport(loop, fd)
    if number < 0 and not loop.is_closed():
        return _unwatch_closed(loop, fd, number, direction)
    return bool(loop._unwatch(number, direction))


def _unwatch_closed(loop: AnyLoop, fd: Any, number: int, direction: int) -> bool:
    for (old_number, its_direction), (file, handle) in loop._watched_files.items():
        if file is fd and its_direction == direction:
            if loop._poller.watched(old_number, direction) is handle:
                return bool(loop._unwatch(old_number, direction))
            del loop._watched_files[old_number, direction]
            break  # the number is another's by now
    raise ValueError(f"Invalid file descriptor: {number}")


def _unwatch(loop: AnyLoop, fd: int, direction: int, handle: Handle, fut: Any = None) -> None:
    """Take `handle` off the poller, unless another has taken its place."""
    poller = loop._poller
    if not loop.is_closed() and poller.watched(fd, direction) is handle:
        poller.unwatch(fd, direction)
    handle.cancel()


def _when_ready(loop: AnyLoop, sock: socket.socket, direction: int, attempt: Callable[[], Any]) -> asyncio.Future[Any]:
    """A future of `attempt()`, tried each time the socket is ready until it does not say BlockingIOError."""
    return when_ready(loop, ensure_fd_no_transport(loop, sock.fileno()), direction, attempt, loop.create_future())


def when_ready(
    loop: AnyLoop,
    fd: int,
    direction: int,
    attempt: Callable[[], Any],
    fut: asyncio.Future[Any],
    *,
    at_once: bool = False,
) -> asyncio.Future[Any]:
    """`fut`, which gets the outcome of `attempt()`: tried each time `fd` is ready until it is no BlockingIOError.

    With `at_once` it is tried now, too. Whoever owns the descriptor may end `fut` before it is closed.
    """
    if at_once:
        with contextlib.suppress(BlockingIOError, InterruptedError):
            fut.set_result(attempt())
            return fut
    own = _Own()
    own.handle = handle = watch(loop, fd, direction, _attempt, loop, fd, direction, own, fut, attempt)
    fut.add_done_callback(functools.partial(_unwatch, loop, fd, direction, handle))
    return fut


class _Own:
    """What an attempt takes off the poller: its handle, out of reach of that handle's repr, which shows the arguments."""

    __slots__ = ("handle",)

    handle: Handle


def _attempt(
    loop: AnyLoop,
    fd: int,
    direction: int,
    own: _Own,
    fut: asyncio.Future[Any],
    attempt: Callable[[], Any],
) -> None:
    if fut.done():
        return  # cancelled in the same turn
    try:
        result = attempt()
    except (BlockingIOError, InterruptedError):
        return
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as exc:
        _unwatch(loop, fd, direction, own.handle)
        fut.set_exception(exc)
    else:
        _unwatch(loop, fd, direction, own.handle)
        fut.set_result(result)
    finally:
        # The error's traceback holds this frame, and the future holds the error.
        del fut


async def sock_recv(loop: AnyLoop, sock: socket.socket, nbytes: int) -> bytes:
    """As `loop.sock_recv` of CPython 3.14."""
    check_not_ssl(sock)
    check_nonblocking(loop, sock)
    try:
        return sock.recv(nbytes)
    except (BlockingIOError, InterruptedError):
        data: bytes = await _when_ready(loop, sock, READ, lambda: sock.recv(nbytes))
        return data


async def sock_recv_into(loop: AnyLoop, sock: socket.socket, buf: Any) -> int:
    """As `loop.sock_recv_into` of CPython 3.14."""
    check_not_ssl(sock)
    check_nonblocking(loop, sock)
    try:
        return sock.recv_into(buf)
    except (BlockingIOError, InterruptedError):
        count: int = await _when_ready(loop, sock, READ, lambda: sock.recv_into(buf))
        return count


async def sock_recvfrom(loop: AnyLoop, sock: socket.socket, bufsize: int) -> tuple[bytes, _Address]:
    """As `loop.sock_recvfrom` of CPython 3.14."""
    check_not_ssl(sock)
    check_nonblocking(loop, sock)
    try:
        return sock.recvfrom(bufsize)
    except (BlockingIOError, InterruptedError):
        received: tuple[bytes, _Address] = await _when_ready(loop, sock, READ, lambda: sock.recvfrom(bufsize))
        return received


async def sock_recvfrom_into(loop: AnyLoop, sock: socket.socket, buf: Any, nbytes: int = 0) -> tuple[int, _Address]:
    """As `loop.sock_recvfrom_into` of CPython 3.14: `nbytes` 0 means the length of the buffer."""
    check_not_ssl(sock)
    check_nonblocking(loop, sock)
    if not nbytes:
        nbytes = len(buf)
    try:
        return sock.recvfrom_into(buf, nbytes)
    except (BlockingIOError, InterruptedError):
        received: tuple[int, _Address] = await _when_ready(loop, sock, READ, lambda: sock.recvfrom_into(buf, nbytes))
        return received


async def sock_sendall(loop: AnyLoop, sock: socket.socket, data: Any) -> None:
    """As `loop.sock_sendall` of CPython 3.14: after an error nobody can say how much was sent."""
    check_not_ssl(sock)
    check_nonblocking(loop, sock)
    try:
        sent = sock.send(data)
    except (BlockingIOError, InterruptedError):
        sent = 0
    if sent == len(data):
        return
    view = memoryview(data).cast("B")

    def send_on() -> None:
        nonlocal sent
        sent += sock.send(view[sent:])
        if sent < len(view):
            raise BlockingIOError  # tried again when the socket is ready

    await _when_ready(loop, sock, WRITE, send_on)


async def sock_sendto(loop: AnyLoop, sock: socket.socket, data: Any, address: _Address) -> int:
    """As `loop.sock_sendto` of CPython 3.14: one datagram in one call."""
    check_not_ssl(sock)
    check_nonblocking(loop, sock)
    try:
        return sock.sendto(data, address)
    except (BlockingIOError, InterruptedError):
        count: int = await _when_ready(loop, sock, WRITE, lambda: sock.sendto(data, address))
        return count


async def sock_accept(loop: AnyLoop, sock: socket.socket) -> tuple[socket.socket, _Address]:
    """As `loop.sock_accept` of CPython 3.14: the new socket is non-blocking."""
    check_not_ssl(sock)
    check_nonblocking(loop, sock)

    def accept() -> tuple[socket.socket, _Address]:
        conn, address = sock.accept()
        conn.setblocking(False)
        return conn, address

    try:
        return accept()
    except (BlockingIOError, InterruptedError):
        accepted: tuple[socket.socket, _Address] = await _when_ready(loop, sock, READ, accept)
        return accepted


async def sock_connect(loop: AnyLoop, sock: socket.socket, address: _Address) -> None:
    """As `loop.sock_connect` of CPython 3.14: resolves the host when it is no literal address."""
    check_not_ssl(sock)
    check_nonblocking(loop, sock)
    if sock.family == socket.AF_INET or (HAS_IPV6 and sock.family == socket.AF_INET6):
        resolved = await ensure_resolved(loop, address, family=sock.family, type=sock.type, proto=sock.proto)
        address = resolved[0][4]
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            sock.connect(address)
        except (BlockingIOError, InterruptedError) as exc:
            if exc.errno == errno.EAGAIN and sock.family == socket.AF_UNIX:
                # The listener's backlog is full. Nothing tells when it has room, and the socket counts as writable.
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                continue
            # Also after a signal the connection goes on being made: when the socket is writable, it is made or has failed.
            await _when_ready(loop, sock, WRITE, lambda: _connected(sock, address))
        return


def _connected(sock: socket.socket, address: _Address) -> None:
    error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error != 0:
        raise OSError(error, f"Connect call failed {address}")
