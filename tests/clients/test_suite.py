"""A test that takes its process with it has failed, by name, and the tests after it run all the same."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from . import suite
from .prepare import Client

TESTS = """
import os, signal, time

def test_first():
    pass

def test_dies():
    os._exit(0)

def test_interrupts():
    raise KeyboardInterrupt

def test_fails():
    raise ValueError("words")

def test_hangs():
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    time.sleep(600)

def test_last():
    pass
"""


@pytest.mark.slow_test(120)
def test_broken_tests_are_named_and_the_others_run(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(suite, "SILENCE_S", 8)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "test_other.py").write_text("raise ValueError('meant')\n")
    told: list[tuple[int, int]] = []
    client = Client("some", "1.0", ["."], copied=["."])
    found = suite.run(client, Path(sys.executable), tmp_path, "asyncio", ["."], 100, lambda *pair: told.append(pair))
    assert not found.problem
    names = {test.rpartition("::")[2]: outcome for test, outcome in found.outcomes.items()}
    broken = ["test_dies", "test_interrupts", "test_hangs"]
    assert [test.rpartition("::")[2] for test in found.broken] == broken
    assert names == {
        "test_other.py (collecting)": "failed", "test_first": "passed", "test_fails": "failed", "test_last": "passed",
        **dict.fromkeys(broken, "failed"),
    }  # fmt: skip
    assert "words" in found.details["test_it.py::test_fails"]
    assert found.details["test_it.py::test_hangs"] == "told nothing for 8 s"
    assert told[-1][1] == 7, "six tests, and the file that could not be collected"


def test_a_pass_that_is_late_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_it.py").write_text("import time\n\ndef test_it():\n    time.sleep(60)\n")
    client = Client("some", "1.0", ["."], copied=["."])
    found = suite.run(client, Path(sys.executable), tmp_path, "asyncio", ["."], 0, lambda *pair: None)
    assert (found.outcomes, found.problem.partition(",")[0]) == ({}, "out of time")
