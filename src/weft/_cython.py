"""The few names of the `cython` module that a plain `.py` may use, for machines where Cython is not installed.

Use it so, in a module that must ask (most need not: types live in the `.pxd`):

    try:
        import cython
    except ImportError:
        from weft import _cython as cython

Cython knows the name `cython` at compile time, so the compiled edition never comes here. Add a name only when a module
needs it; each must do in plain Python what it does compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

__all__ = ["cast", "compiled", "locals"]

_T = TypeVar("_T")

compiled: bool = False


def cast(kind: object, value: _T, typecheck: bool = False) -> _T:
    """`value` itself: a C cast has no meaning in plain Python, and `typecheck` guards only the C one."""
    return value


def locals(**types: object) -> Callable[[_T], _T]:  # noqa: A001
    """Types for the local variables of a method whose class no `.pxd` can declare; nothing of them is seen here."""
    return lambda method: method
