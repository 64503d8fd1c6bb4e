"""What can go wrong between two worlds, as types. Each names the object and what to do next."""

from __future__ import annotations

__all__ = [
    "BridgeError",
    "Closed",
    "Deadlock",
    "NotPicklable",
    "Overflow",
    "SchedulerLost",
    "StillRunning",
    "WorkerDied",
]


class BridgeError(Exception):
    """The base of what this package raises by itself; each kind is also the built-in exception that it resembles."""


class Closed(BridgeError, RuntimeError):
    """A portal, an executor or an iterator was used after its end, or before its beginning."""


class Deadlock(BridgeError, RuntimeError):
    """A call that could never return: it would wait in the very thread that has to do the work."""


class StillRunning(BridgeError, TimeoutError):
    """A synchronous call took longer than it was given. No thread can be ended from outside: it runs on.

    thread:  the name of the thread
    where:   the line it was at, as `file:line in function`; "" where that could not be seen
    """

    def __init__(self, message: str, thread: str, where: str) -> None:
        super().__init__(message)
        self.thread = thread
        self.where = where


class NotPicklable(BridgeError, TypeError):
    """A function, an argument or a result that can't be sent to another process or machine."""


class Overflow(BridgeError, RuntimeError):
    """A source that can't be held up has pushed more items than the buffer takes."""


class WorkerDied(BridgeError, RuntimeError):
    """The process or machine that did the work ended before the work did."""


class SchedulerLost(BridgeError, ConnectionError):
    """The service that hands out the work can't be reached any more."""
