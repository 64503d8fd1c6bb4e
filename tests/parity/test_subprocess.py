"""Child processes: exec and shell, protocols and streams, what Popen's parameters do, signals, the order of callbacks."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading

import pytest

PIPE = subprocess.PIPE
# Prints what the test asks for and reads nothing: starts in a tenth of the time of an ordinary Python.
PYTHON = (sys.executable, "-I", "-S", "-c")


class Recorder(asyncio.SubprocessProtocol):
    """Notes what it is told; `lost` is done when connection_lost has been called."""

    def __init__(self):
        self.events = []
        self.data = {1: b"", 2: b""}
        self.transport = None
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        self.events.append("made")

    def pipe_data_received(self, fd, data):
        assert self.transport is not None
        assert not self.lost.done()
        self.data[fd] += data

    def pipe_connection_lost(self, fd, exc):
        self.events.append((fd, type(exc).__name__ if exc else None))

    def process_exited(self):
        self.events.append("exited")

    def connection_lost(self, exc):
        self.events.append("lost")
        self.lost.set_result(exc)


async def run(*args, **options):
    """(exit code, stdout, stderr) of a program."""
    process = await asyncio.create_subprocess_exec(*args, stdout=PIPE, stderr=PIPE, **options)
    out, err = await process.communicate()
    return process.returncode, out, err


async def test_protocol(world):
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.subprocess_exec(Recorder, "sh", "-c", "cat; echo oops >&2; exit 3")
    assert isinstance(transport, asyncio.SubprocessTransport)
    assert protocol.transport is transport
    assert protocol.events == ["made"]
    assert transport.get_protocol() is protocol
    assert transport.get_pid() > 0
    assert transport.get_returncode() is None
    assert transport.get_extra_info("subprocess").pid == transport.get_pid()
    stdin = transport.get_pipe_transport(0)
    assert isinstance(stdin, asyncio.WriteTransport)
    assert isinstance(transport.get_pipe_transport(1), asyncio.ReadTransport)
    assert transport.get_pipe_transport(7) is None
    stdin.write(b"some input")
    stdin.write_eof()
    assert await protocol.lost is None
    assert protocol.data == {1: b"some input", 2: b"oops\n"}
    assert transport.get_returncode() == 3
    assert protocol.events[0] == "made"
    assert protocol.events[-1] == "lost"
    assert sorted(map(str, protocol.events[1:-1])) == ["(0, None)", "(1, None)", "(2, None)", "exited"]
    transport.close()
    assert transport.is_closing()


async def test_protocol_can_be_replaced(world):
    loop = asyncio.get_running_loop()
    transport, first = await loop.subprocess_exec(Recorder, "cat", stdout=None, stderr=None)
    second = Recorder()
    transport.set_protocol(second)
    assert transport.get_protocol() is second
    transport.get_pipe_transport(0).close()
    await second.lost
    assert first.events == ["made"]
    assert second.events[-1] == "lost"
    transport.close()


async def test_all_output_comes_before_connection_lost(world):
    size = 1_000_000
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.subprocess_exec(
        Recorder, *PYTHON, f"import os; os.write(2, b'e'); [os.write(1, b'x' * 10000) for _ in range({size // 10000})]"
    )
    await protocol.lost
    assert protocol.data == {1: b"x" * size, 2: b"e"}
    transport.close()


async def test_communicate(world):
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    data = os.urandom(500_000)
    assert await process.communicate(data) == (data, None)
    assert process.returncode == 0


async def test_streams(world):
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    for line in (b"one\n", b"two\n"):
        process.stdin.write(line)
        await process.stdin.drain()
        assert await process.stdout.readline() == line
    process.stdin.close()
    await process.stdin.wait_closed()
    assert await process.stdout.read() == b""
    assert await process.wait() == 0


async def test_shell(world):
    process = await asyncio.create_subprocess_shell("echo $0 $((6 * 7)); exit 7", stdout=PIPE)
    out, _ = await process.communicate()
    assert (process.returncode, out.split()[1]) == (7, b"42")
    process = await asyncio.create_subprocess_shell(b"exit 8")
    assert await process.wait() == 8


async def test_many_wait_for_one(world):
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE)
    waits = [asyncio.ensure_future(process.wait()) for _ in range(10)]
    await asyncio.sleep(0)
    waits[0].cancel()
    process.stdin.close()
    outcomes = await asyncio.gather(*waits, return_exceptions=True)
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert outcomes[1:] == [0] * 9
    assert await process.wait() == 0


@pytest.mark.parametrize("how", ["send_signal", "terminate", "kill"])
async def test_signals_give_negative_codes(world, how):
    # Not SIGHUP: under nohup the child ignores it.
    process = await asyncio.create_subprocess_exec("sleep", "100")
    expected = {"send_signal": signal.SIGUSR1, "terminate": signal.SIGTERM, "kill": signal.SIGKILL}[how]
    if how == "send_signal":
        process.send_signal(signal.SIGUSR1)
    else:
        getattr(process, how)()
    assert await process.wait() == -expected


@pytest.mark.parametrize("how", ["send_signal", "terminate", "kill"])
async def test_signals_after_the_end(world, how):
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.subprocess_exec(Recorder, "true", stdin=None, stdout=None, stderr=None)
    await protocol.lost
    # From the end of the transport on, on every version.
    await asyncio.sleep(0)
    with pytest.raises(ProcessLookupError):
        getattr(transport, how)(*([signal.SIGTERM] if how == "send_signal" else []))
    transport.close()


async def test_signals_after_the_wait_for_a_child_without_pipes(world):
    process = await asyncio.create_subprocess_exec("sleep", "100")
    process.kill()
    assert await process.wait() == -signal.SIGKILL
    for signalling in (process.kill, process.terminate, lambda: process.send_signal(signal.SIGUSR1)):
        with pytest.raises(ProcessLookupError):
            signalling()


async def test_close_kills(world):
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.subprocess_exec(Recorder, "sleep", "100")
    transport.close()
    transport.close()
    assert await protocol.lost is None
    assert transport.get_returncode() == -signal.SIGKILL


@pytest.mark.loop_debug
async def test_debug_log(world, log_lines):
    process = await asyncio.create_subprocess_exec("sh", "-c", "sleep 100", "secret", stdin=PIPE, stderr=2)
    process._transport.close()
    await process.wait()
    process = await asyncio.create_subprocess_shell("exit 1", stdout=PIPE, stderr=subprocess.STDOUT)
    await process.communicate()
    said = "\n".join(log_lines)
    assert "DEBUG execute program 'sh' stdin=<pipe> stderr=2" in said
    assert f"DEBUG process 'sh' created: pid {process.pid}".rsplit(" ", 1)[0] in said
    assert "INFO execute program 'sh': <" in said
    assert "WARNING Close running child process: kill <" in said
    assert "DEBUG run shell command 'exit 1' stdout=stderr=<pipe>" in said
    assert "exited with return code 1" in said
    assert "secret" not in said


# ------------------------------------------------------------------------------------------------ Popen's parameters


async def test_stderr_to_stdout(world):
    code, out, err = await run("sh", "-c", "echo out; echo err >&2")
    assert (code, out, err) == (0, b"out\n", b"err\n")
    process = await asyncio.create_subprocess_shell("echo out; echo err >&2", stdout=PIPE, stderr=subprocess.STDOUT)
    assert process.stderr is None
    assert await process.communicate() == (b"out\nerr\n", None)


async def test_devnull(world):
    process = await asyncio.create_subprocess_exec(
        "cat", stdin=subprocess.DEVNULL, stdout=PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdin is None
    assert await process.communicate() == (b"", None)


async def test_files_and_descriptors(world, tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"from a file")
    with source.open("rb") as stdin, target.open("wb") as stdout:
        process = await asyncio.create_subprocess_exec("cat", stdin=stdin, stdout=stdout.fileno())
        assert await process.wait() == 0
    assert target.read_bytes() == b"from a file"


async def test_environment_and_folder(world, tmp_path):
    code, out, _ = await run("sh", "-c", "echo $WEFT_TEST; pwd", env={"WEFT_TEST": "x"}, cwd=tmp_path)
    assert out.decode().split() == ["x", os.path.realpath(tmp_path)]


async def test_environment_is_the_present_one(world, monkeypatch):
    monkeypatch.setenv("WEFT_TEST", "at the call")
    start = asyncio.ensure_future(run("sh", "-c", "echo $WEFT_TEST"))
    await asyncio.sleep(0)
    monkeypatch.setenv("WEFT_TEST", "later")
    _, out, _ = await start
    assert out == b"at the call\n"


async def test_session_and_groups(world):
    ask = (*PYTHON, "import os; print(os.getpid(), os.getpgrp(), os.getsid(0))")
    _, out, _ = await run(*ask)
    pid, group, session = map(int, out.split())
    assert (group, session) == (os.getpgrp(), os.getsid(0))
    _, out, _ = await run(*ask, start_new_session=True)
    pid, group, session = map(int, out.split())
    assert pid == group == session
    _, out, _ = await run(*ask, process_group=0)
    pid, group, session = map(int, out.split())
    assert pid == group
    assert session == os.getsid(0)


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody else")
async def test_users(world):
    _, out, _ = await run("sh", "-c", "id -u; id -g; id -G", user=12345, group=23456, extra_groups=[])
    assert out.split() == [b"12345", b"23456", b"23456"]


async def test_umask(world, tmp_path):
    code, _, _ = await run("touch", str(tmp_path / "made"), umask=0o077)
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o600


async def test_pass_fds(world):
    read_end, write_end = os.pipe()
    other = os.dup(write_end)
    os.set_inheritable(other, True)
    try:
        program = f"import os; os.write({write_end}, b'hi\\n'); print(*os.listdir('/proc/self/fd'))"
        code, out, _ = await run(*PYTHON, program, pass_fds=[write_end])
        assert code == 0
        assert os.read(read_end, 10) == b"hi\n"
        assert str(other).encode() not in out.split()
        code, out, _ = await run("ls", "/proc/self/fd", close_fds=False)
        assert str(other).encode() in out.split()
    finally:
        for fd in (read_end, write_end, other):
            os.close(fd)


async def test_preexec_fn_runs_in_the_child(world):
    def prepare():
        # It is the main thread of the child, so it may do this.
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        os.environ["WEFT_TEST"] = str(threading.current_thread() is threading.main_thread())

    code, out, _ = await run("sh", "-c", "kill -USR1 $$; echo alive $WEFT_TEST", preexec_fn=prepare)
    assert (code, out) == (0, b"alive True\n")


async def test_preexec_fn_that_fails(world):
    def prepare():
        raise ZeroDivisionError

    with pytest.raises(subprocess.SubprocessError, match="Exception occurred in preexec_fn"):
        await run("true", preexec_fn=prepare)


async def test_dies_with_its_parent_and_not_before(world):
    """A child that asked to be told when its parent dies must not be told because a thread ended."""
    import ctypes

    libc = ctypes.CDLL(None)
    process = await asyncio.create_subprocess_exec(
        "cat", stdin=PIPE, stdout=PIPE, preexec_fn=lambda: libc.prctl(1, signal.SIGKILL, 0, 0, 0)
    )
    for line in (b"one\n", b"two\n"):
        process.stdin.write(line)
        assert await process.stdout.readline() == line
    # Other children come and go meanwhile, and so do their threads.
    assert await asyncio.gather(*(run("true") for _ in range(5))) == [(0, b"", b"")] * 5
    process.stdin.close()
    assert await process.wait() == 0


# ---------------------------------------------------------------------------------------------------- wrong arguments


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"universal_newlines": True}, "universal_newlines must be False"),
        ({"shell": True}, "shell must be False"),
        ({"bufsize": 4096}, "bufsize must be 0"),
        ({"text": True}, "text must be False"),
        ({"encoding": "utf-8"}, "encoding must be None"),
        ({"errors": "strict"}, "errors must be None"),
    ],
)
async def test_exec_refuses(world, options, words):
    loop = asyncio.get_running_loop()
    with pytest.raises(ValueError, match=f"^{words}$"):
        await loop.subprocess_exec(Recorder, "true", **options)
    if "shell" not in options:
        with pytest.raises(ValueError, match=f"^{words}$"):
            await loop.subprocess_shell(Recorder, "true", **options)


async def test_shell_refuses(world):
    loop = asyncio.get_running_loop()
    with pytest.raises(ValueError, match="^shell must be True$"):
        await loop.subprocess_shell(Recorder, "true", shell=False)
    with pytest.raises(ValueError, match="^cmd must be a string$"):
        await loop.subprocess_shell(Recorder, ["ls", "-l"])


async def test_unknown_option(world):
    with pytest.raises(TypeError, match="unexpected keyword argument 'nonsense'"):
        await asyncio.create_subprocess_exec("true", nonsense=1)


# ------------------------------------------------------------------------------------------------------ other threads


def test_in_another_thread(world, in_thread):
    outcomes = []
    thread = in_thread(lambda: outcomes.append(world.run(run("sh", "-c", "echo hi; exit 4"))))
    thread.join()
    assert outcomes == [(4, b"hi\n", b"")]


def test_two_loops_in_two_threads(world, in_thread):
    outcomes = []

    async def several():
        return [(await run("sh", "-c", f"exit {code}"))[0] for code in range(5)]

    threads = [in_thread(lambda: outcomes.append(world.run(several()))) for _ in range(2)]
    for thread in threads:
        thread.join()
    assert outcomes == [[0, 1, 2, 3, 4]] * 2


@pytest.mark.weft_only
async def test_a_closed_loop_starts_no_child(world):
    """Asked by another loop, which would wait for ever. asyncio raises the same, with a child and its pipes left behind."""
    closed = world.new_loop()
    closed.close()
    for start in (closed.subprocess_exec(Recorder, "true"), closed.subprocess_shell(Recorder, "true")):
        with pytest.raises(RuntimeError, match="^Event loop is closed$"):
            await start


@pytest.mark.weft_only
def test_a_loop_closed_over_a_running_child(world):
    """The child lives on, and is no zombie when it has ended."""
    read_end, write_end = os.pipe()
    loop = world.new_loop()
    try:
        process = loop.run_until_complete(asyncio.create_subprocess_exec("cat", stdin=read_end))
        popen = process._transport.get_extra_info("subprocess")
        loop.close()
        assert popen.poll() is None
    finally:
        os.close(read_end)
        os.close(write_end)
    assert popen.wait() == 0
    with pytest.raises(ChildProcessError):
        os.waitpid(popen.pid, 0)
    process._transport.close()
