"""The Ray engine, on a Ray of this machine; where Ray is installed, which it needs a wheel for."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading

import cloudpickle
import pytest

from weft import bridge

ray = pytest.importorskip("ray", reason="ray is missing: pip install 'weft[ray]'")

cloudpickle.register_pickle_by_value(sys.modules[__name__])

pytestmark = [
    pytest.mark.leaky("Ray keeps threads, sockets and log files of its own in the process until it exits"),
    pytest.mark.slow_test(100),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # of those files and sockets
    pytest.mark.filterwarnings("ignore:.*:FutureWarning"),  # of ray.init, which speaks of its next version
]


def fail():
    raise KeyError("lost")


def wait(began):
    with open(began, "w"):
        pass
    while True:
        threading.Event().wait(0.01)


async def test_the_whole_surface(world, tmp_path):
    """In one test: to start Ray takes seconds."""
    began = tmp_path / "began"
    async with bridge.executor("ray", workers=2) as ex:
        assert ex.workers == 2
        assert await ex.run(lambda *args, **kwargs: (args, kwargs), 1, function=2) == ((1,), {"function": 2})
        with pytest.raises(KeyError, match="lost"):
            await ex.run(fail)
        with pytest.raises(bridge.NotPicklable, match="argument 1 of .*len.* can't be sent"):
            await ex.run(len, threading.Lock())
        with pytest.raises(bridge.NotPicklable, match="the result of .* can't be sent back"):
            await ex.run(threading.Lock)
        with pytest.raises(bridge.WorkerDied, match="was given up"):
            await ex.run(lambda: os.kill(os.getpid(), signal.SIGKILL))
        assert [each async for each in ex.map(abs, range(-20, 0), bound=5)] == list(range(20, 0, -1))
        running = asyncio.create_task(ex.run(wait, str(began)))
        while not began.exists():
            await asyncio.sleep(0.001)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await ex.run(abs, -1) == 1
    assert not ray.is_initialized()
    with pytest.raises(bridge.Closed):
        await ex.run(abs, -1)
