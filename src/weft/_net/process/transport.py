"""The transport of a child process: what a `SubprocessProtocol` and `asyncio.subprocess.Process` hold.

Rules for whoever edits this file:

- `_pipes` has a key for each of stdin, stdout, stderr that is a pipe, from the beginning; the value is None until the
  process is started. The transport is finished when the process has exited *and* every pipe is disconnected: so all
  output has been delivered before `connection_lost`.
- Nothing is told to the protocol before `connection_made`: what happens earlier waits in `_pending_calls`.
- A callback of the protocol is always a turn of its own, as in asyncio.
- When it is finished it lets go of loop, process and protocol; from then on signals raise ProcessLookupError.

`_wait`, `_pipes`, `_proc`, `_returncode` and `_pid` keep asyncio's names: asyncio's own `Process` calls the first, and
programs reach for the others.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import warnings
from asyncio import base_subprocess
from collections.abc import Callable
from typing import Any

from weft._net.process.spawn import Child
from weft._net.sockops import AnyLoop
from weft._net.transport import set_result_unless_cancelled

__all__ = ["SubprocessTransport", "make_transport"]

logger = logging.getLogger("asyncio")

#: Whether `wait()` returns when the process exits, or (before 3.14, and in some of its first releases) when its pipes are
#: closed as well. asyncio changed that within a release series, so its code is asked and not its version.
_WAIT_ENDS_AT_EXIT = "_exit_waiters" in base_subprocess.BaseSubprocessTransport._process_exited.__code__.co_names


class SubprocessTransport(asyncio.SubprocessTransport):
    """A child process. All methods: the loop's thread; semantics as asyncio's subprocess transport on Unix."""

    def __init__(
        self,
        loop: AnyLoop,
        protocol: Any,
        args: Any,
        options: dict[str, Any],
        extra: dict[str, Any] | None = None,
    ) -> None:
        # What get_extra_info looks at.
        self._info: dict[str, Any] = {} if extra is None else extra
        super().__init__(self._info)
        self._loop: Any = loop
        self._protocol: Any = protocol
        self._closed = False
        self._finished = False
        self._proc: subprocess.Popen[bytes] | None = None
        self._pid: int | None = None
        self._returncode: int | None = None
        self._exit_waiters: list[asyncio.Future[int]] = []
        # None once connection_made is scheduled.
        self._pending_calls: list[tuple[Callable[..., object], tuple[Any, ...]]] | None = []
        self._pipes: dict[int, Any] = {
            fd: None for fd, name in enumerate(("stdin", "stdout", "stderr")) if options[name] == subprocess.PIPE
        }
        self._program = args if isinstance(args, bytes | str) else args[0]
        self._started: asyncio.Future[None] = loop.create_future()
        self._child = Child(loop, args, options, self._on_start, self._process_exited)

    def __repr__(self) -> str:
        info = [self.__class__.__name__]
        if self._closed:
            info.append("closed")
        if self._pid is not None:
            info.append(f"pid={self._pid}")
        if self._returncode is not None:
            info.append(f"returncode={self._returncode}")
        elif self._pid is not None:
            info.append("running")
        else:
            info.append("not started")
        for fd, name in enumerate(("stdin", "stdout", "stderr")):
            if self._pipes.get(fd) is not None:
                info.append(f"{name}={self._pipes[fd].pipe}")
        return f"<{' '.join(info)}>"

    def __del__(self, _warn: Any = warnings.warn) -> None:
        if not getattr(self, "_closed", True) and not self._child.is_foreign:
            _warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            self.close()

    # -- what asyncio.SubprocessTransport promises --

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def is_closing(self) -> bool:
        return self._closed

    def get_pid(self) -> int | None:  # type: ignore[override]
        return self._pid

    def get_returncode(self) -> int | None:
        return self._returncode

    def get_pipe_transport(self, fd: int) -> Any:
        return self._pipes[fd].pipe if fd in self._pipes else None

    def send_signal(self, signal: int) -> None:
        """Send a signal; nothing happens once the process has exited. Finished: ProcessLookupError."""
        if self._proc is None:
            raise ProcessLookupError()
        self._child.send_signal(signal)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Close the pipes and kill the process if it runs. Its exit is still waited for, and told to the protocol."""
        if self._closed:
            return
        self._closed = True
        self._close_pipes()
        self._kill_if_running()

    def _close_pipes(self) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            for pipe in self._pipes.values():
                if pipe is not None and pipe.pipe is not None:
                    pipe.pipe.close()

    def _kill_if_running(self) -> None:
        if self._proc is None or self._returncode is not None or not self._child.is_running():
            return
        if self._loop.get_debug():
            logger.warning("Close running child process: kill %r", self)
        try:
            self._child.kill()
        except (ProcessLookupError, PermissionError) as exc:
            # It is gone, or it runs as another user by now.
            logger.debug("%r was not killed: %s", self, exc)

    # -- life --

    async def _start(self) -> None:
        """Start the process and connect its pipes; returns when `connection_made` has been called.

        Starting can't be interrupted, as in asyncio: a cancellation counts when the process is there. What is raised here
        leaves a transport that is closed and a process that is reaped.
        """
        try:
            self._child.start()
            cancelled = await _finish(self._started)
            error, self._child.error = self._child.error, None
            if error is not None:
                raise error
            if cancelled is not None:
                raise cancelled
            await self._connect_pipes()
        except (SystemExit, KeyboardInterrupt):
            raise
        except GeneratorExit:
            # The loop is closed: nothing can be awaited any more.
            self.close()
            raise
        except BaseException:
            self.close()
            if self._proc is not None:
                if self._pending_calls is not None:
                    self._give_up()
                await self._wait()
            raise

    def _on_start(self) -> None:
        """The process was started, or could not be (`_child.error`)."""
        popen = self._child.popen
        if popen is not None:
            self._proc = popen
            self._pid = popen.pid
            self._info["subprocess"] = popen
            if self._loop.get_debug():
                logger.debug("process %r created: pid %s", self._program, self._pid)
        set_result_unless_cancelled(self._started)

    async def _connect_pipes(self) -> None:
        loop, popen = self._loop, self._proc
        assert popen is not None
        for fd, stream in enumerate((popen.stdin, popen.stdout, popen.stderr)):
            if stream is not None:
                pipe = self._pipes[fd] = WritePipe(self, fd) if fd == 0 else ReadPipe(self, fd)
                connect = loop.connect_write_pipe if fd == 0 else loop.connect_read_pipe
                await connect(lambda pipe=pipe: pipe, stream)
        loop.call_soon(self._protocol.connection_made, self)
        assert self._pending_calls is not None
        for callback, args in self._pending_calls:
            loop.call_soon(callback, *args)
        self._pending_calls = None
        waiter = loop.create_future()
        loop.call_soon(set_result_unless_cancelled, waiter)
        await waiter

    def _give_up(self) -> None:
        """The start failed halfway, so the protocol never hears of the process. What is connected was closed already."""
        assert self._proc is not None
        for fd, stream in enumerate((self._proc.stdin, self._proc.stdout, self._proc.stderr)):
            if stream is None:
                continue
            pipe = self._pipes[fd]
            if pipe is None or pipe.pipe is None:
                # If it was about to be connected, its transport may still say that it is lost.
                if pipe is not None:
                    pipe.process = None
                stream.close()
                del self._pipes[fd]
        self._protocol = asyncio.SubprocessProtocol()
        self._pending_calls = None
        if self._finished:
            self._loop.call_soon(self._call_connection_lost)
        else:
            self._try_finish()

    def _process_exited(self, returncode: int) -> None:
        if self._loop.get_debug():
            logger.info("%r exited with return code %r", self, returncode)
        self._returncode = returncode
        assert self._proc is not None
        if self._proc.returncode is None:
            # Popen shall not look for a process that is reaped.
            self._proc.returncode = returncode
        self._call(self._protocol.process_exited)
        self._try_finish()
        if _WAIT_ENDS_AT_EXIT:
            # After it: who has waited finds a child without pipes finished.
            self._wake_waiters()

    async def _wait(self) -> int:
        """The return code, when the process has exited. asyncio's `Process.wait` is this."""
        if self._returncode is not None:
            return self._returncode
        waiter = self._loop.create_future()
        self._exit_waiters.append(waiter)
        try:
            returncode: int = await waiter
        finally:
            if waiter in self._exit_waiters:
                self._exit_waiters.remove(waiter)
        return returncode

    def _wake_waiters(self) -> None:
        waiters, self._exit_waiters = self._exit_waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(self._returncode)  # type: ignore[arg-type]

    def _call(self, callback: Callable[..., object], *args: Any) -> None:
        if self._pending_calls is None:
            self._loop.call_soon(callback, *args)
        else:
            self._pending_calls.append((callback, args))

    def _pipe_connection_lost(self, fd: int, exc: BaseException | None) -> None:
        self._call(self._protocol.pipe_connection_lost, fd, exc)
        self._try_finish()

    def _pipe_data_received(self, fd: int, data: bytes) -> None:
        self._call(self._protocol.pipe_data_received, fd, data)

    def _try_finish(self) -> None:
        if self._returncode is None or self._finished:
            return
        if all(pipe is not None and pipe.disconnected for pipe in self._pipes.values()):
            self._finished = True
            self._call(self._call_connection_lost)

    def _call_connection_lost(self) -> None:
        try:
            self._protocol.connection_lost(None)
        finally:
            self._wake_waiters()
            self._loop = self._proc = self._protocol = None


