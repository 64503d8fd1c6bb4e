"""Command line of the conformance suite. Exit status 1 on any unexpected failure or stale exclusion, 2 on wrong use."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from . import suite, table
from .recipes import FILES, LEFT_OUT
from .subject import LOOPS


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--loop", choices=LOOPS, default="weft", help="the loop under test")
    parser.add_argument("--poller", choices=("epoll", "selector"), help="default: the loop's own choice")
    parser.add_argument(
        "--edition", choices=("compiled", "plain"), help="which edition of Weft; fails if it isn't that one"
    )
    parser.add_argument("--modules", nargs="+", metavar="FILE", help="upstream files, as test_tasks")
    parser.add_argument("--only", nargs="+", metavar="PATTERN", default=["*"], help="fnmatch over file.Class.test")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--test-timeout", type=float, default=suite.TEST_TIMEOUT_S, metavar="SECONDS")
    parser.add_argument("--beside", nargs="+", choices=LOOPS, default=[], help="show these loops' results beside it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every verdict")
    parser.add_argument("-v", "--verbose", action="store_true", help="tracebacks of failures, and the slowest tests")
    options = parser.parse_args(argv)

    available = suite.available_files()
    unknown = [name for name in options.modules or () if name not in FILES]
    if unknown:
        hint = "; ".join(f"{name}: {LEFT_OUT[name]}" for name in unknown if name in LEFT_OUT)
        parser.error(f"no recipe for {', '.join(unknown)}" + (f" (left out: {hint})" if hint else ""))
    modules = [name for name in options.modules or available if name in available]
    settings = suite.Settings(
        options.loop, options.poller, options.edition == "plain", options.only, options.jobs, options.test_timeout
    )

    def tell(module: str, found: list[suite.Test]) -> None:
        total = table.counts(found)
        print(f"{module}: {total['passed']} passed, {total['failed']} failed", file=sys.stderr, flush=True)

    verdicts = suite.run(modules, settings, tell)
    if options.edition and f" {options.edition} edition" not in verdicts.describe:
        verdicts.problems.append(f"asked for the {options.edition} edition, got {verdicts.describe or 'nothing'}")
    if options.json:
        options.json.write_text(json.dumps(verdicts.as_json(), indent=1), encoding="utf-8")

    print(verdicts.describe)
    print(table.as_text(verdicts.tests))
    if options.verbose:
        for test in verdicts.tests:
            if test.outcome in suite.BAD:
                print(f"\n=== {test.outcome}: {test.id}\n{test.detail}")
        for test in sorted(verdicts.tests, key=lambda test: -test.seconds)[:15]:
            print(f"{test.seconds:8.1f} s  {test.id}")
    if options.beside:
        runs = {options.loop: verdicts.tests}
        for peer in options.beside:
            # Peers may hang in tests that they never passed.
            theirs = dataclasses.replace(settings, loop=peer, poller=None, plain=False, test_timeout_s=15.0)
            print(f"{peer}:", file=sys.stderr)
            runs[peer] = suite.run(modules, theirs, tell).tests
        print(table.beside_as_text(runs))
    for problem in verdicts.problems:
        print(problem)
    print(
        f"excluded: {verdicts.excluded} single tests; {verdicts.seconds} s; {'FAILED' if verdicts.problems else 'ok'}"
    )
    return 1 if verdicts.problems else 0


if __name__ == "__main__":
    sys.exit(main())
