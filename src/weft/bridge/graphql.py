"""`AsyncioExecutor` for GraphQL's Python library before version 3 (graphql-core 2.3.2, also called graphql-core-legacy).

    result = graphql(schema, query, executor=weft.bridge.AsyncioExecutor())

It takes the place of `graphql.execution.executors.asyncio.AsyncioExecutor`, with the same three methods. It needs
`pip install weft[legacy]`.

Rules for whoever edits this file:

- A promise is settled once, in the thread that executed its resolver: promises are not thread-safe.
- Nothing but an `Exception` may be raised into `promise`: its scheduler swallows any other, and leaves the promise pending
  for ever. A cancellation becomes `concurrent.futures.CancelledError`, which is one; KeyboardInterrupt and SystemExit are
  kept, and raised by the waiting that follows.
- `promise` gets values and promises, nothing else: a coroutine found in a result it would run on whatever loop there is.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import CancelledError as ConcurrentCancelledError
from concurrent.futures import Future as ConcurrentFuture
from functools import partial
from typing import Any

from weft.bridge._collecting import AnyFuture
from weft.bridge.collect import Collector
from weft.bridge.errors import Deadlock
from weft.bridge.iterators import BOUND
from weft.bridge.observable import Source

__all__ = ["AsyncioExecutor"]

#: A list of these alone needs no second look.
_PLAIN: set[type] = {bool, bytes, dict, float, int, str, type(None)}


class AsyncioExecutor(Collector):
    """Runs what resolvers return: coroutines, tasks, futures of both kinds, lists of them, and async generators.

    loop:        as for `Collector`; None works where there is no loop, and inside one
    own_thread:  the awaitables run in a loop in a thread of the executor's, and `graphql(…)` may be called without
                 `return_promise` even inside a running loop, which it blocks
    bound:       items that may wait for a subscriber's `scheduler`
    scheduler:   of rx: where the subscribers of a subscription are called; None: in the loop's thread

    Resolvers are called in the thread that calls `graphql`; coroutines run in the loop. One executor serves any number of
    queries and threads, one after the other or at once. What a resolver raises is in the result's `errors`, as
    `original_error` with its traceback.
    """

    _async_way = "`await {0}.finished()` (graphql(…, return_promise=True) gives a promise that can be awaited)"

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop | None = None,
        *,
        own_thread: bool = False,
        bound: int = BOUND,
        scheduler: Any = None,
    ) -> None:
        try:
            from promise import Promise
            from rx import AnonymousObservable
        except ImportError as error:
            raise ImportError("AsyncioExecutor needs graphql-core 2.3.2: pip install 'weft[legacy]'") from error
        self._promise_class: Any = Promise
        self._observable_class: Any = AnonymousObservable
        super().__init__(loop, own_thread=own_thread)
        self._bound = bound
        self._scheduler = scheduler

    @property
    def futures(self) -> list[AnyFuture]:
        """Those of this thread that are not done."""
        return [work.future for work in self._batch().running()]

    def execute(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """What `function(*args, **kwargs)` returns; for an awaitable a promise, for an async generator an observable.

        In a list or a tuple, each item that is an awaitable becomes a promise.
        """
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            if isinstance(error, Exception):
                raise
            raise self._as_exception(error, function) from error
        return self._converted(result)

    def promise(self, awaitable: Awaitable[Any] | ConcurrentFuture[Any]) -> Any:
        """A promise for an awaitable, collected as a resolver's is. A DataLoader's batch function has to return one."""
        settle: list[Callable[..., None]] = []
        promise = self._promise_class(lambda resolve, reject: settle.extend((resolve, reject)))
        resolve, reject = settle

        def on_end(future: AnyFuture) -> None:
            try:
                value = self._converted(future.result())
            except BaseException as error:
                if not isinstance(error, Exception) or future.cancelled():
                    exception = self._as_exception(error, awaitable)
                    exception.__cause__ = error
                    reject(exception, error.__traceback__)
                else:
                    reject(error, error.__traceback__)
            else:
                resolve(value)

        self._collect(awaitable, on_end)
        return promise

    def wait_until_finished(self) -> None:
        """As `Collector`'s; raises what ended a resolver and is no `Exception`, such as KeyboardInterrupt."""
        try:
            super().wait_until_finished()
        except Deadlock:
            self._raise_kept()
            raise
        except BaseException:
            # A loop raises what has ended one of its tasks by itself.
            self._batch().kept = None
            raise
        self._raise_kept()

    async def finished(self) -> None:
        """The same, awaited."""
        await super().finished()
        self._raise_kept()

    def clean(self) -> None:
        """As `Collector`'s. GraphQL itself, which calls it when it hands out a promise, cancels nothing by it.

        (It needs the resolvers to go on: the promise is for what they return.) To stop a query whose promise nobody awaits any
        more, call it yourself. All queries that this thread runs by the executor are stopped.
        """
        if _is_called_by_graphql():
            self._raise_kept()
        else:
            super().clean()

    # -- inside --

    def _converted(self, result: Any) -> Any:
        if isinstance(result, self._promise_class):
            return result
        if inspect.isawaitable(result) or isinstance(result, ConcurrentFuture):
            return self.promise(result)
        if isinstance(result, AsyncIterator):
            return self._observable_class(
                partial(self._subscribe, Source(result, self.loop, self._bound, self._scheduler))
            )
        if type(result) in (list, tuple) and not set(map(type, result)) <= _PLAIN:
            return [self._converted(item) for item in result]
        return result

    def _subscribe(self, source: Source, observer: Any) -> Callable[[], None]:
        # A method, so that the observable keeps the executor, which may own the loop.
        return source.subscribe(observer)

    def _as_exception(self, error: BaseException, what: Any) -> Exception:
        if isinstance(error, (asyncio.CancelledError, ConcurrentCancelledError)):
            return ConcurrentCancelledError(f"{what!r} was cancelled")
        self._batch().kept = self._batch().kept or error
        return RuntimeError(f"{what!r} was ended by {error!r}")

    def _raise_kept(self) -> None:
        batch = self._batch()
        error, batch.kept = batch.kept, None
        if error is not None:
            raise error


def _is_called_by_graphql() -> bool:
    """Whether graphql's own `execute` called `clean`, perhaps by way of others of that name (a subclass, a wrapper).

    It does so with `return_promise` only, at the moment when it returns the promise, and there is no other sign of that.
    """
    frame = sys._getframe(1)
    while frame.f_code.co_name == "clean" and frame.f_back is not None:
        frame = frame.f_back
    return frame.f_globals.get("__name__") == "graphql.execution.executor"
