"""S1: a task drives every kind of awaitable, and says what CPython says when one is wrong.

Right ones are asserted; for wrong ones the exception's type and words come from asyncio at run time (`same`).
"""

from __future__ import annotations

import asyncio
import collections
import inspect
import sys
import types

import pytest
from worlds import since, turns

pytestmark = pytest.mark.every_world


@types.coroutine
def bare_yield():
    yield


@types.coroutine
def delegates(awaitable):
    return (yield from awaitable.__await__())


class ByGenerator:
    def __init__(self, inner):
        self.inner = inner

    def __await__(self):
        got = yield from self.inner.__await__()
        return ("generator", got)


class PlainIterator:
    """An `__await__` result that is no generator: no send, no throw, no close."""

    def __init__(self, turns, result):
        self.turns, self.result = turns, result

    def __iter__(self):
        return self

    def __next__(self):
        if self.turns:
            self.turns -= 1
            return None
        raise StopIteration(self.result)


class ByIterator:
    def __init__(self, turns=2, result="iterator"):
        self.turns, self.result = turns, result

    def __await__(self):
        return PlainIterator(self.turns, self.result)


class FutureIterator:
    """A plain iterator that yields a future by the protocol asyncio uses."""

    def __init__(self, future):
        self.future = future

    def __iter__(self):
        return self

    def __next__(self):
        if not self.future.done():
            self.future._asyncio_future_blocking = True
            return self.future
        raise StopIteration(self.future.result())


class Awaits:
    def __init__(self, give):
        self.give = give

    def __await__(self):
        return self.give()


def soon(value):
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.call_soon(lambda: future.done() or future.set_result(value))
    return future


async def native(awaitable):
    return await awaitable


# ------------------------------------------------------------------------------------------------- every right kind


async def test_native_coroutine(world, aio):
    assert await aio.create_task(native(native(soon(1)))) == 1


async def test_types_coroutine_generator(world, aio):
    @types.coroutine
    def body():
        yield
        got = yield from soon(2)
        yield
        return got

    assert await aio.create_task(native(body())) == 2


def test_types_coroutine_as_a_task(world, same):
    """Before 3.12 a task takes the generator itself; from then on it has to be awaited by a coroutine."""

    async def body(world):
        return await world.aio.create_task(bare_yield())

    assert ("raised" in same(body)) is since(3, 12)


async def test_types_coroutine_inside_a_native_one(world, aio):
    async def body():
        await bare_yield()
        return await delegates(soon(3))

    assert await aio.create_task(body()) == 3


async def test_await_by_generator(world, aio):
    assert await aio.create_task(native(ByGenerator(soon(4)))) == ("generator", 4)


async def test_await_by_plain_iterator(world, aio):
    assert await aio.create_task(native(ByIterator(3, "done"))) == "done"


@pytest.mark.parametrize("value", [None, (), (1, 2), KeyError("as a value")])
async def test_stop_iteration_value_of_any_kind(world, aio, value):
    got = await aio.create_task(native(ByIterator(1, [value])))
    assert got == [value]


async def test_plain_iterator_that_yields_a_future(world, aio):
    future = soon(5)
    assert await aio.create_task(native(Awaits(lambda: FutureIterator(future)))) == 5


async def test_await_by_native_iterators(world, aio):
    """A C iterator of Nones is a legal `__await__` result: each None is a turn."""
    assert await aio.create_task(native(Awaits(lambda: iter([None, None])))) is None


async def test_asyncios_own_future(world, aio):
    future = asyncio.Future(loop=asyncio.get_running_loop())
    task = aio.create_task(native(future))
    await turns()
    future.set_result(6)
    assert await task == 6


async def test_asyncios_python_future(world, aio):
    future = asyncio.futures._PyFuture(loop=asyncio.get_running_loop())
    task = aio.create_task(native(future))
    await turns()
    future.set_result(7)
    assert await task == 7


async def test_asyncios_own_task(world, aio):
    for kind in (asyncio.tasks._CTask, asyncio.tasks._PyTask):
        inner = kind(native(soon(8)), loop=asyncio.get_running_loop())
        assert await aio.create_task(native(inner)) == 8


async def test_async_generator_steps(world, aio):
    """async_generator_asend, _athrow and aclose: C awaitables."""
    seen = []

    async def numbers():
        try:
            got = yield await soon(1)
            seen.append(got)
            yield await soon(2)
        except LookupError:
            seen.append("thrown")
            yield await soon(3)
        finally:
            await bare_yield()
            seen.append("closed")

    async def body():
        generator = numbers()
        values = [await generator.__anext__(), await generator.asend("sent")]
        values.append(await generator.athrow(LookupError()))
        await generator.aclose()
        return values

    assert await aio.create_task(body()) == [1, 2, 3]
    assert seen == ["sent", "thrown", "closed"]


