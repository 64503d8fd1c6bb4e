"""The state machine of a stream socket: reading, the write buffer, flow control, half-close, loss of the connection.

TCP and Unix connections share it; `transport.StreamTransport` is the face that protocols see. Rules for whoever edits:

- Reading. `_watching` says whether the poller reports this fd as readable. `pause_reading` only sets `_paused`: the fd
  is unwatched when data arrives while paused, so a quick pause and resume costs no system call. After the peer's end of
  stream (`_read_eof`) the fd is never watched for reading again.
  What little arrives is copied out of the loop's one buffer; while much arrives (`_bulk_bytes`), each read has memory of its
  own, of about the right size, and there is no copy.
- Writing. What is written waits (`outgoing`) until the running callback returns; then `_flush` sends it in one call. Three
  states:
    clean    `_size == 0`
    pending  `_size > 0`, `_writing` false: this callback's data; `_flush` will come
    blocked  `_size > 0`, `_writing` true: the kernel is full; `_write_ready` goes on when it is not
  `_first` and `_offset` say how much of the list is sent; of a chunk that is the only one, nothing is.
  Nobody may see unsent data that asyncio would have sent: everything that reports or judges the size of the buffer,
  ends the stream or drops the buffer calls `_flush_now` first. So `pause_writing` is called for the same bytes as in
  asyncio.
- Ending. `_conn_lost` counts: 0 while `connection_lost` is not scheduled; the first step to 1 is taken exactly once, by
  `_schedule_lost`; later steps count the writes dropped since. `_closing` is set when no more is read.
- The descriptor has one owner, this object, from `__init__` to `_release`. It is unwatched before it is closed, and
  closed once.
- A runnable may still be in the ready list after it was unwatched: `_run` and `_write_ready` look at the state first.

Protocol methods called from here run in `_context`, one for the whole connection, as from CPython 3.15 on (before,
asyncio used copies of the context in which each reader was registered).

Why not send in `write`, as asyncio does: a response of head and body, or sixteen small writes, are then as many system
calls, and the system call is most of the cost of a message.
"""

from __future__ import annotations

import asyncio
import contextvars
import socket
import sys
import weakref
from asyncio.log import logger
from typing import TYPE_CHECKING, Any

from weft._core.handle import Flushable, Runnable
from weft._io.spi import READ, WRITE
from weft._native.incontext import InContext
from weft._net.flow import DROPPED_WRITES_LOGGED, HIGH_WATER_BYTES, water_marks
from weft._net.outgoing import Outgoing
from weft._net.sockops import AnyLoop, close_kept, keep_open

if TYPE_CHECKING:
    from collections.abc import Iterable

    from weft._io.ops import Ops
    from weft._io.spi import Poller
    from weft._net.server import Server
    from weft._net.transport import StreamTransport

#: A read of so much says that more of the kind will follow: it is worth the memory to spare them the copy.
_BULK_BYTES = 16 * 1024
_BULK_FIRST_BYTES = 64 * 1024
_BULK_MOST_BYTES = 256 * 1024
#: More than this is not held back until the callback returns: memory, and a kernel that could already be sending.
FLUSH_BYTES = 64 * 1024
#: As many chunks as one system call takes.
_FLUSH_CHUNKS = 1024
#: What `write` takes, in asyncio's words, which changed in 3.14.
ACCEPTED_DATA = "a bytes, bytearray, or memoryview object" if sys.version_info >= (3, 14) else "a bytes-like object"


#: How `writelines` calls itself when it refuses: before 3.12 it was a `write` of the joined data.
_WRITELINES = "writelines" if sys.version_info >= (3, 12) else "write"


class WriteReady(Runnable):
    """Runs when a stream whose kernel buffer was full can be written again."""

    __slots__ = ("stream",)

    def __init__(self, stream: Stream) -> None:
        self._is_step = False
        self.stream = stream

    def __repr__(self) -> str:
        return f"<writing {self.stream!r}>"

    def _run(self) -> None:
        self.stream._write_ready()


