"""The plain twin of `filling.pyx`, and the contract: bytes that are filled in place, part by part, and then cut to size.

Python has no bytes object that can be written, so what arrives in parts is joined, which copies all of it once more. The
compiled twin makes the object first and lets the parts be read into it.
"""

from __future__ import annotations


class Filling:
    """Room for `size` bytes. Whoever fills it must keep no view of it once `cut` was called."""

    __slots__ = ("_buffer", "view")

    def __init__(self, size: int) -> None:
        self._buffer = bytearray(size)
        #: The whole of it, to be written.
        self.view: memoryview = memoryview(self._buffer)

    def cut(self, count: int) -> bytes:
        """The first `count` bytes, once; nothing may be filled any more."""
        return bytes(self.view[:count])
