"""Makes the load generator: load.c compiled on the fly, or its Python twin where there is no C compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["make_load"]

_SOURCE = Path(__file__).with_name("load.c")


def make_load(folder: Path) -> tuple[list[str], str]:
    """The command of the load generator, and one line that says which it is. A C one is built into `folder`."""
    compiler = shutil.which(os.environ.get("CC") or "cc")
    why = "no C compiler" if compiler is None else "it needs epoll"
    if compiler is not None and sys.platform == "linux":
        target = folder / "load"
        built = subprocess.run([compiler, "-O2", "-o", str(target), str(_SOURCE)], capture_output=True, text=True)
        if built.returncode == 0:
            return [str(target)], "C, epoll, one thread"
        why = (
            f"{compiler} failed: {built.stderr.strip().splitlines()[-1] if built.stderr.strip() else built.returncode}"
        )
    return [sys.executable, "-m", "benchmarks.load_fallback"], f"Python ({why})"
