"""The state machine of a TLS connection: the protocol of the transport below, the engine of the `SSLTransport` above.

Rules for whoever edits:

- `_state` goes UNWRAPPED → HANDSHAKE → WRAPPED → FLUSHING → SHUTDOWN, and to UNWRAPPED from anywhere. Only in WRAPPED and
  FLUSHING is plaintext read or sent. FLUSHING: the end has begun and what has arrived is still delivered, for as long as
  the protocol takes if it was the peer's end; SHUTDOWN: our close_notify is said, the peer's is awaited.
- `_app` is what the protocol above has seen: connection_made, eof_received and connection_lost at most once each, in
  that order, and connection_lost only after connection_made.
- Writing is `sending`'s part.
- Any call of the protocol above may close, abort or write: look at `_state` again after it.
- The end is bounded: a timer runs from the first step of the shutdown until connection_lost. In SHUTDOWN what the peer
  still sends is read and thrown away: a socket that is closed with data unread resets the connection, and what the kernel
  has not sent yet is lost.

Everything here runs in the loop's thread.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from asyncio import constants
from asyncio.log import logger
from typing import TYPE_CHECKING, Any

from weft._core.handle import Flushable
from weft._net.flow import water_marks
from weft._net.sockops import AnyLoop
from weft._net.stream import Stream
from weft._net.tls.record import RecordLayer
from weft._net.tls.sending import Sender
from weft._net.tls.states import FLUSHING, HANDSHAKE, NAMES, SHUTDOWN, UNWRAPPED, WRAPPED

if TYPE_CHECKING:
    import contextvars

# Typed globals are their own module's only.
_UNWRAPPED = UNWRAPPED
_HANDSHAKE = HANDSHAKE
_WRAPPED = WRAPPED
_FLUSHING = FLUSHING
_SHUTDOWN = SHUTDOWN

_APP_INIT = 0
_APP_MADE = 1
_APP_EOF = 2
_APP_LOST = 3

#: asyncio's own, in seconds and KiB. Typeshed leaves some out.
_CONSTANTS: Any = constants
HANDSHAKE_TIMEOUT_S: float = _CONSTANTS.SSL_HANDSHAKE_TIMEOUT
SHUTDOWN_TIMEOUT_S: float = _CONSTANTS.SSL_SHUTDOWN_TIMEOUT
READ_HIGH_BYTES: int = _CONSTANTS.FLOW_CONTROL_HIGH_WATER_SSL_READ * 1024


class TLSConnection(Sender):
    """One TLS connection over any asyncio-like transport, whose protocol it is."""

    __slots__ = (
        "_app",
        "_app_reading_paused",
        "_buffered",
        "_context",
        "_end_error",
        "_eof",
        "_forgotten",
        "_handshake_timeout_s",
        "_handshaken",
        "_peercert",
        "_read_high",
        "_read_low",
        "_rest_waits",
        "_shutdown_timeout_s",
        "_sslcontext",
        "_timer",
        "_transport_paused",
        "_waiter",
    )

    def __init__(
        self,
        loop: AnyLoop,
        protocol: Any,
        sslcontext: Any,
        waiter: asyncio.Future[None] | None,
        server_side: bool,
        server_hostname: str | None,
        handshake_timeout_s: float,
        shutdown_timeout_s: float,
        call_connection_made: bool,
    ) -> None:
        Sender.__init__(self, loop, RecordLayer(sslcontext, server_side, server_hostname), _UNWRAPPED)
        self._sslcontext = sslcontext
        self._handshake_timeout_s = handshake_timeout_s
        self._shutdown_timeout_s = shutdown_timeout_s
        self._waiter = waiter
        #: Where callbacks that this object schedules run; None is the context of whoever causes them.
        self._context: contextvars.Context | None = None
        self._app = _APP_INIT if call_connection_made else _APP_MADE
        self._buffered = False
        self._handshaken = False
        #: Kept, because OpenSSL tells nothing of it after a fatal error and during a renegotiation.
        self._peercert: Any = None
        #: Nobody will ask what the connection was like: its context goes with it.
        self._forgotten = False
        #: The transport below has no more to read.
        self._eof = False
        #: What went wrong in the shutdown: `connection_lost` gets it when the transport below has sent all it holds.
        self._end_error: Exception | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._app_reading_paused = False
        #: A BufferedProtocol's buffer was too small for what had arrived.
        self._rest_waits = False
        #: We have paused the reading of the transport below.
        self._transport_paused = False
        self._read_high: Any = READ_HIGH_BYTES
        self._read_low: Any = READ_HIGH_BYTES // 4
        self._set_protocol(protocol)

    def __repr__(self) -> str:
        return f"<{self.__class__.__name__} {NAMES[self._state]} over {self._transport!r}>"

    def _set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol
        self._buffered = isinstance(protocol, asyncio.BufferedProtocol)
        self._rest_waits = False

    # ------------------------------------------------------------------------- called by the transport below

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        stream = getattr(transport, "_stream", None)
        if isinstance(stream, Stream):
            self._stream = stream
            if self._context is None:
                self._context = stream._context
        if self._loop._debug:
            logger.debug("%r starts SSL handshake", self)
        self._state = _HANDSHAKE
        if self._face is not None and self._face._closed:
            # Given up before it began.
            self._abort(None)
            return
        self._timer = self._loop.call_later(
            self._handshake_timeout_s, self._check_handshake_timeout, context=self._context
        )
        self._shake_hands()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._drop_chunks()
        self._conn_lost += 1
        face, self._face = self._face, None
        if face is not None:
            face._closed = True
        if exc is None:
            exc = self._end_error
        self._end_error = None  # its traceback holds this object
        in_handshake = not self._handshaken
        if self._state != _HANDSHAKE and (self._app == _APP_MADE or self._app == _APP_EOF):
            self._app = _APP_LOST
            self._loop.call_soon(self._protocol.connection_lost, exc, context=self._context)
        self._state = _UNWRAPPED
        self._transport = None
        self._stream = None
        self._protocol = None
        self._cancel_timer()
        if exc is None and in_handshake:
            # asyncio tells the waiter that all is well.
            exc = ConnectionAbortedError("the connection was closed during the SSL handshake")
        self._wake_waiter(exc)
        if self._forgotten:
            self._forget()

    def _forget(self) -> None:
        """Closed twice: once the connection is lost, let go of the context, even if the transport is kept (as asyncio)."""
        self._forgotten = True
        if self._transport is None and self._conn_lost:
            self._sslcontext = self._peercert = None
            self._handshaken = False
            self._records.release()

    def data_received(self, data: Any) -> None:
        if type(data) is not bytes:
            data = bytes(data)
        self._records.feed(data)
        state = self._state
        if state == _WRAPPED:
            self._read()
        elif state == _HANDSHAKE:
            self._shake_hands()
        elif state == _FLUSHING:
            self._finish_reading()
        elif state == _SHUTDOWN:
            self._shake_off()

    def eof_received(self) -> bool | None:
        self._eof = True
        try:
            if self._loop._debug:
                logger.debug("%r received EOF", self)
            state = self._state
            if state == _HANDSHAKE:
                self._handshake_failed(ConnectionResetError())
            elif state == _WRAPPED:
                self._state = _FLUSHING
                if not self._app_reading_paused:
                    self._finish_reading()
                # Still so: the protocol has paused, or a small buffer. The rest is delivered when it reads on.
                return self._state == _FLUSHING
            elif state == _FLUSHING:
                self._encrypt()
                self._state = _SHUTDOWN
                self._shake_off()
            elif state == _SHUTDOWN:
                self._shake_off()
        except Exception:
            if self._transport is not None:
                self._transport.close()
            raise
        return None

    def pause_writing(self) -> None:
        self._transport_full = True

    def resume_writing(self) -> None:
        self._transport_full = False
        self._send_records()

    # ------------------------------------------------------------------------------------------------ handshake

    def _check_handshake_timeout(self) -> None:
        if self._state == _HANDSHAKE:
            exc = ConnectionAbortedError(
                f"SSL handshake is taking longer than {self._handshake_timeout_s} seconds: aborting the connection"
            )
            self._fatal_error(exc, "Fatal error on transport")
            # Not left to connection_lost: of a transport that was lost before, it came before.
            self._wake_waiter(exc)

    def _shake_hands(self) -> None:
        try:
            done = self._records.handshake()
        except ssl.SSLError as exc:
            self._handshake_failed(exc)
            return
        if done:
            self._handshake_done()
        else:
            self._send_records()

    def _handshake_failed(self, exc: Exception) -> None:
        self._cancel_timer()
        self._state = _UNWRAPPED
        if isinstance(exc, ssl.CertificateError):
            self._fatal_error(exc, "SSL handshake failed on verifying the certificate")
        else:
            self._fatal_error(exc, "SSL handshake failed")
        self._wake_waiter(exc)

    def _handshake_done(self) -> None:
        try:
            self._peercert = self._records.ssl_object.getpeercert()
        except Exception as exc:
            self._handshake_failed(exc)
            return
        if self._loop._debug and self._timer is not None:
            started_s = self._timer.when() - self._handshake_timeout_s
            logger.debug("%r: SSL handshake took %.1f ms", self, (self._loop.time() - started_s) * 1e3)
        self._cancel_timer()
        self._state = _WRAPPED
        self._handshaken = True
        if self._app == _APP_INIT:
            self._app = _APP_MADE
            self._protocol.connection_made(self._face)
        self._wake_waiter(None)
        self._read()
        if self._app_reading_paused:
            # The last word of the handshake: the peer waits for it, though nothing is read here.
            self._send_records()

    def _wake_waiter(self, exc: BaseException | None) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is None or waiter.done():
            return
        if exc is not None:
            waiter.set_exception(exc)
        else:
            waiter.set_result(None)

    def _cancel_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    # -------------------------------------------------------------------------------------------------- reading

    def _read(self) -> None:
        """Give the protocol what has arrived, then send what it wrote."""
        if self._state != _WRAPPED and self._state != _FLUSHING:
            return
        try:
            if not self._app_reading_paused:
                reading = self._reading
                self._reading = True
                try:
                    if self._buffered:
                        self._read_into_protocol()
                    else:
                        data = self._records.receive()
                        if len(data) > 0:
                            self._protocol.data_received(data)
                finally:
                    self._reading = reading
                if self._records.ended:
                    self._tell_eof()
                    self._start_shutdown()
                self._encrypt()
            self._control_transport_reading()
        except Exception as exc:
            if self._size > 0 and not isinstance(exc, ssl.SSLError):
                self._encrypt_guarded()  # written before the protocol failed
            self._fatal_error(exc, "Fatal error on SSL protocol")

    def _read_into_protocol(self) -> None:
        target = self._protocol.get_buffer(self._records.incoming_size())
        size = len(target)
        if size == 0:
            raise RuntimeError("get_buffer() returned an empty buffer")
        count = self._records.receive_into(memoryview(target))
        self._rest_waits = count == size and not self._records.ended
        if self._rest_waits:
            # There may be more; the loop's other callbacks come first.
            self._loop.call_soon(self._go_on_reading, context=self._context)
        if count > 0:
            self._protocol.buffer_updated(count)

    def _tell_eof(self) -> None:
        if self._app != _APP_MADE:
            return
        self._app = _APP_EOF
        try:
            if self._protocol.eof_received():
                logger.warning("returning true from eof_received() has no effect when using ssl")
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:
            self._encrypt_guarded()
            self._fatal_error(exc, "Error calling eof_received()")

    def _pause_reading(self) -> None:
        self._app_reading_paused = True

    def _resume_reading(self) -> None:
        if self._app_reading_paused:
            self._app_reading_paused = False
            self._loop.call_soon(self._go_on_reading, context=self._context)

    def _go_on_reading(self) -> None:
        state = self._state
        if state == _WRAPPED:
            self._read()
        elif state == _FLUSHING:
            self._finish_reading()
        elif state == _SHUTDOWN:
            self._shake_off()

    def _control_transport_reading(self) -> None:
        transport = self._transport
        if transport is None:
            return
        if not (self._app_reading_paused or self._transport_paused or self._buffered):
            return  # everything was read
        size = self._records.incoming_size()
        if not self._transport_paused and size >= self._read_high and size > 0:
            self._transport_paused = True
            transport.pause_reading()
        elif size <= self._read_low and self._transport_paused:
            self._transport_paused = False
            transport.resume_reading()

    def _set_read_limits(self, high: Any, low: Any) -> None:
        self._read_high, self._read_low = water_marks(high, low, READ_HIGH_BYTES)
        self._control_transport_reading()

    # -------------------------------------------------------------------------------------------------- ending

    def _flush_above(self) -> None:
        """As `Stream._settle`: another TLS connection above this one may hold what its callback wrote."""
        if isinstance(self._protocol, Flushable):
            above: Flushable = self._protocol
            above._flush()

    def _start_shutdown(self) -> None:
        if self._state == _HANDSHAKE:
            self._mark_closed()
            self._abort(None)
        elif self._state == _WRAPPED:
            self._mark_closed()
            self._flush_above()
            self._encrypt_guarded()
            if self._state != _WRAPPED:
                return  # the protocol aborted when it was told to pause
            self._state = _FLUSHING
            self._bound_shutdown()
            self._finish_reading()
        elif self._state == _FLUSHING and (self._app_reading_paused or self._rest_waits) and not self._reading:
            # The peer has gone, and what it sent waits for a protocol that will not read it any more.
            self._mark_closed()
            self._finish_reading()

    def _mark_closed(self) -> None:
        if self._face is not None:
            self._face._closed = True

    def _bound_shutdown(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(
                self._shutdown_timeout_s, self._check_shutdown_timeout, context=self._context
            )

    def _check_shutdown_timeout(self) -> None:
        self._timer = None
        if self._state == _FLUSHING or self._state == _SHUTDOWN:
            self._force_transport(TimeoutError("SSL shutdown timed out"))

    def _finish_reading(self) -> None:
        self._read()
        if self._state == _FLUSHING:
            if self._rest_waits and self._face is not None and not self._face._closed:
                return  # `_go_on_reading` comes here again
            self._state = _SHUTDOWN
            self._shake_off()

    def _shake_off(self) -> None:
        """Say close_notify, and close the transport below once the peer has said it, or can't any more."""
        try:
            if self._eof:
                done = True
            else:
                # To OpenSSL what the peer sends after our end is an error: it is thrown away before OpenSSL is asked.
                self._records.receive()
                done = self._records.shutdown()
        except ssl.SSLError as exc:
            # The peer says what is no TLS. What was written before the end is sent all the same.
            if self._loop._debug:
                logger.debug("%r: Fatal error on transport", self, exc_info=exc)
            if self._end_error is None:
                self._end_error = exc
            done = True
        if not done:
            self._control_transport_reading()
            self._send_records()
            return
        # Even a transport that is full takes the last of it: closing, it sends what it holds.
        self._transport_full = False
        self._send_records()
        if self._end_error is None:
            self._tell_eof()
        if self._transport is not None:
            # close() sends what is left first, which a peer that doesn't read can delay for ever.
            self._bound_shutdown()
            self._loop.call_soon(self._close_transport, context=self._context)

    def _close_transport(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _abort(self, exc: BaseException | None) -> None:
        if self._state == _WRAPPED:
            # asyncio would have offered this to the kernel when it was written.
            self._flush_above()
            self._encrypt_guarded()
        self._state = _UNWRAPPED
        self._force_transport(exc)

    def _force_transport(self, exc: BaseException | None) -> None:
        transport = self._transport
        if transport is None:
            return
        if exc is None:
            transport.abort()
            return
        force = getattr(transport, "_force_close", None)
        if force is None:
            transport.abort()
        else:
            force(exc)

    def _fatal_error(self, exc: BaseException, message: str) -> None:
        transport = self._transport
        self._force_transport(exc)
        if isinstance(exc, OSError):
            if self._loop._debug:
                logger.debug("%r: %s", self, message, exc_info=sys.exc_info()[1] or exc)
        elif not isinstance(exc, asyncio.CancelledError):
            self._loop.call_exception_handler(
                {"message": message, "exception": exc, "transport": transport, "protocol": self}
            )
