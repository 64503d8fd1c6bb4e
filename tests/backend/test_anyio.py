"""anyio 4 on Weft's loop and tasks: task groups, cancel scopes, threads, streams. asyncio is the oracle."""

from __future__ import annotations

import asyncio

import pytest

anyio = pytest.importorskip("anyio")
pytestmark = pytest.mark.filterwarnings("default::DeprecationWarning")


@pytest.fixture
def anyio_run(world):
    """`anyio_run(function, *arguments)`: anyio.run on a loop of the world."""

    def run(function, *arguments):
        return anyio.run(function, *arguments, backend_options={"loop_factory": world.new_loop})

    return run


def in_anyio(test):
    """The test's body is a coroutine function that anyio runs."""

    def run(anyio_run):
        anyio_run(test)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@in_anyio
async def test_task_group():
    seen = []

    async def child(number):
        await anyio.sleep(0)
        seen.append(number)

    async with anyio.create_task_group() as group:
        for number in range(10):
            group.start_soon(child, number)
    assert sorted(seen) == list(range(10))


@in_anyio
async def test_task_group_fails_together():
    seen = []

    async def waits():
        try:
            await anyio.sleep_forever()
        finally:
            seen.append("cancelled")

    async def fails():
        await anyio.sleep(0)
        raise LookupError("one")

    with pytest.raises(ExceptionGroup) as caught:
        async with anyio.create_task_group() as group:
            group.start_soon(waits)
            group.start_soon(waits)
            group.start_soon(fails)
    assert [type(error) for error in caught.value.exceptions] == [LookupError]
    assert seen == ["cancelled"] * 2


@in_anyio
async def test_start_hands_a_value_over():
    async def service(value, *, task_status):
        await anyio.sleep(0)
        task_status.started(value * 2)
        await anyio.sleep_forever()

    async with anyio.create_task_group() as group:
        assert await group.start(service, 21) == 42
        group.cancel_scope.cancel()


@in_anyio
async def test_cancel_scope():
    with anyio.CancelScope() as scope:
        scope.cancel()
        await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert asyncio.current_task().cancelling() == 0


@in_anyio
async def test_shielded_scope():
    seen = []
    with anyio.CancelScope() as scope:
        scope.cancel()
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0)
            seen.append("shielded")
        await anyio.sleep(0)
        seen.append("never")
    assert seen == ["shielded"]


@in_anyio
async def test_cancellation_is_delivered_again_and_again():
    """anyio re-cancels a task that swallows it, at every checkpoint."""
    swallowed = 0
    with anyio.CancelScope() as scope:
        scope.cancel()
        while swallowed < 3:
            try:
                await anyio.sleep(0)
            except asyncio.CancelledError:
                swallowed += 1
        await anyio.sleep(0)
    assert swallowed == 3


@in_anyio
async def test_move_on_and_fail_after():
    with anyio.move_on_after(0.001) as scope:
        await anyio.sleep_forever()
    assert scope.cancelled_caught
    with pytest.raises(TimeoutError):
        with anyio.fail_after(0.001):
            await anyio.sleep_forever()
    with anyio.move_on_after(60):
        await anyio.sleep(0)


@in_anyio
async def test_nested_scopes_the_outer_ends():
    with anyio.move_on_after(0.001) as outer:
        with anyio.move_on_after(60) as inner:
            await anyio.sleep_forever()
    assert outer.cancelled_caught
    assert not inner.cancelled_caught


@in_anyio
async def test_to_thread_and_from_thread():
    def in_thread():
        return anyio.from_thread.run(give, 5) + anyio.from_thread.run_sync(len, "four")

    async def give(value):
        await anyio.sleep(0)
        return value

    assert await anyio.to_thread.run_sync(in_thread) == 9


@in_anyio
async def test_cancelled_thread_is_waited_for():
    import threading

    release, started = threading.Event(), threading.Event()
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:

            def work():
                started.set()
                release.wait(10)

            group.start_soon(anyio.to_thread.run_sync, work)
            while not started.is_set():
                await anyio.sleep(0)
            scope.cancel()
            release.set()
    assert scope.cancel_called


@in_anyio
async def test_memory_object_streams():
    send, receive = anyio.create_memory_object_stream(2)

    async def produce():
        async with send:
            for number in range(20):
                await send.send(number)

    got = []
    async with anyio.create_task_group() as group:
        group.start_soon(produce)
        async with receive:
            async for number in receive:
                got.append(number)
    assert got == list(range(20))


@in_anyio
async def test_synchronisation():
    event, lock, limiter, order = anyio.Event(), anyio.Lock(), anyio.CapacityLimiter(2), []

    async def worker(number):
        await event.wait()
        async with limiter, lock:
            await anyio.sleep(0)
            order.append(number)

    async with anyio.create_task_group() as group:
        for number in range(6):
            group.start_soon(worker, number)
        event.set()
    assert sorted(order) == list(range(6))


@in_anyio
async def test_tcp_streams():
    async def serve(stream):
        async with stream:
            async for data in stream:
                await stream.send(data.upper())

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with anyio.create_task_group() as group:
            group.start_soon(listener.serve, serve)
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                await stream.send(b"hello")
                assert await stream.receive() == b"HELLO"
                await stream.send_eof()
                with pytest.raises(anyio.EndOfStream):
                    await stream.receive()
            group.cancel_scope.cancel()


def test_portal_from_outside(world):
    with anyio.from_thread.start_blocking_portal(backend_options={"loop_factory": world.new_loop}) as portal:
        assert portal.call(anyio.sleep, 0) is None
        future = portal.start_task_soon(anyio.sleep_forever)
        future.cancel()


def test_current_task_info(anyio_run):
    async def body():
        return anyio.get_current_task().name is not None, len(anyio.get_running_tasks())

    assert anyio_run(body) == (True, 1)
