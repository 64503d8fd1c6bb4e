"""Bridges between synchronous and asynchronous code, and from one thread to many, to processes and to other machines.

    await weft.bridge.to_thread(function, …)       a synchronous call from a coroutine
    with weft.bridge.Portal() as portal:           async functions from synchronous code
        portal.call(async_function, …)
    async for item in weft.bridge.iterate(…):      a blocking iterator, bounded
    weft.bridge.asyncify(Client)                   a synchronous client class as an async one
    async with weft.bridge.executor("processes") as ex:
        await ex.run(function, …)                  the same call in threads, processes, interpreters, on Dask or Ray

Everything works on any asyncio loop. What a cancellation means to a thread is written in `weft.bridge.cancel`.
"""

from __future__ import annotations

from weft.bridge._calls import Call
from weft.bridge._items import AsyncItems
from weft.bridge.asyncify import asyncify
from weft.bridge.cancel import AbandonedCall, abandoned, check_cancelled, is_cancelled, sleep
from weft.bridge.collect import Collector
from weft.bridge.errors import (
    BridgeError,
    Closed,
    Deadlock,
    NotPicklable,
    Overflow,
    SchedulerLost,
    StillRunning,
    WorkerDied,
)
from weft.bridge.executors import Executor, executor
from weft.bridge.futures import run_coroutine_threadsafe, to_concurrent, wrap_future
from weft.bridge.graphql import AsyncioExecutor
from weft.bridge.handles import AsyncHandle, apply
from weft.bridge.iterators import SyncIterator, ThreadIterator, iterate
from weft.bridge.observable import ObservableIterator, from_observable, to_observable
from weft.bridge.portal import Portal
from weft.bridge.threads import OneThread, Threads, call_async, to_thread

__all__ = [
    "AbandonedCall",
    "AsyncHandle",
    "AsyncItems",
    "AsyncioExecutor",
    "BridgeError",
    "Call",
    "Closed",
    "Collector",
    "Deadlock",
    "Executor",
    "NotPicklable",
    "ObservableIterator",
    "OneThread",
    "Overflow",
    "Portal",
    "SchedulerLost",
    "StillRunning",
    "SyncIterator",
    "ThreadIterator",
    "Threads",
    "WorkerDied",
    "abandoned",
    "apply",
    "asyncify",
    "call_async",
    "check_cancelled",
    "executor",
    "from_observable",
    "is_cancelled",
    "iterate",
    "run_coroutine_threadsafe",
    "sleep",
    "to_concurrent",
    "to_observable",
    "to_thread",
    "wrap_future",
]
