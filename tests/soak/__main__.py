"""`python -m tests.soak --minutes 10`: the mixed load, a sample every so often, and a verdict by the exit status."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import sys
import time
from pathlib import Path

import weft
from tests.soak.flatness import growth
from tests.soak.load import Load

SAMPLES = 200
#: A leak of a hundred bytes a round is more than this within ten minutes; the noise of the resident size is less.
RSS_SLACK_KIB = 1_024
_PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024


def resident_kib() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE_KIB


async def soak(seconds: float, seed: int, show: bool) -> dict[str, object]:
    """Load the loop for so long; what was sampled, judged."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    rss: list[float] = []
    fds: list[float] = []
    started = time.monotonic()
    columns = (TextColumn("soak"), BarColumn(), TimeRemainingColumn(), TextColumn("{task.fields[now]}"))
    async with Load(seed) as load:
        with Progress(*columns, disable=not show, transient=True) as progress:
            bar = progress.add_task("soak", total=seconds, now="")
            while (elapsed := time.monotonic() - started) < seconds:
                await load.go_round()
                if elapsed >= seconds * len(rss) / SAMPLES:
                    gc.collect()
                    rss.append(resident_kib())
                    fds.append(len(os.listdir("/proc/self/fd")))
                    now = f"{rss[-1]} KiB, {fds[-1]} fds, {sum(load.rounds.values())} rounds"
                    progress.update(bar, completed=elapsed, now=now)
        left = len(asyncio.all_tasks()) - 1
    return {
        "seconds": round(time.monotonic() - started),
        "rounds": dict(load.rounds),
        "absent": sorted(load.absent),
        "samples": len(rss),
        "rss_kib": [rss[len(rss) // 4], rss[-1]],
        "rss_growth_kib": growth(rss),
        "fds": [fds[len(fds) // 4], fds[-1]],
        "fd_growth": growth(fds),
        "tasks_left": left,
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    reports: list[str] = []

    def make_loop() -> weft.Loop:
        loop = weft.Loop()
        loop.set_exception_handler(lambda _, context: reports.append(repr(context)))
        return loop

    with weft.Runner(loop_factory=make_loop) as runner:
        result = runner.run(soak(arguments.minutes * 60, arguments.seed, sys.stderr.isatty()))
    result["edition"] = weft._edition.EDITION
    result["reports"] = reports[:5]
    print(json.dumps(result))
    grows = result["rss_growth_kib"] > RSS_SLACK_KIB or result["fd_growth"] > 0.5  # type: ignore[operator]
    return 1 if grows or reports else 0


if __name__ == "__main__":
    raise SystemExit(main())
