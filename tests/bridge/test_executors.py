"""The executor surface: what every engine does alike, what a pool does when a worker dies, and executors of other owners."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import errno
import functools
import importlib
import multiprocessing.resource_tracker
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback

import cloudpickle
import loky
import loky.backend.resource_tracker
import pytest
from worlds import since

from weft import bridge

# Workers can't import a test module by its name.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

ENGINES = ["threads", "stdlib", "loky", "interpreters"]
PROCESSES = ["stdlib", "loky"]
VARIABLE = contextvars.ContextVar("variable", default="default")


@pytest.fixture(autouse=True, scope="module")
def _trackers():
    """The processes that watch over what pools share live as long as this one: they are no test's leak."""
    multiprocessing.resource_tracker.ensure_running()
    loky.backend.resource_tracker.ensure_running()


def make(engine, workers=2, **options):
    if engine == "interpreters" and not since(3, 14):
        pytest.skip("interpreters need Python 3.14")
    if engine in PROCESSES:
        return bridge.executor("processes", workers=workers, pool=engine, **options)
    return bridge.executor(engine, workers=workers, **options)


def fail():
    raise KeyError("lost")


def die():
    os.kill(os.getpid(), signal.SIGKILL)


class Unreadable(Exception):
    """It can be pickled, but not be read again."""

    def __init__(self, first, second):
        super().__init__("unreadable")


def raise_unreadable():
    raise Unreadable(1, 2)


class Unsendable:
    def __reduce__(self):
        raise RuntimeError("never sent")


# --------------------------------------------------------------------------------------------------- every engine


@pytest.mark.parametrize("engine", ENGINES)
async def test_results_and_errors(world, engine):
    closed_over = [1, 2]
    async with make(engine) as ex:
        assert ex.workers == 2
        assert await ex.run(lambda *args, **kwargs: (args, kwargs, closed_over), 1, function=2) == (
            (1,),
            {"function": 2},
            [1, 2],
        )
        with pytest.raises(KeyError, match="lost") as caught:
            await ex.run(fail)
        assert "in fail\n" in "".join(traceback.format_exception(caught.value))
        with pytest.raises(SystemExit):
            await ex.run(sys.exit, 3)
        assert await asyncio.gather(*[ex.run(abs, -number) for number in range(30)]) == list(range(30))
        assert (await ex.run(os.getpid) != os.getpid()) == (engine in PROCESSES)


@pytest.mark.parametrize("engine", ["stdlib", "loky", "interpreters"])
async def test_what_cannot_be_sent(world, engine):
    async with make(engine) as ex:
        with pytest.raises(
            bridge.NotPicklable, match=r"argument 2 of .*divmod.*Unsendable.*can't be sent.*never sent; send what"
        ) as caught:
            await ex.run(divmod, 1, Unsendable())
        assert isinstance(caught.value, TypeError)
        with pytest.raises(bridge.NotPicklable, match="argument 'key' of"):
            await ex.run(sorted, [], key=threading.Lock())
        with pytest.raises(bridge.NotPicklable, match="the function"):
            await ex.run(threading.Lock().acquire)
        with pytest.raises(bridge.NotPicklable, match="the result of .* can't be sent back.*return what it is made of"):
            await ex.run(threading.Lock)
        with pytest.raises(
            bridge.NotPicklable, match="Unreadable: unreadable was raised, an error that can't be sent"
        ) as caught:
            await ex.run(raise_unreadable)
        assert "in raise_unreadable\n" in "".join(traceback.format_exception(caught.value))
        # The pool is whole.
        assert await ex.run(abs, -1) == 1


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_closed_executor(world, engine):
    ex = make(engine)
    with pytest.raises(bridge.Closed, match="not started.*use it by `async with`"):
        await ex.run(len, "")
    async with ex:
        pass
    for use in (lambda: ex.run(len, ""), lambda: ex.map(len, [""])):
        with pytest.raises(bridge.Closed, match="closed.*make another one"):
            await use()
    with pytest.raises(bridge.Closed):
        async with ex:
            pass
    await ex.aclose()


async def test_what_cannot_be_called(world):
    async with bridge.executor() as ex:
        for wrong in (asyncio.sleep, functools.partial(asyncio.sleep, 0), 5):
            with pytest.raises(TypeError, match="async function: await it|can't be called"):
                await ex.run(wrong)
            with pytest.raises(TypeError, match="async function: await it|can't be called"):
                ex.map(wrong, [1])


