"""What the bridges cost: `python -m benchmarks.bridges`. CPU time of all threads together, never wall time.

A row has subjects that do the same thing. In each round every subject runs once, in an order drawn anew; a ratio is
taken between two runs of the same round, and the median of the rounds is shown with its interval. To add a row: a
function that enters what is needed and yields `run(count)`, and a line in `ROWS`.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, NamedTuple

import weft
from benchmarks.stats import spread
from weft import bridge

Run = Callable[[int], object]
Subject = Callable[[], AbstractContextManager[Run]]


class Row(NamedTuple):
    """Subjects that are compared; the ratios are to the first, in microseconds of CPU time for one of `count`."""

    title: str
    count: int
    subjects: dict[str, Subject]


def identity(value: int) -> int:
    return value


async def async_identity(value: int) -> int:
    return value


def on_weft(work: Callable[[int], Awaitable[object]]) -> Subject:
    """`work(count)` on one Weft loop for all rounds."""

    @contextmanager
    def enter() -> Iterator[Run]:
        with weft.Runner() as runner:

            async def main(count: int) -> None:
                await work(count)

            yield lambda count: runner.run(main(count))

    return enter


# ---------------------------------------------------------------------------------------------- a call in a thread


async def calls_of_bridge(count: int) -> None:
    for number in range(count):
        await bridge.to_thread(identity, number)


async def calls_of_asyncio(count: int) -> None:
    for number in range(count):
        await asyncio.to_thread(identity, number)


async def calls_of_anyio(count: int) -> None:
    from anyio import to_thread

    for number in range(count):
        await to_thread.run_sync(identity, number)


async def many_of_bridge(count: int) -> None:
    for _ in range(count // 100):
        await asyncio.gather(*[bridge.to_thread(identity, number) for number in range(100)])


async def many_of_asyncio(count: int) -> None:
    for _ in range(count // 100):
        await asyncio.gather(*[asyncio.to_thread(identity, number) for number in range(100)])


async def many_of_anyio(count: int) -> None:
    from anyio import to_thread

    for _ in range(count // 100):
        await asyncio.gather(*[to_thread.run_sync(identity, number) for number in range(100)])


# ------------------------------------------------------------------------------------------- a call from a thread


@contextmanager
def portal_of_bridge() -> Iterator[Run]:
    with bridge.Portal() as portal:
        yield lambda count: [portal.call(async_identity, number) for number in range(count)]


@contextmanager
def portal_of_asyncio() -> Iterator[Run]:
    """The same loop, called by `run_coroutine_threadsafe`."""
    with bridge.Portal() as portal:
        loop = portal.call(_running_loop)
        yield lambda count: [
            asyncio.run_coroutine_threadsafe(async_identity(number), loop).result() for number in range(count)
        ]


@contextmanager
def portal_of_anyio() -> Iterator[Run]:
    from anyio.from_thread import start_blocking_portal

    with start_blocking_portal(backend_options={"loop_factory": weft.new_event_loop}) as portal:
        yield lambda count: [portal.call(async_identity, number) for number in range(count)]


async def _running_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


# -------------------------------------------------------------------------------------------------------- iterators


async def items_of_bridge(count: int) -> None:
    async for _ in bridge.iterate(iter(range(count)), bound=64):
        pass


async def items_of_threads(count: int) -> None:
    """What one writes without a bridge: a call in a thread for each item."""
    source = iter(range(count))
    while await asyncio.to_thread(next, source, None) is not None:
        pass


async def source(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


@contextmanager
def async_items_of_bridge() -> Iterator[Run]:
    with bridge.Portal() as portal:
        yield lambda count: sum(portal.iterate(source(count), bound=64))


@contextmanager
def async_items_of_calls() -> Iterator[Run]:
    """What one writes without a bridge: a call into the loop for each item."""
    with bridge.Portal() as portal:
        loop = portal.call(_running_loop)

        def run(count: int) -> None:
            items = source(count)

            async def step() -> int | None:
                return await anext(items, None)

            while asyncio.run_coroutine_threadsafe(step(), loop).result() is not None:
                pass

        yield run


ROWS = {
    "to-thread": Row(
        "a synchronous call in a thread, one at a time",
        1000,
        {
            "weft.bridge": on_weft(calls_of_bridge),
            "asyncio": on_weft(calls_of_asyncio),
            "anyio": on_weft(calls_of_anyio),
        },
    ),
    "to-thread-100": Row(
        "synchronous calls in threads, 100 at a time",
        1000,
        {"weft.bridge": on_weft(many_of_bridge), "asyncio": on_weft(many_of_asyncio), "anyio": on_weft(many_of_anyio)},
    ),
    "from-thread": Row(
        "an async call from another thread",
        1000,
        {"weft.bridge": portal_of_bridge, "asyncio": portal_of_asyncio, "anyio": portal_of_anyio},
    ),
    "iterate": Row(
        "an item of a blocking iterator, bound 64",
        5000,
        {"weft.bridge": on_weft(items_of_bridge), "a call an item": on_weft(items_of_threads)},
    ),
    "portal-iterate": Row(
        "an item of an async iterator, bound 64",
        5000,
        {"weft.bridge": async_items_of_bridge, "a call an item": async_items_of_calls},
    ),
}


def measure(row: Row, rounds: int, rng: random.Random) -> dict[str, list[float]]:
    """Microseconds of CPU time for one, by subject and round. A subject whose package is missing is left out, and named."""
    drawn: dict[str, list[float]] = {}
    with ExitStack() as stack:
        runs: dict[str, Run] = {}
        for name, subject in row.subjects.items():
            try:
                run = stack.enter_context(subject())
                run(row.count // 10)
            except ImportError as error:
                print(f"  {name}: {error}", file=sys.stderr)
            else:
                runs[name] = run
        for _ in range(rounds):
            for name in rng.sample(list(runs), len(runs)):
                began = time.process_time()
                runs[name](row.count)
                drawn.setdefault(name, []).append((time.process_time() - began) / row.count * 1e6)
    return drawn


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bridges", description=__doc__.split("\n")[0])
    parser.add_argument("--rows", default=",".join(ROWS), help=f"of {', '.join(ROWS)}; separated by commas")
    parser.add_argument("--rounds", type=int, default=15, help="how often each subject runs (15)")
    options: Any = parser.parse_args(arguments)
    print(f"{'row':16} {'subject':16} {'µs':>7} {'ratio':>7}  95 % of the median")
    for name in options.rows.split(","):
        row = ROWS[name]
        drawn = measure(row, options.rounds, random.Random(name))
        base = drawn[next(iter(row.subjects))]
        for subject, values in drawn.items():
            ratio = spread([mine / other for mine, other in zip(values, base, strict=True)])
            interval = f"{ratio.low:.2f} - {ratio.high:.2f}"
            print(f"{name:16} {subject:16} {spread(values).median:7.1f} {ratio.median:7.2f}  {interval}")


if __name__ == "__main__":
    main()
