"""`weft run --workers`: two processes on one port, rolling restart without a lost request, a worker's death, bad input."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from worker_service import Service, connect, program, serving

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture(params=["plain", "aiohttp", "uvicorn"])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    if request.param != "plain":
        pytest.importorskip(request.param)
    with serving(tmp_path, program(request.param)) as made:
        yield made


@pytest.mark.slow_test(60)
def test_rolling_restart_loses_nothing(service: Service) -> None:
    before = service.pids()
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
            service.send(signal.SIGHUP)
            service.until("the rolling restart is done")
    finally:
        is_over.set()
        for client in clients:
            client.join()
    assert not failed
    assert len(answered) >= 2000
    assert not service.pids() & before
    assert service.end() == 0, service.said


@pytest.mark.slow_test(60)
def test_a_killed_worker_is_replaced(service: Service) -> None:
    before = service.pids()
    victim = before.pop()
    os.kill(victim, signal.SIGKILL)
    assert f"(pid {victim}) was ended by SIGKILL; the next one starts" in service.until("SIGKILL")
    after = service.pids()
    assert victim not in after and after > before
    assert service.end() == 0, service.said


@pytest.mark.slow_test(60)
def test_what_waits_for_a_killed_worker_is_answered_by_the_next(service: Service) -> None:
    """The connections in a worker's accept queue survive it: its slot's socket is the supervisor's."""
    victim = service.ask()
    os.kill(victim, signal.SIGSTOP)  # from now on it accepts nothing
    clients = [connect(service.address) for _ in range(40)]
    try:
        for client in clients:
            client.sendall(REQUEST)
        os.kill(victim, signal.SIGKILL)
        answers = [b"".join(iter(lambda client=client: client.recv(65536), b"")) for client in clients]
    finally:
        for client in clients:
            client.close()
    assert [answer[:12] for answer in answers] == [b"HTTP/1.1 200"] * 40
    assert service.end() == 0, service.said


@pytest.mark.slow_test(60)
def test_connections_are_refused_while_the_last_ones_end(tmp_path: Path) -> None:
    """Whoever comes after SIGTERM can go elsewhere at once, and does not wait for a drain that others cause."""
    with serving(tmp_path, program("plain")) as service, connect(service.address) as client:
        client.sendall(REQUEST[:20])
        service.send(signal.SIGTERM)
        service.until("to drain")
        with pytest.raises(ConnectionRefusedError):
            while True:
                # Before the workers have closed their sockets they may answer, or reset it.
                with connect(service.address, timeout=10.0) as late, contextlib.suppress(ConnectionResetError):
                    late.sendall(REQUEST)
                    late.recv(65536)
        client.sendall(REQUEST[20:])
        assert client.recv(65536)[:12] == b"HTTP/1.1 200"
        assert service.wait() == 0, service.said


@pytest.mark.slow_test(60)
def test_what_waits_at_the_end_is_accepted(tmp_path: Path) -> None:
    with serving(tmp_path, program("plain"), workers=1) as service:
        worker = service.ask()
        os.kill(worker, signal.SIGSTOP)
        try:
            service.send(signal.SIGTERM)
            service.until("to drain")
            clients = [connect(service.address) for _ in range(40)]
        finally:
            os.kill(worker, signal.SIGCONT)
        answers = []
        for client in clients:
            with client:
                client.sendall(REQUEST)
                answers.append(client.recv(65536))
        assert [answer[:12] for answer in answers] == [b"HTTP/1.1 200"] * 40
        assert service.wait() == 0, service.said


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
FOREVER = """
import asyncio, sys

async def hold(reader, writer):
    writer.write(b"held")

loop = asyncio.new_event_loop()
server = loop.run_until_complete(asyncio.start_server(hold, "127.0.0.1", int(sys.argv[1])))
loop.call_soon(sys.stderr.write, "the program runs for ever\\n")
loop.run_forever()
sys.stderr.write("the program goes on after run_forever\\n")
loop.run_until_complete(asyncio.sleep(0))
loop.close()
"""
IGNORING = STUBBORN.format(ignore="signal.signal(signal.SIGTERM, signal.SIG_IGN)")


@pytest.mark.slow_test(60)
@pytest.mark.parametrize(
    ("source", "drain", "signals", "status"),
    [
        # Open connections end with the drain: the main task is cancelled, or the loop that has none is stopped.
        (STUBBORN.format(ignore=""), "0.2", 1, 0),
        (FOREVER, "0.2", 1, 0),
        # A program that catches the signal and does nothing is killed.
        (IGNORING, "0.2", 1, 1),
        # The second signal waits for nobody.
        (IGNORING, "600", 2, 128 + signal.SIGINT),
    ],
    ids=["cancelled", "stopped", "killed", "killed-at-once"],
)
def test_a_drain_has_an_end(tmp_path: Path, source: str, drain: str, signals: int, status: int) -> None:
    with serving(tmp_path, source, "--drain", drain) as service, connect(service.address) as client:
        assert client.recv(4) == b"held"
        if source is FOREVER:
            service.lines("runs for ever", 2)
        service.send(signal.SIGTERM)
        service.until("to drain")
        if signals == 2:
            service.send(signal.SIGINT)
        assert service.wait() == status, service.said
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(4) == b""
        assert service.said.count("goes on after run_forever") == (2 if source is FOREVER else 0)


EARLY = FOREVER.replace("loop.run_forever()", "loop.run_until_complete(end())\nloop.run_forever()").replace(
    "loop =",
    "import os, signal\nasync def end():\n    os.kill(os.getpid(), signal.SIGTERM)\n\nloop =",
)


