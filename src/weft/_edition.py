"""Which edition runs: the compiled modules of a wheel, or the plain `.py` files beside them.

Rules for whoever edits this file:

- `weft/__init__.py` imports it before any other part of Weft: the choice is made when this module is imported, and it
  is for the whole process. Half of one edition and half of the other is never right (a compiled class can't inherit the
  plain one of its `.pxd`), so it is all `.py` or all that was built.
- It imports of Weft the compiled modules only, and from the standard library what the interpreter has loaded already.

Why a finder: all compiled modules are in one shared object, `_compiled`, where Python's own finders see none of them.
A wheel carries the `.py` files too, so the plain edition of an installed Weft (for a debugger, or to rule the compiler
out) costs one environment variable: the finder is left out.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Literal

__all__ = ["EDITION", "Edition", "edition", "reason"]

Edition = Literal["compiled", "plain"]


class _CompiledFinder:
    """Finds and loads the modules of Weft that are compiled."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The spec of a compiled module; None (ask the next finder) for any other name."""
        if name not in _compiled.names:
            return None
        # Not an `importlib.abc.Loader`: to import those would cost more than this class does.
        spec = ModuleSpec(name, _CompiledFinder, origin=_compiled.__file__)  # type: ignore[arg-type]
        spec.has_location = True
        return spec

    @staticmethod
    def create_module(spec: ModuleSpec) -> ModuleType:
        module: ModuleType = _compiled.create(spec)
        return module

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        _compiled.execute(module)


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
    return PathFinder.find_spec(f"{__package__}._compiled", sys.modules[__package__].__path__) is not None


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
EDITION: Edition = "compiled" if not _forced and _has_compiled() else "plain"
if EDITION == "compiled":
    # What is installed and can't be loaded is an error, never the plain edition in silence. (By name: what reads imports
    # from sources would take it for the whole package.)
    _compiled = import_module(f"{__package__}._compiled")
    sys.meta_path.insert(0, _CompiledFinder)
