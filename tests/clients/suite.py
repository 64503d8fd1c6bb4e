"""One pass of a client's tests on one loop, in a process of its own; in more of them if a test takes one with it.

A test that waits too long is ended by pytest-timeout. One that is past that (it blocks in C, or swallows the exception),
kills the process or interrupts pytest is *broken*: it failed, and a new process runs what has not run yet.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from . import servers
from .prepare import BUILD, HERE, Client

TEST_TIMEOUT_S = 60
SILENCE_S = 2 * TEST_TIMEOUT_S
"""A process that tells of no outcome for so long is killed."""
MOST_BROKEN = 20
"""A pass with more broken tests is given up."""
LATE = "out of time"
DONE = (0, 1, 5)
"""pytest's exit status when all passed, when some failed, and when there was nothing left to run."""


@dataclass
class Pass:
    """What the tests did."""

    outcomes: dict[str, str] = field(default_factory=dict)
    """Test -> passed, failed or skipped."""
    details: dict[str, str] = field(default_factory=dict)
    """Test that failed -> its traceback, or what became of its process."""
    broken: list[str] = field(default_factory=list)
    loops: int = 0
    """How many loops of Weft were made in the process."""
    others: set[str] = field(default_factory=set)
    """Classes of the loops that were not Weft's."""
    seconds: float = 0
    problem: str = ""
    """Why it did not come to its end."""

    def count(self, outcome: str) -> int:
        return sum(each == outcome for each in self.outcomes.values())

    def counts(self) -> str:
        return ", ".join(str(self.count(outcome)) for outcome in ("passed", "failed", "skipped"))


def run(
    client: Client,
    python: Path,
    folder: Path,
    loop: str,
    tests: list[str],
    limit_s: float,
    tell: Callable[[int, int], None],
) -> Pass:
    """Run `tests` on `loop`. `tell(done, all)` hears of progress. prepare.Missing if there is no server for them."""
    found = Pass()
    command = [str(python), *(["-m", "weft", "run"] if loop == "weft" else []), "-m", "pytest", "-q"]
    command += ["-p", "no:cacheprovider", "-p", "recorder", "--continue-on-collection-errors"]
    command += ["--timeout", str(TEST_TIMEOUT_S), *client.arguments]
    # Names of tests are relative to the folder, so that they can be run again by them.
    command += [f"--rootdir={folder}"] if client.has_suite else ["-c", str(folder / "pytest.ini")]
    command += [f"--ignore-glob={folder / pattern}" for pattern in client.ignored]
    started = time.monotonic()
    with servers.running(client.server, folder) as (before, variables, more), tempfile.TemporaryDirectory() as scratch:
        outcomes, output = Path(scratch, "outcomes"), Path(scratch, "output")
        outcomes.touch()
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "PYTHON", "WEFT_", "CI"))
        }
        environment |= {"PYTHONPATH": str(HERE / "plugin"), "PYTHONPYCACHEPREFIX": str(BUILD / "pycache")}
        environment |= {"CLIENT_OUTCOMES": str(outcomes), **variables}
        is_done = False
        while not is_done and not found.problem:
            with output.open("wb") as file:
                process = subprocess.Popen(
                    [*before, *command, *more, *tests], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
                    stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
                )  # fmt: skip
                try:
                    why = _watch(process, outcomes, started + limit_s, tell)
                finally:
                    _end(process)
            is_done = _judge(found, process, why, outcomes, output.read_text(encoding="utf-8", errors="replace"))
        for line in outcomes.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            found.loops += entry.get("loops", 0)
            if "test" in entry:
                found.outcomes[entry["test"]] = entry["outcome"]
                found.details[entry["test"]] = entry["detail"]
    found.seconds = time.monotonic() - started
    return found


def _judge(found: Pass, process: subprocess.Popen[bytes], why: str, outcomes: Path, output: str) -> bool:
    """Whether the tests are done. If not, the one under way is broken; if that explains nothing, there is a problem."""
    found.others.update(re.findall(r"^weft run: the program did not stay on Weft: it made (\S+)", output, re.MULTILINE))
    entries = [json.loads(line) for line in outcomes.read_text(encoding="utf-8").splitlines()]
    has_run_all = bool(entries) and entries[-1].get("status") in DONE
    if has_run_all and process.returncode in DONE:
        return True
    why = why or f"its process ended with status {process.returncode}"
    current = next((entry["started"] for entry in reversed(entries) if "started" in entry), "")
    if has_run_all or why == LATE or not current or current in found.broken or len(found.broken) == MOST_BROKEN:
        where = "after the last test" if has_run_all else f"in {current or 'no test'}"
        found.problem = f"{why}, {where}\n{output[-2000:]}"
        return False
    found.broken.append(current)
    with outcomes.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"test": current, "outcome": "failed", "detail": why}) + "\n")
    return False


def _watch(process: subprocess.Popen[bytes], outcomes: Path, until: float, tell: Callable[[int, int], None]) -> str:
    """Wait for the end; why it can't be waited for, or an empty string."""
    text, told = "", time.monotonic()
    while True:
        try:
            process.wait(0.5)
            return ""
        except subprocess.TimeoutExpired:
            before, text = text, outcomes.read_text(encoding="utf-8")
        now = time.monotonic()
        if text != before:
            told = now
            collected = text.rpartition('{"collected": ')[2].partition("}")[0]
            tell(text.count('{"test"'), int(collected) if collected.isdecimal() else 0)
        if now > until:
            return LATE
        if now - told > SILENCE_S:
            return f"told nothing for {SILENCE_S} s"


def _end(process: subprocess.Popen[bytes]) -> None:
    """Leave no process of the session behind."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # all have ended
    finally:
        process.wait()
