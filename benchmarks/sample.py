"""One sample, in the process under measure: `python -m benchmarks.sample ROW SUBJECT NAMES BUDGET_MS` prints JSON.

An I/O row serves until told to stop: it prints its address, and answers each `usage` on standard input by its CPU time.
`python -m benchmarks.sample --probe SUBJECT [NAME ...]` says what would be measured.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.rows import ROWS, Row
from benchmarks.servers import SERVERS, Server
from benchmarks.subjects import SUBJECTS, loop_factory, names_module, probe

# A row is warmed up, by growing runs, until one run takes this part of the budget; that run also tells how many
# operations fill the budget.
_WARM_UP_PART = 0.25


def _peak_rss_bytes() -> int:
    # Not ru_maxrss where it can be helped: Linux lets a child start from the peak of the process that spawned it.
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    raise ValueError("/proc/self/status has no VmHWM")


def _say(facts: dict[str, Any]) -> None:
    print(json.dumps(facts), flush=True)


async def _measure(row: Row, names: ModuleType, budget_ns: int) -> dict[str, Any]:
    """CPU time of the whole process, over one run of as many operations as fill the budget."""
    loop = asyncio.get_running_loop()

    async def timed(n: int) -> int:
        begin = time.process_time_ns()
        await loop.create_task(row.run(names, n))
        return time.process_time_ns() - begin

    n = row.batch
    while (took := await timed(n)) < budget_ns * _WARM_UP_PART:
        n *= 4 if took * 8 < budget_ns * _WARM_UP_PART else 2
    n = max(1, round(n * budget_ns / took / row.batch)) * row.batch
    gc.collect()
    wall = time.perf_counter_ns()
    took = await timed(n)
    wall = time.perf_counter_ns() - wall
    return {"operations": n, "cpu_ns": took, "wall_ns": wall}


async def _serve(server: Server, names: ModuleType) -> None:
    """Serve until standard input says stop. The thread that reads it sleeps in the kernel while load is on."""
    # glibc serves blocks of 256 KiB, the receive buffer of asyncio and rloop, by a mmap each until the program has once
    # freed a larger one. A real program has, sooner or later; a bare echo server has not, and would count 20 µs a
    # message against them.
    block = bytes(1 << 20)
    del block
    with tempfile.TemporaryDirectory(prefix="weft-") as folder:
        await _serve_in(folder, server, names)


async def _serve_in(folder: str, server: Server, names: ModuleType) -> None:
    loop = asyncio.get_running_loop()
    stopped = loop.create_future()
    listening, host, port = await server.start(names, server.size_bytes, folder)
    _say({"host": host, "port": port})

    def answer() -> None:
        for line in sys.stdin:
            if line.strip() == "usage":
                _say({"cpu_ns": time.process_time_ns(), "peak_rss_bytes": _peak_rss_bytes()})
            else:
                break
        loop.call_soon_threadsafe(stopped.set_result, None)

    threading.Thread(target=answer, daemon=True).start()
    await stopped
    listening.close()


def main(arguments: list[str]) -> int:
    if arguments[0] == "--probe":
        _say(probe(SUBJECTS[arguments[1]], tuple(arguments[2:])))
        return 0
    row_name, subject_name, names_name, budget_ms = arguments
    factory = loop_factory(SUBJECTS[subject_name])
    row = next((row for row in ROWS if row.name == row_name), None)
    if row is not None:
        names = names_module(names_name, row.own)
        facts = asyncio.Runner(loop_factory=factory).run(_measure(row, names, round(float(budget_ms) * 1e6)))
        _say(facts | {"peak_rss_bytes": _peak_rss_bytes()})
        return 0
    server = next(server for server in SERVERS if server.name == row_name)
    asyncio.Runner(loop_factory=factory).run(_serve(server, names_module(names_name, server.own)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
