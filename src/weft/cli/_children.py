"""The processes that `multiprocessing` starts afresh for a program under `weft run` get Weft's loop too.

A forked child has it anyway. One that is spawned, or comes from a fork server, is a new interpreter that knows nothing of `weft
run`: the workers of `uvicorn --workers` and `--reload` are such. `multiprocessing` starts each with `python -c CODE`, by one
function for both ways; here CODE gets a sentence in front. Nothing else of `multiprocessing` changes.

A child that is started with `subprocess` is another program, and is left alone.
"""

from __future__ import annotations

import multiprocessing.util
import sys
from collections.abc import Sequence
from typing import Any

from weft.cli import _which_loop
from weft.loop import Loop

__all__ = ["OTHER_LOOP", "give_weft_to_children", "start"]

# The exit code of a process that was to run on Weft only, and would have made another loop.
OTHER_LOOP = 3

# What the code of such a child says somewhere; the third kind, the resource tracker, runs no code of the program.
_STARTS = ("from multiprocessing.spawn import", "from multiprocessing.forkserver import")


def give_weft_to_children(*, requires_weft: bool) -> None:
    """From now on, let the processes of `multiprocessing` begin with `start`."""
    spawn = multiprocessing.util.spawnv_passfds
    sentence = f"from weft.cli import _children; _children.start(requires_weft={requires_weft}); "

    def spawnv_passfds(path: bytes, args: Sequence[Any], passfds: Sequence[int]) -> int:
        return spawn(path, [sentence + each if _is_start(each) else each for each in args], passfds)

    multiprocessing.util.spawnv_passfds = spawnv_passfds


def _is_start(argument: object) -> bool:
    return isinstance(argument, str) and any(start in argument for start in _STARTS)


def start(*, requires_weft: bool) -> None:
    """In the child: what `weft run` did in its parent. Another loop is told of at once, for the end may never come."""

    def on_other(kind: str, place: str) -> None:
        if requires_weft:
            print(f"weft run: --require: a child would make {kind} (at {place})", file=sys.stderr)
            raise SystemExit(OTHER_LOOP)
        print(f"weft run: a child does not stay on Weft: it makes {kind} (at {place})", file=sys.stderr)

    _which_loop.give_weft(Loop, on_other)
    give_weft_to_children(requires_weft=requires_weft)
