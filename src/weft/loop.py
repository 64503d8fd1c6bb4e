"""`Loop`: asyncio's event loop, method by method. A table of contents: what does the work lives where each line points.

Rules for whoever edits this file:

- No logic but asyncio's rules of when the loop may run, stop and close. A method that grows goes to `_net` or `_host`.
- The hot methods (`call_soon`, `call_later`, `call_at`, `create_task`, `create_future`, `time`) are inherited from the
  compiled `LoopCore` and never forwarded: a forwarding call costs more than the work.
- What Weft does not have yet is not overridden: `AbstractEventLoop` raises its NotImplementedError.
- Names with one underscore exist because code out there asks for them: asyncio's own classes and test helpers, and
  libraries that were written against `BaseEventLoop`.

Methods are for the thread that runs the loop, but for `call_soon_threadsafe`. A stopped loop can run again.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, TypeVar, TypeVarTuple

from weft._core.handle import Handle
from weft._core.loopcore import LoopCore
from weft._edition import EDITION
from weft._host import fork, registry, report
from weft._host.asyncgens import AsyncGenerators
from weft._host.executor import DefaultExecutor
from weft._host.mark import mark_coroutine_functions
from weft._host.signals import Signals
from weft._io import make_poller
from weft._io.spi import READ, WRITE, Poller
from weft._net import dns, sendfile, sockcalls, tcp, tls, udp, unix
from weft._net import pipe as _pipe
from weft._net.process import Children, subprocess_exec, subprocess_shell
from weft._net.sockops import ensure_fd_no_transport

__all__ = ["Loop"]

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


@mark_coroutine_functions
class Loop(LoopCore, asyncio.AbstractEventLoop):  # type: ignore[misc]
    """An event loop of Weft: open when made, run by `run_forever` or `run_until_complete`, closed by `close`.

    `poller` names what asks the kernel (`"epoll"`, `"selector"`) or is one; by default the environment variable
    `WEFT_POLLER` names it, and without that it is the best one of the machine. Differs from asyncio's loop: it holds
    its tasks until they are done, and reports those that never finished when it is closed.
    """

    def __init__(self, *, poller: str | Poller | None = None) -> None:
        # Before all that could fail, so that `__del__` of a loop half made finds it closed.
        self._closed = True
        super().__init__(poller if isinstance(poller, Poller) else make_poller(poller))
        self._closed = False
        self._pid = os.getpid()
        self._exception_handler: report.ExceptionHandler | None = None
        self._generators = AsyncGenerators()
        self._executor = DefaultExecutor()
        self._signals = Signals()
        self._children = Children()
        # The file objects that were watched as such, and by what, by number and direction.
        self._watched_files: dict[tuple[int, int], tuple[Any, Handle]] = {}
        # The depth of origin tracking to go back to; None while it is not on for this loop.
        self._origin_depth: int | None = None
        # What `run_until_complete` runs, for whoever has to end it from outside (`weft.workers`).
        self._main: Any = None
        self.set_debug(asyncio.coroutines._is_debug_mode())  # type: ignore[attr-defined]
        fork.watch()
        self._registers_tasks = not registry.serve_all_tasks()
        registry.add(self)

    if EDITION == "compiled":
        # A test may put a `time` of its own on the loop; the plain edition need not be told (`LoopCore.__init__`).
        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, value)
            if name == "time":
                self._has_own_clock = True

        def __delattr__(self, name: str) -> None:
            super().__delattr__(name)
            if name == "time":
                self._has_own_clock = type(self).time is not LoopCore.time

    def __repr__(self) -> str:
        return f"<{type(self).__name__} running={self.is_running()} closed={self.is_closed()} debug={self.get_debug()}>"

    # -- running, stopping, closing --

    def run_forever(self) -> None:
        """Run until `stop` is called. A loop that runs, or a thread in which a loop runs: RuntimeError."""
        self._check_closed()
        self._check_running()
        try:
            self._track_origins(self._debug)
            self._generators.start(self)
            self._signals.start(self)
            self._thread_id = threading.get_ident()
            asyncio._set_running_loop(self)
            self._run_until_stopped()
        finally:
            self._stopping = False
            self._thread_id = 0
            asyncio._set_running_loop(None)
            self._signals.finish()
            self._generators.finish()
            self._track_origins(False)

    def run_until_complete(self, future: Any) -> Any:
        """Run until a future (or a task made of the coroutine given) is done; its result, or what it raised."""
        self._check_closed()
        self._check_running()
        is_new = not asyncio.isfuture(future)
        future = asyncio.ensure_future(future, loop=self)
        if is_new:
            # Should it not finish, the caller hears of it from us.
            future._log_destroy_pending = False
        self._main = future
        future.add_done_callback(_stop_loop_of)
        try:
            self.run_forever()
        except BaseException:
            if is_new and future.done() and not future.cancelled():
                # The exception that passes is the task's own: nobody else could ever retrieve it.
                future.exception()
            raise
        finally:
            future.remove_done_callback(_stop_loop_of)
            self._main = None
        if not future.done():
            raise RuntimeError("Event loop stopped before Future completed.")
        return future.result()

    def close(self) -> None:
        """Drop what is scheduled, report tasks that never finished, let executor and poller go. Twice is fine."""
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        if self._closed:
            return
        if self._debug:
            report.logger.debug("Close %r", self)
        try:
            report.report_unfinished(self, self._tasks())
            self._signals.close(self)
        finally:
            self._closed = True
            registry.discard(self)
            self._children.close()
            self._clear()
            self._executor.close()
            self._poller.close()
            self._watched_files.clear()

    def __del__(self) -> None:
        if not self._closed:
            warnings.warn(f"unclosed event loop {self!r}", ResourceWarning, source=self, stacklevel=1)
            if not self.is_running():
                self.close()

    def _check_running(self) -> None:
        if self.is_running():
            raise RuntimeError("This event loop is already running")
        if asyncio._get_running_loop() is not None:
            raise RuntimeError("Cannot run the event loop while another loop is running")

    def _lose(self) -> None:
        """This process is a child that was forked from the loop's: see `_host/fork.py`."""
        for task in self._tasks():
            task._log_destroy_pending = False
        self._signals.forget()
        self._executor.forget()
        self._children.forget()
        self._poller.forget()
        self._poller = fork.LostPoller(self._pid)
        self._thread_id = 0
        self._closed = True
        self._clear()

    def _check_closed(self) -> None:
        if self._closed:
            if os.getpid() != self._pid:
                raise fork.lost_error(self._pid)
            raise RuntimeError("Event loop is closed")

    # -- async generators, threads --

    def shutdown_asyncgens(self) -> Coroutine[Any, Any, None]:
        """Close every async generator that this loop still knows."""
        return self._generators.shutdown(self)

    def run_in_executor(self, executor: Executor | None, func: Callable[[*_Ts], _T], *args: *_Ts) -> asyncio.Future[_T]:
        """A future for `func(*args)` run by a thread of the default executor (None) or by `executor`."""
        self._check_closed()
        if self._debug:
            self._check_callback(func, "run_in_executor")
        return self._executor.run(self, executor, func, args)

    def set_default_executor(self, executor: Executor) -> None:
        """The executor, a ThreadPoolExecutor, to use for None from now on."""
        self._executor.set(executor)

    def shutdown_default_executor(self, timeout: float | None = None) -> Coroutine[Any, Any, None]:
        """Join the threads of the default executor, for at most `timeout` seconds; it takes no work from now on."""
        return self._executor.shutdown(self, timeout)

    @property
    def _default_executor(self) -> ThreadPoolExecutor | None:
        return self._executor.pool

    @_default_executor.setter
    def _default_executor(self, executor: ThreadPoolExecutor | None) -> None:
        self._executor.pool = executor

    # -- names --

    def getaddrinfo(
        self, host: Any, port: Any, *, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> Coroutine[Any, Any, list[Any]]:
        """As `socket.getaddrinfo`, in the default executor."""
        return dns.getaddrinfo(self, host, port, family=family, type=type, proto=proto, flags=flags)

    def getnameinfo(self, sockaddr: Any, flags: int = 0) -> Coroutine[Any, Any, tuple[str, str]]:
        """As `socket.getnameinfo`, in the default executor."""
        return dns.getnameinfo(self, sockaddr, flags)

    # -- connections and servers: parameters and results are asyncio's --

    def create_connection(
        self, protocol_factory: Callable[[], Any], host: Any = None, port: Any = None, **options: Any
    ) -> Coroutine[Any, Any, tuple[Any, Any]]:
        """Connect a TCP (or given) stream socket; gives transport and protocol."""
        return tcp.create_connection(self, protocol_factory, host, port, **options)

    def create_server(
        self, protocol_factory: Callable[[], Any], host: Any = None, port: Any = None, **options: Any
    ) -> Coroutine[Any, Any, Any]:
        """Listen on TCP addresses, or on the socket given; gives the server."""
        return tcp.create_server(self, protocol_factory, host, port, **options)

    def create_unix_connection(
        self, protocol_factory: Callable[[], Any], path: Any = None, **options: Any
    ) -> Coroutine[Any, Any, tuple[Any, Any]]:
        """Connect a Unix stream socket; gives transport and protocol."""
        return unix.create_unix_connection(self, protocol_factory, path, **options)

    def create_unix_server(
        self, protocol_factory: Callable[[], Any], path: Any = None, **options: Any
    ) -> Coroutine[Any, Any, Any]:
        """Listen on a Unix stream socket; gives the server."""
        return unix.create_unix_server(self, protocol_factory, path, **options)

    def create_datagram_endpoint(
        self, protocol_factory: Callable[[], Any], local_addr: Any = None, remote_addr: Any = None, **options: Any
    ) -> Coroutine[Any, Any, tuple[Any, Any]]:
        """Open a UDP or Unix datagram socket; gives transport and protocol."""
        return udp.create_datagram_endpoint(self, protocol_factory, local_addr, remote_addr, **options)

    def connect_accepted_socket(
        self, protocol_factory: Callable[[], Any], sock: socket.socket, **options: Any
    ) -> Coroutine[Any, Any, tuple[Any, Any]]:
        """Make a transport of a socket that was accepted elsewhere; gives transport and protocol."""
        return tcp.connect_accepted_socket(self, protocol_factory, sock, **options)

    def start_tls(self, transport: Any, protocol: Any, sslcontext: Any, **options: Any) -> Coroutine[Any, Any, Any]:
        """Upgrade a transport to TLS; gives the transport to use instead."""
        return tls.start_tls(self, transport, protocol, sslcontext, **options)

    def sendfile(
        self, transport: Any, file: Any, offset: int = 0, count: int | None = None, *, fallback: bool = True
    ) -> Coroutine[Any, Any, int]:
        """Send a file opened in binary mode, by the kernel where it can; gives the number of bytes."""
        return sendfile.sendfile(self, transport, file, offset, count, fallback=fallback)

    def _sendfile_native(self, transport: Any, file: Any, offset: int, count: int | None) -> Coroutine[Any, Any, int]:
        return sendfile.sendfile_native(self, transport, file, offset, count)

    # -- pipes --

    def connect_read_pipe(self, protocol_factory: Callable[[], Any], pipe: Any) -> Coroutine[Any, Any, tuple[Any, Any]]:
        """Read from a file object of a pipe, FIFO, socket or terminal; gives transport and protocol."""
        return _pipe.connect_read_pipe(self, protocol_factory, pipe)

    def connect_write_pipe(
        self, protocol_factory: Callable[[], Any], pipe: Any
    ) -> Coroutine[Any, Any, tuple[Any, Any]]:
        """Write to a file object of a pipe, FIFO, socket or terminal; gives transport and protocol."""
        return _pipe.connect_write_pipe(self, protocol_factory, pipe)

    # -- child processes: the parameters are asyncio's, those of `subprocess.Popen` among them --

    def subprocess_exec(
        self, protocol_factory: Callable[[], Any], program: Any, *args: Any, **options: Any
    ) -> Coroutine[Any, Any, tuple[Any, Any]]:
        """Run a program; gives transport and protocol."""
        return subprocess_exec(self, protocol_factory, program, *args, **options)

    def subprocess_shell(
        self, protocol_factory: Callable[[], Any], cmd: bytes | str, **options: Any
    ) -> Coroutine[Any, Any, tuple[Any, Any]]:
        """Run a command by the shell; gives transport and protocol."""
        return subprocess_shell(self, protocol_factory, cmd, **options)

    # -- sockets that the caller keeps --

    def sock_recv(self, sock: socket.socket, nbytes: int) -> Coroutine[Any, Any, bytes]:
        """At most `nbytes` bytes; none at the end of the stream."""
        return sockcalls.sock_recv(self, sock, nbytes)

    def sock_recv_into(self, sock: socket.socket, buf: Any) -> Coroutine[Any, Any, int]:
        """Fill a buffer; gives the number of bytes."""
        return sockcalls.sock_recv_into(self, sock, buf)

    def sock_sendall(self, sock: socket.socket, data: Any) -> Coroutine[Any, Any, None]:
        """Send all of `data`; what was sent before an error is not known."""
        return sockcalls.sock_sendall(self, sock, data)

    def sock_recvfrom(self, sock: socket.socket, bufsize: int) -> Coroutine[Any, Any, tuple[bytes, Any]]:
        """One datagram, at most `bufsize` bytes of it, and its sender."""
        return sockcalls.sock_recvfrom(self, sock, bufsize)

    def sock_recvfrom_into(
        self, sock: socket.socket, buf: Any, nbytes: int = 0
    ) -> Coroutine[Any, Any, tuple[int, Any]]:
        """Fill a buffer (or the first `nbytes` of it) from one datagram; gives the number of bytes and the sender."""
        return sockcalls.sock_recvfrom_into(self, sock, buf, nbytes)

    def sock_sendto(self, sock: socket.socket, data: Any, address: Any) -> Coroutine[Any, Any, int]:
        """Send one datagram to an address; gives the number of bytes."""
        return sockcalls.sock_sendto(self, sock, data, address)

    def sock_sendfile(
        self, sock: socket.socket, file: Any, offset: int = 0, count: int | None = None, *, fallback: bool | None = True
    ) -> Coroutine[Any, Any, int]:
        """Send a file opened in binary mode, by the kernel where it can; gives the number of bytes."""
        return sendfile.sock_sendfile(self, sock, file, offset, count, fallback=fallback)

    def sock_connect(self, sock: socket.socket, address: Any) -> Coroutine[Any, Any, None]:
        """Connect to a resolved address, or to a name that is looked up first."""
        return sockcalls.sock_connect(self, sock, address)

    def sock_accept(self, sock: socket.socket) -> Coroutine[Any, Any, tuple[socket.socket, Any]]:
        """The next connection of a listening socket, non-blocking, and its address."""
        return sockcalls.sock_accept(self, sock)

    # -- file descriptors --

    def add_reader(self, fd: Any, callback: Callable[[*_Ts], object], *args: *_Ts) -> None:
        """Call back whenever `fd` can be read, until `remove_reader`; replaces the callback there was."""
        sockcalls.watch_file(self, fd, READ, callback, *args)

    def add_writer(self, fd: Any, callback: Callable[[*_Ts], object], *args: *_Ts) -> None:
        """Call back whenever `fd` can be written, until `remove_writer`; replaces the callback there was."""
        sockcalls.watch_file(self, fd, WRITE, callback, *args)

    def remove_reader(self, fd: Any) -> bool:
        """True if there was a callback for reading. A file object may be closed already."""
        return sockcalls.unwatch_file(self, fd, READ)

    def remove_writer(self, fd: Any) -> bool:
        """True if there was a callback for writing. A file object may be closed already."""
        return sockcalls.unwatch_file(self, fd, WRITE)

    def _add_reader(self, fd: int, callback: Callable[..., object], *args: Any) -> Handle:
        return sockcalls.watch(self, fd, READ, callback, *args)

    def _add_writer(self, fd: int, callback: Callable[..., object], *args: Any) -> Handle:
        return sockcalls.watch(self, fd, WRITE, callback, *args)

    def _remove_reader(self, fd: int) -> bool:
        return self._unwatch(fd, READ)

    def _remove_writer(self, fd: int) -> bool:
        return self._unwatch(fd, WRITE)

    def _stop_serving(self, sock: socket.socket) -> None:
        self._remove_reader(sock.fileno())
        sock.close()

    def _unwatch(self, fd: int, direction: int) -> bool:
        """Watch no more; a callback that is due in this turn does not run. False if there was none."""
        watched = None if self._closed else self._poller.unwatch(fd, direction)
        self._watched_files.pop((fd, direction), None)
        if isinstance(watched, Handle):
            watched.cancel()
        return watched is not None

    def _ensure_fd_no_transport(self, fd: Any) -> None:
        ensure_fd_no_transport(self, fd)

    @property
    def _transports(self) -> dict[int, Any]:
        owners = [(fd, owner()) for fd, owner in list(self._poller.owners.items())]
        return {fd: transport for fd, transport in owners if transport is not None}

    # -- signals --

    def add_signal_handler(self, sig: int, callback: Callable[[*_Ts], object], *args: *_Ts) -> None:
        """Call back in the loop whenever the signal comes. In the main thread only."""
        self._signals.add(self, sig, callback, args)

    def remove_signal_handler(self, sig: int) -> bool:
        """True if there was a handler; Python's default action comes back."""
        return self._signals.remove(sig)

    @property
    def _signal_handlers(self) -> dict[int, Handle]:
        return self._signals.handlers

    # -- reports --

    def get_exception_handler(self) -> report.ExceptionHandler | None:
        """The handler that was set, or None for the default one."""
        return self._exception_handler

    def set_exception_handler(self, handler: report.ExceptionHandler | None) -> None:
        """Call `handler(loop, context)` with every report from now on; None for the default one."""
        if handler is not None and not callable(handler):
            raise TypeError(f"A callable object or None is expected, got {handler!r}")
        self._exception_handler = handler

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Log a report; a custom handler may call it."""
        report.log_context(context, self._current_handle)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Report what nobody else can be told: keys of `context` as in asyncio (message, exception, task, ...)."""
        report.call_handler(self, self._exception_handler, context)

    def _describe(self, runnable: Any) -> str:
        return report.describe(runnable)

    def _report_slow(self, runnable: Any, duration: float) -> None:
        report.log_slow(runnable, duration)

    # -- debug mode --

    def get_debug(self) -> bool:
        """Whether debug mode is on."""
        return self._debug

    def set_debug(self, enabled: bool) -> None:
        """Turn debug mode on or off: checks of threads and callbacks, tracebacks of origins, slow callbacks."""
        self._debug = enabled
        if self.is_running():
            self.call_soon_threadsafe(self._track_origins, enabled)

    def _track_origins(self, enabled: bool) -> None:
        """Let coroutines record where they were created, while the loop runs in debug mode."""
        if enabled and self._origin_depth is None:
            self._origin_depth = sys.get_coroutine_origin_tracking_depth()
            sys.set_coroutine_origin_tracking_depth(asyncio.constants.DEBUG_STACK_DEPTH)
        elif not enabled and self._origin_depth is not None:
            sys.set_coroutine_origin_tracking_depth(self._origin_depth)
            self._origin_depth = None


def _stop_loop_of(future: asyncio.Future[Any]) -> None:
    if not future.cancelled() and isinstance(future.exception(), SystemExit | KeyboardInterrupt):
        # It passes through the loop by itself, and a stop would end the next run at once.
        return
    future.get_loop().stop()
