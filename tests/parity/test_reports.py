"""What is reported when nobody looks: exceptions never retrieved, tasks destroyed or left pending, coroutines never awaited."""

from __future__ import annotations

import asyncio
import gc
import logging
import warnings

import pytest
from worlds import turns

pytestmark = pytest.mark.every_world


async def fail(error):
    raise error


async def wait_for(future):
    await future


def pending():
    return asyncio.get_running_loop().create_future()


async def test_future_exception_never_retrieved(world, aio):
    future = aio.Future()
    future.set_exception(LookupError("nobody"))
    what = repr(future)
    del future
    (report,) = world.take_reports()
    assert report["message"] == "Future exception was never retrieved"
    assert isinstance(report["exception"], LookupError)
    assert repr(report["future"]) == what
    assert set(report) == {"message", "exception", "future"}


async def test_task_exception_never_retrieved(world, aio):
    task = aio.create_task(fail(LookupError("nobody")), name="the culprit")
    await turns(2)
    del task
    (report,) = world.take_reports()
    assert report["message"] == "Task exception was never retrieved"
    assert report["future"].get_name() == "the culprit"


@pytest.mark.parametrize("way", ["exception", "result", "await", "gather", "switched off"])
async def test_retrieved(world, aio, way):
    task = aio.create_task(fail(LookupError("seen")))
    await turns(2)
    if way == "exception":
        task.exception()
    elif way == "result":
        with pytest.raises(LookupError):
            task.result()
    elif way == "await":
        with pytest.raises(LookupError):
            await task
    elif way == "gather":
        await aio.gather(task, return_exceptions=True)
    else:
        task._log_traceback = False
    del task
    assert world.reports == []


async def test_cancelled_needs_no_retrieval(world, aio):
    task = aio.create_task(wait_for(pending()))
    await turns()
    task.cancel()
    await turns(2)
    del task
    future = aio.Future()
    future.cancel()
    del future
    assert world.reports == []


@pytest.mark.loop_debug
async def test_debug_mode_says_where_it_was_made(world, aio):
    task = aio.create_task(fail(LookupError("nobody")))
    await turns(2)
    del task
    (report,) = world.take_reports()
    assert any("test_debug_mode_says_where_it_was_made" in frame.name for frame in report["source_traceback"])


async def test_pending_task_destroyed(world, aio):
    """Only a task that nobody can wake: on Weft's loop the loop holds it, so this is made by a loop that let go."""
    if world.weft_loop:
        pytest.skip("Weft's loop holds its tasks until they are done (a listed deviation)")
    task = aio.create_task(wait_for(pending()), name="forgotten")
    await turns()
    del task
    gc.collect()
    (report,) = world.take_reports()
    assert report["message"] == "Task was destroyed but it is pending!"
    assert report["task"].get_name() == "forgotten"
    # From 3.14 on asyncio sees the revived task again, and its runner would cancel it.
    report["task"].cancel()
    await turns(2)
    world.take_reports()


@pytest.mark.weft_only
def test_the_loop_holds_its_tasks(world):
    if not world.weft_loop:
        pytest.skip("on a foreign loop asyncio's weak rule holds")
    loop = world.new_loop()
    seen = []

    async def waits():
        future = loop.create_future()
        weak.append(future.set_result)
        await future
        seen.append("woken")

    weak = []

    async def start():
        loop.create_task(waits(), name="held")
        await turns()

    loop.run_until_complete(start())
    wake = weak.pop()
    gc.collect()
    assert [task.get_name() for task in asyncio.all_tasks(loop)] == ["held"]
    wake(None)
    loop.run_until_complete(turns(2))
    assert seen == ["woken"]
    loop.close()


@pytest.mark.weft_only
def test_close_reports_the_never_finished(world):
    if not world.weft_loop:
        pytest.skip("asyncio's loop reports nothing when it closes")
    loop = world.new_loop()

    async def start():
        loop.create_task(wait_for(loop.create_future()), name="never finished")
        await turns()

    loop.run_until_complete(start())
    assert world.reports == []
    loop.close()
    gc.collect()
    reports = world.take_reports()
    assert len(reports) == 1
    assert "never finished" in repr(reports[0])


@pytest.mark.weft_only
def test_close_reports_nothing_else(world):
    loop = world.new_loop()
    loop.run_until_complete(turns(2))
    loop.call_later(3600, print)
    loop.call_soon(print)
    loop.close()


async def test_no_report_for_a_pending_future(world, aio):
    future = aio.Future()
    del future
    gc.collect()
    assert world.reports == []


def test_coroutine_never_awaited_warns(world, aio):
    async def body():
        fail(LookupError())
        gc.collect()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        world.run(body())
    assert [str(each.message) for each in caught] == ["coroutine 'fail' was never awaited"]


