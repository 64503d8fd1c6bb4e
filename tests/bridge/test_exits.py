"""The end of the interpreter: no bridge keeps it from coming, whatever runs; and Ctrl-C. In processes of their own."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

LOOPS = {"weft": "weft.run", "asyncio": "asyncio.run"}

HEAD = """
import asyncio, os, signal, sys, threading
import weft
from weft import bridge

def stuck(began=None):
    if began:
        began.set()
    threading.Event().wait()
"""

# Each leaves something running that never ends by itself, and comes to its last line.
LEFT = {
    "an abandoned call": """
        async def main():
            threads, began = bridge.Threads(on_cancel="abandon"), threading.Event()
            task = asyncio.create_task(threads.run(stuck, began))
            while not began.is_set():
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            print(len(bridge.abandoned()), "abandoned")
        run(main())
    """,
    "a call over its time": """
        async def main():
            try:
                await bridge.Threads(timeout=0.01).run(stuck)
            except TimeoutError:
                print(len(bridge.abandoned()), "abandoned")
        run(main())
    """,
    "a thread of its own": """
        async def main():
            one = bridge.OneThread("mine", on_cancel="abandon")
            began = threading.Event()
            task = asyncio.create_task(one.run(stuck, began))
            while not began.is_set():
                await asyncio.sleep(0)
            print(1, "abandoned")
        run(main())
    """,
    "a portal that nobody closed": """
        portal = bridge.Portal(loop_factory=factory)
        portal.start(asyncio.sleep, 1000)
        portal.call(asyncio.sleep, 0)
        print(1, "abandoned")
    """,
    "a thread that waits for a portal": """
        portal = bridge.Portal(loop_factory=factory)
        began = threading.Event()
        async def wait():
            began.set()
            await asyncio.sleep(1000)
        threading.Thread(target=portal.call, args=(wait,), daemon=True).start()
        began.wait()
        print(1, "abandoned")
    """,
    "a source that blocks": """
        def source():
            yield 1
            stuck()
        async def main():
            items = bridge.iterate(source(), threads=bridge.Threads(on_cancel="abandon"))
            print(await anext(items), "abandoned")
        run(main())
    """,
    "an iterator left at the last moment": """
        def source():
            while True:
                yield 1
        async def main():
            async for item in bridge.iterate(source()):
                print(item, "abandoned")
                break
        run(main())
    """,
    "an async iterator left at the last moment": """
        async def source():
            while True:
                yield 1
        portal = bridge.Portal(loop_factory=factory)
        for item in portal.iterate(source()):
            print(item, "abandoned")
            break
    """,
}


def run(program, loop="weft"):
    code = textwrap.dedent(HEAD) + f"run, factory = {LOOPS[loop]}, "
    code += "None\n" if loop == "weft" else "asyncio.SelectorEventLoop\n"
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code + textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.slow_test(60)
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("what", LEFT)
def test_the_exit_waits_for_nothing(what, loop):
    done = run(LEFT[what], loop)
    assert (done.stdout, done.stderr, done.returncode) == ("1 abandoned\n", "", 0)


CTRL_C = """
async def work():
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        await asyncio.sleep(1000)
    finally:
        await asyncio.sleep(0)
        print("cleaned up", flush=True)

async def items():
    await work()
    yield 1

class Manager:
    __aenter__ = staticmethod(work)
    async def __aexit__(self, *exc_info):
        print("not reached")

try:
    with bridge.Portal(loop_factory=factory) as portal:
        USE
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.slow_test(60)
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    "use",
    [
        "portal.call(work)",
        "portal.start(work).result()",
        "next(portal.iterate(items()))",
        "portal.enter(Manager()).__enter__()",
        "portal.call(bridge.to_thread, bridge.call_async, work)",
    ],
)
def test_one_ctrl_c_ends_both(use, loop):
    done = run(CTRL_C.replace("USE", use), loop)
    assert (done.stdout, done.stderr, done.returncode) == ("cleaned up\ninterrupted\n", "", 0)


@pytest.mark.slow_test(60)
@pytest.mark.parametrize("loop", LOOPS)
def test_ctrl_c_in_a_loop_that_waits_for_a_call(loop):
    """The call is asked to end, and waited for."""
    program = """
    def call():
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            bridge.sleep(1000)
        finally:
            print("cleaned up", flush=True)
    try:
        run(bridge.to_thread(call))
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    """
    done = run(program, loop)
    assert (done.stdout, done.stderr, done.returncode) == ("cleaned up\ninterrupted\n", "", 0)


@pytest.mark.slow_test(60)
def test_a_portal_in_a_forked_child_says_so():
    program = """
    import warnings
    warnings.simplefilter("ignore")
    portal = bridge.Portal()
    portal.call(asyncio.sleep, 0)
    if os.fork() == 0:
        try:
            portal.call(asyncio.sleep, 0)
        except bridge.Closed as error:
            print(error, flush=True)
        os._exit(0)
    os.wait()
    portal.close()
    """
    done = run(program)
    assert done.stdout.endswith("has lost its thread, to a fork or an exit in it: make another one\n"), done.stderr
