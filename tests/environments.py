"""Environments with packages that the tests' own can't have: they pin old ones, or are too large for everybody."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import weft

ROOT = Path(__file__).resolve().parents[1]


def call(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, **options)  # type: ignore[call-overload, no-any-return]


def python_with(name: str, wanted: list[str]) -> Path:
    """The Python of the environment `name`, made once for each version, with the packages `wanted` from PyPI.

    Without them the calling test is skipped, and fails where the variable CI is set. Several runs may ask at once.
    """
    folder = ROOT / "build" / name
    there = folder / f"venv-{sys.implementation.cache_tag}"
    python, note, state = there / "bin" / "python", there / "installed.json", json.dumps([sys.version, wanted])
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not note.exists() or note.read_text(encoding="utf-8") != state:
            shutil.rmtree(there, ignore_errors=True)
            pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
            for command in ([sys.executable, "-m", "venv", "--without-pip", str(there)], [*pip, *wanted]):
                done = call(command)
                if done.returncode:
                    words = f"no environment with {', '.join(wanted)}: {done.stderr[-2000:]}"
                    pytest.fail(words) if os.environ.get("CI") else pytest.skip(words)
            note.write_text(state, encoding="utf-8")
    return python


def with_weft(folder: Path) -> dict[str, str]:
    """The variables of a process that shall have Weft as it is tested here, and nothing else of this environment."""
    (folder / "weft").symlink_to(Path(weft.__file__).parent)
    return {**os.environ, "PYTHONPATH": str(folder)}
