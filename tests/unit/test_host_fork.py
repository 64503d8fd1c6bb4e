"""A forked child: the loop it inherits is closed to use and says so; the parent's loop goes on undisturbed."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import socket
import traceback

import pytest
from worlds import turns

import weft
from weft._host import registry

pytestmark = [
    pytest.mark.weft_only,
    # Python 3.12 and later warn of a fork while there are threads; the tests here mean it.
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]


def in_child(body):
    """Fork, run `body()` in the child, and give the strings it returned; the child never returns to the test."""
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            lines = [str(line) for line in body()]
        except BaseException:
            lines = ["failed", traceback.format_exc()]
        os.write(into, "\0".join(lines).encode())
        os._exit(0)
    os.close(into)
    with open(out, encoding="utf-8") as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    return answer.split("\0")


def refusals(*calls):
    """What each call says when it refuses."""
    for call in calls:
        try:
            call()
        except RuntimeError as exc:
            yield str(exc)
        else:
            yield "went through"


def is_refusal(text):
    return f"belongs to process {os.getpid()}" in text and "make a new one" in text


def test_every_use_of_the_loop_says_so(world, loop):
    left, right = socket.socketpair()

    def body():
        return refusals(
            lambda: loop.call_soon(print),
            lambda: loop.call_soon_threadsafe(print),
            lambda: loop.call_later(1, print),
            lambda: loop.call_at(1, print),
            lambda: loop.run_forever(),
            lambda: loop.add_reader(left, print),
            lambda: loop.add_signal_handler(signal.SIGUSR1, print),
            lambda: loop.run_in_executor(None, print),
        )

    with left, right:
        answers = in_child(body)
    assert len(answers) == 8
    for answer in answers:
        assert is_refusal(answer), answer


def test_state_of_the_lost_loop(world, loop):
    def body():
        loop.close()
        return loop.is_closed(), loop.is_running(), registry.live()

    assert in_child(body) == ["True", "False", "[]"]


async def test_inside_a_running_loop(world):
    loop = asyncio.get_running_loop()

    def body():
        return loop.is_running(), asyncio._get_running_loop(), *refusals(lambda: loop.call_soon(print))

    running, current, refusal = in_child(body)
    assert (running, current) == ("False", "None")
    assert is_refusal(refusal)


def test_a_child_that_returns_into_the_loop_is_thrown_out(world, loop):
    out, into = os.pipe()
    parent = os.getpid()
    again = []

    def callback():
        if os.fork() == 0:
            return
        loop.stop()

    loop.call_soon(callback)
    loop.call_soon(again.append, "next")
    try:
        loop.run_forever()
    except RuntimeError as exc:
        if os.getpid() != parent:
            os.write(into, f"{again} {exc}".encode())
            os._exit(0)
        raise
    finally:
        if os.getpid() != parent:
            os._exit(1)
    os.close(into)
    with open(out, encoding="utf-8") as pipe:
        answer = pipe.read()
    os.wait()
    assert answer.startswith("[]") and is_refusal(answer)


async def test_a_child_can_run_a_loop_of_its_own(world):
    async def main():
        await turns(3)
        return await asyncio.get_running_loop().run_in_executor(None, os.getpid) == os.getpid()

    assert in_child(lambda: [weft.run(main())]) == ["True"]


async def test_the_parent_s_readers_survive_the_child(world):
    """The child drops its reader and closes the loop: with a shared epoll set the parent would hear nothing more."""
    loop = asyncio.get_running_loop()
    left, right = socket.socketpair()
    came = loop.create_future()

    def body():
        loop._remove_reader(left)
        loop.close()
        left.close()
        return ["done"]

    with left, right:
        loop.add_reader(left, came.set_result, None)
        assert in_child(body) == ["done"]
        right.send(b"x")
        await came
        loop.remove_reader(left)


async def test_the_parent_s_signals_are_not_the_child_s(world):
    loop = asyncio.get_running_loop()
    seen = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, 1)

    def body():
        action = signal.getsignal(signal.SIGUSR1)
        signal.signal(signal.SIGUSR1, lambda *_: None)
        os.kill(os.getpid(), signal.SIGUSR1)
        return [action == signal.SIG_DFL]

    assert in_child(body) == ["True"]
    await turns(3)
    assert seen == []
    loop.remove_signal_handler(signal.SIGUSR1)


async def test_the_executor_s_threads_are_not_waited_for(world):
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, int)

    def body():
        loop.close()
        return [loop._default_executor]

    assert in_child(body) == ["None"]


def _child_of_multiprocessing(queue):
    async def main():
        await turns(2)
        return os.getpid()

    queue.put(weft.run(main()))


@pytest.mark.leaky("multiprocessing keeps a process, and a pipe to it, that tracks resources")
@pytest.mark.parametrize("method", ["fork", "spawn"])
async def test_multiprocessing(world, method):
    context = multiprocessing.get_context(method)
    queue = context.SimpleQueue()
    process = context.Process(target=_child_of_multiprocessing, args=(queue,))
    process.start()
    pid = await asyncio.get_running_loop().run_in_executor(None, queue.get)
    await asyncio.get_running_loop().run_in_executor(None, process.join)
    assert pid == process.pid
    assert process.exitcode == 0
    process.close()
    queue.close()
