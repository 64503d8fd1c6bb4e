"""Workers and their supervisor killed, stopped and signalled at the wrong moment: nothing hangs, and a word for each."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from pathlib import Path

import pytest
from worker_service import Service, connect, program, serving

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

#: In front of a program: it says that it starts, and waits for somebody to open the other end of a pipe.
SLOW_START = """
import os, sys
sys.stderr.write(f"pid {os.getpid()} starts\\n")
open("go").close()
"""
#: A server that greets, and whose connections never end by themselves.
HOLDING = """
import asyncio, os, signal, sys

async def hold(reader, writer):
    writer.write(b"%d\\n" % os.getpid())
    await asyncio.get_running_loop().create_future()

async def main():
    server = await asyncio.start_server(hold, "127.0.0.1", int(sys.argv[1]))
    {more}
    await server.serve_forever()

asyncio.run(main())
"""


def held(service: Service):
    """A connection that a worker holds, and the worker's pid."""
    client = connect(service.address)
    return client, int(client.recv(100))


def restart_slowly(service: Service) -> int:
    """The pid of a replacement that will not go on before `go`."""
    path = service.folder / "service.py"
    if not path.read_text().startswith(SLOW_START):
        path.write_text(SLOW_START + path.read_text())
        os.mkfifo(service.folder / "go")
    service.send(signal.SIGHUP)
    return starting(service)


def starting(service: Service) -> int:
    found = re.search(r"pid (\d+) starts", service.until(" starts"))
    assert found is not None
    return int(found[1])


def go(service: Service) -> None:
    with open(service.folder / "go", "w"):
        """The other side has opened it."""


def answer_to(client) -> bytes:
    return b"".join(iter(lambda: client.recv(65536), b""))


@pytest.mark.slow_test(60)
def test_the_former_worker_is_killed_while_its_replacement_starts(tmp_path: Path) -> None:
    """Who has connected meanwhile waits for the replacement."""
    with serving(tmp_path, program("plain"), workers=1) as service:
        former = service.ask()
        replacement = restart_slowly(service)
        os.kill(former, signal.SIGKILL)
        assert f"(pid {former}) was ended by SIGKILL; its replacement starts already" in service.until("SIGKILL")
        with connect(service.address) as client:
            client.sendall(REQUEST)
            go(service)
            assert answer_to(client).endswith(str(replacement).encode())
        service.until("the rolling restart is done")
        assert service.end() == 0, service.said


@pytest.mark.slow_test(60)
def test_the_replacement_is_killed_while_it_starts(tmp_path: Path) -> None:
    with serving(tmp_path, program("plain"), workers=1) as service:
        former = service.ask()
        os.kill(restart_slowly(service), signal.SIGKILL)
        service.until("was ended by SIGKILL before it served: the former worker stays, and the rolling restart ends")
        assert service.ask() == former
        # And once more, to the end.
        replacement = restart_slowly(service)
        go(service)
        service.until("the rolling restart is done")
        assert service.ask() == replacement
        assert service.end() == 0, service.said


@pytest.mark.slow_test(60)
def test_a_second_request_while_a_replacement_starts(tmp_path: Path) -> None:
    """The worker that starts was started before it, and is replaced in its turn."""
    with serving(tmp_path, program("plain"), workers=1) as service:
        first = restart_slowly(service)
        service.send(signal.SIGHUP)
        go(service)
        second = starting(service)
        assert service.ask() == first
        go(service)
        service.until("the rolling restart is done")
        assert service.ask() == second
        assert service.end() == 0, service.said


