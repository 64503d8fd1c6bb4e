"""How many calls may be under way at once; the others wait in the order they came. All in the loop's thread."""

from __future__ import annotations

import asyncio
from collections import deque

__all__ = ["Places"]


class Places:
    """A bounded number of places."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._refusal: Exception | None = None

    async def take(self) -> None:
        """Wait for a place and take it. Raises what `close` was given."""
        if self._refusal is not None:
            raise self._refusal
        if self._free > 0 and not self._waiting:
            self._free -= 1
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                # It was given a place, and can't use it any more.
                self.give()
            raise

    def give(self) -> None:
        """Give a place back."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._free += 1

    def close(self, refusal: Exception) -> None:
        """Nobody gets a place any more: who waits, and who comes, gets `refusal`."""
        self._refusal = refusal
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(refusal)
        self._waiting.clear()