@pytest.mark.parametrize(
    ("arguments", "options", "kind", "words"),
    [
        (("fibres",), {}, TypeError, "is no engine: give one of threads"),
        ((5,), {}, TypeError, "is no engine"),
        (("threads",), {"workers": 0}, ValueError, "at least 1"),
        (("threads",), {"on_cancel": "kill"}, ValueError, "'wait' or 'abandon'"),
        (("threads",), {"address": "x"}, TypeError, "knows no option 'address'"),
        (("threads",), {"shutdown": True}, TypeError, "there already"),
        (("processes",), {"pool": "fork"}, ValueError, "'loky', 'stdlib'"),
        (("dask",), {"address": "tcp://x", "workers": 2}, TypeError, "the scheduler's"),
        (("dask",), {"client": 5, "address": "tcp://x"}, TypeError, "a client knows"),
    ],
)
def test_options_are_checked(arguments, options, kind, words):
    with pytest.raises(kind, match=words):
        bridge.executor(*arguments, **options)


@pytest.mark.skipif(since(3, 14), reason="there they are")
def test_interpreters_on_older_pythons():
    with pytest.raises(
        RuntimeError, match=r"interpreters need Python 3.14 or newer, and this is 3\.1[123]: use processes"
    ):
        bridge.executor("interpreters")


@pytest.mark.parametrize(
    ("engine", "module", "extra"), [("loky", "loky", "bridge"), ("dask", "distributed", "dask"), ("ray", "ray", "ray")]
)
async def test_a_missing_package_names_its_extra(world, monkeypatch, engine, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"{module} can't be imported .*: pip install 'weft\[{extra}\]'"):
        async with make(engine):
            pass


