"""Async generators that a loop iterates: known from their first `__anext__`, closed by the loop when they are dropped.

Rules for whoever edits this file:

- The interpreter calls `first_iteration` in the running thread, but `dropped` wherever the last reference went: maybe
  in another thread, maybe in a garbage collection in the middle of anything. So `dropped` only posts.
- The hooks are the process's per-thread ones: installed while the loop runs, and what was there before is put back
  after.
"""

from __future__ import annotations

import asyncio
import sys
import warnings
import weakref
from collections.abc import AsyncGenerator
from typing import Any

__all__ = ["AsyncGenerators"]


class AsyncGenerators:
    """The async generators of one loop."""

    __slots__ = ("_previous", "alive", "is_shut_down")

    def __init__(self) -> None:
        # Those that were iterated under this loop and are neither dropped nor closed by `shutdown`.
        self.alive: weakref.WeakSet[AsyncGenerator[Any, Any]] = weakref.WeakSet()
        # Whether `shutdown` was called: a generator that begins later will not be closed by anybody.
        self.is_shut_down = False
        self._previous: Any = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Install the hooks of this thread. The loop is about to run in it."""
        self._previous = sys.get_asyncgen_hooks()

        def first_iteration(generator: AsyncGenerator[Any, Any]) -> None:
            if self.is_shut_down:
                warnings.warn(
                    f"asynchronous generator {generator!r} was scheduled after loop.shutdown_asyncgens() call",
                    ResourceWarning,
                    source=loop,
                    stacklevel=2,
                )
            self.alive.add(generator)

        def dropped(generator: AsyncGenerator[Any, Any]) -> None:
            self.alive.discard(generator)
            if not loop.is_closed():
                loop.call_soon_threadsafe(loop.create_task, generator.aclose())

        sys.set_asyncgen_hooks(firstiter=first_iteration, finalizer=dropped)

    def finish(self) -> None:
        """Put back the hooks that were there before `start`."""
        previous, self._previous = self._previous, None
        if previous is not None:
            sys.set_asyncgen_hooks(*previous)

    async def shutdown(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close every generator that is alive; what one raises while it closes is reported, not raised."""
        self.is_shut_down = True
        closing = list(self.alive)
        if not closing:
            return
        self.alive.clear()
        results = await asyncio.gather(*[generator.aclose() for generator in closing], return_exceptions=True)
        for generator, result in zip(closing, results, strict=True):
            if isinstance(result, Exception):
                loop.call_exception_handler(
                    {
                        "message": f"an error occurred during closing of asynchronous generator {generator!r}",
                        "exception": result,
                        "asyncgen": generator,
                    }
                )
