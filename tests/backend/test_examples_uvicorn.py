"""uvicorn runs on Weft under `weft run`, whatever it would choose by itself and with uvloop installed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

pytest.importorskip("uvicorn")

APP = """
import asyncio

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body = type(asyncio.get_running_loop()).__module__.encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
"""


def fetch(port: int) -> str:
    """The body of an answer, as soon as there is one: the app is up a moment before its socket listens."""
    deadline = time.monotonic() + 10
    while True:
        try:
            with urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
                return str(answer.read().decode())
        except URLError:
            if time.monotonic() > deadline:
                raise


@contextmanager
def uvicorn(tmp_path: Path, *options: str, stats: bool = False) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The body of an answer of the app, and the process; its stderr is read to the end only by `communicate`."""
    (tmp_path / "app.py").write_text(APP)
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port = trial.getsockname()[1]
    command = [sys.executable, "-m", "weft", "run", *(["--stats"] if stats else ["--require"])]
    process = subprocess.Popen(
        [*command, "-m", "uvicorn", "app:app", "--port", str(port), *options],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if "Application startup complete" in line:
                break
        else:
            raise AssertionError(f"uvicorn ended with {process.wait()}")
        yield fetch(port), process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)


@pytest.mark.parametrize("loop", ["auto", "asyncio", "none", "uvloop"])
def test_whatever_loop_it_would_choose(tmp_path: Path, loop: str) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    with uvicorn(tmp_path, "--loop", loop) as (body, process):
        assert body == "weft.loop"
    assert process.returncode == 0


def test_its_workers(tmp_path: Path) -> None:
    with uvicorn(tmp_path, "--workers", "2") as (body, process):
        assert body == "weft.loop"
    assert process.returncode == 0


def test_stats_when_it_is_stopped_by_sigterm(tmp_path: Path) -> None:
    with uvicorn(tmp_path, stats=True) as (_, process):
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=20)
    # uvicorn shuts down, and then lets the signal have its way.
    assert process.returncode == -signal.SIGTERM
    assert "Application shutdown complete" in said
    assert "weft run: what the loops did\n" in said
