"""The standard library's pool of processes, as Weft makes it.

Before Python 3.12 `submit` and the pool's own thread do not wait for each other. If a worker dies while `submit` starts
another, the thread may end all workers that it knows, and then wait for ever for the one that was just added; or it dies
of a dict that changes under it, and calls stay without an answer. 3.12 ends a broken pool under the lock that `submit`
holds. Here the same is done for 3.11.
"""

from __future__ import annotations

import concurrent.futures.process
import multiprocessing
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

__all__ = ["process_pool"]


def process_pool(workers: int, initializer: Callable[[], None]) -> ProcessPoolExecutor:
    """A pool of processes that are new interpreters."""
    # Never by fork: this process has threads, whose locks a forked child would keep for ever.
    return _Pool(workers, mp_context=multiprocessing.get_context("spawn"), initializer=initializer)


if sys.version_info >= (3, 12):
    _Pool = ProcessPoolExecutor
else:

    class _Manager(concurrent.futures.process._ExecutorManagerThread):
        """The thread of a pool."""

        def __init__(self, pool: _Pool) -> None:
            self._submitting = pool._submitting
            super().__init__(pool)

        def terminate_broken(self, cause: Any) -> None:
            with self._submitting:
                super().terminate_broken(cause)

    class _Pool(ProcessPoolExecutor):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            # Not the pool's own lock, which its thread takes when it ends.
            self._submitting = threading.Lock()
            super().__init__(*args, **kwargs)

        def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[Any]:
            with self._submitting:
                return super().submit(function, *args, **kwargs)

        def _start_executor_manager_thread(self) -> None:
            if self._executor_manager_thread is None:
                thread = self._executor_manager_thread = _Manager(self)
                thread.start()
                # The interpreter's end wakes it.
                concurrent.futures.process._threads_wakeups[thread] = self._executor_manager_thread_wakeup
