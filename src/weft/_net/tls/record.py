"""TLS records without I/O: ciphertext goes in, plaintext comes out, and the other way round.

Nothing here knows of sockets, loops or time. Rules for whoever edits:

- What `feed` is given waits as it came (`_data` from `_at` on) and is moved into OpenSSL's buffer a slice at a time:
  a memory BIO never gives back what it once grew to, and there are two for each connection.
- A read that finds nothing raises, and an exception costs more than a small record. So nothing is read unless ciphertext
  waits in the BIO, or the last read left plaintext in OpenSSL (`_leftover`).
- For the same reason only whole records are moved, once it is known where one begins (`_aligned`): then the beginning of
  a record is held back until the rest is there. What does not look like a record is OpenSSL's to judge, at once.
- `ended` is set when the peer's close_notify was read; afterwards nothing more comes.
"""

from __future__ import annotations

import ssl
from typing import Any

from weft._native.filling import Filling

#: The most plaintext that one record carries (RFC 8446, 5.1).
RECORD_BYTES = 16384
_RECORD_BYTES = RECORD_BYTES
#: A record's header: type, version, length.
_HEADER_BYTES = 5
#: The type of a record with data, and in TLS 1.3 of all that are encrypted.
_APPLICATION_DATA = 23
#: By how much a record may be longer than its plaintext (RFC 5246, 6.2.3; TLS 1.3 has less).
_OVERHEAD_BYTES = 2048
#: How much ciphertext is moved into the BIO at once: two full records with their overhead.
_SLICE_BYTES = 2 * (RECORD_BYTES + 256)
#: OpenSSL's word for "not yet". SSLSyscallError is what some versions say of a BIO that is empty.
AGAIN = (ssl.SSLWantReadError, ssl.SSLSyscallError)


def _is_plain(kind: type) -> bool:
    """Whether reading from and writing to objects of this class is `ssl.SSLObject`'s affair, and nobody else's."""
    return issubclass(kind, ssl.SSLObject) and all(
        getattr(kind, name) is getattr(ssl.SSLObject, name) for name in ("read", "write", "pending")
    )


