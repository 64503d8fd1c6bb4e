"""What a body did, written down so that two worlds can be compared: value or exception, reports, log lines.

Addresses and task numbers differ between two runs of the same thing and are masked, and so is what differs between
asyncio's own two implementations; nothing else is.
"""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable
from typing import Any

from worlds import World

ADDRESS = re.compile(r"0x[0-9a-fA-F]+")
TASK_NUMBER = re.compile(r"Task-\d+")
# What a waiting task leaves in a future's callbacks: a private name, which differs between asyncio's C and Python too.
WAKE_UP = re.compile(r"(?:<[\w -]*wakeup[^>]*>|Task\.\w*wakeup)\(\)(?: at [^\],>]*)?")
# asyncio's C and Python futures have different words here; Weft has those of the Python one, which say more.
INVALID_STATE = re.compile(r"^(?:invalid state|(?:PENDING|FINISHED|CANCELLED): <.*>)$")
# Where a task or a loop came from in debug mode: the file is the library's, so its path and line differ.
CREATED_IN_LIBRARY = re.compile(r"created at [^>\s]*/(?:asyncio|weft|worlds)[^>\s]*:\d+")


def masked(text: str) -> str:
    """`text` without what differs between two runs."""
    text = ADDRESS.sub("0x", TASK_NUMBER.sub("Task-N", text))
    text = INVALID_STATE.sub("invalid state", WAKE_UP.sub("wake-up", text))
    return CREATED_IN_LIBRARY.sub("created at library", text)


def comparable(value: Any) -> Any:
    """`value` in a form that two worlds can compare by `==`."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, BaseException):
        inner = [comparable(each) for each in getattr(value, "exceptions", ())]
        return (type(value).__name__, masked(str(value)), inner)
    if isinstance(value, dict):
        return {comparable(key): comparable(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [comparable(each) for each in value]
    if isinstance(value, (set, frozenset)):
        return sorted((comparable(each) for each in value), key=repr)
    if isinstance(value, (int, float, bytes, type(None))):
        return value
    if isinstance(value, type):
        return value.__name__
    return masked(repr(value))


class LogLines(logging.Handler):
    """The lines that went to a logger, as `LEVEL message`."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.getMessage()}")


def record(world: World, body: Callable[[World], Any], *, debug: bool | None = False) -> dict[str, Any]:
    """Run `body(world)` (a coroutine function) in `world` and write down what came out of it."""
    outcome: dict[str, Any] = {}
    main = body(world)
    assert inspect.iscoroutine(main), "a body gives a coroutine: else both worlds refuse it, and are the same"
    try:
        outcome["returned"] = comparable(world.run(main, debug=debug))
    except (KeyboardInterrupt, SystemExit, Exception) as error:
        outcome["raised"] = comparable(error)
    outcome["reports"] = [comparable(_words(context)) for context in world.take_reports()]
    return outcome


def _words(context: dict[str, Any]) -> dict[str, Any]:
    """A report without the library's own stack lines."""
    return {key: value for key, value in context.items() if not key.startswith("source_traceback")}
