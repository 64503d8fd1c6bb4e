"""The tables of faults name tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "design" / "faults.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE)))


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_what_the_page_names_is_there(path: str, name: str) -> None:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    functions = {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
    assert not name or name in functions


def test_every_row_of_the_tables_names_one() -> None:
    tables = PAGE.partition("## Strangers")[0]
    rows = [line for line in tables.splitlines() if line.startswith("| ")]
    rows = [row for row in rows if not row.startswith(("| Claim", "| Fault", "| Complaint"))]
    assert len(rows) > 30
    for row in rows:
        assert "`" in row.split(" | ", 1)[1], row
