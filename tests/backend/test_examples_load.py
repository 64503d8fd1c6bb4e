"""The load generator finds every wrong answer: a server that lies is caught, whatever it lies about."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

pytest.importorskip("httptools")

ROOT = Path(__file__).parents[2]
Change = Callable[[str, bytes], bytes]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT))
    import examples.load

    return examples.load


class Server(asyncio.Protocol):
    """A bare HTTP server with the examples' three answers; `change(path, answer)` is what goes out."""

    def __init__(self, change: Change, open_ones: set[asyncio.Future[None]]) -> None:
        self._change = change
        self._data = b""
        self._lost = asyncio.get_running_loop().create_future()
        open_ones.add(self._lost)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self._lost.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, separator, body = self._data.partition(b"\r\n\r\n")
        length = int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0] or 0)
        if not separator or len(body) < length:
            return
        self._data = b""
        url = urlsplit(head.split(b" ")[1].decode())
        query = parse_qs(url.query)
        if url.path == "/greet":
            name = query["name"][0]
            body = json.dumps({"hello": name, "length": len(name)}).encode()
        elif url.path == "/stream":
            body = b"".join(b"line %d\n" % number for number in range(int(query["lines"][0])))
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        answer = self._change(url.path, answer)
        if answer:
            self._transport.write(answer)
        else:
            self._transport.close()


def run_load(load: Any, change: Change, seconds: float = 0.1) -> Any:
    async def main() -> Any:
        open_ones: set[asyncio.Future[None]] = set()
        server = await asyncio.get_running_loop().create_server(lambda: Server(change, open_ones), "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            result = await load.Load("127.0.0.1", port, connections=4).run(seconds)
            await asyncio.wait(open_ones)
            return result

    return asyncio.run(main())


def test_right_answers_are_counted(load: Any) -> None:
    result = run_load(load, lambda path, answer: answer)
    assert not result.errors
    assert result.requests > 40
    assert 0 < result.percentile(0.5) <= result.percentile(0.99)
    assert result.seconds >= 0.1


@pytest.mark.parametrize(
    ("path", "change", "word"),
    [
        ("/greet", lambda answer: answer.replace(b'"hello": "1-', b'"hello": "2-'), "wrong body"),
        ("/greet", lambda answer: answer.replace(b"{", b"!"), "wrong body"),
        ("/echo", lambda answer: answer[:-1] + b"?", "wrong body"),
        ("/stream", lambda answer: answer.replace(b"line 3", b"line 4"), "wrong body"),
        ("/greet", lambda answer: answer.replace(b"200 OK", b"500 No"), "status 500"),
        ("/greet", lambda answer: b"nonsense\r\n\r\n", "not HTTP"),
        ("/echo", lambda answer: b"", "connection lost: closed by the server"),
        ("/echo", lambda answer: answer[:-7], "no answer in time"),
        ("/stream", lambda answer: answer.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"), "keep-alive refused"),
    ],
    ids=["crossed", "no JSON", "echo", "stream", "status", "no HTTP", "closed", "silent", "no keep-alive"],
)
def test_every_wrong_answer_is_found(
    load: Any, monkeypatch: pytest.MonkeyPatch, path: str, change: Callable[[bytes], bytes], word: str
) -> None:
    monkeypatch.setattr(load, "PATIENCE_SECONDS", 0.3)
    result = run_load(load, lambda asked, answer: change(answer) if asked == path else answer)
    assert any(wrong.startswith(word) for wrong in result.errors), result.errors


def test_no_server_is_an_error_of_each_connection(load: Any) -> None:
    result = asyncio.run(load.Load("127.0.0.1", 1, connections=3).run(0.1))
    assert result.errors.total() == 3
    assert result.requests == 0


def test_wrong_usage_of_the_driver_is_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("rich")
    pytest.importorskip("psutil")
    monkeypatch.syspath_prepend(str(ROOT))
    import importlib

    driver = importlib.import_module("examples.__main__")
    for arguments in (
        ["--seconds", "0"],
        ["--seconds", "x"],
        ["--repeats", "-1"],
        ["--connections", "1.5"],
        ["--bogus"],
    ):
        with pytest.raises(SystemExit) as ended:
            driver.main(arguments)
        assert ended.value.code == 2
        assert "error: " in capsys.readouterr().err
    assert "examples" in sys.modules
