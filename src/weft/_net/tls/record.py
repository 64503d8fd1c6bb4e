"""TLS records without I/O: ciphertext goes in, plaintext comes out, and the other way round.

Nothing here knows of sockets, loops or time. Rules for whoever edits:

- What `feed` is given waits as it came (`_data` from `_at` on) and is moved into OpenSSL's buffer a slice at a time:
  a memory BIO never gives back what it once grew to, and there are two for each connection.
- A read that finds nothing raises, and an exception costs more than a small record. So nothing is read unless ciphertext
  waits in the BIO, or the last read left plaintext in OpenSSL (`_leftover`).
- `ended` is set when the peer's close_notify was read; afterwards nothing more comes.
"""

from __future__ import annotations

import ssl
from typing import Any

#: The most plaintext that one record carries (RFC 8446, 5.1).
RECORD_BYTES = 16384
_RECORD_BYTES = RECORD_BYTES
#: How much ciphertext is moved into the BIO at once: two full records with their overhead.
_SLICE_BYTES = 2 * (RECORD_BYTES + 256)
#: OpenSSL's word for "not yet". SSLSyscallError is what some versions say of a BIO that is empty.
AGAIN = (ssl.SSLWantReadError, ssl.SSLSyscallError)


class RecordLayer:
    """One side of one TLS connection. Not thread-safe.

    `context.wrap_bio` makes the SSLObject, which is `ssl_object`; errors are the ssl module's.
    """

    __slots__ = ("_at", "_data", "_incoming", "_leftover", "_outgoing", "_raw", "ended", "ssl_object")

    def __init__(self, context: Any, server_side: bool, server_hostname: str | None) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.ssl_object = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname
        )
        #: The object behind the SSLObject, whose methods do the same without a Python frame.
        self._raw: Any = getattr(self.ssl_object, "_sslobj", self.ssl_object)
        #: Ciphertext that is not in the BIO yet, from `_at` on.
        self._data = b""
        self._at = 0
        #: OpenSSL holds plaintext of a record that was read in part.
        self._leftover = False
        self.ended = False

    # -------------------------------------------------------------------------------------------------- incoming

    def feed(self, data: bytes) -> None:
        """Take ciphertext from the peer."""
        if self._at < len(self._data):
            # Nobody reads at present: one place for all of it.
            self._feed_all()
            self._incoming.write(data)
        else:
            self._data = data
            self._at = 0

    def _feed_all(self) -> None:
        if self._at < len(self._data):
            self._incoming.write(memoryview(self._data)[self._at :] if self._at else self._data)
        self._data = b""
        self._at = 0

    def _feed_slice(self) -> None:
        """Move some ciphertext into the BIO, which is empty."""
        size = len(self._data)
        if self._at == 0 and size <= _SLICE_BYTES:
            self._incoming.write(self._data)
        else:
            end = min(size, self._at + _SLICE_BYTES)
            self._incoming.write(memoryview(self._data)[self._at : end])
            if end < size:
                self._at = end
                return
        self._data = b""
        self._at = 0

    def _readable(self) -> int:
        """How many bytes a read should ask for; 0 when it would find nothing."""
        if self._leftover:
            return _RECORD_BYTES
        waiting = self._incoming.pending
        if waiting == 0:
            if self._at >= len(self._data):
                return 0
            self._feed_slice()
            waiting = self._incoming.pending
        # Plaintext is shorter than its record: a buffer of this size is never filled, unless part of the record was in
        # OpenSSL already. Then the rest is `_leftover`.
        return waiting if waiting < _RECORD_BYTES else _RECORD_BYTES

    def receive(self) -> bytes:
        """All plaintext that has arrived; b"" when there is none. Sets `ended` at the peer's close_notify."""
        first = b""
        pieces = None
        try:
            wanted = self._readable()
            while wanted > 0:
                piece = self._raw.read(wanted)
                count = len(piece)
                if count == 0:
                    self.ended = True
                    break
                self._leftover = count == wanted and self._raw.pending() > 0
                if len(first) == 0:
                    first = piece
                elif pieces is None:
                    pieces = [first, piece]
                else:
                    pieces.append(piece)
                wanted = self._readable()
        except AGAIN:
            self._leftover = False
            if self._at < len(self._data):
                return self._receive_rest(first, pieces)
        except ssl.SSLZeroReturnError:
            self.ended = True
        return first if pieces is None else b"".join(pieces)

    def _receive_rest(self, first: bytes, pieces: list[bytes] | None) -> bytes:
        """Go on after a slice that ended within a record."""
        self._feed_slice()
        rest = self.receive()
        return b"".join((*(pieces or (first,)), rest))

    def receive_into(self, target: Any) -> int:
        """Fill `target`, a writable memoryview, as far as there is plaintext; the bytes written."""
        size = len(target)
        offset = 0
        while offset < size and self._readable() > 0:
            try:
                count = self._raw.read(size - offset, target[offset:])
            except AGAIN:
                self._leftover = False
                if self._at < len(self._data):
                    self._feed_slice()
                    continue
                break
            except ssl.SSLZeroReturnError:
                count = 0
            if count == 0:
                self.ended = True
                break
            offset += count
            self._leftover = self._raw.pending() > 0
        return offset

    def incoming_size(self) -> int:
        """Bytes of ciphertext that nobody has read."""
        return int(self._incoming.pending) + len(self._data) - self._at

    # -------------------------------------------------------------------------------------------------- outgoing

    def send(self, data: Any) -> int:
        """Make a record of the front of `data`; the bytes taken, or -1 when the peer must speak first."""
        try:
            return int(self._raw.write(data))
        except AGAIN:
            return -1

    def outgoing_size(self) -> int:
        """Bytes of ciphertext that nobody has taken."""
        return int(self._outgoing.pending)

    def take(self) -> bytes:
        """All ciphertext for the peer, once."""
        data: bytes = self._outgoing.read()
        return data

    # ---------------------------------------------------------------------------------------- beginning and end

    def handshake(self) -> bool:
        """Go on with the handshake as far as what was fed allows; True when it is over."""
        self._feed_all()
        try:
            self.ssl_object.do_handshake()
        except AGAIN:
            return False
        return True

    def shutdown(self) -> bool:
        """Say close_notify, once; True when the peer has said it too."""
        self._feed_all()
        try:
            self.ssl_object.unwrap()
        except AGAIN:
            return False
        return True
