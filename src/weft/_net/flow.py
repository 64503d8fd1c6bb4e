"""Write flow control of what sends on its own terms: datagram endpoints and pipes. (`Stream` has it built in, and shares the
numbers and the rule for the marks.)

Rules for whoever inherits:

- `_size` is what waits to be sent, as asyncio counts it. Whoever makes it grow calls `_maybe_pause_protocol`, whoever
  makes it shrink `_maybe_resume_protocol`; either may run code of the protocol, which may write, close or abort.
- `pause_writing` runs in the context of whoever wrote, as in asyncio: the transport's own may be entered already.
  Everything else of the protocol runs in `_context`.
- `_transport` and `_protocol` are None once the transport has given up its descriptor: this breaks the cycle.
"""

from __future__ import annotations

import contextvars
from typing import Any

from weft._core.handle import Runnable
from weft._native.incontext import InContext
from weft._net.sockops import AnyLoop

#: asyncio's default for the high-water mark, in bytes.
HIGH_WATER_BYTES = 64 * 1024
#: From this many dropped writes on, each one is logged (asyncio's number).
DROPPED_WRITES_LOGGED = 5


def water_marks(high: Any, low: Any, default_high: int) -> tuple[Any, Any]:
    """(high, low), each as given or derived from the other as asyncio does."""
    if high is None:
        high = default_high if low is None else 4 * low
    if low is None:
        low = high // 4
    if not high >= low >= 0:
        raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
    return high, low


class FlowControl(Runnable):
    """A transport's protocol, and when it is told to pause and to resume. Used by the loop's thread only."""

    __slots__ = ("_context", "_high", "_loop", "_low", "_protocol", "_protocol_paused", "_size", "_transport")

    def __init__(self, loop: AnyLoop, transport: Any, protocol: Any) -> None:
        self._is_step = False
        self._loop = loop
        self._transport: Any = transport
        self._protocol: Any = protocol
        self._context = contextvars.copy_context()
        #: Bytes that wait.
        self._size = 0
        #: Marks, as given: any number will do.
        self._high: Any = HIGH_WATER_BYTES
        self._low: Any = HIGH_WATER_BYTES // 4
        self._protocol_paused = False

    def _set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def set_write_buffer_limits(self, high: int | None, low: int | None) -> None:
        self._high, self._low = water_marks(high, low, HIGH_WATER_BYTES)
        self._maybe_pause_protocol()

    def _maybe_pause_protocol(self) -> None:
        if self._protocol_paused or self._size <= self._high:
            return
        self._protocol_paused = True
        try:
            self._protocol.pause_writing()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._report("protocol.pause_writing() failed", exc)

    def _maybe_resume_protocol(self) -> None:
        if not self._protocol_paused or self._size > self._low:
            return
        self._protocol_paused = False
        try:
            InContext.method0(self._context, self._protocol, "resume_writing")
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._report("protocol.resume_writing() failed", exc)

    def _report(self, message: str, exc: BaseException) -> None:
        self._loop.call_exception_handler(
            {"message": message, "exception": exc, "transport": self._transport, "protocol": self._protocol}
        )
