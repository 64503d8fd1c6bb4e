"""`asyncify` and cancellation: what is entered is left, what is made is closed, and a time-out says where it stands."""

from __future__ import annotations

import asyncio
import threading

import pytest

from weft import bridge
from weft.bridge import asyncify


class Entered:
    """What is entered slowly."""

    def __init__(self):
        self.began, self.gate = threading.Event(), threading.Event()
        self.log = []

    def __enter__(self):
        self.began.set()
        assert self.gate.wait(10)
        self.log.append("enter")
        return self

    def __exit__(self, kind, error, trace):
        self.log.append(("exit", kind))

    def close(self):
        self.log.append("close")


@pytest.mark.parametrize("on_cancel", ["wait", "abandon"])
async def test_a_block_that_nobody_comes_into_is_left(world, on_cancel):
    """The task is cancelled while the thread enters: the thread enters, so somebody has to leave."""
    client = await asyncify(Entered, on_cancel=on_cancel)()
    entered = client._weft_object

    async def enter():
        async with client:
            pytest.fail("it must not come here")

    task = asyncio.create_task(enter())
    while not entered.began.is_set():
        await asyncio.sleep(0)
    task.cancel()
    if on_cancel == "abandon":
        with pytest.raises(asyncio.CancelledError):
            await task
        assert entered.log == []
    else:
        await asyncio.sleep(0)
        task.cancel()
    entered.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    while len(entered.log) < 2:
        await asyncio.sleep(0)
    assert entered.log == ["enter", ("exit", asyncio.CancelledError)]
    while bridge.abandoned():
        await asyncio.sleep(0)
    await client.close()
    assert entered.log[2:] == ["close"]


async def test_a_block_that_is_entered_just_when_its_task_is_cancelled(world):
    """The thread has entered and is gone, the task has not heard of it."""
    client = await asyncify(Entered)()
    entered = client._weft_object
    entered.gate.set()

    async def enter():
        async with client:
            pytest.fail("it must not come here")

    task = asyncio.create_task(enter())
    while not (jobs := list(client._weft_client.threads._running)):
        await asyncio.sleep(0)
    # The loop does not turn meanwhile.
    assert entered.began.wait(10)
    while not jobs[0].is_done:
        threading.Event().wait(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert entered.log == ["enter", ("exit", asyncio.CancelledError)]
    await client.close()


async def test_a_client_whose_making_is_cancelled_is_closed(world):
    began, gate = threading.Event(), threading.Event()
    log = []

    class Slow:
        def __init__(self):
            began.set()
            assert gate.wait(10)
            log.append("made")

        def close(self):
            log.append("closed")

    async def use():
        async with asyncify(Slow, one_thread=True)():
            pytest.fail("it must not come here")

    task = asyncio.create_task(use())
    while not began.is_set():
        await asyncio.sleep(0)
    task.cancel()
    # The thread is asked to end before it has made anything.
    for _ in range(5):
        await asyncio.sleep(0)
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == ["made", "closed"]


async def test_the_block_is_left_however_often_it_is_cancelled(world):
    """Leaving waits for its turn behind a call that holds the only thread."""
    gate = threading.Event()
    log = []

    class Held:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            log.append("exit")

        def hold(self):
            gate.wait(10)

    client = await asyncify(Held, threads=1)()
    in_block = asyncio.Event()

    async def use():
        async with client:
            in_block.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(use())
    await in_block.wait()
    holding = asyncio.create_task(client.hold())
    await asyncio.sleep(0)
    for _ in range(5):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == ["exit"]
    await holding
    await client.aclose()


async def test_a_call_that_takes_too_long_says_so(world):
    gate = threading.Event()

    class Slow:
        def work(self):
            gate.wait(10)

    client = await asyncify(Slow, timeout=0.01)()
    with pytest.raises(bridge.StillRunning, match=r"Slow.work> is still running after 0.01 s") as caught:
        await client.work()
    assert "threading.py" in caught.value.where
    gate.set()
    while bridge.abandoned():
        await asyncio.sleep(0)
    await client.aclose()
