"""What `weft run --stats` tells at the end: how much the loops of the process did."""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence
from typing import Any

from weft import _edition

__all__ = ["table"]

_SYSCALLS = ("polls", "recvs", "sends", "accepts")


def table(counters: Sequence[Any], pollers: Sequence[str]) -> list[tuple[str, str]]:
    """Rows of a name and a value, from the counters of all loops and the names of the pollers they had."""
    longest = max(counters, key=lambda each: int(each.longest_ns), default=None)

    def total(name: str) -> int:
        return sum(int(getattr(each, name)) for each in counters)

    if longest is None:
        rows = [("loops of Weft", "none in this process")]
    else:
        rows = [("loops of Weft", f"{len(counters)} ({', '.join([*sorted(set(pollers)), _edition.EDITION])})")]
        calls = ", ".join(f"{total(name):,} {name}" for name in _SYSCALLS)
        rows += [(name, f"{total(name):,}") for name in ("turns", "callbacks", "tasks")]
        what = f" in {longest.longest_what}" if longest.longest_what else ""
        rows += [
            ("longest callback", f"{_duration(longest.longest_ns)}{what}" if longest.longest_ns else "not measured"),
            ("wake-ups", f"{total('wakes'):,}"),
            ("syscalls", f"{sum(map(total, _SYSCALLS)):,} ({calls})"),
        ]
    rows.append(("peak RSS", f"{_peak_rss_bytes() / 2**20:.1f} MiB"))
    return rows


def _duration(ns: int) -> str:
    for limit, divisor, unit in ((10**4, 1, "ns"), (10**7, 10**3, "µs"), (10**10, 10**6, "ms")):
        if ns < limit:
            return f"{ns / divisor:.4g} {unit}"
    return f"{ns / 10**9:.4g} s"


def _peak_rss_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
