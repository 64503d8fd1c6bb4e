"""Runs upstream files in processes of their own and gives a verdict on every test.

A file's process that dies or hangs costs the test that was running, never the rest: the file is started again without
the tests already reported. Verdicts: passed, skipped (by CPython itself), not yet (a feature of a later issue),
excluded, oracle (fails on asyncio too, on this machine), failed, stale (excluded, but passes).
"""

from __future__ import annotations

import concurrent.futures
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from . import excuses
from .recipes import FILES, SHARDS

ROOT = Path(__file__).resolve().parents[2]
TEST_TIMEOUT_S = 60.0
FILE_TIMEOUT_S = 420.0
BAD = ("failed", "error", "crashed", "hung")


@dataclass
class Verdict:
    id: str
    outcome: str
    detail: str = ""
    seconds: float = 0.0


@dataclass
class Settings:
    loop: str = "weft"
    poller: str | None = None
    plain: bool = False
    """Run Weft's plain edition (WEFT_PURE=1)."""
    only: list[str] = field(default_factory=lambda: ["*"])
    jobs: int = 2
    test_timeout_s: float = TEST_TIMEOUT_S
    never: list[str] = field(default_factory=list)
    """Patterns of tests that are known to hang: not run, counted as failed (an exclusion must excuse them)."""


@dataclass
class Verdicts:
    """A whole run, judged."""

    describe: str
    tests: list[Verdict]
    seconds: float
    excluded: int = 0
    problems: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def available_files() -> list[str]:
    """The files of FILES that this interpreter has. Raises SystemExit where the `test` package is missing."""
    if importlib.util.find_spec("test.test_asyncio") is None:
        raise SystemExit(f"{sys.executable} has no test.test_asyncio: install the interpreter's test suite")
    return [name for name in FILES if importlib.util.find_spec(f"test.test_asyncio.{name}") is not None]


def run_file(
    module: str, settings: Settings, waiting: Mapping[str, Any], shard: int = 0, shards: int = 1
) -> tuple[str, list[Verdict]]:
    """Run one upstream file, or one share of its classes, restarted as often as its process is lost."""
    tests: dict[str, Verdict] = {}
    describe = ""
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        for attempt in range(30):
            events, output = Path(folder, f"events{attempt}"), Path(folder, f"output{attempt}")
            options = {
                "module": module, "loop": settings.loop, "poller": settings.poller, "events": str(events),
                "only": settings.only, "done": sorted(tests), "test_timeout_s": settings.test_timeout_s,
                "shard": [shard, shards], "never": settings.never,
                "waiting": {name: feature["tests"] for name, feature in waiting.items()},
                "probes": {name: feature["probe"] for name, feature in waiting.items()},
            }  # fmt: skip
            status = _spawn(options, settings, output)
            finished, running = False, ""
            for line in events.read_text(encoding="utf-8").splitlines() if events.exists() else ():
                event = json.loads(line)
                if event["event"] == "subject":
                    describe = event["describe"]
                elif event["event"] == "start":
                    running = event["id"]
                elif event["event"] == "end":
                    tests[event["id"]] = Verdict(event["id"], event["outcome"], event["detail"], event["seconds"])
                    running = ""
                elif event["event"] == "finished":
                    finished = True
            if finished and status == 0:
                return describe, list(tests.values())
            tail = output.read_text(encoding="utf-8", errors="replace")[-6000:]
            outcome = "hung" if "Timeout (" in tail or status is None else "crashed"
            blamed = running or f"{module}.<process>.{'exit' if finished else 'start'}"
            tests[blamed] = Verdict(blamed, outcome, f"exit status {status}\n{tail}")
            if not running:
                break
    return describe, list(tests.values())


def _spawn(options: dict[str, Any], settings: Settings, output: Path) -> int | None:
    env = dict(os.environ)
    env.pop("PYTHONASYNCIODEBUG", None)
    env.pop("WEFT_PURE", None)
    if settings.plain:
        env["WEFT_PURE"] = "1"
    with output.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-m", "tests.conformance.worker", json.dumps(options)],
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            return process.wait(FILE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return None


def run(
    modules: Iterable[str], settings: Settings, tell: Callable[[str, list[Verdict]], None] | None = None
) -> Verdicts:
    """Run the files, `settings.jobs` at a time, and judge them. `tell` is called as each file ends."""
    started = time.monotonic()
    waiting = excuses.read_features()
    if settings.loop == "weft":
        exclusions = excuses.read_exclusions(_version(), "plain" if settings.plain else "compiled")
        settings.never = [pattern for exclusion in exclusions if exclusion.hangs for pattern in exclusion.tests]
    describe, tests = "", []
    with concurrent.futures.ThreadPoolExecutor(settings.jobs) as pool:
        runs = {
            pool.submit(run_file, module, settings, waiting, shard, SHARDS.get(module, 1)): module
            for module in modules
            for shard in range(SHARDS.get(module, 1))
        }
        for done in concurrent.futures.as_completed(runs):
            said, found = done.result()
            describe = describe or said
            tests.extend(found)
            if tell is not None:
                tell(runs[done], found)
    verdicts = Verdicts(describe, sorted(tests, key=lambda test: test.id), 0.0)
    if settings.loop == "weft":
        _excuse(verdicts, "plain" if " plain edition" in describe else "compiled")
        _ask_oracle(verdicts, settings)
    verdicts.seconds = round(time.monotonic() - started, 1)
    for test in verdicts.tests:
        if test.outcome in BAD:
            verdicts.problems.append(f"{test.outcome}: {test.id}")
    return verdicts


def _excuse(verdicts: Verdicts, edition: str) -> None:
    """Turn excused failures into `excluded`, and excuses nobody needs into problems."""
    for exclusion in excuses.read_exclusions(_version(), edition):
        for test in verdicts.tests:
            if not exclusion.covers(test.id):
                continue
            if test.outcome in BAD:
                test.outcome, test.detail = "excluded", f"`{exclusion.pokes}`: {' '.join(exclusion.reason.split())}"
            elif test.outcome == "passed":
                test.outcome = "stale"
                verdicts.problems.append(f"stale exclusion: {test.id} passes")
    excluded = [test.id for test in verdicts.tests if test.outcome == "excluded"]
    verdicts.excluded = len({excuses.single_test(name) for name in excluded})
    if excuses.over_limit(excluded):
        verdicts.problems.append(f"{verdicts.excluded} single tests excluded, {excuses.LIMIT} allowed")


def _version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _ask_oracle(verdicts: Verdicts, settings: Settings) -> None:
    """Run what failed on asyncio itself: what fails there too says something about the machine, not about Weft."""
    suspects: dict[str, list[str]] = {}
    for test in verdicts.tests:
        if test.outcome in BAD and ".<process>." not in test.id and not test.id.split(".")[1].endswith("_own"):
            suspects.setdefault(test.id.split(".")[0], []).append(test.id)
    by_id = {test.id: test for test in verdicts.tests}
    for module, names in suspects.items():
        asked = Settings(loop="asyncio", only=names, jobs=1, test_timeout_s=settings.test_timeout_s)
        for test in run_file(module, asked, {})[1]:
            if test.outcome in BAD and test.id in by_id:
                by_id[test.id].outcome = "oracle"
