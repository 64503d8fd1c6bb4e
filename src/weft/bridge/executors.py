"""One surface for work elsewhere: threads, processes, interpreters, Dask, Ray, or an executor that is there already.

    async with weft.bridge.executor("processes", workers=4) as ex:
        await ex.run(function, argument)
        async for result in ex.map(function, items):
            ...

What a cancellation means to a call that runs is written in `weft.bridge.cancel`; how far each engine can keep to
that stands in its own file, and in a table of the guide.
"""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterable, Callable, Iterable
from concurrent.futures import Executor as ConcurrentExecutor
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Literal, ParamSpec, Self, TypeVar

from weft.bridge._engines import pools
from weft.bridge._engines.dask import DaskEngine
from weft.bridge._engines.futures import ForeignEngine
from weft.bridge._engines.ray import RayEngine
from weft.bridge._engines.spi import Engine
from weft.bridge._engines.threads import ThreadsEngine
from weft.bridge._mapping import MapIterator, Mapping
from weft.bridge.errors import Closed
from weft.bridge.threads import OnCancel, refuse_async

__all__ = ["EngineName", "Executor", "executor"]

_T = TypeVar("_T")
_P = ParamSpec("_P")

EngineName = Literal["threads", "processes", "interpreters", "dask", "ray"]

#: Items in flight of a map where nothing else is asked for: so many for each worker, and no fewer than `LEAST_BOUND`.
BOUND_EACH = 4
LEAST_BOUND = 16


class Executor:
    """Runs synchronous calls somewhere else, and awaits them. Made by `executor`; used by one loop, in its thread,
    within `async with`.

    Every call ends in exactly one of a result, an error (the function's own, or a `BridgeError`), or its task's
    cancellation.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._state = "not started"
        self._mappings: weakref.WeakSet[Mapping] = weakref.WeakSet()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._engine.name}, {self._state}>"

    @property
    def workers(self) -> int:
        """How many calls run at once."""
        return self._engine.workers

    async def __aenter__(self) -> Self:
        if self._state != "not started":
            raise Closed(f"{self!r} can be entered once: make another one")
        self._state = "starting"
        try:
            await self._engine.start()
        except BaseException:
            self._state = "closed"
            raise
        self._state = "open"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Take no more calls. Maps are closed; calls that no worker was free for get `Closed`; those that run are
        waited for, but not the abandoned ones. Then what was started is ended. Twice is fine."""
        if self._state != "open":
            return
        self._state = "closed"
        try:
            for mapping in list(self._mappings):
                await mapping.close(Closed(f"{mapping!r} had not come to its end when {self!r} was closed"))
        finally:
            await self._engine.close()

    def _check(self, function: Any) -> None:
        refuse_async(function)
        if self._state != "open":
            remedy = "make another one" if self._state == "closed" else "use it by `async with`"
            raise Closed(f"{self!r} did not call {function!r}: {remedy}")

    async def run(self, function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """The result of `function(*args, **kwargs)`, called by a worker."""
        self._check(function)
        return await self._engine.run(function, args, kwargs)  # type: ignore[no-any-return]

    def map(
        self,
        function: Callable[..., _T],
        /,
        *iterables: Iterable[Any] | AsyncIterable[Any],
        ordered: bool = True,
        bound: int | None = None,
        return_exceptions: bool = False,
        progress: bool | str | None = None,
    ) -> MapIterator[_T]:
        """`function` called with the items of one or several iterables, plain or async, as far as the shortest goes.

        ordered:            results in the order of the items; else as they are done
        bound:              items in flight at most: taken from their source, and their result not yet taken.
                            Ordered, a slow item holds up as many. None: four for each worker, at least 16
        return_exceptions:  an item that fails gives its error as its result; else the first error is raised at its
                            place, when what else is in flight was cancelled and has ended
        progress:           show a bar on standard error, if that is a terminal; a text is its title

        Plain iterables are advanced in the loop's thread: one that blocks belongs into `weft.bridge.iterate`.
        Generators among the sources are closed at the end.
        """
        self._check(function)
        mapping = Mapping(
            self.run,
            function,
            iterables,
            max(LEAST_BOUND, BOUND_EACH * self.workers) if bound is None else bound,
            ordered,
            return_exceptions,
            progress,
            self._mappings.discard,
        )
        self._mappings.add(mapping)
        return MapIterator(mapping)


def executor(
    engine: EngineName | ConcurrentExecutor = "threads",
    *,
    workers: int | None = None,
    on_cancel: OnCancel = "wait",
    shutdown: bool = False,
    **options: Any,
) -> Executor:
    """An `Executor`, to be entered by `async with`.

    engine:     where calls run; or any `concurrent.futures.Executor`, whose owner you stay
    workers:    how many at once; None: as many as there are processors, for threads as many as asyncio's default
                executor has, for an executor that is there already its own number
    on_cancel:  what becomes of a call that runs when its task is cancelled: "wait" or "abandon", see
                `weft.bridge.cancel`
    shutdown:   shut an executor down that was there already, at the end
    options:    processes: `pool`, "loky" or "stdlib" (None: loky where it is installed)
                dask: `address` of a scheduler, or `client`, an asynchronous one; the rest goes to
                `distributed.LocalCluster`, or with an address to `distributed.Client`
                ray: `address` of a cluster; the rest goes to `ray.init`

    Raises TypeError or ValueError for wrong options, RuntimeError for interpreters before Python 3.14. A missing
    package is an ImportError that names the extra to install; entering raises it for dask and ray.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"{workers} workers do nothing: at least 1 is needed")
    if on_cancel not in ("wait", "abandon"):
        raise ValueError(f"on_cancel is {on_cancel!r}: it must be 'wait' or 'abandon'")
    if shutdown and isinstance(engine, str):
        raise TypeError(f"shutdown is for an executor that is there already: {engine!r} is always shut down")
    return Executor(_engine(engine, workers, on_cancel, shutdown, options))


def _engine(
    engine: EngineName | ConcurrentExecutor,
    workers: int | None,
    on_cancel: OnCancel,
    shutdown: bool,
    options: dict[str, Any],
) -> Engine:
    if engine == "dask":
        address, client = options.pop("address", None), options.pop("client", None)
        return DaskEngine(workers, address, client, options)
    if engine == "ray":
        return RayEngine(workers, on_cancel, options.pop("address", None), options)
    pool = options.pop("pool", None) if engine == "processes" else None
    if options:
        raise TypeError(f"{engine!r} knows no option {', '.join(map(repr, options))}")
    if engine == "threads":
        return ThreadsEngine(workers, on_cancel, None, False)
    if engine == "processes":
        return pools.processes(workers, on_cancel, pool)
    if engine == "interpreters":
        return pools.interpreters(workers, on_cancel)
    if not isinstance(engine, ConcurrentExecutor):
        names = "threads, processes, interpreters, dask, ray"
        raise TypeError(f"{engine!r} is no engine: give one of {names}, or a concurrent.futures.Executor")
    if pools.is_pool(engine):
        return pools.existing(engine, workers, on_cancel, shutdown)
    if isinstance(engine, ThreadPoolExecutor):
        return ThreadsEngine(workers, on_cancel, engine, shutdown)
    return ForeignEngine(engine, workers, on_cancel, shutdown)
