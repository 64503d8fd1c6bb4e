"""The state machines of pipes: `ReadPipe` and `WritePipe`. What protocols see of them is in `pipe`.

A pipe here is a pipe, a FIFO, a terminal or other character device, or a socket used in one direction. Rules for
whoever edits:

- The descriptor belongs to the file object that the caller gave, and closes with it, once, in `_release`. It is not in
  the poller's table of owners: a terminal is read and written through one descriptor by two transports, as in asyncio.
  So `_unwatch` takes off only what is this object's own: the number may be watched by somebody else by now.
- What a write can't send at once waits in `_buffer`; then, and only then, the poller reports `_writable`.
- A pipe or socket that is written to is watched for reading too. Nothing is read: it is ready when the reader is gone.
- `_lost` is set when `connection_lost` is scheduled, which happens once; `_closing` when the user or the reader ended
  it, which for a writer comes before the buffer is sent.
- A runnable may still be in the ready list after it was unwatched: each looks at the state first.
- An error of the protocol's `data_received` is reported and the pipe lives on, as in asyncio, where a socket would be
  closed.
"""

from __future__ import annotations

import errno
import sys
from asyncio.log import logger
from typing import TYPE_CHECKING, Any

from weft._core.handle import Runnable
from weft._io.spi import READ, WRITE
from weft._native.incontext import InContext
from weft._net.flow import DROPPED_WRITES_LOGGED, FlowControl
from weft._net.sockops import AnyLoop

if TYPE_CHECKING:
    from weft._io.ops import Ops
    from weft._io.spi import Poller

#: A named FIFO whose reader is gone is never reported there, and one with unread data always is.
FIFO_HIDES_READER = sys.platform in ("darwin", "ios", "tvos", "watchos", "sunos5")


class ReadPipe(FlowControl):
    """The end of a pipe that is read. Its flow control is the reading kind only: `_paused`."""

    __slots__ = ("_closing", "_fd", "_lost", "_ops", "_paused", "_pipe", "_poller", "_watching")

    def __init__(self, loop: AnyLoop, pipe: Any, fd: int, transport: Any, protocol: Any) -> None:
        FlowControl.__init__(self, loop, transport, protocol)
        self._poller: Poller = loop._poller
        self._ops: Ops = self._poller.ops
        #: None once the connection is lost and the pipe closed.
        self._pipe: Any = pipe
        self._fd = fd
        self._watching = False
        self._paused = False
        self._closing = False
        self._lost = False

    def _start_reading(self) -> None:
        if not (self._closing or self._paused or self._watching):
            self._poller.watch(self._fd, READ, self)
            self._watching = True

    def _stop_reading(self) -> None:
        if self._watching:
            self._watching = False
            if self._poller.watched(self._fd, READ) is self:
                self._poller.unwatch(self._fd, READ)

    def _run(self) -> None:
        """The pipe is readable: one read and one call of the protocol."""
        if not self._watching:
            return
        if self._paused:
            self._stop_reading()
            return
        try:
            data = self._ops.read(self._fd)
        except OSError as exc:
            self._fatal_error(exc, "Fatal read error on pipe transport")
            return
        if data is None:
            return
        if len(data) == 0:
            if self._loop._debug:
                logger.info("%r was closed by peer", self._transport)
            self._closing = True
            self._stop_reading()
            self._loop.call_soon(self._protocol.eof_received, context=self._context)
            self._schedule_lost(None)
            return
        try:
            InContext.method1(self._context, self._protocol, "data_received", data)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._report(f"Exception in callback {type(self._protocol).__qualname__}.data_received()", exc)

    def pause_reading(self) -> None:
        if self._closing or self._paused:
            return
        self._paused = True
        if self._loop._debug:
            logger.debug("%r pauses reading", self._transport)

    def resume_reading(self) -> None:
        if self._closing or not self._paused:
            return
        self._paused = False
        self._start_reading()
        if self._loop._debug:
            logger.debug("%r resumes reading", self._transport)

    def close(self) -> None:
        if not self._closing:
            self._end(None)

    def _fatal_error(self, exc: BaseException, message: str) -> None:
        if isinstance(exc, OSError) and exc.errno == errno.EIO:
            # How a terminal says that its other side is gone.
            if self._loop._debug:
                logger.debug("%r: %s", self._transport, message, exc_info=True)
        else:
            self._report(message, exc)
        self._end(exc)

    def _end(self, exc: BaseException | None) -> None:
        self._closing = True
        self._stop_reading()
        self._schedule_lost(exc)

    def _schedule_lost(self, exc: BaseException | None) -> None:
        if not self._lost:
            self._lost = True
            self._loop.call_soon(self._call_connection_lost, exc, context=self._context)

    def _call_connection_lost(self, exc: BaseException | None) -> None:
        try:
            self._protocol.connection_lost(exc)
        finally:
            self._release()

    def _release(self) -> None:
        """Close the pipe; calling it twice is harmless."""
        pipe, self._pipe = self._pipe, None
        if pipe is None:
            return
        self._stop_reading()
        self._transport = None
        self._protocol = None
        self._ops.counters.touches += 1
        pipe.close()


class Writable(Runnable):
    """Runs when a pipe that was full can be written again."""

    __slots__ = ("pipe",)

    def __init__(self, pipe: WritePipe) -> None:
        self._is_step = False
        self.pipe = pipe

    def _run(self) -> None:
        self.pipe._write_ready()


