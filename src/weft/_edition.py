"""Which edition runs: the compiled modules of a wheel, or the plain `.py` files beside them.

Rules for whoever edits this file:

- `weft/__init__.py` imports it before any other part of Weft: the choice is made when this module is imported, and it
  is for the whole process. Half of one edition and half of the other is never right (a compiled class can't inherit the
  plain one of its `.pxd`), so it is all `.py` or all that was built.
- It imports nothing of Weft, and from the standard library only what the interpreter has loaded already.

Why a finder and not another installed copy: the wheel carries the `.py` files anyway, so the plain edition of an
installed Weft (for a debugger, or to rule the compiler out) costs one environment variable.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from types import ModuleType
from typing import Literal

__all__ = ["EDITION", "Edition", "edition", "reason"]

Edition = Literal["compiled", "plain"]

# The module that stands for all: the base of everything that the scheduler runs.
_WITNESS = "_core.handle"


class _PlainFinder:
    """Finds the submodules of Weft by their `.py` files, even where a compiled module lies beside them."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The spec of a submodule of Weft; None (ask the next finder) for any other name."""
        if path is None or not name.startswith(_PREFIX):
            return None
        for entry in path:
            spec = FileFinder(entry, (SourceFileLoader, SOURCE_SUFFIXES)).find_spec(name, target)
            if spec is not None:
                return spec
        return None


_PREFIX = __name__.rpartition(".")[0] + "."


def _is_subinterpreter() -> bool:
    """Whether this is not the main interpreter: modules built by Cython refuse to load there."""
    name = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
    try:
        interpreters = __import__(name)
    except ImportError:
        return False
    current, main = interpreters.get_current(), interpreters.get_main()
    return bool(current != main)


def _why_plain() -> str:
    """Why the `.py` files must be taken; an empty string where whatever was built is to run."""
    if os.environ.get("WEFT_PURE", "") not in ("", "0"):
        return "WEFT_PURE is set"
    if _is_subinterpreter():
        return "compiled modules do not load in a subinterpreter"
    return ""


def _has_compiled() -> bool:
    room, _, stem = _WITNESS.rpartition(".")
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), *room.split("."))
    return any(os.path.exists(os.path.join(folder, stem + suffix)) for suffix in EXTENSION_SUFFIXES)


def edition() -> Edition:
    """The edition that runs in this process: `"compiled"` or `"plain"`. Any thread; never changes after import."""
    return EDITION


def reason() -> str:
    """One clause that says why the edition is what it is, for people (`weft doctor`)."""
    if EDITION == "compiled":
        return "compiled modules are installed"
    return _forced or "no compiled modules are installed for this Python"


if sys.platform == "win32":
    raise ImportError(
        "Weft does not run on Windows: it needs a Unix kernel (Linux; macOS is untested). "
        "On Windows use asyncio's own loop, or run Weft in WSL."
    )

_forced = _why_plain()
EDITION: Edition = "compiled" if _has_compiled() and not _forced else "plain"
if _forced and _PlainFinder not in sys.meta_path:
    sys.meta_path.insert(0, _PlainFinder)
