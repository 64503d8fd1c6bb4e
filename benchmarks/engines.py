"""`python -m benchmarks.engines`: what a call through an executor costs beside the same without it, in CPU time.

Rules for whoever edits this file:

- A pair is measured in one process and one loop, in turns: a sample of ours, a sample of theirs, the order swapped from
  round to round. The ratio of a round pairs its two samples. All rounds count.
- CPU time is that of the whole process, its threads included. For Dask that is the client, with the scheduler and the
  worker in processes of their own: what they do is the same for both.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import weft
from benchmarks.stats import spread
from weft import bridge

Call = Callable[[], Awaitable[Any]]
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.SelectorEventLoop, "weft": weft.Loop}


@dataclass(frozen=True)
class Pair:
    """A row: our way and theirs to make one call.

    calls:       in one sample
    concurrent:  how many of them at once
    """

    title: str
    ours: Call
    theirs: Call
    calls: int
    concurrent: int


def _nothing() -> None:
    return None


async def _sample(call: Call, calls: int, concurrent: int) -> float:
    """CPU time of a call in ns."""
    gc.collect()
    begin = time.process_time_ns()
    if concurrent == 1:
        for _ in range(calls):
            await call()
    else:
        for _ in range(calls // concurrent):
            await asyncio.gather(*[call() for _ in range(concurrent)])
    return (time.process_time_ns() - begin) / calls


async def _measure(pair: Pair, rounds: int) -> tuple[list[float], list[float]]:
    ours: list[float] = []
    theirs: list[float] = []
    for number in range(-1, rounds):
        sides = [(pair.ours, ours), (pair.theirs, theirs)]
        for call, samples in sides if number % 2 else reversed(sides):
            took = await _sample(call, pair.calls, pair.concurrent)
            if number >= 0:  # The first round warms up.
                samples.append(took)
    return ours, theirs


async def _thread_pairs() -> AsyncIterator[Pair]:
    async with bridge.executor("threads") as ex:
        title = "ex.run on threads / asyncio.to_thread"
        yield Pair(title, lambda: ex.run(_nothing), lambda: asyncio.to_thread(_nothing), 2000, 1)


@contextmanager
def _cluster() -> Iterator[str]:
    """A scheduler and a worker, each a process of its own; the file that says where the scheduler is."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "scheduler.json")
        environment = os.environ | {"DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "critical"}
        words = ["--scheduler-file", str(file), "--no-dashboard", "--host", "127.0.0.1"]
        roles = {"scheduler": ["--port", "0"], "worker": ["--nthreads", "1", "--no-nanny"]}
        started: list[subprocess.Popen[bytes]] = []
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        try:
            for role, more in roles.items():
                command = [sys.executable, "-m", f"distributed.cli.dask_{role}", *words, *more]
                started.append(subprocess.Popen(command, env=environment, cwd=folder, **quiet))
            yield str(file)
        finally:
            for process in started:
                process.kill()
                process.wait()


async def _dask_pairs() -> AsyncIterator[Pair]:
    try:
        import distributed
    except ImportError:
        print("missing: distributed", file=sys.stderr)
        return
    async with AsyncExitStack() as stack:
        file = stack.enter_context(_cluster())
        client = await stack.enter_async_context(distributed.Client(scheduler_file=file, asynchronous=True, timeout=60))
        await client.wait_for_workers(1)
        ex = await stack.enter_async_context(bridge.executor("dask", client=client))

        async def theirs() -> Any:
            return await client.submit(_nothing, pure=False)

        for concurrent, calls in ((1, 100), (50, 200)):
            title = f"ex.run on Dask / Dask's own client, {concurrent} at once"
            yield Pair(title, lambda: ex.run(_nothing), theirs, calls, concurrent)


async def _run(loop: str, rounds: int, wanted: str) -> None:
    for pairs in (_thread_pairs(), _dask_pairs()):
        async for pair in pairs:
            if wanted not in pair.title:
                continue
            ours, theirs = await _measure(pair, rounds)
            ratio = spread([mine / other for mine, other in zip(ours, theirs, strict=True)])
            mine, other = spread(ours), spread(theirs)
            print(
                f"| {pair.title} | {loop} | {mine.median / 1000:.1f} | {other.median / 1000:.1f}"
                f" | {ratio.median:.2f} ({ratio.low:.2f}–{ratio.high:.2f}) |",
                flush=True,
            )


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.engines", description="Calls through an executor, and without."
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--loops", default=",".join(LOOPS), help="asyncio, weft, or both by a comma")
    parser.add_argument("--rows", default="", help="only rows whose title has this text")
    options = parser.parse_args()
    print("| call: ours / theirs | loop | ours, CPU µs | theirs, CPU µs | ours / theirs (95 % interval) |")
    print("|---|---|---|---|---|")
    for loop in options.loops.split(","):
        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run(_run(loop, options.rounds, options.rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
