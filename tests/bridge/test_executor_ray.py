"""The Ray engine, on a Ray of this machine, which is an environment of its own: Ray is large."""

from __future__ import annotations

import pytest
from environments import call, python_with, with_weft

# In a process of its own: Ray keeps threads, sockets and log files until its process exits, and ends it when it
# misses a service of its own.
PROGRAM = """
import asyncio, os, signal, sys, threading, time

import weft
from weft import bridge


def fail():
    raise KeyError("lost")


def wait(began):
    open(began, "w").close()
    while True:
        time.sleep(0.01)


def raises(kind, words, error):
    assert isinstance(error, kind) and words in str(error), repr(error)


async def main():
    async with bridge.executor("ray", workers=2) as ex:
        assert ex.workers == 2
        assert await ex.run(lambda *args, **kwargs: (args, kwargs), 1, function=2) == ((1,), {"function": 2})
        assert [each async for each in ex.map(abs, range(-20, 0), bound=5)] == list(range(20, 0, -1))
        calls = [
            (KeyError, "lost", fail, ()),
            (bridge.NotPicklable, "argument 1 of", len, (threading.Lock(),)),
            (bridge.NotPicklable, "the result of", threading.Lock, ()),
            (bridge.WorkerDied, "was given up", lambda: os.kill(os.getpid(), signal.SIGKILL), ()),
        ]
        for kind, words, function, args in calls:
            try:
                await ex.run(function, *args)
            except Exception as error:
                raises(kind, words, error)
            else:
                raise AssertionError(kind)
        began = os.path.join(sys.argv[2], "began")
        running = asyncio.create_task(ex.run(wait, began))
        while not os.path.exists(began):
            await asyncio.sleep(0.001)
        running.cancel()
        outcomes = await asyncio.gather(running, return_exceptions=True)
        raises(asyncio.CancelledError, "", outcomes[0])
        assert await ex.run(abs, -1) == 1
    import ray

    assert not ray.is_initialized()
    print("all of it")


if __name__ == "__main__":
    (weft if sys.argv[1] == "weft" else asyncio).run(main())
"""


@pytest.mark.slow_test(240)
@pytest.mark.parametrize("loop", ["asyncio", "weft"])
def test_the_whole_surface(loop, tmp_path):
    python = python_with("ray", ["ray>=2.9", "cloudpickle>=3"])
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    done = call([str(python), str(program), loop, str(tmp_path)], env=with_weft(tmp_path), timeout=200)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "all of it", done.stdout + done.stderr