class WritePipe(FlowControl):
    """The end of a pipe that is written. `_run`: its reader is gone."""

    __slots__ = (
        "_buffer",
        "_closing",
        "_conn_lost",
        "_fd",
        "_lost",
        "_ops",
        "_pipe",
        "_poller",
        "_watching",
        "_writable",
        "_writing",
    )

    def __init__(self, loop: AnyLoop, pipe: Any, fd: int, transport: Any, protocol: Any) -> None:
        FlowControl.__init__(self, loop, transport, protocol)
        self._poller: Poller = loop._poller
        self._ops: Ops = self._poller.ops
        #: None once the connection is lost and the pipe closed.
        self._pipe: Any = pipe
        self._fd = fd
        self._buffer = bytearray()
        self._watching = False
        self._writing = False
        self._writable: Writable | None = None
        self._closing = False
        #: 1 after an error of writing; above, the writes dropped since.
        self._conn_lost = 0
        self._lost = False

    def _watch_reader(self) -> None:
        """Have the poller tell when nobody reads any more; called once, after connection_made."""
        if not self._closing:
            self._poller.watch(self._fd, READ, self)
            self._watching = True

    def _run(self) -> None:
        if not self._watching or self._lost:
            return
        if self._loop._debug:
            logger.info("%r was closed by peer", self._transport)
        self._force_close(BrokenPipeError() if self._size else None)

    def write(self, data: Any) -> None:
        if type(data) is bytes:
            chunk = data
        elif isinstance(data, (bytes, bytearray, memoryview)):
            chunk = bytes(data)
        else:
            # asyncio's is an assertion.
            raise AssertionError(repr(data))
        size = len(chunk)
        if size == 0:
            return
        if self._conn_lost or self._closing:
            if self._conn_lost >= DROPPED_WRITES_LOGGED:
                logger.warning("pipe closed by peer or os.write(pipe, data) raised exception.")
            self._conn_lost += 1
            return
        if self._size == 0:
            try:
                count = self._ops.write(self._fd, chunk)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as exc:
                self._conn_lost += 1
                self._fatal_error(exc, "Fatal write error on pipe transport")
                return
            if count == size:
                return
            if count > 0:
                chunk = chunk[count:]
            self._start_writing()
        self._buffer += chunk
        self._size = len(self._buffer)
        self._maybe_pause_protocol()

    def _start_writing(self) -> None:
        if self._writing:
            return
        writable = self._writable
        if writable is None:
            writable = self._writable = Writable(self)
        self._poller.watch(self._fd, WRITE, writable)
        self._writing = True

    def _write_ready(self) -> None:
        """The pipe takes bytes again: one call; when it took all, tell the protocol, and finish if that was asked for."""
        if self._lost or not self._writing:
            return
        try:
            count = self._ops.write(self._fd, self._buffer)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._conn_lost += 1
            self._drop_buffer()
            self._fatal_error(exc, "Fatal write error on pipe transport")
            return
        if count <= 0:
            return
        del self._buffer[:count]
        self._size = len(self._buffer)
        if self._size:
            return
        self._stop_writing()
        self._maybe_resume_protocol()  # may write more
        if self._closing and self._size == 0:
            self._stop_watching()
            self._schedule_lost(None)

    def _stop_writing(self) -> None:
        if self._writing:
            self._writing = False
            if self._poller.watched(self._fd, WRITE) is self._writable:
                self._poller.unwatch(self._fd, WRITE)

    def _stop_watching(self) -> None:
        if self._watching:
            self._watching = False
            if self._poller.watched(self._fd, READ) is self:
                self._poller.unwatch(self._fd, READ)

    def _drop_buffer(self) -> None:
        self._buffer.clear()
        self._size = 0
        self._stop_writing()

    def write_eof(self) -> None:
        """Close, as soon as what was written is sent."""
        if self._closing:
            return
        self._closing = True
        if self._size == 0:
            self._stop_watching()
            self._schedule_lost(None)

    def close(self) -> None:
        self.write_eof()

    def abort(self) -> None:
        self._force_close(None)

    def _fatal_error(self, exc: BaseException, message: str) -> None:
        if isinstance(exc, OSError):
            if self._loop._debug:
                logger.debug("%r: %s", self._transport, message, exc_info=True)
        else:
            self._report(message, exc)
        self._force_close(exc)

    def _force_close(self, exc: BaseException | None) -> None:
        if self._lost:
            return
        self._closing = True
        self._drop_buffer()
        self._stop_watching()
        self._schedule_lost(exc)

    def _schedule_lost(self, exc: BaseException | None) -> None:
        if not self._lost:
            self._lost = True
            self._loop.call_soon(self._call_connection_lost, exc, context=self._context)

    def _call_connection_lost(self, exc: BaseException | None) -> None:
        try:
            self._protocol.connection_lost(exc)
        finally:
            self._release()

    def _release(self) -> None:
        """Close the pipe; calling it twice is harmless."""
        pipe, self._pipe = self._pipe, None
        if pipe is None:
            return
        self._drop_buffer()
        self._stop_watching()
        self._writable = None
        self._transport = None
        self._protocol = None
        self._ops.counters.touches += 1
        pipe.close()
