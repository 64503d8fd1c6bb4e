"""Datagram endpoints: `create_datagram_endpoint` and the transport it gives. Checks and words are asyncio's."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import sys
import warnings
from asyncio.log import logger
from asyncio.trsock import TransportSocket
from collections.abc import Callable
from typing import Any

from weft._net.datagram import Datagrams
from weft._net.dns import ensure_resolved
from weft._net.sockcalls import sock_connect
from weft._net.sockops import AnyLoop, ensure_fd_no_transport, set_reuseport
from weft._net.transport import set_result_unless_cancelled


class DatagramTransport(asyncio.Transport, asyncio.DatagramTransport):
    """A datagram socket (UDP or Unix). All methods: the loop's thread; semantics as asyncio's datagram transport.

    As there it is a Transport too, though it has no stream to read or write.
    """

    __slots__ = ("__dict__", "__weakref__", "_state")

    def __init__(self, loop: AnyLoop, sock: socket.socket, protocol: Any, address: Any) -> None:
        info: dict[str, Any] = {"socket": TransportSocket(sock)}
        super().__init__(info)
        try:
            info["sockname"] = sock.getsockname()
        except OSError:
            info["sockname"] = None
        try:
            info["peername"] = sock.getpeername()
        except OSError:
            info["peername"] = None
        self._state = Datagrams(loop, sock, self, protocol, address, bool(info["peername"]))

    def __repr__(self) -> str:
        state = self._state
        info = [self.__class__.__name__]
        if state._sock is None:
            info.append("closed")
        elif state._closing:
            info.append("closing")
        info.append(f"fd={state._fd}")
        if state._sock is not None and not state._loop.is_closed():
            info.append("read=polling" if state._watching else "read=idle")
            info.append(f"write=<{'polling' if state._writing else 'idle'}, bufsize={state._size}>")
        return f"<{' '.join(info)}>"

    def __del__(self, _warn: Any = warnings.warn) -> None:
        state = getattr(self, "_state", None)
        if state is not None and state._sock is not None:
            _warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            state._release()

    def sendto(self, data: bytes | bytearray | memoryview[Any], addr: Any = None) -> None:
        self._state.sendto(data, addr)

    def is_closing(self) -> bool:
        return bool(self._state._closing)

    def close(self) -> None:
        self._state.close()

    def abort(self) -> None:
        self._state.abort()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._state._set_protocol(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._state._protocol
        return protocol

    def get_write_buffer_size(self) -> int:
        return self._state._size

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._state._low, self._state._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._state.set_write_buffer_limits(high, low)

    @property
    def _sock(self) -> socket.socket | None:
        return self._state._sock


async def create_datagram_endpoint(
    loop: AnyLoop,
    protocol_factory: Callable[[], Any],
    local_addr: Any = None,
    remote_addr: Any = None,
    *,
    family: int = 0,
    proto: int = 0,
    flags: int = 0,
    reuse_port: bool | None = None,
    allow_broadcast: bool | None = None,
    sock: socket.socket | None = None,
) -> tuple[Any, Any]:
    """As `loop.create_datagram_endpoint` of the running version: (transport, protocol)."""
    address = None
    given = sock is not None
    if sock is not None:
        _check_datagram(sock)
        options = {
            "local_addr": local_addr,
            "remote_addr": remote_addr,
            "family": family,
            "proto": proto,
            "flags": flags,
            "reuse_port": reuse_port,
            "allow_broadcast": allow_broadcast,
        }
        if any(options.values()):
            problems = ", ".join(f"{name}={value}" for name, value in options.items() if value)
            raise ValueError(f"socket modifier keyword arguments can not be used when sock is specified. ({problems})")
        sock.setblocking(False)
    else:
        candidates = await _candidates(loop, local_addr, remote_addr, family, proto, flags)
        failures: list[OSError] = []
        for kind, pair in candidates:
            try:
                sock = await _open(loop, kind, pair, reuse_port, allow_broadcast)
            except OSError as exc:
                failures.append(exc)
            else:
                address = pair[1]
                break
        if sock is None:
            try:
                raise failures[0]
            finally:
                # Their tracebacks hold this frame, which holds them.
                failures.clear()
    try:
        protocol = protocol_factory()
        waiter: asyncio.Future[None] = loop.create_future()
        ensure_fd_no_transport(loop, sock)
        transport = DatagramTransport(loop, sock, protocol, address)
    except BaseException:
        if not given:
            sock.close()
        raise
    state = transport._state
    loop.call_soon(protocol.connection_made, transport, context=state._context)
    loop.call_soon(state._start_reading, context=state._context)
    loop.call_soon(set_result_unless_cancelled, waiter, context=state._context)
    if loop._debug:
        if local_addr:
            logger.info(
                "Datagram endpoint local_addr=%r remote_addr=%r created: (%r, %r)",
                local_addr,
                remote_addr,
                transport,
                protocol,
            )
        else:
            logger.debug("Datagram endpoint remote_addr=%r created: (%r, %r)", remote_addr, transport, protocol)
    try:
        await waiter
    except BaseException:
        transport.close()
        raise
    return transport, protocol


def _check_datagram(sock: socket.socket) -> None:
    if sys.version_info >= (3, 13):
        if sock.type == socket.SOCK_STREAM:
            raise ValueError(f"A datagram socket was expected, got {sock!r}")
    elif sock.type != socket.SOCK_DGRAM:
        raise ValueError(f"A UDP Socket was expected, got {sock!r}")


async def _candidates(
    loop: AnyLoop, local_addr: Any, remote_addr: Any, family: int, proto: int, flags: int
) -> list[tuple[tuple[int, int], list[Any]]]:
    """What to try, in order: (family, protocol) and the pair of local and remote address, None where none is wanted."""
    if not (local_addr or remote_addr):
        if family == 0:
            raise ValueError("unexpected address family")
        return [((family, proto), [None, None])]
    if hasattr(socket, "AF_UNIX") and family == socket.AF_UNIX:
        for address in (local_addr, remote_addr):
            if address is not None and not isinstance(address, str):
                raise TypeError("string is expected")
        if local_addr and local_addr[0] != "\x00":
            _remove_stale(local_addr)
        return [((family, proto), [local_addr, remote_addr])]
    found: dict[tuple[int, int], list[Any]] = {}
    for index, address in enumerate((local_addr, remote_addr)):
        if address is None:
            continue
        if not (isinstance(address, tuple) and len(address) == 2):
            raise TypeError("2-tuple is expected")
        infos = await ensure_resolved(loop, address, family=family, type=socket.SOCK_DGRAM, proto=proto, flags=flags)
        if not infos:
            raise OSError("getaddrinfo() returned empty list")
        for info in infos:
            found.setdefault((info[0], info[2]), [None, None])[index] = info[4]
    # Of what is wanted both ways, only families that have both.
    complete = [
        (kind, pair)
        for kind, pair in found.items()
        if not ((local_addr and pair[0] is None) or (remote_addr and pair[1] is None))
    ]
    if not complete:
        raise ValueError("can not get address information")
    return complete


def _remove_stale(path: str) -> None:
    """Remove the socket that a former process left at `path`."""
    try:
        if stat.S_ISSOCK(os.stat(path).st_mode):
            os.remove(path)
    except FileNotFoundError:
        logger.debug("no stale socket at %r", path)
    except OSError as exc:
        # The directory may let us make a socket and nothing else.
        logger.error("Unable to check or remove stale UNIX socket %r: %r", path, exc)


async def _open(
    loop: AnyLoop, kind: tuple[int, int], pair: list[Any], reuse_port: bool | None, allow_broadcast: bool | None
) -> socket.socket:
    """A socket bound to the pair's first address and connected to its second; closed again if that fails."""
    local, remote = pair
    sock = socket.socket(family=kind[0], type=socket.SOCK_DGRAM, proto=kind[1])
    try:
        if reuse_port:
            set_reuseport(sock)
        if allow_broadcast:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.setblocking(False)
        if local:
            sock.bind(local)
        # A connected socket hears only its peer, and who answers a broadcast is somebody else.
        if remote and not allow_broadcast:
            await sock_connect(loop, sock, remote)
    except BaseException:
        sock.close()
        raise
    return sock
