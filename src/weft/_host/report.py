"""What a loop says when something went wrong: the exception handler, the slow-callback report, tasks that never
finished.

Rules for whoever edits this file:

- Everything goes through `loop.call_exception_handler` or the logger named `asyncio`, in asyncio's words: people filter
  and test for both.
- A report must not raise, but for SystemExit and KeyboardInterrupt, which are somebody's decision to end the program.
- A report names the object and, in debug mode, where it was created.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

__all__ = ["ExceptionHandler", "call_handler", "describe", "log_context", "log_slow", "logger", "report_unfinished"]

ExceptionHandler: TypeAlias = "Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object]"

logger: logging.Logger = logging.getLogger("asyncio")


def call_handler(loop: asyncio.AbstractEventLoop, handler: ExceptionHandler | None, context: dict[str, Any]) -> None:
    """Pass `context` to the handler of the loop, or to its default one; what a handler raises is logged.

    A custom handler runs in the context (contextvars) of the task, future or handle that the report is about.
    """
    if handler is None:
        _call_default(loop, context, "Exception in default exception handler")
        return
    try:
        run = _context_runner(context)
        if run is None:
            handler(loop, context)
        else:
            run(handler, loop, context)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as exc:
        _call_default(
            loop,
            {"message": "Unhandled error in exception handler", "exception": exc, "context": context},
            "Exception in default exception handler while handling an unexpected error in custom exception handler",
        )


def _call_default(loop: asyncio.AbstractEventLoop, context: dict[str, Any], failed: str) -> None:
    """Call the default handler, which a subclass may have replaced by one that raises."""
    try:
        loop.default_exception_handler(context)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException:
        logger.error(failed, exc_info=True)


def _context_runner(context: dict[str, Any]) -> Callable[..., object] | None:
    """`Context.run` of the first of task, future and handle that is in the report, if it has a context."""
    for key in ("task", "future", "handle"):
        subject = context.get(key)
        if subject is not None:
            get_context = getattr(subject, "get_context", None)
            return None if get_context is None else getattr(get_context(), "run", None)
    return None


def log_context(context: dict[str, Any], running: object) -> None:
    """Log a report as an error: its message, then a line for every other key, sorted; tracebacks are written out.

    `running` is the callback that runs now, or None: in debug mode the report says where it was scheduled.
    """
    exception = context.get("exception")
    handle_traceback = getattr(running, "_source_traceback", None)
    if handle_traceback and "source_traceback" not in context:
        context["handle_traceback"] = handle_traceback
    lines = [context.get("message") or "Unhandled exception in event loop"]
    for key in sorted(context.keys() - {"message", "exception"}):
        lines.append(f"{key}: {_written(key, context[key])}")
    exc_info = False if exception is None else (type(exception), exception, exception.__traceback__)
    logger.error("\n".join(lines), exc_info=exc_info)


def _written(key: str, value: Any) -> str:
    made = {"source_traceback": "Object created at", "handle_traceback": "Handle created at"}.get(key)
    if made is None:
        return repr(value)
    return f"{made} (most recent call last):\n" + "".join(traceback.format_list(value)).rstrip()


def describe(runnable: object) -> str:
    """What runs, for people: the task where the runnable is a step of one, else the callback."""
    owner = getattr(getattr(runnable, "_callback", None), "__self__", None)
    return repr(owner) if isinstance(owner, asyncio.Task) else str(runnable)


def log_slow(runnable: object, duration: float) -> None:
    """Say in debug mode that a callback or a step of a task held the loop for `duration` seconds."""
    logger.warning("Executing %s took %.3f seconds", describe(runnable), duration)


def report_unfinished(loop: asyncio.AbstractEventLoop, tasks: Iterable[Any]) -> None:
    """Report the tasks that a loop leaves unfinished as it closes, each once: its own "destroyed" report is switched
    off.

    A task whose `_log_destroy_pending` is off (asyncio switches it off where somebody else tells of the task) is left
    out.
    """
    for task in tasks:
        if not task._log_destroy_pending:
            continue
        task._log_destroy_pending = False
        context = {"message": "Task never finished: its event loop was closed while it was pending", "task": task}
        if task._source_traceback:
            context["source_traceback"] = task._source_traceback
        loop.call_exception_handler(context)
