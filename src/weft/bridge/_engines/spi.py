"""The contract between an `Executor` and what does its work.

Rules for whoever writes an engine:

- `run` ends in exactly one of three ways, whatever becomes of workers, machines and pools: a result, an error (the
  function's own, or a typed one of `weft.bridge.errors`), or CancelledError, where its task was cancelled.
- Of an engine's own errors none gets out: a broken pool, a pickling error or a lost connection is told by our type,
  that names the function and the remedy, with the engine's error as its cause.
- A cancelled call that nothing has begun never begins. One that runs is treated as `weft.bridge.cancel` says, as far
  as the engine can.
- Third-party packages are imported by the engine's `start`, never at import time.
"""

from __future__ import annotations

import importlib
import os
import reprlib
from typing import Any, Protocol

__all__ = ["Engine", "cores", "need", "short"]


class Engine(Protocol):
    """What does the work. Every method is called in the loop's thread.

    name:     what messages call it
    workers:  how many calls run at once; right after `start`
    """

    name: str
    workers: int

    async def start(self) -> None:
        """Get ready. Raises what is in the way: ImportError for a package that is missing, SchedulerLost for a
        scheduler."""

    async def run(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """One call."""

    async def close(self) -> None:
        """Take no more calls, refuse with `Closed` those that have no place yet, wait for the others but the
        abandoned ones, and free what `start` took. Only what could be cut off without harm may be left to a second
        cancellation."""


def cores() -> int:
    """How many processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def need(module: str, extra: str) -> Any:
    """Import a third-party module, or say how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(f"{package} can't be imported ({error}): pip install 'weft[{extra}]'") from error


_repr = reprlib.Repr()
_repr.maxother = _repr.maxstring = 80


def short(thing: Any) -> str:
    """The repr of an argument or a result, for a message: never longer than a line."""
    text = _repr.repr(thing)
    return text if len(text) <= 100 else f"{text[:97]}..."
