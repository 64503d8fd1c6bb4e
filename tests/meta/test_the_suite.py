"""The suite's own rules: nobody sleeps to wait, no file names this machine, no test hides from its world."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
FILES = sorted(path for path in TESTS.rglob("test_*.py"))
LINES = 700

# Files in which a program under test sleeps (it is a fixture's text, or time itself is what is tested).
MAY_BLOCK = {"test_cli_run.py"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TESTS)))
def test_nobody_sleeps_to_wait(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "sleep":
            owner = node.func.value
            if isinstance(owner, ast.Name) and owner.id == "time" and path.name not in MAY_BLOCK:
                pytest.fail(f"{path.name}:{node.lineno} blocks the thread in time.sleep")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TESTS)))
def test_files_are_short_and_say_what_they_are(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), "a test file opens with what it holds"
    assert text.count("\n") <= LINES


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TESTS)))
def test_nothing_names_a_machine(path: Path) -> None:
    """No absolute path of whoever wrote the test."""
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"""["'](?:/home/|/root/|/Users/|C:\\\\)""", text)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TESTS)))
def test_async_tests_take_a_world(path: Path) -> None:
    """An `async def` test without `world` would be skipped by pytest."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.AsyncFunctionDef) and node.name.startswith("test_"):
            if any(isinstance(each, ast.Name) and each.id == "in_anyio" for each in node.decorator_list):
                continue
            assert "world" in {argument.arg for argument in node.args.args}, node.name
