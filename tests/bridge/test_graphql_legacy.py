"""Runs graphql_session in an environment of its own: graphql-core 2.3.2 pins old packages, and shares a newer one's name."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import weft
from weft._edition import EDITION

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build" / "legacy"
WANTED = ["graphql-core==2.3.2", "promise==2.3", "Rx==1.6.3", "pytest>=8", "pytest-timeout>=2.3"]


def call(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, **options)  # type: ignore[call-overload, no-any-return]


@pytest.fixture(scope="module")
def python() -> Path:
    """The Python of an environment with the packages in it, made once for each version.

    And for each edition, whose tests may run side by side.
    """
    there = BUILD / f"venv-{sys.implementation.cache_tag}-{EDITION}"
    python, note, state = there / "bin" / "python", there / "installed.json", json.dumps([sys.version, WANTED])
    if not note.exists() or note.read_text(encoding="utf-8") != state:
        shutil.rmtree(there, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
        for command in ([sys.executable, "-m", "venv", "--without-pip", str(there)], [*pip, *WANTED]):
            done = call(command)
            if done.returncode:
                words = f"no environment with graphql-core 2.3.2: {done.stderr[-2000:]}"
                pytest.fail(words) if os.environ.get("CI") else pytest.skip(words)
        note.write_text(state, encoding="utf-8")
    return python


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Weft as it is tested here, and nothing else of this environment."""
    (tmp_path / "weft").symlink_to(Path(weft.__file__).parent)
    return {**os.environ, "PYTHONPATH": str(tmp_path)}


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
