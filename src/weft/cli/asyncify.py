"""`weft asyncify`: write the types of what `weft.bridge.asyncify` makes of a class, for type checkers.

Exit codes: 0; 2 for bad input, with one line that says what is wrong.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from weft.bridge.asyncify import asyncify
from weft.cli import _stubs

__all__ = ["main"]

BAD_INPUT = 2


class BadName(Exception):
    """There is no such class, said in one line."""


def main(arguments: Sequence[str]) -> int:
    """Write the stub that the arguments ask for; the exit code."""
    options = _parser().parse_args(arguments)
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        cls = _find(options.target)
        made = asyncify(
            cls,
            only=options.only or None,
            hide=options.hide,
            direct=options.direct,
            also=[_find(each) for each in options.also],
        )
        text = _stubs.write(made, options.name or f"Async{cls.__name__}", options.target)
        if options.output is None:
            print(text, end="")
        else:
            with open(options.output, "w", encoding="utf-8") as file:
                file.write(text)
    except (BadName, TypeError, ValueError) as error:
        return _bad(str(error))
    except OSError as error:
        return _bad(f"can't write {options.output!r}: {error.strerror}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="weft asyncify",
        description="Write a typed stub for the asynchronous class of a synchronous client class.",
        epilog="The options are to be those that asyncify is called with: they decide what the class has.",
        allow_abbrev=False,
    )
    parser.add_argument("target", metavar="MODULE:CLASS", help="the synchronous class")
    parser.add_argument("-o", dest="output", metavar="FILE", help="where to write it (by default on stdout)")
    parser.add_argument("--name", help="what the asynchronous class is called (AsyncCLASS)")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="as only= of asyncify; repeatable")
    parser.add_argument("--hide", action="append", default=[], metavar="NAME", help="as hide= of asyncify; repeatable")
    parser.add_argument(
        "--direct", action="append", default=[], metavar="NAME", help="as direct= of asyncify; repeatable"
    )
    parser.add_argument(
        "--also", action="append", default=[], metavar="MODULE:CLASS", help="as also= of asyncify; repeatable"
    )
    return parser


def _find(target: str) -> Any:
    """The class that `module:Class` names; BadName if there is none."""
    module_name, colon, path = target.partition(":")
    if not (module_name and colon and path):
        raise BadName(f"{target!r} names no class: MODULE:CLASS is needed, as redis:Redis")
    try:
        found: Any = importlib.import_module(module_name)
    except ImportError as error:
        raise BadName(f"module {module_name!r} can't be imported: {error}") from None
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise BadName(f"module {module_name!r} has no {path!r}") from None
    return found


def _bad(line: str) -> int:
    print(f"weft asyncify: {line}", file=sys.stderr)
    return BAD_INPUT
