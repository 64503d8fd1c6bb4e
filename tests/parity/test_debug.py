"""Debug mode and representations: the words asyncio uses, compared at run time."""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
import sys
import time

import pytest
from worlds import since, turns

pytestmark = pytest.mark.every_world


async def wait_for(future):
    return await future


async def fail():
    raise LookupError("words of the failure")


def test_debug_follows_the_environment(world, monkeypatch):
    loop = world.new_loop()
    assert loop.get_debug() is False
    loop.set_debug(True)
    assert loop.get_debug() is True
    loop.close()


@pytest.mark.loop_debug
async def test_debug_of_the_runner(world):
    assert asyncio.get_running_loop().get_debug() is True


def test_slow_callback_is_logged(world, same):
    async def body(world):
        loop, logger, lines = asyncio.get_running_loop(), logging.getLogger("asyncio"), []
        loop.slow_callback_duration = 0.001

        class Lines(logging.Handler):
            def emit(self, record):
                lines.append((record.levelname, record.getMessage().split(" took ")[0]))

        handler = Lines()
        before = logger.propagate
        logger.addHandler(handler)
        logger.propagate = False

        def slow():
            end = time.monotonic() + 0.005
            while time.monotonic() < end:
                pass

        try:
            loop.call_soon(slow)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        finally:
            logger.removeHandler(handler)
            logger.propagate = before
        return [line for line in lines if "slow" in line[1]]

    lines = same(body, debug=True)["returned"]
    assert len(lines) == 1
    assert lines[0][0] == "WARNING"
    assert lines[0][1].startswith("Executing <Handle")


def test_slow_task_step_is_logged(world, same):
    async def body(world):
        loop, logger, lines = asyncio.get_running_loop(), logging.getLogger("asyncio"), []
        loop.slow_callback_duration = 0.001

        class Lines(logging.Handler):
            def emit(self, record):
                lines.append(record.getMessage())

        handler = Lines()
        before = logger.propagate
        logger.addHandler(handler)
        logger.propagate = False

        async def slow():
            end = time.monotonic() + 0.005
            while time.monotonic() < end:
                pass

        try:
            await world.aio.create_task(slow(), name="slowest")
        finally:
            logger.removeHandler(handler)
            logger.propagate = before
        return [line.split(" took ")[0] for line in lines if "slowest" in line] != []

    same(body, debug=True)


def test_quick_callbacks_are_not_logged(world, log_lines):
    async def body():
        await turns(5)

    world.run(body(), debug=True)
    assert [line for line in log_lines if "Executing" in line] == []


REPRS = {
    "pending": lambda future: None,
    "result": lambda future: future.set_result("value"),
    "long result": lambda future: future.set_result("x" * 500),
    "exception": lambda future: future.set_exception(LookupError("words")),
    "cancelled": lambda future: future.cancel(),
    "one callback": lambda future: future.add_done_callback(print),
    "two callbacks": lambda future: [future.add_done_callback(each) for each in (print, repr)],
    "many callbacks": lambda future: [future.add_done_callback(print) for _ in range(5)],
    "a partial": lambda future: future.add_done_callback(functools.partial(print, 1, end="")),
}


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("state", REPRS)
def test_future_repr(world, same, state, debug):
    async def body(world):
        future = world.aio.Future()
        REPRS[state](future)
        words = repr(future)
        if future.done() and not future.cancelled():
            future.exception()
        for callback in (print, repr):
            future.remove_done_callback(callback)
        if state == "a partial":
            future._callbacks and future.remove_done_callback(future._callbacks[0][0])
        return words

    assert "<Future " in same(body, debug=debug)["returned"]


def test_future_that_contains_itself(world, same):
    async def body(world):
        future = world.aio.Future()
        future.set_result([future])
        return repr(future)

    same(body)


@pytest.mark.parametrize("debug", [False, True])
def test_task_repr(world, same, debug):
    async def body(world):
        words = []
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        task = world.aio.create_task(wait_for(future), name="named")
        words.append(repr(task))
        await turns()
        words.append(repr(task))
        task.add_done_callback(print)
        task.cancel()
        words.append(repr(task))
        task.remove_done_callback(print)
        try:
            await task
        except asyncio.CancelledError:
            words.append(repr(task))
        failed = world.aio.create_task(fail(), name="failing")
        await world.aio.wait([failed])
        words.append(repr(failed))
        failed.exception()
        done = world.aio.create_task(asyncio.sleep(0, "result"), name="sleeper")
        await done
        words.append(repr(done).replace(repr(asyncio.sleep), "sleep"))
        return [word.split(" created at")[0] for word in words]

    same(body, debug=debug)


def test_waiting_task_repr(world, same):
    """What waits for whom: the waiter appears in the future's callbacks as asyncio's C wake-up does."""

    async def body(world):
        future = asyncio.get_running_loop().create_future()
        task = world.aio.create_task(wait_for(future))
        await turns()
        words = repr(future), repr(task)
        future.set_result(None)
        await task
        return words

    same(body)


