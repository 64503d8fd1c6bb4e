"""A small aiohttp service: JSON, an echo, and a stream. An asyncio program like any other.

python examples/aiohttp_service.py [--host HOST] [--port PORT]
"""

from __future__ import annotations

import argparse
import asyncio

from aiohttp import web


async def greet(request: web.Request) -> web.Response:
    name = request.query.get("name", "world")
    return web.json_response({"hello": name, "length": len(name)})


async def echo(request: web.Request) -> web.Response:
    return web.Response(body=await request.read())


async def stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    response.enable_chunked_encoding()
    await response.prepare(request)
    for number in range(int(request.query.get("lines", "10"))):
        await response.write(f"line {number}\n".encode())
        await asyncio.sleep(0)
    await response.write_eof()
    return response


async def which_loop(request: web.Request) -> web.Response:
    return web.Response(text=type(asyncio.get_running_loop()).__module__)


def make_app() -> web.Application:
    app = web.Application()
    app.add_routes(
        [
            web.get("/greet", greet),
            web.post("/echo", echo),
            web.get("/stream", stream),
            web.get("/loop", which_loop),
        ]
    )
    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A small aiohttp service.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    options = parser.parse_args()
    web.run_app(make_app(), host=options.host, port=options.port, access_log=None)
