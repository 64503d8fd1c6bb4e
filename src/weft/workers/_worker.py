"""A worker's side: it takes its sockets from the supervisor, says when it serves, and drains when it is told to.

How a worker ends. The supervisor says `drain`; the loop stops accepting, and waits (`SETTLE_S` at most) until each accepted
connection has sent something and that has been read, so that no request is caught between `accept` and the program. Then it
says `quiet`, and the supervisor sends SIGTERM, which means to the program what it always means. A program that leaves SIGTERM
alone gets `_on_sigterm`: wait until the connections of its servers are gone or the time is up, and cancel what
`asyncio.run` runs.

Where the supervisor is gone, which the end of the channel says, the worker does all that by itself.

Rules for whoever edits this file:

- No thread: the program may fork. The channel is read by every loop of Weft in this process, whichever runs.
- A forked child of a worker is no worker (`_pid`): it binds for itself.
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
from types import FrameType
from typing import Any

from weft._host import registry
from weft._net import handed
from weft.workers._channel import Channel, Message

__all__ = ["VARIABLE", "Worker", "current", "join"]

#: What the supervisor tells a worker at its start: descriptor of the channel, slot, slots, seconds to drain.
VARIABLE = "WEFT_RUN_WORKER"

SETTLE_S = 0.5
#: How long an answer of the supervisor may take.
ANSWER_S = 10.0
#: A program has this much longer than the drain to clean up, before SIGKILL.
CLEAN_UP_S = 2.0
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
        fd, slot, slots, drain_s = told.split(":")
        os.set_inheritable(int(fd), False)
        _current = Worker(Channel(socket.socket(fileno=int(fd))), int(slot), int(slots), float(drain_s))
        _current.start()
    return current()


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
        # What was handed over, by address: an open one is in use.
        self._given: dict[tuple[int, Any], socket.socket] = {}
        self._bound: list[socket.socket] = []
        self._is_ready = False
        self._is_settling = False
        #: The main task was cancelled, because the time to drain was up or there was nothing left to do.
        self.has_cancelled = False

    def start(self) -> None:
        """Become the source of listening sockets, and listen to the supervisor on each loop that gets made."""
        handed.set_source(self)
        registry.observers.append(self._on_new_loop)
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._on_sigterm)

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
        sock = self._given[key] = socket.socket(fileno=fds[0])
        return sock

    def sockets(self) -> list[socket.socket]:
        """Copies of the slot's sockets for `--bind`, in its order."""
        _, fds = self._ask({"ask": "binds"})
        sockets = [socket.socket(fileno=fd) for fd in fds]
        self._bound += sockets
        return list(sockets)

    def is_ours(self, sock: socket.socket) -> bool:
        return any(sock is each for each in (*self._given.values(), *self._bound))

    def note_serving(self) -> None:
        """Tell the supervisor that this worker serves; once."""
        if not self._is_ready and os.getpid() == self.pid:
            self._is_ready = True
            self._channel.send({"is": "ready"})

    def _ask(self, question: Message) -> tuple[Message, list[int]]:
        """The supervisor's answer; ConnectionError if it is gone, TimeoutError if it does not come."""
        deadline = time.monotonic() + ANSWER_S
        with self._lock:
            if self._channel.send(question):
                poll = select.poll()
                poll.register(self._channel.fileno(), select.POLLIN)
                while not self._channel.is_ended:
                    left_s = deadline - time.monotonic()
                    if left_s <= 0:
                        raise TimeoutError("the supervisor of the workers does not answer")
                    poll.poll(left_s * 1000)
                    answer = None
                    for message, fds in self._channel.receive():
                        if message.get("do") == "answer":
                            answer = message, fds
                        else:
                            self._obey_later()
                    if answer is not None:
                        return answer
                self._obey_later()
        raise ConnectionError("the supervisor of the workers is gone")

    # -- orders --

    def _on_new_loop(self, loop: Any) -> None:
        if os.getpid() == self.pid and not self._channel.is_ended:
            loop._add_reader(self._channel.fileno(), self._read, loop)

    def _read(self, loop: Any) -> None:
        with self._lock:
            orders = self._channel.receive()
        if os.getpid() != self.pid:
            return
        if self._channel.is_ended:
            loop._remove_reader(self._channel.fileno())
        if orders or self._channel.is_ended:
            self._settle(loop)

    def _obey_later(self) -> None:
        """An order came, or the end, while somebody waited for an answer, which is when a server starts: in a loop."""
        loop: Any = asyncio.get_running_loop()
        loop.call_soon(self._settle, loop)

    def _settle(self, loop: Any) -> None:
        """Stop accepting; and when what has come is read, go on to SIGTERM."""
        if not self._is_settling:
            self._is_settling = True
            self._stop_accepting(loop)
            self._look(loop, time.monotonic() + min(SETTLE_S, self._drain_s))

    def _stop_accepting(self, loop: Any) -> None:
        for server in list(handed.servers):
            if server._loop is loop:
                server._stop_accepting()
            else:
                with contextlib.suppress(RuntimeError):  # a loop that is closed
                    server._loop.call_soon_threadsafe(server._stop_accepting)

    def _look(self, loop: Any, deadline: float) -> None:
        if time.monotonic() < deadline and not all(map(_is_read, _connections())):
            loop.call_later(LOOK_S, self._look, loop, deadline)
        elif not self._channel.is_ended:
            self._channel.send({"is": "quiet"})
        else:
            print(f"weft workers: the supervisor of worker {self.slot} (pid {self.pid}) is gone", file=sys.stderr)
            loop.call_later(self._drain_s + CLEAN_UP_S, os.kill, self.pid, signal.SIGKILL)
            os.kill(self.pid, signal.SIGTERM)

    # -- SIGTERM, in a program that leaves it alone --

    def _on_sigterm(self, signum: int, frame: FrameType | None) -> None:
        loop: Any = asyncio._get_running_loop()
        if os.getpid() != self.pid or loop is None or not hasattr(loop, "_main"):
            signal.signal(signum, signal.SIG_DFL)
            signal.raise_signal(signum)
            return
        loop.call_soon_threadsafe(self._drain, loop, loop._main, time.monotonic() + self._drain_s)

    def _drain(self, loop: Any, main: Any, deadline: float) -> None:
        self._stop_accepting(loop)
        self._wait_for_end(loop, main, deadline)

    def _wait_for_end(self, loop: Any, main: Any, deadline: float) -> None:
        if time.monotonic() < deadline and any(server._active_count for server in list(handed.servers)):
            loop.call_later(LOOK_S, self._wait_for_end, loop, main, deadline)
        elif main is not None and not main.done():
            self.has_cancelled = True
            main.cancel()


def _connections() -> list[Any]:
    return [transport for server in list(handed.servers) for transport in server._clients()]


# Where Linux's `struct tcp_info` counts the bytes that came from the peer (since 4.1).
_BYTES_RECEIVED = slice(128, 136)


def _is_read(transport: Any) -> bool:
    """Whether a connection has sent something, all of which has been read; True where that can't be known."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.fileno() == -1:
        return True
    try:
        (unread,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(4)))
        if unread:
            return False
        if sys.platform != "linux" or sock.family not in (socket.AF_INET, socket.AF_INET6):
            return True
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED.stop)[_BYTES_RECEIVED]
    except OSError:
        return True
    return len(info) < 8 or any(info)
