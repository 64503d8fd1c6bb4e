"""`AsyncioExecutor` in graphql-core 2.3.2: run by test_graphql_legacy in an environment of its own, which has that package."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import gc
import subprocess
import sys
import textwrap
import threading
import traceback

import pytest
from graphql import (
    GraphQLField,
    GraphQLInt,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLString,
    graphql,
)
from graphql.execution.executors.asyncio import AsyncioExecutor as TheirExecutor
from promise import Promise
from promise.dataloader import DataLoader
from rx.concurrency import EventLoopScheduler
from worlds import turns

from weft import bridge
from weft.bridge import AsyncioExecutor

# Rx 1.6 asks for the time in a way that is deprecated since Python 3.12, whenever somebody subscribes.
pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning:rx.internal.basic")
VARIABLE = contextvars.ContextVar("variable", default="default")


class Service:
    """What the resolvers work on; a new one for each test."""

    def __init__(self):
        self.log, self.batches = [], []
        self.began, self.ended = threading.Event(), []
        self.made = 0
        self.threads = set()
        self.value = 0
        self.executor = None
        self.loader = DataLoader(lambda keys: self.executor.promise(self.load(keys)))

    async def load(self, keys):
        self.batches.append(keys)
        await asyncio.sleep(0)
        return [f"user {key}" for key in keys]


async def hello(service, info, **args):
    service.threads.add(threading.current_thread())
    await asyncio.sleep(0)
    return "world"


async def number(value):
    await asyncio.sleep(0)
    return value


async def fail(service, info):
    await asyncio.sleep(0)
    raise KeyError("lost")


async def stuck(service, info):
    service.began.set()
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        await asyncio.sleep(0)
        service.ended.append("stuck")


async def cancelled(service, info):
    raise asyncio.CancelledError


def sync_fail(service, info):
    raise ValueError("plain")


def pooled(service, info):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(str.upper, "pooled")


def task(service, info):
    return asyncio.ensure_future(hello(service, info))


async def coroutine_of_a_coroutine(service, info):
    return number(42)


async def user(service, info):
    await asyncio.sleep(0)
    return {"name": "Ada", "service": service}


async def friends(user, info):
    await asyncio.sleep(0)
    return [user, user]


async def count(service, info, to):
    try:
        for each in range(to):
            service.made += 1
            yield each
            await asyncio.sleep(0)
    finally:
        await asyncio.sleep(0)
        service.ended.append("count")


async def failing_count(service, info):
    yield 1
    raise KeyError("lost")


def change(name, turns_needed):
    async def resolver(service, info):
        service.log.append(f"{name} begins")
        await turns(turns_needed)
        service.value += 1
        service.log.append(f"{name} ends")
        return service.value

    return resolver


def argument(kind):
    from graphql import GraphQLArgument

    return GraphQLArgument(GraphQLNonNull(kind))


USER = GraphQLObjectType(
    "User",
    lambda: {
        "name": GraphQLField(GraphQLString, resolver=lambda user, info: number(user["name"])),
        "friends": GraphQLField(GraphQLList(USER), resolver=friends),
    },
)
QUERY = GraphQLObjectType(
    "Query",
    {
        "hello": GraphQLField(GraphQLString, resolver=hello),
        "plain": GraphQLField(GraphQLString, resolver=lambda *_: "plain"),
        "numbers": GraphQLField(GraphQLList(GraphQLInt), resolver=lambda *_: [number(1), 2, number(3)]),
        "tuple": GraphQLField(GraphQLList(GraphQLInt), resolver=lambda *_: (number(1), number(2))),
        "asyncNumbers": GraphQLField(GraphQLList(GraphQLInt), resolver=lambda *_: number([number(1), number(2)])),
        "matrix": GraphQLField(
            GraphQLList(GraphQLList(GraphQLInt)), resolver=lambda *_: [[number(1)], [], [2, number(3)]]
        ),
        "fail": GraphQLField(GraphQLString, resolver=fail),
        "needed": GraphQLField(GraphQLNonNull(GraphQLString), resolver=fail),
        "syncFail": GraphQLField(GraphQLString, resolver=sync_fail),
        "someFail": GraphQLField(GraphQLList(GraphQLInt), resolver=lambda *_: [number(1), fail(None, None)]),
        "stuck": GraphQLField(GraphQLString, resolver=stuck),
        "cancelled": GraphQLField(GraphQLString, resolver=cancelled),
        "pooled": GraphQLField(GraphQLString, resolver=pooled),
        "task": GraphQLField(GraphQLString, resolver=task),
        "deep": GraphQLField(GraphQLInt, resolver=coroutine_of_a_coroutine),
        "user": GraphQLField(USER, resolver=user),
        "loaded": GraphQLField(
            GraphQLString,
            args={"key": argument(GraphQLInt)},
            resolver=lambda service, info, key: service.loader.load(key),
        ),
        "context": GraphQLField(GraphQLString, resolver=lambda *_: look()),
    },
)
MUTATION = GraphQLObjectType(
    "Mutation",
    {
        "slow": GraphQLField(GraphQLInt, resolver=change("slow", 20)),
        "quick": GraphQLField(GraphQLInt, resolver=change("quick", 0)),
        "fail": GraphQLField(GraphQLString, resolver=fail),
    },
)
SUBSCRIPTION = GraphQLObjectType(
    "Subscription",
    {
        "count": GraphQLField(GraphQLInt, args={"to": argument(GraphQLInt)}, resolver=count),
        "failing": GraphQLField(GraphQLInt, resolver=failing_count),
    },
)
SCHEMA = GraphQLSchema(query=QUERY, mutation=MUTATION, subscription=SUBSCRIPTION)


async def look():
    return VARIABLE.get()


@pytest.fixture
def service():
    return Service()


@pytest.fixture(params=["no loop", "given", "current", "own thread"])
def executor(request, world, service):
    """In each of the ways that synchronous code can have one."""
    loop = world.new_loop()
    if request.param == "current":
        asyncio.set_event_loop(loop)
    options = {"given": {"loop": loop}, "own thread": {"own_thread": True}}.get(request.param, {})
    with AsyncioExecutor(**options) as made:
        service.executor = made
        yield made
    asyncio.set_event_loop(None)
    loop.close()


def data_of(result):
    assert not result.errors, result.errors
    return dict(result.data)


# ------------------------------------------------------------------------------------------------- synchronous queries


ALL = """{ hello plain numbers tuple asyncNumbers matrix deep pooled
           user { name friends { name friends { name } } } }"""
ADA = {"name": "Ada"}
WANTED = {
    "hello": "world",
    "plain": "plain",
    "numbers": [1, 2, 3],
    "tuple": [1, 2],
    "asyncNumbers": [1, 2],
    "matrix": [[1], [], [2, 3]],
    "deep": 42,
    "pooled": "POOLED",
    "user": {"name": "Ada", "friends": [{"name": "Ada", "friends": [ADA, ADA]}] * 2},
}


def test_a_query(executor, service):
    for _ in range(3):
        assert data_of(graphql(SCHEMA, ALL, service, executor=executor)) == WANTED
    assert executor.futures == []


def test_where_resolvers_run(executor, service):
    graphql(SCHEMA, "{ hello }", service, executor=executor)
    assert (threading.current_thread() in service.threads) is ("own thread" not in repr(executor))


def test_failures_reach_the_errors_with_their_tracebacks(executor, service, caplog):
    result = graphql(SCHEMA, "{ hello fail syncFail someFail cancelled }", service, executor=executor)
    assert dict(result.data) == {
        "hello": "world", "fail": None, "syncFail": None, "someFail": [1, None], "cancelled": None
    }  # fmt: skip
    errors = {".".join(map(str, error.path)): error for error in result.errors}
    assert set(errors) == {"fail", "syncFail", "someFail.1", "cancelled"}
    for path, kind, where in (
        ("fail", KeyError, "in fail\n"),
        ("someFail.1", KeyError, "in fail\n"),
        ("syncFail", ValueError, "in sync_fail\n"),
    ):
        original = errors[path].original_error
        assert type(original) is kind
        assert where in "".join(traceback.format_exception(original))
        assert where in "".join(traceback.format_tb(errors[path].stack))
    assert isinstance(errors["cancelled"].original_error, concurrent.futures.CancelledError)


def test_a_failure_of_what_must_not_be_null(executor, service, caplog):
    result = graphql(SCHEMA, "{ hello needed }", service, executor=executor)
    assert result.data is None
    assert isinstance(result.errors[0].original_error, KeyError)


def test_mutations_are_serial(executor, service):
    result = graphql(SCHEMA, "mutation { a: slow b: quick c: slow d: quick }", service, executor=executor)
    assert list(result.data.items()) == [("a", 1), ("b", 2), ("c", 3), ("d", 4)]
    names = ["slow", "quick"] * 2
    assert service.log == [line for name in names for line in (f"{name} begins", f"{name} ends")]


def test_a_mutation_that_fails_lets_the_next_go_on(executor, service, caplog):
    result = graphql(SCHEMA, "mutation { a: quick fail b: quick }", service, executor=executor)
    assert dict(result.data) == {"a": 1, "fail": None, "b": 2}
    assert len(result.errors) == 1


def test_a_dataloader_loads_in_one_batch(executor, service):
    query = "{ " + " ".join(f"u{key}: loaded(key: {key})" for key in range(1, 6)) + " again: loaded(key: 1) }"
    data = data_of(graphql(SCHEMA, query, service, executor=executor))
    assert data == {**{f"u{key}": f"user {key}" for key in range(1, 6)}, "again": "user 1"}
    assert service.batches == [[1, 2, 3, 4, 5]]


def test_the_context_of_the_caller(executor, service):
    VARIABLE.set("mine")
    assert data_of(graphql(SCHEMA, "{ context }", service, executor=executor)) == {"context": "mine"}


def test_a_promise_and_a_wait(executor, service):
    promise = graphql(SCHEMA, ALL, service, executor=executor, return_promise=True)
    executor.wait_until_finished()
    assert data_of(promise.get()) == WANTED


def test_clean_cancels_what_it_drops(executor, service, caplog):
    promise = graphql(SCHEMA, "{ plain stuck }", service, executor=executor, return_promise=True)
    if executor.loop.is_running():
        assert service.began.wait(10)
    else:
        executor.loop.run_until_complete(turns(3))
    assert service.ended == []
    executor.clean()
    assert service.ended == ["stuck"]
    assert executor.futures == []
    (error,) = promise.get().errors
    assert isinstance(error.original_error, concurrent.futures.CancelledError)


def test_a_cleaned_promise_of_a_plain_function_is_rejected(executor, service):
    promise = executor.execute(stuck, service, None)
    assert isinstance(promise, Promise)
    executor.clean()
    with pytest.raises(concurrent.futures.CancelledError, match="was cancelled"):
        promise.get()


def test_clean_by_way_of_a_wrapper(service):
    """GraphQL's own call is known through methods of the same name."""

    class Own(AsyncioExecutor):
        def clean(self):
            super().clean()

    with Own() as executor:
        promise = graphql(SCHEMA, "{ hello }", service, executor=executor, return_promise=True)
        executor.wait_until_finished()
        assert data_of(promise.get()) == {"hello": "world"}


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_is_no_exception_comes_out_of_the_wait(executor, service, kind, caplog):
    """The promise library would swallow it and wait for ever."""

    def end(*_):
        raise kind

    schema = GraphQLSchema(QUERY_WITH(end))
    with pytest.raises(kind):
        graphql(schema, "{ end }", service, executor=executor)
    with pytest.raises(kind):
        graphql(schema, "{ end }", service, executor=executor, return_promise=True)
    assert data_of(graphql(SCHEMA, "{ hello }", service, executor=executor)) == {"hello": "world"}


