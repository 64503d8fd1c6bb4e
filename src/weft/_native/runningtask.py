"""Where CPython 3.14 and later keep the task that runs: the plain twin of `runningtask.pyx`, which writes to the place itself.

`asyncio.current_task()` reads two fields of the thread's state, the running loop and behind it the task. The function that
asyncio sets them with costs as much as the rest of a step's bookkeeping. Their place is no part of CPython's API, so it
is looked for at import, by putting something there and looking; where it isn't found, asyncio's function is used.
"""

from __future__ import annotations

from typing import Any


class RunningTask:
    """The field of the thread's state."""

    __slots__ = ()

    @staticmethod
    def find(set_loop: Any, swap_task: Any, loop: Any, task: Any) -> bool:
        """Find the place with asyncio's two functions and two objects to look for. Whether it was found."""
        return False

    @staticmethod
    def set(loop: Any, task: Any) -> bool:
        """Let `task`, or None, be what runs now. False, and nothing is done, if `loop` is not the running one."""
        return False
