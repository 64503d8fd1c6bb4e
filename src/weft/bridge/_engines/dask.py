"""Calls on the workers of a Dask cluster, by Dask's own asynchronous client on the running loop.

Rules for whoever edits this file:

- Nothing stands between the client's future and the task that awaits it: `run` submits, awaits and translates
  errors. Translating costs nothing where there is none.
- The scheduler decides what runs where and when, so there are no places here; and it runs the work of a lost worker
  again.
- Dask tells nobody whether a task has begun. A cancelled call's key is let go of: work that has not begun when the
  word reaches its worker is forgotten, and what runs runs to its end there, where its result is dropped. So a
  cancellation never waits.
- A scheduler that still reads a task's graph doesn't know its key yet, and lets a release of that key pass by: the
  task would run, and its result stay for as long as the client. So a cancelled call's future is kept until the
  scheduler knows it.
- Dask fetches the results of several calls at once, and one that can't be sent or read fails them all. So a call that
  has run and whose result did not come is asked for once more, alone.
- A cluster of Dask forgets a worker for good that is not there `lost-worker-timeout` after it was lost, be it only that it
  is just starting again. So the workers of our own cluster are counted, and missing ones are made anew.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import logging
import warnings
from typing import Any

from weft.bridge._engines.spi import cores, need, short
from weft.bridge.errors import Closed, NotPicklable, SchedulerLost, WorkerDied

__all__ = ["DaskEngine"]

#: Words of `Client.submit` that a function's own arguments may be called too.
_RESERVED = frozenset(
    (
        "key",
        "workers",
        "resources",
        "retries",
        "priority",
        "fifo_timeout",
        "allow_other_workers",
        "actor",
        "actors",
        "pure",
    )
)
#: How often, and with what pause, the scheduler is asked whether it knows a cancelled call.
RELEASE_LOOK_S = 0.05
RELEASE_TRIES = 200
#: How often the workers of a cluster of our own are counted.
WORKERS_LOOK_S = 1.0
#: How long the end waits for a worker that is being started.
START_S = 30.0
_log = logging.getLogger(__name__)
_NOT_SERIALIZED = "Could not serialize object"
_NOT_READ = "Error during deserialization of the task graph"


class DaskEngine:
    """A client, and the cluster that it started if it was given neither a client nor an address."""

    def __init__(self, workers: int | None, address: str | None, client: Any, options: dict[str, Any]) -> None:
        if client is not None and (address is not None or options or workers is not None):
            raise TypeError("a client knows its cluster: give no address, workers or other options with it")
        if address is not None and workers is not None:
            raise TypeError(f"the workers of {address} are the scheduler's: give no number of workers with an address")
        self.name = "dask"
        self.workers = cores() if workers is None else workers
        self._address = address
        self._options = options
        self._cluster: Any = None
        self._client = client
        self._owns_client = client is None
        self._is_closed = False
        self._running = 0
        self._idle = asyncio.Event()
        # Futures of cancelled calls, and the task that releases them.
        self._unwanted: list[Any] = []
        self._release: asyncio.Task[None] | None = None
        # The task that keeps the number of workers, and what tells it to end: it must not be cut off in a worker's start.
        self._keeping: asyncio.Task[None] | None = None
        self._closing: asyncio.Future[None]

    async def start(self) -> None:
        distributed = need("distributed", "dask")
        self._killed = distributed.scheduler.KilledWorker
        self._lost = distributed.client.FutureCancelledError
        self._ended = {distributed.Status.failed, distributed.Status.closed}
        if not self._owns_client:
            if not self._client.asynchronous:
                raise TypeError(f"{self._client!r} is a synchronous client: make it with asynchronous=True")
            self.workers = self._count_workers()
            return
        options: dict[str, Any] = dict(self._options)
        if self._address is None:
            # A dashboard on a port of its own: several clusters of one machine are nothing to warn of.
            settings = {
                "n_workers": self.workers,
                "threads_per_worker": 1,
                "dashboard_address": "127.0.0.1:0",
            } | options
            settings.setdefault("silence_logs", logging.CRITICAL)
            self._cluster = distributed.LocalCluster(asynchronous=True, **settings)
            target, options = self._cluster, {}
            try:
                await self._cluster
            except BaseException:
                await self._cluster.close()
                raise
        else:
            target = self._address
        client = distributed.Client(target, asynchronous=True, set_as_default=False, **options)
        try:
            await client
        except (TimeoutError, OSError) as error:
            await client.close()
            raise SchedulerLost(f"no Dask scheduler answers at {self._address}: {error}") from error
        except BaseException:
            await client.close()
            if self._cluster is not None:
                await self._cluster.close()
            raise
        self._client = client
        self.workers = self._count_workers()
        if self._cluster is not None:
            loop = asyncio.get_running_loop()
            self._closing = loop.create_future()
            self._keeping = loop.create_task(self._keep_workers())

    async def _keep_workers(self) -> None:
        """Make those workers anew that the cluster has given up, by other names: the old ones may be ending still."""
        cluster = self._cluster
        wanted = cluster.worker_spec
        while True:
            await asyncio.wait([self._closing], timeout=WORKERS_LOOK_S)
            if self._closing.done():
                return
            lost = [
                name for name in wanted if name not in cluster.workers or cluster.workers[name].status in self._ended
            ]
            if lost:
                for _ in lost:
                    wanted.update(cluster.new_worker_spec())
                for name in lost:
                    del wanted[name]
                try:
                    await cluster
                except Exception:
                    # It did not start, as where memory is short: once more, then.
                    _log.warning("a worker of %r could not be made anew", cluster, exc_info=True)

    def _count_workers(self) -> int:
        with warnings.catch_warnings():
            # Newer clients warn that this tells of a few workers only; they count them all.
            warnings.simplefilter("ignore")
            known = self._client.scheduler_info()
        return sum(worker.get("nthreads", 1) for worker in known.get("workers", {}).values()) or self.workers

    async def run(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        client = self._client
        if client.status != "running":
            raise SchedulerLost(
                f"{function!r} was not sent: the client is {client.status}; while it is connecting it tries again by itself"
            )
        if kwargs and not _RESERVED.isdisjoint(kwargs):
            function, kwargs = functools.partial(function, **kwargs), {}
        try:
            future = client.submit(function, *args, pure=False, **kwargs)
        except (TypeError, AttributeError) as error:
            raise self._refused(function, args, kwargs, error) from error
        self._running += 1
        try:
            while True:
                try:
                    return await future
                except Exception:
                    if future.status != "finished":
                        raise
                answer = await client.scheduler.gather(keys=[future.key])
                if answer["status"] == "OK":
                    return answer["data"][future.key]
                # Its worker was lost meanwhile: Dask runs it again.
        except asyncio.CancelledError:
            if not future.done():
                self._let_go(future)
            else:
                future.release()
            raise
        except Exception as error:
            own = self._in_our_terms(function, error, has_run=future.status == "finished")
            # At once, and not when the error's traceback is let go of.
            future.release()
            if own is None:
                raise
            raise own from error
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    def _let_go(self, future: Any) -> None:
        self._unwanted.append(future)
        if self._release is None:
            self._release = asyncio.get_running_loop().create_task(self._release_all())

    async def _release_all(self) -> None:
        """Release the futures of cancelled calls, each when the scheduler knows it."""
        try:
            for _ in range(RELEASE_TRIES):
                known = await self._client.scheduler.get_task_status(keys=[future.key for future in self._unwanted])
                asked, self._unwanted = self._unwanted, []
                for future in asked:
                    if known.get(future.key) is None and not future.done():
                        self._unwanted.append(future)
                    else:
                        future.release()
                if not self._unwanted:
                    return
                await asyncio.sleep(RELEASE_LOOK_S)
        except OSError:
            # The scheduler is lost, and what it was to forget with it.
            return
        finally:
            for future in self._unwanted:
                future.release()
            self._unwanted.clear()
            self._release = None

    def _in_our_terms(self, function: Any, error: Exception, has_run: bool) -> Exception | None:
        """The typed error for one of Dask's own; None for the function's."""
        if isinstance(error, self._killed):
            return WorkerDied(f"{function!r} was given up: {error}")
        if isinstance(error, (self._lost, concurrent.futures.CancelledError)):
            if self._is_closed:
                return Closed(f"{function!r} was not run to its end: the executor was closed")
            return SchedulerLost(
                f"{function!r} was lost with the connection to the scheduler ({error}): call it again when there is one"
            )
        if isinstance(error, TypeError) and str(error).startswith(_NOT_SERIALIZED):
            first = str(error).partition("\n")[0]
            return NotPicklable(f"the result of {function!r} can't be sent back: {first}; return what it is made of")
        if isinstance(error, RuntimeError) and str(error).startswith(_NOT_READ):
            return NotPicklable(
                f"the call of {function!r} can't be read by the scheduler: its machine needs the modules that the function and "
                "its arguments come from"
            )
        if isinstance(error, OSError) and self._client.status != "running":
            return SchedulerLost(f"{function!r} was lost with the connection to the scheduler ({error})")
        if has_run:
            return NotPicklable(
                f"the result of {function!r} can't be read in this process: {error}; return what it is made of"
            )
        if type(error) is Exception and len(error.args) == 1 and isinstance(error.args[0], bytes):
            # What is left of an error that was packed there and can't be read here.
            return NotPicklable(
                f"{function!r} raised an error that can't be read in this process: raise one whose module is here too"
            )
        return None

    def _refused(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], error: Exception) -> NotPicklable:
        dumps = need("cloudpickle", "dask").dumps
        culprit = f"the call of {function!r}"
        named = [("the function", function)]
        named += [(f"argument {number} of {function!r},", value) for number, value in enumerate(args, 1)]
        named += [(f"argument {name!r} of {function!r},", value) for name, value in kwargs.items()]
        for words, thing in named:
            try:
                dumps(thing)
            except Exception:
                culprit = f"{words} {short(thing)},"
                break
        first = str(error.__cause__ or error).partition("\n")[0]
        return NotPicklable(
            f"{culprit} can't be sent to another machine: {first}; send what it is made from and make it there"
        )

    async def close(self) -> None:
        self._is_closed = True
        try:
            if self._running:
                self._idle.clear()
                await self._idle.wait()
            if self._release is not None:
                if self._owns_client:
                    # With the client goes all that it wanted.
                    self._release.cancel()
                await asyncio.wait([self._release])
        finally:
            try:
                if self._keeping is not None:
                    self._closing.set_result(None)
                    await asyncio.wait([self._keeping], timeout=START_S)
            finally:
                try:
                    if self._owns_client:
                        await self._client.close()
                finally:
                    if self._cluster is not None:
                        await self._cluster.close()
