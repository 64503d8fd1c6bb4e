"""Signals: handlers with asyncio's rules and words, a blocked poll that any signal wakes, the process's wake-up fd."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap

import pytest
from worlds import turns


def wakeup_fd():
    """The process's wake-up fd (it can only be asked by setting it)."""
    fd = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(fd)
    return fd


@pytest.fixture(autouse=True)
def process_state():
    """Each test leaves the signals of the process as it found them."""
    before = {sig: signal.getsignal(sig) for sig in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)}
    yield
    after = {sig: signal.getsignal(sig) for sig in before}
    fd = wakeup_fd()
    for sig, action in before.items():
        signal.signal(sig, action)
    signal.set_wakeup_fd(-1)
    assert (after, fd) == (before, -1)


# -- add_signal_handler --


async def test_handler_is_called_in_the_loop(world):
    loop = asyncio.get_running_loop()
    came = loop.create_future()
    loop.add_signal_handler(signal.SIGUSR1, came.set_result, "usr1")
    os.kill(os.getpid(), signal.SIGUSR1)
    assert await came == "usr1"
    assert loop.remove_signal_handler(signal.SIGUSR1) is True
    assert loop.remove_signal_handler(signal.SIGUSR1) is False


async def test_a_signal_from_another_thread_wakes_a_blocked_loop(world, in_thread):
    loop = asyncio.get_running_loop()
    came = loop.create_future()
    loop.add_signal_handler(signal.SIGUSR1, came.set_result, None)
    in_thread(os.kill, os.getpid(), signal.SIGUSR1)
    await came
    loop.remove_signal_handler(signal.SIGUSR1)


async def test_a_second_handler_replaces_the_first(world):
    loop = asyncio.get_running_loop()
    came = loop.create_future()
    loop.add_signal_handler(signal.SIGUSR1, came.set_result, "first")
    loop.add_signal_handler(signal.SIGUSR1, came.set_result, "second")
    os.kill(os.getpid(), signal.SIGUSR1)
    assert await came == "second"
    loop.remove_signal_handler(signal.SIGUSR1)


async def test_an_error_in_a_handler_is_reported(world):
    loop = asyncio.get_running_loop()
    came = loop.create_future()

    def fail():
        came.set_result(None)
        raise KeyError("in handler")

    loop.add_signal_handler(signal.SIGUSR1, fail)
    os.kill(os.getpid(), signal.SIGUSR1)
    await came
    (report,) = world.take_reports()
    assert isinstance(report["exception"], KeyError)
    loop.remove_signal_handler(signal.SIGUSR1)


def test_a_signal_between_two_runs_is_handled_in_the_second(world, loop):
    seen = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, 1)
    os.kill(os.getpid(), signal.SIGUSR1)
    loop.run_until_complete(turns(3))
    assert seen == [1]
    loop.remove_signal_handler(signal.SIGUSR1)


def test_close_takes_the_handlers_back(world):
    loop = world.new_loop()
    before = signal.getsignal(signal.SIGUSR1)
    loop.add_signal_handler(signal.SIGINT, print)
    loop.add_signal_handler(signal.SIGUSR1, print)
    loop.close()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGUSR1) is before
    assert wakeup_fd() == -1


@pytest.mark.parametrize(
    ("sig", "error", "words"),
    [
        ("INT", TypeError, "^sig must be an int, not 'INT'$"),
        (signal.NSIG + 1, ValueError, f"^invalid signal number {signal.NSIG + 1}$"),
        (-1, ValueError, "^invalid signal number -1$"),
        (signal.SIGKILL, RuntimeError, f"^sig {int(signal.SIGKILL)} cannot be caught$"),
    ],
)
def test_signals_that_cannot_be_handled(world, loop, sig, error, words):
    with pytest.raises(error, match=words):
        loop.add_signal_handler(sig, print)
    assert loop._signal_handlers == {}


def test_coroutines_are_refused(world, loop):
    async def handler():
        pass

    with pytest.raises(TypeError, match=r"^coroutines cannot be used with add_signal_handler\(\)$"):
        loop.add_signal_handler(signal.SIGUSR1, handler)
    coro = handler()
    with pytest.raises(TypeError, match=r"^coroutines cannot be used with add_signal_handler\(\)$"):
        loop.add_signal_handler(signal.SIGUSR1, coro)
    coro.close()