def test_coroutine_never_awaited_in_debug_mode_says_where(world, aio):
    async def body():
        fail(LookupError())
        gc.collect()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        world.run(body(), debug=True)
    (words,) = [str(each.message) for each in caught]
    assert words.startswith("coroutine 'fail' was never awaited\nCoroutine created at (most recent call last)\n")


def test_task_that_never_started_closes_its_coroutine(world, loop):
    """A task cancelled before its first step leaves no 'never awaited' warning."""
    task = loop.create_task(fail(LookupError()))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    del task
    gc.collect()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_exits_go_through_the_task_and_the_loop(world, same, kind):
    async def body(world):
        async def leave():
            raise kind("out")

        task = world.aio.create_task(leave(), name="leaves")
        await task

    outcome = same(body)
    assert outcome["raised"][0] == kind.__name__


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_exits_end_the_task(world, loop, kind):
    async def leave():
        raise kind("out")

    task = loop.create_task(leave())
    with pytest.raises(kind):
        loop.run_forever()
    assert task.done()
    assert isinstance(task.exception(), kind)
    assert not loop.is_running()
    loop.run_until_complete(turns(2))


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_exit_in_run_until_complete_is_not_reported(world, loop, kind):
    async def leave():
        raise kind("out")

    with pytest.raises(kind):
        loop.run_until_complete(leave())
    gc.collect()
    assert world.reports == []


def test_base_exception_stays_in_its_task(world, same):
    class Odd(BaseException):
        pass

    async def body(world):
        async def leave():
            raise Odd("kept")

        task = world.aio.create_task(leave())
        try:
            await task
        except Odd as error:
            return str(error), repr(task).split("coro=")[0]

    assert same(body)["returned"][0] == "kept"


def test_generator_exit_of_a_coroutine(world, same):
    async def body(world):
        async def leave():
            raise GeneratorExit("odd")

        task = world.aio.create_task(leave())
        await world.aio.wait([task])
        return task.exception()

    same(body)


def test_default_handler_logs(world, loop, caplog):
    loop.set_exception_handler(None)
    with caplog.at_level(logging.ERROR, logger="asyncio"):
        loop.call_exception_handler({"message": "words", "exception": LookupError("x"), "extra": 5, "handle": None})
    (entry,) = caplog.records
    assert entry.name == "asyncio"
    assert entry.getMessage() == "words\nextra: 5\nhandle: None"
    assert isinstance(entry.exc_info[1], LookupError)


def test_default_handler_words(world, same):
    async def body(world):
        loop = asyncio.get_running_loop()
        logger, lines = logging.getLogger("asyncio"), []

        class Lines(logging.Handler):
            def emit(self, record):
                lines.append((record.levelname, record.getMessage(), bool(record.exc_info)))

        handler = Lines()
        logger.addHandler(handler)
        before = logger.propagate
        logger.propagate = False
        try:
            for context in (
                {},
                {"message": "only words"},
                {"message": "failed", "exception": LookupError("x")},
                {"message": "future", "future": loop.create_future(), "b": 1, "a": [2]},
            ):
                loop.default_exception_handler(context)
        finally:
            logger.removeHandler(handler)
            logger.propagate = before
        return lines

    assert len(same(body)["returned"]) == 4


def test_own_handler(world, loop):
    seen = []
    assert loop.get_exception_handler() is not None
    loop.set_exception_handler(lambda loop, context: seen.append((loop, context)))
    context = {"message": "m"}
    loop.call_exception_handler(context)
    assert seen == [(loop, context)]
    loop.set_exception_handler(None)
    assert loop.get_exception_handler() is None
    with pytest.raises(TypeError, match="A callable object or None is expected"):
        loop.set_exception_handler("text")


def test_handler_that_fails(world, loop, caplog):
    def bad(loop, context):
        raise ArithmeticError("handler")

    loop.set_exception_handler(bad)
    with caplog.at_level(logging.ERROR, logger="asyncio"):
        loop.call_exception_handler({"message": "first"})
    (entry,) = caplog.records
    assert "Unhandled error in exception handler" in entry.getMessage()
    assert "context: {'message': 'first'}" in entry.getMessage()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_handler_may_leave(world, loop, kind):
    def leaves(loop, context):
        raise kind

    loop.set_exception_handler(leaves)
    with pytest.raises(kind):
        loop.call_exception_handler({"message": "m"})


def test_handler_runs_in_the_context_of_the_failure(world, loop):
    """As asyncio from 3.12 on: the failing task's or handle's context."""
    import contextvars

    from worlds import since

    if not since(3, 12):
        pytest.skip("before 3.12 the handler runs in the loop's context")
    var, seen = contextvars.ContextVar("var", default="none"), []
    loop.set_exception_handler(lambda loop, context: seen.append(var.get()))

    def bad():
        var.set("of the callback")
        raise ArithmeticError

    loop.call_soon(bad)
    loop.run_until_complete(turns(2))
    assert seen == ["of the callback"]
