"""Rows of text for people."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["columns"]


def columns(rows: Sequence[tuple[str, str]], *, indent: str = "") -> list[str]:
    """One line a row, the values below each other; a value of several lines keeps its column."""
    width = max((len(name) for name, _ in rows), default=0)
    gap = "\n" + indent + " " * (width + 2)
    return [f"{indent}{name:<{width}}  {value.replace(chr(10), gap)}" for name, value in rows]