def QUERY_WITH(resolver):
    return GraphQLObjectType("Query", {"end": GraphQLField(GraphQLString, resolver=resolver)})


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_ends_a_task_and_is_no_exception_comes_out_once(world, service, kind, caplog):
    async def end(*_):
        await asyncio.sleep(0)
        raise kind

    loop = world.new_loop()
    executor = AsyncioExecutor(loop)
    with pytest.raises(kind):
        graphql(GraphQLSchema(QUERY_WITH(end)), "{ end }", service, executor=executor)
    assert data_of(graphql(SCHEMA, "{ hello }", service, executor=executor)) == {"hello": "world"}
    loop.close()


def test_many_queries_of_many_threads(service, in_thread):
    results = []
    with AsyncioExecutor(own_thread=True) as executor:

        def ask():
            results.append(data_of(graphql(SCHEMA, ALL, service, executor=executor)))

        for thread in [in_thread(ask) for _ in range(10)]:
            thread.join(10)
    assert results == [WANTED] * 10


def test_an_executor_that_nobody_closes(service):
    """As it is used with the package's own: made for a query, and forgotten."""
    for _ in range(3):
        assert data_of(graphql(SCHEMA, "{ hello }", service, executor=AsyncioExecutor())) == {"hello": "world"}
    gc.collect()


