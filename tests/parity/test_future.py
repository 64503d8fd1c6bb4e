"""Future: states, callbacks and their order, awaiting, cancelling, errors."""

from __future__ import annotations

import asyncio
import contextvars
import gc

import pytest
from worlds import since, turns

pytestmark = pytest.mark.every_world


def new_future(aio):
    return aio.Future(loop=asyncio.get_running_loop())


async def test_starts_pending(world, aio):
    future = new_future(aio)
    assert not future.done()
    assert not future.cancelled()
    with pytest.raises(asyncio.InvalidStateError, match=r"^Result is not (?:set|ready)\.$"):
        future.result()
    with pytest.raises(asyncio.InvalidStateError, match=r"^Exception is not set\.$"):
        future.exception()


async def test_finds_the_running_loop(world, aio):
    assert aio.Future().get_loop() is asyncio.get_running_loop()


@pytest.mark.skipif(
    not since(3, 14), reason="before 3.14 the policy makes a loop, with a warning that depends on the version"
)
def test_needs_a_loop(world, aio):
    with pytest.raises(RuntimeError):
        aio.Future()


async def test_arguments_are_keywords(world, aio):
    with pytest.raises(TypeError):
        aio.Future(asyncio.get_running_loop())


async def test_result(world, aio):
    future = new_future(aio)
    assert future.set_result(7) is None
    assert future.done()
    assert future.result() == 7
    assert future.exception() is None
    assert await future == 7
    assert await future == 7


async def test_exception(world, aio):
    future = new_future(aio)
    error = LookupError("gone")
    future.set_exception(error)
    assert future.exception() is error
    with pytest.raises(LookupError) as caught:
        await future
    assert caught.value is error
    with pytest.raises(LookupError):
        future.result()


async def test_exception_class_is_instantiated(world, aio):
    future = new_future(aio)
    future.set_exception(ValueError)
    assert type(future.exception()) is ValueError


def test_exception_must_be_one(world, same):
    async def body(world):
        new_future(world.aio).set_exception("words")

    assert same(body)["raised"][0] == "TypeError"


async def test_stop_iteration_cannot_be_stored(world):
    future = new_future(world.aio)
    if since(3, 12):
        future.set_exception(StopIteration(3))
        assert isinstance(future.exception(), RuntimeError)
        assert isinstance(future.exception().__cause__, StopIteration)
    else:
        with pytest.raises(TypeError, match="StopIteration interacts badly"):
            future.set_exception(StopIteration())


def test_stop_iteration_words(world, same):
    async def body(world):
        future = new_future(world.aio)
        future.set_exception(StopIteration)
        return future.exception()

    same(body)


def test_second_result_words(world, same):
    async def body(world):
        future = new_future(world.aio)
        future.set_result(1)
        future.set_result(2)

    assert same(body)["raised"][0] == "InvalidStateError"


def test_result_after_exception_words(world, same):
    async def body(world):
        future = new_future(world.aio)
        future.set_exception(OSError("x"))
        future.exception()
        future.set_result(2)

    assert same(body)["raised"][0] == "InvalidStateError"


def test_exception_after_cancel_words(world, same):
    async def body(world):
        future = new_future(world.aio)
        future.cancel()
        future.set_exception(OSError("x"))

    assert same(body)["raised"][0] == "InvalidStateError"


async def test_cancel(world, aio):
    future = new_future(aio)
    assert future.cancel() is True
    assert future.cancelled()
    assert future.done()
    assert future.cancel() is False
    with pytest.raises(asyncio.CancelledError):
        future.result()
    with pytest.raises(asyncio.CancelledError):
        future.exception()
    with pytest.raises(asyncio.CancelledError):
        await future


@pytest.mark.parametrize("args", [(), (None,), ("why",), (5,)])
async def test_cancel_message(world, aio, args):
    future = new_future(aio)
    future.cancel(*args)
    with pytest.raises(asyncio.CancelledError) as caught:
        future.result()
    assert caught.value.args == (() if args in ((), (None,)) else args)


async def test_cancel_after_result_is_refused(world, aio):
    future = new_future(aio)
    future.set_result(1)
    assert future.cancel() is False
    assert not future.cancelled()


