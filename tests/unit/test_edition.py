"""Where Weft can't run, it says so when it is imported."""

from __future__ import annotations

import subprocess
import sys


def test_windows_is_refused_in_words() -> None:
    source = "import asyncio, sys; sys.platform = 'win32'; import weft"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ImportError: Weft does not run on Windows: it needs a Unix kernel")
