"""The mix: connections over TCP, TLS and Unix sockets that end in four ways, an upgrade to TLS, UDP, pipes, children,
files sent, signals, timers, tasks, threads. One round is everything once; rounds are counted by kind."""

from __future__ import annotations

import asyncio
import collections
import os
import random
import signal
import socket
import ssl
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIZES = (1, 1_000, 60_000, 300_000)
CERTS = Path(__file__).resolve().parents[1] / "certs"
FILE_BYTES = 500_000


_serving: set[asyncio.Task[Any]] = set()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one connection until it ends, whichever way."""
    task = asyncio.current_task()
    assert task is not None
    _serving.add(task)
    task.add_done_callback(_serving.discard)
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        return  # some clients abort: that is part of the load
    finally:
        writer.close()


async def talk(dice: random.Random, connect: Callable[[], Any]) -> None:
    """One connection: some echoes, then one of four ends."""
    reader, writer = await connect()
    for _ in range(dice.randrange(1, 5)):
        data = dice.randbytes(64) * (dice.choice(SIZES) // 64 + 1)
        writer.write(data)
        if await reader.readexactly(len(data)) != data:
            raise AssertionError("the echo is not what was sent")
    way = dice.randrange(4)
    if way == 0:
        writer.transport.abort()
        return
    if way == 1 and writer.can_write_eof():
        writer.write_eof()
        await reader.read()
    elif way == 2:
        writer.write(b"unread" * 50_000)
    writer.close()
    try:
        await writer.wait_closed()
    except ConnectionError:
        return  # closed with the echo unread: the server's answer may be a reset


async def use_timers(dice: random.Random) -> None:
    """Many time-outs that never fire, a few that do."""
    loop = asyncio.get_running_loop()
    handles = [loop.call_later(dice.uniform(0.0, 60.0), int) for _ in range(200)]
    for handle in handles:
        handle.cancel()
    try:
        async with asyncio.timeout(0.001):
            await asyncio.sleep(60)
    except TimeoutError:
        return


async def use_tasks(dice: random.Random) -> None:
    """Tasks that end, fail and are cancelled."""
    tasks = [asyncio.create_task(asyncio.sleep(dice.choice((0, 0, 60)))) for _ in range(100)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def use_threads(dice: random.Random) -> None:
    """Work for the executor, and calls from its threads."""
    loop = asyncio.get_running_loop()
    called: asyncio.Future[None] = loop.create_future()
    await asyncio.to_thread(loop.call_soon_threadsafe, called.set_result, None)
    await called


async def use_udp(dice: random.Random) -> None:
    """A datagram there and back."""
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[bytes] = loop.create_future()

    class Echo(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, address: Any) -> None:
            self.transport.sendto(data, address)

    class Ask(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, address: Any) -> None:
            if not answered.done():
                answered.set_result(data)

    server, _ = await loop.create_datagram_endpoint(Echo, ("127.0.0.1", 0))
    client, _ = await loop.create_datagram_endpoint(Ask, remote_addr=server.get_extra_info("sockname"))
    client.sendto(b"ping")
    async with asyncio.timeout(10):
        await answered
    client.close()
    server.close()
    await asyncio.sleep(0)


async def use_pipes(dice: random.Random) -> None:
    """A pipe with both its ends here: filled beyond what it holds, then ended by its writer or left by its reader."""
    loop = asyncio.get_running_loop()
    reading, writing = os.pipe()
    reader = asyncio.StreamReader()
    incoming, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb", 0)
    )
    outgoing, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(writing, "wb", 0))
    outgoing.write(b"x" * 200_000)
    if dice.random() < 0.5:
        outgoing.write_eof()
        if len(await reader.read()) != 200_000:
            raise AssertionError("bytes were lost in a pipe")
    else:
        await reader.readexactly(1)
        outgoing.abort()
    incoming.close()
    await asyncio.sleep(0)


async def use_signals(dice: random.Random) -> None:
    """A signal to oneself, heard by the loop."""
    loop = asyncio.get_running_loop()
    heard = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR2, heard.set)
    os.kill(os.getpid(), signal.SIGUSR2)
    await heard.wait()
    loop.remove_signal_handler(signal.SIGUSR2)


async def use_children(dice: random.Random) -> None:
    """A child that answers, or one that is killed."""
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec("/bin/cat", stdin=pipe, stdout=pipe)
    if dice.random() < 0.5:
        out, _ = await child.communicate(b"x" * 100_000)
        if len(out) != 100_000:
            raise AssertionError(f"{len(out)} bytes of 100000 came back from the child")
    else:
        child.kill()
        await child.communicate()


class Load:
    """`async with Load()` serves; `go_round` is one round of everything; `rounds` counts by kind."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.rounds: collections.Counter[str] = collections.Counter()
        self.absent: set[str] = set()

    async def __aenter__(self) -> Load:
        served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        served.load_cert_chain(CERTS / "server.pem")
        self.trusting = ssl.create_default_context(cafile=str(CERTS / "ca.pem"))
        self.file = tempfile.TemporaryFile()
        self.file.write(bytes(FILE_BYTES))
        self.file.flush()
        self.tcp = await asyncio.start_server(echo, "127.0.0.1", 0)
        self.tls = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=served)
        self.unix = await asyncio.start_unix_server(echo, f"\0weft-soak-{os.getpid()}")
        tcp, tls = (server.sockets[0].getsockname() for server in (self.tcp, self.tls))
        path = self.unix.sockets[0].getsockname()
        secure = {"ssl": self.trusting, "server_hostname": "localhost"}
        self.kinds: dict[str, Callable[[random.Random], Any]] = {
            "tcp": lambda dice: talk(dice, lambda: asyncio.open_connection(*tcp)),
            "tls": lambda dice: talk(dice, lambda: asyncio.open_connection(*tls, **secure)),
            "start_tls": lambda dice: talk(dice, lambda: self.upgraded(tls)),
            "unix": lambda dice: talk(dice, lambda: asyncio.open_unix_connection(path)),
            "timers": use_timers,
            "tasks": use_tasks,
            "threads": use_threads,
            "udp": use_udp,
            "pipes": use_pipes,
            "signals": use_signals,
            "sendfile": lambda dice: self.send_file(dice, tcp),
            "children": use_children,
        }
        return self

    async def __aexit__(self, *args: object) -> None:
        self.file.close()
        for server in (self.tcp, self.tls, self.unix):
            server.close()
            if sys.version_info < (3, 12) or not args[0]:
                await server.wait_closed()
        # `wait_closed` waits for none of them before 3.12, and who is cancelled by the runner is reported by asyncio's streams.
        if _serving:
            await asyncio.wait(_serving)

    async def upgraded(self, address: Any) -> Any:
        """A connection that is a plain one first."""
        reader, writer = await asyncio.open_connection(*address)
        await writer.start_tls(self.trusting, server_hostname="localhost")
        return reader, writer

    async def send_file(self, dice: random.Random, address: Any) -> None:
        """A file to the echo, by the transport or by the socket; sometimes given up in the middle."""
        loop = asyncio.get_running_loop()
        if dice.random() < 0.5:
            reader, writer = await asyncio.open_connection(*address)
            sending = asyncio.ensure_future(loop.sendfile(writer.transport, self.file, 0))
            if dice.random() < 0.5:
                await asyncio.sleep(0)
                sending.cancel()
                await asyncio.wait([sending])
                writer.transport.abort()
            else:
                await sending
                await reader.readexactly(FILE_BYTES)
                writer.close()
            return
        sock = socket.socket()
        sock.setblocking(False)
        await loop.sock_connect(sock, address)
        await asyncio.gather(loop.sock_sendfile(sock, self.file, 0), self.swallow(sock, FILE_BYTES))
        sock.close()

    async def swallow(self, sock: socket.socket, count: int) -> None:
        """The echo of so many bytes."""
        while count:
            count -= len(await asyncio.get_running_loop().sock_recv(sock, 65536))

    async def go_round(self) -> None:
        """Everything once, at the same time, some kinds several times; what the loop lacks is left out and named."""
        names = [name for name in self.kinds for _ in range(6 if name in ("tcp", "unix", "tls") else 1)]
        await asyncio.gather(*(self._one(name) for name in names if name not in self.absent))

    async def _one(self, name: str) -> None:
        try:
            await self.kinds[name](self.dice)
            self.rounds[name] += 1
        except NotImplementedError:
            self.absent.add(name)