@pytest.mark.slow_test(60)
def test_a_drain_that_begins_before_the_program_runs_for_ever(tmp_path: Path) -> None:
    """What ran when SIGTERM came has ended meanwhile."""
    with serving(tmp_path, EARLY, workers=1) as service:
        service.until("the program goes on after run_forever")
        service.until("ended with exit code 0; the next one starts")
        assert service.end() == 0, service.said


@pytest.mark.slow_test(60)
def test_each_worker_tells_its_own_table(tmp_path: Path) -> None:
    with serving(tmp_path, program("plain"), "--stats") as service:
        pids = service.pids()
        assert service.end() == 0
    told = re.findall(r"what the loops of worker ([01]) \(pid (\d+)\) did\n  loops of Weft +1 \(", service.said)
    assert {int(pid) for _, pid in told} == pids and sorted(slot for slot, _ in told) == ["0", "1"]
    assert service.said.count("peak RSS") == 2


ON_UVLOOP = """
import asyncio, uvloop, weft.workers

async def main():
    weft.workers.ready()
    await asyncio.get_running_loop().create_future()

uvloop.run(main())
"""


@pytest.mark.slow_test(60)
def test_a_worker_without_a_loop_of_weft_tells_its_table_too(tmp_path: Path) -> None:
    """SIGTERM ends it at once; and the loop that it made is told of."""
    pytest.importorskip("uvloop")
    with serving(tmp_path, ON_UVLOOP, "--stats") as service:
        assert service.end() == 0
    assert (
        len(re.findall(r"the program of worker [01] \(pid \d+\) did not stay on Weft: it made uvloop", service.said))
        == 2
    )
    assert len(re.findall(r"what the loops of worker [01] \(pid \d+\) did", service.said)) == 2


@pytest.mark.slow_test(60)
def test_a_worker_that_crashes_again_and_again_waits_longer_each_time(tmp_path: Path) -> None:
    source = "import asyncio, sys\nasyncio.run(asyncio.start_server(print, '127.0.0.1', int(sys.argv[1])))\nsys.exit(7)"
    with serving(tmp_path, source, workers=1) as service:
        waits = [
            re.search(r"ended with exit code 7; the next one starts in (.*) s\n", service.until("ended"))
            for _ in range(4)
        ]
        assert [wait and wait[1] for wait in waits] == ["0.1", "0.2", "0.4", "0.8"]
        assert service.end() == 0, service.said


def run(folder: Path, *options: str, source: str | None = None) -> subprocess.CompletedProcess[str]:
    if source is not None:
        (folder / "program.py").write_text(source)
    command = [sys.executable, "-m", "weft", "run", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize(
    ("source", "status", "how"),
    [
        ("1 / 0", 1, "ended with exit code 1"),
        ("raise SystemExit(3)", 3, "ended with exit code 3"),
        ("import os; os.kill(os.getpid(), 9)", 137, "was ended by SIGKILL"),
        ("", 0, "ended with exit code 0"),
    ],
)
def test_a_program_that_cannot_start_ends_it_all(tmp_path: Path, source: str, status: int, how: str) -> None:
    process = run(tmp_path, "--workers", "2", "program.py", source=source)
    assert process.returncode == status
    *before, line = process.stderr.splitlines()
    assert re.fullmatch(rf"weft workers: worker 0 \(pid \d+\) {how} before it served: no worker can start", line)
    assert process.stderr.count("Traceback") == (status == 1) == bool(before)


def test_a_port_in_use(tmp_path: Path) -> None:
    """Said before anything starts with `--bind`, else by the program, as it would say it alone."""
    source = "import asyncio, sys\nasyncio.run(asyncio.start_server(print, '127.0.0.1', int(sys.argv[1])))"
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = str(stranger.getsockname()[1])
        process = run(tmp_path, "--workers", "2", "--bind", f"127.0.0.1:{port}", "program.py", source=source)
        assert process.returncode == 2
        assert process.stderr == f"weft run: can't listen on 127.0.0.1:{port}: address already in use\n"
        process = run(tmp_path, "--workers", "2", "program.py", port, source=source)
        assert process.returncode == 1
        assert f"error while attempting to bind on address ('127.0.0.1', {port})" in process.stderr
        assert "address already in use" in process.stderr
        assert process.stderr.count("no worker can start") == 1


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--workers", "0", "x.py"), "the number of workers is 0: at least 1 is needed"),
        (("--workers", "1025", "x.py"), "the number of workers is 1025: at most 1024 are supervised"),
        (("--workers", "1", "--bind", "nonsense", "x.py"), "'nonsense' is not an address: "),
        (
            ("--workers", "1", "--bind", "1.2.3.4:0", "x.py"),
            "can't listen on 1.2.3.4:0: cannot assign requested address",
        ),
        (("--workers", "1", "--bind", "unix:no/folder/s", "x.py"), "can't listen on unix:no/folder/s: no such file"),
        (
            ("--workers", "1", "--bind", "unix:" + "x" * 200, "x.py"),
            f"can't listen on unix:{'x' * 200}: AF_UNIX path too",
        ),
        (("--workers", "1", "--drain", "-1", "x.py"), "-1.0 is no number of seconds to drain"),
        (("--workers", "1", "missing.py"), "can't open the program 'missing.py'"),
        (("--drain", "1", "x.py"), "--bind and --drain go with --workers"),
    ],
)
def test_bad_input(tmp_path: Path, options: tuple[str, ...], line: str) -> None:
    process = run(tmp_path, *options)
    assert process.returncode == 2
    assert process.stderr.startswith(f"weft run: {line}")
    assert "Traceback" not in process.stderr
