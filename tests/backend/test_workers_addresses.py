"""What workers may listen on: Unix paths, IPv6, any port, two addresses, sockets ready-made; and what a script may ask."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import threading
from pathlib import Path

import pytest
from worker_service import ask, connect, free_port, program, serving

CERTS = Path(__file__).resolve().parents[1] / "certs"
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

#: A server that answers with its pid on all that `{serve}` lists, and says on stderr where that is.
SERVERS = """
import asyncio, os, socket, ssl, sys
import weft.workers

async def answer(reader, writer):
    await reader.readuntil(b"\\r\\n\\r\\n")
    writer.write(b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\n\\r\\n%d" % os.getpid())
    writer.close()

def tls():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain({certificate!r})
    return context

async def main():
    servers = [await each for each in {serve}]
    names = [sock.getsockname() for server in servers for sock in server.sockets]
    sys.stderr.write(f"listens on {{names}}\\n")
    await asyncio.gather(*(server.serve_forever() for server in servers))

{run}
"""
PORT = "int(sys.argv[1])"


def servers(serve: str, run: str = "asyncio.run(main())") -> str:
    return SERVERS.format(serve=serve, run=run, certificate=str(CERTS / "server.pem"))


def has_ipv6() -> bool:
    try:
        free_port(socket.AF_INET6)
    except OSError:
        return False
    return True


def restarted(service, *addresses, clients: int = 0) -> None:
    """A rolling restart while so many clients ask each address without end: every request is answered, by new workers at
    last."""
    before = {ask(address) for address in addresses for _ in range(40)}
    is_over = threading.Event()
    counts: list[int] = []
    failed: list[BaseException] = []

    def load(address) -> None:
        count = 0
        try:
            while not is_over.is_set():
                ask(address)
                count += 1
        except Exception as error:
            failed.append(error)
        counts.append(count)

    threads = [threading.Thread(target=load, args=(address,)) for address in addresses for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        service.send(signal.SIGHUP)
        service.until("the rolling restart is done")
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert not failed
    assert len(counts) == clients * len(addresses) and all(count > 10 for count in counts)
    assert not {ask(address) for address in addresses for _ in range(40)} & before


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The paths of Unix sockets have to be short, and so are relative."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow_test(100)
@pytest.mark.parametrize("kind", ["plain", "aiohttp", "uvicorn"])
def test_a_unix_path(tmp_path: Path, kind: str) -> None:
    if kind != "plain":
        pytest.importorskip(kind)
    with serving(tmp_path, program(kind, path="s")) as service:
        restarted(service, "s", clients=4)
        assert service.end() == 0, service.said
    assert sorted(os.listdir()) == ["applied", "service.py"]


@pytest.mark.slow_test(60)
def test_a_path_that_a_failing_replacement_removes(tmp_path: Path) -> None:
    """uvicorn does so when its start-up fails."""
    with serving(tmp_path, program("plain", path="s"), workers=1) as service:
        before = ask("s")
        Path("service.py").write_text("import os\nos.remove('s')\nraise SystemExit(3)")
        service.send(signal.SIGHUP)
        service.until("has removed")
        service.until("the former worker stays, and the rolling restart ends")
        assert ask("s") == before
        assert service.end() == 0, service.said
    assert sorted(os.listdir()) == ["applied", "service.py"]


SOCKETS = "weft.workers.sockets()"


@pytest.mark.slow_test(60)
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize(
    "serve",
    [
        "[asyncio.start_server(answer, {host!r}, 0)]",
        f"[asyncio.start_server(answer, sock=each) for each in {SOCKETS}]",
        # As hypercorn and uvicorn do that are given a descriptor.
        f"[asyncio.start_server(answer, sock=socket.socket(fileno=each.detach())) for each in {SOCKETS}]",
    ],
)
def test_a_port_that_the_kernel_chose(tmp_path: Path, serve: str, host: str) -> None:
    """It is one for all workers, and for all that come after them."""
    if host == "::1" and not has_ipv6():
        pytest.skip("no IPv6 here")
    bind = f"[{host}]:0" if host == "::1" else f"{host}:0"
    with serving(tmp_path, servers(serve.format(host=host)), "--bind", bind) as service:
        first, second = service.lines("listens on", 2)
        assert first == second
        restarted(service, (host, int(first.split(",")[1].strip(" )]"))))
        assert service.end() == 0, service.said


@pytest.mark.slow_test(60)
def test_port_0_is_each_workers_own(tmp_path: Path) -> None:
    with serving(tmp_path, servers('[asyncio.start_server(answer, "127.0.0.1", 0)]'), workers=0) as service:
        assert len(set(service.lines("listens on", 2))) == 2


@pytest.mark.slow_test(60)
def test_several_addresses_in_one_program(tmp_path: Path) -> None:
    """All of them are shared: two families, a Unix path that was bound before."""
    serve = f'[asyncio.start_server(answer, ["127.0.0.1", "::1"][: {1 + has_ipv6()}], {PORT}), '
    serve += 'asyncio.start_unix_server(answer, "s")]'
    with serving(tmp_path, servers(serve), "--bind", "unix:s") as service:
        first, second = service.lines("listens on", 2)
        assert first == second and first.count(str(service.port)) == 1 + has_ipv6()
        addresses = [("::1", service.port)] if has_ipv6() else []
        restarted(service, service.address, "s", *addresses, clients=2)
        assert service.end() == 0, service.said
    assert os.listdir() == ["service.py"]


@pytest.mark.slow_test(60)
@pytest.mark.parametrize("kind", ["tcp", "unix", "tls"])
def test_a_connection_that_has_said_nothing_yet_is_heard(tmp_path: Path, kind: str) -> None:
    """Between `connect` and the request a worker may be told to end; the request is answered all the same."""
    serve = {
        "tcp": f'[asyncio.start_server(answer, "127.0.0.1", {PORT})]',
        "unix": '[asyncio.start_unix_server(answer, "s")]',
        "tls": f'[asyncio.start_server(answer, "127.0.0.1", {PORT}, ssl=tls())]',
    }[kind]
    # A program that closes what it has at once: SIGTERM is its end.
    run = "import signal\nsignal.signal(signal.SIGTERM, lambda *_: os._exit(0))\nasyncio.run(main())"
    with serving(tmp_path, servers(serve, run), workers=1) as service:
        address = "s" if kind == "unix" else service.address
        with connect(address) as client:
            if kind == "tls":
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                client = context.wrap_socket(client)
            service.send(signal.SIGHUP)
            service.until(" serves")
            client.sendall(REQUEST)
            answer = b"".join(iter(lambda: client.recv(65536), b""))
            client.close()
        assert answer.startswith(b"HTTP/1.1 200"), answer
        assert service.end() == 0, service.said


SCRIPT = """
if __name__ == "__main__":
    sys.stderr.write(f"worker {weft.workers.slot()} of {weft.workers.count()} {weft.workers.is_draining()}\\n")
    sys.exit(weft.workers.run(main, 2, binds=["unix:s"], drain_s=5))
"""


@pytest.mark.slow_test(60)
@pytest.mark.parametrize(
    "command", [("service.py",), ("-m", "weft", "run", "service.py"), ("-X", "dev", "-m", "service")]
)
def test_a_script_that_is_its_own_supervisor(tmp_path: Path, command: tuple[str, ...]) -> None:
    source = servers(
        f'[asyncio.start_server(answer, "127.0.0.1", {PORT}), asyncio.start_unix_server(answer, "s")]', SCRIPT
    )
    with serving(tmp_path, source, command=command) as service:
        service.lines("listens on", 2)
        restarted(service, service.address, "s")
        assert service.end() == 0, service.said
    words = [line for line in service.said.splitlines() if line.startswith("worker ")]
    assert words[0] == "worker None of None False"
    assert sorted(words[1:]) == ["worker 0 of 2 False"] * 2 + ["worker 1 of 2 False"] * 2
    assert "5 s to drain" in service.said


#: Threads and no loop: Weft sees no server, so it is told.
SYNCHRONOUS = """
import os, subprocess, sys
import weft.workers

slot, count = weft.workers.slot(), weft.workers.count()
# What the program starts is no worker.
child = [sys.executable, "-c", "import weft.workers; print(weft.workers.slot())"]
assert subprocess.run(child, env=dict(os.environ), capture_output=True, text=True).stdout == "None\\n"
(sock,) = weft.workers.sockets()
sock.setblocking(True)
sock.listen()
weft.workers.ready()
while True:
    connection, _ = sock.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\n\\r\\n%d" % (1000 * slot + count))
"""


@pytest.mark.slow_test(60)
def test_a_program_without_a_loop(tmp_path: Path) -> None:
    port = free_port()
    with serving(tmp_path, SYNCHRONOUS, "--bind", f"127.0.0.1:{port}") as service:
        answers = {ask(("127.0.0.1", port)) for _ in range(60)}
        assert answers == {"2", "1002"}
        service.send(signal.SIGHUP)
        service.until("the rolling restart is done")
        assert {ask(("127.0.0.1", port)) for _ in range(60)} == answers
        assert service.end() == 0, service.said
