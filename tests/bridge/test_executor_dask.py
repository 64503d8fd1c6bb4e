"""The Dask engine, with real clusters on this machine: results, errors, worker deaths, a scheduler that is killed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing.resource_tracker
import os
import signal
import subprocess
import sys
import threading

import cloudpickle
import pytest

from examples import word_count
from weft import bridge

if os.environ.get("CI"):
    import dask
    import distributed
else:
    dask = pytest.importorskip("dask", reason="dask is missing: pip install 'weft[dask]'")
    distributed = pytest.importorskip("distributed", reason="distributed is missing: pip install 'weft[dask]'")

cloudpickle.register_pickle_by_value(sys.modules[__name__])

pytestmark = [pytest.mark.slow_test(60)]


@pytest.fixture(autouse=True, scope="module")
def _tracker():
    """What lives as long as this process, once it was needed: who watches over what processes share, and Dask's thread
    for the reading of large messages."""
    multiprocessing.resource_tracker.ensure_running()
    distributed.utils._offload_executor.submit(abs, -1).result()


@pytest.fixture(autouse=True)
def _settings():
    """A task whose worker dies is tried twice; nothing is spilled or logged."""
    logging.getLogger("distributed").setLevel(logging.CRITICAL + 1)
    with dask.config.set({"distributed.scheduler.allowed-failures": 1, "distributed.worker.profile.enabled": False}):
        yield
    # Dask's threads that watch over worker processes close their pipes a moment after the cluster has ended.
    for thread in threading.enumerate():
        if thread.name.startswith("AsyncProcess"):
            thread.join(10)


def cluster(**options):
    return bridge.executor("dask", workers=1, processes=False, **options)


def fail():
    raise KeyError("lost")


async def test_results_errors_and_map(world):
    closed_over = [1, 2]
    async with bridge.executor("dask", workers=2) as ex:
        assert ex.workers == 2
        # Words that Dask's own submit would keep for itself.
        assert await ex.run(lambda *args, **kwargs: (args, kwargs, closed_over), 1, workers=2, key=3) == (
            (1,),
            {"workers": 2, "key": 3},
            [1, 2],
        )
        assert await ex.run(os.getpid) != os.getpid()
        with pytest.raises(KeyError, match="lost"):
            await ex.run(fail)
        # The same call twice is two calls.
        assert len({await ex.run(os.urandom, 8) for _ in range(3)}) == 3
        assert [each async for each in ex.map(lambda a, b: a + b, range(20), range(20), bound=5)] == list(
            range(0, 40, 2)
        )
        assert sorted([each async for each in ex.map(abs, range(20), ordered=False)]) == list(range(20))
    with pytest.raises(bridge.Closed):
        await ex.run(abs, -1)


async def test_what_cannot_be_sent(world):
    async with bridge.executor("dask", workers=1) as ex:
        with pytest.raises(
            bridge.NotPicklable, match="argument 1 of .*len.* can't be sent to another machine.*lock.*; send what"
        ):
            await ex.run(len, threading.Lock())
        with pytest.raises(bridge.NotPicklable, match="the function"):
            await ex.run(threading.Lock().acquire)
        with pytest.raises(bridge.NotPicklable, match="the result of .* can't be sent back"):
            await ex.run(threading.Lock)
        assert await ex.run(abs, -1) == 1


@pytest.mark.leaky("Dask's threads that watch over worker processes close their pipes a moment after the cluster")
async def test_work_of_a_killed_worker_is_run_again(world, tmp_path):
    mark = tmp_path / "mark"

    def die_once():
        try:
            mark.touch(exist_ok=False)
        except FileExistsError:
            return "second time"
        os.kill(os.getpid(), signal.SIGKILL)

    async with bridge.executor("dask", workers=1) as ex:
        assert await ex.run(die_once) == "second time"
        with pytest.raises(bridge.WorkerDied, match="was given up: .*2 different workers"):
            await ex.run(lambda die=os.kill: die(os.getpid(), signal.SIGKILL))
        assert await ex.run(abs, -1) == 1


@pytest.mark.leaky("a worker in this process leaves timers of its periodic callbacks in a closed loop")
async def test_cancelled_before_it_began(world):
    began, gate, ran = threading.Event(), threading.Event(), []
    with _shared(began=began, gate=gate, ran=ran):
        async with cluster() as ex:
            first = asyncio.create_task(ex.run(_wait))
            while not began.is_set():
                await asyncio.sleep(0)
            others = [asyncio.create_task(ex.run(_note)) for _ in range(5)]
            await asyncio.sleep(0)
            for each in others:
                each.cancel()
            outcomes = await asyncio.gather(*others, return_exceptions=True)
            assert [type(each) for each in outcomes] == [asyncio.CancelledError] * 5
            # The word that they are not wanted travels to the scheduler, and on to the worker.
            local = ex._engine._cluster
            while ex._engine._release is not None or any(
                len(state.tasks) > 1 for state in (local.scheduler, local.workers[0].state)
            ):
                await asyncio.sleep(0)
            gate.set()
            assert await first == "ended"
            assert await ex.run(abs, -1) == 1
    assert ran == []


@pytest.mark.leaky("a worker in this process leaves timers of its periodic callbacks in a closed loop")
async def test_closing_waits_for_what_runs(world):
    began, gate = threading.Event(), threading.Event()
    with _shared(began=began, gate=gate):
        ex = cluster()
        await ex.__aenter__()
        first = asyncio.create_task(ex.run(_wait))
        while not began.is_set():
            await asyncio.sleep(0)
        closing = asyncio.create_task(ex.aclose())
        await asyncio.sleep(0)
        gate.set()
        await closing
        assert await first == "ended"


# Workers that are threads of this process find these: a module that is imported, unlike this one.
@contextlib.contextmanager
def _shared(**things):
    for name, thing in things.items():
        setattr(threading, f"weft_{name}", thing)
    try:
        yield
    finally:
        for name in things:
            delattr(threading, f"weft_{name}")


def _wait():
    import threading

    threading.weft_began.set()
    assert threading.weft_gate.wait(30)
    return "ended"


def _note():
    import threading

    threading.weft_ran.append(1)


# ------------------------------------------------------------------------------------------------ another's cluster


@contextlib.contextmanager
def scheduler(folder, *, with_worker=True):
    """A scheduler, and perhaps a worker of it, as processes of their own; gives its address and its process."""
    file = folder / "scheduler.json"
    environment = os.environ | {"PYTHONWARNINGS": "ignore", "DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "critical"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment, "cwd": folder}
    command = [
        sys.executable,
        "-m",
        "distributed.cli.dask_scheduler",
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--no-dashboard",
    ]
    started = [subprocess.Popen([*command, "--scheduler-file", str(file)], **quiet)]
    try:
        if with_worker:
            command = [
                sys.executable,
                "-m",
                "distributed.cli.dask_worker",
                "--scheduler-file",
                str(file),
                "--nthreads",
                "1",
                "--no-nanny",
            ]
            started.append(subprocess.Popen([*command, "--no-dashboard", "--host", "127.0.0.1"], **quiet))
        yield file, started[0]
    finally:
        for process in started:
            process.kill()
            process.wait()


async def address_of(file):
    import json

    while True:
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
            return json.loads(file.read_text())["address"]
        await asyncio.sleep(0)


async def test_a_scheduler_elsewhere_that_is_killed(world, tmp_path):
    def wait(began):
        with open(began, "w"):
            pass
        threading.Event().wait(60)

    began = tmp_path / "began"
    with scheduler(tmp_path) as (file, process):
        async with bridge.executor("dask", address=await address_of(file)) as ex:
            assert await ex.run(os.getpid) != os.getpid()
            with pytest.raises(
                bridge.NotPicklable, match="can't be read by the scheduler: its machine needs the modules"
            ):
                await ex.run(word_count.read_whole, os.devnull)
            running = asyncio.create_task(ex.run(wait, str(began)))
            while not began.exists():
                await asyncio.sleep(0)
            process.kill()
            with pytest.raises(
                bridge.SchedulerLost, match="wait.* was lost with the connection to the scheduler"
            ) as caught:
                await running
            assert isinstance(caught.value, ConnectionError)
            with pytest.raises(bridge.SchedulerLost, match="was not sent: the client is connecting"):
                await ex.run(abs, -1)


async def test_no_scheduler_there(world):
    with pytest.raises(bridge.SchedulerLost, match="no Dask scheduler answers at tcp://127.0.0.1:9"):
        async with bridge.executor("dask", address="tcp://127.0.0.1:9", timeout=0.2):
            pass


@pytest.mark.leaky("a worker in this process leaves timers of its periodic callbacks in a closed loop")
async def test_somebody_elses_client(world):
    async with distributed.LocalCluster(
        n_workers=1, processes=False, asynchronous=True, dashboard_address="127.0.0.1:0"
    ) as other:
        async with distributed.Client(other, asynchronous=True) as client:
            async with bridge.executor("dask", client=client) as ex:
                assert await ex.run(abs, -1) == 1
            assert client.status == "running"
            assert await client.submit(abs, -2) == 2


async def test_a_result_that_cannot_be_sent_fails_its_own_call_only(world):
    async with bridge.executor("dask", workers=1) as ex:
        outcomes = await asyncio.gather(
            *[
                ex.run(threading.Lock if number % 4 == 1 else abs, *[-number][number % 4 == 1 :])
                for number in range(40)
            ],
            return_exceptions=True,
        )
    assert [each for number, each in enumerate(outcomes) if number % 4 != 1] == [
        number for number in range(40) if number % 4 != 1
    ]
    assert {type(each) for number, each in enumerate(outcomes) if number % 4 == 1} == {bridge.NotPicklable}


class _Elsewhere(Exception):
    """It can be read in every process but its maker's."""

    def __init__(self, home):
        self.home = home

    def __reduce__(self):
        return _read_elsewhere, (self.home,)


