"""HTTP load over keep-alive connections, in which every answer is checked.

One connection has one request under way: it sends, checks the answer, and sends the next. Requests carry what no other
request carries, so an answer that went to the wrong connection is found out. The parser is httptools' (C), for the load
generator must cost less than any server that it measures.

Only asyncio is used here, and never Weft: what generates the load is the same for both.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import httptools

__all__ = ["Load", "Result", "fetch"]

STREAM_LINES = 12
ECHO_BYTES = 2048
# So long after the end of a stretch an answer may still come.
PATIENCE_SECONDS = 10.0
# Of ten requests, in this order.
MIX = ("greet", "greet", "echo", "greet", "greet", "stream", "greet", "greet", "echo", "greet")


class Exchange(NamedTuple):
    """A request, and what must come back."""

    request: bytes
    is_right: Callable[[bytes], bool]


@dataclass
class Result:
    """What came of a measured stretch of load."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def requests(self) -> int:
        return len(self.latencies)

    def percentile(self, share: float) -> float:
        """The latency, in seconds, that this share of the requests did not exceed."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


def _head(method: str, target: str, extra: str = "") -> bytes:
    return f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n{extra}\r\n".encode()


def _exchanges(connection: int) -> Iterator[Exchange]:
    """Requests without end for one connection, no two of them alike but for the streams."""
    lines = b"".join(b"line %d\n" % number for number in range(STREAM_LINES))
    stream = Exchange(_head("GET", f"/stream?lines={STREAM_LINES}"), lines.__eq__)
    for number, kind in enumerate(itertools.cycle(MIX)):
        if kind == "stream":
            yield stream
        elif kind == "echo":
            body = b"%d-%d " % (connection, number) * (ECHO_BYTES // 8)
            yield Exchange(_head("POST", "/echo", f"Content-Length: {len(body)}\r\n") + body, body.__eq__)
        else:
            name = f"{connection}-{number}"
            answer = {"hello": name, "length": len(name)}
            yield Exchange(_head("GET", f"/greet?name={name}"), lambda body, answer=answer: _is_json(body, answer))


def _is_json(body: bytes, expected: object) -> bool:
    try:
        return bool(json.loads(body) == expected)
    except ValueError:
        return False


class _Connection(asyncio.Protocol):
    """One keep-alive connection that goes on from answer to answer until it is told to stop."""

    def __init__(self, exchanges: Iterator[Exchange], on_answer: Callable[[float, str | None], bool]) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._exchanges = exchanges
        # Told of each answer: its latency, and what was wrong with it; says whether to go on.
        self._on_answer = on_answer
        self._transport: asyncio.WriteTransport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._sent_at = 0.0
        self._exchange: Exchange | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._answer(f"not HTTP: {error}")
            self._close()

    def connection_lost(self, error: Exception | None) -> None:
        if self._exchange is not None:
            self._answer(f"connection lost: {error or 'closed by the server'}")
        if not self.ended.done():
            self.ended.set_result(None)

    def give_up(self) -> None:
        """The answer does not come."""
        if self._exchange is not None:
            self._answer("no answer in time")
            self._exchange = None
            assert self._transport is not None
            self._transport.abort()

    # -- what the parser calls --

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        body, exchange = b"".join(self._body), self._exchange
        status = self._parser.get_status_code()
        wrong = None
        if exchange is None:
            wrong = "an answer to nothing"
        elif status != 200:
            wrong = f"status {status}"
        elif not exchange.is_right(body):
            wrong = "wrong body"
        goes_on = self._answer(wrong)
        if goes_on and wrong is None and self._parser.should_keep_alive():
            self._parser = httptools.HttpResponseParser(self)
            self._send()
        else:
            if goes_on and wrong is None:
                self._on_answer(0.0, "keep-alive refused")
            self._close()

    def _answer(self, wrong: str | None) -> bool:
        self._exchange = None
        return self._on_answer(time.perf_counter() - self._sent_at, wrong)

    def _send(self) -> None:
        assert self._transport is not None
        self._body = []
        self._exchange = next(self._exchanges)
        self._sent_at = time.perf_counter()
        self._transport.write(self._exchange.request)

    def _close(self) -> None:
        self._exchange = None
        assert self._transport is not None
        self._transport.close()


class Load:
    """Load of some connections on a server, in stretches: `run` for warming up, `run` again to measure."""

    def __init__(self, host: str, port: int, *, connections: int) -> None:
        self._address = (host, port)
        self._exchanges = [_exchanges(number) for number in range(connections)]

    async def run(self, seconds: float) -> Result:
        """Keep all connections busy for so many seconds. Each has its last answer before this returns."""
        result = Result()
        start = time.perf_counter()
        stop_at = start + seconds

        def on_answer(latency: float, wrong: str | None) -> bool:
            if wrong is None:
                result.latencies.append(latency)
            else:
                result.errors[wrong] += 1
            return time.perf_counter() < stop_at

        loop = asyncio.get_running_loop()
        protocols = []
        for exchanges in self._exchanges:
            try:
                _, protocol = await loop.create_connection(partial(_Connection, exchanges, on_answer), *self._address)
            except OSError as error:
                result.errors[f"no connection: {error.strerror}"] += 1
            else:
                protocols.append(protocol)
        try:
            async with asyncio.timeout(seconds + PATIENCE_SECONDS):
                for protocol in protocols:
                    await asyncio.shield(protocol.ended)
        except TimeoutError:
            for protocol in protocols:
                protocol.give_up()
                await protocol.ended
        result.seconds = time.perf_counter() - start
        return result


async def fetch(host: str, port: int, path: str) -> str:
    """The body of one answer, as text; OSError where there is no server, ValueError where the status is not 200."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(_head("GET", path, "Connection: close\r\n"))
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    if b" 200 " not in head.partition(b"\r\n")[0]:
        raise ValueError(f"GET {path}: {head.partition(bytes([13, 10]))[0].decode('latin-1') or 'no answer'}")
    return body.decode()
