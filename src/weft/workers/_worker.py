"""A worker's side: it takes its sockets from the supervisor, says when it serves, and drains when it is told to.

How a worker ends. The supervisor says `drain`; the loop stops accepting, and waits (`SETTLE_S` at most) until each accepted
connection has sent something and that has been read, so that no request is caught between `accept` and the program. A
program that asks `is_draining` sends its clients away meanwhile: then the wait is for their connections to be gone. At last
it says `quiet`, and the supervisor sends SIGTERM, which means to the program what it always means. A program that leaves
SIGTERM alone gets `_on_sigterm`: wait until the connections of its servers are gone or the time is up, and cancel what
`asyncio.run` runs, or stop `run_forever`.

Where the supervisor is gone, which the end of the channel says, the worker does all that by itself. If no loop of Weft runs to
read that, a signal tells, which the kernel sends for whatever happens to the channel.

Rules for whoever edits this file:

- No thread: the program may fork. The channel is read by every loop of Weft in this process, whichever runs.
- A forked child of a worker is no worker (`pid`): it binds for itself.
- Nothing here closes a connection: that is for the program, whose protocol knows how.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import select
import signal
import socket
import struct
import sys
import termios
import threading
import time
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any

from weft._host import registry
from weft._net import handed
from weft.workers._channel import SIGNAL, Channel, Message
from weft.workers._say import say
from weft.workers._slots import CLEAN_UP_S, SEND_AWAY_S, SETTLE_S

__all__ = ["VARIABLE", "Worker", "current", "join"]

#: What the supervisor tells a worker at its start: descriptor of the channel, the supervisor's pid, slot, slots, seconds
#: to drain.
VARIABLE = "WEFT_RUN_WORKER"

#: How long an answer of the supervisor may take.
ANSWER_S = 10.0
#: How often a drain looks at the connections.
LOOK_S = 0.01

_current: Worker | None = None


def current() -> Worker | None:
    """This process as a worker; None if it is none."""
    return _current if _current is not None and _current.pid == os.getpid() else None


def join() -> Worker | None:
    """Be the worker that the environment says this process is, from now on; None if it says nothing."""
    global _current
    told = os.environ.pop(VARIABLE, None)
    if told is not None:
        fd, supervisor, slot, slots, drain_s = told.split(":")
        sock = _channel_to(int(supervisor), int(fd))
        if sock is not None:
            _current = Worker(Channel(sock), int(slot), int(slots), float(drain_s))
            _current.start()
    return current()


def _channel_to(supervisor: int, fd: int) -> socket.socket | None:
    """The channel's socket. None in a process that has the environment of a worker and not its descriptors."""
    try:
        sock = socket.socket(fileno=fd)
    except OSError:
        return None
    if sock.family != socket.AF_UNIX or (sys.platform == "linux" and _peer(sock) != supervisor):
        sock.detach()
        return None
    sock.set_inheritable(False)
    return sock


def _peer(sock: socket.socket) -> int:
    """The process that made the pair of sockets."""
    return int(struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])