def test_only_in_the_main_thread(world, loop, in_thread):
    errors = []

    def add():
        try:
            loop.add_signal_handler(signal.SIGUSR1, print)
        except RuntimeError as exc:
            errors.append(str(exc))

    in_thread(add).join()
    assert errors and "only works in main thread" in errors[0]


def test_closed_loop(world):
    loop = world.new_loop()
    loop.close()
    with pytest.raises(RuntimeError, match=r"^Event loop is closed$"):
        loop.add_signal_handler(signal.SIGUSR1, print)


# -- the wake-up fd --


@pytest.mark.weft_only
async def test_ours_while_the_loop_runs(world):
    assert wakeup_fd() != -1


@pytest.mark.weft_only
def test_given_back_when_the_loop_stops(world, loop):
    loop.run_until_complete(turns())
    assert wakeup_fd() == -1


@pytest.mark.weft_only
def test_another_s_is_left_alone(world, loop):
    left, right = socket.socketpair()
    with left, right:
        right.setblocking(False)
        signal.set_wakeup_fd(right.fileno())

        async def main():
            return wakeup_fd()

        assert loop.run_until_complete(main()) == right.fileno()
        assert wakeup_fd() == right.fileno()
        signal.set_wakeup_fd(-1)


@pytest.mark.weft_only
def test_another_s_comes_back_after_the_last_handler(world, loop):
    left, right = socket.socketpair()
    with left, right:
        right.setblocking(False)
        signal.set_wakeup_fd(right.fileno())
        loop.add_signal_handler(signal.SIGUSR1, print)
        loop.add_signal_handler(signal.SIGUSR2, print)
        assert wakeup_fd() not in (-1, right.fileno())
        loop.remove_signal_handler(signal.SIGUSR1)
        assert wakeup_fd() not in (-1, right.fileno())
        loop.remove_signal_handler(signal.SIGUSR2)
        assert wakeup_fd() == right.fileno()
        signal.set_wakeup_fd(-1)


@pytest.mark.weft_only
def test_one_set_meanwhile_stays(world, loop):
    left, right = socket.socketpair()
    with left, right:
        right.setblocking(False)

        async def main():
            signal.set_wakeup_fd(right.fileno())

        loop.run_until_complete(main())
        assert wakeup_fd() == right.fileno()
        signal.set_wakeup_fd(-1)


def test_a_loop_of_another_thread_leaves_it_alone(world, in_thread):
    seen = []

    def run():
        loop = world.new_loop()
        loop.run_until_complete(turns())
        loop.close()
        seen.append("ran")

    in_thread(run).join()
    assert seen == ["ran"]


# -- Ctrl-C, in a process of its own --


