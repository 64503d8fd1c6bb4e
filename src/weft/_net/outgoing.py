"""What was written and waits to be let out: the part that streams and TLS connections share.

Rules for whoever edits:

- `_only` is the one chunk there is; with more, all of them are in `_chunks` and `_only` is None. Most callbacks write once,
  and then a list would be a good part of the work.
- Chunks are bytes, so nobody can change them before they are sent.
- `_size` counts what is held, in bytes; a subclass that takes from `_chunks` says so there.
"""

from __future__ import annotations

from weft._core.handle import Flushable
from weft._net.sockops import AnyLoop


class Outgoing(Flushable):
    """Chunks that wait until the running callback returns, or longer."""

    __slots__ = ("_chunks", "_loop", "_only", "_size")

    def __init__(self, loop: AnyLoop) -> None:
        Flushable.__init__(self)
        self._loop = loop
        self._only: bytes | None = None
        self._chunks: list[bytes] = []
        self._size = 0

    def _hold(self, chunk: bytes) -> None:
        if self._size == 0:
            self._only = chunk
        else:
            self._list_only()
            self._chunks.append(chunk)
        self._size += len(chunk)

    def _list_only(self) -> None:
        """See to it that all that is held is in the list."""
        if self._only is not None:
            self._chunks.append(self._only)
            self._only = None

    def _take_held(self) -> bytes:
        """All of it, which is held no longer."""
        data = self._only
        self._only = None
        self._size = 0
        if data is None:
            data = b"".join(self._chunks)
            self._chunks = []
        return data

    def _put_back(self, data: bytes) -> None:
        """Hold what was taken after all, before anything that was written since."""
        self._list_only()
        self._chunks.insert(0, data)
        self._size += len(data)
