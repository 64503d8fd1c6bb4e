"""The table of a run: files down, verdicts across."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from .suite import BAD, Verdict

COLUMNS = ("run", "passed", "excluded", "failed", "skipped", "not yet")


def counts(tests: Iterable[Verdict]) -> Counter[str]:
    """Column -> number. `run` counts what was decided: passed + excluded + failed (and what fails on asyncio too)."""
    total: Counter[str] = Counter()
    for test in tests:
        column = "failed" if test.outcome in (*BAD, "stale") else test.outcome
        total[column] += 1
        if column not in ("skipped", "not yet"):
            total["run"] += 1
    return total


def by_file(tests: Iterable[Verdict]) -> dict[str, list[Verdict]]:
    files: dict[str, list[Verdict]] = {}
    for test in tests:
        files.setdefault(test.id.split(".")[0], []).append(test)
    return dict(sorted(files.items()))


def as_text(tests: list[Verdict]) -> str:
    lines = [f"{'file':26}" + "".join(f"{column:>10}" for column in COLUMNS) + f"{'seconds':>10}"]
    for name, found in [*by_file(tests).items(), ("total", tests)]:
        total = counts(found)
        seconds = sum(test.seconds for test in found)
        lines.append(f"{name:26}" + "".join(f"{total[column]:>10}" for column in COLUMNS) + f"{seconds:>10.1f}")
    on_asyncio = [test.id for test in tests if test.outcome == "oracle"]
    if on_asyncio:
        lines.append(f"fails on asyncio too, on this machine (not counted against the loop): {len(on_asyncio)}")
        lines.extend(f"  {name}" for name in on_asyncio)
    waiting = Counter(test.detail for test in tests if test.outcome == "not yet")
    if waiting:
        lines.append("not yet: " + ", ".join(f"{feature} {number}" for feature, number in sorted(waiting.items())))
    return "\n".join(lines)