def test_without_cloudpickle():
    """Functions go by their names then, and what has none is refused with the remedy."""
    program = """if __name__ == "__main__":
        import sys
        sys.modules["cloudpickle"] = None
        import weft
        from weft import bridge
        async def main():
            async with bridge.executor("processes", workers=1, pool="stdlib") as ex:
                print(await ex.run(abs, -1))
                try:
                    await ex.run(lambda: 1)
                except bridge.NotPicklable as error:
                    print(error)
        weft.run(main())
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    first, second = done.stdout.splitlines() or (done.stderr, "")
    assert first == "1" and "the function <function" in second and "pip install 'weft[bridge]'" in second


async def test_context_goes_to_threads(world):
    VARIABLE.set("mine")
    async with bridge.executor() as ex:
        assert await ex.run(VARIABLE.get) == "mine"
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        async with bridge.executor(pool) as ex:
            assert await ex.run(VARIABLE.get) == "mine"


async def test_work_in_an_interpreter_may_import_weft(world):
    def work():
        import weft

        async def main():
            return type(weft.current_task()).__module__

        return weft.run(main())

    async with make("interpreters") as ex:
        assert await ex.run(work) == "weft._core.task"


async def test_an_interpreter_finds_the_modules_of_the_program(world, tmp_path, monkeypatch):
    if not since(3, 14):
        pytest.skip("interpreters need Python 3.14")
    (tmp_path / "found_by_interpreters.py").write_text("def double(number):\n    return 2 * number\n")
    monkeypatch.syspath_prepend(tmp_path)
    double = importlib.import_module("found_by_interpreters").double
    async with make("interpreters") as ex:
        assert await ex.run(double, 21) == 42


# --------------------------------------------------------------------------------------------------- cancellation


def wait_for(path, began):
    """Say that it began, and wait to be asked to end, or for `path`."""
    with open(began, "a") as file:
        file.write("began\n")
    while not os.path.exists(path):
        bridge.sleep(0.01)
    return "ended"


def say_so_and_stay(pipe):
    """Say that it began, to whoever reads, and wait for the end of this process."""
    with open(pipe, "w"):
        signal.pause()


def never(path):
    with open(path, "a") as file:
        file.write("ran\n")


async def until_exists(path):
    while not path.exists():
        await asyncio.sleep(0)


@pytest.mark.parametrize("engine", ENGINES)
async def test_cancelled_before_it_began(world, engine, tmp_path):
    """However far a pool has prepared it: those that wait behind a full pool never run."""
    end, began, ran = tmp_path / "end", tmp_path / "began", tmp_path / "ran"
    async with make(engine, workers=1) as ex:
        first = asyncio.create_task(ex.run(wait_for, str(end), str(began)))
        await until_exists(began)
        others = [asyncio.create_task(ex.run(never, str(ran))) for _ in range(6)]
        await asyncio.sleep(0)
        for each in others:
            each.cancel()
        outcomes = await asyncio.gather(*others, return_exceptions=True)
        assert [type(each) for each in outcomes] == [asyncio.CancelledError] * 6
        assert not first.done()
        end.touch()
        assert await first == "ended"
        assert await ex.run(abs, -1) == 1
    assert not ran.exists()


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_call_that_runs_is_asked_to_end_and_waited_for(world, engine, tmp_path):
    end, began = tmp_path / "never", tmp_path / "began"
    async with make(engine) as ex:
        task = asyncio.create_task(ex.run(wait_for, str(end), str(began)))
        await until_exists(began)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await ex.run(bridge.is_cancelled) is False


def stubborn(path, began, error):
    with open(began, "a") as file:
        file.write("began\n")
    while not os.path.exists(path):
        pass
    if error:
        fail()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("error", [False, True])
async def test_a_call_that_does_not_look_is_waited_for(world, engine, error, tmp_path):
    end, began = tmp_path / "end", tmp_path / "began"
    async with make(engine) as ex:
        task = asyncio.create_task(ex.run(stubborn, str(end), str(began), error))
        await until_exists(began)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
            assert not task.done()
        end.touch()
        with pytest.raises(KeyError if error else asyncio.CancelledError):
            await task


@pytest.mark.leaky(
    "loky closes the pipes of workers that were killed from a thread of its own, sometimes a moment later"
)
@pytest.mark.parametrize("engine", PROCESSES)
async def test_abandoned_in_a_process_that_the_end_kills(world, engine, tmp_path):
    began = tmp_path / "began"
    async with make(engine, on_cancel="abandon") as ex:
        task = asyncio.create_task(ex.run(stubborn, str(tmp_path / "never"), str(began), False))
        await until_exists(began)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await ex.run(abs, -1) == 1


async def test_an_abandoned_error_is_reported(world, tmp_path):
    end, began = tmp_path / "end", tmp_path / "began"
    async with make("stdlib", on_cancel="abandon") as ex:
        task = asyncio.create_task(ex.run(stubborn, str(end), str(began), True))
        await until_exists(began)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        end.touch()
        while not world.reports:
            await asyncio.sleep(0)
        (report,) = world.take_reports()
        assert "abandoned call" in report["message"] and isinstance(report["exception"], KeyError)


@pytest.mark.parametrize("engine", ENGINES)
async def test_closing_waits_for_what_runs_and_refuses_what_waits(world, engine, tmp_path):
    end, began = tmp_path / "end", tmp_path / "began"
    ex = make(engine, workers=1)
    await ex.__aenter__()
    first = asyncio.create_task(ex.run(wait_for, str(end), str(began)))
    await until_exists(began)
    others = [asyncio.create_task(ex.run(abs, -1)) for _ in range(6)]
    await asyncio.sleep(0)
    closing = asyncio.create_task(ex.aclose())
    with pytest.raises(bridge.Closed, match="closed before the call began|was not called"):
        await others[-1]
    assert not closing.done() and not first.done()
    end.touch()
    await closing
    assert await first == "ended"
    outcomes = await asyncio.gather(*others, return_exceptions=True)
    assert {type(each) for each in outcomes} <= {int, bridge.Closed}


# ------------------------------------------------------------------------------------------------- a worker's death


@pytest.mark.parametrize("engine", PROCESSES)
async def test_a_killed_worker(world, engine):
    async with make(engine) as ex:
        for _ in range(2):
            with pytest.raises(bridge.WorkerDied, match=r"<function die at .*> was lost: a worker died while it ran"):
                await ex.run(die)
            assert await ex.run(abs, -1) == 1


@pytest.mark.parametrize("engine", PROCESSES)
async def test_what_had_not_begun_is_sent_again(world, engine, tmp_path):
    """One worker: it takes along the call that it runs, and none of those behind it."""
    log = tmp_path / "log"

    def note(number):
        with open(log, "a") as file:
            file.write(f"{number}\n")
        return number

    async with make(engine, workers=1) as ex:
        killed = asyncio.create_task(ex.run(die))
        others = [asyncio.create_task(ex.run(note, number)) for number in range(8)]
        with pytest.raises(bridge.WorkerDied):
            await killed
        assert await asyncio.gather(*others) == list(range(8))
    # Each ran once.
    assert sorted(map(int, log.read_text().split())) == list(range(8))


async def test_a_pool_that_cannot_live_is_given_up(world, monkeypatch):
    from weft.bridge._engines import remote

    monkeypatch.setattr(remote, "ignore_ctrl_c", functools.partial(os._exit, 1))
    async with make("stdlib", workers=1) as ex:
        with pytest.raises(bridge.WorkerDied, match="before it began, again and again"):
            await ex.run(abs, -1)


@pytest.fixture
def breaking(monkeypatch):
    """The standard library's pool breaks while it starts a worker for a call that it holds, as before 3.12 it may."""

    def break_at(moment):
        def start(pool):
            moment()
            for process in list(pool._processes.values()):
                process.kill()
            # All that it holds has failed: it knows that it is broken.
            concurrent.futures.wait([item.future for item in pool._pending_work_items.values()])
            monkeypatch.undo()
            raise OSError("handle is closed")

        monkeypatch.setattr(concurrent.futures.ProcessPoolExecutor, "_adjust_process_count", start)

    return break_at


