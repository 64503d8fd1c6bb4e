"""A program under `weft run --workers`, in a process group of its own: started, asked over HTTP, listened to, ended."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

#: A server of plain asyncio: keep-alive, and the answer is its pid. What `{path}` asks for stands in each test.
PLAIN = """
import asyncio, os, sys
{preamble}
def close():
    return {close}

async def answer(reader, writer):
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = await reader.readuntil(b"\\r\\n\\r\\n")
            note(head.split()[1].decode())
            body = b"%d" % os.getpid()
            last = b"connection: close\\r\\n" if close() or b"Connection: close" in head else b""
            writer.write(b"HTTP/1.1 200 OK\\r\\n%scontent-length: %d\\r\\n\\r\\n" % (last, len(body)) + body)
            await writer.drain()
            if last:
                break
    writer.close()

async def main():
    server = await {server}
    await server.serve_forever()

asyncio.run(main())
"""
AIOHTTP = """
import os, sys
from aiohttp import web
{preamble}
async def answer(request):
    note(request.path)
    return web.Response(text=str(os.getpid()))

async def send_away(request, response):
    if {close}:
        response.headers["Connection"] = "close"
        response.force_close()

app = web.Application()
app.on_response_prepare.append(send_away)
app.add_routes([web.route("*", "/{{tail:.*}}", answer)])
web.run_app(app, print=None, **{where})
"""
UVICORN = """
import os, sys, uvicorn
{preamble}
async def app(scope, receive, send):
    if scope["type"] == "http":
        note(scope["path"])
        headers = [(b"connection", b"close")] if {close} else []
        await send({{"type": "http.response.start", "status": 200, "headers": headers}})
        await send({{"type": "http.response.body", "body": str(os.getpid()).encode()}})

uvicorn.run(app, lifespan="off", log_level="warning", **{where})
"""
PREAMBLE = """
import contextlib
import weft.workers

log = os.open("applied", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def note(path):
    if path != "/":
        os.write(log, path.encode() + b"\\n")
"""


def program(kind: str, *, close: str = "False", path: str | None = None) -> str:
    """The text of a server, which writes what it was asked for to the file `applied`. `close` is when it says so."""
    tcp = '{"host": "127.0.0.1", "port": int(sys.argv[1])}'
    if kind == "plain":
        server = 'asyncio.start_server(answer, "127.0.0.1", int(sys.argv[1]))'
        if path is not None:
            server = f"asyncio.start_unix_server(answer, {path!r})"
        return PLAIN.format(preamble=PREAMBLE, close=close, server=server)
    name = {"aiohttp": "path", "uvicorn": "uds"}[kind]
    where = tcp if path is None else f'{{"{name}": {path!r}}}'
    return {"aiohttp": AIOHTTP, "uvicorn": UVICORN}[kind].format(preamble=PREAMBLE, close=close, where=where)


def free_port(family: int = socket.AF_INET) -> int:
    with socket.socket(family) as trial:
        trial.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        return int(trial.getsockname()[1])


def connect(address: tuple[str, int] | str, timeout: float = 20.0) -> socket.socket:
    if not isinstance(address, str):
        return socket.create_connection(address, timeout=timeout)
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(timeout)
    try:
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


def ask(address: tuple[str, int] | str, path: str = "/") -> str:
    """The body of one answer, over a connection of its own."""
    client = KeptAlive(address)
    try:
        return client.ask("GET", path, {"Connection": "close"})
    finally:
        client.close()


class KeptAlive(http.client.HTTPConnection):
    """One connection. What ends it before an answer has begun raises ConnectionError."""

    def __init__(self, address: tuple[str, int] | str) -> None:
        super().__init__("localhost")
        self.address = address

    def connect(self) -> None:
        self.sock = connect(self.address)

    def ask(self, method: str, path: str, headers: dict[str, str] | None = None) -> str:
        self.request(method, path, headers=headers or {})
        answer = self.getresponse()
        body = answer.read().decode()
        assert answer.status == 200, body
        return body


class Service:
    """`weft run --workers 2 service.py`, and what it says on stderr."""

    def __init__(
        self,
        folder: Path,
        source: str,
        *options: str,
        workers: int = 2,
        command: tuple[str, ...] = (),
        arguments: tuple[str, ...] = (),
    ) -> None:
        (folder / "service.py").write_text(textwrap.dedent(source))
        self.port = free_port()
        self.address: tuple[str, int] | str = ("127.0.0.1", self.port)
        self.folder = folder
        run = ("-m", "weft", "run", "--workers", str(workers), *options, "service.py")
        line = [sys.executable, *(command or run), *(arguments or (str(self.port),))]
        self.process = subprocess.Popen(line, cwd=folder, stderr=subprocess.PIPE, text=True)
        self.said = ""

    def until(self, text: str, times: int = 1) -> str:
        """Read on until the text has come in so many lines; gives the last."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said += line
            times -= text in line
            if not times:
                return line
        raise AssertionError(self.said)

    def lines(self, text: str, count: int) -> list[str]:
        """The first lines with that text, those among them that were read already."""
        while len(found := [line for line in self.said.splitlines() if text in line]) < count:
            self.until(text)
        return found[:count]

    def ask(self) -> int:
        """The pid of the worker that answers."""
        return int(ask(self.address))

    def pids(self) -> set[int]:
        """The pids of both workers, by asking until both have answered."""
        found: set[int] = set()
        while len(found) < 2:
            found.add(self.ask())
        return found

    def applied(self) -> list[str]:
        """What the program was asked for, as it says."""
        path = self.folder / "applied"
        return path.read_text().split() if path.exists() else []

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Let it drain; the exit code."""
        self.send(number)
        return self.wait()

    def wait(self) -> int:
        """Read on until nobody is left who could say something: no worker either."""
        assert self.process.stderr is not None
        if not self.process.stderr.closed:
            self.said += self.process.communicate(timeout=40)[1]
        return self.process.wait(40)


@contextlib.contextmanager
def serving(folder: Path, source: str, *options: str, workers: int = 2, **more: object) -> Iterator[Service]:
    """A service whose workers serve; killed at the end, if it is still there."""
    made = Service(folder, source, *options, workers=workers or 2, **more)  # type: ignore[arg-type]
    try:
        if workers:
            made.until(" serves", workers)
        yield made
    finally:
        if made.process.poll() is None:
            made.process.kill()
        made.wait()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
