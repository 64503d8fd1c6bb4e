"""Signals: they wake a loop that is blocked in its poller, and they run the callbacks of `add_signal_handler`.

How it works. Python writes the number of every signal that it catches to one file descriptor of the process, the
wake-up fd (`signal.set_wakeup_fd`). While a loop runs in the main thread that is one end of a socket pair, whose other
end the loop's poller watches. So a signal ends a blocked poll even where it arrived just before the poll, or in another
thread: one Ctrl-C is enough. (An eventfd would not do: it refuses a write of one byte.)

Rules for whoever edits this file:

- The wake-up fd belongs to the process. Another's (a GUI's, another loop's) is left in place where Weft only wants to
  be woken; it is replaced, as asyncio does, where a handler was added, and put back when the last handler is gone.
- Take and release only in the main thread of the main interpreter; anywhere else a loop runs without.
- Bytes are numbers of signals and are read when the loop gets to it: a signal whose handler is gone by then is dropped.
- The socket pair holds a few hundred bytes (each takes a kernel buffer of its own), so a storm may find it full. The
  loop is woken then all the same; which signals came stands in `_came`, where Python's own handler notes it.
"""

from __future__ import annotations

import asyncio
import contextvars
import errno
import inspect
import logging
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

from weft._core.handle import Handle
from weft._core.loopcore import LoopCore
from weft._io.spi import READ

__all__ = ["Signals"]

logger = logging.getLogger("asyncio")

# No wake-up fd, in the words of `signal.set_wakeup_fd`.
_NONE = -1

# From so many bytes on, the pair may have been full: with Linux's defaults it holds some hundreds.
_MAYBE_FULL = 64

# The signals of ours that Python handled since the bytes were read last.
_came: set[int] = set()

# More than the distinct signals there are; what doesn't fit is read at the next turn.
_READ_BYTES = 4096