@pytest.mark.slow_test(60)
def test_a_restart_before_anything_serves(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    with serving(tmp_path, SLOW_START + program("plain"), workers=0) as service:
        first = starting(service)
        service.send(signal.SIGHUP)
        for _ in range(2):  # the other slot, which starts now, and then the first
            go(service)
            starting(service)
        go(service)
        service.until("the rolling restart is done")
        assert first not in service.pids()
        assert service.end() == 0, service.said


@pytest.mark.slow_test(60)
def test_the_end_while_a_replacement_starts(tmp_path: Path) -> None:
    with serving(tmp_path, program("plain"), workers=2) as service:
        restart_slowly(service)
        assert service.end() == 0, service.said
        assert "killed" not in service.said


@pytest.mark.slow_test(60)
def test_a_worker_is_killed_while_it_drains(tmp_path: Path) -> None:
    with serving(tmp_path, HOLDING.format(more=""), workers=1) as service:
        client, former = held(service)
        with client:
            service.send(signal.SIGHUP)
            service.until(" serves")
            os.kill(former, signal.SIGKILL)
            assert client.recv(100) == b""
        service.until(f"worker 0 (pid {former}) was ended by SIGKILL")
        service.until("the rolling restart is done")
        assert service.end() == 0, service.said


@pytest.mark.slow_test(60)
def test_a_stopped_worker_is_killed_when_its_time_is_up(tmp_path: Path) -> None:
    with serving(tmp_path, program("plain"), "--drain", "0.2", workers=1) as service:
        pid = service.ask()
        os.kill(pid, signal.SIGSTOP)
        assert service.end() == 1
        assert f"worker 0 (pid {pid}) did not end in time: it is killed" in service.said


@pytest.mark.slow_test(60)
def test_a_worker_that_is_killed_at_the_end_is_told_of(tmp_path: Path) -> None:
    with serving(tmp_path, HOLDING.format(more=""), workers=1) as service:
        client, pid = held(service)
        with client:
            service.send(signal.SIGTERM)
            service.until("to drain")
            os.kill(pid, signal.SIGKILL)
            assert service.wait() == 1
        assert f"worker 0 (pid {pid}) was ended by SIGKILL" in service.said


@pytest.mark.slow_test(60)
def test_nobody_reads_what_the_supervisor_says(tmp_path: Path) -> None:
    """A log that went away takes no service with it."""
    with serving(tmp_path, program("plain"), workers=1) as service:
        service.process.stderr.close()
        pids = [service.ask()]
        for _ in range(2):
            os.kill(pids[-1], signal.SIGKILL)
            pids.append(service.ask())
        assert len(set(pids)) == 3
        service.send(signal.SIGTERM)
        assert service.process.wait(30) == 0


TALKING = """
import os
import weft.workers._worker
os.write(weft.workers._worker.current()._channel.fileno(), {said!r})
"""


@pytest.mark.slow_test(60)
@pytest.mark.parametrize(
    "said", [b"nonsense\n", b"[]\n", b'{"ask": "socket"}\n', b'{"ask": "socket", "family": 2, "address": 3}\n']
)
def test_a_worker_that_says_nonsense_ends_nobody(tmp_path: Path, said: bytes) -> None:
    with serving(tmp_path, program("plain"), workers=1) as service:
        former = service.ask()
        (tmp_path / "service.py").write_text(TALKING.format(said=said) + "raise SystemExit(5)")
        service.send(signal.SIGHUP)
        service.until("says what can't be understood")
        service.until("ended with exit code 5 before it served: the former worker stays")
        assert service.ask() == former
        assert service.end() == 0, service.said


# ------------------------------------------------------------------------------------- the supervisor is killed


SYNCHRONOUS = """
import weft.workers
(sock,) = weft.workers.sockets()
sock.setblocking(True)
sock.listen()
weft.workers.ready()
while True:
    sock.accept()
"""
UVLOOP = """
import asyncio, sys, uvloop
import weft.workers

async def main():
    server = await asyncio.start_server(lambda r, w: None, sock=weft.workers.sockets()[0])
    weft.workers.ready()
    await server.serve_forever()

uvloop.run(main())
"""
#: A loop of Weft has run and is gone.
LOOP_BEFORE = "import asyncio\nasyncio.run(asyncio.sleep(0))\n" + SYNCHRONOUS
IGNORING = HOLDING.format(more="signal.signal(signal.SIGTERM, signal.SIG_IGN)")


@pytest.mark.slow_test(60)
@pytest.mark.parametrize(
    "source",
    [program("plain"), SYNCHRONOUS, UVLOOP, LOOP_BEFORE, IGNORING],
    ids=["plain", "synchronous", "uvloop", "loop-before", "ignoring"],
)
def test_workers_end_when_their_supervisor_is_gone(tmp_path: Path, source: str) -> None:
    if "uvloop" in source:
        pytest.importorskip("uvloop")
    with serving(tmp_path, source, "--bind", "127.0.0.1:0", "--drain", "0.1") as service:
        service.send(signal.SIGKILL)
        # stderr ends when nobody has it open any more.
        assert service.wait() == -signal.SIGKILL
        assert len(re.findall(r"the supervisor of worker [01] \(pid \d+\) is gone", service.said)) == 2


@pytest.mark.slow_test(60)
def test_a_worker_whose_supervisor_is_gone_drains(tmp_path: Path) -> None:
    """What is under way is answered; and who comes meanwhile is refused, so that another can take the address."""
    with serving(tmp_path, program("plain"), workers=1) as service, connect(service.address) as client:
        client.sendall(REQUEST[:10])
        service.ask()  # so the connection before it is accepted
        service.send(signal.SIGKILL)
        service.until("is gone")
        with pytest.raises(ConnectionError):
            connect(service.address)
        client.sendall(REQUEST[10:])
        assert answer_to(client).startswith(b"HTTP/1.1 200")
        service.wait()


@pytest.mark.slow_test(60)
def test_the_supervisor_is_killed_while_a_worker_drains(tmp_path: Path) -> None:
    """Nobody else will kill the worker that does not end: it does so itself."""
    with serving(tmp_path, IGNORING, "--drain", "0.5", workers=1) as service:
        client, _ = held(service)
        with client:
            service.send(signal.SIGTERM)
            service.until("to drain")
            service.send(signal.SIGKILL)
            service.wait()
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(100) == b""
