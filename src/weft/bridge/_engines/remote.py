"""The side of a call that is in another process or interpreter: what is sent there, what is done there, what comes
back.

Rules for whoever edits this file:

- Everything crosses as bytes that are made and read here: so an object that can't be pickled is found in the
  caller's thread before it is sent, and one that can't be read again fails its own call and not the pool.
- A board is a small file that both sides map: two bytes for each call that is under way. `_BEGUN` is written by the
  worker, `_CANCELLED` by the caller's loop. Each writes its own and then reads the other's, so at most one of them
  believes that it was first (the lock between is a fence: a processor may otherwise read before it writes).
- A board belongs to one pool: a worker of a pool that broke may live a little longer, and must find the slots of its
  own calls.
"""

from __future__ import annotations

import contextlib
import importlib
import mmap
import os
import pickle
import signal
import tempfile
import threading
import traceback
from collections.abc import Callable
from typing import Any

from weft.bridge import cancel
from weft.bridge._engines.spi import short
from weft.bridge.errors import NotPicklable

__all__ = ["Board", "RemoteTraceback", "call", "ignore_ctrl_c", "pack", "read"]

_dumps: Callable[[Any], bytes]
try:
    _dumps = importlib.import_module("cloudpickle").dumps
except ImportError:
    _dumps = pickle.dumps
    _REMEDY = "define it at the top of a module, or pip install 'weft[bridge]', which can send functions by value"
else:
    _REMEDY = "send what it is made from and make it in the worker, or use threads"

_BEGUN, _CANCELLED = 0, 1
_fence = threading.Lock()

RESULT, ERROR, SKIPPED = "result", "error", "skipped"
Answer = tuple[str, bytes]


class RemoteTraceback(Exception):
    """The traceback of an error as it was where it was raised; the error's cause."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}" if self.args else ""


class Board:
    """The caller's side of a board. In the loop's thread."""

    def __init__(self, slots: int) -> None:
        handle, self.path = tempfile.mkstemp(prefix="weft-board-")
        try:
            os.truncate(handle, 2 * slots)
            self._bytes = mmap.mmap(handle, 2 * slots)
        finally:
            os.close(handle)
        self._free = list(range(slots))

    def take(self) -> int:
        """A slot for a call."""
        slot = self._free.pop()
        self._bytes[2 * slot : 2 * slot + 2] = b"\0\0"
        return slot

    def give(self, slot: int) -> None:
        """The call is over."""
        self._free.append(slot)

    def cancel(self, slot: int) -> bool:
        """Keep a call from beginning, or ask it to end; whether it has begun."""
        self._bytes[2 * slot + _CANCELLED] = 1
        with _fence:
            return self._bytes[2 * slot + _BEGUN] != 0

    def unlink(self) -> None:
        """Keep the workers that have not seen it yet from beginning a call."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)

    def close(self) -> None:
        """No call of it is left."""
        self.unlink()
        self._bytes.close()


# ------------------------------------------------------------------------------------------------- in the caller


def pack(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """A call as bytes; NotPicklable names the object that can't be sent."""
    try:
        return _dumps((function, args, kwargs))
    except Exception as error:
        raise NotPicklable(
            f"{_culprit(function, args, kwargs)} can't be sent to another process: {error}; {_REMEDY}"
        ) from error


def _culprit(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Which part of a call can't be pickled."""
    named = [("the function", function)]
    named += [(f"argument {number} of {function!r},", value) for number, value in enumerate(args, 1)]
    named += [(f"argument {name!r} of {function!r},", value) for name, value in kwargs.items()]
    for words, thing in named:
        try:
            _dumps(thing)
        except Exception:
            return f"{words} {short(thing)},"
    return f"the call of {function!r} as a whole"


def read(function: Any, answer: Answer) -> Any:
    """What a call came to: its result; raises its error."""
    kind, data = answer
    try:
        thing = pickle.loads(data)
    except Exception as error:
        raise NotPicklable(f"the {kind} of {function!r} can't be read in this process: {error}; {_REMEDY}") from error
    if kind == RESULT:
        return thing
    raised, text = thing
    try:
        raised.__cause__ = RemoteTraceback(text)
        raise raised
    finally:
        # Its traceback holds this frame.
        del raised, thing


# ------------------------------------------------------------------------------------------------- in the worker


def ignore_ctrl_c() -> None:
    """Ctrl-C goes to every process of a terminal. The caller's decides what becomes of the work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def call(payload: bytes, path: str, slot: int) -> Answer:
    """Do a call. In the worker; it raises nothing that the call is to blame for."""
    try:
        board = _board(path)
    except FileNotFoundError:
        return SKIPPED, b""
    board[2 * slot + _BEGUN] = 1
    with _fence:
        if board[2 * slot + _CANCELLED]:
            return SKIPPED, b""
    cancel.asked_elsewhere = lambda: board[2 * slot + _CANCELLED] != 0
    try:
        try:
            function, args, kwargs = pickle.loads(payload)
        except Exception as error:
            raise NotPicklable(
                f"a call was sent that the worker can't read: {error}; can it import the same modules?"
            ) from error
        return _pack_result(function, function(*args, **kwargs))
    except BaseException as error:
        # Whatever it is, a SystemExit too: it belongs to who awaits the call, not to this worker.
        return _pack_error(error)
    finally:
        cancel.asked_elsewhere = None


_boards: dict[str, mmap.mmap] = {}


def _board(path: str) -> mmap.mmap:
    board = _boards.get(path)
    if board is None:
        with open(path, "r+b") as file:
            board = _boards[path] = mmap.mmap(file.fileno(), 0)
    return board


def _pack_result(function: Any, result: Any) -> Answer:
    try:
        return RESULT, _dumps(result)
    except Exception as error:
        raise NotPicklable(
            f"the result of {function!r}, {short(result)}, can't be sent back: {error}; return what it is made of"
        ) from error


def _pack_error(error: BaseException) -> Answer:
    text = "".join(traceback.format_exception(error))
    try:
        data = _dumps((error, text))
        pickle.loads(data)
    except Exception as reason:
        unsent = NotPicklable(
            f"{type(error).__name__}: {error} was raised, an error that can't be sent as it is: {reason}"
        )
        data = _dumps((unsent, text))
    return ERROR, data
