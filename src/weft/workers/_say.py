"""What supervisor and workers have to say goes to stderr, a line at a time."""

from __future__ import annotations

import contextlib
import select
import sys
from typing import TextIO

__all__ = ["say"]

#: How long a line waits for room in a full pipe.
_ROOM_MS = 500


def say(line: str) -> None:
    """Write one line, if anybody takes it: a supervisor outlives the reader of its messages, and one who reads no more."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if _has_room(sys.stderr):
            sys.stderr.write(f"weft workers: {line}\n")
            sys.stderr.flush()


def _has_room(stream: TextIO) -> bool:
    """Whether a short line can be written at once, now or soon. Of what is no descriptor: True."""
    try:
        fd = stream.fileno()
    except (OSError, ValueError, AttributeError):
        return True
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(_ROOM_MS))