class Stream(Outgoing):
    """One connected stream socket on one loop. Used by the loop's thread only."""

    __slots__ = (
        "_barred",
        "_buffered",
        "_bulk_bytes",
        "_closing",
        "_conn_lost",
        "_context",
        "_eof",
        "_fd",
        "_file_waiter",
        "_first",
        "_flush_above",
        "_high",
        "_low",
        "_offset",
        "_ops",
        "_paused",
        "_poller",
        "_protocol",
        "_protocol_paused",
        "_read_eof",
        "_server",
        "_sock",
        "_transport",
        "_watching",
        "_write_runnable",
        "_writing",
    )

    def __init__(
        self,
        loop: AnyLoop,
        sock: socket.socket,
        transport: StreamTransport,
        protocol: Any,
        server: Server | None,
        context: contextvars.Context | None,
    ) -> None:
        Outgoing.__init__(self, loop)
        self._poller: Poller = loop._poller
        self._ops: Ops = self._poller.ops
        #: None once the connection is lost and the descriptor closed.
        self._sock: socket.socket | None = sock
        self._fd = sock.fileno()
        #: None once the connection is lost: this breaks the cycle of stream and transport.
        self._transport: StreamTransport | None = transport
        self._protocol: Any = None
        self._buffered = False
        self._server = server
        self._context = contextvars.copy_context() if context is None else context
        self._watching = False
        self._paused = False
        self._read_eof = False
        #: How much the next read expects, into memory of its own; 0 means little, by way of the loop's buffer.
        self._bulk_bytes = 0
        #: Index of the first chunk that is not wholly sent; those before it are spent.
        self._first = 0
        #: Bytes of chunks[first] that are sent.
        self._offset = 0
        self._writing = False
        self._write_runnable: WriteReady | None = None
        self._eof = False
        #: Nothing may be written: after `write_eof`, and while a file is being sent.
        self._barred = False
        #: What a sendfile waits for: first for the buffer to be empty, then for the file to be sent. None without one.
        self._file_waiter: Any = None
        self._closing = False
        self._conn_lost = 0
        self._protocol_paused = False
        #: Marks of the write buffer, as given: any number will do.
        self._high = HIGH_WATER_BYTES
        self._low = HIGH_WATER_BYTES // 4
        self._flush_above = FLUSH_BYTES
        self._set_protocol(protocol)
        keep_open(sock)
        self._poller.owners[self._fd] = weakref.ref(transport)
        if server is not None:
            server._attach(transport)

    def __repr__(self) -> str:
        """What a report of a slow callback calls it: only the protocol tells whose code it was."""
        return f"<Stream fd={self._fd} of {self._protocol!r}>"

    def _set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol
        self._buffered = isinstance(protocol, asyncio.BufferedProtocol)

    # -------------------------------------------------------------------------------------------------- reading

    def _start_reading(self) -> None:
        """Let the poller report this fd; called once, after connection_made, and by resume_reading."""
        if not (self._closing or self._paused or self._watching or self._read_eof):
            self._poller.watch(self._fd, READ, self)
            self._watching = True

    def _stop_reading(self) -> None:
        if self._watching:
            self._watching = False
            self._poller.unwatch(self._fd, READ)

    def _run(self) -> None:
        """The descriptor is readable: one read and one call of the protocol, so that no connection starves another."""
        if not self._watching:
            return
        if self._paused:
            self._stop_reading()
        elif self._buffered:
            self._read_into_protocol()
        else:
            self._read()

    def _read(self) -> None:
        try:
            data = self._ops.recv(self._sock, self._fd, self._bulk_bytes)  # type: ignore[arg-type]
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._fatal_error(exc, "Fatal read error on socket transport")
            return
        if data is None:
            return
        size = len(data)
        if size == 0:
            self._received_eof()
            return
        if size < _BULK_BYTES:
            self._bulk_bytes = 0
        elif size >= self._bulk_bytes:
            self._expect_more_than(size)
        try:
            InContext.method1(self._context, self._protocol, "data_received", data)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._protocol_failed(exc, "data_received")

    def _expect_more_than(self, size: int) -> None:
        """A read gave as much as it could: let the next one be larger."""
        self._bulk_bytes = _BULK_FIRST_BYTES
        while self._bulk_bytes <= size and self._bulk_bytes < _BULK_MOST_BYTES:
            self._bulk_bytes *= 2

    def _read_into_protocol(self) -> None:
        try:
            target = InContext.method1(self._context, self._protocol, "get_buffer", -1)
            if not len(target):
                raise RuntimeError("get_buffer() returned an empty buffer")
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._protocol_failed(exc, "get_buffer")
            return
        try:
            count = self._ops.recv_into(self._sock, self._fd, target)  # type: ignore[arg-type]
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._fatal_error(exc, "Fatal read error on socket transport")
            return
        if count < 0:
            return
        if count == 0:
            self._received_eof()
            return
        try:
            InContext.method1(self._context, self._protocol, "buffer_updated", count)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._protocol_failed(exc, "buffer_updated")

    def _received_eof(self) -> None:
        if self._loop._debug:
            logger.debug("%r received EOF", self._transport)
        self._read_eof = True
        try:
            keep_open = InContext.method0(self._context, self._protocol, "eof_received")
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._protocol_failed(exc, "eof_received")
            return
        if keep_open:
            # The protocol may go on writing; what it can no longer do is read.
            self._stop_reading()
        else:
            self.close()

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

    # -------------------------------------------------------------------------------------------------- writing

    def write(self, data: Any) -> None:
        if type(data) is bytes:
            chunk = data
        elif isinstance(data, (bytes, bytearray, memoryview)):
            # Not asyncio's zero-copy: the owner may change a bytearray before it is sent.
            chunk = bytes(data)
        else:
            raise TypeError(f"data argument must be {ACCEPTED_DATA}, not {type(data).__name__!r}")
        if self._barred:
            self._refuse("write")
        if len(chunk) == 0:
            return
        if self._conn_lost:
            self._count_dropped_write()
            return
        self._hold(chunk)
        self._judge_buffer()

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        if self._barred:
            self._refuse("writelines")
        if self._conn_lost:
            self._count_dropped_write()
            return
        # All converted before any is taken: a wrong item in the middle writes nothing. All taken before anything is
        # judged: what `pause_writing` writes comes after the last of them.
        chunks = [data if type(data) is bytes else bytes(memoryview(data)) for data in list_of_data]
        for chunk in chunks:
            if len(chunk) > 0:
                self._hold(chunk)
        if self._size > 0:
            self._judge_buffer()

    def _refuse(self, method: str) -> None:
        if method != "write":
            method = _WRITELINES
        if self._eof:
            raise RuntimeError(f"Cannot call {method}() after write_eof()")
        raise RuntimeError(f"unable to {method}; sendfile is in progress")

    def _judge_buffer(self) -> None:
        """Something was added to the buffer: send it now, or see to it that it will be."""
        if self._writing:
            if self._size > self._high:
                self._maybe_pause_protocol()
        elif self._size > self._flush_above or len(self._chunks) >= _FLUSH_CHUNKS:
            self._flush_now()
            self._maybe_pause_protocol()
        elif not self._loop._mark_dirty(self):
            # No callback of the loop is running that could return: asyncio would have sent by now.
            self._flush_now()

    def _count_dropped_write(self) -> None:
        if self._conn_lost >= DROPPED_WRITES_LOGGED:
            logger.warning("socket.send() raised exception.")
        self._conn_lost += 1

    def _flush(self) -> None:
        self._flush_now()

    def _flush_now(self) -> None:
        """Offer the kernel what is pending, once. Afterwards the stream is clean, blocked or lost."""
        if self._size == 0 or self._writing or self._conn_lost:
            return
        try:
            if self._only is not None:
                count = self._ops.send_one(self._sock, self._fd, self._only)  # type: ignore[arg-type]
                if count == self._size:
                    self._only = None
                    self._size = 0
                    return
                self._list_only()
            else:
                count = self._ops.send(self._sock, self._fd, self._chunks, self._first, self._offset)  # type: ignore[arg-type]
            if count > 0:
                self._taken(count)
            if self._size > 0:
                runnable = self._write_runnable
                if runnable is None:
                    runnable = self._write_runnable = WriteReady(self)
                self._poller.watch(self._fd, WRITE, runnable)
                self._writing = True
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._drop_chunks()
            self._fatal_error(exc, "Fatal write error on socket transport")

    def _write_ready(self) -> None:
        """The kernel takes bytes again: one call, then tell the protocol, then finish what waited for the buffer."""
        if self._conn_lost or not self._writing:
            return
        # What `resume_writing` wrote when everything was sent.
        self._list_only()
        try:
            count = self._ops.send(self._sock, self._fd, self._chunks, self._first, self._offset)  # type: ignore[arg-type]
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._stop_writing()
            self._drop_chunks()
            self._fatal_error(exc, "Fatal write error on socket transport")
            self._fail_sendfile(exc)
            return
        if count <= 0:
            return
        self._taken(count)
        if self._protocol_paused and self._size <= self._low:
            self._protocol_paused = False
            self._tell_flow("resume_writing")  # may write more
        if self._size == 0 and self._writing:
            self._stop_writing()
            if self._file_waiter is not None and not self._closing and not self._file_waiter.done():
                self._file_waiter.set_result(None)
            if self._closing:
                if not self._conn_lost:
                    self._schedule_lost(None)
            elif self._eof:
                self._shutdown_writing()

    def _taken(self, count: int) -> None:
        """The kernel took `count` bytes."""
        self._size -= count
        if self._size == 0:
            self._drop_chunks()
            return
        chunks = self._chunks
        first = self._first
        count += self._offset
        while count >= len(chunks[first]):
            count -= len(chunks[first])
            chunks[first] = b""
            first += 1
        self._offset = count
        if first > 64 and first * 2 > len(chunks):
            # Spent places are given back when they are the most: each chunk moves at most once.
            del chunks[:first]
            first = 0
        self._first = first

    def _drop_chunks(self) -> None:
        self._only = None
        self._chunks.clear()
        self._first = 0
        self._offset = 0
        self._size = 0

    def _stop_writing(self) -> None:
        if self._writing:
            self._writing = False
            self._poller.unwatch(self._fd, WRITE)

    def write_eof(self) -> None:
        if self._closing or self._eof:
            return
        self._flush_now()
        if self._closing:
            return  # the flush met the end of the connection
        self._eof = True
        self._barred = True
        if self._size == 0:
            self._ops.shutdown(self._sock)  # type: ignore[arg-type]

    def _shutdown_writing(self) -> None:
        try:
            self._ops.shutdown(self._sock)  # type: ignore[arg-type]
        except OSError as exc:
            self._fatal_error(exc, "Fatal write error on socket transport")

    # ------------------------------------------------------------------------------------------------- sendfile

    def _begin_sendfile(self) -> Any:
        """Bar writes until `_end_sendfile`; a future that is done when all that was written before has left."""
        if self._file_waiter is not None:
            raise RuntimeError("unable to send a file; sendfile is in progress")
        self._flush_now()
        if self._closing:
            raise RuntimeError("Transport is closing")
        self._barred = True
        self._file_waiter = self._loop.create_future()
        if self._size == 0:
            self._file_waiter.set_result(None)
        return self._file_waiter

    def _sendfile_waits(self) -> Any:
        """The buffer is empty: a future for whoever sends the file to end. Losing the connection ends it, too."""
        self._file_waiter = self._loop.create_future()
        return self._file_waiter

    def _end_sendfile(self) -> None:
        self._file_waiter = None
        self._barred = self._eof

    def _fail_sendfile(self, exc: BaseException) -> None:
        if self._file_waiter is not None and not self._file_waiter.done():
            self._file_waiter.set_exception(exc)

    # --------------------------------------------------------------------------------------------- flow control

    def get_write_buffer_size(self) -> int:
        self._flush_now()
        return self._size

    def set_write_buffer_limits(self, high: int | None, low: int | None) -> None:
        self._high, self._low = water_marks(high, low, HIGH_WATER_BYTES)
        self._flush_above = int(min(FLUSH_BYTES, self._high))
        self._flush_now()
        self._maybe_pause_protocol()

    def _maybe_pause_protocol(self) -> None:
        if self._size > self._high and not self._protocol_paused:
            self._protocol_paused = True
            self._tell_flow("pause_writing")

    def _tell_flow(self, method: str) -> None:
        protocol = self._protocol
        try:
            if method == "pause_writing":
                # In the context of whoever wrote, as in asyncio: the connection's own may be entered already.
                protocol.pause_writing()
            else:
                InContext.method0(self._context, protocol, method)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._loop.call_exception_handler(
                {
                    "message": f"protocol.{method}() failed",
                    "exception": exc,
                    "transport": self._transport,
                    "protocol": protocol,
                }
            )

    # -------------------------------------------------------------------------------------------------- ending

    def _settle(self) -> None:
        """Offer the kernel what this callback wrote, here and in a TLS layer above: asyncio would have, in `write`."""
        if isinstance(self._protocol, Flushable):
            above: Flushable = self._protocol
            above._flush()
        self._flush_now()

    def close(self) -> None:
        if self._closing:
            return
        self._settle()
        if self._closing:
            return  # the flush met the end of the connection
        self._closing = True
        self._stop_reading()
        if self._size == 0:
            self._stop_writing()
            self._schedule_lost(None)

    def abort(self) -> None:
        self._force_close(None)

    def _protocol_failed(self, exc: BaseException, method: str) -> None:
        self._settle()
        self._fatal_error(exc, f"Fatal error: protocol.{method}() call failed.")

    def _fatal_error(self, exc: BaseException, message: str) -> None:
        if isinstance(exc, OSError):
            if self._loop._debug:
                logger.debug("%r: %s", self._transport, message, exc_info=True)
        else:
            self._loop.call_exception_handler(
                {
                    "message": message,
                    "exception": exc,
                    "transport": self._transport,
                    "protocol": self._protocol,
                }
            )
        self._lose(exc)

    def _force_close(self, exc: BaseException | None) -> None:
        self._settle()
        self._lose(exc)

    def _lose(self, exc: BaseException | None) -> None:
        """Drop what is not sent, and the connection."""
        if self._conn_lost:
            return
        self._drop_chunks()
        self._stop_writing()
        if not self._closing:
            self._closing = True
            self._stop_reading()
        self._schedule_lost(exc)

    def _schedule_lost(self, exc: BaseException | None) -> None:
        self._conn_lost += 1
        self._loop.call_soon(self._call_connection_lost, exc, context=self._context)

    def _call_connection_lost(self, exc: BaseException | None) -> None:
        try:
            self._protocol.connection_lost(exc)
        finally:
            self._release()

    def _release(self) -> None:
        """Give the descriptor back. The last thing that happens to a stream; calling it twice is harmless."""
        sock, self._sock = self._sock, None
        if sock is None:
            return
        transport, self._transport = self._transport, None
        server, self._server = self._server, None
        self._protocol = None
        self._write_runnable = None
        self._stop_reading()
        self._stop_writing()
        if self._file_waiter is not None:
            # The sender of the file watches this descriptor itself.
            self._poller.unwatch(self._fd, WRITE)
            self._fail_sendfile(ConnectionError("Connection is closed by peer"))
        self._poller.owners.pop(self._fd, None)
        self._ops.counters.touches += 1
        close_kept(sock)
        if server is not None:
            server._detach(transport)
