"""`weft run --workers`: two processes on one port, rolling restart without a lost request, a worker's death, bad input."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

PLAIN = """
import asyncio, os, sys

async def answer(reader, writer):
    while await reader.readuntil(b"\\r\\n\\r\\n"):
        body = b"%d" % os.getpid()
        writer.write(b"HTTP/1.1 200 OK\\r\\nconnection: close\\r\\ncontent-length: %d\\r\\n\\r\\n" % len(body) + body)
        await writer.drain()
        break
    writer.close()

async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()

asyncio.run(main())
"""
AIOHTTP = """
import os, sys
from aiohttp import web

async def hello(request):
    return web.Response(text=str(os.getpid()))

app = web.Application()
app.add_routes([web.get("/", hello)])
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
"""
UVICORN = """
import os, sys, uvicorn

async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(os.getpid()).encode()})

uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), lifespan="off", log_level="warning")
"""


class Service:
    def __init__(self, folder: Path, source: str, *options: str) -> None:
        (folder / "service.py").write_text(source)
        with socket.socket() as trial:
            trial.bind(("127.0.0.1", 0))
            self.port: int = trial.getsockname()[1]
        command = [sys.executable, "-m", "weft", "run", "--workers", "2", *options, "service.py", str(self.port)]
        self.process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
        self.said = ""

    def until(self, text: str, times: int = 1) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said += line
            times -= text in line
            if not times:
                return
        raise AssertionError(self.said)

    def ask(self) -> int:
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            said = b"".join(iter(lambda: client.recv(65536), b""))
        assert said.startswith(b"HTTP/1.1 200"), said
        digits = said.partition(b"\r\n\r\n")[2].split(b"\r\n")
        return int(max(digits, key=len))

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        self.said += self.process.communicate(timeout=30)[1]
        return self.process.returncode


@pytest.fixture(params=["plain", "aiohttp", "uvicorn"])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    if request.param != "plain":
        pytest.importorskip(request.param)
    made = Service(tmp_path, {"plain": PLAIN, "aiohttp": AIOHTTP, "uvicorn": UVICORN}[request.param])
    try:
        made.until("serves", 2)
        yield made
    finally:
        if made.process.poll() is None:
            made.process.kill()
        made.process.communicate(timeout=20)


@pytest.mark.slow_test(60)
def test_rolling_restart_loses_nothing(service: Service) -> None:
    before = {service.ask() for _ in range(100)}
    assert len(before) == 2
    failed: list[BaseException] = []
    answered: list[int] = []
    is_over = threading.Event()

    def load() -> None:
        while not is_over.is_set():
            try:
                answered.append(service.ask())
            except Exception as error:
                failed.append(error)

    clients = [threading.Thread(target=load) for _ in range(4)]
    for client in clients:
        client.start()
    try:
        # As many restarts as it takes: a thousand requests and more meet one.
        while len(answered) < 2000 and not failed:
            service.process.send_signal(signal.SIGHUP)
            service.until("the rolling restart is done")
    finally:
        is_over.set()
        for client in clients:
            client.join()
    after = {service.ask() for _ in range(100)}
    assert not failed
    assert len(answered) >= 2000
    assert len(after) == 2 and not after & before
    assert service.end() == 0, service.said


@pytest.mark.slow_test(60)
def test_a_killed_worker_is_replaced(service: Service) -> None:
    before = {service.ask() for _ in range(100)}
    victim = before.pop()
    subprocess.run(["kill", "-KILL", str(victim)], check=True)
    service.until("SIGKILL")
    after = {service.ask() for _ in range(100)}
    assert victim not in after and len(after) == 2
    assert service.end() == 0, service.said


@pytest.mark.slow_test(60)
def test_what_waits_for_a_killed_worker_is_answered_by_the_next(service: Service) -> None:
    """The connections in a worker's accept queue survive it: its slot's socket is the supervisor's."""
    victim = service.ask()
    os.kill(victim, signal.SIGSTOP)  # from now on it accepts nothing
    clients = [socket.create_connection(("127.0.0.1", service.port), timeout=20) for _ in range(40)]
    try:
        for client in clients:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        os.kill(victim, signal.SIGKILL)
        answers = [b"".join(iter(lambda client=client: client.recv(65536), b"")) for client in clients]
    finally:
        for client in clients:
            client.close()
    assert [answer[:12] for answer in answers] == [b"HTTP/1.1 200"] * 40
    assert service.end() == 0, service.said


STUBBORN = """
import asyncio, signal, sys

async def hold(reader, writer):
    writer.write(b"held")
    await asyncio.get_running_loop().create_future()

async def main():
    server = await asyncio.start_server(hold, "127.0.0.1", int(sys.argv[1]))
    {ignore}
    await server.serve_forever()

asyncio.run(main())
"""


@pytest.mark.slow_test(60)
@pytest.mark.parametrize(
    ("ignore", "drain", "signals"),
    [
        # Open connections end with the drain: the main task is cancelled.
        ("", "0.2", 1),
        # A program that catches the signal and does nothing is killed.
        ("signal.signal(signal.SIGTERM, signal.SIG_IGN)", "0.2", 1),
        # The second signal waits for nobody.
        ("signal.signal(signal.SIGTERM, signal.SIG_IGN)", "600", 2),
    ],
)
def test_a_drain_has_an_end(tmp_path: Path, ignore: str, drain: str, signals: int) -> None:
    service = Service(tmp_path, STUBBORN.format(ignore=ignore), "--drain", drain)
    try:
        service.until("serves", 2)
        with socket.create_connection(("127.0.0.1", service.port), timeout=20) as client:
            assert client.recv(4) == b"held"
            service.process.send_signal(signal.SIGTERM)
            service.until("to drain")
            if signals == 2:
                service.process.send_signal(signal.SIGTERM)
            service.said += service.process.communicate(timeout=30)[1]
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(4) == b""
    finally:
        if service.process.poll() is None:
            service.process.kill()
            service.process.communicate(timeout=20)
    assert service.process.returncode is not None


@pytest.mark.parametrize(
    ("source", "status", "line"), [("1 / 0", 1, "ZeroDivisionError"), ("raise SystemExit(3)", 3, "3")]
)
def test_a_program_that_cannot_start_ends_it_all(tmp_path: Path, source: str, status: int, line: str) -> None:
    (tmp_path / "program.py").write_text(source)
    command = [sys.executable, "-m", "weft", "run", "--workers", "2", "program.py"]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert process.returncode == status
    assert line in process.stderr
    assert process.stderr.count("no worker can start") == 1
    assert process.stderr.count("Traceback") == (status == 1)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--workers", "0", "x.py"), "the number of workers is 0: at least 1 is needed"),
        (("--workers", "1", "--bind", "nonsense", "x.py"), "'nonsense' is not an address: "),
        (("--workers", "1", "missing.py"), "can't open the program 'missing.py'"),
        (("--drain", "1", "x.py"), "--bind and --drain go with --workers"),
    ],
)
def test_bad_input(tmp_path: Path, options: tuple[str, ...], line: str) -> None:
    command = [sys.executable, "-m", "weft", "run", *options]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert process.returncode == 2
    assert process.stderr.startswith(f"weft run: {line}")
