"""`asyncify`: calls, iteration, blocks, threads, callbacks and ends, with a client of the tests' own."""

from __future__ import annotations

import asyncio
import gc
import threading
import traceback
import warnings

import pytest
from sync_client import VARIABLE, Base, Client, Cursor, sync

from weft import bridge
from weft.bridge import AsyncHandle, AsyncItems, asyncify

AsyncClient = asyncify(Client)
AsyncOne = asyncify(Client, one_thread=True)


async def test_methods_attributes_and_arguments(world):
    async with AsyncClient("one") as client:
        assert await client.echo(1, function=2) == ((1,), {"function": 2})
        assert await client.ping() == "pong"
        assert await client.size == 5
        assert await client.name == "one"
        assert await client.LIMIT == AsyncClient.LIMIT == 7
        assert await client.twice(4) == 8
        assert await client.native() is threading.current_thread()
        assert await client.where() is not threading.current_thread()
        assert threading.current_thread() not in sync(client).log
        assert sync(client).thread is not threading.current_thread()
        with pytest.raises(KeyError, match="lost") as caught:
            await client.fail()
        assert "in fail\n" in "".join(traceback.format_exception(caught.value))
        VARIABLE.set("mine")
        assert await client.context() == "mine"


async def test_calls_are_coroutines(world):
    async with AsyncClient() as client:
        tasks = [world.aio.create_task(client.echo(number)) for number in range(3)]
        assert await world.aio.gather(*tasks, client.ping()) == [*(((n,), {}) for n in range(3)), "pong"]
        call = client.ping()
        assert await call == "pong"
        with pytest.raises(RuntimeError, match=r"this call of Client.ping is over: call it again"):
            await call
        call = client.cursor(2)
        assert [item async for item in call] == [0, 1]
        for use in (aiter, call.__class__.__aenter__):
            with pytest.raises(RuntimeError, match=r"this call of Client.cursor is over"):
                result = use(call)
                await result
        call = client.ping()
        with pytest.raises(TypeError, match=r"Client.ping: await it"):
            bool(call)
        call.close()
        with pytest.raises(TypeError, match="size of .*await it"):
            bool(client.size)
        with pytest.warns(RuntimeWarning, match=r"Client.ping' was never awaited"):
            client.ping()
            gc.collect()


async def test_iterating(world):
    async with AsyncClient() as client:
        assert [item async for item in client.cursor(5)] == [0, 1, 2, 3, 4]
        assert [item async for item in client.generate(200)] == list(range(200))
        assert [item async for item in client.rows()] == [1, 2, 3]
        items = await client.generate(10)
        assert isinstance(items, AsyncItems)
        batches = [batch async for batch in items.batches()]
        assert [item for batch in batches for item in batch] == list(range(10))
        assert [item async for item in items] == []
        with pytest.raises(TypeError, match="can't be iterated over"):
            async for _ in client.ping():
                pass
        with pytest.raises(TypeError, match="can't be iterated over"):
            aiter(client)


@pytest.mark.parametrize("ahead", [0, 1, 64])
async def test_a_broken_loop_goes_on_where_it_stopped(world, ahead):
    async with asyncify(Client, ahead=ahead)() as client:
        cursor = await client.cursor(200)
        async for item in cursor:
            if item == 5:
                break
        if ahead:
            with pytest.raises(RuntimeError, match="fetch was not called: .*read ahead"):
                await cursor.fetch()
        else:
            assert await cursor.fetch() == 6
        assert [item async for item in cursor] == list(range(6 if ahead else 7, 200))
        assert await cursor.fetch() is None
        assert not sync(cursor).closed
        await cursor.close()
        assert sync(cursor).closed


async def test_what_was_read_ahead_can_be_dropped(world):
    async with AsyncClient() as client:
        cursor = await client.cursor(200)
        items = aiter(cursor)
        assert await anext(items) == 0
        await items.aclose()
        assert not sync(cursor).closed
        assert await cursor.fetch() > 0
        items = aiter(cursor)
        await anext(items)
        await cursor.close()
        assert sync(cursor).closed
        assert [item async for item in items] == []


