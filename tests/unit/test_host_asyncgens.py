"""Async generators: closed by the loop that iterated them, when they are dropped and at shutdown."""

from __future__ import annotations

import asyncio
import gc
import sys

import pytest
from worlds import turns


async def forever(log):
    try:
        while True:
            yield 1
    finally:
        await asyncio.sleep(0)
        log.append("closed")


async def test_a_dropped_generator_is_closed_by_the_loop(world):
    log = []
    async for _ in forever(log):
        break
    gc.collect()
    await turns(4)
    assert log == ["closed"]


async def test_shutdown_closes_those_that_are_alive(world):
    log = []
    generator = forever(log)
    await anext(generator)
    await asyncio.get_running_loop().shutdown_asyncgens()
    assert log == ["closed"]


async def test_an_error_at_shutdown_is_reported(world):
    async def bad():
        try:
            yield 1
        finally:
            raise KeyError("while closing")

    generator = bad()
    await anext(generator)
    await asyncio.get_running_loop().shutdown_asyncgens()
    (report,) = world.take_reports()
    assert report["message"].startswith("an error occurred during closing of asynchronous generator <async_gen")
    assert report["asyncgen"] is generator
    assert isinstance(report["exception"], KeyError)


async def test_a_generator_that_begins_after_shutdown_is_warned_of(world):
    await asyncio.get_running_loop().shutdown_asyncgens()
    generator = forever([])
    with pytest.warns(ResourceWarning, match=r"was scheduled after loop\.shutdown_asyncgens\(\) call"):
        await anext(generator)
    await generator.aclose()


def test_hooks_are_put_back(world, loop):
    def mine(generator):
        pass

    before = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(firstiter=mine, finalizer=mine)
    try:
        loop.call_soon(loop.stop)
        loop.run_forever()
        assert sys.get_asyncgen_hooks() == (mine, mine)
    finally:
        sys.set_asyncgen_hooks(*before)
