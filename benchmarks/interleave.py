"""Draws the samples: rounds interleaved over rows and subjects, each sample a fresh process.

Rules for whoever edits this file:

- The order of subjects is rotated from round to round, so that none always follows the same neighbour.
- Every sample drawn is kept. One that fails is kept with its error, and never drawn again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from benchmarks.rows import ROWS, Row
from benchmarks.servers import SERVERS, Server
from benchmarks.subjects import SUBJECTS, Subject

__all__ = ["Plan", "Sample", "draw", "probe_all"]

ROOT = Path(__file__).resolve().parent.parent
TIME_LIMIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One figure. `facts` has operations, cpu_ns, wall_ns, peak_rss_bytes; of I/O also p50_ns and p99_ns."""

    row: str
    subject: str
    names: str
    round: int
    facts: dict[str, Any] = field(default_factory=dict)
    error: str = ""

    @property
    def ns(self) -> float:
        """CPU time of one operation."""
        return float(self.facts["cpu_ns"] / self.facts["operations"])


@dataclass(frozen=True, slots=True)
class Plan:
    """What one invocation measures.

    own:       the names that each subject has of its own (`subjects.probe`)
    load:      the command of the load generator
    """

    rows: tuple[Row | Server, ...]
    subjects: tuple[Subject, ...]
    rounds: int
    budget_ms: float
    messages: int
    own: dict[str, list[str]]
    load: list[str]

    def variants(self, row: Row | Server) -> Iterator[tuple[Subject, str]]:
        """Who runs a row, and with whose names."""
        for subject in self.subjects:
            yield subject, "asyncio"
            if row.own and row.own[0] in self.own[subject.name]:
                yield subject, "weft"

    def steps(self) -> Iterator[tuple[int, Row | Server, Subject, str]]:
        """Every sample to draw, in order."""
        for number in range(self.rounds):
            for row in self.rows:
                variants = list(self.variants(row))
                shift = number % len(variants)
                for subject, names in variants[shift:] + variants[:shift]:
                    yield number, row, subject, names


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks.sample", *arguments]


def _environment(subject: Subject) -> dict[str, str]:
    return {**os.environ, **dict(subject.env)}


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no output"


def _run_json(command: Sequence[str], subject: Subject) -> dict[str, Any]:
    done = subprocess.run(
        command, cwd=ROOT, env=_environment(subject), capture_output=True, text=True, timeout=TIME_LIMIT_S
    )
    if done.returncode != 0:
        raise RuntimeError(_last_line(done.stderr))
    facts: dict[str, Any] = json.loads(_last_line(done.stdout))
    return facts


def probe_all(subjects: Sequence[Subject]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """What each subject is here, by name; and of those that can't be measured, why."""
    wanted = sorted({name for row in all_rows() for name in row.own})
    found: dict[str, dict[str, Any]] = {}
    missing: dict[str, str] = {}
    for subject in subjects:
        try:
            found[subject.name] = _run_json(_command("--probe", subject.name, *wanted), subject)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            missing[subject.name] = str(error)
    return found, missing


# ------------------------------------------------------------------------------------------------------------ I/O


def _cores() -> tuple[int, int] | None:
    """A core for the server and one for the load; None where there are not two, or no way to choose."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))
    return (cores[0], cores[-1]) if len(cores) > 1 else None


class _Dialogue:
    """A child that answers lines by lines. Its whole life is bounded by TIME_LIMIT_S."""

    def __init__(self, command: Sequence[str], environment: dict[str, str], core: int | None) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True
        )
        if core is not None:
            os.sched_setaffinity(self.process.pid, {core})
        self.alarm = threading.Timer(TIME_LIMIT_S, self.process.kill)
        self.alarm.start()

    def read(self) -> str:
        line = _pipe(self.process.stdout).readline()
        if not line:
            self.process.wait()
            raise RuntimeError(_last_line(_pipe(self.process.stderr).read()))
        return line.strip()

    def say(self, line: str) -> None:
        pipe = _pipe(self.process.stdin)
        pipe.write(line + "\n")
        pipe.flush()

    def close(self) -> None:
        try:
            self.process.communicate(timeout=5.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
        finally:
            self.alarm.cancel()


def _pipe(stream: IO[str] | None) -> IO[str]:
    if stream is None:
        raise ValueError("the child was started without pipes")
    return stream


def _io_sample(plan: Plan, row: Server, subject: Subject, names: str) -> dict[str, Any]:
    """Server CPU time while the load sends `plan.messages`; the server is idle at both readings."""
    server_core, load_core = _cores() or (None, None)
    server = _Dialogue(_command(row.name, subject.name, names, "0"), _environment(subject), server_core)
    load = None
    try:
        listening = json.loads(server.read())
        arguments = [listening["host"], listening["port"], row.connections, row.size_bytes, 30, plan.messages]
        command = [sys.executable, "-m", "benchmarks.load_tls"] if row.tls else plan.load
        load = _Dialogue([*command, *map(str, arguments)], dict(os.environ), load_core)
        load.read()
        server.say("usage")
        before = json.loads(server.read())
        load.say("go")
        facts: dict[str, Any] = json.loads(load.read())
        server.say("usage")
        after = json.loads(server.read())
        facts |= {"cpu_ns": after["cpu_ns"] - before["cpu_ns"], "peak_rss_bytes": after["peak_rss_bytes"]}
        load.say("stop")
        server.say("stop")
        return facts
    finally:
        if load is not None:
            load.close()
        server.close()


# ------------------------------------------------------------------------------------------------------- the draw


def draw(plan: Plan, report: Callable[[Sample], None]) -> None:
    """Draw every sample of the plan, one at a time, and give each to `report`."""
    for number, row, subject, names in plan.steps():
        try:
            if isinstance(row, Server):
                facts = _io_sample(plan, row, subject, names)
            else:
                facts = _run_json(_command(row.name, subject.name, names, str(plan.budget_ms)), subject)
            sample = Sample(row.name, subject.name, names, number, facts)
        except (RuntimeError, OSError, ValueError, subprocess.TimeoutExpired) as error:
            sample = Sample(row.name, subject.name, names, number, error=f"{type(error).__name__}: {error}")
        report(sample)


def all_rows() -> tuple[Row | Server, ...]:
    """Every row of the suite, in the order of the tables."""
    return (*ROWS, *SERVERS)


def all_subjects() -> tuple[Subject, ...]:
    """Every subject of the suite, in the order of the tables."""
    return tuple(SUBJECTS.values())