@pytest.mark.parametrize("ahead", [0, 64])
async def test_generators_are_closed_in_their_threads(world, ahead):
    async with asyncify(Client, one_thread=True, ahead=ahead)() as client:
        async with client.generate(1000) as items:
            assert await anext(items) == 0
        assert sync(client).log[-1] == ("closed", sync(client).thread)
        assert len(sync(client).log) <= ahead + 3
        sync(client).log.clear()
        async for _ in client.generate(1000):
            break
        gc.collect()
        while not any(isinstance(entry, tuple) for entry in sync(client).log):
            await asyncio.sleep(0)
        assert sync(client).log[-1] == ("closed", sync(client).thread)


async def test_contexts(world):
    async with AsyncClient() as client:
        async with client.block() as cursor:
            assert await cursor.fetch() == 0
        assert sync(client).log == ["enter", ("exit", None)]
        async with client.block():
            raise KeyError("dealt with")
        assert sync(client).log[-1] == ("exit", KeyError)
        with pytest.raises(IndexError):
            async with client.block():
                raise IndexError
        with pytest.raises(ValueError, match="no entry"):
            async with client.block(fails=True):
                pytest.fail("it must not come here")
        with pytest.raises(ZeroDivisionError):
            async with client.other_block() as cursor:
                assert await cursor.fetch() == 0
                raise ZeroDivisionError
        assert sync(client).log[-2:] == ["in", "out"]
        async with client.cursor() as cursor:
            assert await cursor.fetch() == 0
        assert sync(cursor).closed
        with pytest.raises(TypeError, match="can't be entered"):
            async with client.ping():
                pass


async def test_making(world):
    one = AsyncOne("one")
    assert "not made yet" in repr(one)
    assert await one is one
    assert await one.where() is sync(one).thread
    assert (await (await one.cursor()).client) is one
    await one.close()
    await one.close()
    assert sync(one).closed_times == 1
    with pytest.raises(bridge.Closed, match="closed> can't be used"):
        await one.ping()
    # Made by the first use, and once only.
    other = AsyncClient()
    assert await asyncio.gather(other.ping(), other.ping(), other.ping()) == ["pong"] * 3
    await other.aclose()
    assert sync(other).closed_times == 1
    with pytest.raises(TypeError, match="unexpected keyword"):
        await AsyncClient(wrong=1)
    with pytest.raises(TypeError, match="unexpected keyword"):
        async with AsyncOne(wrong=1):
            pass
    never = AsyncOne()
    await never.close()
    with pytest.raises(bridge.Closed):
        await never


async def test_blocks_of_a_client(world):
    """The block that made a client ends it; one within does not."""

    class Entered(Client):
        def __enter__(self):
            self.log.append("enter")
            return self

        def __exit__(self, *error):
            self.log.append("exit")

    client = asyncify(Entered)()
    async with client as same:
        assert same is client
        async with client:
            pass
        assert await client.ping() == "pong"
    assert sync(client).log == ["enter", "enter", "exit", "exit"]
    assert sync(client).closed_times == 1
    with pytest.raises(bridge.Closed):
        await client.ping()


async def test_never_more_calls_than_threads(world):
    lock, running, most = threading.Lock(), 0, 0
    is_open = threading.Event()

    def gate():
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        assert is_open.wait(10)
        with lock:
            running -= 1

    async with asyncify(Client, threads=3)(gate=gate) as client:
        tasks = [asyncio.create_task(client.wait()) for _ in range(60)]
        while running < 3:
            await asyncio.sleep(0)
        # A fourth would have had its thread before these have theirs.
        for _ in range(20):
            await bridge.to_thread(int)
        assert running == 3
        is_open.set()
        await asyncio.gather(*tasks)
    assert most == 3


async def test_one_thread_does_everything(world):
    async with AsyncOne() as client:
        thread = sync(client).thread
        assert {await client.where() for _ in range(5)} == {thread}
        assert await client.size == 5
        assert [entry async for entry in client.generate(3)] == [0, 1, 2]
        async with client.other_block():
            pass
        assert sync(client).log[0] is thread and ("closed", thread) in sync(client).log
        async with AsyncOne() as other:
            assert sync(other).thread is not thread
    thread.join(10)
    assert not thread.is_alive()


