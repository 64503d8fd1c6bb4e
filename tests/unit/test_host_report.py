"""The exception handler, in asyncio's words; the report of slow callbacks, and of tasks that never finished."""

from __future__ import annotations

import asyncio
import contextvars
import gc

import pytest
from worlds import since, turns

import weft


@pytest.fixture
def plain_loop(world):
    """A loop with its default exception handler."""
    made = world.new_loop()
    made.set_exception_handler(None)
    yield made
    made.close()


def run_once(loop):
    loop.call_soon(loop.stop)
    loop.run_forever()


def test_default_words(world, plain_loop, log_lines):
    plain_loop.call_exception_handler({"message": "words", "exception": KeyError("k"), "b": 1, "a": "x"})
    plain_loop.call_exception_handler({"exception": KeyError("k")})
    plain_loop.call_exception_handler({"message": "", "future": None})
    assert log_lines == [
        "ERROR words\na: 'x'\nb: 1",
        "ERROR Unhandled exception in event loop",
        "ERROR Unhandled exception in event loop\nfuture: None",
    ]


def test_a_callback_that_raises(world, plain_loop, log_lines):
    def fail():
        raise KeyError("k")

    plain_loop.call_soon(fail)
    run_once(plain_loop)
    (line,) = log_lines
    assert line.startswith("ERROR Exception in callback test_a_callback_that_raises.<locals>.fail() at ")
    assert "\nhandle: <Handle test_a_callback_that_raises.<locals>.fail() at " in line


def test_debug_says_where_it_was_made(world, plain_loop, log_lines):
    plain_loop.set_debug(True)

    def fail():
        plain_loop.call_exception_handler({"message": "words"})

    plain_loop.call_soon(fail)
    run_once(plain_loop)
    (line,) = (line for line in log_lines if "words" in line)
    assert "handle_traceback: Handle created at (most recent call last):" in line
    assert "test_debug_says_where_it_was_made" in line


def test_custom_handler(world, loop):
    seen = []

    def handler(where, context):
        seen.append((where, context["message"]))

    loop.set_exception_handler(handler)
    assert loop.get_exception_handler() is handler
    loop.call_exception_handler({"message": "words"})
    assert seen == [(loop, "words")]
    loop.set_exception_handler(None)
    assert loop.get_exception_handler() is None


def test_handler_must_be_callable(world, loop):
    with pytest.raises(TypeError, match=r"^A callable object or None is expected, got 'spam'$"):
        loop.set_exception_handler("spam")


def test_a_handler_that_raises(world, loop, log_lines):
    def handler(where, context):
        raise KeyError("in handler")

    loop.set_exception_handler(handler)
    loop.call_exception_handler({"message": "words"})
    assert log_lines == ["ERROR Unhandled error in exception handler\ncontext: {'message': 'words'}"]


@pytest.mark.parametrize("custom", [False, True])
def test_a_default_handler_that_raises(world, log_lines, custom):
    class Broken(weft.Loop if world.weft_loop else asyncio.SelectorEventLoop):
        def default_exception_handler(self, context):
            raise KeyError("broken")

    def handler(where, context):
        raise KeyError("in handler")

    loop = Broken()
    if custom:
        loop.set_exception_handler(handler)
    loop.call_exception_handler({"message": "words"})
    loop.close()
    (line,) = (line for line in log_lines if line.startswith("ERROR"))
    assert line.startswith("ERROR Exception in default exception handler")
    assert ("while handling an unexpected error in custom exception handler" in line) is custom


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_exits_pass_through_handlers(world, loop, kind):
    def handler(where, context):
        raise kind

    loop.set_exception_handler(handler)
    with pytest.raises(kind):
        loop.call_exception_handler({"message": "words"})


def test_the_handler_runs_in_the_context_of_the_subject(world, loop):
    if world.name == "asyncio" and not since(3, 12):
        pytest.skip("asyncio does so from 3.12 on; Weft on every version")
    variable = contextvars.ContextVar("variable", default="outside")
    seen = []
    loop.set_exception_handler(lambda where, context: seen.append(variable.get()))

    def fail():
        raise KeyError("k")

    context = contextvars.copy_context()
    context.run(variable.set, "inside")
    loop.call_soon(fail, context=context)
    run_once(loop)
    assert seen == ["inside"]


def test_slow_callback(world, loop, log_lines):
    loop.set_debug(True)
    loop.slow_callback_duration = 0.0

    def slow():
        pass

    async def slow_step():
        await turns()

    loop.call_soon(slow)
    loop.run_until_complete(slow_step())
    slow_lines = [line for line in log_lines if line.startswith("WARNING Executing ")]
    assert any(" Executing <Handle test_slow_callback.<locals>.slow() at " in line for line in slow_lines)
    assert any(" Executing <Task " in line and "slow_step" in line for line in slow_lines)
    assert all(line.endswith(" seconds") for line in slow_lines)


async def wait_for_ever(gate):
    await gate


@pytest.mark.weft_only
def test_tasks_that_never_finished(world):
    loop = world.new_loop()
    task = loop.create_task(wait_for_ever(loop.create_future()), name="left over")
    quiet = loop.create_task(wait_for_ever(loop.create_future()))
    quiet._log_destroy_pending = False
    run_once(loop)
    loop.close()
    (report,) = world.take_reports()
    assert report == {"message": "Task never finished: its event loop was closed while it was pending", "task": task}
    del task, quiet, report
    gc.collect()
    assert world.take_reports() == []


@pytest.mark.weft_only
def test_in_debug_mode_the_report_says_where_the_task_was_created(world):
    loop = world.new_loop()
    loop.set_debug(True)
    loop.create_task(wait_for_ever(loop.create_future()))
    run_once(loop)
    loop.close()
    (report,) = world.take_reports()
    assert report["source_traceback"][-1].name == "test_in_debug_mode_the_report_says_where_the_task_was_created"


@pytest.mark.weft_only
def test_a_pending_task_is_held_until_it_is_done(world, loop):
    done = []

    async def main():
        await turns(3)
        done.append(1)

    loop.create_task(main())
    gc.collect()
    for _ in range(6):
        run_once(loop)
        gc.collect()
    assert done == [1]


async def test_nothing_is_reported_when_all_is_done(world):
    await asyncio.gather(turns(), turns())
