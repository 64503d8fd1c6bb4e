"""The scheduler rows: small asyncio programs, each a coroutine function that performs `n` operations.

Rules for whoever edits this file:

- `names` is the module the row takes `sleep`, `gather`, … from: `asyncio` itself, or Weft's own of the same names.
  Everything else is plain asyncio.
- A row runs as a task of its own (one coroutine deep), and all it does is timed. `n` is a multiple of `batch`; set-up
  that is no part of the operation must vanish beside `batch` operations.
- A row that could go wrong silently checks its result.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

__all__ = ["ROWS", "Row"]


@dataclass(frozen=True, slots=True)
class Row:
    """One operation of the suite.

    name:   what `--rows` takes
    title:  what tables show; says what one operation is
    run:    `run(names, n)` performs `n` operations
    batch:  `n` is a multiple of this
    own:    the names taken from `names`. Where Weft has the first of its own, the row exists twice, once with Weft's.
    """

    name: str
    title: str
    run: Callable[[Any, int], Coroutine[Any, Any, None]]
    batch: int = 1000
    own: tuple[str, ...] = ()


async def _nothing() -> None:
    return None


# ------------------------------------------------------------------------------------------------------ callbacks


def _call_soon(chains: int) -> Callable[[Any, int], Coroutine[Any, Any, None]]:
    async def run(names: Any, n: int) -> None:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        unfinished = chains

        def chain(turns: int) -> Callable[[], None]:
            def step() -> None:
                nonlocal turns, unfinished
                turns -= 1
                if turns:
                    loop.call_soon(step)
                    return
                unfinished -= 1
                if not unfinished:
                    done.set_result(None)

            return step

        for _ in range(chains):
            loop.call_soon(chain(n // chains))
        await done

    return run


async def _call_later_cancel(names: Any, n: int) -> None:
    # A hundred at a time, with a turn of the loop between: cancelled timers that a loop sweeps up later count too.
    loop = asyncio.get_running_loop()
    for _ in range(n // 100):
        for handle in [loop.call_later(60.0, _nothing) for _ in range(100)]:
            handle.cancel()
        await asyncio.sleep(0)


# ---------------------------------------------------------------------------------------------------------- tasks


async def _sleep_one(names: Any, n: int) -> None:
    for _ in range(n):
        await names.sleep(0)


async def _sleep_many(names: Any, n: int) -> None:
    async def sleeper(turns: int) -> None:
        for _ in range(turns):
            await names.sleep(0)

    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(sleeper(n // 1000)) for _ in range(1000)]
    for task in tasks:
        await task


async def _create_await(names: Any, n: int) -> None:
    for _ in range(n):
        await names.create_task(_nothing())


async def _gather(names: Any, n: int) -> None:
    async def child(value: int) -> int:
        return value

    expected = list(range(100))
    for _ in range(n // 100):
        if await names.gather(*[child(i) for i in range(100)]) != expected:
            raise AssertionError("gather gave a wrong result")


async def _task_group(names: Any, n: int) -> None:
    for _ in range(n // 100):
        async with names.TaskGroup() as group:
            for _ in range(100):
                group.create_task(_nothing())


# ------------------------------------------------------------------------------------------------------- wake-ups


async def _both(player: Callable[[int, int], Awaitable[None]]) -> None:
    """Run two players against each other, each given its own number and the other's."""
    loop = asyncio.get_running_loop()

    async def play(mine: int, other: int) -> None:
        await player(mine, other)

    tasks = [loop.create_task(play(0, 1)), loop.create_task(play(1, 0))]
    for task in tasks:
        await task


async def _future_wake(names: Any, n: int) -> None:
    loop = asyncio.get_running_loop()
    futures = [loop.create_future(), loop.create_future()]

    async def player(mine: int, other: int) -> None:
        for _ in range(n // 2):
            await futures[mine]
            futures[mine] = loop.create_future()
            futures[other].set_result(None)

    futures[0].set_result(None)
    await _both(player)


async def _queue(names: Any, n: int) -> None:
    queues = [names.Queue(), names.Queue()]

    async def player(mine: int, other: int) -> None:
        for _ in range(n // 2):
            item = await queues[mine].get()
            await queues[other].put(item + 1)

    queues[0].put_nowait(0)
    await _both(player)
    if queues[0].get_nowait() != n:
        raise AssertionError("an item of the queue went astray")


async def _event(names: Any, n: int) -> None:
    events = [names.Event(), names.Event()]

    async def player(mine: int, other: int) -> None:
        for _ in range(n // 2):
            await events[mine].wait()
            events[mine].clear()
            events[other].set()

    events[0].set()
    await _both(player)


async def _lock(names: Any, n: int) -> None:
    # Holding the lock over one turn makes the other task wait for it: every acquisition is a hand-over.
    lock = names.Lock()

    async def player(mine: int, other: int) -> None:
        for _ in range(n // 2):
            async with lock:
                await names.sleep(0)

    await _both(player)


# ------------------------------------------------------------------------------------------------------- timeouts


async def _timeout(names: Any, n: int) -> None:
    for _ in range(n):
        async with names.timeout(60.0):
            await names.sleep(0)


async def _wait_for(names: Any, n: int) -> None:
    for _ in range(n):
        await names.wait_for(names.sleep(0), 60.0)


ROWS: tuple[Row, ...] = (
    Row("call_soon_1", "call_soon, one chain", _call_soon(1)),
    Row("call_soon_100", "call_soon, 100 chains", _call_soon(100), batch=10_000),
    Row("sleep_1", "task switch: sleep(0), 1 task", _sleep_one, own=("sleep",)),
    Row("sleep_1000", "task switch: sleep(0), 1000 tasks", _sleep_many, batch=100_000, own=("sleep",)),
    Row("create_await", "create_task + await", _create_await, own=("create_task",)),
    Row("gather_100", "gather 100, per child", _gather, own=("gather",)),
    Row("task_group_100", "TaskGroup 100, per child", _task_group, own=("TaskGroup",)),
    Row("future_wake", "future wake-up (ping-pong)", _future_wake),
    Row("queue", "Queue hand-off", _queue, own=("Queue",)),
    Row("event", "Event hand-off", _event, own=("Event",)),
    Row("lock", "Lock hand-off", _lock, own=("Lock", "sleep")),
    Row("call_later_cancel", "call_later + cancel", _call_later_cancel),
    Row("timeout", "timeout() around sleep(0)", _timeout, own=("timeout", "sleep")),
    Row("wait_for", "wait_for(sleep(0))", _wait_for, own=("wait_for", "sleep")),
)