def test_one_thousand_fields_each_with_one_outcome(executor, service, caplog):
    kinds = ["hello", "fail", "cancelled", "plain", "syncFail"]
    query = "{ " + " ".join(f"f{n}: {kinds[n % 5]}" for n in range(1000)) + " }"
    result = graphql(SCHEMA, query, service, executor=executor)
    assert len(result.data) == 1000
    assert len(result.errors) == 600
    assert sum(value is not None for value in result.data.values()) == 400


# --------------------------------------------------------------------------------------------- inside a running loop


async def test_a_promise_can_be_awaited(world, service):
    service.executor = AsyncioExecutor()
    for _ in range(2):
        promise = graphql(SCHEMA, ALL, service, executor=service.executor, return_promise=True)
        assert data_of(await promise) == WANTED
    promise = graphql(SCHEMA, "{ hello task }", service, executor=service.executor, return_promise=True)
    await service.executor.finished()
    assert data_of(promise.get()) == {"hello": "world", "task": "world"}


async def test_a_promise_of_an_executor_with_a_thread_can_be_awaited_too(world, service):
    async with AsyncioExecutor(own_thread=True) as service.executor:
        promise = graphql(SCHEMA, ALL, service, executor=service.executor, return_promise=True)
        assert data_of(await promise) == WANTED
    assert threading.current_thread() not in service.threads


