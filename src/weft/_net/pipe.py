"""Pipes as asyncio transports: `connect_read_pipe`, `connect_write_pipe` and the two transports they give.

As a connection's, each transport is a face: it can't inherit its state machine (see `transport`), so it holds it, and
every method is one call. Words and reprs are asyncio's, and `_pipe` is, which its tests set.
"""

from __future__ import annotations

import asyncio
import os
import stat
import warnings
from asyncio.log import logger
from collections.abc import Callable
from typing import Any

from weft._net.pipeio import FIFO_HIDES_READER, ReadPipe, WritePipe
from weft._net.sockops import AnyLoop
from weft._net.transport import set_result_unless_cancelled


class ReadPipeTransport(asyncio.ReadTransport):
    """The reading end of a pipe. All methods: the loop's thread; semantics as asyncio's pipe transport."""

    # Programs put their own `pause_reading` on the object, and so does CPython's test of child processes.
    __slots__ = ("__dict__", "__weakref__", "_state")

    def __init__(self, loop: AnyLoop, pipe: Any, protocol: Any, waiter: asyncio.Future[None] | None = None) -> None:
        super().__init__({"pipe": pipe})
        fd = pipe.fileno()
        mode = os.fstat(fd).st_mode
        if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode)):
            raise ValueError("Pipe transport is for pipes/sockets only.")
        os.set_blocking(fd, False)
        state = self._state = ReadPipe(loop, pipe, fd, self, protocol)
        loop.call_soon(protocol.connection_made, self, context=state._context)
        loop.call_soon(state._start_reading, context=state._context)
        if waiter is not None:
            loop.call_soon(set_result_unless_cancelled, waiter, context=state._context)

    def __repr__(self) -> str:
        state = self._state
        return _describe(self, state, "polling" if state._watching and not state._paused else "idle")

    def __del__(self, _warn: Any = warnings.warn) -> None:
        _warn_unclosed(self, _warn)

    def is_reading(self) -> bool:
        return not self._state._paused and not self._state._closing

    def pause_reading(self) -> None:
        self._state.pause_reading()

    def resume_reading(self) -> None:
        self._state.resume_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._state._set_protocol(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._state._protocol
        return protocol

    def is_closing(self) -> bool:
        return bool(self._state._closing)

    def close(self) -> None:
        self._state.close()

    @property
    def _pipe(self) -> Any:
        return self._state._pipe

    @_pipe.setter
    def _pipe(self, pipe: Any) -> None:
        self._state._pipe = pipe


class WritePipeTransport(asyncio.WriteTransport):
    """The writing end of a pipe. All methods: the loop's thread; semantics as asyncio's pipe transport.

    `write` sends at once what the pipe takes. `write_eof` is `close`: what was written is sent first.
    """

    __slots__ = ("__dict__", "__weakref__", "_state")

    def __init__(self, loop: AnyLoop, pipe: Any, protocol: Any, waiter: asyncio.Future[None] | None = None) -> None:
        super().__init__({"pipe": pipe})
        fd = pipe.fileno()
        status = os.fstat(fd)
        is_socket = stat.S_ISSOCK(status.st_mode)
        is_fifo = stat.S_ISFIFO(status.st_mode)
        if not (is_socket or is_fifo or stat.S_ISCHR(status.st_mode)):
            raise ValueError("Pipe transport is only for pipes, sockets and character devices")
        os.set_blocking(fd, False)
        state = self._state = WritePipe(loop, pipe, fd, self, protocol)
        loop.call_soon(protocol.connection_made, self, context=state._context)
        # A pipe without a name has no links.
        if is_socket or (is_fifo and not (FIFO_HIDES_READER and status.st_nlink > 0)):
            loop.call_soon(state._watch_reader, context=state._context)
        if waiter is not None:
            loop.call_soon(set_result_unless_cancelled, waiter, context=state._context)

    def __repr__(self) -> str:
        state = self._state
        return _describe(self, state, f"{'polling' if state._writing else 'idle'} bufsize={state._size}")

    def __del__(self, _warn: Any = warnings.warn) -> None:
        _warn_unclosed(self, _warn)

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self._state.write(data)

    def write_eof(self) -> None:
        self._state.write_eof()

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return self._state._size

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._state._low, self._state._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._state.set_write_buffer_limits(high, low)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._state._set_protocol(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._state._protocol
        return protocol

    def is_closing(self) -> bool:
        return bool(self._state._closing)

    def close(self) -> None:
        self._state.close()

    def abort(self) -> None:
        self._state.abort()

    @property
    def _pipe(self) -> Any:
        return self._state._pipe

    @_pipe.setter
    def _pipe(self, pipe: Any) -> None:
        self._state._pipe = pipe


def _describe(transport: Any, state: ReadPipe | WritePipe, polling: str) -> str:
    info = [type(transport).__name__]
    if state._pipe is None:
        info.append("closed")
    elif state._closing:
        info.append("closing")
    info.append(f"fd={state._fd}")
    if state._pipe is None:
        info.append("closed")
    else:
        info.append("open" if state._loop.is_closed() else polling)
    return f"<{' '.join(info)}>"


def _warn_unclosed(transport: Any, warn: Any) -> None:
    state = getattr(transport, "_state", None)
    if state is not None and state._pipe is not None:
        warn(f"unclosed transport {transport!r}", ResourceWarning, source=transport)
        state._release()


async def connect_read_pipe(loop: AnyLoop, protocol_factory: Callable[[], Any], pipe: Any) -> tuple[Any, Any]:
    """As `loop.connect_read_pipe`: (transport, protocol). The transport closes `pipe`, a file object, at its end."""
    protocol = protocol_factory()
    waiter: asyncio.Future[None] = loop.create_future()
    transport = ReadPipeTransport(loop, pipe, protocol, waiter)
    await _connected(transport, waiter)
    if loop._debug:
        logger.debug("Read pipe %r connected: (%r, %r)", pipe.fileno(), transport, protocol)
    return transport, protocol


async def connect_write_pipe(loop: AnyLoop, protocol_factory: Callable[[], Any], pipe: Any) -> tuple[Any, Any]:
    """As `loop.connect_write_pipe`: (transport, protocol). The transport closes `pipe`, a file object, at its end."""
    protocol = protocol_factory()
    waiter: asyncio.Future[None] = loop.create_future()
    transport = WritePipeTransport(loop, pipe, protocol, waiter)
    await _connected(transport, waiter)
    if loop._debug:
        logger.debug("Write pipe %r connected: (%r, %r)", pipe.fileno(), transport, protocol)
    return transport, protocol


async def _connected(transport: ReadPipeTransport | WritePipeTransport, waiter: asyncio.Future[None]) -> None:
    try:
        await waiter
    except BaseException:
        transport.close()
        raise
