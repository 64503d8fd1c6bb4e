"""After a fork: the child's copy of the loop is closed to use and says so, and the parent's epoll set is untouched.

The children are real: os.fork, multiprocessing with the fork method, and gunicorn's pre-fork master in a process of its own.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import textwrap
import warnings

import pytest
from worlds import turns

pytestmark = [
    pytest.mark.weft_only,
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def in_child(body) -> str:
    """Fork, run `body` in the child, and give what it returned as text. The child ends at once, without cleaning up."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            words = repr(body())
        except BaseException as error:
            words = f"{type(error).__name__}: {error}"
        os.write(writing, words.encode()[:4000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        words = pipe.read().decode()
    os.waitpid(pid, 0)
    return words


USES = {
    "call_soon": lambda loop: loop.call_soon(print),
    "call_later": lambda loop: loop.call_later(1, print),
    "run_forever": lambda loop: loop.run_forever(),
    "call_soon_threadsafe": lambda loop: loop.call_soon_threadsafe(print),
    "add_reader": lambda loop: loop.add_reader(0, print),
}


@pytest.mark.parametrize("use", USES)
def test_the_childs_loop_says_so(world, loop, use):
    loop.run_until_complete(turns(2))
    words = in_child(lambda: USES[use](loop))
    assert words.startswith("RuntimeError: ")
    assert "fork" in words
    assert str(os.getpid()) in words
    loop.run_until_complete(turns(2))


async def test_fork_inside_a_running_loop(world):
    loop = asyncio.get_running_loop()
    words = in_child(lambda: (loop.is_closed(), loop.is_running(), asyncio._get_running_loop()))
    assert words == "(True, False, None)"
    await turns(3)


async def test_the_parents_watched_fds_stay(world):
    """The child drops its loop and opens fds of the same numbers; the parent's reader still hears its socket."""
    loop, seen = asyncio.get_running_loop(), []
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        done = loop.create_future()
        loop.add_reader(left, lambda: (seen.append(left.recv(10)), done.done() or done.set_result(None)))
        await turns(2)

        def child():
            left.close()
            right.close()

            async def own():
                one, two = socket.socketpair()
                one.setblocking(False)
                two.send(b"child")
                return await asyncio.get_running_loop().sock_recv(one, 10)

            import weft

            return weft.run(own())

        assert in_child(child) == "b'child'"
        right.send(b"parent")
        await done
        loop.remove_reader(left)
    assert seen == [b"parent"]


async def test_the_parents_connections_stay(world):
    async def serve(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        ended.set_result(None)

    ended = asyncio.get_running_loop().create_future()
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await turns(3)
        assert in_child(lambda: 5) == "5"
        writer.write(b"after the fork\n")
        assert await reader.readline() == b"after the fork\n"
        writer.close()
        await writer.wait_closed()
        await ended
        await turns(3)


def work(number):
    """What a multiprocessing child does: a loop of its own."""
    import weft

    async def answer():
        await asyncio.sleep(0)
        return number * 2

    return weft.run(answer())


async def test_multiprocessing_fork(world):
    context = multiprocessing.get_context("fork")
    loop = asyncio.get_running_loop()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pool = context.Pool(2)
    try:
        results = await loop.run_in_executor(None, pool.map, work, range(5))
    finally:
        pool.close()
        pool.join()
    assert results == [0, 2, 4, 6, 8]


GUNICORN_APP = """
import asyncio
import os
import weft
from aiohttp import web

async def hello(request):
    loop = asyncio.get_running_loop()
    return web.Response(text=f"{type(loop).__module__}.{type(loop).__name__} {os.getpid()}")

async def make():
    app = web.Application()
    app.add_routes([web.get("/", hello)])
    return app

# The master imports this (preload), makes a loop and uses it, as careless programs do, and forks afterwards.
masters_loop = weft.new_event_loop()
masters_loop.run_until_complete(asyncio.sleep(0))
"""


@pytest.mark.slow_test(60)
def test_gunicorn_pre_fork(tmp_path):
    pytest.importorskip("gunicorn")
    pytest.importorskip("aiohttp")
    (tmp_path / "service.py").write_text(textwrap.dedent(GUNICORN_APP))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = dict(os.environ, PYTHONWARNINGS="ignore")
    command = [
        *(sys.executable, "-m", "weft", "run", "-m", "gunicorn", "service:make", "--preload", "--workers", "2"),
        *("--worker-class", "aiohttp.GunicornWebWorker", "--bind", f"127.0.0.1:{port}", "--chdir", str(tmp_path)),
        *("--graceful-timeout", "5", "--no-control-socket"),
    ]
    if not has_control_socket():
        command.remove("--no-control-socket")
    master = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        answers = {ask(port, master) for _ in range(30)}
    finally:
        master.send_signal(signal.SIGTERM)
        _, errors = master.communicate(timeout=30)
    assert {answer.split()[0] for answer in answers} == {"weft.loop.Loop"}
    assert str(master.pid) not in {answer.split()[1] for answer in answers}
    assert master.returncode == 0, errors.decode()
    assert b"Traceback" not in errors, errors.decode()


def has_control_socket() -> bool:
    from importlib.metadata import version

    return int(version("gunicorn").split(".")[0]) >= 25


def ask(port: int, master: subprocess.Popen) -> str:
    """One request over a connection of its own; waits, by trying again, until the service listens."""
    while True:
        assert master.poll() is None, master.stderr.read().decode()
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                answer = b"".join(iter(lambda: client.recv(65536), b""))
        except ConnectionRefusedError:
            continue
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), answer
        return body.decode()
