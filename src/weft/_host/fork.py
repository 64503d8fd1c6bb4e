"""What becomes of a loop in a forked child: it is closed to use, and says so, and the parent notices nothing.

A child gets a copy of the parent's memory, but shares its kernel objects: an epoll set is one and the same, so a child
that goes on with the loop would edit what the parent waits for, and steal its events. So in the child:

- the poller lets its descriptors go without a word to the kernel's set (`Poller.forget`), and `LostPoller` takes its
  place;
- the sockets and handlers of signals are let go, and the default executor, whose threads exist in the parent only;
- the loop counts as closed and not running. What needs it raises RuntimeError that names the parent and what to do.

asyncio itself clears its mark of the running loop in the child, so `asyncio.run()` works there at once.
`docs/design/fork.md` has the reasons.

Rules for whoever edits this file: its code runs in a child that may have been forked from any thread with any lock
held, in the middle of a callback. Take no lock, wake nobody, write nothing to a descriptor that the parent has too.
"""

from __future__ import annotations

import os
from typing import Any

from weft._core.handle import Runnable
from weft._host import registry
from weft._io.spi import Poller

__all__ = ["LostPoller", "lost_error", "watch"]

_is_watching = False


def watch() -> None:
    """From now on, a child forked from this process finds every loop of `registry.live()` lost. Once a process."""
    global _is_watching
    if not _is_watching and hasattr(os, "register_at_fork"):
        _is_watching = True
        os.register_at_fork(after_in_child=_lose_loops)


def _lose_loops() -> None:
    for loop in registry.live():
        loop._lose()
        registry.discard(loop)


def lost_error(owner_pid: int) -> RuntimeError:
    """What to raise for any use of a loop of the process `owner_pid` in a child of it."""
    return RuntimeError(
        f"this event loop belongs to process {owner_pid}, from which this process ({os.getpid()}) was forked: "
        "it can't be used here; make a new one, for example with asyncio.run() or weft.new_event_loop()"
    )


class LostPoller(Poller):
    """The poller of a loop that was lost by a fork: nothing is watched by it, and nothing can be."""

    name = "lost"

    def __init__(self, owner_pid: int) -> None:
        super().__init__()
        self._owner_pid = owner_pid

    def poll(self, timeout_ns: int, ready: list[Runnable]) -> None:
        raise lost_error(self._owner_pid)

    def watch(self, fd: int, direction: int, runnable: Runnable) -> Runnable | None:
        raise lost_error(self._owner_pid)

    def wake(self) -> None:
        raise lost_error(self._owner_pid)

    def unwatch(self, fd: int, direction: int) -> Runnable | None:
        """None: a transport that is closed in the child lets go of its own descriptor and must not fail here."""
        return None

    def watched(self, fd: int, direction: int) -> Any:
        return None

    def close(self) -> None:
        """Nothing is left to close."""

    def forget(self) -> None:
        """Nothing is left to forget: a child of the child is told of the first owner."""
