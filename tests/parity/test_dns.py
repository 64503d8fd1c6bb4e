"""Names and addresses: literal ones are answered without a thread, and exactly as the C library answers them."""

from __future__ import annotations

import asyncio
import itertools
import random
import socket
import threading

import pytest

HOSTS = [
    *(
        "127.0.0.1",
        "0.0.0.0",
        "::1",
        "::",
        "fe80::1",
        "::ffff:1.2.3.4",
        "1.2.3",
        "1",
        "0x7f.1",
        "010.0.0.1",
        "256.1.1.1",
    ),
    *("1.2.3.4 ", "::g", "1:2", "", None, b"127.0.0.1", "٣.1.1.1", "1.2.3.4.5"),
]
PORTS = [0, 80, "80", "0", None, 65535, 65536, -1, "65536", 70000, "http", "", b"80", 1 << 70, "٨"]
FAMILIES = [socket.AF_UNSPEC, socket.AF_INET, socket.AF_INET6, socket.AF_UNIX]
TYPES = [0, socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, 99]
PROTOS = [0, socket.IPPROTO_TCP, socket.IPPROTO_UDP, socket.IPPROTO_ICMP, 255]
NUMERIC = socket.AI_NUMERICHOST
FLAGS = [
    NUMERIC,
    *(NUMERIC | flag for flag in (socket.AI_PASSIVE, socket.AI_ADDRCONFIG, socket.AI_CANONNAME, socket.AI_NUMERICSERV)),
    NUMERIC | socket.AI_V4MAPPED | socket.AI_ALL,
    NUMERIC | 1 << 14,
]


def outcome_of(function, *arguments):
    try:
        return function(*arguments)
    except Exception as error:
        return type(error), str(error)


async def awaited(coroutine):
    try:
        return await coroutine
    except Exception as error:
        return type(error), str(error)


async def test_every_kind_of_literal_as_the_socket_module(world):
    """All flags hold AI_NUMERICHOST, so that no name server is asked in this test; literals answer alike without."""
    dice, loop = random.Random(11), asyncio.get_running_loop()
    cases = list(itertools.product(HOSTS, PORTS, FAMILIES, TYPES, PROTOS, FLAGS))
    for host, port, family, kind, proto, flags in dice.sample(cases, 3000):
        expected = outcome_of(socket.getaddrinfo, host, port, family, kind, proto, flags)
        got = await awaited(loop.getaddrinfo(host, port, family=family, type=kind, proto=proto, flags=flags))
        assert got == expected, (host, port, family, kind, proto, flags)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "1.2.3.4", "fe80::1"])
@pytest.mark.parametrize("port", [0, 443, "443", None])
@pytest.mark.parametrize("flags", [0, socket.AI_PASSIVE])
async def test_without_flags(world, host, port, flags):
    for family, kind in itertools.product(FAMILIES[:3], TYPES[:3]):
        expected = outcome_of(socket.getaddrinfo, host, port, family, kind, 0, flags)
        got = await awaited(asyncio.get_running_loop().getaddrinfo(host, port, family=family, type=kind, flags=flags))
        assert got == expected


@pytest.mark.weft_only
async def test_literals_need_no_thread(world):
    loop, before = asyncio.get_running_loop(), threading.active_count()
    assert await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
    assert await loop.getaddrinfo("::1", "80")
    assert await loop.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    transport, _ = await loop.create_connection(asyncio.Protocol, *address)
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, address)
    transport.close()
    server.close()
    assert threading.active_count() == before
    assert loop._default_executor is None


@pytest.mark.parametrize(
    "address", [("127.0.0.1", 80), ("::1", 80), ("::1", 80, 0, 0), ("x", 80), ("127.0.0.1",), None]
)
@pytest.mark.parametrize("flags", [0, socket.NI_NUMERICHOST, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV])
async def test_names_of_addresses(world, address, flags):
    if address == ("x", 80):
        flags |= socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
        address = ("300.1.1.1.1", 80)
    expected = outcome_of(socket.getnameinfo, address, flags)
    assert await awaited(asyncio.get_running_loop().getnameinfo(address, flags)) == expected


def test_closed_loop(world):
    loop = world.new_loop()
    loop.close()
    for coroutine in (loop.getaddrinfo("127.0.0.1", 80), loop.getnameinfo(("127.0.0.1", 80), 3)):
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            coroutine.send(None)
