"""What a loop counts about itself. Counting is an integer addition; who wants to look reads the fields.

Written by the thread that runs the loop, one object a loop; anyone may read, and sees a recent value.
"""

from __future__ import annotations


class Counters:
    """Counts since the loop was made, and the longest callback, which is measured only while somebody asks for it."""

    __slots__ = (
        "accepts",
        "callbacks",
        "longest_ns",
        "longest_what",
        "polls",
        "recvs",
        "sends",
        "tasks",
        "touches",
        "turns",
        "wakes",
    )

    def __init__(self) -> None:
        #: Turns of the loop.
        self.turns: int = 0
        #: Callbacks and task steps run.
        self.callbacks: int = 0
        #: Tasks made.
        self.tasks: int = 0
        #: Calls of the poller: each is a system call.
        self.polls: int = 0
        #: Turns that found work left by another thread or a signal handler, and those that found a signal.
        self.wakes: int = 0
        #: System calls that read, wrote and accepted for transports.
        self.recvs: int = 0
        self.sends: int = 0
        self.accepts: int = 0
        #: What else may have made a descriptor ready: it was watched, or a stream or pipe was ended.
        self.touches: int = 0
        #: The longest callback so far, in nanoseconds, and its description; 0 and "" while nobody asked.
        self.longest_ns: int = 0
        self.longest_what: str = ""