def interrupted(code, *, times=1):
    """Run a program that prints `ready`, send it SIGINT, and give its exit code and output."""
    program = subprocess.Popen(
        [sys.executable, "-u", "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    with program:
        for _ in range(times):
            line = program.stdout.readline()
            assert line == "ready\n", line + program.stderr.read()
            program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=20)
    return program.returncode, out, err


@pytest.mark.parametrize("world_name", ["epoll", "selector"])
def test_one_interrupt_cancels_the_main_task(world_name):
    code, out, err = interrupted(
        f"""
        import asyncio, weft
        async def main():
            print("ready")
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                print("cancelled")
                raise
        with weft.Runner(loop_factory=lambda: weft.Loop(poller={world_name!r})) as runner:
            runner.run(main())
        """
    )
    assert out == "cancelled\n"
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert code == -signal.SIGINT


@pytest.mark.parametrize("world_name", ["epoll", "selector"])
def test_one_interrupt_is_enough_while_a_thread_takes_the_signal(world_name):
    """The kernel may give the signal to any thread: then nothing interrupts the poll but the wake-up fd."""
    code, out, _ = interrupted(
        f"""
        import asyncio, signal, threading, weft
        async def main():
            # Only the other thread can take it now.
            threading.Thread(target=threading.Event().wait, args=(10,), daemon=True).start()
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
            asyncio.get_running_loop().call_later(0.05, print, "ready")
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                print("cancelled")
        with weft.Runner(loop_factory=lambda: weft.Loop(poller={world_name!r})) as runner:
            runner.run(main())
        """
    )
    assert (code, out) == (0, "cancelled\n")


def test_a_second_interrupt_interrupts():
    code, _, err = interrupted(
        """
        import asyncio, weft
        async def main():
            print("ready")
            try:
                await asyncio.sleep(60)
            finally:
                print("ready")
                await asyncio.sleep(60)
        weft.run(main())
        """,
        times=2,
    )
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert code == -signal.SIGINT


def test_an_interrupt_ends_run_forever():
    code, _, err = interrupted(
        """
        import weft
        loop = weft.Loop()
        loop.call_soon(print, "ready")
        try:
            loop.run_forever()
        finally:
            loop.close()
        """
    )
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert code == -signal.SIGINT


# -- under load, and beside Python's own handlers --


async def test_a_storm(world):
    """Ten thousand signals: the loop stays alive, runs other things meanwhile, and the last is not lost."""
    loop = asyncio.get_running_loop()
    seen, other = [0], [0]

    def count():
        seen[0] += 1

    loop.add_signal_handler(signal.SIGUSR1, count)
    for number in range(10_000):
        os.kill(os.getpid(), signal.SIGUSR1)
        if number % 100 == 0:
            loop.call_soon(other.__setitem__, 0, number)
            await turns()
    last = loop.create_future()
    loop.add_signal_handler(signal.SIGUSR2, last.set_result, None)
    os.kill(os.getpid(), signal.SIGUSR2)
    await last
    await turns(2)
    assert other == [9_900]
    # One kind of signal that comes again before Python looked is one.
    assert 100 <= seen[0] <= 10_000
    loop.remove_signal_handler(signal.SIGUSR1)
    loop.remove_signal_handler(signal.SIGUSR2)


@pytest.mark.weft_only
async def test_a_storm_from_a_thread(world, in_thread, capfd):
    """More than the socket of the wake-up fd holds, while the loop is busy: the signal after it is not lost.

    asyncio never hears of it, and Python says so on stderr for each.
    """
    loop, seen = asyncio.get_running_loop(), []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, 1)

    def storm():
        for _ in range(10_000):
            os.kill(os.getpid(), signal.SIGUSR1)

    in_thread(storm).join()
    ended = loop.create_future()
    loop.add_signal_handler(signal.SIGUSR2, ended.set_result, None)
    os.kill(os.getpid(), signal.SIGUSR2)
    await ended
    await turns(2)
    assert seen
    assert capfd.readouterr().err == ""
    loop.remove_signal_handler(signal.SIGUSR1)
    loop.remove_signal_handler(signal.SIGUSR2)


async def test_a_handler_removed_while_it_is_pending(world):
    """The signal came, its handler is scheduled, and is taken back by a callback before it."""
    loop, seen = asyncio.get_running_loop(), []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, 1)
    os.kill(os.getpid(), signal.SIGUSR1)
    assert loop.remove_signal_handler(signal.SIGUSR1)
    await turns(4)
    assert seen == []


async def test_a_cancelled_handler_does_not_run(world):
    loop, seen = asyncio.get_running_loop(), []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, 1)
    loop._signal_handlers[signal.SIGUSR1].cancel()
    os.kill(os.getpid(), signal.SIGUSR1)
    await turns(4)
    assert seen == []
    assert signal.SIGUSR1 not in loop._signal_handlers


async def test_python_s_own_handler_runs_while_the_loop_blocks(world, in_thread):
    """`signal.signal` has nothing to do with the loop; yet the loop must not sleep through the signal."""
    loop = asyncio.get_running_loop()
    came = loop.create_future()
    before = signal.signal(signal.SIGUSR1, lambda number, frame: came.set_result(number))
    try:
        in_thread(os.kill, os.getpid(), signal.SIGUSR1)
        # Only this thread's handler ends it: a loop that blocks until something else happens would hang.
        while not came.done():
            await asyncio.wait([came], timeout=0.05)
        assert await came == signal.SIGUSR1
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_remove_has_the_words_of_add(world, loop):
    with pytest.raises(TypeError, match="^sig must be an int, not 'INT'$"):
        loop.remove_signal_handler("INT")
    with pytest.raises(ValueError, match=f"^invalid signal number {signal.NSIG + 1}$"):
        loop.remove_signal_handler(signal.NSIG + 1)
    assert loop.remove_signal_handler(signal.SIGKILL) is False
