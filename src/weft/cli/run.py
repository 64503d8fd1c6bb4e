"""`weft run`: run an unmodified asyncio program on Weft.

What the program gets to see is what `python` would show it (`_program`), but for the loop that gets made (`_which_loop`). What
the command itself has to say, it says on stderr when the process ends: after the program's own traceback, exit handlers and
threads.

Exit codes: the program's own (1 when it raises); 2 for bad input, with one line that says what is wrong; 3 with `--require`
when the program makes a loop that is not Weft's.
"""

from __future__ import annotations

import argparse
import asyncio
import atexit
import contextlib
import os
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from types import FrameType
from typing import Any, NoReturn

from weft import _edition
from weft._host import registry
from weft._io import available_pollers
from weft.cli import _children, _program, _stats, _which_loop
from weft.cli._children import OTHER_LOOP
from weft.cli._lines import columns
from weft.loop import Loop
from weft.workers import _supervisor, _worker

__all__ = ["main"]

BAD_INPUT = 2


def main(arguments: Sequence[str]) -> int:
    """Run the program that the arguments name. Returns its exit code, or leaves by what the program raised."""
    options = _parser().parse_args(arguments)
    program, *rest = options.program[1:] if options.program[:-1] and options.program[0] == "--" else options.program
    poller = options.poller or os.environ.get("WEFT_POLLER")
    if poller and poller not in available_pollers():
        return _bad(f"the poller {poller!r} does not work here; there is: {', '.join(available_pollers())}")
    if options.edition is not None and options.edition != _edition.EDITION:
        environment = _environment_for(options.edition)
        if environment is None:
            return _bad(f"the {options.edition} edition can't run here: {_edition.reason()}")
        _start_over(environment)
    if poller:
        os.environ["WEFT_POLLER"] = poller
    if options.debug:
        # For the children too; and for Weft's loops even where Python was told to ignore its environment.
        os.environ["PYTHONASYNCIODEBUG"] = "1"
        registry.observers.append(lambda loop: loop.set_debug(True))
    worker = None
    if options.workers is None:
        if options.bind or options.drain is not None:
            return _bad("--bind and --drain go with --workers")
    else:
        worker = _worker.join()
        if worker is None:
            return _supervise(options)
    report = _Report(requires_weft=options.require, tells_stats=options.stats, worker=worker)
    _which_loop.give_weft(Loop, report.note_other)
    _children.give_weft_to_children(requires_weft=options.require)
    try:
        if options.is_module:
            _program.run_module(program, rest)
        else:
            _program.run_target(program, rest)
    except _program.BadProgram as error:
        report.cancel()
        return _bad(str(error))
    except asyncio.CancelledError:
        if worker is None or not worker.has_cancelled:
            _program.hide_own_frames()
            raise
    except BaseException:
        _program.hide_own_frames()
        raise
    return OTHER_LOOP if options.require and report.others else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="weft run",
        usage="weft run [options] (FILE | -m MODULE | MODULE:FUNCTION) [argument ...]",
        description="Run an unmodified asyncio program on Weft. All that follows the program is passed to it.",
        epilog="Exit codes: the program's own; 2 for bad input; 3 for --require when the program made another loop.",
        allow_abbrev=False,
    )
    # A positional that takes all that follows it, whatever it looks like: so the options of the program stay its own.
    parser.add_argument("program", metavar="program", nargs=argparse.PARSER, help="a file, or MODULE:FUNCTION")
    parser.add_argument(
        "-m", dest="is_module", action="store_true", help="the program is a module or package, as for python -m"
    )
    parser.add_argument("--edition", choices=("compiled", "plain"), help="run on this edition of Weft")
    parser.add_argument(
        "--poller", metavar="NAME", help=f"how to wait for the kernel: {', '.join(available_pollers())}"
    )
    parser.add_argument("--debug", action="store_true", help="asyncio's debug mode, for every loop")
    parser.add_argument("--stats", action="store_true", help="at the end, a table of what the loops did (on stderr)")
    parser.add_argument(
        "--require",
        action="store_true",
        help="end with exit code 3 as soon as the program makes a loop other than Weft's",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="run N processes that share the addresses served")
    parser.add_argument(
        "--bind", action="append", default=[], metavar="ADDRESS", help="listen on HOST:PORT or unix:PATH at once"
    )
    parser.add_argument("--drain", type=float, metavar="SECONDS", help="how long connections may take to end (30)")
    return parser


