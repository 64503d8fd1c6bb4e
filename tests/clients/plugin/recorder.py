"""A pytest plugin: each test's outcome as a line of JSON in $CLIENT_OUTCOMES, and at the end how many loops were Weft's.

Written as it happens, so that a run that is ended early, or crashes, still tells which test it was in. Tests that have
an outcome there already, by an earlier process, are not run again.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest

_WORST = ("failed", "skipped", "passed")


class Recorder:
    """Of one session; nested sessions (of `pytester`) are not recorded."""

    def __init__(self, file: TextIO, done: set[str], is_on_weft: bool) -> None:
        self._file = file
        self._done = done
        self._found: dict[str, str] = {}
        self._details: dict[str, str] = {}
        self._loops = 0
        if is_on_weft:
            from weft._host import registry

            registry.observers.append(self._count)

    def _count(self, loop: object) -> None:
        self._loops += 1

    def _write(self, **fields: Any) -> None:
        self._file.write(json.dumps(fields) + "\n")
        self._file.flush()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if item.nodeid not in self._done]

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._write(collected=len(session.items) + len(self._done))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._write(test=f"{report.nodeid} (collecting)", outcome="failed", detail=report.longreprtext[-3000:])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._found[nodeid], self._details[nodeid] = "passed", ""
        self._write(started=nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        test = report.nodeid
        self._found[test] = min(self._found.get(test, "passed"), report.outcome, key=_WORST.index)
        if report.failed:
            self._details[test] = self._details.get(test, "") + report.longreprtext[-3000:]
        if report.when == "teardown" or report.failed:
            self._write(test=test, outcome=self._found[test], detail=self._details.get(test, ""))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        self._write(loops=self._loops, status=int(exitstatus))


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Iterator[None]:
    path = os.environ.pop("CLIENT_OUTCOMES", None)
    if path:
        earlier = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
        done = {entry["test"] for entry in earlier if "test" in entry}
        file = open(path, "a", encoding="utf-8")  # closed with the process
        early_config.pluginmanager.register(Recorder(file, done, "weft.cli.run" in sys.modules))
    return (yield)
