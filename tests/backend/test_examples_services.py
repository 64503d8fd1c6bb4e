"""The examples are unmodified programs that run on Weft, and the driver's exit code tells whether every answer was right."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

for package in ("aiohttp", "fastapi", "uvicorn", "httptools", "psutil", "rich"):
    pytest.importorskip(package)

ROOT = Path(__file__).parents[2]
SERVICES = ("aiohttp", "fastapi")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT))
    import examples.server

    return examples.server


def test_the_programs_never_mention_weft() -> None:
    for service in SERVICES:
        assert "weft" not in (ROOT / "examples" / f"{service}_service.py").read_text().lower()


@pytest.mark.parametrize("loop", ["asyncio", "weft"])
@pytest.mark.parametrize("service", SERVICES)
def test_a_service_answers_right_under_load_and_stops(server: Any, service: str, loop: str) -> None:
    from examples.load import Load

    async def main() -> Any:
        async with server.running(service, loop) as running:
            result = await Load(server.HOST, running.port, connections=16).run(0.5)
            assert running.cpu_seconds() > 0
            return result

    result = asyncio.run(main())
    assert not result.errors
    assert result.requests > 50


def test_a_service_that_does_not_start_says_why(server: Any) -> None:
    async def main() -> None:
        async with server.running("missing", "weft"):
            raise AssertionError("it runs")

    with pytest.raises(
        server.ServiceError, match=r"exit code 2; it said:\nweft run: can't open the program '.*missing_service.py'"
    ):
        asyncio.run(main())


@pytest.mark.slow_test(120)
def test_the_driver_ends_in_a_table_and_exit_code_0() -> None:
    driver = subprocess.Popen(
        [sys.executable, "-m", "examples", "--seconds", "0.3", "--repeats", "1", "--connections", "8"],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "COLUMNS": "80"},
        start_new_session=True,
    )
    try:
        output, errors = driver.communicate()
    except BaseException:
        os.killpg(driver.pid, signal.SIGKILL)  # its services too
        driver.communicate()
        raise
    assert (driver.returncode, errors) == (0, "")
    rows = re.findall(r"^ +(?:(?:aiohttp|fastapi) +)?(asyncio|weft) .* 0 +$", output, re.MULTILINE)
    assert rows == ["asyncio", "weft", "asyncio", "weft"], output
