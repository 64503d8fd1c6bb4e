"""The state machine of a datagram socket. What protocols see of it is in `udp`.

Rules for whoever edits:

- Reading. A wake-up reads up to `READ_BATCH` datagrams, each with its call of the protocol, and stops as soon as the
  socket is closing or another protocol was set by what it called. The first that is "not now" ends it.
- Writing. A datagram leaves in `sendto`, as in asyncio: waiting for the end of the callback would save nothing, as each
  is a system call of its own. Only what the kernel refuses for now waits, in `_queue`, in order, as a pair of bytes
  and address; then, and only then, the poller reports `_writable`.
- `_size` counts what waits as the running asyncio does, which from 3.13 on adds `HEADER_BYTES` for each datagram.
- An OSError of one datagram is the protocol's `error_received`, and the endpoint lives; any other error ends it.
  In asyncio an error that `error_received` or `datagram_received` raises reaches the loop's exception handler: here too.
- `_conn_lost` and `_closing` as in `stream`; the descriptor has one owner, this object, until `_release`.
"""

from __future__ import annotations

import collections
import socket
import sys
import weakref
from asyncio.log import logger
from typing import TYPE_CHECKING, Any

from weft._core.handle import Runnable
from weft._io.spi import READ, WRITE
from weft._native.incontext import InContext
from weft._net.flow import DROPPED_WRITES_LOGGED, FlowControl
from weft._net.sockops import AnyLoop, close_kept, keep_open

if TYPE_CHECKING:
    from weft._io.ops import Ops
    from weft._io.spi import Poller

#: Datagrams of one wake-up: few enough that no endpoint starves the rest, and the poller is asked for all of them once.
READ_BATCH = 16
_READ_BATCH = READ_BATCH
#: What a waiting datagram counts beside its bytes.
HEADER_BYTES = 8 if sys.version_info >= (3, 13) else 0
#: 3.14 takes off what it added; 3.13.0 took off the bytes alone, so its count grew for ever. That is not imitated.
_HEADER_BYTES = HEADER_BYTES
#: From 3.13 on an empty datagram is sent.
_SENDS_EMPTY = sys.version_info >= (3, 13)


