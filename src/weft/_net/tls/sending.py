"""The writing half of a TLS connection: plaintext that waits, the records that it becomes, and when the writer pauses.

Rules for whoever edits:

- What a callback writes waits as plaintext (`outgoing`) until the callback returns, and becomes as few records and one
  write below. As in `stream`, nobody may see what asyncio would have sent already: who reports the size of the
  buffer, ends the connection or judges it calls `_encrypt` first.
- Records wait in OpenSSL's outgoing BIO only while the transport below is full (`_transport_full`).
- `_state` is the connection's (`states`), which alone writes it. Plaintext is taken in HANDSHAKE and WRAPPED, and encrypted in
  WRAPPED and FLUSHING.
- Handing something to the transport below may call the protocol above, and that may close, abort or write.

Everything here runs in the loop's thread.
"""

from __future__ import annotations

from asyncio import constants
from asyncio.log import logger
from typing import TYPE_CHECKING, Any

from weft._net.flow import DROPPED_WRITES_LOGGED, water_marks
from weft._net.outgoing import Outgoing
from weft._net.sockops import AnyLoop
from weft._net.stream import FLUSH_BYTES, Stream
from weft._net.tls.record import RECORD_BYTES, RecordLayer
from weft._net.tls.states import FLUSHING, HANDSHAKE, WRAPPED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from weft._net.tls.transport import SSLTransport

# Typed globals are their own module's only.
_HANDSHAKE = HANDSHAKE
_WRAPPED = WRAPPED
_FLUSHING = FLUSHING
_FLUSH_BYTES = FLUSH_BYTES
_RECORD_BYTES = RECORD_BYTES

#: asyncio's own.
WRITE_HIGH_BYTES: int = constants.FLOW_CONTROL_HIGH_WATER_SSL_WRITE * 1024