async def test_queries_at_once_on_one_executor(world, service):
    """GraphQL calls `clean` for the second while the first runs."""
    executor = AsyncioExecutor(asyncio.get_running_loop())
    promises = [graphql(SCHEMA, ALL, service, executor=executor, return_promise=True) for _ in range(10)]
    assert [data_of(await promise) for promise in promises] == [WANTED] * 10


async def test_without_a_promise_it_refuses_at_once(world, service, caplog):
    executor = AsyncioExecutor()
    result = graphql(SCHEMA, "{ hello }", service, executor=executor)
    (error,) = result.errors
    assert isinstance(error, bridge.Deadlock)
    for words in ("await executor.finished()", "return_promise=True", "own_thread=True"):
        assert words in str(error)
    with pytest.raises(bridge.Deadlock):
        executor.wait_until_finished()
    await executor.finished()
    assert data_of(graphql(SCHEMA, "{ plain }", service, executor=executor)) == {"plain": "plain"}


async def test_what_is_no_exception_comes_out_of_a_refusal_too(world, service, caplog):
    def end(*_):
        raise SystemExit

    fields = {"hello": GraphQLField(GraphQLString, resolver=hello), "end": GraphQLField(GraphQLString, resolver=end)}
    executor = AsyncioExecutor()
    with pytest.raises(SystemExit):
        graphql(GraphQLSchema(GraphQLObjectType("Query", fields)), "{ hello end }", service, executor=executor)
    await executor.finished()


async def test_a_promise_of_ones_own_can_be_awaited(world, service):
    executor = AsyncioExecutor()
    assert await executor.promise(number(5)) == 5
    with pytest.raises(KeyError, match="lost"):
        await executor.promise(fail(service, None))
    async with AsyncioExecutor(own_thread=True) as other:
        assert await other.promise(number(5)) == 5


async def test_with_its_own_thread_it_may_block_a_running_loop(world, service):
    async with AsyncioExecutor(own_thread=True) as service.executor:
        assert data_of(graphql(SCHEMA, ALL, service, executor=service.executor)) == WANTED
    assert threading.current_thread() not in service.threads


async def test_clean_stops_a_query_that_nobody_awaits(world, service, caplog):
    executor = AsyncioExecutor()
    promise = graphql(SCHEMA, "{ hello stuck }", service, executor=executor, return_promise=True)
    await turns(3)
    executor.clean()
    await executor.finished()
    assert service.ended == ["stuck"]
    assert isinstance(promise.get().errors[0].original_error, concurrent.futures.CancelledError)


# ----------------------------------------------------------------------------------------------------- subscriptions


def subscribe(service, executor, query):
    observable = graphql(SCHEMA, query, service, executor=executor, allow_subscriptions=True)
    assert hasattr(observable, "subscribe"), observable.errors
    return observable


async def others_done():
    while len(asyncio.all_tasks()) > 1:
        await asyncio.sleep(0)


async def test_a_subscription(world, service):
    got, over = [], asyncio.Event()
    observable = subscribe(service, AsyncioExecutor(), "subscription { count(to: 50) }")
    observable.subscribe(lambda result: got.append(result.data["count"]), on_completed=over.set)
    await over.wait()
    assert got == list(range(50))
    assert service.ended == ["count"]
    await others_done()


