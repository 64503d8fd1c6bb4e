"""Run clients' tests on asyncio and on Weft. Exit status 1 if a test that passes on asyncio does not on Weft."""

from __future__ import annotations

import argparse
import datetime
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from . import prepare, suite, verdict

LIMIT_S, SHORT_LIMIT_S = 3600.0, 120.0
"""For one pass of one client's tests."""


def main(argv: list[str] | None = None) -> int:
    clients = {client.name: client for client in prepare.read()}
    parser = argparse.ArgumentParser(prog="python -m tests.clients", description=__doc__)
    parser.add_argument("--client", nargs="+", choices=clients, default=[*clients], metavar="NAME", help="default: all")
    parser.add_argument("--loop", choices=("asyncio", "weft"), help="on this loop only, compared with nothing")
    parser.add_argument("--short", action="store_true", help="a part of each suite, with tighter limits")
    parser.add_argument("--tests", nargs="+", default=[], metavar="PATH", help="these tests of the client instead")
    parser.add_argument("--wheel", type=Path, help="Weft's wheel; default: the newest in build/wheel")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the page")
    parser.add_argument("-v", "--verbose", action="store_true", help="the tracebacks of differing tests")
    options = parser.parse_args(argv)
    wheel = options.wheel or _newest_wheel(parser)

    # A shell's background job ignores SIGINT, and so would the tests that send it to themselves.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    console = Console()
    if not console.is_terminal:
        console.width = 140
    results: list[verdict.Result] = []
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        for name in options.client:
            results.append(_measure(clients[name], wheel, options, progress))
            _tell_problems(results[-1], options, console)
    console.print(_table(results))
    if options.markdown:
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        commit = _said(["git", "log", "-1", "--format=%h", "--", "src"])
        edition = "plain" if "none-any" in wheel.name else "compiled"
        text = verdict.page(results, today, commit, edition, sys.version.split()[0])
        options.markdown.write_text(text, encoding="utf-8")
    if options.loop:
        return 0
    return 1 if any(result.problems for result in results) else 0


def _measure(client: prepare.Client, wheel: Path, options: argparse.Namespace, progress: Progress) -> verdict.Result:
    bar = progress.add_task(f"{client.name}: its environment", total=None)
    passes = {"asyncio": suite.Pass(), "weft": suite.Pass()}
    tests = options.tests or (options.short and client.short) or client.tests
    limit_s = SHORT_LIMIT_S if options.short else LIMIT_S
    try:
        folder = prepare.folder(client)
        python = prepare.environment(client, wheel)

        def one_pass(loop: str, chosen: list[str]) -> suite.Pass:
            progress.update(bar, description=f"{client.name} on {loop}", completed=0, total=None)
            found = suite.run(client, python, folder, loop, chosen, limit_s, _teller(progress, bar))
            again = "" if chosen is tests else f" ({' '.join(chosen)})"
            words = f"{client.name} {client.version} on {loop}{again}"
            progress.console.print(f"{words}: {found.counts()} in {found.seconds:.0f} s", highlight=False)
            return found

        for loop in passes if options.loop is None else [options.loop]:
            passes[loop] = one_pass(loop, tests)
        if options.loop:
            return verdict.Result(client, passes["asyncio"], passes["weft"])
        return verdict.compare(client, passes["asyncio"], passes["weft"], one_pass)
    except prepare.Missing as error:
        return verdict.Result(client, passes["asyncio"], passes["weft"], missing=str(error))
    finally:
        progress.remove_task(bar)


def _teller(progress: Progress, bar: object) -> Callable[[int, int], None]:
    def tell(done: int, of: int) -> None:
        progress.update(bar, completed=done, total=of or None)  # type: ignore[arg-type]

    return tell


def _tell_problems(result: verdict.Result, options: argparse.Namespace, console: Console) -> None:
    for words in result.problems if options.loop is None else ():
        console.print(f"  {words}", markup=False, highlight=False)
    for run in (result.asyncio, result.weft) if options.verbose else ():
        for test, words in run.details.items():
            if run.outcomes[test] == "failed" and (options.loop or test in result.worse):
                console.print(f"--- {test}\n{words}", markup=False, highlight=False)


def _table(results: list[verdict.Result]) -> Table:
    table = Table("client", "version", title="Real clients (passed, failed, skipped)")
    for head in ("on asyncio", "on Weft", "worse", "by name", "unsteady", "better", "loops", "s asyncio", "s Weft"):
        table.add_column(head, justify="right")
    for each in results:
        seconds = [f"{run.seconds:.0f}" for run in (each.asyncio, each.weft)]
        table.add_row(each.client.name, each.client.version, *each.row(), *seconds)
    return table


def _newest_wheel(parser: argparse.ArgumentParser) -> Path:
    wheels = sorted((prepare.ROOT / "build" / "wheel").glob("weft-*.whl"), key=lambda path: path.stat().st_mtime)
    if not wheels:
        parser.error("there is no wheel in build/wheel: `make compiled` builds it")
    return wheels[-1]


def _said(command: list[str]) -> str:
    return subprocess.run(command, cwd=prepare.ROOT, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
