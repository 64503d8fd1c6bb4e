"""weft.run, weft.Runner, weft.new_event_loop, weft.install and the policy."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap

import pytest
from worlds import since, turns

import weft


def python(code):
    """Run a program with warnings as errors; its output."""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


async def where():
    return asyncio.get_running_loop()


def test_run_runs_on_weft():
    loop = weft.run(where())
    assert type(loop) is weft.Loop
    assert loop.is_closed()


@pytest.mark.parametrize("debug", [True, False])
def test_debug(debug):
    async def main():
        return asyncio.get_running_loop().get_debug()

    assert weft.run(main(), debug=debug) is debug


def test_loop_factory():
    made = []

    def factory():
        made.append(weft.Loop(poller="selector"))
        return made[0]

    assert weft.run(where(), loop_factory=factory) is made[0]
    assert made[0].is_closed()


def test_another_loop_s_factory():
    assert isinstance(weft.run(where(), loop_factory=asyncio.SelectorEventLoop), asyncio.SelectorEventLoop)


def test_inside_a_running_loop():
    async def main():
        coro = turns()
        with pytest.raises(RuntimeError, match=r"^weft\.run\(\) cannot be called from a running event loop$"):
            weft.run(coro)
        coro.close()

    weft.run(main())


def test_what_is_no_coroutine():
    with pytest.raises(TypeError if since(3, 14) else ValueError):
        weft.run(1)


def test_it_cancels_what_is_left():
    ended = []

    async def background():
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append(1)

    async def main():
        task = weft.create_task(background())
        await turns()
        return task

    assert weft.run(main()).cancelled()
    assert ended == [1]


def test_it_reports_what_fails_while_it_is_cancelled(log_lines):
    async def background():
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            raise KeyError("while cancelled")

    async def main():
        weft.create_task(background())
        await turns()

    weft.run(main())
    assert log_lines[0].startswith("ERROR unhandled exception during asyncio.run() shutdown\ntask: <Task finished")


def test_it_shuts_generators_and_executor_down():
    log = []

    async def generator():
        try:
            yield 1
        finally:
            log.append("closed")

    async def main():
        live = generator()
        await anext(live)
        await asyncio.get_running_loop().run_in_executor(None, int)
        log.append(live)

    weft.run(main())
    assert log[1:] == ["closed"]


def test_runner_runs_more_than_once():
    with weft.Runner() as runner:
        first = runner.run(where())
        assert runner.run(where()) is first is runner.get_loop()
    with pytest.raises(RuntimeError, match=r"^Runner is closed$"):
        runner.get_loop()


def test_new_event_loop():
    loop = weft.new_event_loop()
    assert type(loop) is weft.Loop
    loop.close()


def test_factory_of_asyncio_s_runner():
    with asyncio.Runner(loop_factory=weft.new_event_loop) as runner:
        assert type(runner.run(where())) is weft.Loop


@pytest.mark.skipif(not since(3, 12), reason="asyncio.run takes loop_factory from 3.12 on")
def test_factory_of_asyncio_run():
    assert type(asyncio.run(where(), loop_factory=weft.new_event_loop)) is weft.Loop


PROGRAM = """
    import asyncio, weft
    {install}
    async def main():
        return type(asyncio.get_running_loop()).__module__
    print(asyncio.run(main()))
"""


@pytest.mark.skipif(since(3, 14), reason="Python 3.14 deprecated policies")
def test_install_without_a_warning():
    assert python(PROGRAM.format(install="weft.install()")) == "weft.loop\n"


@pytest.mark.skipif(since(3, 14), reason="Python 3.14 deprecated policies")
def test_policy_without_a_warning():
    install = "asyncio.set_event_loop_policy(weft.EventLoopPolicy())"
    assert python(PROGRAM.format(install=install)) == "weft.loop\n"


@pytest.mark.skipif(since(3, 14), reason="Python 3.14 deprecated policies")
def test_policy_and_the_loop_of_a_thread():
    out = python(
        """
        import asyncio, weft
        weft.install()
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        print(asyncio.get_event_loop() is loop, type(loop).__module__)
        asyncio.set_event_loop(None)
        loop.close()
        """
    )
    assert out == "True weft.loop\n"


@pytest.mark.skipif(not since(3, 14), reason="policies are not deprecated before 3.14")
def test_install_says_what_to_do_instead():
    with pytest.raises(RuntimeError, match=r"loop_factory=weft\.new_event_loop"):
        weft.install()
    assert not hasattr(weft, "EventLoopPolicy")


def test_importing_changes_nothing():
    out = python(
        """
        import asyncio, sys
        before = asyncio.tasks.__dict__.copy()
        sets = {name: type(value) for name, value in before.items()}
        import weft
        assert all(asyncio.tasks.__dict__[name] is value for name, value in before.items())
        assert all(type(asyncio.tasks.__dict__[name]) is kind for name, kind in sets.items())
        async def main():
            return type(asyncio.get_running_loop()).__module__
        print(asyncio.run(main()))
        """
    )
    assert out.startswith("asyncio.")
