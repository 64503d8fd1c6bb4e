"""TCP: making connections, making servers, taking over accepted sockets. Argument checks and words are asyncio's."""

from __future__ import annotations

import asyncio
import collections.abc
import errno
import functools
import itertools
import os
import socket
import sys
from asyncio.log import logger
from asyncio.staggered import staggered_race
from collections.abc import Callable
from typing import Any

from weft._net import handed
from weft._net.dns import AddrInfo, ensure_resolved, interleave
from weft._net.server import OUT_OF_RESOURCE, Server
from weft._net.sockcalls import sock_connect
from weft._net.sockops import HAS_IPV6, AnyLoop, check_not_ssl, set_reuseport
from weft._net.tls import check_server_ssl, check_ssl_timeouts, make_tls_transport
from weft._net.transport import make_stream_transport

_Made = tuple[Any, Any]


async def create_connection(
    loop: AnyLoop,
    protocol_factory: Callable[[], Any],
    host: Any = None,
    port: Any = None,
    *,
    ssl: Any = None,
    family: int = 0,
    proto: int = 0,
    flags: int = 0,
    sock: socket.socket | None = None,
    local_addr: Any = None,
    server_hostname: str | None = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
    happy_eyeballs_delay: float | None = None,
    interleave: int | None = None,
    all_errors: bool = False,
) -> _Made:
    """As `loop.create_connection` of CPython 3.14, on every version: (transport, protocol)."""
    if server_hostname is not None and not ssl:
        raise ValueError("server_hostname is only meaningful with ssl")
    if server_hostname is None and ssl:
        # An empty host is an error, not a wish to skip the check: that is said by server_hostname="".
        if not host:
            raise ValueError("You must set server_hostname when using ssl without a host")
        server_hostname = host
    check_ssl_timeouts(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
    if sock is not None:
        check_not_ssl(sock)
    if host is not None or port is not None:
        if sock is not None:
            raise ValueError("host/port and sock can not be specified at the same time")
        if happy_eyeballs_delay is not None and interleave is None:
            interleave = 1
        sock = await _connect_any(
            loop, host, port, family, proto, flags, local_addr, happy_eyeballs_delay, interleave, all_errors
        )
    else:
        if sock is None:
            raise ValueError("host and port was not specified and no sock specified")
        if sock.type != socket.SOCK_STREAM:
            # Any family will do: create_unix_connection is only the more convenient way.
            raise ValueError(f"A Stream Socket was expected, got {sock!r}")
    transport, protocol = await make_connection(
        loop,
        sock,
        protocol_factory,
        ssl,
        server_hostname,
        ssl_handshake_timeout=ssl_handshake_timeout,
        ssl_shutdown_timeout=ssl_shutdown_timeout,
    )
    if loop._debug:
        logger.debug(
            "%r connected to %s:%r: (%r, %r)", transport.get_extra_info("socket"), host, port, transport, protocol
        )
    return transport, protocol


async def _resolve(loop: AnyLoop, address: Any, family: int, proto: int, flags: int) -> list[AddrInfo]:
    infos = await ensure_resolved(loop, address, family=family, type=socket.SOCK_STREAM, proto=proto, flags=flags)
    if not infos:
        raise OSError("getaddrinfo() returned empty list")
    return infos


async def _connect_any(
    loop: AnyLoop,
    host: Any,
    port: Any,
    family: int,
    proto: int,
    flags: int,
    local_addr: Any,
    happy_eyeballs_delay: float | None,
    first_family_count: int | None,
    all_errors: bool,
) -> socket.socket:
    """A socket connected to the first address that answers: in turn, or racing with a head start (RFC 8305)."""
    infos = await _resolve(loop, (host, port), family, proto, flags)
    local_infos = None
    if local_addr is not None:
        local_infos = await _resolve(loop, local_addr, family, proto, flags)
    if first_family_count:
        infos = interleave(infos, first_family_count)
    failures: list[list[OSError]] = []
    sock: socket.socket | None = None
    if happy_eyeballs_delay is None:
        for info in infos:
            try:
                sock = await _connect_one(loop, failures, info, local_infos)
                break
            except OSError:
                continue
    else:
        attempts = [functools.partial(_connect_one, loop, failures, info, local_infos) for info in infos]
        sock = (await staggered_race(attempts, happy_eyeballs_delay, loop=loop))[0]
    if sock is not None:
        return sock
    errors = [exc for failure in failures for exc in failure]
    try:
        raise _summary(errors, all_errors)
    finally:
        # The errors' tracebacks hold these frames, which hold the errors.
        errors = []
        failures.clear()


def _summary(errors: list[OSError], all_errors: bool) -> BaseException:
    """One exception for all addresses that failed."""
    if all_errors:
        return ExceptionGroup("create_connection failed", errors)
    if not errors:
        return TimeoutError("create_connection failed")
    model = str(errors[0])
    if all(str(exc) == model for exc in errors):
        return errors[0]
    return OSError(f"Multiple exceptions: {', '.join(str(exc) for exc in errors)}")


async def _connect_one(
    loop: AnyLoop, failures: list[list[OSError]], info: AddrInfo, local_infos: list[AddrInfo] | None
) -> socket.socket:
    """Make, bind and connect one socket; its errors go into a list of its own in `failures`, and the last is raised."""
    mine: list[OSError] = []
    failures.append(mine)
    family, kind, proto, _, address = info
    sock = None
    try:
        sock = socket.socket(family=family, type=kind, proto=proto)
        sock.setblocking(False)
        if local_infos is not None:
            _bind_any(sock, family, local_infos, mine)
        await sock_connect(loop, sock, address)
        return sock
    except BaseException as exc:
        if isinstance(exc, OSError):
            mine.append(exc)
        if sock is not None:
            try:
                sock.close()
            except OSError as closing:
                logger.debug("closing %r after a failed connect: %s", sock, closing)
        raise
    finally:
        del failures, mine


def _bind_any(sock: socket.socket, family: int, local_infos: list[AddrInfo], failed: list[OSError]) -> None:
    for local_family, _, _, _, address in local_infos:
        if local_family != family:
            continue
        try:
            sock.bind(address)
            return
        except OSError as exc:
            message = f"error while attempting to bind on address {address!r}: {_reason(exc)}"
            failed.append(OSError(exc.errno, message))
    if failed:
        raise failed.pop()
    raise OSError(f"no matching local address with {family=} found")


def _reason(exc: OSError) -> str:
    """asyncio before 3.13 gave the bare text of the errno."""
    if sys.version_info >= (3, 13):
        return str(exc).lower()
    return (exc.strerror or str(exc)).lower()


async def make_connection(
    loop: AnyLoop,
    sock: socket.socket,
    protocol_factory: Callable[[], Any],
    ssl: Any,
    server_hostname: str | None,
    *,
    server_side: bool = False,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
) -> _Made:
    """Protocol and transport over a connected socket, ready when connection_made (and the handshake) are done."""
    try:
        sock.setblocking(False)
        protocol = protocol_factory()
        waiter: asyncio.Future[None] | None = loop.create_future()
        transport: Any
        if ssl:
            transport = make_tls_transport(
                loop,
                sock,
                protocol,
                None if isinstance(ssl, bool) else ssl,
                waiter,
                server_side=server_side,
                server_hostname=server_hostname,
                ssl_handshake_timeout=ssl_handshake_timeout,
                ssl_shutdown_timeout=ssl_shutdown_timeout,
            )
        else:
            transport = make_stream_transport(loop, sock, protocol, waiter)
    except BaseException:
        sock.close()
        raise
    try:
        await waiter  # type: ignore[misc]
    except BaseException:
        transport.close()
        # The future keeps the error, whose traceback keeps this frame: let go.
        waiter = None
        raise
    return transport, protocol


async def connect_accepted_socket(
    loop: AnyLoop,
    protocol_factory: Callable[[], Any],
    sock: socket.socket,
    *,
    ssl: Any = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
) -> _Made:
    """As `loop.connect_accepted_socket`: (transport, protocol) over a socket somebody else accepted."""
    if sock.type != socket.SOCK_STREAM:
        raise ValueError(f"A Stream Socket was expected, got {sock!r}")
    check_ssl_timeouts(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
    check_not_ssl(sock)
    transport, protocol = await make_connection(
        loop,
        sock,
        protocol_factory,
        ssl,
        "",
        server_side=True,
        ssl_handshake_timeout=ssl_handshake_timeout,
        ssl_shutdown_timeout=ssl_shutdown_timeout,
    )
    if loop._debug:
        logger.debug("%r handled: (%r, %r)", transport.get_extra_info("socket"), transport, protocol)
    return transport, protocol


async def create_server(
    loop: AnyLoop,
    protocol_factory: Callable[[], Any],
    host: Any = None,
    port: Any = None,
    *,
    family: int = socket.AF_UNSPEC,
    flags: int = socket.AI_PASSIVE,
    sock: socket.socket | None = None,
    backlog: int = 100,
    ssl: Any = None,
    reuse_address: bool | None = None,
    reuse_port: bool | None = None,
    keep_alive: bool | None = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
    start_serving: bool = True,
) -> Server:
    """As `loop.create_server` of CPython 3.14, on every version."""
    check_server_ssl(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
    if sock is not None:
        check_not_ssl(sock)
    if host is not None or port is not None:
        if sock is not None:
            raise ValueError("host/port and sock can not be specified at the same time")
        if reuse_address is None:
            reuse_address = os.name == "posix" and sys.platform != "cygwin"
        hosts: list[Any]
        if host == "":
            hosts = [None]
        elif isinstance(host, str) or not isinstance(host, collections.abc.Iterable):
            hosts = [host]
        else:
            hosts = list(host)
        answers = await asyncio.gather(*(_resolve_listening(loop, one, port, family, flags) for one in hosts))
        # Each address once, in the order found: two hosts may be the same address.
        infos = list(dict.fromkeys(itertools.chain.from_iterable(answers)))
        sockets = _bind_all(loop, infos, reuse_address, reuse_port, keep_alive)
    else:
        if sock is None:
            raise ValueError("Neither host/port nor sock were specified")
        if sock.type != socket.SOCK_STREAM:
            raise ValueError(f"A Stream Socket was expected, got {sock!r}")
        sockets = [sock]
    for listening in sockets:
        listening.setblocking(False)
    server = Server(loop, sockets, protocol_factory, ssl, backlog, ssl_handshake_timeout, ssl_shutdown_timeout)
    handed.adopt(server, sockets)
    if start_serving:
        await server.start_serving()
    if loop._debug:
        logger.info("%r is serving", server)
    return server


async def _resolve_listening(loop: AnyLoop, host: Any, port: Any, family: int, flags: int) -> list[AddrInfo]:
    infos = await ensure_resolved(loop, (host, port), family=family, type=socket.SOCK_STREAM, flags=flags)
    if not infos:
        raise OSError(f"getaddrinfo({host!r}) returned empty list")
    return infos


def _bind_all(
    loop: AnyLoop,
    infos: list[AddrInfo],
    reuse_address: bool,
    reuse_port: bool | None,
    keep_alive: bool | None,
) -> list[socket.socket]:
    """A bound socket for each address; all or none. An address of a family that is switched off is passed over."""
    sockets: list[socket.socket] = []
    completed = False
    try:
        for family, kind, proto, _, address in infos:
            try:
                sock = socket.socket(family, kind, proto)
            except OSError as exc:
                if exc.errno in OUT_OF_RESOURCE:
                    raise  # not a family that the machine lacks
                if loop._debug:
                    logger.warning(
                        "create_server() failed to create socket.socket(%r, %r, %r)", family, kind, proto, exc_info=True
                    )
                continue
            sockets.append(sock)
            if reuse_address:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, True)
            # Linux from 6.12.9 on refuses SO_REUSEPORT for other families.
            if reuse_port and family in (socket.AF_INET, getattr(socket, "AF_INET6", None)):
                set_reuseport(sock)
            if keep_alive:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, True)
            if HAS_IPV6 and family == socket.AF_INET6 and hasattr(socket, "IPPROTO_IPV6"):
                # Else it would listen on IPv4 too, where there is a socket of its own.
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, True)
            try:
                sockets[-1] = handed.bind(sock, address)
            except OSError as exc:
                message = f"error while attempting to bind on address {address!r}: {_reason(exc)}"
                if exc.errno == errno.EADDRNOTAVAIL:
                    sockets.pop()
                    sock.close()
                    if loop._debug:
                        logger.warning(message)
                    continue
                raise OSError(exc.errno, message) from None
        if not sockets:
            raise OSError(f"could not bind on any address out of {[info[4] for info in infos]!r}")
        completed = True
        return sockets
    finally:
        if not completed:
            for sock in sockets:
                sock.close()