async def test_objects_of_one_thread_end_there(world):
    ended = []

    class Ends:
        def __del__(self):
            ended.append(threading.current_thread())

    class Keeps:
        def __init__(self):
            self.thread = threading.current_thread()

        def make(self):
            return Ends()

    async with asyncify(Keeps, one_thread=True)() as client:
        thing = await client.make()
        assert isinstance(thing, AsyncHandle)
        del thing
        thread = await client.thread
        assert ended == [thread]


async def test_callbacks(world):
    async with AsyncClient() as client:
        here = threading.current_thread()
        seen = []

        async def twice(number, cursor=None):
            await asyncio.sleep(0)
            seen.append((threading.current_thread(), cursor))
            return 2 * number

        await client.set_callback(twice)
        assert await client.call_back(4) == [8]
        cursor = await client.cursor()
        assert await client.call_back(4, cursor) == [8]
        assert seen == [(here, None), (here, cursor)]
        # The same function again is the same callback.
        await client.forget_callback(twice)
        assert await client.call_back(4) == []
        # In the thread a plain function sees what the client gives it.
        await client.set_callback(lambda cursor: (type(cursor), threading.current_thread() is here))
        assert await client.call_back(cursor) == [(Cursor, False)]


async def test_a_callback_may_use_its_client(world):
    """One place, one thread: and still the way back in is free while the call waits for the loop."""
    for made in (AsyncOne(), asyncify(Client, threads=1)()):
        async with made as client:

            class Ping:
                async def __call__(self):
                    return [await client.ping(), *[item async for item in client.cursor(100)]]

            await client.set_callback(Ping())
            assert await client.call_back() == [["pong", *range(100)]]


async def test_a_callback_from_a_thread_of_the_library(world):
    async with AsyncClient() as client:

        async def number():
            return 5

        def elsewhere(client, function):
            got = []
            thread = threading.Thread(target=lambda: got.append(function()))
            thread.start()
            thread.join(10)
            return got

        assert await bridge.apply(client, elsewhere, number) == [5]


async def test_arguments_that_are_refused(world):
    async def items():
        yield 1

    async with AsyncClient() as client:
        coroutine = asyncio.sleep(0)
        with pytest.raises(TypeError, match="await it first"):
            await client.echo(coroutine)
        coroutine.close()
        call = client.ping()
        with pytest.raises(TypeError, match="await it first"):
            await client.echo(call)
        call.close()
        with pytest.raises(TypeError, match="await it first"):
            await client.echo(client.size)
        with pytest.raises(TypeError, match="can't be iterated over in a thread"):
            await client.echo(values=items())


async def test_apply(world):
    async with AsyncClient() as client:
        await bridge.apply(client, setattr, "name", "new")
        assert await client.name == "new"
        assert isinstance(await bridge.apply(client, lambda thing, count: thing.cursor(count), 3), AsyncHandle)
        assert await bridge.apply(client, lambda thing: thing) is client
        with pytest.raises(TypeError, match="is an async function"):
            await bridge.apply(client, asyncio.sleep)
    with pytest.raises(TypeError, match="is no handle"):
        await bridge.apply(5, repr)
    with pytest.raises(bridge.Closed):
        await bridge.apply(client, repr)


@pytest.mark.parametrize("one_thread", [False, True])
async def test_what_is_not_closed_says_so_and_leaks_no_thread(world, one_thread):
    client = await asyncify(Client, one_thread=one_thread)()
    thread = sync(client).thread
    cursor = await client.cursor()
    del client
    gc.collect()
    # Somebody still holds a cursor of it.
    assert await cursor.fetch() == 0
    with pytest.warns(ResourceWarning, match="unclosed AsyncClient: `await client.close"):
        del cursor
        gc.collect()
    if one_thread:
        thread.join(10)
        assert not thread.is_alive()


async def test_a_client_that_a_class_method_made_says_so_too(world):
    client = await AsyncClient.make("made")
    assert await (await client.cursor()).client is client
    with pytest.warns(ResourceWarning, match="unclosed AsyncClient"):
        del client
        gc.collect()


async def test_nothing_is_said_of_what_needs_no_close(world):
    client = await asyncify(Base)()
    assert await client.ping() == "pong"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del client
        gc.collect()
