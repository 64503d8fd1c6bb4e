"""Peers that vanish, stall, trickle, say nothing or rubbish: nothing lost, nothing hangs, one error that says why."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tcp_pair import Pair, Recorder
from tls_pair import TLSPair, server_context
from worlds import turns

TESTS = Path(__file__).resolve().parents[1]

#: Run in a network of its own, whose loopback is taken down under a connection: no FIN, no RST, no answer.
HALF_OPEN = """
import asyncio, errno, fcntl, importlib, json, socket, struct, sys
sys.path.insert(0, sys.argv[1])
import worlds

def loopback(up):
    with socket.socket() as sock:
        fcntl.ioctl(sock, 0x8914, struct.pack("16sh14x", b"lo", 1 if up else 0))  # SIOCSIFFLAGS, IFF_UP

class Peer(asyncio.Protocol):
    def __init__(self):
        self.events = []
        self.lost = asyncio.get_running_loop().create_future()
    def connection_made(self, transport):
        self.transport = transport
        self.events.append("made")
    def eof_received(self):
        self.events.append("eof")
    def connection_lost(self, exc):
        self.events.append("lost")
        self.lost.set_result(exc)

async def main():
    loop = asyncio.get_running_loop()
    loopback(True)
    server = await loop.create_server(Peer, "127.0.0.1", 0)
    transport, client = await loop.create_connection(Peer, *server.sockets[0].getsockname())
    sock = transport.get_extra_info("socket")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 300)
    if sys.argv[3] == "keepalive":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    loopback(False)
    if sys.argv[3] == "write":
        transport.write(b"into the void")
    async with asyncio.timeout(20):
        exc = await client.lost
    transport.write(b"dropped")
    server.close()
    print(json.dumps([type(exc).__name__, errno.errorcode.get(exc.errno), client.events]))

world = worlds.World(sys.argv[2])
world.run(main())
"""


@pytest.mark.slow_test(60)
@pytest.mark.parametrize("way", ["write", "keepalive"])
def test_a_peer_that_vanishes_without_a_word(world, tmp_path, way):
    program = tmp_path / "half_open.py"
    program.write_text(HALF_OPEN, encoding="utf-8")
    namespace = ["unshare", "--net", "--map-root-user"]
    try:
        able = subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        able = False
    if not able:
        pytest.skip("no network namespaces here")
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [*namespace, sys.executable, str(program), str(TESTS), world.name, way],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    name, number, events = json.loads(done.stdout)
    # What the kernel was told last decides between them.
    assert (name, number) in {("TimeoutError", "ETIMEDOUT"), ("OSError", "ENETUNREACH"), ("OSError", "EHOSTUNREACH")}
    assert events == ["made", "lost"]


def serve_tls(**options):
    protocols = []

    def serve():
        protocols.append(Recorder())
        return protocols[-1]

    loop = asyncio.get_running_loop()
    return protocols, loop.create_server(serve, "127.0.0.1", 0, ssl=server_context(), **options)


async def end_of(sock):
    """What a bare socket gets until its end, an error counting as one."""
    loop = asyncio.get_running_loop()
    sock.setblocking(False)
    got = b""
    try:
        while data := await loop.sock_recv(sock, 65536):
            got += data
    except ConnectionError:
        pass  # a reset is an end, too
    sock.close()
    return got


async def test_a_tls_server_ends_a_client_that_says_nothing(world):
    protocols, serving = serve_tls(ssl_handshake_timeout=0.05)
    async with await serving as server:
        sock = socket.create_connection(server.sockets[0].getsockname())
        assert await end_of(sock) == b""
        assert [protocol.events for protocol in protocols] == [[]]
        protocols.clear()


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n\r\n", bytes(5), os.urandom(16) * 4_000], ids=["http", "zeros", "noise"]
)
async def test_a_tls_server_ends_a_client_that_sends_rubbish(world, data):
    protocols, serving = serve_tls()
    async with await serving as server:
        address = server.sockets[0].getsockname()
        sock = socket.create_connection(address)
        sock.send(data)
        sock.shutdown(socket.SHUT_WR)
        await end_of(sock)
        assert [protocol.events for protocol in protocols] == [[]]
        protocols.clear()


async def trickle(protocol, count):
    """Let `protocol` read a little, again and again, until it has `count` bytes."""
    while len(protocol.data) < count:
        protocol.transport.resume_reading()
        await turns(2)
        protocol.transport.pause_reading()
        await turns(3)
    protocol.transport.resume_reading()


@pytest.mark.parametrize("kind", [Pair, TLSPair], ids=["tcp", "tls"])
async def test_a_slow_reader_gets_all_and_costs_no_more_than_the_mark(world, kind):
    block, count = b"s" * 50_000, 60
    async with kind() as pair:
        reading = asyncio.ensure_future(trickle(pair.server, len(block) * count))
        pair.transport.set_write_buffer_limits(high=100_000)
        most = 0
        for _ in range(count):
            while pair.transport.get_write_buffer_size() > 100_000:
                await turns()
            pair.transport.write(block)
            most = max(most, pair.transport.get_write_buffer_size())
        await reading
        assert len(pair.server.data) == len(block) * count
        # A record's head and tail come on top.
        assert most <= 160_000


@pytest.mark.parametrize("how", ["close", "abort", "lost"])
@pytest.mark.parametrize("kind", ["tcp", "tls", "unix", "pipe", "udp", "child"])
async def test_a_write_after_the_end_is_dropped(world, kind, how):
    """On every transport that can be written, it raises nothing and is sent to nobody."""
    loop = asyncio.get_running_loop()
    if kind == "child":
        process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
        transport, lost, finish = process.stdin.transport, None, process.communicate
    elif kind == "udp":
        transport, protocol = await loop.create_datagram_endpoint(Recorder, remote_addr=("127.0.0.1", 9))
        lost = protocol.lost
    elif kind == "pipe":
        reading, writing = os.pipe()
        transport, protocol = await loop.connect_write_pipe(Recorder, os.fdopen(writing, "wb", 0))
        lost = protocol.lost
    elif kind == "unix":
        mine, other = socket.socketpair()
        transport, protocol = await loop.create_connection(Recorder, sock=mine)
        lost = protocol.lost
    else:
        pair = await (Pair if kind == "tcp" else TLSPair)().__aenter__()
        transport, lost = pair.transport, pair.client.lost
    write = transport.sendto if kind == "udp" else transport.write
    (transport.abort if how == "abort" else transport.close)()
    if how == "lost" and lost is not None:
        await lost
    for _ in range(7):
        write(b"dropped")
    assert transport.is_closing()
    if kind == "child":
        assert await finish() == (b"", None)
        return
    await lost
    write(b"dropped")
    if kind == "pipe":
        assert os.read(reading, 100) == b""
        os.close(reading)
    elif kind == "unix":
        assert other.recv(100) == b""
        other.close()
    elif kind != "udp":
        await pair.__aexit__()
        assert pair.server.data == b""
