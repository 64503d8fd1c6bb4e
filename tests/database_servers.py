"""Redis and PostgreSQL for tests that talk to them: each on a port and in a folder of its own, ended by pid."""

from __future__ import annotations

import contextlib
import importlib
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from clients import servers

START_S = 60


def lacks(what: str) -> NoReturn:
    """Skip the test, or fail it where everything has to be there."""
    if os.environ.get("CI"):
        pytest.fail(f"{what}, and CI is set")
    pytest.skip(what, allow_module_level=True)


def package(name: str) -> Any:
    """A package that the tests need."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        lacks(f"{error}: it is in the extra `test`")


@contextlib.contextmanager
def redis() -> Iterator[int]:
    """The port of a Redis server."""
    with contextlib.ExitStack() as stack:
        port = servers._free_ports(1)[0]
        try:
            servers._start_redis(stack, port)
        except servers.Missing as error:
            lacks(str(error))
        yield port


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """How to connect to a PostgreSQL server, for libpq."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        lacks("PostgreSQL is missing: apt-get install postgresql")
    # PostgreSQL does not run as root: a user namespace shows it another number.
    user = ["unshare", "--user", "--map-user=1000", "--map-group=1000"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "data")
        initdb = [*user, str(found[-1]), "-D", str(data), "-U", "postgres", "--auth=trust", "--no-sync", "-E", "UTF8"]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, timeout=START_S)
        port = servers._free_ports(1)[0]
        options = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": folder, "fsync": "off"}
        command = [*user, str(found[-1].with_name("postgres")), "-D", str(data)]
        command += [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        with open(Path(folder, "log"), "wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait_for(Path(folder, "log"), process)
            yield f"host=127.0.0.1 port={port} user=postgres dbname=postgres"
        finally:
            process.terminate()
            process.wait(START_S)


def _wait_for(log: Path, process: subprocess.Popen[bytes]) -> None:
    """PostgreSQL says when it takes connections; the port alone is open before that."""
    until = time.monotonic() + START_S
    while b"ready to accept connections" not in log.read_bytes():
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"PostgreSQL did not start: {log.read_text(errors='replace')}")
        time.sleep(0.05)
