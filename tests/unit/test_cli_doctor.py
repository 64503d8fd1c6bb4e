"""`weft doctor` says what is so, as text and as JSON."""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys

import pytest


def doctor(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "weft", "doctor", *arguments],
        text=True,
        capture_output=True,
        timeout=60,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_a_reader_that_has_seen_enough(arguments: tuple[str, ...]) -> None:
    """As `weft doctor | head`: no traceback, and the exit code still tells what was found."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "weft", "doctor", *arguments],
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_it_says_what_runs_here() -> None:
    from weft import _edition
    from weft._io import available_pollers

    done = doctor("--json")
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert said["ok"] is True
    assert said["broken"] == []
    assert said["weft"]["edition"].startswith(f"{_edition.EDITION} (")
    for name in available_pollers():
        assert f"{name} works" in said["weft"]["pollers"]
    assert "asyncio's own" in said["weft"]["asyncio.all_tasks()"]
    assert "asyncio's own" in said["weft"]["asyncio.current_task()"]
    assert platform.python_version() in said["versions"]["Python"]
    assert said["machine"]["open files"].split()[0] in ("unlimited", str(resource.getrlimit(resource.RLIMIT_NOFILE)[0]))
    if _edition.EDITION == "compiled":
        assert said["versions"]["compiled by"].startswith("Cython 3.")
        assert "GCC" in said["versions"]["compiled by"] or "clang" in said["versions"]["compiled by"]


def test_the_text_has_everything_that_the_json_has() -> None:
    text, said = doctor().stdout, json.loads(doctor("--json").stdout)
    for part in ("weft", "versions", "machine"):
        for name, value in said[part].items():
            assert name in text
            assert value in text
    for line in said["lacking"]:
        assert line in text


def test_the_poller_that_was_asked_for() -> None:
    said = json.loads(doctor("--json", WEFT_POLLER="selector").stdout)
    assert said["weft"]["poller"] == "selector (WEFT_POLLER says so)"


def test_a_poller_that_does_not_exist_is_broken() -> None:
    done = doctor(WEFT_POLLER="uring")
    assert done.returncode == 1
    assert "Broken\n  WEFT_POLLER=uring: no such poller here" in done.stdout


def test_pure_is_said() -> None:
    said = json.loads(doctor("--json", WEFT_PURE="1").stdout)
    assert said["weft"]["edition"] == "plain (WEFT_PURE is set)"


def test_few_open_files_are_lacking() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    done = subprocess.run(
        [sys.executable, "-m", "weft", "doctor", "--json"],
        text=True,
        capture_output=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard)),
    )
    (line,) = [line for line in json.loads(done.stdout)["lacking"] if line.startswith("open files")]
    assert line.startswith("open files: 256 is few")


@pytest.mark.parametrize("arguments", [("--bogus",), ("something",)])
def test_wrong_usage_is_exit_code_2(arguments: tuple[str, ...]) -> None:
    done = doctor(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: weft doctor" in done.stderr
