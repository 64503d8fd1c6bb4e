"""Runs graphql_session in an environment of its own: graphql-core 2.3.2 pins old packages, and shares a newer one's name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from environments import ROOT, call, python_with, with_weft

HERE = Path(__file__).resolve().parent
WANTED = ["graphql-core==2.3.2", "promise==2.3", "Rx==1.6.3", "pytest>=8", "pytest-timeout>=2.3"]


@pytest.fixture(scope="module")
def python() -> Path:
    return python_with("legacy", WANTED)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return with_weft(tmp_path)


@pytest.mark.slow_test(120)
def test_graphql_core_2(python: Path, environment: dict[str, str]) -> None:
    command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / "graphql_session.py")]
    done = call(command, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 150
    assert not re.search(r"skipped|warning", done.stdout), done.stdout


def test_the_example_of_the_guide(python: Path, environment: dict[str, str]) -> None:
    page = (ROOT / "docs" / "guide" / "bridge-graphql.md").read_text(encoding="utf-8")
    found = re.search(r"^```py\n(.*?)^```\n\nIt prints\n\n```\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert found is not None
    done = call([str(python), "-W", "error", "-c", found[1]], env=environment)
    assert (done.stdout, done.stderr) == (found[2], "")