class Sender(Outgoing):
    """What `TLSConnection` writes with; of no use without it."""

    __slots__ = (
        "_conn_lost",
        "_face",
        "_protocol",
        "_reading",
        "_records",
        "_state",
        "_stream",
        "_transport",
        "_transport_full",
        "_write_high",
        "_write_low",
        "_writing_paused",
    )

    def __init__(self, loop: AnyLoop, records: RecordLayer, state: int) -> None:
        Outgoing.__init__(self, loop)
        self._records = records
        self._state = state
        #: None until the transport above is made, and after connection_lost: that breaks the cycle.
        self._face: SSLTransport | None = None
        self._protocol: Any = None
        #: The transport below; None before connection_made and after connection_lost.
        self._transport: Any = None
        #: The stream of that transport, if it is one of ours: calls go straight to it.
        self._stream: Stream | None = None
        #: The transport below has called pause_writing.
        self._transport_full = False
        #: Counts the writes dropped after the end.
        self._conn_lost = 0
        #: The protocol is given what has arrived, further up the stack: what it writes is sent when that is over.
        self._reading = False
        self._writing_paused = False
        self._write_high: Any = WRITE_HIGH_BYTES
        self._write_low: Any = WRITE_HIGH_BYTES // 4

    def _fatal_error(self, exc: BaseException, message: str) -> None:
        """End the connection: the other half's part."""
        raise NotImplementedError(f"{type(self).__name__} has no _fatal_error")

    def write(self, data: Any) -> None:
        if type(data) is bytes:
            chunk = data
        elif isinstance(data, (bytes, bytearray, memoryview)):
            # Its owner may change it before this callback returns.
            chunk = bytes(data)
        else:
            raise TypeError(f"data: expecting a bytes-like instance, got {type(data).__name__}")
        if len(chunk) == 0:
            return
        if self._state != _WRAPPED and self._state != _HANDSHAKE:
            self._count_dropped_write()
            return
        self._hold(chunk)
        self._judge_buffer()

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        if self._state != _WRAPPED and self._state != _HANDSHAKE:
            self._count_dropped_write()
            return
        # As `Stream.writelines`: all or nothing, and all before the protocol is told anything.
        chunks = [data if type(data) is bytes else bytes(memoryview(data)) for data in list_of_data]
        for chunk in chunks:
            if len(chunk) > 0:
                self._hold(chunk)
        if self._size > 0:
            self._judge_buffer()

    def _judge_buffer(self) -> None:
        """Something was added to what waits: encrypt it now, or see to it that it will be."""
        if self._state != _WRAPPED:
            return  # sent when the handshake is done
        if self._size > _FLUSH_BYTES or (not self._reading and not self._loop._mark_dirty(self)):
            self._encrypt_guarded()

    def _count_dropped_write(self) -> None:
        if self._conn_lost >= DROPPED_WRITES_LOGGED:
            logger.warning("SSL connection is closed")
        self._conn_lost += 1

    def _flush(self) -> None:
        if self._size > 0:
            self._encrypt_guarded()

    def _encrypt_guarded(self) -> None:
        try:
            self._encrypt()
        except Exception as exc:
            self._fatal_error(exc, "Fatal error on SSL protocol")

    def _encrypt(self) -> None:
        """Make records of what is pending and hand them to the transport below."""
        if self._size > 0 and (self._state == _WRAPPED or self._state == _FLUSHING):
            # Taken out first: the transport below may call back.
            data = self._take_held()
            if len(data) <= _RECORD_BYTES:
                sent = self._records.send(data)
            else:
                sent = self._encrypt_many(data)
            if sent < len(data):
                # OpenSSL wants to hear from the peer first; `_read` comes here again.
                self._put_back(data if sent <= 0 else data[sent:])
        self._send_records()

    def _encrypt_many(self, data: bytes) -> int:
        """Several records. Their ciphertext is taken out as it comes, so that the BIO, which never gives memory back, stays
        small. The bytes of `data` that were encrypted."""
        records = self._records
        view = memoryview(data)
        size = len(data)
        sent = 0
        ready: list[bytes] = []
        while sent < size:
            count = records.send(view[sent : sent + _RECORD_BYTES])
            if count < 0:
                break
            sent += count
            if self._stream is not None and not self._transport_full:
                ready.append(records.take())
        if ready:
            self._stream.writelines(ready)  # type: ignore[union-attr]
        return sent

    def _send_records(self) -> None:
        if self._transport_full or self._transport is None:
            self._control_writing(self._records.outgoing_size())
            return
        data = self._records.take()
        if len(data) > 0:
            if self._stream is not None:
                self._stream.write(data)
            else:
                self._transport.write(data)
        self._control_writing(0)

    def _drop_chunks(self) -> None:
        self._take_held()
        self._records.take()

    def _buffer_size(self) -> int:
        if self._state == _WRAPPED:
            self._encrypt_guarded()
        return self._records.outgoing_size() + self._size

    def _set_write_limits(self, high: Any, low: Any) -> None:
        self._write_high, self._write_low = water_marks(high, low, WRITE_HIGH_BYTES)
        self._buffer_size()
        self._control_writing(self._records.outgoing_size())

    def _control_writing(self, outgoing_bytes: int) -> None:
        """Judge what waits here: as plaintext, and as records."""
        size = outgoing_bytes + self._size
        if not self._writing_paused and size >= self._write_high and size > 0:
            self._writing_paused = True
            self._tell_flow("pause_writing")
        elif self._writing_paused and size <= self._write_low:
            self._writing_paused = False
            self._tell_flow("resume_writing")

    def _tell_flow(self, method: str) -> None:
        protocol = self._protocol
        if protocol is None:
            return
        try:
            if method == "pause_writing":
                protocol.pause_writing()
            else:
                protocol.resume_writing()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:
            self._loop.call_exception_handler(
                {
                    "message": f"protocol.{method}() failed",
                    "exception": exc,
                    "transport": self._face,
                    "protocol": self,
                }
            )
