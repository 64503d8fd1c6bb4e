"""The default executor of a loop: made at the first need, joined by `shutdown_default_executor`, let go by `close`.

Rule for whoever edits this file: the loop's thread never waits for a worker thread. Joining is done by a thread of its
own, because a worker that needs the loop (`run_coroutine_threadsafe(...).result()`) would else never finish.
"""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, TypeVar

from weft._host.foreign import post, wrap_future

__all__ = ["DefaultExecutor"]

_T = TypeVar("_T")


class DefaultExecutor:
    """The default executor of one loop, or the lack of one."""

    __slots__ = ("is_shut_down", "pool")

    def __init__(self) -> None:
        # None until somebody needs or sets it.
        self.pool: ThreadPoolExecutor | None = None
        # Whether shutdown was asked for (or the loop closed): the default executor takes no more work.
        self.is_shut_down = False

    def run(
        self, loop: asyncio.AbstractEventLoop, executor: Executor | None, function: Callable[..., _T], args: Any
    ) -> asyncio.Future[_T]:
        """A future of `loop` for `function(*args)` run in `executor`, or in the default one for None."""
        if executor is None:
            executor = self._get()
        return wrap_future(executor.submit(function, *args), loop=loop)

    def _get(self) -> ThreadPoolExecutor:
        if self.is_shut_down:
            raise RuntimeError("Executor shutdown has been called")
        if self.pool is None:
            self.pool = ThreadPoolExecutor(thread_name_prefix="asyncio")
        return self.pool

    def set(self, executor: Executor) -> None:
        """Take another executor from now on; the one before is left to its owner."""
        if not isinstance(executor, ThreadPoolExecutor):
            raise TypeError("executor must be ThreadPoolExecutor instance")
        self.pool = executor

    async def shutdown(self, loop: asyncio.AbstractEventLoop, timeout: float | None) -> None:
        """Join the threads of the default executor, at most for `timeout` seconds (None: as long as it takes)."""
        self.is_shut_down = True
        pool = self.pool
        if pool is None:
            return
        joined: asyncio.Future[None] = loop.create_future()
        joiner = threading.Thread(target=_join, args=(pool, loop, joined))
        joiner.start()
        try:
            async with asyncio.timeout(timeout):
                await joined
        except TimeoutError:
            warnings.warn(
                f"The executor did not finishing joining its threads within {timeout} seconds.",
                RuntimeWarning,
                stacklevel=2,  # `Loop.shutdown_default_executor` gives this coroutine on: no frame of its own
            )
            pool.shutdown(wait=False)
        else:
            joiner.join()

    def close(self) -> None:
        """Let the threads end by themselves; waits for none of them."""
        self.is_shut_down = True
        pool, self.pool = self.pool, None
        if pool is not None:
            pool.shutdown(wait=False)

    def forget(self) -> None:
        """In a forked child: the threads are the parent's, and a lock one of them held will never be let go."""
        self.is_shut_down = True
        self.pool = None


def _join(pool: ThreadPoolExecutor, loop: asyncio.AbstractEventLoop, joined: asyncio.Future[None]) -> None:
    """Join every worker, then tell the loop (which may be closed by then). Runs in a thread of its own."""
    try:
        pool.shutdown(wait=True)
    except Exception as exc:
        post(loop, _finish, joined, exc)
    else:
        post(loop, _finish, joined, None)


def _finish(joined: asyncio.Future[None], exc: Exception | None) -> None:
    if joined.done():
        return
    if exc is None:
        joined.set_result(None)
    else:
        joined.set_exception(exc)
