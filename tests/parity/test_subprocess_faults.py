"""Child processes that die, hang, close, ignore or can't be started, and callers that change their mind."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
import subprocess
import sys
import threading

import pytest
from worlds import since, turns

PIPE = subprocess.PIPE
PYTHON = (sys.executable, "-I", "-S", "-c")


@pytest.fixture(autouse=True, params=["pidfd", "thread"])
def watching(request, monkeypatch):
    """Both ways of seeing an exit. asyncio uses its own."""
    if "world" in request.fixturenames and request.getfixturevalue("world").weft_loop:
        from weft._net.process import watch

        if request.param == "thread":
            monkeypatch.setattr(watch, "_has_pidfds", False)
        elif watch._has_pidfds is False:
            pytest.skip("no pidfds here")
    elif request.param == "thread":
        pytest.skip("the oracle has no such switch")
    return request.param


def assert_no_children():
    """No zombie, and nothing that runs on."""
    with pytest.raises(ChildProcessError):
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)


async def exited(code):
    """A child that has exited, which the loop can't have seen yet."""
    read_end, write_end = os.pipe()
    try:
        process = await asyncio.create_subprocess_shell(f"read line; exit {code}", stdin=read_end, stdout=PIPE)
    finally:
        os.close(read_end)
        os.close(write_end)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    return process


async def test_killed_from_outside(world):
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    os.kill(process.pid, signal.SIGKILL)
    assert await process.stdout.read() == b""
    assert await process.wait() == -signal.SIGKILL
    assert process.returncode == -signal.SIGKILL
    assert_no_children()


async def test_stdout_closed_early(world):
    process = await asyncio.create_subprocess_shell("echo hi; exec >&-; cat >&2; exit 5", stdin=PIPE, stdout=PIPE)
    assert await process.stdout.read() == b"hi\n"
    assert process.returncode is None
    process.stdin.close()
    assert await process.wait() == 5


async def test_a_child_that_does_not_read(world):
    process = await asyncio.create_subprocess_exec("sleep", "100", stdin=PIPE)
    process.stdin.write(b"x" * 1_000_000)
    drain = asyncio.ensure_future(process.stdin.drain())
    await turns(2)
    assert not drain.done()
    process.kill()
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        await drain
    await process.wait()


async def test_communicate_ignores_a_broken_pipe(world):
    process = await asyncio.create_subprocess_exec("true", stdin=PIPE)
    assert await process.communicate(b"x" * 1_000_000) == (None, None)
    assert process.returncode == 0


async def test_grandchild_keeps_the_pipe(world):
    """wait() is for the child: on 3.14 at once, before that when the pipes are closed."""
    process = await asyncio.create_subprocess_shell("cat >&2 & echo started", stdin=PIPE, stdout=PIPE, stderr=PIPE)
    assert await process.stdout.read() == b"started\n"
    process.stdin.close()
    assert await process.stderr.read() == b""
    assert await process.wait() == 0


@pytest.mark.skipif(not since(3, 14), reason="wait() waits for the pipes before 3.14")
async def test_wait_does_not_wait_for_a_grandchild(world):
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", "exec 3<&0; { read line <&3; echo $line; } & exit 6", stdin=PIPE, stdout=PIPE
    )
    assert await process.wait() == 6
    process.stdin.write(b"late\n")
    assert await process.stdout.read() == b"late\n"
    process.stdin.close()


async def test_reaped_by_somebody_else(world, log_lines):
    if not world.weft_loop and not since(3, 12):
        pytest.skip("asyncio's thread is quicker")
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE)
    popen = process._transport.get_extra_info("subprocess")
    popen.kill()
    assert popen.wait() == -signal.SIGKILL
    assert await process.wait() == 255
    assert [line for line in log_lines if "255" in line and line.startswith("WARNING")]
    assert_no_children()


async def test_children_are_reaped_by_the_kernel(world, monkeypatch):
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        if world.weft_loop:  # asyncio with pidfds raises ProcessLookupError when the child was too quick
            process = await asyncio.create_subprocess_exec("true")
            assert await process.wait() == 255
    finally:
        signal.signal(signal.SIGCHLD, before)


@pytest.mark.weft_only
async def test_kill_of_what_has_exited_does_not_lose_the_code(world):
    """asyncio asks Popen, which may take the code away: 255."""
    process = await exited(9)
    process.kill()
    assert await process.wait() == 9


@pytest.mark.weft_only
async def test_close_of_what_has_exited_does_not_lose_the_code(world):
    process = await exited(9)
    process._transport.close()
    assert await process.wait() == 9


