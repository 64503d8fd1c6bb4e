"""What supervisor and workers have to say goes to stderr, a line at a time."""

from __future__ import annotations

import contextlib
import sys

__all__ = ["say"]


def say(line: str) -> None:
    """Write one line, if anybody takes it: a supervisor outlives the reader of its messages."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"weft workers: {line}\n")
        sys.stderr.flush()
