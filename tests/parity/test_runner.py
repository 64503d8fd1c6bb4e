"""run, Runner, run_until_complete, run_forever, close: life and end of a loop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading

import pytest
from worlds import turns


async def answer():
    return 42


# -------------------------------------------------------------------------------------------------------------- loop


def test_run_until_complete(world, loop):
    assert loop.run_until_complete(answer()) == 42
    future = loop.create_future()
    loop.call_soon(future.set_result, 1)
    assert loop.run_until_complete(future) == 1


def test_run_until_complete_raises(world, loop):
    async def fail():
        raise LookupError("out")

    with pytest.raises(LookupError, match="out"):
        loop.run_until_complete(fail())


def test_stopped_before_the_end(world, loop):
    future = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError, match=r"^Event loop stopped before Future completed\.$"):
        loop.run_until_complete(future)


def test_state(world, loop):
    assert not loop.is_running()
    assert not loop.is_closed()

    async def look():
        return loop.is_running(), asyncio.get_running_loop() is loop

    assert loop.run_until_complete(look()) == (True, True)
    assert not loop.is_running()
    loop.close()
    loop.close()
    assert loop.is_closed()


def test_is_an_abstract_event_loop(world, loop):
    assert isinstance(loop, asyncio.AbstractEventLoop)


@pytest.mark.parametrize("what", ["run_forever", "run_until_complete", "run_in_executor", "create_task", "add_reader"])
def test_closed_loop_words(world, what):
    def words(loop):
        loop.close()
        coro = answer()
        try:
            if what == "run_forever":
                loop.run_forever()
            elif what == "run_until_complete":
                loop.run_until_complete(coro)
            elif what == "run_in_executor":
                loop.run_in_executor(None, print)
            elif what == "create_task":
                loop.create_task(coro)
            else:
                loop.add_reader(0, print)
        except Exception as error:
            return type(error), str(error)
        finally:
            coro.close()

    assert words(world.new_loop()) == words(asyncio.SelectorEventLoop())


@pytest.mark.weft_only  # 3.13.0 forgets that it runs when it refuses to
async def test_running_loop_words(world):
    loop = asyncio.get_running_loop()
    coro = answer()
    for call in (loop.run_forever, lambda: loop.run_until_complete(coro)):
        with pytest.raises(RuntimeError, match="^This event loop is already running$"):
            call()
    coro.close()
    with pytest.raises(RuntimeError, match="^Cannot close a running event loop$"):
        loop.close()
    assert loop.is_running()
    assert not loop.is_closed()


@pytest.mark.weft_only  # as above
async def test_another_loop_is_running(world):
    other = world.new_loop()
    coro = answer()
    for call in (other.run_forever, lambda: other.run_until_complete(coro)):
        with pytest.raises(RuntimeError, match="^Cannot run the event loop while another loop is running$"):
            call()
    coro.close()
    assert not other.is_running()
    other.close()


def test_run_inside_a_loop_words(world, same):
    async def body(world):
        coro = answer()
        try:
            world.aio.run(coro)
        except RuntimeError as error:
            return str(error).replace("weft", "asyncio")
        finally:
            coro.close()

    assert same(body)["returned"]


def test_unclosed_loop_warns(world):
    import gc

    loop = world.new_loop()
    world._loops.clear()
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        del loop
        gc.collect()


def test_loops_in_two_threads(world, in_thread):
    results = []

    def elsewhere():
        results.append(world.run(answer()))

    async def body():
        in_thread(elsewhere).join(10)
        return await answer()

    assert world.run(body()) == 42
    assert results == [42]


# ------------------------------------------------------------------------------------------------------------ runner


def test_runner(world):
    with world.runner() as runner:
        assert runner.run(answer()) == 42
        loop = runner.get_loop()
        assert runner.run(turns(2)) is None
        assert runner.get_loop() is loop
    assert loop.is_closed()


def test_runner_keeps_its_context(world):
    import contextvars

    var = contextvars.ContextVar("var", default="none")

    async def write():
        var.set("written")

    async def read():
        return var.get()

    with world.runner() as runner:
        runner.run(write())
        assert runner.run(read()) == "written"
    assert var.get() == "none"


def test_runner_cancels_what_is_left(world):
    seen = []

    async def waits():
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            seen.append("cancelled")

    async def main():
        task = asyncio.create_task(waits())
        await turns()
        return task

    task = world.run(main(), orphans=True)
    assert task.cancelled()
    assert seen == ["cancelled"]


def test_runner_reports_failures_while_it_cancels(world):
    async def waits():
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            raise LookupError("while cancelling")

    async def main():
        asyncio.get_running_loop().kept = asyncio.create_task(waits())
        await turns()

    world.run(main(), orphans=True)
    (report,) = world.take_reports()
    assert report["message"] == "unhandled exception during asyncio.run() shutdown"
    assert isinstance(report["exception"], LookupError)


@pytest.mark.parametrize("case", ["closed", "not a coroutine", "inside a loop"])
def test_runner_words(world, case):
    def words(world):
        runner = world.runner()
        coro = answer()
        try:
            if case == "closed":
                with runner:
                    pass
                runner.run(coro)
            elif case == "not a coroutine":
                runner.run(5)
            else:

                async def inside():
                    runner.run(coro)

                world.run(inside())
        except (RuntimeError, ValueError, TypeError) as error:
            return type(error), str(error)
        finally:
            coro.close()
            runner.close()

    from worlds import World

    oracle = World("asyncio")
    assert words(world) == words(oracle) is not None
    oracle.close()


def test_run_sets_debug(world):
    async def body():
        return asyncio.get_running_loop().get_debug()

    assert world.run(body(), debug=True) is True
    assert world.run(body(), debug=False) is False


@pytest.mark.weft_only
def test_run_of_weft_uses_wefts_loop(world):
    import weft

    async def body():
        return type(asyncio.get_running_loop())

    assert weft.run(body()) is weft.Loop
    with weft.Runner() as runner:
        assert runner.run(body()) is weft.Loop


@pytest.mark.weft_only
@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio.run has loop_factory from 3.12 on")
def test_asyncio_run_with_wefts_factory(world):
    import weft

    async def body():
        return type(asyncio.get_running_loop())

    assert asyncio.run(body(), loop_factory=weft.new_event_loop) is weft.Loop


# ----------------------------------------------------------------------------------------------------------- signals


def send(number):
    os.kill(os.getpid(), number)


def test_one_ctrl_c_cancels_the_main_task(world):
    seen = []

    async def main():
        asyncio.get_running_loop().call_soon(send, signal.SIGINT)
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    with pytest.raises(KeyboardInterrupt):
        world.run(main())
    assert seen == ["cancelled"]


@pytest.mark.weft_only  # asyncio sleeps on if the kernel gives the signal to another thread
def test_ctrl_c_while_the_loop_blocks(world, in_thread):
    """The signal comes from outside while the loop waits in the kernel, with no timer to wake it."""
    waiting = threading.Event()

    async def main():
        asyncio.get_running_loop().call_soon(waiting.set)
        await asyncio.get_running_loop().create_future()

    def elsewhere():
        waiting.wait(10)
        send(signal.SIGINT)

    in_thread(elsewhere)
    with pytest.raises(KeyboardInterrupt):
        world.run(main())


def test_main_may_swallow_ctrl_c(world):
    async def main():
        asyncio.get_running_loop().call_soon(send, signal.SIGINT)
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            asyncio.current_task().uncancel()
            return "went on"

    assert world.run(main()) == "went on"


def test_ctrl_c_handler_is_put_back(world):
    before = signal.getsignal(signal.SIGINT)
    world.run(answer())
    assert signal.getsignal(signal.SIGINT) is before


async def test_add_signal_handler(world):
    loop, seen = asyncio.get_running_loop(), []
    done = loop.create_future()

    def on_signal(*args):
        seen.append(args)
        if len(seen) == 2:
            done.set_result(None)

    loop.add_signal_handler(signal.SIGUSR1, on_signal, 1, "two")
    send(signal.SIGUSR1)
    while not seen:
        await asyncio.sleep(0)
    send(signal.SIGUSR1)
    await done
    assert seen == [(1, "two")] * 2
    assert loop.remove_signal_handler(signal.SIGUSR1) is True
    assert loop.remove_signal_handler(signal.SIGUSR1) is False
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


async def test_signal_handler_may_cancel_a_task(world):
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    loop.add_signal_handler(signal.SIGUSR2, task.cancel)
    send(signal.SIGUSR2)
    with pytest.raises(asyncio.CancelledError):
        await loop.create_future()
    task.uncancel()
    loop.remove_signal_handler(signal.SIGUSR2)


def test_plain_signal_handler_runs_while_the_loop_blocks(world, loop, in_thread):
    """A handler of the signal module, not of the loop."""
    seen, waiting = [], threading.Event()
    before = signal.signal(signal.SIGUSR1, lambda *args: (seen.append("handled"), loop.stop()))
    keep_awake = loop.call_later(5, loop.stop)
    try:
        loop.call_soon(waiting.set)
        in_thread(lambda: (waiting.wait(10), send(signal.SIGUSR1)))
        if world.name == "asyncio":
            # asyncio is woken only through a wake-up fd, which it sets with the first add_signal_handler.
            loop.add_signal_handler(signal.SIGUSR2, print)
        loop.run_forever()
    finally:
        keep_awake.cancel()
        signal.signal(signal.SIGUSR1, before)
    assert seen == ["handled"]


@pytest.mark.parametrize("case", ["kill", "a word", "a coroutine", "closed", "no number", "coroutine function"])
def test_signal_refusals(world, case):
    def words(loop):
        coro = answer()
        try:
            if case == "kill":
                loop.add_signal_handler(signal.SIGKILL, print)
            elif case == "a word":
                loop.add_signal_handler("SIGINT", print)
            elif case == "a coroutine":
                loop.add_signal_handler(signal.SIGUSR1, coro)
            elif case == "coroutine function":
                loop.add_signal_handler(signal.SIGUSR1, answer)
            elif case == "closed":
                loop.close()
                loop.add_signal_handler(signal.SIGUSR1, print)
            else:
                loop.remove_signal_handler(4242)
        except Exception as error:
            return type(error), str(error)
        finally:
            coro.close()
            loop.close()

    assert words(world.new_loop()) == words(asyncio.SelectorEventLoop())


def test_signal_handlers_only_in_the_main_thread(world, in_thread):
    def words(loop, into):
        try:
            loop.add_signal_handler(signal.SIGUSR1, print)
        except Exception as error:
            into.append(type(error))
        loop.close()

    got, expected = [], []
    in_thread(words, world.new_loop(), got).join()
    in_thread(words, asyncio.SelectorEventLoop(), expected).join()
    assert got == expected != []


def test_close_removes_signal_handlers(world):
    loop = world.new_loop()
    loop.add_signal_handler(signal.SIGUSR1, print)
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    assert signal.set_wakeup_fd(-1) == -1
