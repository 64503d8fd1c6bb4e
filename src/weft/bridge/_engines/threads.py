"""Calls in threads: those of this package, or those of a `ThreadPoolExecutor` that somebody else has."""

from __future__ import annotations

import sys
from concurrent.futures import Future as ConcurrentFuture
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from weft._host.foreign import post
from weft.bridge._workers import Job
from weft.bridge.errors import Closed
from weft.bridge.threads import DEFAULT_LIMIT, OnCancel, Threads

__all__ = ["ThreadsEngine"]


class ThreadsEngine:
    """Calls in `Threads`. Their contract is the engine's, so there is nothing to translate."""

    def __init__(
        self, workers: int | None, on_cancel: OnCancel, pool: ThreadPoolExecutor | None, shutdown: bool
    ) -> None:
        self.name = "threads"
        if pool is None:
            self.workers = DEFAULT_LIMIT if workers is None else workers
            self._threads = Threads(self.workers, on_cancel=on_cancel)
        else:
            self.workers = pool._max_workers if workers is None else workers
            # The pool itself queues what it can't run yet, unless fewer are asked for.
            self._threads = _InPool(pool, sys.maxsize if workers is None else workers, on_cancel)
        self._pool = pool if shutdown else None

    async def start(self) -> None:
        pass

    async def run(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return await self._threads.run(function, *args, **kwargs)

    async def close(self) -> None:
        try:
            await self._threads.aclose()
        finally:
            if self._pool is not None:
                # What it still runs was abandoned.
                self._pool.shutdown(wait=False)


class _InPool(Threads):
    """`Threads` whose jobs run in a pool of the standard library."""

    def __init__(self, pool: ThreadPoolExecutor, limit: int, on_cancel: OnCancel) -> None:
        super().__init__(limit, on_cancel=on_cancel)
        self._pool = pool
        self._submit = self._submit_to_pool

    def _submit_to_pool(self, job: Job) -> None:
        try:
            future = self._pool.submit(job.run)
        except RuntimeError as error:
            raise Closed(f"{job.what!r} can't be run: {self._pool!r} was shut down ({error})") from error

        def look(future: ConcurrentFuture[None]) -> None:
            if future.cancelled():
                # Its owner has emptied the pool's queue, so no thread will ever tell the loop of this job.
                post(job.loop, self._refuse, job)

        future.add_done_callback(look)

    def _refuse(self, job: Job) -> None:
        if job.withdraw():
            job.error = Closed(f"{job.what!r} was not run: {self._pool!r} was shut down before it began")
            self._on_end(job)