async def test_callbacks_run_in_order_in_the_next_turn(world, aio):
    future, seen = new_future(aio), []
    for number in range(5):
        future.add_done_callback(lambda f, number=number: seen.append((number, f)))
    future.set_result(None)
    assert seen == []
    await turns()
    assert seen == [(number, future) for number in range(5)]


async def test_callback_of_a_done_future(world, aio):
    future, seen = new_future(aio), []
    future.set_result(1)
    future.add_done_callback(seen.append)
    assert seen == []
    await turns()
    assert seen == [future]


async def test_waiter_and_callbacks_keep_their_order(world, aio):
    future, seen = new_future(aio), []

    async def waiter(name):
        await future
        seen.append(name)

    future.add_done_callback(lambda f: seen.append("first callback"))
    one = asyncio.ensure_future(waiter("one"))
    await turns()
    future.add_done_callback(lambda f: seen.append("second callback"))
    two = asyncio.ensure_future(waiter("two"))
    await turns()
    future.add_done_callback(lambda f: seen.append("third callback"))
    future.set_result(None)
    asyncio.get_running_loop().call_soon(seen.append, "call_soon")
    await asyncio.wait([one, two])
    assert seen == ["first callback", "one", "second callback", "two", "third callback", "call_soon"]


async def test_first_waiter_before_the_first_callback(world, aio):
    future, seen = new_future(aio), []

    async def waiter():
        await future
        seen.append("waiter")

    task = asyncio.ensure_future(waiter())
    await turns()
    future.add_done_callback(lambda f: seen.append("callback"))
    future.set_result(None)
    await task
    await turns()
    assert seen == ["waiter", "callback"]


async def test_remove_callback_says_how_many(world, aio):
    future, seen = new_future(aio), []
    for _ in range(3):
        future.add_done_callback(seen.append)
    future.add_done_callback(print)
    assert future.remove_done_callback(seen.append) == 3
    assert future.remove_done_callback(seen.append) == 0
    assert future.remove_done_callback(print) == 1
    future.set_result(None)
    await turns()
    assert seen == []


async def test_remove_callback_by_equality(world, aio):
    class Same:
        def __eq__(self, other):
            return True

        __hash__ = None

        def __call__(self, future):
            raise AssertionError("removed")

    future = new_future(aio)
    future.add_done_callback(Same())
    assert future.remove_done_callback(Same()) == 1
    future.cancel()
    await turns()


async def test_remove_callback_while_comparing_removes(world, aio):
    """A comparison may change the very list that is searched."""
    future = new_future(aio)

    class Meddler:
        def __eq__(self, other):
            future.remove_done_callback(id)
            return False

        __hash__ = None

    future.add_done_callback(id)
    future.add_done_callback(print)
    future.add_done_callback(repr)
    assert future.remove_done_callback(Meddler()) == 0
    future.remove_done_callback(print)
    future.remove_done_callback(repr)


async def test_callback_context(world, aio):
    var = contextvars.ContextVar("var", default="outside")
    context = contextvars.copy_context()
    context.run(var.set, "given")
    future, seen = new_future(aio), []
    future.add_done_callback(lambda f: seen.append(var.get()), context=context)
    var.set("current")
    future.add_done_callback(lambda f: seen.append(var.get()))
    var.set("later")
    future.set_result(None)
    await turns()
    assert seen == ["given", "current"]


async def test_callback_that_raises_does_not_stop_the_others(world, aio):
    future, seen = new_future(aio), []

    def bad(future):
        raise ZeroDivisionError("bad callback")

    future.add_done_callback(bad)
    future.add_done_callback(seen.append)
    future.set_result(None)
    await turns()
    assert seen == [future]
    (report,) = world.take_reports()
    assert isinstance(report["exception"], ZeroDivisionError)
    assert report["message"].startswith("Exception in callback ")


async def test_callbacks_added_by_a_callback_run_a_turn_later(world, aio):
    future, seen = new_future(aio), []

    def first(f):
        seen.append("first")
        f.add_done_callback(lambda f: seen.append("added"))

    future.add_done_callback(first)
    future.add_done_callback(lambda f: seen.append("second"))
    future.set_result(None)
    await turns()
    assert seen == ["first", "second"]
    await turns()
    assert seen == ["first", "second", "added"]