async def test_a_subscription_disposed_halfway_closes_the_generator(world, service):
    got = []

    def on_next(result):
        got.append(result.data["count"])
        if len(got) == 5:
            subscription.dispose()

    observable = subscribe(service, AsyncioExecutor(), "subscription { count(to: 1000) }")
    subscription = observable.subscribe(on_next)
    await others_done()
    assert got == [0, 1, 2, 3, 4]
    assert (service.made, service.ended) == (5, ["count"])


async def test_a_subscription_as_an_async_iterator_is_bounded(world, service):
    taken = 0
    observable = subscribe(service, AsyncioExecutor(), "subscription { count(to: 1000) }")
    async with bridge.from_observable(observable, bound=3) as results:
        async for result in results:
            assert result.data == {"count": taken}
            taken += 1
            await turns(20)
            assert service.made - taken <= 3
            if taken == 100:
                break
    assert service.ended == ["count"]
    await others_done()


async def test_a_slow_subscriber_on_a_scheduler_holds_the_generator_back(world, service):
    # Its own way to make a thread is deprecated since Python 3.10.
    scheduler = EventLoopScheduler(lambda target: threading.Thread(target=target, daemon=True))
    gate, got, over = threading.Semaphore(0), [], asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(result):
        gate.acquire()
        got.append(result.data["count"])

    executor = AsyncioExecutor(bound=2, scheduler=scheduler)
    observable = subscribe(service, executor, "subscription { count(to: 30) }")
    observable.subscribe(slow, on_completed=lambda: loop.call_soon_threadsafe(over.set))
    for taken in range(30):
        await turns(10)
        assert service.made <= taken + 2
        gate.release()
        while len(got) <= taken:
            await asyncio.sleep(0)
    await over.wait()
    assert got == list(range(30))
    await others_done()
    scheduler.dispose()


async def test_a_subscription_that_fails(world, service):
    got, over = [], asyncio.Event()
    observable = subscribe(service, AsyncioExecutor(), "subscription { failing }")
    observable.subscribe(got.append, on_completed=over.set)
    await over.wait()
    assert got[0].data == {"failing": 1}
    (error,) = got[1].errors
    assert isinstance(error, KeyError)
    assert "in failing_count\n" in "".join(traceback.format_exception(error))
    await others_done()


def test_a_subscription_on_a_loop_that_runs_later(executor, service):
    got = []
    over = threading.Event()
    observable = subscribe(service, executor, "subscription { count(to: 20) }")
    subscription = observable.subscribe(lambda result: got.append(result.data["count"]), on_completed=over.set)
    if executor.loop.is_running():
        assert over.wait(10)
    else:

        async def until_over():
            while not over.is_set():
                await asyncio.sleep(0)
            await others_done()

        executor.loop.run_until_complete(until_over())
    assert got == list(range(20))
    subscription.dispose()


# -------------------------------------------------------------------------------------------------- the package's own


def test_it_has_what_the_packages_own_executor_has(world):
    loop = world.new_loop()
    theirs, ours = TheirExecutor(loop), AsyncioExecutor(loop)
    for name in [name for name in dir(theirs) if not name.startswith("_")]:
        assert hasattr(ours, name), name
    assert ours.loop is theirs.loop
    assert ours.futures == theirs.futures == []
    loop.close()


CTRL_C = """
import asyncio, os, signal
from graphql import GraphQLField, GraphQLObjectType, GraphQLSchema, GraphQLString, graphql
from weft.bridge import AsyncioExecutor

async def work(*_):
    asyncio.get_running_loop().call_later(0.05, os.kill, os.getpid(), signal.SIGINT)
    try:
        await asyncio.sleep(1000)
    finally:
        print("ended")

schema = GraphQLSchema(GraphQLObjectType("Query", {"work": GraphQLField(GraphQLString, resolver=work)}))
with AsyncioExecutor(own_thread={own_thread}) as executor:
    try:
        graphql(schema, "{ work }", executor=executor)
    except KeyboardInterrupt:
        print("interrupted")
"""


@pytest.mark.parametrize("own_thread", [True, False])
def test_one_ctrl_c_ends_the_query(own_thread):
    program = textwrap.dedent(CTRL_C.replace("{own_thread}", str(own_thread)))
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.returncode) == ("ended\ninterrupted\n", 0), done.stderr
