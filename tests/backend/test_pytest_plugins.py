"""pytest-asyncio, anyio's plugin and unittest run tests on Weft by the options that the guide documents."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from worlds import since

ON_WEFT = """
import asyncio
import weft

def on_weft():
    return isinstance(asyncio.get_running_loop(), weft.Loop)
"""


def run_pytest(folder: Path, files: dict[str, str], *options: str) -> str:
    """Run pytest in a process of its own on `files`; its output. The suite's own settings do not reach it."""
    (folder / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    (folder / "on_weft.py").write_text(ON_WEFT)
    for name, text in files.items():
        (folder / name).write_text(text)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "COV_"))}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), environment.get("PYTHONPATH", "")]))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:timeout",
        *options,
        str(folder),
    ]
    process = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def version_of(package: str) -> tuple[int, ...]:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return tuple(int(part) for part in version(package).split(".")[:2])
    except PackageNotFoundError:
        pytest.skip(f"{package} is not installed")


ASYNCIO_TESTS = """
import asyncio
import pytest
import pytest_asyncio
from on_weft import on_weft

@pytest_asyncio.fixture
async def resource():
    assert on_weft()
    yield 5
    await asyncio.sleep(0)
    assert on_weft()

@pytest.mark.asyncio
async def test_with_a_fixture(resource):
    assert on_weft()
    assert resource == 5
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        task = group.create_task(asyncio.sleep(0.001, "slept"))
    assert task.result() == "slept"

@pytest.mark.asyncio(loop_scope="module")
async def test_module_loop():
    assert on_weft()
"""


def test_pytest_asyncio_by_its_hook(tmp_path):
    if version_of("pytest-asyncio") < (1, 4):
        pytest.skip("the hook is 1.4's")
    conftest = (
        "import weft\n\ndef pytest_asyncio_loop_factories(config, item):\n    return {'weft': weft.new_event_loop}\n"
    )
    output = run_pytest(tmp_path, {"conftest.py": conftest, "test_it.py": ASYNCIO_TESTS}, "-p", "no:anyio")
    assert "2 passed" in output


def test_pytest_asyncio_on_two_loops(tmp_path):
    if version_of("pytest-asyncio") < (1, 4):
        pytest.skip("the hook is 1.4's")
    conftest = (
        "import asyncio\nimport weft\n\ndef pytest_asyncio_loop_factories(config, item):\n"
        "    return {'asyncio': asyncio.SelectorEventLoop, 'weft': weft.new_event_loop}\n"
    )
    test = "import pytest\n\n@pytest.mark.asyncio\nasync def test_both():\n    pass\n"
    output = run_pytest(tmp_path, {"conftest.py": conftest, "test_it.py": test}, "-v", "-p", "no:anyio")
    assert "2 passed" in output


@pytest.mark.skipif(since(3, 14), reason="policies are deprecated from 3.14 on")
def test_pytest_asyncio_by_a_policy(tmp_path):
    version_of("pytest-asyncio")
    conftest = (
        "import pytest\nimport weft\n\n@pytest.fixture(scope='session')\ndef event_loop_policy():\n"
        "    return weft.EventLoopPolicy()\n"
    )
    output = run_pytest(tmp_path, {"conftest.py": conftest, "test_it.py": ASYNCIO_TESTS}, "-p", "no:anyio")
    assert "2 passed" in output


def test_anyio_plugin(tmp_path):
    version_of("anyio")
    files = {
        "conftest.py": (
            "import pytest\nimport weft\n\n@pytest.fixture\ndef anyio_backend():\n"
            "    return 'asyncio', {'loop_factory': weft.new_event_loop}\n"
        ),
        "test_it.py": """
import anyio
import pytest
from on_weft import on_weft

pytestmark = pytest.mark.anyio

@pytest.fixture
async def resource():
    assert on_weft()
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep_forever)
        yield 5
        group.cancel_scope.cancel()

async def test_it(resource):
    assert on_weft()
    with anyio.move_on_after(0.001):
        await anyio.sleep_forever()
    assert resource == 5
""",
    }
    assert "1 passed" in run_pytest(tmp_path, files, "-p", "no:asyncio")


@pytest.mark.skipif(not since(3, 13), reason="loop_factory of IsolatedAsyncioTestCase is 3.13's")
def test_unittest(tmp_path):
    test = """
import asyncio
import unittest
import weft
from on_weft import on_weft

class Case(unittest.IsolatedAsyncioTestCase):
    loop_factory = staticmethod(weft.new_event_loop)

    async def asyncSetUp(self):
        self.assertTrue(on_weft())

    async def test_it(self):
        await asyncio.sleep(0)
        self.assertTrue(on_weft())
"""
    assert "1 passed" in run_pytest(tmp_path, {"test_it.py": test}, "-p", "no:asyncio", "-p", "no:anyio")