class Datagrams(FlowControl):
    """One datagram socket on one loop. Used by the loop's thread only."""

    __slots__ = (
        "_address",
        "_closing",
        "_conn_lost",
        "_connected",
        "_family",
        "_fd",
        "_ops",
        "_poller",
        "_queue",
        "_sock",
        "_watching",
        "_writable",
        "_writing",
    )

    def __init__(
        self, loop: AnyLoop, sock: socket.socket, transport: Any, protocol: Any, address: Any, connected: bool
    ) -> None:
        FlowControl.__init__(self, loop, transport, protocol)
        self._poller: Poller = loop._poller
        self._ops: Ops = self._poller.ops
        #: None once the connection is lost and the descriptor closed.
        self._sock: socket.socket | None = sock
        self._fd = sock.fileno()
        self._family = int(sock.family)
        #: The only address to send to; None for any.
        self._address = address
        #: The kernel knows the address.
        self._connected = connected
        self._queue: collections.deque[tuple[bytes, Any]] = collections.deque()
        self._watching = False
        self._writing = False
        self._writable: DatagramsWritable | None = None
        self._closing = False
        self._conn_lost = 0
        keep_open(sock)
        self._poller.owners[self._fd] = weakref.ref(transport)

    # -------------------------------------------------------------------------------------------------- reading

    def _start_reading(self) -> None:
        if not (self._closing or self._watching):
            self._poller.watch(self._fd, READ, self)
            self._watching = True

    def _stop_reading(self) -> None:
        if self._watching:
            self._watching = False
            self._poller.unwatch(self._fd, READ)

    def _run(self) -> None:
        protocol = self._protocol
        for _ in range(_READ_BATCH):
            if self._closing or not self._watching or self._protocol is not protocol:
                return
            try:
                received = self._ops.recvfrom(self._sock, self._fd)  # type: ignore[arg-type]
            except OSError as exc:
                self._tell_error(exc)
                return
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as exc:
                self._fatal_error(exc, "Fatal read error on datagram transport")
                return
            if received is None:
                return
            try:
                InContext.method2(self._context, protocol, "datagram_received", received[0], received[1])
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as exc:
                self._report_callback("datagram_received", exc)

    def _tell_error(self, exc: OSError) -> None:
        try:
            InContext.method1(self._context, self._protocol, "error_received", exc)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as raised:
            self._report_callback("error_received", raised)

    def _report_callback(self, method: str, exc: BaseException) -> None:
        self._report(f"Exception in callback {type(self._protocol).__qualname__}.{method}()", exc)

    # -------------------------------------------------------------------------------------------------- writing

    def sendto(self, data: Any, addr: Any) -> None:
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
        if not data and not _SENDS_EMPTY:
            return
        if self._address:
            if addr is not None and addr != self._address:
                raise ValueError(f"Invalid address: must be None or {self._address}")
            addr = self._address
        if self._conn_lost and (self._address or self._sock is None):
            if self._conn_lost >= DROPPED_WRITES_LOGGED:
                logger.warning("socket.send() raised exception.")
            self._conn_lost += 1
            return
        if not self._queue:
            try:
                if self._send(data, addr):
                    return
                self._start_writing()
            except OSError as exc:
                # In the context of whoever sends, and what it raises is the sender's, as in asyncio.
                self._protocol.error_received(exc)
                return
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as exc:
                self._fatal_error(exc, "Fatal write error on datagram transport")
                return
        chunk = bytes(data)
        self._queue.append((chunk, addr))
        self._size += len(chunk) + _HEADER_BYTES
        self._maybe_pause_protocol()

    def _send(self, data: Any, addr: Any) -> bool:
        """Offer one datagram to the kernel; False for "not now"."""
        if self._connected:
            return self._ops.send_buffer(self._sock, self._fd, data) >= 0  # type: ignore[arg-type]
        return self._ops.sendto(self._sock, self._fd, self._family, data, addr) >= 0  # type: ignore[arg-type]

    def _start_writing(self) -> None:
        if self._writing:
            return
        writable = self._writable
        if writable is None:
            writable = self._writable = DatagramsWritable(self)
        self._poller.watch(self._fd, WRITE, writable)
        self._writing = True

    def _stop_writing(self) -> None:
        if self._writing:
            self._writing = False
            self._poller.unwatch(self._fd, WRITE)

    def _write_ready(self) -> None:
        """The kernel takes datagrams again: send until it does not, tell the protocol, finish what waited for the queue."""
        while self._queue and self._writing:
            pair = self._queue[0]
            try:
                if not self._send(pair[0], pair[1]):
                    break
            except OSError as exc:
                # Its datagram is gone; the rest goes on with the next report.
                self._sent(pair[0])
                self._tell_error(exc)
                if self._queue:
                    return
                break
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as exc:
                self._fatal_error(exc, "Fatal write error on datagram transport")
                return
            self._sent(pair[0])
        if self._conn_lost or not self._writing:
            return
        self._maybe_resume_protocol()  # may send more
        if not self._queue:
            self._stop_writing()
            if self._closing and not self._conn_lost:
                self._schedule_lost(None)

    def _sent(self, chunk: bytes) -> None:
        self._queue.popleft()
        self._size -= len(chunk) + _HEADER_BYTES

    # -------------------------------------------------------------------------------------------------- ending

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        self._stop_reading()
        if not self._queue:
            self._stop_writing()
            self._schedule_lost(None)

    def abort(self) -> None:
        self._force_close(None)

    def _fatal_error(self, exc: BaseException, message: str) -> None:
        # No OSError comes here: those are the protocol's.
        self._report(message, exc)
        self._force_close(exc)

    def _force_close(self, exc: BaseException | None) -> None:
        if self._conn_lost:
            return
        self._queue.clear()
        self._size = 0
        self._stop_writing()
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
        """Give the descriptor back; calling it twice is harmless."""
        sock, self._sock = self._sock, None
        if sock is None:
            return
        self._conn_lost += 1
        self._stop_reading()
        self._stop_writing()
        self._queue.clear()
        self._size = 0
        self._writable = None
        self._transport = None
        self._protocol = None
        self._poller.owners.pop(self._fd, None)
        close_kept(sock)


class DatagramsWritable(Runnable):
    """Runs when a socket that could take no datagram can again."""

    __slots__ = ("datagrams",)

    def __init__(self, datagrams: Datagrams) -> None:
        self._is_step = False
        self.datagrams = datagrams

    def _run(self) -> None:
        if self.datagrams._writing:
            self.datagrams._write_ready()
