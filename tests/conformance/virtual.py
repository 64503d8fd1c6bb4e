"""Weft's loop under a clock that a test drives by hand, as `test.test_asyncio.utils.TestLoop` does with asyncio's.

The generator given by a test is told of every timer (`when = yield advance`) and says by how much time moves on. TestLoop
asks it after each iteration; here it is asked when the loop would block, and once more when the loop stops: the scheduler
is the real one, so there is no other place to stand. A test whose timers depend on the difference would fail, not pass.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

TimeGenerator = Callable[[], Generator[float, float, None]]


def make_virtual_loop(loop_class: Any, poller_class: Any, gen: TimeGenerator) -> Any:
    """An open loop of `loop_class` whose time is 0 and moves only as `gen` says; never blocks in its poller."""

    class VirtualPoller(poller_class):  # type: ignore[misc]
        def poll(self, timeout_ns: int, ready: list[Any]) -> None:
            super().poll(0, ready)
            if timeout_ns != 0 and not ready:
                loop.ask_generator()

    class VirtualLoop(loop_class):  # type: ignore[misc]
        def __init__(self) -> None:
            self._virtual_now = 0.0
            self._asked: list[float] = []
            self._generator = gen()
            next(self._generator)
            super().__init__(poller=VirtualPoller())

        def time(self) -> float:
            return self._virtual_now

        def advance_time(self, advance: float) -> None:
            if advance:
                self._virtual_now += advance

        def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> Any:
            return self.call_at(self.time() + delay, callback, *args, context=context)

        def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
            self._asked.append(when)
            return super().call_at(when, callback, *args, context=context)

        def ask_generator(self) -> None:
            asked, self._asked = self._asked, []
            for when in asked:
                self.advance_time(self._generator.send(when))

        def run_forever(self) -> None:
            super().run_forever()
            self.ask_generator()

        def close(self) -> None:
            was_open = not self.is_closed()
            super().close()
            if was_open and next(self._generator, None) is not None:
                raise AssertionError("Time generator is not finished")

    loop = VirtualLoop()
    return loop
