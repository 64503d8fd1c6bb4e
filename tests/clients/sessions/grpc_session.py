"""grpc.aio: its sdist ships no tests. Calls of all four kinds, without generated code, on a server in the same loop.

gRPC's C core polls in a thread of its own and wakes the loop by a socket that `loop.add_reader` watches.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import pytest


async def _upper(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
    if request == b"refuse":
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not that")
    if request == b"wait":
        await asyncio.Event().wait()
    return request.upper()


async def _count(request: bytes, context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
    for number in range(int(request)):
        yield str(number).encode()


async def _join(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> bytes:
    return b"".join([request async for request in requests])


async def _echo(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request


_HANDLERS = grpc.method_handlers_generic_handler(
    "session.Service",
    {
        "Upper": grpc.unary_unary_rpc_method_handler(_upper),
        "Count": grpc.unary_stream_rpc_method_handler(_count),
        "Join": grpc.stream_unary_rpc_method_handler(_join),
        "Echo": grpc.stream_stream_rpc_method_handler(_echo),
    },
)


@contextlib.asynccontextmanager
async def channel() -> AsyncIterator[grpc.aio.Channel]:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_HANDLERS,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with asyncio.timeout(20), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as opened:
            yield opened
    finally:
        await server.stop(None)


def session(body: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """A test that runs a coroutine function by `asyncio.run`."""

    def test() -> None:
        asyncio.run(body())

    return test


@session
async def test_unary_calls_at_once() -> None:
    async with channel() as opened:
        call = opened.unary_unary("/session.Service/Upper")
        words = [f"word {number}".encode() for number in range(300)]
        assert await asyncio.gather(*(call(word) for word in words)) == [word.upper() for word in words]


@session
async def test_a_stream_of_answers() -> None:
    async with channel() as opened:
        call = opened.unary_stream("/session.Service/Count")(b"500")
        assert [int(answer) async for answer in call] == list(range(500))


@session
async def test_a_stream_of_requests() -> None:
    async def requests() -> AsyncIterator[bytes]:
        for number in range(100):
            yield b"%d," % number

    async with channel() as opened:
        answer = await opened.stream_unary("/session.Service/Join")(requests())
        assert answer == b"".join(b"%d," % number for number in range(100))


@session
async def test_both_ways() -> None:
    async with channel() as opened:
        call = opened.stream_stream("/session.Service/Echo")()
        for number in range(100):
            await call.write(b"%d" % number)
            assert await call.read() == b"%d" % number
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF


@session
async def test_an_error_by_its_code() -> None:
    async with channel() as opened:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await opened.unary_unary("/session.Service/Upper")(b"refuse")
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.PERMISSION_DENIED, "not that")


@session
async def test_a_deadline() -> None:
    async with channel() as opened:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await opened.unary_unary("/session.Service/Upper")(b"wait", timeout=0.1)
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


@session
async def test_a_call_can_be_cancelled() -> None:
    async with channel() as opened:
        call = opened.unary_unary("/session.Service/Upper")(b"wait")
        task = asyncio.ensure_future(asyncio.wait_for(call, 0.05))
        with pytest.raises(TimeoutError):
            await task
        assert call.cancelled()
        assert await opened.unary_unary("/session.Service/Upper")(b"on") == b"ON"


test_on_a_second_loop = test_unary_calls_at_once
