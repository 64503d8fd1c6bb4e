"""Many children at once: every exit code right, every byte delivered, no descriptor, thread or zombie left."""

from __future__ import annotations

import asyncio
import os

import leaks
import pytest

PIPE = asyncio.subprocess.PIPE


def threads():
    return len(os.listdir("/proc/self/task"))


@pytest.fixture
def nothing_left():
    """Call it at the end."""
    count = threads()

    def check(loop_fds):
        with pytest.raises(ChildProcessError):
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        while threads() > count:  # a thread that was told to end
            os.sched_yield()
        assert leaks.open_fds() == loop_fds

    return check


@pytest.mark.slow_test(60)
@pytest.mark.parametrize("way", ["pidfd", "thread"])
@pytest.mark.weft_only
async def test_five_hundred_at_once(world, monkeypatch, way, nothing_left):
    from weft._net.process import watch

    if way == "thread":
        monkeypatch.setattr(watch, "_has_pidfds", False)
    fds = leaks.open_fds()

    async def one(number):
        process = await asyncio.create_subprocess_exec("sh", "-c", f"exit {number % 256}")
        return await process.wait()

    assert await asyncio.gather(*map(one, range(500))) == [number % 256 for number in range(500)]
    nothing_left(fds)


@pytest.mark.slow_test(60)
@pytest.mark.weft_only
async def test_many_that_talk(world, nothing_left):
    fds = leaks.open_fds()

    async def one(number):
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        data = bytes([number % 256]) * 100_000
        out, _ = await process.communicate(data)
        assert out == data
        return process.returncode

    for _ in range(4):
        assert await asyncio.gather(*map(one, range(25))) == [0] * 25
    await asyncio.sleep(0)
    nothing_left(fds)


@pytest.mark.slow_test(60)
@pytest.mark.weft_only
async def test_cancelled_at_any_point(world, nothing_left):
    """Tasks are cancelled after more and more turns: none leaves anything behind."""
    fds = leaks.open_fds()

    async def one():
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        try:
            await process.communicate(b"x" * 100_000)
        finally:
            process._transport.close()
            await process.wait()

    for turns in range(60):
        task = asyncio.ensure_future(one())
        for _ in range(turns * turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() or task.exception() is None
    for _ in range(5):
        await asyncio.sleep(0)
    nothing_left(fds)
