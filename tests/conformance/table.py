"""The table of a run: files down, verdicts across."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from . import excuses
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


def single_tests(tests: Iterable[Verdict]) -> dict[str, bool]:
    """Test function of CPython -> whether it passed in every filling; only what was decided."""
    good: dict[str, bool] = {}
    for test in tests:
        if ".<process>." in test.id or test.outcome in ("skipped", "not yet", "oracle"):
            continue
        name = excuses.single_test(test.id)
        good[name] = good.get(name, True) and test.outcome == "passed"
    return good


def passed_of_run(tests: Iterable[Verdict]) -> str:
    """ "passed / run" by single tests; a dash where nothing was run."""
    good = single_tests(tests)
    return f"{sum(good.values())} / {len(good)}" if good else "–"


def beside(runs: dict[str, list[Verdict]]) -> list[tuple[str, ...]]:
    """Loops beside each other, by single tests: rows of (file, one cell a loop), the last one the total."""
    files = {loop: by_file(tests) for loop, tests in runs.items()}
    names = sorted({name for found in files.values() for name in found})
    rows = [(name, *(passed_of_run(files[loop].get(name, [])) for loop in runs)) for name in names]
    return [*rows, ("total", *(passed_of_run(tests) for tests in runs.values()))]


def beside_as_text(runs: dict[str, list[Verdict]]) -> str:
    head = f"{'single tests, passed / run':28}" + "".join(f"{loop:>14}" for loop in runs)
    rows = (f"{name:28}" + "".join(f"{cell:>14}" for cell in cells) for name, *cells in beside(runs))
    return "\n".join([head, *rows])


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
