"""The face of a TLS connection that protocols and users see: a real `asyncio.Transport`.

It holds the state machine, as `StreamTransport` holds its stream, and for the same reason. Private names kept because
others use them: `_start_tls_compatible` (start_tls, aiohttp), `_sendfile_compatible` and `_protocol_paused` (sendfile),
`_force_close` (a TLS connection above this one), `_ssl_protocol` and `_loop` (libraries written for asyncio),
`_test__append_write_backlog` (CPython's test of data that trails behind a shutdown).
"""

from __future__ import annotations

import asyncio
import warnings
from asyncio import constants
from typing import TYPE_CHECKING, Any

from weft._net.tls.connection import TLSConnection

try:
    import cython
except ImportError:
    from weft import _cython as cython

if TYPE_CHECKING:
    from collections.abc import Iterable


def is_closing(transport: Any) -> bool:
    """Whether a transport below is closing; False of a foreign one that does not tell."""
    try:
        return bool(transport.is_closing())
    except NotImplementedError:
        return False


class SSLTransport(asyncio.Transport):
    """A TLS connection. All methods: the loop's thread; semantics as asyncio's TLS transport.

    Its name has an "ssl" in it because CPython's tests look for that. Differs: what a callback writes is encrypted and
    sent when the callback returns (at once above 64 KiB).
    """

    __slots__ = ("__dict__", "__weakref__", "_closed", "_ssl_protocol")

    _start_tls_compatible = True
    _sendfile_compatible: Any = constants._SendfileMode.FALLBACK

    def __init__(self, connection: TLSConnection) -> None:
        self._ssl_protocol = connection
        self._closed = False
        connection._face = self

    def __repr__(self) -> str:
        state = "closing" if self._closed else "open"
        return f"<{self.__class__.__name__} {state} over {self._ssl_protocol._transport!r}>"

    def __del__(self, _warn: Any = warnings.warn) -> None:
        if not getattr(self, "_closed", True):
            self._closed = True
            _warn(f"unclosed transport {self!r}", ResourceWarning, source=self)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`sslcontext`, and once the handshake is over `ssl_object`, `peercert`, `cipher`, `compression`; else what the
        transport below answers."""
        connection = self._ssl_protocol
        if name == "sslcontext" and connection._sslcontext is not None:
            return connection._sslcontext
        if connection._handshaken:
            # But for the certificate asked of the object when wanted: kept, they would take memory for each connection.
            ssl_object = connection._records.ssl_object
            if name == "ssl_object":
                return ssl_object
            if name == "peercert":
                return connection._peercert
            if name == "cipher":
                return ssl_object.cipher()
            if name == "compression":
                return ssl_object.compression()
        below = connection._transport
        return default if below is None else below.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._ssl_protocol._set_protocol(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._ssl_protocol._protocol
        return protocol

    def is_closing(self) -> bool:
        if self._closed:
            return True
        below = self._ssl_protocol._transport
        return below is not None and is_closing(below)

    def close(self) -> None:
        """Send what is pending and say close_notify; connection_lost comes when the peer has answered, or the shutdown
        time-out is over."""
        if not self._closed:
            self._closed = True
            self._ssl_protocol._start_shutdown()
        else:
            self._ssl_protocol._forget()

    def abort(self) -> None:
        self._force_close(None)

    def _force_close(self, exc: BaseException | None) -> None:
        self._closed = True
        self._ssl_protocol._abort(exc)

    def is_reading(self) -> bool:
        return not self._ssl_protocol._app_reading_paused

    def pause_reading(self) -> None:
        self._ssl_protocol._pause_reading()

    def resume_reading(self) -> None:
        self._ssl_protocol._resume_reading()

    @cython.locals(connection=TLSConnection)  # type: ignore[untyped-decorator]
    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        connection = self._ssl_protocol
        connection.write(data)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview[Any]]) -> None:
        self._ssl_protocol.writelines(list_of_data)

    def _test__append_write_backlog(self, data: bytes) -> None:
        self._ssl_protocol._hold(data)

    def write_eof(self) -> None:
        """TLS has no half-closed connections here: raises NotImplementedError, as asyncio does."""
        raise NotImplementedError

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        size: int = self._ssl_protocol._buffer_size()
        return size

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._ssl_protocol._write_low, self._ssl_protocol._write_high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._ssl_protocol._set_write_limits(high, low)

    def get_read_buffer_size(self) -> int:
        """Bytes of ciphertext that wait to be read."""
        return self._ssl_protocol._records.incoming_size()

    def get_read_buffer_limits(self) -> tuple[int, int]:
        return self._ssl_protocol._read_low, self._ssl_protocol._read_high

    def set_read_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Marks of ciphertext, in bytes, at which the transport below stops and goes on reading. Defaults: 256 KiB, a
        quarter."""
        self._ssl_protocol._set_read_limits(high, low)

    @property
    def _loop(self) -> Any:
        return self._ssl_protocol._loop

    @property
    def _protocol_paused(self) -> bool:
        return bool(self._ssl_protocol._writing_paused)
