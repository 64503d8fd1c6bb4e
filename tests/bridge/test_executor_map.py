"""`Executor.map`: order, bounds, sources of both kinds, errors, early ends, progress."""

from __future__ import annotations

import asyncio
import gc
import io
import sys
import threading

import pytest

from weft import bridge


class Counted:
    """A source that counts what was taken of it."""

    def __init__(self, count):
        self.taken = 0
        self.count = count

    def __iter__(self):
        return self

    def __next__(self):
        if self.taken == self.count:
            raise StopIteration
        self.taken += 1
        return self.taken - 1


async def ticker(count, log=None):
    try:
        for number in range(count):
            await asyncio.sleep(0)
            yield number
    finally:
        if log is not None:
            log.append("closed")


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("bound", [1, 3, None])
async def test_results_of_several_sources(world, ordered, bound):
    async with bridge.executor(workers=3) as ex:
        results = [
            each
            async for each in ex.map(
                lambda *args: args, range(50), ticker(20), iter("x" * 100), ordered=ordered, bound=bound
            )
        ]
    expected = [(number, number, "x") for number in range(20)]
    assert (results if ordered else sorted(results)) == expected


async def test_as_completed(world):
    gate = threading.Event()
    async with bridge.executor(workers=2) as ex:
        async with ex.map(
            lambda value: gate.wait(10) and value if value == 0 else value, range(5), ordered=False
        ) as results:
            assert sorted([await anext(results) for _ in range(4)]) == [1, 2, 3, 4]
            gate.set()
            assert [each async for each in results] == [0]


@pytest.mark.parametrize("ordered", [True, False])
async def test_never_more_than_the_bound_in_flight(world, ordered):
    source = Counted(1000)
    given = most = 0

    def work(value):
        nonlocal most
        most = max(most, source.taken - given)
        return value

    async with bridge.executor(workers=4) as ex:
        results = ex.map(work, source, bound=7, ordered=ordered)
        await asyncio.sleep(0)
        assert source.taken == 0
        async for _ in results:
            given += 1
            assert source.taken - given <= 7
            if given % 100 == 0:
                # However long the taker is busy with something else.
                for _ in range(50):
                    await asyncio.sleep(0)
                assert source.taken - given <= 7
    assert given == 1000
    # One more: in the moment in which the last result has been handed on, and `given` not yet counted.
    assert most <= 8


async def test_a_slow_first_item_holds_up_no_more_than_the_bound(world):
    gate, source = threading.Event(), Counted(100)
    async with bridge.executor(workers=4) as ex:
        async with ex.map(lambda value: gate.wait(10) if value == 0 else value, source, bound=10) as results:
            first = asyncio.ensure_future(anext(results))
            while source.taken < 10:
                await asyncio.sleep(0)
            for _ in range(100):
                await asyncio.sleep(0)
            assert source.taken == 10 and not first.done()
            gate.set()
            await first
            assert [each async for each in results] == list(range(1, 100))


@pytest.mark.parametrize("ordered", [True, False])
async def test_the_first_error_ends_it(world, ordered):
    begun = []

    def work(value):
        begun.append(value)
        if value == 3:
            raise KeyError(value)
        return value

    source = Counted(1000)
    async with bridge.executor(workers=1) as ex:
        results = ex.map(work, source, bound=5, ordered=ordered)
        got = []
        with pytest.raises(KeyError, match="3"):
            async for each in results:
                got.append(each)
        assert got == [0, 1, 2]
        left = len(begun)
        assert source.taken <= 9
        with pytest.raises(StopAsyncIteration):
            await anext(results)
        with pytest.raises(bridge.Closed, match="come to its end: call map again"):
            async for _ in results:
                pass
        # Nothing goes on afterwards.
        assert await ex.run(abs, -1) == 1 and len(begun) == left


async def test_errors_as_results(world):
    def work(value):
        return 6 // value

    async with bridge.executor() as ex:
        results = [each async for each in ex.map(work, [3, 0, 2], return_exceptions=True)]
        assert results[0] == 2 and isinstance(results[1], ZeroDivisionError) and results[2] == 3


async def test_the_error_of_a_source_comes_behind_its_items(world):
    def source():
        yield 1
        yield 2
        raise KeyError("source")

    async with bridge.executor() as ex:
        got = []
        with pytest.raises(KeyError, match="source"):
            async for each in ex.map(abs, source()):
                got.append(each)
        assert got == [1, 2]


async def test_leaving_early_cancels_and_closes(world):
    log, ended = [], []
    began, gate = threading.Event(), threading.Event()

    def work(value):
        if value:
            began.set()
            try:
                while not gate.is_set():
                    bridge.sleep(0.001)
            finally:
                ended.append(value)
        return value

    async with bridge.executor(workers=2) as ex:
        async with ex.map(work, ticker(1000, log), bound=6) as results:
            assert await anext(results) == 0
            while not began.is_set():
                await asyncio.sleep(0)
        assert log == ["closed"] and 1 <= len(ended) <= 2
        with pytest.raises(StopAsyncIteration):
            await anext(results)


async def test_a_break_ends_it_when_it_is_collected(world):
    log = []
    async with bridge.executor() as ex:
        async for _ in ex.map(abs, ticker(1000, log)):
            break
        while not log:
            gc.collect()
            await asyncio.sleep(0)


async def test_closing_the_executor_ends_its_maps(world):
    log = []
    ex = bridge.executor()
    await ex.__aenter__()
    results = ex.map(abs, ticker(1000, log), bound=2)
    assert await anext(results) == 0
    await ex.aclose()
    assert log == ["closed"]
    with pytest.raises(bridge.Closed, match="had not come to its end"):
        await anext(results)


async def test_a_cancelled_taker_loses_nothing(world):
    gate = threading.Event()
    async with bridge.executor(workers=2) as ex:
        async with ex.map(lambda value: gate.wait(10) and value, range(10)) as results:
            taker = asyncio.ensure_future(anext(results))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="two tasks wait"):
                await anext(results)
            taker.cancel()
            with pytest.raises(asyncio.CancelledError):
                await taker
            gate.set()
            assert [each async for each in results] == list(range(10))


@pytest.mark.parametrize(
    ("sources", "options", "kind", "words"),
    [
        ((), {}, TypeError, "at least one iterable"),
        ((5,), {}, TypeError, "5 is no iterable"),
        (([1],), {"bound": 0}, ValueError, "at least 1"),
    ],
)
async def test_arguments_are_checked(world, sources, options, kind, words):
    async with bridge.executor() as ex:
        with pytest.raises(kind, match=words):
            ex.map(abs, *sources, **options)


# ------------------------------------------------------------------------------------------------------- progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


async def test_a_bar_on_a_terminal(world, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    async with bridge.executor() as ex:
        for progress in ("counting", True):
            async for _ in ex.map(abs, range(20), progress=progress):
                pass
        async with (
            ex.map(abs, range(20), progress="first") as one,
            ex.map(abs, iter([1, 2]), progress="second") as other,
        ):
            await anext(one)
            await anext(other)
    text = terminal.getvalue()
    assert "counting" in text and "20/20" in text and "map" in text and "first" in text and "second" in text


async def test_no_bar_where_there_is_no_terminal(world, monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    async with bridge.executor() as ex:
        assert [each async for each in ex.map(abs, [-1], progress=True)] == [1]
        assert log.getvalue() == ""
        monkeypatch.setattr(sys, "stderr", Terminal())
        with pytest.raises(ImportError, match=r"pip install 'weft\[bridge\]'"):
            await anext(ex.map(abs, [-1], progress=True))
