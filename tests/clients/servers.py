"""Redis and PostgreSQL for the clients: on ports of their own, with data in a temporary folder, ended by pid."""

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

from .prepare import Missing

Found = tuple[list[str], dict[str, str], list[str]]

START_S = 30
CLUSTER_PORT = 16379
"""The first of the cluster's six, if they are free: some of redis-py's tests know it."""


@contextlib.contextmanager
def running(kind: str, folder: Path) -> Iterator[Found]:
    """Give (words before the command, environment, arguments to pytest) with which the tests in `folder` find the server."""
    with contextlib.ExitStack() as stack:
        if kind == "redis":
            yield [], {}, _redis(stack, folder)
        elif kind == "redis-cluster":
            yield [], {}, _redis_cluster(stack, folder)
        elif kind == "postgresql":
            yield _postgresql()
        else:
            yield [], {}, []


def _postgresql() -> Found:
    """asyncpg's tests start clusters themselves, by the programs in $PGINSTALLATION."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        raise Missing("PostgreSQL is missing: apt-get install postgresql postgresql-contrib")
    # PostgreSQL does not run as root: a user namespace shows it another number.
    user = ["unshare", "--user", "--map-user=1000", "--map-group=1000"] if os.geteuid() == 0 else []
    return user, {"PGINSTALLATION": str(found[-1].parent)}, []


def _redis(stack: contextlib.ExitStack, folder: Path) -> list[str]:
    """One server, with a door for TLS, and three sentinels that watch it."""
    port, tls_port, *sentinel_ports = _free_ports(5)
    tls = _certificates(folder / "dockers" / "standalone" / "tls")
    _start_redis(stack, port, "--tls-port", str(tls_port), *tls)
    for each in sentinel_ports:
        _start_redis(stack, each, "--sentinel", config=f"sentinel monitor redis-py-test 127.0.0.1 {port} 2\n")
    sentinels = ",".join(f"localhost:{each}" for each in sentinel_ports)
    return [f"--redis-url=redis://localhost:{port}/0", f"--redis-ssl-url=rediss://localhost:{tls_port}",
            f"--sentinels={sentinels}"]  # fmt: skip


def _redis_cluster(stack: contextlib.ExitStack, folder: Path) -> list[str]:
    """Three primaries with a replica each, which take TLS as well."""
    tls = _certificates(folder / "dockers" / "cluster" / "tls")
    ports = [CLUSTER_PORT + number for number in range(6)]
    if not all(map(_is_free, ports)):
        ports = _free_ports(6, below=65536 - 10000)  # each node takes port + 10000 too
    tls_ports = _free_ports(6)
    for port, tls_port in zip(ports, tls_ports, strict=True):
        _start_redis(stack, port, "--cluster-enabled", "yes", "--tls-port", str(tls_port), *tls)
    nodes = [f"127.0.0.1:{port}" for port in ports]
    subprocess.run(
        ["redis-cli", "--cluster", "create", *nodes, "--cluster-replicas", "1", "--cluster-yes"],
        check=True, stdout=subprocess.DEVNULL, timeout=2 * START_S,
    )  # fmt: skip
    return [f"--redis-url=redis://localhost:{ports[0]}/0", f"--redis-ssl-url=rediss://localhost:{tls_ports[0]}"]


def _start_redis(stack: contextlib.ExitStack, port: int, *options: str, config: str = "") -> None:
    program = shutil.which("redis-server")
    if program is None:
        raise Missing("redis-server is missing: apt-get install redis-server")
    data = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    (data / "redis.conf").write_text(config, encoding="ascii")
    command = [program, str(data / "redis.conf"), *options, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(data),
               "--save", "", "--enable-debug-command", "yes"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    stack.callback(process.wait, START_S)
    stack.callback(process.terminate)
    _wait_for(port, process)


def _certificates(folder: Path) -> list[str]:
    """Make a certificate of localhost, its own authority, under the names of redis-py's tests; redis-server's options."""
    if shutil.which("openssl") is None:
        raise Missing("openssl is missing: apt-get install openssl")
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test_user",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", "redis.key", "-out", "redis.crt"],
        check=True, cwd=folder, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    for name in ("client", "test_user"):
        shutil.copy(folder / "redis.key", folder / f"{name}.key")
        shutil.copy(folder / "redis.crt", folder / f"{name}.crt")
    shutil.copy(folder / "redis.crt", folder / "ca.crt")
    options = ["--tls-auth-clients", "optional"]
    for option, name in (("cert", "redis.crt"), ("key", "redis.key"), ("ca-cert", "ca.crt")):
        options += [f"--tls-{option}-file", str(folder / name)]
    return options


def _free_ports(count: int, below: int = 65536) -> list[int]:
    with contextlib.ExitStack() as stack:
        found: list[int] = []
        while len(found) < count:
            probe = stack.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
            if port < below:
                found.append(port)
        return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"redis-server did not start (status {process.returncode})") from None
            time.sleep(0.05)
