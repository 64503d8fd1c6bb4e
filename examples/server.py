"""A service as a process of its own: started on asyncio or on Weft, known to answer, measured, and stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import psutil

from examples.load import fetch

__all__ = ["HOST", "SERVICES", "LoopName", "Running", "ServiceError", "running"]

HOST = "127.0.0.1"
START_SECONDS = 20.0
STOP_SECONDS = 10.0

LoopName = Literal["asyncio", "weft"]

# The services, by the first part of their file's name, and what each is told to run on asyncio: uvicorn takes uvloop by
# itself where that is installed.
SERVICES: dict[str, tuple[str, ...]] = {
    "aiohttp": (),
    "fastapi": ("--loop", "asyncio"),
}


class ServiceError(Exception):
    """A service did not start, or stop, or run on the loop it was meant to run on."""


@dataclass(frozen=True)
class Running:
    """A service that answers."""

    port: int
    process: psutil.Process

    def cpu_seconds(self) -> float:
        """CPU time that it took so far, of all its threads, in user and kernel mode."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


def command(service: str, loop: LoopName, port: int) -> list[str]:
    """The command line that starts a service. On Weft it is the same file, with nothing said about loops."""
    path = str(Path(__file__).with_name(f"{service}_service.py"))
    address = ["--host", HOST, "--port", str(port)]
    if loop == "weft":
        return [sys.executable, "-m", "weft", "run", "--require", path, *address]
    return [sys.executable, path, *address, *SERVICES[service]]


@asynccontextmanager
async def running(service: str, loop: LoopName, *, cpu: int | None = None) -> AsyncIterator[Running]:
    """The service while the context lasts, on one processor if `cpu` says which. ServiceError if it is not as it should be."""
    port = _free_port()
    with tempfile.TemporaryFile() as output:
        process = await asyncio.create_subprocess_exec(*command(service, loop, port), stdout=output, stderr=output)
        try:
            if cpu is not None:
                os.sched_setaffinity(process.pid, {cpu})
            module = await _until_it_answers(process, port, output)
            if module.partition(".")[0] != loop:
                raise ServiceError(f"{service} was to run on {loop}, and runs on {module}")
            yield Running(port, psutil.Process(process.pid))
        finally:
            await _stop(process)
        if process.returncode != 0:
            raise ServiceError(f"{service} on {loop} ended with exit code {process.returncode}{_said(output)}")


async def _until_it_answers(process: asyncio.subprocess.Process, port: int, output: IO[bytes]) -> str:
    """Wait for the service to say what loop it runs on."""
    try:
        async with asyncio.timeout(START_SECONDS):
            while process.returncode is None:
                try:
                    return await fetch(HOST, port, "/loop")
                except OSError:
                    await asyncio.sleep(0.02)
    except TimeoutError:
        raise ServiceError(f"the service did not answer in {START_SECONDS:.0f} s{_said(output)}") from None
    raise ServiceError(f"the service ended with exit code {process.returncode}{_said(output)}")


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGINT)
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()


def _said(output: IO[bytes]) -> str:
    output.seek(0)
    text = output.read().decode(errors="replace").strip()
    return f"; it said:\n{text}" if text else ""


def _free_port() -> int:
    with socket.socket() as trial:
        trial.bind((HOST, 0))
        return int(trial.getsockname()[1])
