"""`python -m examples`: the example services on asyncio and on Weft, under HTTP load, ending in a table.

Exit code 0 only if every answer was right, and every service started, ran on the loop it was meant to run on, and stopped.
Runs alternate between asyncio and Weft, and the table shows medians: so what else the machine does falls on both.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import get_args

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from examples.load import Load, Result
from examples.server import HOST, SERVICES, LoopName, ServiceError, running

WARM_UP_SECONDS = 0.4
LOOPS: tuple[LoopName, ...] = get_args(LoopName)


@dataclass(frozen=True)
class Measurement:
    """One run of one service on one loop."""

    result: Result
    cpu_seconds: float

    @property
    def requests_per_second(self) -> float:
        return self.result.requests / self.result.seconds

    @property
    def cpu_per_request(self) -> float:
        return self.cpu_seconds / max(1, self.result.requests)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m examples", description="The examples on asyncio and on Weft, under load."
    )
    parser.add_argument("--seconds", type=_seconds, default=1.5, help="of measured load a run (default 1.5)")
    parser.add_argument("--connections", type=_count, default=64, help="kept busy at once (default 64)")
    parser.add_argument("--repeats", type=_count, default=3, help="runs of a service on a loop (default 3)")
    parser.add_argument("--service", choices=SERVICES, help="only this one")
    options = parser.parse_args(arguments)
    services = [options.service] if options.service else list(SERVICES)

    console = Console()
    console.print(f"Examples on {platform.python_implementation()} {platform.python_version()}: {_weft_here()}")
    server_cpu = _separate_processors()
    runs = [
        (service, loop)
        for service in services
        for turn in range(options.repeats)
        for loop in (LOOPS if turn % 2 == 0 else LOOPS[::-1])
    ]
    measured: dict[tuple[str, LoopName], list[Measurement]] = {}
    failures: list[str] = []
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=len(runs))
        for service, loop in runs:
            progress.update(bar, description=f"{service} on {loop:7}")
            try:
                measurement = asyncio.run(_measure(service, loop, options.connections, options.seconds, server_cpu))
            except ServiceError as error:
                failures.append(str(error))
            else:
                measured.setdefault((service, loop), []).append(measurement)
                if not console.is_terminal:
                    console.print(f"{service} on {loop}: {measurement.requests_per_second:.0f} requests/s")
            progress.advance(bar)
    console.print(_table(services, measured))
    console.print(
        f"{options.connections} connections on loopback, {options.seconds:g} s a run, medians over {options.repeats} "
        "(asyncio and Weft by turns). CPU is the server's, user and kernel.",
        style="dim",
    )
    wrong = sum((each.result.errors for taken in measured.values() for each in taken), Counter[str]())
    failures += [f"{count} × {kind}" for kind, count in wrong.items()]
    for failure in failures:
        console.print(f"failed: {failure}", style="red", markup=False, highlight=False)
    return 1 if failures else 0


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is no number between 0 and 3600")
    return seconds


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= 10_000):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to 10000")
    return int(text)


async def _measure(service: str, loop: LoopName, connections: int, seconds: float, cpu: int | None) -> Measurement:
    async with running(service, loop, cpu=cpu) as server:
        load = Load(HOST, server.port, connections=connections)
        warm_up = await load.run(WARM_UP_SECONDS)
        before = server.cpu_seconds()
        result = await load.run(seconds)
        cpu_seconds = server.cpu_seconds() - before
    result.errors += warm_up.errors
    return Measurement(result, cpu_seconds)


def _table(services: Sequence[str], measured: dict[tuple[str, LoopName], list[Measurement]]) -> Table:
    table = Table(box=SIMPLE)
    table.add_column("service")
    table.add_column("loop")
    for name in ("requests\nper s", "p50 ms", "p99 ms", "CPU µs\nper request", "of\nasyncio", "errors"):
        table.add_column(name, justify="right")
    for service in services:
        base = measured.get((service, "asyncio"))
        for loop in LOOPS:
            runs = measured.get((service, loop))
            if not runs:
                table.add_row(service, loop, *["-"] * 5, "did not run")
                continue
            cpu = median(each.cpu_per_request for each in runs)
            ratio = f"{cpu / median(each.cpu_per_request for each in base):.2f}" if base else ""
            table.add_row(
                service if loop == LOOPS[0] else "",
                loop,
                f"{median(each.requests_per_second for each in runs):,.0f}",
                f"{median(each.result.percentile(0.5) for each in runs) * 1e3:.2f}",
                f"{median(each.result.percentile(0.99) for each in runs) * 1e3:.2f}",
                f"{cpu * 1e6:.0f}",
                ratio,
                str(sum(each.result.errors.total() for each in runs)),
            )
        table.add_section()
    return table


def _separate_processors() -> int | None:
    """Keep this process off the processor that it returns, which is for the server; None where there is only one."""
    if sys.platform != "linux":
        return None
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) < 2:
        return None
    os.sched_setaffinity(0, processors[1:])
    return processors[0]


def _weft_here() -> str:
    try:
        from weft import _edition
    except ImportError as error:
        return f"Weft can't be imported ({error})"
    return f"Weft's {_edition.EDITION} edition"


if __name__ == "__main__":
    started = time.monotonic()
    try:
        code = main()
    except KeyboardInterrupt:
        code = 130
        print("interrupted", file=sys.stderr)
    print(f"{time.monotonic() - started:.0f} s")
    raise SystemExit(code)