def _supervise(options: argparse.Namespace) -> int:
    drain_s = _supervisor.DRAIN_S if options.drain is None else options.drain
    try:
        return _supervisor.supervise(
            [sys.executable, *sys.orig_argv[1:]], options.workers, binds=options.bind, drain_s=drain_s
        )
    except ValueError as error:
        return _bad(str(error))


def _bad(line: str) -> int:
    print(f"weft run: {line}", file=sys.stderr)
    return BAD_INPUT


def _environment_for(wanted: str) -> dict[str, str] | None:
    """The environment in which Weft comes in the edition that is not running now; None if it can't."""
    environment = dict(os.environ)
    is_pure = environment.pop("WEFT_PURE", "") not in ("", "0")
    if wanted == "plain" and not is_pure:
        return {**environment, "WEFT_PURE": "1"}
    return environment if wanted == "compiled" and is_pure else None


def _start_over(environment: dict[str, str]) -> NoReturn:
    """Run the command line of this process once more, in its place."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


class _Report:
    """What the command says when the process ends: other loops that were made, and with `--stats` the table."""

    def __init__(self, *, requires_weft: bool, tells_stats: bool, worker: _worker.Worker | None) -> None:
        self.others: Counter[tuple[str, str]] = Counter()
        self._worker = worker
        self._requires_weft = requires_weft
        self._tells_stats = tells_stats
        self._counters: list[Any] = []
        self._pollers: list[str] = []
        self._pid = os.getpid()
        # The first handler to be registered is the last to be called.
        atexit.register(self._tell)
        if tells_stats:
            registry.observers.append(self._note_ours)
            if worker is not None:
                worker.die = self._on_sigterm
            elif signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
                signal.signal(signal.SIGTERM, self._on_sigterm)

    def cancel(self) -> None:
        """Say nothing: there was no program."""
        atexit.unregister(self._tell)

    def note_other(self, kind: str, place: str) -> None:
        """A loop that is not Weft's is about to be made. With `--require` it is not: SystemExit."""
        self.others[kind, place] += 1
        if self._requires_weft:
            print(f"weft run: --require: the program would make {kind} (at {place})", file=sys.stderr)
            raise SystemExit(OTHER_LOOP)

    def _note_ours(self, loop: Any) -> None:
        loop._is_timed = True
        self._counters.append(loop._counters)
        self._pollers.append(loop._poller.name)

    def _tell(self) -> None:
        if os.getpid() != self._pid:
            # A forked child that ends by itself.
            return
        with contextlib.suppress(ValueError):
            # A second Ctrl-C would tear the report; the process ends in a moment anyway.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        lines = []
        # Tables of several workers would look alike.
        whose = "" if self._worker is None else f" of {self._worker}"
        if not self._requires_weft:
            for (kind, place), count in self.others.items():
                times = f", {count} times" if count > 1 else ""
                lines.append(f"weft run: the program{whose} did not stay on Weft: it made {kind} (at {place}{times})")
        if self._tells_stats:
            lines += [
                f"weft run: what the loops{whose} did",
                *columns(_stats.table(self._counters, self._pollers), indent="  "),
            ]
        if lines and sys.stderr is not None:
            # What the program printed comes first, unless nobody takes it: Python tells of that itself, after this.
            with contextlib.suppress(OSError, ValueError, AttributeError):
                sys.stdout.flush()
            # One write, for workers that end together.
            print("\n".join([*lines, ""]), end="", file=sys.stderr)

    def _on_sigterm(self, signum: int, frame: FrameType | None) -> NoReturn:
        """Die of SIGTERM as the program would have, the table told: exit handlers do not run then."""
        self._tell()
        sys.stderr.flush()
        signal.signal(signum, signal.SIG_DFL)
        signal.raise_signal(signum)
        raise SystemExit(128 + signum)