@pytest.mark.weft_only
@pytest.mark.parametrize("what", ["no descriptor is left", "the poller is full"])
async def test_the_thread_waits_where_a_pidfd_fails(world, monkeypatch, what):
    from weft._net.process import spawn

    def fail(*args):
        raise OSError(errno.EMFILE if what.startswith("no ") else errno.ENOSPC, what)

    if what.startswith("no "):
        monkeypatch.setattr(os, "pidfd_open", fail)
    else:
        monkeypatch.setattr(spawn, "watch_fd", fail)
    process = await asyncio.create_subprocess_shell("exit 9")
    assert await process.wait() == 9
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE)
    process.terminate()
    assert await process.wait() == -signal.SIGTERM


async def test_kill_twice_and_later(world):
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE)
    process.kill()
    process.kill()
    code = await process.wait()
    # If the child is gone already, asyncio's second kill may take the code away, as above.
    assert code == -signal.SIGKILL or (code == 255 and not world.weft_loop)


# ------------------------------------------------------------------------------------------------- that do not start


@pytest.mark.parametrize(
    ("program", "options", "error"),
    [
        ("/no/such/program", {}, FileNotFoundError),
        ("no-such-program-anywhere", {}, FileNotFoundError),
        ("/etc/passwd", {}, PermissionError),
        ("/", {}, PermissionError),
        ("true", {"cwd": "/no/such/folder"}, FileNotFoundError),
        ("true", {"env": {"a=b": "c"}}, ValueError),
        ("true", {"preexec_fn": lambda: os.write(1, object())}, subprocess.SubprocessError),
    ],
)
async def test_cannot_be_started(world, program, options, error):
    made = []

    class Protocol(asyncio.SubprocessProtocol):
        def connection_made(self, transport):
            made.append(transport)

    loop = asyncio.get_running_loop()
    with pytest.raises(error) as caught:
        await loop.subprocess_exec(Protocol, program, **options)
    if isinstance(caught.value, OSError):
        assert caught.value.filename == options.get("cwd", program)
    assert not made
    assert_no_children()


async def test_popen_is_asked_where_it_is(world, monkeypatch):
    """Whoever replaces `subprocess.Popen` is heard."""

    def popen(*args, **options):
        raise ZeroDivisionError

    monkeypatch.setattr(subprocess, "Popen", popen)
    with pytest.raises(ZeroDivisionError):
        await asyncio.create_subprocess_exec("true", stdin=PIPE)


async def test_out_of_descriptors(world):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = os.dup(0)
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare + 3, hard))
    os.close(spare)
    try:
        with pytest.raises(OSError, match="Too many open files"):
            await asyncio.create_subprocess_exec("true", stdin=PIPE, stdout=PIPE, stderr=PIPE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert_no_children()


@pytest.mark.parametrize("which", ["connect_read_pipe", "connect_write_pipe"])
@pytest.mark.parametrize("error", [asyncio.CancelledError, ZeroDivisionError])
async def test_pipe_cannot_be_connected(world, watching, which, error):
    if not world.weft_loop:
        pytest.skip("before 3.14 asyncio leaks the pipes, or hangs")
    loop = asyncio.get_running_loop()

    async def connect(factory, pipe):
        raise error

    setattr(loop, which, connect)
    with pytest.raises(error):
        await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE, stderr=PIPE)
    assert_no_children()


# --------------------------------------------------------------------------------------------------- second thoughts


@pytest.mark.parametrize("after", range(6))
async def test_cancel_while_starting(world, after):
    start = asyncio.ensure_future(asyncio.create_subprocess_exec("sleep", "100", stdin=PIPE, stdout=PIPE))
    await turns(after)
    start.cancel()
    try:
        process = await start
    except asyncio.CancelledError:
        await turns(3)
    else:
        process.kill()
        await process.wait()
    assert_no_children()


@pytest.mark.weft_only
@pytest.mark.parametrize("times", [1, 2, 3])
async def test_cancel_in_the_middle_of_the_start(world, monkeypatch, times):
    """The child is on its way when the task is cancelled, perhaps again and again: it is killed and reaped."""
    go = threading.Event()
    started = []

    class Slow(subprocess.Popen):
        def __init__(self, *args, **options):
            go.wait()
            super().__init__(*args, **options)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Slow)
    start = asyncio.ensure_future(asyncio.create_subprocess_exec("sleep", "100", stdin=PIPE, stdout=PIPE))
    await turns(2)
    for _ in range(times):
        start.cancel()
        await turns(2)
    assert not start.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert [popen.returncode for popen in started] == [-signal.SIGKILL]
    await turns(2)
    assert_no_children()


