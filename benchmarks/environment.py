"""Where the figures come from: the machine, the Python and how it was built, the packages, the commit."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

__all__ = ["describe"]

ROOT = Path(__file__).resolve().parent.parent


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        return platform.processor() or "unknown"
    return platform.processor() or platform.machine()


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def _commit() -> str:
    """The commit of this tree; says so when the sources of Weft or of the suite differ from it."""
    commit = _git("rev-parse", "--short=12", "HEAD")
    if not commit:
        return "unknown"
    changed = _git("status", "--porcelain", "--", "src", "benchmarks", "setup.py", ":!benchmarks/results")
    return f"{commit} with uncommitted changes" if changed else commit


def _python_build() -> str:
    config = str(sysconfig.get_config_var("CONFIG_ARGS") or "")
    parts = [
        f"optimisation flags: {sysconfig.get_config_var('OPT') or 'unknown'}",
        "--enable-optimizations" if "--enable-optimizations" in config else "PGO: not recorded in its configuration",
    ]
    if "--with-lto" in config:
        parts.append("--with-lto")
    if "experimental-jit" in config:
        parts.append("JIT: built, off unless asked for" if "yes-off" in config else "JIT: built")
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        parts.append("free-threaded")
    if hasattr(sys, "gettotalrefcount"):
        parts.append("DEBUG BUILD")
    return ", ".join(parts)


def _differs(installed: Path) -> bool:
    """Whether the `.py` files of an installed Weft are others than this tree's."""
    source = ROOT / "src" / "weft"
    here = {path.relative_to(source): path.read_bytes() for path in source.rglob("*.py")}
    there = {path.relative_to(installed): path.read_bytes() for path in installed.rglob("*.py")}
    return here != there


def describe(found: dict[str, dict[str, Any]], load: str) -> dict[str, str]:
    """One line a fact. `found` as from `interleave.probe_all`."""
    facts = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "CPU": f"{_cpu()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()} ({platform.python_compiler()})",
        "Python build": _python_build(),
        "loops": ", ".join(f"{name} {facts['version']}" for name, facts in found.items()),
        "load generator": load,
    }
    folders = {facts["folder"] for facts in found.values() if "folder" in facts}
    if any(_differs(Path(folder)) for folder in folders):
        facts["note"] = "the installed Weft is not the one of this tree: the commit does not describe it"
    if hasattr(os, "getloadavg"):
        facts["load average at the start"] = f"{os.getloadavg()[0]:.2f}"
    return facts