def test_handle_repr(world, same):
    async def body(world):
        loop = asyncio.get_running_loop()

        def callback(*args, **kwargs):
            pass

        handles = [
            loop.call_soon(callback),
            loop.call_soon(callback, 1, "two"),
            loop.call_soon(functools.partial(callback, 1, key=2), 3),
            loop.call_soon(print),
            loop.call_soon("x" * 300 and callback, "y" * 300),
        ]
        words = [repr(handle) for handle in handles]
        for handle in handles:
            handle.cancel()
        return words + [repr(handle) for handle in handles]

    same(body)


def test_handle_repr_in_debug_mode(world, same):
    async def body(world):
        loop = asyncio.get_running_loop()
        handle = loop.call_soon(print, 1)
        words = [repr(handle)]
        handle.cancel()
        return [*words, repr(handle)]

    words = same(body, debug=True)["returned"]
    assert "created at" in words[0]


def test_timer_repr(world, same):
    async def body(world):
        loop = asyncio.get_running_loop()
        timer = loop.call_at(10.0**9 + 0.5, print, 1)
        words = [repr(timer)]
        timer.cancel()
        return [*words, repr(timer)]

    same(body)


def test_loop_repr_shows_its_state(world):
    loop = world.new_loop()
    assert "running=False closed=False debug=False" in repr(loop)
    loop.close()
    assert "running=False closed=True debug=False" in repr(loop)


@pytest.mark.loop_debug
async def test_source_traceback(world, aio):
    future = aio.Future()
    assert [frame.name for frame in future._source_traceback][-1].endswith("test_source_traceback")
    task = aio.create_task(turns())
    assert any(frame.name == "test_source_traceback" for frame in task._source_traceback)
    await task


async def test_no_source_traceback_without_debug(world, aio):
    assert aio.Future()._source_traceback is None


def test_future_made_without_a_turn_of_the_loop_shows_no_more_frames(world, same):
    """The innermost frame of `created at` is the user's line."""

    async def body(world):
        return repr(world.aio.Future())

    words = same(body, debug=True)["returned"]
    assert "test_debug.py" in words


@pytest.mark.skipif(not since(3, 12), reason="the text changed in 3.12")
def test_call_graph_fields_exist(world):
    async def body():
        task = world.aio.create_task(turns())
        await task
        return getattr(task, "_asyncio_awaited_by", None)

    assert world.run(body()) is None


@pytest.mark.loop_debug
async def test_slow_io_callbacks_are_logged(world, log_lines):
    """A reader's callback and a protocol's `data_received`, both slow by the measure of a loop that allows nothing."""
    loop = asyncio.get_running_loop()
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        came = loop.create_future()
        loop.slow_callback_duration = 0.0
        loop.add_reader(left, lambda: came.done() or came.set_result(left.recv(1)))
        right.send(b"x")
        await came
        loop.remove_reader(left)
        await turns()
        assert [line for line in log_lines if "Executing" in line and "test_slow_io_callbacks" in line]


@pytest.mark.loop_debug
async def test_slow_protocol_is_named(world, log_lines):
    """asyncio names its transport's private method; Weft names the protocol, whose code was slow."""
    loop = asyncio.get_running_loop()
    left, right = socket.socketpair()
    came, lost = loop.create_future(), loop.create_future()

    class SlowProtocol(asyncio.Protocol):
        def data_received(self, data):
            came.set_result(data)

        def connection_lost(self, exc):
            lost.set_result(exc)

    transport, _ = await loop.create_connection(SlowProtocol, sock=left)
    loop.slow_callback_duration = 0.0
    with right:
        right.send(b"x")
        await came
        loop.slow_callback_duration = 10.0
        transport.close()
        await lost
    name = "SlowProtocol" if world.weft_loop else "_read_ready"
    assert [line for line in log_lines if line.startswith("WARNING Executing") and name in line]


@pytest.mark.loop_debug
async def test_a_waiting_socket_call_is_cheap_to_name(world):
    """Debug mode keeps the repr of a handle that is cancelled: one that contains itself would be named without end."""
    loop, calls = asyncio.get_running_loop(), []
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        task = loop.create_task(loop.sock_recv(left, 1))
        await asyncio.sleep(0)
        sys.setprofile(lambda frame, event, argument: event == "call" and calls.append(frame.f_code.co_name))
        try:
            right.send(b"x")
            assert await task == b"x"
        finally:
            sys.setprofile(None)
    assert 0 < calls.count("repr_instance") < 50


@pytest.mark.parametrize("method", ["call_soon", "call_later", "call_at"])
@pytest.mark.loop_debug
async def test_wrong_thread_in_debug_mode(world, method, in_thread):
    loop, said = asyncio.get_running_loop(), []

    def elsewhere():
        try:
            getattr(loop, method)(*(() if method == "call_soon" else (0,)), print)
        except RuntimeError as error:
            said.append(str(error))

    in_thread(elsewhere).join()
    assert said == ["Non-thread-safe operation invoked on an event loop other than the current one"]