def _read_elsewhere(home):
    if os.getpid() == home:
        raise ModuleNotFoundError("no such module here")
    return _Elsewhere(home)


def _raise_elsewhere(home):
    raise _Elsewhere(home)


async def test_what_cannot_be_read_here(world):
    async with bridge.executor("dask", workers=1) as ex:
        with pytest.raises(
            bridge.NotPicklable, match="the result of .*_Elsewhere.* can't be read in this process: no such module"
        ):
            await ex.run(_Elsewhere, os.getpid())
        with pytest.raises(
            bridge.NotPicklable, match="_raise_elsewhere.* raised an error that can't be read in this process"
        ):
            await ex.run(_raise_elsewhere, os.getpid())
        assert await ex.run(abs, -1) == 1


async def despite_losses(ex, function, *args):
    """What a call comes to that is made until its worker lives that long."""
    while True:
        try:
            return await ex.run(function, *args)
        except bridge.WorkerDied:
            continue


@pytest.mark.leaky("Dask's threads that watch over worker processes close their pipes a moment after the cluster")
async def test_a_worker_that_the_cluster_has_given_up_is_made_anew(world):
    # Given up at once, and not when it is being started for the second time some seconds later. With such a time-out Dask
    # may also close the worker that was just started, and a call with it.
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "1ms"}):
        async with bridge.executor("dask", workers=1) as ex:
            for _ in range(2):
                os.kill(await despite_losses(ex, os.getpid), signal.SIGKILL)
                async with asyncio.timeout(20):
                    assert await despite_losses(ex, abs, -1) == 1
