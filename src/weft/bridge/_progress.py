"""Progress bars of `Executor.map`, by rich, on standard error where that is a terminal.

All bars of a process share one display, for two displays would write over each other. It writes from a thread of its
own: a slow terminal holds up nobody.
"""

from __future__ import annotations

import importlib
import sys
import threading
from typing import Any

__all__ = ["Bar", "bar"]

_lock = threading.Lock()
_display: Any = None
_bars = 0


class Bar:
    """One bar. `advance` and `close` from any thread; nothing is shown where there is no terminal."""

    def __init__(self, display: Any, row: Any) -> None:
        self._display = display
        self._row = row

    def advance(self) -> None:
        """One more item is done."""
        if self._display is not None:
            self._display.advance(self._row)

    def close(self) -> None:
        """Take it away. Twice is fine."""
        global _display, _bars
        display, self._display = self._display, None
        if display is None:
            return
        with _lock:
            _bars -= 1
            if _bars:
                display.remove_task(self._row)
                return
            _display = None
        display.stop()


def bar(progress: bool | str | None, total: int | None) -> Bar:
    """A bar for so many items (None: nobody knows), with a title if one is given. ImportError if rich is missing on
    a terminal."""
    global _display, _bars
    if not progress or not sys.stderr.isatty():
        return Bar(None, None)
    with _lock:
        if _display is None:
            _display = _new_display()
            _display.start()
        _bars += 1
        return Bar(_display, _display.add_task(progress if isinstance(progress, str) else "map", total=total))


def _new_display() -> Any:
    try:
        console = importlib.import_module("rich.console")
        rich = importlib.import_module("rich.progress")
    except ImportError as error:
        raise ImportError(
            f"progress is shown by rich, which can't be imported ({error}): pip install 'weft[bridge]'"
        ) from error
    return rich.Progress(
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.MofNCompleteColumn(),
        rich.TimeElapsedColumn(),
        rich.TimeRemainingColumn(),
        console=console.Console(stderr=True),
    )