class WritePipe(asyncio.BaseProtocol):
    """The protocol of the child's stdin."""

    def __init__(self, process: SubprocessTransport, fd: int) -> None:
        # None when it has nothing more to tell.
        self.process: Any = process
        self.fd = fd
        #: The pipe's transport; None until it is connected.
        self.pipe: Any = None
        self.disconnected = False

    def __repr__(self) -> str:
        return f"<{self.__class__.__name__} fd={self.fd} pipe={self.pipe!r}>"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.pipe = transport

    def connection_lost(self, exc: BaseException | None) -> None:
        self.disconnected = True
        process, self.process = self.process, None
        if process is not None:
            process._pipe_connection_lost(self.fd, exc)

    def pause_writing(self) -> None:
        self.process._protocol.pause_writing()

    def resume_writing(self) -> None:
        self.process._protocol.resume_writing()


class ReadPipe(WritePipe, asyncio.Protocol):
    """The protocol of the child's stdout or stderr."""

    def data_received(self, data: bytes) -> None:
        self.process._pipe_data_received(self.fd, data)


async def _finish(future: asyncio.Future[None]) -> asyncio.CancelledError | None:
    """Wait for a future to the end, also when the task is cancelled; the cancellation that came in between."""
    cancelled = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as exc:
            cancelled = exc
    return cancelled


async def make_transport(
    loop: AnyLoop,
    protocol: Any,
    args: Any,
    *,
    extra: dict[str, Any] | None = None,
    **options: Any,
) -> SubprocessTransport:
    """A transport for a process that is started by `subprocess.Popen(args, **options)`."""
    transport = SubprocessTransport(loop, protocol, args, options, extra)
    await transport._start()
    return transport