class RecordLayer:
    """One side of one TLS connection. Not thread-safe.

    `context.wrap_bio` makes the SSLObject, which is `ssl_object`; errors are the ssl module's.
    """

    __slots__ = (
        "_aligned",
        "_at",
        "_data",
        "_fills",
        "_incoming",
        "_leftover",
        "_outgoing",
        "_pending",
        "_put_in",
        "_raw",
        "_read",
        "_take_out",
        "_write",
        "ended",
        "ssl_object",
    )

    def __init__(self, context: Any, server_side: bool, server_hostname: str | None) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.ssl_object: Any = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname
        )
        #: What is read from and written to: the object behind the SSLObject, whose methods do the same without a Python
        #: frame; the SSLObject itself, if it is of a class that has its own.
        self._raw: Any = self.ssl_object
        if _is_plain(type(self.ssl_object)):
            self._raw = self.ssl_object._sslobj
        # What is called for each message, looked up once.
        self._read: Any = self._raw.read
        self._write: Any = self._raw.write
        self._put_in: Any = self._incoming.write
        self._take_out: Any = self._outgoing.read
        #: `_raw` keeps no view of the memory that it is given to fill.
        self._fills = type(self._raw).__module__ == "_ssl"
        #: Ciphertext that is not in the BIO yet, from `_at` on.
        self._data = b""
        self._at = 0
        #: `_data` from `_at` on begins with a record, and OpenSSL holds none in part.
        self._aligned = False
        #: Bytes in the BIO that OpenSSL has not taken.
        self._pending = 0
        #: OpenSSL holds plaintext of a record that was read in part.
        self._leftover = False
        self.ended = False

    def release(self) -> None:
        """Let OpenSSL's objects go, and with them the context; nothing may be fed, read or sent any more."""
        self.ssl_object = None
        self._raw = self._read = self._write = None

    # -------------------------------------------------------------------------------------------------- incoming

    def feed(self, data: bytes) -> None:
        """Take ciphertext from the peer."""
        if self._at >= len(self._data):
            self._data = data
            self._at = 0
        elif len(self._data) - self._at + len(data) <= _SLICE_BYTES:
            # What was held back is the beginning of a record.
            self._data = self._data[self._at :] + data
            self._at = 0
        else:
            # Nobody reads at present: one place for all of it.
            self._feed_all()
            self._put(data)

    def _put(self, data: Any) -> None:
        """Ciphertext for OpenSSL."""
        self._pending += self._put_in(data)

    def _feed_all(self) -> None:
        if self._at < len(self._data):
            self._put(memoryview(self._data)[self._at :] if self._at else self._data)
            self._aligned = False
        self._data = b""
        self._at = 0

    def _whole_records(self) -> int:
        """How much of what waits is whole records that fit into a slice; -1 when that can't be told."""
        data = self._data
        size = len(data)
        at = self._at
        limit = at + _SLICE_BYTES
        end = at
        while end + _HEADER_BYTES <= size:
            length = (data[end + 3] << 8) + data[end + 4]
            if data[end] != _APPLICATION_DATA or length > _RECORD_BYTES + _OVERHEAD_BYTES:
                # Something else, or no TLS at all: OpenSSL's business.
                return -1
            following = end + _HEADER_BYTES + length
            if following > size or (following > limit and end > at):
                break
            end = following
        return end - at

    def _feed_slice(self) -> bool:
        """Move some ciphertext into the BIO, which is empty; False when there is no whole record to move."""
        data = self._data
        size = len(data)
        count = self._whole_records() if self._aligned else -1
        if count == 0:
            return False
        if count < 0:
            self._aligned = False
            count = _SLICE_BYTES
        end = self._at + count
        if end >= size:
            self._put(memoryview(data)[self._at :] if self._at else data)
            self._data = b""
            self._at = 0
        else:
            self._put(memoryview(data)[self._at : end])
            self._at = end
        return True

    def _readable(self) -> int:
        """How many bytes a read should ask for; 0 when it would find nothing."""
        if self._leftover:
            return _RECORD_BYTES
        if self._pending == 0 and (self._at >= len(self._data) or not self._feed_slice()):
            return 0
        # Plaintext is shorter than its record: a buffer of this size is never filled, unless part of the record was in
        # OpenSSL already. Then the rest is `_leftover`.
        return self._pending if self._pending < _RECORD_BYTES else _RECORD_BYTES

    def _note_read(self, is_full: bool) -> None:
        """OpenSSL has given plaintext, `is_full` of it as much as it was asked for."""
        self._leftover = is_full and self._raw.pending() > 0
        self._pending = self._incoming.pending
        if not self._leftover and self._pending == 0:
            self._aligned = True

    def _note_nothing(self) -> bool:
        """The rest of a record is missing, or it was no data for us. True if OpenSSL left what it has not looked at."""
        self._leftover = self._aligned = False
        self._pending = self._incoming.pending
        return self._pending > 0

    def receive(self) -> bytes:
        """All plaintext that has arrived; b"" when there is none. Sets `ended` at the peer's close_notify."""
        if self.incoming_size() > _SLICE_BYTES and self._fills:
            # Many records. Their plaintext is shorter than they are, but OpenSSL may hold a part of the first already.
            filling = Filling(self.incoming_size() + _RECORD_BYTES)
            data = filling.cut(self.receive_into(filling.view))
            return data if self.ended or self._readable() == 0 else data + self._receive_pieces()
        return self._receive_pieces()

    def _receive_pieces(self) -> bytes:
        first = b""
        pieces = None
        wanted = self._readable()
        while wanted > 0:
            try:
                piece = self._read(wanted)
            except AGAIN:
                if self._note_nothing():
                    break
            except ssl.SSLZeroReturnError:
                self.ended = True
                break
            else:
                count = len(piece)
                if count == 0:
                    self.ended = True
                    break
                self._note_read(count == wanted)
                if len(first) == 0:
                    first = piece
                elif pieces is None:
                    pieces = [first, piece]
                else:
                    pieces.append(piece)
            wanted = self._readable()
        return first if pieces is None else b"".join(pieces)

    def receive_into(self, target: Any) -> int:
        """Fill `target`, a writable memoryview, as far as there is plaintext; the bytes written."""
        size = len(target)
        offset = 0
        while offset < size and self._readable() > 0:
            wanted = size - offset
            try:
                count = self._read(wanted, target[offset:])
            except AGAIN:
                if self._note_nothing():
                    break
                continue
            except ssl.SSLZeroReturnError:
                count = 0
            if count == 0:
                self.ended = True
                break
            offset += count
            self._note_read(count == wanted)
        return offset

    def incoming_size(self) -> int:
        """Bytes of ciphertext that nobody has read."""
        return self._pending + len(self._data) - self._at

    # -------------------------------------------------------------------------------------------------- outgoing

    def send(self, data: Any) -> int:
        """Make a record of the front of `data`; the bytes taken, or -1 when the peer must speak first."""
        try:
            return int(self._write(data))
        except AGAIN:
            return -1

    def outgoing_size(self) -> int:
        """Bytes of ciphertext that nobody has taken."""
        return int(self._outgoing.pending)

    def take(self) -> bytes:
        """All ciphertext for the peer, once."""
        data: bytes = self._take_out()
        return data

    # ---------------------------------------------------------------------------------------- beginning and end

    def handshake(self) -> bool:
        """Go on with the handshake as far as what was fed allows; True when it is over."""
        self._feed_all()
        try:
            self.ssl_object.do_handshake()
        except AGAIN:
            return False
        finally:
            self._pending = self._incoming.pending
        return True

    def shutdown(self) -> bool:
        """Say close_notify, once; True when the peer has said it too."""
        self._feed_all()
        try:
            self.ssl_object.unwrap()
        except AGAIN:
            return False
        finally:
            self._pending = self._incoming.pending
        return True