@pytest.mark.weft_only
async def test_the_loop_runs_while_a_child_starts(world, monkeypatch):
    """Popen waits for what only the loop can do."""
    go = threading.Event()

    class Slow(subprocess.Popen):
        def __init__(self, *args, **options):
            assert go.wait(10)
            super().__init__(*args, **options)

    monkeypatch.setattr(subprocess, "Popen", Slow)
    start = asyncio.ensure_future(asyncio.create_subprocess_exec("true"))
    await turns(5)
    go.set()
    assert await (await start).wait() == 0


@pytest.mark.weft_only
async def test_the_loop_runs_while_a_preexec_fn_does(world):
    """The function, in the child, waits for what the loop does after the fork."""
    read_end, write_end = os.pipe()
    try:
        start = asyncio.ensure_future(asyncio.create_subprocess_exec("true", preexec_fn=lambda: os.read(read_end, 1)))
        await turns(5)
        assert not start.done()
        os.write(write_end, b"!")
        assert await (await start).wait() == 0
    finally:
        os.close(read_end)
        os.close(write_end)


async def test_cancel_communicate(world):
    process = await asyncio.create_subprocess_exec("sleep", "100", stdin=PIPE, stdout=PIPE)
    talk = asyncio.ensure_future(process.communicate(b"x" * 1_000_000))
    await turns(3)
    talk.cancel()
    with pytest.raises(asyncio.CancelledError):
        await talk
    assert process.returncode is None
    process.kill()
    await process.wait()
    process._transport.close()
    await turns(3)
    assert_no_children()


@pytest.mark.weft_only
def test_the_loop_is_closed_in_the_middle_of_the_start(world, monkeypatch):
    """Nobody is left to take the child: it is killed, and reaped by its own thread."""
    go, gone = threading.Event(), threading.Event()
    started = []

    class Slow(subprocess.Popen):
        def __init__(self, *args, **options):
            assert go.wait(10)
            super().__init__(*args, **options)
            started.append(self)

        def wait(self, timeout=None):
            code = super().wait(timeout)
            gone.set()
            return code

    monkeypatch.setattr(subprocess, "Popen", Slow)
    loop = world.new_loop()
    start = asyncio.create_subprocess_exec("sleep", "100", stdin=PIPE, stdout=PIPE)
    task = loop.create_task(start)
    loop.run_until_complete(turns(3))
    task._log_destroy_pending = False
    loop.close()
    go.set()
    assert gone.wait(10)
    assert started[0].returncode == -signal.SIGKILL
    assert_no_children()
    world.take_reports()


@pytest.mark.weft_only
def test_the_loop_is_closed_before_it_takes_the_child(world, monkeypatch):
    go = threading.Event()

    class Slow(subprocess.Popen):
        def __init__(self, *args, **options):
            assert go.wait(10)
            super().__init__(*args, **options)

    monkeypatch.setattr(subprocess, "Popen", Slow)
    loop = world.new_loop()
    task = loop.create_task(asyncio.create_subprocess_exec("sleep", "100", stdin=PIPE, stdout=PIPE))
    loop.run_until_complete(turns(1))
    task._log_destroy_pending = False
    (child,) = loop._children._all
    go.set()
    while child.popen is None:
        os.sched_yield()
    loop.close()
    while child.popen.returncode is None:
        os.sched_yield()
    assert child.popen.returncode == -signal.SIGKILL
    assert_no_children()
    world.take_reports()


@pytest.mark.weft_only
def test_the_loop_is_closed_when_it_has_just_taken_the_child(world, monkeypatch):
    """The start never ends; when its coroutine is collected the child is killed."""
    loop = world.new_loop()
    children = []

    async def connect(factory, pipe):
        children.extend(loop._children._all)
        loop.stop()
        await asyncio.Event().wait()

    loop.connect_write_pipe = connect
    task = loop.create_task(asyncio.create_subprocess_exec("sleep", "100", stdin=PIPE))
    loop.run_forever()
    popen = children[0].popen
    assert popen.returncode is None
    loop.close()
    world.take_reports()
    del task, loop.connect_write_pipe
    loop = None
    gc.collect()
    while popen.returncode is None:
        os.sched_yield()
    assert popen.returncode == -signal.SIGKILL
    popen.stdin.close()


@pytest.mark.weft_only
async def test_a_forked_process_leaves_the_children_alone(world):
    """The fork drops what it has, and the parent's child lives."""
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    pid = os.fork() if not since(3, 12) else _fork_quietly()
    if pid == 0:
        status = 1
        try:
            popen = process._transport.get_extra_info("subprocess")
            process.kill()
            process._transport.close()
            popen.kill()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert await process.communicate(b"alive") == (b"alive", None)
    assert process.returncode == 0


def _fork_quietly():
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()
