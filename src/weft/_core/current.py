"""Which task runs now, as asyncio keeps it: the one place that knows where each Python version keeps it.

Until 3.13 that is a dict, loop -> task; from 3.14 on it is the state of the thread, behind a function. Both are asyncio's
own, so `asyncio.current_task()` needs no help. Only for the thread that runs the loop.
"""

from __future__ import annotations

import asyncio.tasks
import sys
from typing import Any

from weft._native.drive import Drive
from weft._native.runningtask import RunningTask

_IS_STATE_OF_THREAD = sys.version_info >= (3, 14)

_swap: Any = getattr(asyncio.tasks, "_swap_current_task", None)
_running: dict[Any, Any] = {} if _IS_STATE_OF_THREAD else asyncio.tasks._current_tasks  # type: ignore[attr-defined]


def _find_place() -> bool:
    running = asyncio._get_running_loop()
    try:
        return RunningTask.find(asyncio._set_running_loop, _swap, object(), object())
    finally:
        asyncio._set_running_loop(running)


#: Whether the state of the thread can be written without asking asyncio.
_is_place_known = _IS_STATE_OF_THREAD and _find_place()


class CurrentTask:
    """Static functions only, so that both editions can import them under one name."""

    __slots__ = ()

    @staticmethod
    def set(loop: Any, task: Any) -> None:
        """Let `task` be the current task of `loop`; None: there is none. `RunningTask.set` is asked first, by the scheduler."""
        if _IS_STATE_OF_THREAD:
            Drive.call_two(_swap, loop, task)
        elif task is None:
            _running.pop(loop, None)
        else:
            _running[loop] = task

    @staticmethod
    def is_written_directly() -> bool:
        """Whether no function of asyncio stands between. Any thread; for `weft doctor`."""
        return bool(_is_place_known)

    @staticmethod
    def swap(loop: Any, task: Any) -> Any:
        """As `set`; gives the task that was current, or None."""
        if _IS_STATE_OF_THREAD:
            return _swap(loop, task)
        previous = _running.get(loop)
        CurrentTask.set(loop, task)
        return previous
