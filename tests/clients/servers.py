"""Redis and PostgreSQL for the clients: started on a port of their own with data in a temporary folder, ended by pid."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path


class Missing(Exception):
    """The server's programs are not on this machine; the words say which package has them."""


@contextlib.contextmanager
def running(kind: str) -> Iterator[tuple[list[str], dict[str, str], list[str]]]:
    """Give (words before the command, environment, arguments to pytest) with which tests find the server."""
    if kind == "redis":
        with _redis() as port:
            yield [], {}, [f"--redis-url=redis://127.0.0.1:{port}/0"]
    elif kind == "postgresql":
        yield _postgresql()
    else:
        yield [], {}, []


def _postgresql() -> tuple[list[str], dict[str, str], list[str]]:
    """asyncpg's tests start clusters themselves, by the programs in $PGINSTALLATION."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        raise Missing("PostgreSQL is missing: apt-get install postgresql postgresql-contrib")
    # PostgreSQL does not run as root: a user namespace shows it another number.
    user = ["unshare", "--user", "--map-user=1000", "--map-group=1000"] if os.geteuid() == 0 else []
    return user, {"PGINSTALLATION": str(found[-1].parent)}, []


@contextlib.contextmanager
def _redis() -> Iterator[int]:
    program = shutil.which("redis-server")
    if program is None:
        raise Missing("redis-server is missing: apt-get install redis-server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as data:
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", data, "--save", "",
                   "--enable-debug-command", "yes"]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            _wait_for(port, process)
            yield port
        finally:
            process.terminate()
            process.wait(30)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"redis-server did not start (status {process.returncode})") from None
            time.sleep(0.05)
