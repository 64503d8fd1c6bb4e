"""A small FastAPI app under uvicorn: JSON, an echo, and a stream. An asyncio program like any other.

python examples/fastapi_service.py [--host HOST] [--port PORT] [--loop auto|asyncio|uvloop]
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse, StreamingResponse
from pydantic import BaseModel

app = FastAPI()


class Greeting(BaseModel):
    hello: str
    length: int


@app.get("/greet")
async def greet(name: str = "world") -> Greeting:
    return Greeting(hello=name, length=len(name))


@app.post("/echo")
async def echo(request: Request) -> Response:
    return Response(await request.body(), media_type="application/octet-stream")


@app.get("/stream")
async def stream(lines: int = 10) -> StreamingResponse:
    async def produce() -> AsyncIterator[str]:
        for number in range(lines):
            yield f"line {number}\n"
            await asyncio.sleep(0)

    return StreamingResponse(produce(), media_type="text/plain")


@app.get("/loop")
async def which_loop() -> PlainTextResponse:
    return PlainTextResponse(type(asyncio.get_running_loop()).__module__)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A small FastAPI app under uvicorn.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument(
        "--loop", default="auto", help="uvicorn's choice of a loop (auto: uvloop where it is installed)"
    )
    options = parser.parse_args()
    uvicorn.run(app, host=options.host, port=options.port, loop=options.loop, log_level="warning")