async def test_future_with_waiting_task_is_freed(world, aio):
    """A finished future and its waiter leave no cycle behind."""

    async def waiter(future):
        return await future

    class Big:
        pass

    import weakref

    future, big = new_future(aio), Big()
    task = asyncio.ensure_future(waiter(future))
    await turns()
    alive = weakref.ref(big)
    future.set_result(big)
    del big
    await task
    await turns()
    gc.disable()
    try:
        del future, task
        assert alive() is None
    finally:
        gc.enable()


async def test_iter_is_await(world, aio):
    future = new_future(aio)
    future.set_result("direct")
    with pytest.raises(StopIteration) as caught:
        next(iter(future))
    assert caught.value.value == "direct"


async def test_await_iterator_by_hand(world, aio):
    future = new_future(aio)
    iterator = future.__await__()
    assert iterator.send(None) is future
    assert future._asyncio_future_blocking is True
    future._asyncio_future_blocking = False
    future.set_result((1, 2))
    with pytest.raises(StopIteration) as caught:
        iterator.send(None)
    assert caught.value.value == (1, 2)


async def test_await_iterator_throw_and_close(world, aio):
    future = new_future(aio)
    iterator = future.__await__()
    next(iterator)
    with pytest.raises(KeyError):
        iterator.throw(KeyError("thrown"))
    future._asyncio_future_blocking = False
    other = future.__await__()
    next(other)
    other.close()
    future._asyncio_future_blocking = False


async def test_resumed_before_it_is_done(world, aio):
    future = new_future(aio)
    iterator = future.__await__()
    next(iterator)
    with pytest.raises(RuntimeError, match="await wasn't used with future"):
        next(iterator)
    future._asyncio_future_blocking = False


async def test_is_future(world, aio):
    future = new_future(aio)
    assert asyncio.isfuture(future)
    assert aio.isfuture(future)
    assert isinstance(future, asyncio.Future)
    assert isinstance(future, aio.Future)
    assert not isinstance(future, asyncio.Task)
    assert aio.ensure_future(future) is future
    assert asyncio.ensure_future(future) is future


async def test_subclass(world, aio):
    class Mine(aio.Future):
        def __init__(self, *, loop):
            super().__init__(loop=loop)
            self.extra = 1

    future = Mine(loop=asyncio.get_running_loop())
    future.set_result(future.extra)
    assert await future == 1
    assert repr(future) == "<Mine finished result=1>"


async def test_is_generic(world, aio):
    assert aio.Future[int].__origin__ is aio.Future


async def test_weak_reference(world, aio):
    import weakref

    future = new_future(aio)
    alive = weakref.ref(future)
    assert alive() is future
    del future
    assert alive() is None


async def test_create_future_of_the_loop(world):
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    assert isinstance(future, asyncio.Future)
    assert future.get_loop() is loop
    loop.call_soon(future.set_result, "woken")
    assert await future == "woken"


async def test_cancelled_error_is_raised_once_with_its_message(world, aio):
    future = new_future(aio)

    async def waiter():
        await future

    task = asyncio.ensure_future(waiter())
    await turns()
    future.cancel("because")
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert caught.value.args == ("because",)


async def test_private_fields_that_others_read(world, aio):
    """anyio, asyncio.gather and repr read these."""
    future = new_future(aio)
    assert future._state == "PENDING"
    assert future._loop is asyncio.get_running_loop()
    assert future._callbacks is None or list(future._callbacks) == []
    assert future._log_traceback is False
    assert future._cancel_message is None
    future.add_done_callback(print)
    ((callback, context),) = future._callbacks
    assert callback is print
    assert isinstance(context, contextvars.Context)
    future.remove_done_callback(print)
    future.cancel("why")
    assert future._state == "CANCELLED"
    assert future._cancel_message == "why"


async def test_log_traceback_can_only_be_switched_off(world, aio):
    future = new_future(aio)
    future._log_traceback = False
    with pytest.raises(ValueError, match="_log_traceback can only be set to False"):
        future._log_traceback = True