async def test_async_for_and_comprehensions(world, aio):
    async def numbers(count):
        for number in range(count):
            await bare_yield()
            yield number

    async def body():
        return [number async for number in numbers(4)] + [number for number in range(2) if await soon(number)]

    assert await aio.create_task(body()) == [0, 1, 2, 3, 1]


async def test_coroutine_like_object(world, aio):
    """An object of collections.abc.Coroutine that is no coroutine: as Cython's are."""

    class Wrapper(collections.abc.Coroutine):
        def __init__(self, coro):
            self.coro = coro

        def __await__(self):
            return self.coro.__await__()

        def send(self, value):
            return self.coro.send(value)

        def throw(self, *args):
            return self.coro.throw(*args)

        def close(self):
            self.coro.close()

    assert await aio.create_task(Wrapper(native(soon(9)))) == 9
    assert await aio.create_task(native(Wrapper(native(soon(10))))) == 10
    task = aio.create_task(Wrapper(native(asyncio.get_running_loop().create_future())))
    await turns()
    task.cancel("wrapped")
    with pytest.raises(asyncio.CancelledError, match="wrapped"):
        await task


async def test_coroutine_wrapper_object(world, aio):
    """`coro.__await__()` is a coroutine_wrapper, a C iterator."""
    assert await aio.create_task(native(Awaits(lambda: native(soon(11)).__await__()))) == 11


async def test_ensure_future_takes_any_awaitable(world, aio):
    task = aio.ensure_future(ByIterator(2, "wrapped"))
    assert isinstance(task, asyncio.Task)
    assert await task == "wrapped"
    assert await aio.ensure_future(ByGenerator(soon(12))) == ("generator", 12)


