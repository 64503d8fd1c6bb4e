"""Weft: an asyncio runtime that is complete, fast, and can be seen through.

The names are asyncio's, and mean what they mean there. `weft.run(main())` runs a program on Weft's loop; unmodified
code, with its own `import asyncio`, runs on it as well.
"""

from __future__ import annotations

import sys
from asyncio import CancelledError, InvalidStateError, all_tasks, current_task, get_running_loop, to_thread

# Before the rest: it decides which edition of everything below gets imported.
from weft import _edition as _edition  # isort: skip

from weft._core.completion import as_completed
from weft._core.ensure import create_task, ensure_future
from weft._core.future import Future, isfuture
from weft._core.gather import gather
from weft._core.handle import Handle
from weft._core.shielding import shield
from weft._core.sleeping import sleep
from weft._core.task import Task, create_eager_task_factory, eager_task_factory
from weft._core.timeouts import Timeout, timeout, timeout_at
from weft._core.timers import TimerHandle
from weft._core.waiting import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION, wait, wait_for
from weft._host.foreign import run_coroutine_threadsafe, wrap_future
from weft.loop import Loop
from weft.runner import Runner, install, new_event_loop, run

__all__ = [
    "ALL_COMPLETED",
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
    "CancelledError",
    "Future",
    "Handle",
    "InvalidStateError",
    "Loop",
    "Runner",
    "Task",
    "Timeout",
    "TimerHandle",
    "__version__",
    "all_tasks",
    "as_completed",
    "create_eager_task_factory",
    "create_task",
    "current_task",
    "eager_task_factory",
    "ensure_future",
    "gather",
    "get_running_loop",
    "install",
    "isfuture",
    "new_event_loop",
    "run",
    "run_coroutine_threadsafe",
    "shield",
    "sleep",
    "timeout",
    "timeout_at",
    "to_thread",
    "wait",
    "wait_for",
    "wrap_future",
]

__version__ = "0.1.0"

if sys.version_info < (3, 14):
    from weft.runner import EventLoopPolicy

    __all__ += ["EventLoopPolicy"]
