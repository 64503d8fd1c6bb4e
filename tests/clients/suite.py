"""One pass of a client's tests on one loop, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from . import servers
from .prepare import HERE, Client

TEST_TIMEOUT_S = 60


@dataclass
class Pass:
    """What the tests did."""

    outcomes: dict[str, str] = field(default_factory=dict)
    """Test -> passed, failed or skipped."""
    details: dict[str, str] = field(default_factory=dict)
    loops: int = 0
    """How many loops of Weft were made in the process."""
    seconds: float = 0
    problem: str = ""
    """Why it did not come to its end."""

    def passed(self) -> int:
        return sum(outcome == "passed" for outcome in self.outcomes.values())


def run(
    client: Client,
    python: Path,
    folder: Path,
    loop: str,
    tests: list[str],
    limit_s: float,
    tell: Callable[[int, int], None],
) -> Pass:
    """Run `tests` on `loop`. `tell(done, all)` hears of progress. servers.Missing if there is no server for them."""
    found = Pass()
    command = [str(python), *(["-m", "weft", "run"] if loop == "weft" else []), "-m", "pytest", "-q"]
    command += ["-p", "no:cacheprovider", "-p", "recorder", "--timeout", str(TEST_TIMEOUT_S), *client.arguments]
    # Names of tests are relative to the folder, so that they can be run again by them.
    command += [f"--rootdir={folder}"] if client.has_suite else ["-c", str(folder / "pytest.ini")]
    command += [f"--ignore-glob={folder / pattern}" for pattern in client.ignored]
    started = time.monotonic()
    with servers.running(client.server) as (before, variables, more), tempfile.TemporaryDirectory() as scratch:
        outcomes, output = Path(scratch, "outcomes"), Path(scratch, "output")
        outcomes.touch()
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "PYTHON", "WEFT_", "CI"))
        }
        environment.update(
            variables, CLIENT_OUTCOMES=str(outcomes), PYTHONPATH=str(HERE / "plugin"), PYTHONDONTWRITEBYTECODE="1"
        )
        with output.open("wb") as file:
            process = subprocess.Popen(
                [*before, *command, *more, *tests], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
                stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            try:
                status = _watch(process, outcomes, started + limit_s, tell)
            finally:
                _end(process)
        current, status_said = "", None
        for line in outcomes.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            current = entry.get("started", current)
            if "test" in entry:
                found.outcomes[entry["test"]] = entry["outcome"]
                found.details[entry["test"]] = entry["detail"]
            if "loops" in entry:
                found.loops, status_said = entry["loops"], entry["status"]
        if status is None or status_said is None or status_said > 1:
            why = f"not done in {limit_s:.0f} s" if status is None else f"ended with status {status}"
            words = output.read_text(encoding="utf-8", errors="replace")[-2000:]
            found.problem = f"{why}; its last test: {current or 'none'}\n{words}"
    found.seconds = time.monotonic() - started
    return found


def _watch(
    process: subprocess.Popen[bytes], outcomes: Path, until: float, tell: Callable[[int, int], None]
) -> int | None:
    """The exit status; None if time ran out."""
    collected = 0
    while time.monotonic() < until:
        try:
            return process.wait(0.5)
        except subprocess.TimeoutExpired:
            text = outcomes.read_text(encoding="utf-8")
            if not collected and (first := [line for line in text.splitlines() if line.startswith('{"collected"')]):
                collected = json.loads(first[0])["collected"]
            tell(text.count('{"test"'), collected)
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    """Leave no process of the session behind."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # all have ended
    finally:
        process.wait()