@pytest.mark.skipif(since(3, 12), reason="a pool that breaks waits for submit from 3.12 on")
async def test_a_pool_of_another_owner_that_breaks_in_submit(world, breaking):
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        async with bridge.executor(pool) as ex:
            # Its thread runs from the first call on.
            worker = await ex.run(os.getpid)
            os.kill(worker, signal.SIGSTOP)
            breaking(lambda: None)
            with pytest.raises(bridge.WorkerDied, match="can't be run: .* is broken: make another one"):
                await ex.run(abs, -1)


@pytest.mark.skipif(since(3, 12), reason="a pool that breaks waits for submit from 3.12 on")
async def test_a_pool_of_another_owner_that_breaks_in_submit_when_the_call_has_begun(world, breaking, tmp_path):
    began = tmp_path / "began"
    os.mkfifo(began)
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        async with bridge.executor(pool) as ex:
            assert await ex.run(abs, -1) == 1
            # To open either end waits for the other.
            breaking(lambda: began.open().close())
            with pytest.raises(bridge.WorkerDied, match=r"say_so.* was lost: it had begun when its pool failed"):
                await ex.run(say_so_and_stay, str(began))


async def test_a_worker_that_dies_while_another_is_started(world, monkeypatch, tmp_path):
    """One that the pool came to know only after it had ended its workers would live for ever."""
    spawn = concurrent.futures.ProcessPoolExecutor._spawn_process
    context = multiprocessing.get_context("spawn")
    start = context.Process.start
    died = []

    def spawn_second(pool):
        first = list(pool._processes.values())

        def start_and_kill(process):
            start(process)
            for each in first:
                each.kill()
                # A pool that does not wait for what is under way here has failed its calls and ended its workers by then.
                pool._executor_manager_thread.join(0.5)
                died.append(each)

        monkeypatch.setattr(context.Process, "start", start_and_kill)
        spawn(pool)
        if died:
            monkeypatch.undo()

    monkeypatch.setattr(concurrent.futures.ProcessPoolExecutor, "_spawn_process", spawn_second)
    end, began = tmp_path / "end", tmp_path / "began"
    async with make("stdlib") as ex:
        first = asyncio.create_task(ex.run(wait_for, str(end), str(began)))
        await until_exists(began)
        second = asyncio.create_task(ex.run(wait_for, str(end), str(began)))
        with pytest.raises(bridge.WorkerDied, match="a worker died while it ran"):
            await first
        end.touch()
        # It is lost if it had begun, and is sent again if not.
        await asyncio.wait([second])
        assert isinstance(second.exception(), bridge.WorkerDied | None)
    assert died
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("failures", [1, 4])
async def test_a_worker_that_cannot_be_started(world, monkeypatch, failures):
    left = iter(range(failures))
    start = concurrent.futures.ProcessPoolExecutor._adjust_process_count

    def fail_at_first(pool):
        if next(left, None) is not None:
            raise OSError(errno.EMFILE, "Too many open files")
        start(pool)

    monkeypatch.setattr(concurrent.futures.ProcessPoolExecutor, "_adjust_process_count", fail_at_first)
    async with make("stdlib") as ex:
        if failures == 4:
            with pytest.raises(OSError, match="Too many open files"):
                await ex.run(abs, -1)
        assert await ex.run(abs, -1) == 1


