"""Bridges between synchronous and asynchronous code, and from one thread to many, to processes and to other machines.

    await weft.bridge.to_thread(function, …)       a synchronous call from a coroutine
    with weft.bridge.Portal() as portal:           async functions from synchronous code
        portal.call(async_function, …)
    async for item in weft.bridge.iterate(…):      a blocking iterator, bounded
    async with weft.bridge.executor("processes") as ex:
        await ex.run(function, …)                  the same call in threads, processes, interpreters, on Dask or Ray

Everything works on any asyncio loop. What a cancellation means to a thread is written in `weft.bridge.cancel`.
"""

from __future__ import annotations

from weft.bridge.cancel import AbandonedCall, abandoned, check_cancelled, is_cancelled, sleep
from weft.bridge.errors import (
    BridgeError,
    Closed,
    Deadlock,
    NotPicklable,
    SchedulerLost,
    StillRunning,
    WorkerDied,
)
from weft.bridge.executors import Executor, executor
from weft.bridge.iterators import SyncIterator, ThreadIterator, iterate
from weft.bridge.portal import Portal
from weft.bridge.threads import OneThread, Threads, call_async, to_thread

__all__ = [
    "AbandonedCall",
    "BridgeError",
    "Closed",
    "Deadlock",
    "Executor",
    "NotPicklable",
    "OneThread",
    "Portal",
    "SchedulerLost",
    "StillRunning",
    "SyncIterator",
    "ThreadIterator",
    "Threads",
    "WorkerDied",
    "abandoned",
    "call_async",
    "check_cancelled",
    "executor",
    "is_cancelled",
    "iterate",
    "sleep",
    "to_thread",
]