async def test_cancel_goes_into_every_kind(world, aio):
    seen = []

    class Closing(ByGenerator):
        def __await__(self):
            try:
                yield from self.inner.__await__()
            except asyncio.CancelledError:
                seen.append("generator")
                raise

    @types.coroutine
    def old():
        try:
            yield from asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            seen.append("types.coroutine")
            raise

    forever = asyncio.get_running_loop().create_future
    for awaitable in (Closing(forever()), old(), ByIterator(10**9), Awaits(lambda f=forever(): FutureIterator(f))):
        task = aio.create_task(native(awaitable))
        await turns(2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert seen == ["generator", "types.coroutine"]


async def test_exceptions_travel_through_every_kind(world, aio):
    future = asyncio.get_running_loop().create_future()

    async def body():
        try:
            await ByGenerator(future)
        except LookupError as error:
            return error.args

    task = aio.create_task(body())
    await turns()
    future.set_exception(LookupError("through"))
    assert await task == ("through",)


def _made_future(make):
    def failing(error):
        future = make()
        asyncio.get_running_loop().call_soon(future.set_exception, error)
        return future

    return failing


@pytest.mark.parametrize(
    "kind",
    ["future", "asyncio's future", "Python future", "subclass", "task", "asyncio's task", "gather", "asyncio's gather"],
)
async def test_a_handled_exception_is_over(world, aio, kind):
    """What failed and was caught is no context of what fails later in the same step."""

    class Derived(asyncio.Future):
        pass

    async def fail(error):
        raise error

    awaited = {
        "future": _made_future(asyncio.get_running_loop().create_future),
        "asyncio's future": _made_future(asyncio.Future),
        "Python future": _made_future(asyncio.futures._PyFuture),
        "subclass": _made_future(Derived),
        "task": lambda error: aio.create_task(fail(error)),
        "asyncio's task": lambda error: asyncio.Task(fail(error)),
        "gather": lambda error: aio.gather(fail(error)),
        "asyncio's gather": lambda error: asyncio.gather(fail(error)),
    }[kind]

    async def body():
        with pytest.raises(LookupError):
            await awaited(LookupError())
        assert sys.exc_info() == (None, None, None)
        with pytest.raises(ZeroDivisionError) as caught:
            1 / 0  # noqa: B018
        assert caught.value.__context__ is None

    await aio.create_task(body())


async def test_deep_chain(world, aio):
    async def deep(level):
        if level == 0:
            return await soon("bottom")
        return await deep(level - 1)

    assert await aio.create_task(deep(200)) == "bottom"


async def test_generator_state_while_suspended(world, aio):
    future = asyncio.get_running_loop().create_future()
    coro = native(future)
    task = aio.create_task(coro)
    assert inspect.getcoroutinestate(coro) == "CORO_CREATED"
    await turns()
    assert inspect.getcoroutinestate(coro) == "CORO_SUSPENDED"
    assert coro.cr_await is not None
    future.set_result(None)
    await task
    assert inspect.getcoroutinestate(coro) == "CORO_CLOSED"


# --------------------------------------------------------------------------------------------------- what is wrong


def returns_coroutine():
    async def inner():
        pass

    coro = inner()
    coro.close()
    return coro


WRONG_AWAIT = {
    "an int": lambda: 1,
    "None": lambda: None,
    "a list": lambda: [None],
    "a coroutine": returns_coroutine,
    "a raise": lambda: (_ for _ in ()).throw(ArithmeticError("in __await__")),
}


@pytest.mark.parametrize("kind", WRONG_AWAIT)
def test_wrong_await_in_a_coroutine(world, same, kind):
    async def body(world):
        return await world.aio.create_task(native(Awaits(WRONG_AWAIT[kind])))

    assert "raised" in same(body)


@pytest.mark.parametrize("kind", WRONG_AWAIT)
def test_wrong_await_in_ensure_future(world, same, kind):
    async def body(world):
        return await world.aio.ensure_future(Awaits(WRONG_AWAIT[kind]))

    if world.weft_names and not since(3, 12):
        # asyncio's wrapper of 3.11 takes any iterable, and says so in odd words: Weft has those of 3.12 there.
        with pytest.raises((TypeError, ArithmeticError)):
            world.run(body(world))
    else:
        same(body)


@pytest.mark.parametrize("thing", [1, None, [], object, len, "text"])
def test_await_of_what_is_no_awaitable(world, same, thing):
    async def body(world):
        return await world.aio.create_task(native(thing))

    assert same(body)["raised"][0] == "TypeError"


@pytest.mark.parametrize("thing", [1, None, [], len])
def test_ensure_future_of_what_is_no_awaitable(world, same, thing):
    async def body(world):
        return world.aio.ensure_future(thing)

    assert same(body)["raised"][0] == "TypeError"


class Falsy:
    def __bool__(self):
        return False


WRONG_YIELD = {
    "a number": lambda: 1,
    "False": lambda: False,
    "a text": lambda: "text",
    "a tuple": lambda: (1, 2),
    "an exception": lambda: ValueError("yielded"),
    "a generator": lambda: (_ for _ in ()),
    "a falsy object": Falsy,
    "a future without yield from": lambda: asyncio.get_running_loop().create_future(),
}


@pytest.mark.parametrize("kind", WRONG_YIELD)
def test_wrong_yield(world, same, kind):
    @types.coroutine
    def yields():
        yield WRONG_YIELD[kind]()

    async def body(world):
        return await world.aio.create_task(native(yields()))

    assert same(body)["raised"]


@pytest.mark.parametrize("kind", WRONG_YIELD)
def test_wrong_yield_can_be_caught_by_the_coroutine(world, same, kind):
    """The error is thrown in at the next step, where the coroutine may handle it and go on."""

    @types.coroutine
    def yields():
        try:
            yield WRONG_YIELD[kind]()
        except RuntimeError as error:
            words = str(error)
        yield
        return words

    async def body(world):
        return await world.aio.create_task(native(yields()))

    assert same(body)["returned"]


def test_future_of_another_loop(world, same):
    async def body(world):
        other = asyncio.SelectorEventLoop()
        try:
            return await world.aio.create_task(native(other.create_future()))
        finally:
            other.close()

    assert same(body)["raised"][0] == "RuntimeError"


@types.coroutine
def yields_its_task():
    yield asyncio.current_task()


@pytest.mark.parametrize("by_await", [True, False])
def test_task_awaits_itself(world, same, by_await):
    async def body(world):
        async def own():
            await (task if by_await else yields_its_task())

        task = world.aio.create_task(own())
        return await task

    assert same(body)["raised"][1].startswith("Task cannot await on itself: <Task pending name=")


def test_a_coroutine_awaited_twice(world, same):
    async def body(world):
        coro = native(soon(1))
        first = world.aio.create_task(coro)
        await turns()
        second = world.aio.create_task(coro)
        outcome = await asyncio.gather(first, second, return_exceptions=True)
        return outcome

    same(body)


def test_a_finished_coroutine(world, same):
    async def body(world):
        coro = native(soon(1))
        await coro
        return await world.aio.create_task(coro)

    assert same(body)["raised"][0] == "RuntimeError"


def test_coroutine_that_ignores_close(world, same):
    async def body(world):
        async def stubborn():
            while True:
                try:
                    await bare_yield()
                except asyncio.CancelledError:
                    return "ended"

        task = world.aio.create_task(stubborn())
        await turns(2)
        task.cancel()
        return await task

    assert same(body)["returned"] == "ended"


def test_raise_stop_iteration_in_a_coroutine(world, same):
    async def body(world):
        async def stops():
            raise StopIteration("value")

        return await world.aio.create_task(stops())

    assert same(body)["raised"][0] == "RuntimeError"
