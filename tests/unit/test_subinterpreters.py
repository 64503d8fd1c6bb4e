"""In a subinterpreter Weft is plain by itself, and everything runs that asyncio's loop runs there."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import asyncio
import weft

async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.close()
    await writer.wait_closed()
    server.close()
    await asyncio.sleep(0.001)
    if HAS_THREADS:
        assert await loop.run_in_executor(None, int) == 0
    return type(loop).__module__

assert weft.run(main()) == "weft.loop"
assert weft._edition.EDITION == "plain", weft._edition.EDITION
"""

# The kinds of interpreter that `create` knows, as its arguments.
KINDS = ["'isolated'", "'legacy'"] if sys.version_info >= (3, 13) else ["isolated=True", "isolated=False"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_program_runs(kind: str) -> None:
    module = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
    pytest.importorskip(module)
    # CPython 3.11 lets an isolated interpreter start none.
    has_threads = sys.version_info >= (3, 12) or kind == KINDS[1]
    program = f"""
import os
import {module} as interpreters
import weft  # the main interpreter's edition is its own affair
before = weft._edition.EDITION
which = interpreters.create({kind})
failure = interpreters.run_string(which, {f"HAS_THREADS = {has_threads}" + PROGRAM!r})
assert failure is None, failure
assert weft._edition.EDITION == before
interpreters.destroy(which)
print("done", flush=True)
os._exit(0)  # CPython 3.12.1 itself aborts at its end after a legacy interpreter has imported asyncio
"""
    done = subprocess.run([sys.executable, "-c", program], text=True, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
