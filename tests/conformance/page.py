"""docs/conformance.md, written from the verdicts of a proof."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from . import excuses, table
from .recipes import LEFT_OUT
from .suite import Verdict

_HEAD = """\
# Conformance: CPython's own asyncio tests on Weft

Measured {today}, sources of commit {commit}, by `make proof`. Don't edit: the page is written by `tests/conformance/page.py`.

`test.test_asyncio` ships with each interpreter; `tests/conformance/` puts Weft's loop, Task and Future where its
generic classes leave a hole, and changes no test. A test may run in several fillings: our Task with our Future, ours
with asyncio's C and Python Future, asyncio's C and Python Task with our Future, subclasses of them, each on CPython's
`TestLoop` and on our loop, and where Weft has a function of its own (`gather`, `wait_for`, `timeout`, …) once with
asyncio's function and once with ours. The numbers count fillings; a "single test" is one test function of CPython.

`python -m tests.conformance --loop asyncio` is the oracle: the same plugging must give 100 % on asyncio itself.
"""


@dataclass
class Run:
    """One pass over all files."""

    version: str
    loop: str
    edition: str
    poller: str
    tests: list[Verdict]
    problems: list[str]
    excluded: int
    seconds: float


def written(runs: list[Run], today: str, commit: str) -> str:
    ours = [run for run in runs if run.loop == "weft"]
    parts = [_HEAD.format(today=today, commit=commit), _summary(ours), _by_file(ours), _peers(runs)]
    parts += [_exclusions(ours), _waiting(ours), _oracle(ours), _left_out()]
    return "\n".join(part for part in parts if part)


def _row(*cells: object) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _rows(head: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    head = list(head)
    return "\n".join([_row(*head), _row(*["---", *["---:"] * (len(head) - 1)]), *(_row(*row) for row in rows)]) + "\n"


def _summary(ours: list[Run]) -> str:
    rows = []
    for run in ours:
        total = table.counts(run.tests)
        rows.append(
            (run.version, run.edition, run.poller, total["run"], total["passed"], total["excluded"], run.excluded,
             total["failed"], total["skipped"], total["not yet"], run.seconds)
        )  # fmt: skip
    head = ("Python", "edition", "poller", "run", "passed", "excluded", "excluded single tests", "failed",
            "skipped by CPython", "not yet", "seconds")  # fmt: skip
    return "## Weft\n\n" + _rows(head, rows)


def _by_file(ours: list[Run]) -> str:
    chosen = [run for run in ours if (run.edition, run.poller) == ("compiled", "epoll")] or ours[:1]
    files = sorted({name for run in chosen for name in table.by_file(run.tests)})
    rows = []
    for name in files:
        cells = []
        for run in chosen:
            total = table.counts(table.by_file(run.tests).get(name, []))
            cells.append(f"{total['passed']} / {total['run']}" if total["run"] else "–")
        rows.append((f"`{name}`", *cells))
    return "## File by file (passed / run; compiled, epoll)\n\n" + _rows(
        ("file", *(run.version for run in chosen)), rows
    )


def _peers(runs: list[Run]) -> str:
    """A table a version: the same tests on asyncio's loop and on the peers'."""
    chosen = [run for run in runs if run.loop != "weft" or (run.edition, run.poller) == ("compiled", "epoll")]
    versions: dict[str, dict[str, list[Verdict]]] = {}
    for run in chosen:
        versions.setdefault(run.version, {})[run.loop] = run.tests
    parts = [
        "## Beside asyncio and its peers\n",
        "By single tests; one passes if it does in every filling. A peer is not asked for what only Weft has.\n",
    ]
    for version, loops in versions.items():
        if len(loops) > 1:
            names = [(f"`{name}`" if name != "total" else "**total**", *cells) for name, *cells in table.beside(loops)]
            parts.append(f"### CPython {version}\n\n" + _rows(("file (passed / run)", *loops), names))
    return "\n".join(parts) if len(parts) > 2 else ""


def _exclusions(ours: list[Run]) -> str:
    lines = [
        "## Exclusions",
        "",
        f"At most {excuses.LIMIT} single tests a version; an excluded test that passes fails the run.",
        "",
    ]
    versions: dict[tuple[str, str], set[str]] = {}
    for run in ours:
        for test in run.tests:
            if test.outcome == "excluded":
                key = (excuses.single_test(test.id), test.detail)
                versions.setdefault(key, set()).add(".".join(run.version.split(".")[:2]))
    for (name, detail), found in sorted(versions.items()):
        lines.append(f"- `{name}` ({', '.join(sorted(found))}): {detail}")
    if not versions:
        lines.append("None.")
    return "\n".join(lines) + "\n"


def _waiting(ours: list[Run]) -> str:
    features = excuses.read_features()
    names: dict[str, set[str]] = {}
    for run in ours:
        for test in run.tests:
            if test.outcome == "not yet":
                names.setdefault(test.detail, set()).add(excuses.single_test(test.id))
    if not names:
        return ""
    lines = [
        "## Not yet",
        "",
        "These wait for a method that Weft's loop does not have; they start to run the day it does.",
        "",
    ]
    for feature, found in sorted(names.items()):
        where = ", ".join(
            f"`{file}` {number}" for file, number in sorted(Counter(n.split(".")[0] for n in found).items())
        )
        lines.append(f"- {feature} (issue {features[feature]['issue']}): {len(found)} single tests; {where}")
    return "\n".join(lines) + "\n"


def _oracle(ours: list[Run]) -> str:
    found = sorted({(run.version, test.id) for run in ours for test in run.tests if test.outcome == "oracle"})
    if not found:
        return ""
    lines = ["## Fails on asyncio too, on the machine of this run", ""]
    return "\n".join([*lines, *(f"- `{name}` ({version})" for version, name in found)]) + "\n"


def _left_out() -> str:
    lines = ["## Files that are not run", "", "Of `test_unix_events`, the classes that mock their internals.", ""]
    return "\n".join([*lines, *(f"- `{name}`: {reason}" for name, reason in sorted(LEFT_OUT.items()))]) + "\n"