class Signals:
    """The signals of one loop."""

    __slots__ = ("_is_running", "_reader", "_replaced", "_writer", "handlers")

    def __init__(self) -> None:
        # Signal number -> what to run. A cancelled handle stays until its signal comes, as in asyncio.
        self.handlers: dict[int, Handle] = {}
        # Between `start` and `finish`.
        self._is_running = False
        # The socket pair; None until the first need, and after `close`.
        self._reader: socket.socket | None = None
        self._writer: socket.socket | None = None
        # The wake-up fd that ours replaced (-1: there was none); None while ours is not the process's wake-up fd.
        self._replaced: int | None = None

    # -- the wake-up fd --

    def start(self, loop: LoopCore) -> None:
        """The loop is about to run in this thread: let every signal wake it, if nobody else has that place."""
        self._is_running = True
        if self._replaced is None and threading.get_ident() == threading.main_thread().ident:
            try:
                self._take(loop)
            except ValueError:
                # The main thread of a subinterpreter, which gets no signals.
                return
            self._give_back_if_idle()

    def finish(self) -> None:
        """The loop stopped running. Where there are handlers the place is kept: their signals wait for the next run."""
        self._is_running = False
        self._give_back_if_idle()

    def _give_back_if_idle(self) -> None:
        """Without handlers the place is ours only while the loop runs, and only if nobody had it."""
        if not self.handlers and not (self._is_running and self._replaced == _NONE):
            self._release()

    def _take(self, loop: LoopCore) -> None:
        """Make our socket the process's wake-up fd. Raises ValueError outside of the main thread."""
        if self._writer is None:
            self._open(loop)
        assert self._writer is not None
        ours = self._writer.fileno()
        # No warning when it is full: nothing is lost by that.
        previous = signal.set_wakeup_fd(ours, warn_on_full_buffer=False)
        if previous != ours:
            self._replaced = previous

    def _release(self) -> bool:
        """Put back what was there before, unless somebody has replaced ours since: then theirs stays.

        False if that can't be done, because this is not the main thread: ours is still the wake-up fd.
        """
        if self._replaced is None or self._writer is None:
            return True
        ours = self._writer.fileno()
        try:
            found = signal.set_wakeup_fd(_NONE)
        except ValueError as exc:
            logger.info("set_wakeup_fd(-1) failed: %s", exc)
            return False
        before, self._replaced = self._replaced, None
        if found != ours:
            before = found
        if before != _NONE:
            try:
                signal.set_wakeup_fd(before)
            except (ValueError, OSError) as exc:
                # Its owner closed it while ours was in place: then there is none.
                logger.info("set_wakeup_fd(%d) failed: %s", before, exc)
        return True

    def _open(self, loop: LoopCore) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        # An empty context: the handle must not keep the variables of whoever ran the loop first.
        handle = Handle(self._read, (loop,), loop, contextvars.Context())  # type: ignore[arg-type]
        loop._poller.watch(self._reader.fileno(), READ, handle)

    def _read(self, loop: LoopCore) -> None:
        """Schedule the handlers of the signals that came; the others have done their work by waking us."""
        if self._reader is None:
            return
        try:
            numbers = self._reader.recv(_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        loop._counters.wakes += 1
        lost = _came.difference(numbers) if len(numbers) >= _MAYBE_FULL else ()
        _came.clear()
        for number in (*numbers, *lost):
            handle = self.handlers.get(number)
            if handle is None:
                continue
            if handle.cancelled():
                self.remove(number)
            else:
                loop._queue(handle)

    # -- handlers --

    def add(self, loop: LoopCore, sig: int, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        """As asyncio's `loop.add_signal_handler`: in the main thread only; replaces the handler there was."""
        if asyncio.iscoroutine(callback) or _is_coroutine_function(callback):
            raise TypeError("coroutines cannot be used with add_signal_handler()")
        _check_signal(sig)
        loop._check_closed()
        try:
            self._take(loop)
        except (ValueError, OSError) as exc:
            raise RuntimeError(str(exc)) from exc
        self.handlers[sig] = Handle(callback, args, loop, None)  # type: ignore[arg-type]
        try:
            _set(sig, _note)
            # Restart system calls that the signal would interrupt: code outside of the loop needs no EINTR.
            signal.siginterrupt(sig, False)
        except BaseException:
            del self.handlers[sig]
            self._give_back_if_idle()
            raise

    def remove(self, sig: int) -> bool:
        """As asyncio's `loop.remove_signal_handler`: True if there was one. Python's default action comes back."""
        _check_signal(sig)
        if self.handlers.pop(sig, None) is None:
            return False
        _set(sig, _default_action(sig))
        self._give_back_if_idle()
        return True

    def close(self, loop: LoopCore) -> None:
        """Take every handler back and close the sockets. The loop does not run any more, its poller is still open."""
        try:
            if not sys.is_finalizing():
                for sig in list(self.handlers):
                    self.remove(sig)
            elif self.handlers:
                warnings.warn(
                    f"Closing the loop {loop!r} on interpreter shutdown stage, skipping signal handlers removal",
                    ResourceWarning,
                    stacklevel=3,
                    source=loop,
                )
                self.handlers.clear()
        finally:
            self._close_sockets(loop)

    def _close_sockets(self, loop: LoopCore) -> None:
        is_released = self._release()
        reader, self._reader = self._reader, None
        writer, self._writer = self._writer, None
        if reader is None or writer is None:
            return
        loop._poller.unwatch(reader.fileno(), READ)
        reader.close()
        if is_released:
            writer.close()
        else:
            # Python goes on writing to this fd. Once closed, its number could be a stranger's connection: keep it open.
            writer.detach()

    def forget(self) -> None:
        """In a forked child: the sockets are shared with the parent, so a signal of the child must not write to them.

        The handlers would run on a loop that is the parent's: the child gets Python's default actions back.
        """
        self._release()
        for sig in self.handlers:
            _set(sig, _default_action(sig))
        self.handlers.clear()
        for end in (self._reader, self._writer):
            if end is not None:
                end.close()
        self._reader = self._writer = None


def _note(number: int, frame: object) -> None:
    """The handler that Python runs for a signal of ours: the write to the wake-up fd has told the loop already."""
    _came.add(number)


# asyncio's mark on functions that its old `@asyncio.coroutine` made, and that mock sets; gone in a later version.
_MARK = getattr(asyncio.coroutines, "_is_coroutine", None)


def _is_coroutine_function(function: object) -> bool:
    mark = getattr(function, "_is_coroutine", None)
    return inspect.iscoroutinefunction(function) or (mark is not None and mark is _MARK)


def _set(sig: int, action: Any) -> None:
    try:
        signal.signal(sig, action)
    except OSError as exc:
        if exc.errno == errno.EINVAL:
            raise RuntimeError(f"sig {sig} cannot be caught") from exc
        raise


def _default_action(sig: int) -> Any:
    return signal.default_int_handler if sig == signal.SIGINT else signal.SIG_DFL


def _check_signal(sig: object) -> None:
    if not isinstance(sig, int):
        raise TypeError(f"sig must be an int, not {sig!r}")
    if sig not in signal.valid_signals():
        raise ValueError(f"invalid signal number {sig}")