async def test_a_worker_that_another_owners_pool_cannot_start(world, monkeypatch, tmp_path):
    """The call stands in its queue all the same, and must not run there later."""
    start, log = concurrent.futures.ProcessPoolExecutor._adjust_process_count, tmp_path / "log"
    left = iter(range(2))

    def note(number):
        with open(log, "a") as file:
            file.write(f"{number}\n")

    def fail_at_first(pool):
        start(pool)
        if next(left, None) is not None:
            raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(concurrent.futures.ProcessPoolExecutor, "_adjust_process_count", fail_at_first)
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        async with bridge.executor(pool) as ex:
            await ex.run(note, 1)
            await ex.run(note, 2)
    assert log.read_text() == "1\n2\n"


async def test_what_was_withdrawn_does_not_hold_up_the_end(world, tmp_path, monkeypatch):
    """It stands behind a call that was abandoned, and would wait for it."""
    boards = tmp_path / "boards"
    boards.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(boards))
    end, began = tmp_path / "end", tmp_path / "began"
    async with make("stdlib", workers=1, on_cancel="abandon") as ex:
        abandoned = asyncio.create_task(ex.run(wait_for, str(end), str(began)))
        await until_exists(began)
        behind = asyncio.create_task(ex.run(abs, -1))
        await asyncio.sleep(0)
        for each in (abandoned, behind):
            each.cancel()
        await asyncio.gather(abandoned, behind, return_exceptions=True)
        assert abandoned.cancelled() and behind.cancelled()
    # It came here by killing the worker.
    assert not end.exists()
    assert not list(boards.glob("weft-board-*"))


# ---------------------------------------------------------------------------------------- executors of other owners


class Immediate(concurrent.futures.Executor):
    """Does a call when it is submitted, in the thread that submits."""

    is_shut = False
    breaks = False

    def submit(self, function, /, *args, **kwargs):
        if self.breaks:
            raise concurrent.futures.BrokenExecutor("broken")
        if self.is_shut:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future = concurrent.futures.Future()
        try:
            future.set_result(function(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future

    def shutdown(self, wait=True, *, cancel_futures=False):
        self.is_shut = True


@pytest.mark.parametrize("shutdown", [False, True])
@pytest.mark.parametrize("kind", ["threads", "processes", "loky", "own"])
async def test_an_executor_that_is_there_already(world, kind, shutdown):
    pool = {
        "threads": lambda: concurrent.futures.ThreadPoolExecutor(2),
        "processes": lambda: concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")),
        "loky": lambda: loky.ProcessPoolExecutor(2),
        "own": Immediate,
    }[kind]()
    async with bridge.executor(pool, shutdown=shutdown) as ex:
        assert await ex.run(lambda value: value + 1, 1) == 2
        with pytest.raises(KeyError):
            await ex.run(fail)
        assert [each async for each in ex.map(abs, range(-5, 0))] == [5, 4, 3, 2, 1]
    if shutdown:
        with pytest.raises(RuntimeError):
            pool.submit(abs, -1)
    else:
        assert pool.submit(abs, -1).result() == 1
        async with bridge.executor(pool) as ex:
            pool.shutdown()
            with pytest.raises(bridge.Closed, match="shut down"):
                await ex.run(abs, -1)


async def test_a_thread_pool_whose_owner_empties_its_queue(world):
    pool = concurrent.futures.ThreadPoolExecutor(1)
    began, gate = threading.Event(), threading.Event()

    def work():
        began.set()
        assert gate.wait(10)
        return "done"

    async with bridge.executor(pool) as ex:
        first = asyncio.create_task(ex.run(work))
        second = asyncio.create_task(ex.run(abs, -1))
        while not began.is_set():
            await asyncio.sleep(0)
        pool.shutdown(wait=False, cancel_futures=True)
        with pytest.raises(bridge.Closed, match="before it began"):
            await second
        gate.set()
        assert await first == "done"


async def test_a_broken_executor_of_another_owner(world):
    pool = concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    async with bridge.executor(pool) as ex:
        with pytest.raises(bridge.WorkerDied, match="a worker died while it ran"):
            await ex.run(die)
        with pytest.raises(bridge.WorkerDied, match="is broken: make another one"):
            await ex.run(abs, -1)
    pool.shutdown()
    own = Immediate()
    async with bridge.executor(own) as ex:
        with pytest.raises(bridge.NotPicklable, match="can't be sent"):
            await ex.run(lambda: (_ for _ in ()).throw(__import__("pickle").PicklingError("no")))
        own.breaks = True
        with pytest.raises(bridge.WorkerDied, match="is broken"):
            await ex.run(abs, -1)
