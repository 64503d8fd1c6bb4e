"""The current task: kept where asyncio keeps it, however it is written there."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

import weft
from weft import _edition
from weft._core.current import CurrentTask


def test_the_place_is_found_where_there_is_one() -> None:
    expected = _edition.EDITION == "compiled" and sys.version_info >= (3, 14)
    assert CurrentTask.is_written_directly() is expected


def test_it_follows_each_step_and_ends_with_the_loop() -> None:
    seen: list[Any] = []

    async def look() -> None:
        for _ in range(3):
            seen.append(asyncio.current_task())
            await asyncio.sleep(0)

    async def main() -> list[Any]:
        tasks = [asyncio.ensure_future(look()) for _ in range(2)]
        await asyncio.gather(*tasks)
        asyncio.get_running_loop().call_soon(lambda: seen.append(asyncio.current_task()))
        await asyncio.sleep(0)
        return tasks

    loop = weft.new_event_loop()
    try:
        first, second = loop.run_until_complete(main())
        assert seen == [first, second] * 3 + [None]
        assert asyncio.current_task(loop) is None
    finally:
        loop.close()


def test_the_state_of_the_thread_holds_a_task_no_longer_than_it_runs() -> None:
    async def main() -> int:
        task = asyncio.current_task()
        counts = []
        for _ in range(100):
            other = asyncio.ensure_future(asyncio.sleep(0))
            await other
            del other
            counts.append(sys.getrefcount(task))
        return counts[-1] - counts[0]

    assert weft.run(main()) == 0


def test_a_running_loop_that_somebody_took_away_is_an_error_as_in_asyncio() -> None:
    if sys.version_info < (3, 14):
        pytest.skip("until 3.13 a table is written, whichever loop runs")
    reports: list[Any] = []
    loop = weft.new_event_loop()
    loop.set_exception_handler(lambda _, context: reports.append(context))
    try:
        loop.call_soon(asyncio._set_running_loop, None)
        task = loop.create_task(asyncio.sleep(0))
        loop.call_soon(asyncio._set_running_loop, loop)
        loop.call_soon(task.cancel)
        loop.call_soon(loop.stop)
        loop.run_forever()
        assert [type(context["exception"]) for context in reports] == [RuntimeError]
        assert "is not the running loop" in str(reports[0]["exception"])
    finally:
        reports.clear()
        loop.close()
    assert [context["message"].split(":")[0] for context in reports] == ["Task never finished"]
    task.get_coro().close()
