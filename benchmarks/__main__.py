"""The command: `python -m benchmarks`. Measures, shows tables, and writes `--json` and `--markdown` files."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.environment import describe
from benchmarks.interleave import Plan, Sample, all_rows, all_subjects, draw, probe_all
from benchmarks.load import make_load
from benchmarks.report import Report, markdown, show
from benchmarks.rows import ROWS
from benchmarks.servers import SERVERS
from benchmarks.summary import summarise, to_json

# What `--quick` takes in the place of the defaults: a look, not a proof.
_DEFAULTS: dict[str, float] = {"rounds": 9, "budget": 150.0, "messages": 20_000}
_QUICK: dict[str, float] = {"rounds": 3, "budget": 40.0, "messages": 6_000}
_QUICK_LOOPS = ("asyncio", "uvloop", "weft")


def _chosen(known: dict[str, Any], what: str) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = [name for name in text.split(",") if name]
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"no {what} {name!r}; there are {', '.join(known)}")
        return names

    return parse


def _positive(text: str) -> float:
    value = float(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return value


def _parser() -> argparse.ArgumentParser:
    rows: dict[str, Any] = {row.name: row for row in all_rows()}
    rows |= {"scheduler": ROWS, "io": SERVERS}
    loops = {subject.name: subject for subject in all_subjects()}
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Event loops, compared in interleaved runs."
    )
    parser.add_argument("--rows", type=_chosen(rows, "row"), help=f"of {', '.join(rows)}; separated by commas")
    parser.add_argument("--loops", type=_chosen(loops, "loop"), help=f"of {', '.join(loops)}; separated by commas")
    parser.add_argument("--rounds", type=_positive, help="how often each sample is drawn (9)")
    parser.add_argument("--budget", type=_positive, metavar="MS", help="CPU time of a scheduler sample (150)")
    parser.add_argument("--messages", type=_positive, help="messages of an I/O sample (20000)")
    parser.add_argument(
        "--quick", action="store_true", help="3 short rounds of asyncio, uvloop and weft: a look, no proof"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample and the summary")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables")
    parser.add_argument("--list", action="store_true", help="name the rows and loops, and which loops are missing here")
    return parser


def _list(console: Console) -> None:
    for row in all_rows():
        console.print(f"{row.name:20} {row.title}", highlight=False)
    found, missing = probe_all(all_subjects())
    for name, facts in found.items():
        console.print(f"{name:20} {facts['version']}", highlight=False)
    for name, why in missing.items():
        console.print(f"{name:20} missing: {why}", highlight=False, markup=False)


def _plan(options: argparse.Namespace, found: dict[str, dict[str, Any]], load: list[str]) -> Plan:
    settings = _QUICK if options.quick else _DEFAULTS
    groups = {"scheduler": [row.name for row in ROWS], "io": [row.name for row in SERVERS]}
    wanted = [name for choice in options.rows or groups for name in groups.get(choice, [choice])]
    return Plan(
        rows=tuple(row for row in all_rows() if row.name in wanted),
        subjects=tuple(subject for subject in all_subjects() if subject.name in found),
        rounds=int(options.rounds or settings["rounds"]),
        budget_ms=options.budget or settings["budget"],
        messages=int(options.messages or settings["messages"]),
        own={name: facts["own"] for name, facts in found.items()},
        load=load,
    )


def _draw(plan: Plan, console: Console) -> tuple[list[Sample], bool]:
    """The samples, and whether Ctrl-C ended the run before all were drawn."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    total = sum(1 for _ in plan.steps())
    samples: list[Sample] = []
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("first sample", total=total)

        def report(sample: Sample) -> None:
            samples.append(sample)
            if not console.is_terminal and len(samples) * plan.rounds % total < plan.rounds:
                # A log has no bar: one line a round.
                console.print(f"{len(samples)} of {total} samples", highlight=False)
            progress.update(bar, advance=1, description=f"round {sample.round + 1}: {sample.row}, {sample.subject}")
            if sample.error:
                progress.print(f"failed: {sample.row} on {sample.subject}: {sample.error}", markup=False)

        try:
            draw(plan, report)
        except KeyboardInterrupt:
            return samples, True
    return samples, False


def main(arguments: list[str] | None = None) -> int:
    """Run the suite. 0: every sample was drawn; 1: one failed, or nothing could be measured; 130: interrupted."""
    options = _parser().parse_args(arguments)
    terminal = Console(stderr=True)
    if options.list:
        _list(Console())
        return 0
    names = options.loops or (_QUICK_LOOPS if options.quick else [subject.name for subject in all_subjects()])
    found, missing = probe_all([subject for subject in all_subjects() if subject.name in names])
    for name, why in missing.items():
        terminal.print(f"missing: {name} ({why})", markup=False)
    if not found:
        return 1
    with tempfile.TemporaryDirectory() as folder:
        load, load_kind = make_load(Path(folder))
        facts = describe(found, load_kind)
        plan = _plan(options, found, load)
        samples, interrupted = _draw(plan, terminal)
    if interrupted:
        facts["interrupted"] = f"after {len(samples)} of {sum(1 for _ in plan.steps())} samples, by Ctrl-C"
        if not samples:
            return 130
    lines = summarise(plan, samples)
    report = Report(plan, samples, lines, facts, missing)
    console = Console()
    show(report, console if console.is_terminal else Console(width=150))
    if options.json:
        options.json.write_text(
            json.dumps(to_json(plan, samples, lines, facts, missing), indent=1) + "\n", encoding="utf-8"
        )
    if options.markdown:
        options.markdown.write_text(markdown(report), encoding="utf-8")
    return 130 if interrupted else 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
