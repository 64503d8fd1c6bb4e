"""Real HTTP: aiohttp client and server, uvicorn with a FastAPI app, httpx, websockets. Every answer is checked."""

from __future__ import annotations

import asyncio
import contextlib
import io

import pytest
from worlds import turns

aiohttp = pytest.importorskip("aiohttp")
from aiohttp import web  # noqa: E402

# The packages' own deprecations are theirs; resource warnings stay errors.
pytestmark = [pytest.mark.filterwarnings("default::DeprecationWarning"), pytest.mark.slow_test(30)]


# ----------------------------------------------------------------------------------------------------------- aiohttp


async def hello(request):
    return web.json_response({"hello": request.match_info["name"], "query": dict(request.query)})


async def echo(request):
    return web.Response(body=await request.read())


async def stream(request):
    response = web.StreamResponse()
    await response.prepare(request)
    for number in range(50):
        await response.write(b"%d," % number)
    await response.write_eof()
    return response


async def fail(request):
    raise web.HTTPConflict(text="not today")


async def socket(request):
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async for message in ws:
        if message.type == aiohttp.WSMsgType.TEXT:
            await ws.send_str(message.data.upper())
        elif message.type == aiohttp.WSMsgType.BINARY:
            await ws.send_bytes(message.data[::-1])
    return ws


@contextlib.asynccontextmanager
async def service():
    """The address of a running aiohttp service, and a client session."""
    app = web.Application(client_max_size=1 << 26)
    app.add_routes(
        [
            web.get("/hello/{name}", hello),
            web.post("/echo", echo),
            web.get("/stream", stream),
            web.get("/fail", fail),
            web.get("/socket", socket),
        ]
    )
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            yield session
        await turns(5)
    finally:
        await runner.cleanup()
        await turns(5)


async def test_aiohttp_get(world):
    async with service() as session:
        async with session.get("/hello/weft", params={"a": "1"}) as response:
            assert response.status == 200
            assert await response.json() == {"hello": "weft", "query": {"a": "1"}}


@pytest.mark.parametrize("size", [0, 1, 65_536, 3_000_000])
async def test_aiohttp_bodies_of_any_size(world, size):
    async with service() as session:
        body = bytes(number % 251 for number in range(size % 1000)) + b"x" * (size - size % 1000)
        async with session.post("/echo", data=io.BytesIO(body)) as response:
            assert await response.read() == body


async def test_aiohttp_streams(world):
    async with service() as session:
        async with session.get("/stream") as response:
            assert await response.read() == b"".join(b"%d," % number for number in range(50))

        async def parts():
            for number in range(20):
                yield b"%d" % number * 1000
                await asyncio.sleep(0)

        async with session.post("/echo", data=parts()) as response:
            assert await response.read() == b"".join(b"%d" % number * 1000 for number in range(20))


async def test_aiohttp_errors(world):
    async with service() as session:
        async with session.get("/fail") as response:
            assert (response.status, await response.text()) == (409, "not today")
        async with session.get("/nothing") as response:
            assert response.status == 404


async def test_aiohttp_many_at_once(world):
    async with service() as session:

        async def one(number):
            async with session.get(f"/hello/{number}") as response:
                return (await response.json())["hello"]

        assert await asyncio.gather(*(one(number) for number in range(100))) == [str(number) for number in range(100)]


async def test_aiohttp_client_timeout(world):
    async def silent(reader, writer):
        with contextlib.suppress(ConnectionError):
            await reader.read(-1)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        ended.set_result(None)

    ended = asyncio.get_running_loop().create_future()
    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.05)) as session:
            with pytest.raises(asyncio.TimeoutError):
                await session.get(f"http://127.0.0.1:{port}/")
        await ended
        await turns(5)


async def test_aiohttp_websocket(world):
    async with service() as session:
        async with session.ws_connect("/socket") as ws:
            await ws.send_str("hello")
            assert (await ws.receive()).data == "HELLO"
            await ws.send_bytes(b"x" * 100_000 + b"y")
            assert (await ws.receive()).data == b"y" + b"x" * 100_000


# ------------------------------------------------------------------------------------------- uvicorn, FastAPI and httpx


@contextlib.asynccontextmanager
async def uvicorn_service():
    """The address of a FastAPI app under uvicorn in this very loop, and an httpx client."""
    uvicorn, fastapi, httpx = (pytest.importorskip(name) for name in ("uvicorn", "fastapi", "httpx"))
    app = fastapi.FastAPI()

    @app.get("/items/{number}")
    async def item(number: int):
        await asyncio.sleep(0)
        return {"number": number}

    @app.post("/sync")
    def in_a_thread(payload: dict):
        return {"keys": sorted(payload)}

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", access_log=False, lifespan="on"))
    serving = asyncio.ensure_future(server.serve())
    while not server.started:
        await asyncio.sleep(0.001)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            yield client
    finally:
        server.should_exit = True
        await serving
        await turns(5)


async def test_uvicorn_and_httpx(world):
    async with uvicorn_service() as client:
        response = await client.get("/items/7")
        assert (response.status_code, response.json()) == (200, {"number": 7})
        response = await client.get("/items/seven")
        assert response.status_code == 422
        response = await client.post("/sync", json={"b": 1, "a": 2})
        assert response.json() == {"keys": ["a", "b"]}


async def test_uvicorn_many_at_once(world):
    async with uvicorn_service() as client:
        responses = await asyncio.gather(*(client.get(f"/items/{number}") for number in range(60)))
        assert [response.json()["number"] for response in responses] == list(range(60))


async def test_uvicorn_keeps_a_connection(world):
    async with uvicorn_service() as client:
        for number in range(30):
            assert (await client.get(f"/items/{number}")).json() == {"number": number}


# --------------------------------------------------------------------------------------------------------- websockets


async def test_websockets(world):
    server_module = pytest.importorskip("websockets.asyncio.server")
    client_module = pytest.importorskip("websockets.asyncio.client")

    async def handler(connection):
        async for message in connection:
            await connection.send(message[::-1])

    async with server_module.serve(handler, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with client_module.connect(f"ws://127.0.0.1:{port}", proxy=None) as client:
            for message in ("hello", b"\x00\x01" * 50_000, ""):
                await client.send(message)
                assert await client.recv() == message[::-1]
    await turns(5)