class Worker:
    """This process as a worker of a supervisor."""

    def __init__(self, channel: Channel, slot: int, slots: int, drain_s: float) -> None:
        self.pid = os.getpid()
        self.slot = slot
        self.slots = slots
        self._drain_s = drain_s
        self._channel = channel
        # Loops in two threads may ask at once.
        self._lock = threading.Lock()
        # Questions so far. An answer names its own: one that came too late for who asked is not the next one's.
        self._asked = 0
        # Those that read the channel.
        self._loops: weakref.WeakSet[Any] = weakref.WeakSet()
        # What was handed over, by address: an open one is in use.
        self._given: dict[tuple[int, Any], socket.socket] = {}
        # The inodes of all that was: the program may have made other sockets of the descriptors.
        self._inodes: set[int] = set()
        self._is_ready = False
        #: It is to stop accepting, or has.
        self.is_draining = False
        self._is_settling = False
        # The program has asked whether it drains, and so lets its connections end by themselves.
        self._sends_away = False
        # SIGTERM is sent, by the supervisor or in its place.
        self._is_ending = False
        #: The main task was cancelled, because the time to drain was up or there was nothing left to do.
        self.has_cancelled = False
        # The program has a handler of its own for SIGTERM. If it gives the signal on, as uvicorn does, it has drained.
        self._has_own_drain = False
        #: What SIGTERM does where there is nothing to drain.
        self.die: Callable[[int, FrameType | None], object] = _die

    def __str__(self) -> str:
        return f"worker {self.slot} (pid {self.pid})"

    def start(self) -> None:
        """Become the source of listening sockets, and listen to the supervisor on each loop that gets made."""
        handed.set_source(self)
        registry.observers.append(self._watch)
        running: Any = asyncio._get_running_loop()
        if running in registry.live():
            self._watch(running)
        if threading.current_thread() is threading.main_thread():
            if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
                signal.signal(signal.SIGTERM, self._on_sigterm)
            if signal.getsignal(SIGNAL) is signal.SIG_DFL:
                signal.signal(SIGNAL, self._on_news)
                self._channel.signal_to(self.pid)
                self._on_news(SIGNAL, None)

    # -- sockets --

    def socket_for(self, family: int, address: Any) -> socket.socket | None:
        if os.getpid() != self.pid:
            return None
        if family == socket.AF_UNIX and address[:1] != "\0":
            address = os.path.abspath(address)
        key = (family, address)
        given = self._given.get(key)
        if given is not None and given.fileno() != -1:
            if family != socket.AF_UNIX and address[1] == 0:
                return None
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        answer, fds = self._ask({"ask": "socket", "family": family, "address": address})
        code = answer.get("errno")
        if code is not None:
            raise OSError(code, os.strerror(code))
        if not fds:
            return None
        sock = self._given[key] = self._taken(fds[0])
        return sock

    def sockets(self) -> list[socket.socket]:
        """Copies of the slot's sockets for `--bind`, in its order."""
        _, fds = self._ask({"ask": "binds"})
        return [self._taken(fd) for fd in fds]

    def is_ours(self, sock: socket.socket) -> bool:
        return os.fstat(sock.fileno()).st_ino in self._inodes

    def _taken(self, fd: int) -> socket.socket:
        self._inodes.add(os.fstat(fd).st_ino)
        return socket.socket(fileno=fd)

    def asks_whether_it_drains(self) -> bool:
        self._sends_away = True
        return self.is_draining

    def note_serving(self) -> None:
        """Tell the supervisor that this worker serves; once."""
        if not self._is_ready and os.getpid() == self.pid:
            self._is_ready = True
            self._see_handler()
            self._channel.send({"is": "ready"})

    def _ask(self, question: Message) -> tuple[Message, list[int]]:
        """The supervisor's answer; ConnectionError if it is gone, TimeoutError if it does not come."""
        deadline = time.monotonic() + ANSWER_S
        with self._lock:
            self._asked += 1
            if self._channel.send({**question, "number": self._asked}):
                poll = select.poll()
                poll.register(self._channel.fileno(), select.POLLIN)
                while not self._channel.is_ended:
                    left_s = deadline - time.monotonic()
                    if left_s <= 0:
                        raise TimeoutError("the supervisor of the workers does not answer")
                    poll.poll(left_s * 1000)
                    is_told, answer = self._receive()
                    if is_told:
                        self._obey_soon()
                    if answer is not None:
                        return answer
        self._obey_soon()
        raise ConnectionError("the supervisor of the workers is gone")

    def _receive(self) -> tuple[bool, tuple[Message, list[int]] | None]:
        """Whether an order to drain is among what has come, and the answer to the last question. With the lock."""
        is_told, answer = False, None
        for message, fds in self._channel.receive():
            if message.get("do") == "drain":
                is_told = True
            elif message.get("number") == self._asked and answer is None:
                answer = message, fds
            else:
                for fd in fds:
                    os.close(fd)
        return is_told, answer

    # -- orders --

    def _watch(self, loop: Any) -> None:
        """Let a loop read the channel, from its next turn on."""
        if os.getpid() == self.pid:
            self._loops.add(loop)
            if not self._channel.is_ended:
                loop._add_reader(self._channel.fileno(), self._read, loop)
            if self.is_draining:
                loop.call_soon_threadsafe(self._settle, loop)

    def _watching(self) -> list[Any]:
        """The open loops that read the channel. From any thread, and in a signal handler."""
        return [loop for loop in registry.live() if loop in self._loops]

    def _read(self, loop: Any) -> None:
        if os.getpid() != self.pid:
            return
        with self._lock:
            is_told, _ = self._receive()
        if self._channel.is_ended:
            loop._remove_reader(self._channel.fileno())
            # Nobody else will do it.
            loop.call_later(self._drain_s + CLEAN_UP_S, os.kill, self.pid, signal.SIGKILL)
        if is_told or self._channel.is_ended:
            self._settle(loop)

    def _obey_soon(self) -> None:
        """An order came, or the end, while somebody waited for an answer."""
        self.is_draining = True
        for loop in self._watching():
            with contextlib.suppress(RuntimeError):  # it was closed this moment
                loop.call_soon_threadsafe(self._settle, loop)

    def _settle(self, loop: Any) -> None:
        """Stop accepting; and when what has come is read, go on to SIGTERM."""
        self.is_draining = True
        if not self._is_settling:
            self._is_settling = True
            self._see_handler()
            self._stop_accepting(loop)
            self._look(loop, time.monotonic() + min(SEND_AWAY_S if self._sends_away else SETTLE_S, self._drain_s))

    def _stop_accepting(self, loop: Any) -> None:
        for server in list(handed.servers):
            if server._loop is loop:
                server._stop_accepting()
            else:
                with contextlib.suppress(RuntimeError):  # a loop that is closed
                    server._loop.call_soon_threadsafe(server._stop_accepting)

    def _look(self, loop: Any, deadline: float) -> None:
        """Go on when all is quiet, or when it is time."""
        if time.monotonic() < deadline and not self._is_quiet():
            loop.call_later(LOOK_S, self._look, loop, deadline)
        elif self._channel.is_ended or not self._channel.send({"is": "quiet"}):
            self._end_alone()
        else:
            self._is_ending = True

    def _is_quiet(self) -> bool:
        if self._sends_away:
            return not any(server._clients() for server in list(handed.servers))
        return all(_is_read(server, each) for server in list(handed.servers) for each in server._clients())

    def _on_news(self, signum: int, frame: FrameType | None) -> None:
        """Something has happened to the channel. A loop that reads it sees to that; here is what happens without one."""
        if os.getpid() != self.pid or any(loop.is_running() for loop in self._watching()):
            return
        if self._channel.is_hung_up():
            self._end_alone()
        elif self._lock.acquire(blocking=False):  # else somebody reads an answer, and whatever comes with it
            try:
                is_told, _ = self._receive()
            finally:
                self._lock.release()
            if is_told:
                self.is_draining = True
                if not self._sends_away:
                    self._channel.send({"is": "quiet"})

    def _end_alone(self) -> None:
        """SIGTERM, once, as the supervisor would have sent it."""
        if not self._is_ending:
            self._is_ending = True
            say(f"the supervisor of {self} is gone: it drains, and ends")
            os.kill(self.pid, signal.SIGTERM)

    # -- SIGTERM, in a program that leaves it alone --

    def _on_sigterm(self, signum: int, frame: FrameType | None) -> None:
        loop: Any = asyncio._get_running_loop()
        if os.getpid() != self.pid:
            _die(signum, frame)
        elif loop not in self._loops or self._has_own_drain:
            self.die(signum, frame)
        else:
            loop.call_soon_threadsafe(self._drain, loop, loop._main, time.monotonic() + self._drain_s)

    def _see_handler(self) -> None:
        self._has_own_drain = self._has_own_drain or signal.getsignal(signal.SIGTERM) != self._on_sigterm

    def _drain(self, loop: Any, main: Any, deadline: float) -> None:
        self.is_draining = True
        self._stop_accepting(loop)
        self._wait_for_end(loop, main, deadline)

    def _wait_for_end(self, loop: Any, main: Any, deadline: float) -> None:
        if time.monotonic() < deadline and any(server._active_count for server in list(handed.servers)):
            loop.call_later(LOOK_S, self._wait_for_end, loop, main, deadline)
        elif main is not None and not main.done():
            self._cancel(main)
        elif loop._main is None:
            loop.stop()  # the program called run_forever
        elif isinstance(loop._main, asyncio.Task) and not loop._main.done():
            self._cancel(loop._main)  # the signal came when the program ran something before that
        else:
            # What ran has ended meanwhile, and its runner cleans up.
            loop.call_later(LOOK_S, self._wait_for_end, loop, main, deadline)

    def _cancel(self, main: Any) -> None:
        self.has_cancelled = True
        main.cancel()


def _die(signum: int, frame: FrameType | None) -> None:
    signal.signal(signum, signal.SIG_DFL)
    signal.raise_signal(signum)


# Where Linux's `struct tcp_info` counts the bytes that came from the peer (since 4.1).
_BYTES_RECEIVED = slice(128, 136)


def _is_read(server: Any, transport: Any) -> bool:
    """Whether a connection is known to have sent something, all of which has been read.

    It is not known on a Unix socket, nor with TLS, where the first that comes is no request.
    """
    sock = transport.get_extra_info("socket")
    if sock is None or sock.fileno() == -1:
        return True
    if sys.platform != "linux" or sock.family == socket.AF_UNIX or server._ssl_context is not None:
        return False
    try:
        (unread,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(4)))
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED.stop)[_BYTES_RECEIVED]
    except OSError:
        return True
    return not unread and any(info)
