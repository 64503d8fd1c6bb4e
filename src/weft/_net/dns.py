"""Names and addresses: the resolver runs in the loop's executor, literal addresses never leave the thread."""

from __future__ import annotations

import itertools
import socket
from asyncio.log import logger
from typing import Any

from weft._net.sockops import HAS_IPV6, AnyLoop

_ONLY_NUMBERS = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
_NUMERIC = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV

#: What socket.getaddrinfo answers: (family, type, proto, canonical name, address).
AddrInfo = tuple[Any, Any, int, str, Any]


async def getaddrinfo(
    loop: AnyLoop, host: Any, port: Any, *, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
) -> list[AddrInfo]:
    """As `loop.getaddrinfo`: at once for a literal address, else socket.getaddrinfo in the default executor.

    In debug mode always in the executor: timed and logged.
    """
    if not loop._debug:
        answer = _literal_answer(host, port, family, type, proto, flags)
        if answer is not None:
            loop._check_closed()
            return answer
    resolve: Any = _timed_getaddrinfo(loop) if loop._debug else socket.getaddrinfo
    found: list[AddrInfo] = await loop.run_in_executor(None, resolve, host, port, family, type, proto, flags)
    return found


async def getnameinfo(loop: AnyLoop, sockaddr: Any, flags: int = 0) -> tuple[str, str]:
    """As `loop.getnameinfo`: at once where numbers were asked for, else socket.getnameinfo in the default executor."""
    if flags & _NUMERIC == _NUMERIC:
        # The C library asks nobody for these; what is wrong with `sockaddr` is said by its own words.
        loop._check_closed()
        return socket.getnameinfo(sockaddr, flags)
    name: tuple[str, str] = await loop.run_in_executor(None, socket.getnameinfo, sockaddr, flags)
    return name


def _literal_answer(host: Any, port: Any, family: Any, type: Any, proto: Any, flags: Any) -> list[AddrInfo] | None:
    """What `socket.getaddrinfo` would answer, asked of the C library without a thread; None when that could block.

    It is asked to take nothing but numbers (AI_NUMERICHOST and AI_NUMERICSERV): whatever it refuses then, for a name or
    for any other reason, is left to the executor, which has the right error. Only the canonical name depends on a flag.
    """
    if not isinstance(host, str) or not isinstance(flags, int) or flags & socket.AI_CANONNAME:
        return None
    if (isinstance(port, str) and not port.isdecimal()) or not isinstance(port, str | int | None):
        return None
    if not host or not (host[0].isdecimal() or ":" in host) or "%" in host:
        return None
    try:
        return socket.getaddrinfo(host, port, family, type, proto, flags | _ONLY_NUMBERS)
    except (OSError, TypeError, ValueError, OverflowError):
        return None


def _timed_getaddrinfo(loop: AnyLoop) -> Any:
    def resolve(host: Any, port: Any, family: int, type: int, proto: int, flags: int) -> list[AddrInfo]:
        asked = f"{host}:{port!r}"
        for name, value in (("family", family), ("type", type), ("proto", proto), ("flags", flags)):
            if value:
                asked += f", {name}={value!r}"
        logger.debug("Get address info %s", asked)
        started = loop.time()
        found = socket.getaddrinfo(host, port, family, type, proto, flags)
        took = loop.time() - started
        message = f"Getting address info {asked} took {took * 1e3:.3f}ms: {found!r}"
        if took >= loop.slow_callback_duration:
            logger.info(message)
        else:
            logger.debug(message)
        return found

    return resolve


def literal_address(
    host: Any, port: Any, family: int, type: int, proto: int, flowinfo: int = 0, scopeid: int = 0
) -> AddrInfo | None:
    """The one answer for a literal IP address and a numeric port; None when the resolver must be asked.

    asyncio's rules: only TCP and UDP, only stream and datagram sockets; a name for the port, a zone in the address or
    a family that does not fit are for the resolver.
    """
    if host is None or not hasattr(socket, "inet_pton"):
        return None
    if proto not in (0, socket.IPPROTO_TCP, socket.IPPROTO_UDP):
        return None
    if type == socket.SOCK_STREAM:
        proto = socket.IPPROTO_TCP
    elif type == socket.SOCK_DGRAM:
        proto = socket.IPPROTO_UDP
    else:
        return None
    if port is None or port in ("", b""):
        number = 0
    else:
        try:
            number = int(port)
        except (TypeError, ValueError):
            return None
    if isinstance(host, bytes):
        host = host.decode("idna")
    if "%" in host:
        return None
    if family == socket.AF_UNSPEC:
        families = [socket.AF_INET, socket.AF_INET6] if HAS_IPV6 else [socket.AF_INET]
    else:
        families = [family]  # type: ignore[list-item]
    for candidate in families:
        try:
            socket.inet_pton(candidate, host)
        except OSError:
            continue
        if HAS_IPV6 and candidate == socket.AF_INET6:
            return candidate, type, proto, "", (host, number, flowinfo, scopeid)
        return candidate, type, proto, "", (host, number)
    return None


async def ensure_resolved(
    loop: AnyLoop,
    address: Any,
    *,
    family: int = 0,
    type: int = socket.SOCK_STREAM,
    proto: int = 0,
    flags: int = 0,
) -> list[AddrInfo]:
    """The addresses of (host, port, ...): at once for a literal, else from `loop.getaddrinfo` (overridable)."""
    host, port = address[:2]
    literal = literal_address(host, port, family, type, proto, *address[2:])
    if literal is not None:
        return [literal]
    found: list[AddrInfo] = await loop.getaddrinfo(host, port, family=family, type=type, proto=proto, flags=flags)
    return found


def interleave(infos: list[AddrInfo], first_family_count: int) -> list[AddrInfo]:
    """Addresses alternating between families (RFC 8305), after `first_family_count - 1` of the first family."""
    families: dict[Any, list[AddrInfo]] = {}
    for info in infos:
        families.setdefault(info[0], []).append(info)
    queues = list(families.values())
    ordered: list[AddrInfo] = []
    if first_family_count > 1:
        ordered.extend(queues[0][: first_family_count - 1])
        del queues[0][: first_family_count - 1]
    for row in itertools.zip_longest(*queues):
        ordered.extend(info for info in row if info is not None)
    return ordered
