"""Running, stopping and closing a loop: asyncio's rules and words."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import subprocess
import sys
import textwrap
import threading
import warnings
from unittest import mock

import pytest
from worlds import turns

import weft


async def give(value):
    return value


def test_run_until_complete(world, loop):
    assert loop.run_until_complete(give(5)) == 5
    future = loop.create_future()
    loop.call_soon(future.set_result, 6)
    assert loop.run_until_complete(future) == 6


def test_it_raises_what_the_coroutine_raises(world, loop):
    async def fail():
        raise KeyError("k")

    with pytest.raises(KeyError):
        loop.run_until_complete(fail())


def test_any_awaitable(world, loop):
    class Awaitable:
        def __await__(self):
            yield from asyncio.sleep(0).__await__()
            return 7

    assert loop.run_until_complete(Awaitable()) == 7


@pytest.mark.parametrize("what", [1, None, "spam"])
def test_what_is_not_awaitable(world, loop, what):
    with pytest.raises(TypeError, match=r"^An asyncio.Future, a coroutine or an awaitable is required$"):
        loop.run_until_complete(what)


def test_a_future_of_another_loop(world, loop):
    other = world.new_loop()
    with pytest.raises(ValueError, match=r"^The future belongs to a different loop"):
        loop.run_until_complete(other.create_future())
    other.close()


def test_stopped_before_the_future_completed(world, loop):
    future = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError, match=r"^Event loop stopped before Future completed\.$"):
        loop.run_until_complete(future)
    future.cancel()


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_exits_pass_through_and_do_not_stop_the_next_run(world, loop, kind):
    async def leave():
        raise kind

    with pytest.raises(kind):
        loop.run_until_complete(leave())
    assert not loop.is_running()
    assert loop.run_until_complete(give(1)) == 1


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_exits_from_a_callback(world, loop, kind):
    def leave():
        raise kind

    seen = []
    loop.call_soon(leave)
    loop.call_soon(seen.append, 1)
    with pytest.raises(kind):
        loop.run_forever()
    assert not loop.is_running()
    loop.run_until_complete(turns(2))
    assert seen == [1]


def test_stop_before_run_makes_one_turn(world, loop):
    seen = []
    loop.call_soon(seen.append, 1)
    loop.call_soon(loop.call_soon, seen.append, 2)
    loop.stop()
    loop.run_forever()
    assert seen == [1]


@pytest.mark.weft_only  # asyncio of 3.13.0 forgets that it runs
def test_running_twice(world, loop):
    async def main():
        for run in (loop.run_forever, lambda: loop.run_until_complete(loop.create_future())):
            with pytest.raises(RuntimeError, match=r"^This event loop is already running$"):
                run()
        assert loop.is_running()

    loop.run_until_complete(main())
    assert not loop.is_running()


def test_running_inside_another_loop(world, loop):
    inner = world.new_loop()

    async def main():
        with pytest.raises(RuntimeError, match=r"^Cannot run the event loop while another loop is running$"):
            inner.run_forever()

    loop.run_until_complete(main())
    inner.close()


def test_running_loop_is_marked(world, loop):
    async def main():
        return asyncio.get_running_loop()

    assert loop.run_until_complete(main()) is loop
    assert asyncio._get_running_loop() is None


def test_close(world):
    loop = world.new_loop()
    assert not loop.is_closed()
    loop.close()
    loop.close()
    assert loop.is_closed()


def test_closing_a_running_loop(world, loop):
    async def main():
        with pytest.raises(RuntimeError, match=r"^Cannot close a running event loop$"):
            loop.close()

    loop.run_until_complete(main())


@pytest.mark.parametrize(
    "use",
    [
        lambda loop: loop.run_forever(),
        lambda loop: loop.run_until_complete(asyncio.Future(loop=loop)),
        lambda loop: loop.call_soon(print),
        lambda loop: loop.call_soon_threadsafe(print),
        lambda loop: loop.call_later(1, print),
        lambda loop: loop.call_at(1, print),
        lambda loop: loop.add_reader(0, print),
        lambda loop: loop.run_in_executor(None, print),
    ],
)
def test_use_after_close(world, use):
    loop = world.new_loop()
    loop.close()
    with pytest.raises(RuntimeError, match=r"^Event loop is closed$"):
        use(loop)


def test_remove_after_close(world):
    loop = world.new_loop()
    loop.close()
    assert loop.remove_reader(0) is False
    assert loop.remove_writer(0) is False


def test_close_drops_what_is_scheduled(world):
    class Kept:
        def __call__(self):
            raise AssertionError("must not run")

    import weakref

    loop = world.new_loop()
    soon, later = Kept(), Kept()
    references = [weakref.ref(soon), weakref.ref(later)]
    loop.call_soon(soon)
    loop.call_later(100, later)
    loop.close()
    del soon, later
    gc.collect()
    assert [reference() for reference in references] == [None, None]


def test_unclosed(world):
    loop = weft.Loop() if world.weft_loop else asyncio.SelectorEventLoop()
    with pytest.warns(ResourceWarning, match=r"^unclosed event loop <.* running=False closed=False debug=False>$"):
        del loop
        gc.collect()


def test_repr(world):
    loop = world.new_loop()
    name = type(loop).__name__
    assert repr(loop) == f"<{name} running=False closed=False debug=False>"
    loop.set_debug(True)

    async def main():
        return repr(loop)

    assert loop.run_until_complete(main()) == f"<{name} running=True closed=False debug=True>"
    loop.close()
    assert repr(loop) == f"<{name} running=False closed=True debug=True>"


@pytest.mark.weft_only
def test_it_is_an_event_loop_of_asyncio(world, loop):
    assert isinstance(loop, asyncio.AbstractEventLoop)
    asyncio.set_event_loop(loop)
    asyncio.set_event_loop(None)


def test_coroutine_functions_are_known_as_such(world, loop):
    """`mock.patch.object(loop, "create_connection")` has to make an AsyncMock."""
    for name in ("create_connection", "getaddrinfo", "sock_recv", "shutdown_asyncgens", "start_tls"):
        with mock.patch.object(loop, name) as mocked:
            assert isinstance(mocked, mock.AsyncMock), name
    with mock.patch.object(loop, "run_in_executor") as mocked:
        assert not isinstance(mocked, mock.AsyncMock)


# -- debug mode --


@pytest.mark.parametrize(
    ("flags", "environment", "expected"),
    [
        ([], {}, "False"),
        ([], {"PYTHONASYNCIODEBUG": "1"}, "True"),
        ([], {"PYTHONASYNCIODEBUG": ""}, "False"),
        (["-X", "dev"], {}, "True"),
    ],
)
def test_what_turns_debug_mode_on(flags, environment, expected):
    code = "import weft; loop = weft.Loop(); print(loop.get_debug()); loop.close()"
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONASYNCIODEBUG", "PYTHONDEVMODE")}
    run = subprocess.run(
        [sys.executable, *flags, "-c", code], env=clean | environment, capture_output=True, text=True, check=True
    )
    assert (run.stdout.strip(), run.stderr) == (expected, "")


def test_wrong_thread_in_debug_mode(world, loop, in_thread):
    loop.set_debug(True)
    words = []

    def use():
        for call in (loop.call_soon, lambda f: loop.call_later(1, f), lambda f: loop.call_at(1, f)):
            try:
                call(print)
            except RuntimeError as exc:
                words.append(str(exc))
        loop.call_soon_threadsafe(loop.stop)

    loop.call_soon(in_thread, use)
    loop.run_forever()
    assert words == ["Non-thread-safe operation invoked on an event loop other than the current one"] * 3


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe", "call_at", "call_later"])
def test_callbacks_are_checked_in_debug_mode(world, loop, method):
    loop.set_debug(True)

    async def coroutine_function():
        pass

    def schedule(callback):
        call = getattr(loop, method)
        return call(1, callback) if method in ("call_at", "call_later") else call(callback)

    shown = "call_at" if method == "call_later" else method
    coro = coroutine_function()
    for wrong in (coroutine_function, coro):
        with pytest.raises(TypeError, match=rf"^coroutines cannot be used with {shown}\(\)$"):
            schedule(wrong)
    coro.close()
    with pytest.raises(TypeError, match=rf"^a callable object was expected by {shown}\(\), got 1$"):
        schedule(1)


def test_origins_of_coroutines_are_tracked_in_debug_mode(world, loop):
    before = sys.get_coroutine_origin_tracking_depth()

    async def depth():
        return sys.get_coroutine_origin_tracking_depth()

    assert loop.run_until_complete(depth()) == before
    loop.set_debug(True)
    assert loop.run_until_complete(depth()) == 10

    async def switch():
        loop.set_debug(False)
        await turns(2)
        off = sys.get_coroutine_origin_tracking_depth()
        loop.set_debug(True)
        await turns(2)
        return off, sys.get_coroutine_origin_tracking_depth()

    assert loop.run_until_complete(switch()) == (before, 10)
    assert sys.get_coroutine_origin_tracking_depth() == before


def test_close_is_logged_in_debug_mode(world, log_lines):
    loop = world.new_loop()
    loop.set_debug(True)
    loop.close()
    assert any(line.startswith("DEBUG Close <") for line in log_lines)


def test_a_coroutine_never_awaited_still_warns(world, loop):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        give(1)
        gc.collect()
    assert "was never awaited" in str(caught[0].message)


def test_threads_each_with_a_loop(world, in_thread):
    results = []

    def run():
        loop = world.new_loop()
        results.append(loop.run_until_complete(give(threading.get_ident())))
        loop.close()

    for thread in [in_thread(run) for _ in range(4)]:
        thread.join()
    assert len(results) == 4


def test_the_logger_is_asyncio_s():
    assert logging.getLogger("asyncio") is asyncio.log.logger


@pytest.mark.skipif(
    (3, 12) <= sys.version_info < (3, 13), reason="asyncio itself crashes in a subinterpreter of 3.12.1"
)
def test_in_a_subinterpreter():
    """No signals reach it and no compiled module loads in it: it runs without, on the plain edition."""
    code = """
        import sys, textwrap
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        inner = interpreters.create()
        failed = interpreters.run_string(inner, textwrap.dedent(f'''
            import sys
            sys.path[:] = {sys.path!r}
            import asyncio, weft
            async def main():
                await asyncio.sleep(0)
                return len(asyncio.all_tasks())
            print(weft.run(main()), weft._edition.edition(), flush=True)
        '''))
        print(failed)
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert run.stdout == "1 plain\nNone\n", run.stderr


def test_debug_mode_asks_the_system_nothing_to_find_an_origin(world, loop, monkeypatch):
    """Tools that look for blocking calls in a running loop (blockbuster) would find ours."""
    loop.set_debug(True)

    async def make() -> asyncio.Future:
        with monkeypatch.context() as patch:
            patch.setattr("os.path.abspath", lambda path: pytest.fail(f"os.path.abspath({path!r})"))
            loop.call_soon(int).cancel()
            return loop.create_future()

    assert "make" in [frame.name for frame in loop.run_until_complete(make())._source_traceback]
