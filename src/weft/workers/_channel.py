"""The line between supervisor and worker: messages, one JSON object a line, that may carry file descriptors.

Worker to supervisor: the question `{"ask": "socket", "family": …, "address": …, "number": …}` or `{"ask": "binds", …}`, and the
news `{"is": "ready"}` and `{"is": "quiet"}`. Supervisor to worker: `{"do": "drain"}`, and to each question
`{"do": "answer", "number": …}`, with the sockets or an `errno`. The end of the stream means that the other process is gone.

Descriptors arrive with the first byte of their message, or before: so they are kept in the order of arrival, and each message
says how many are its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
from collections.abc import Sequence
from typing import Any

__all__ = ["SIGNAL", "Channel", "Message"]

Message = dict[str, Any]

#: What `signal_to` sends: a signal that does nothing to a process which does not handle it (yet, or at its end any more).
SIGNAL = signal.SIGURG if hasattr(fcntl, "F_SETSIG") else signal.SIGIO

# As many as Linux lets one message carry.
_MAX_FDS = 253
_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class Channel:
    """One end. It owns the socket, and the descriptors that came and were not taken."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._text = b""
        self._fds: list[int] = []
        self.is_ended = False

    def fileno(self) -> int:
        return self._sock.fileno()

    def send(self, message: Message, fds: Sequence[int] = ()) -> bool:
        """Send at once. False if the other process is gone, or reads nothing."""
        line = json.dumps({**message, "fds": len(fds)}).encode() + b"\n"
        try:
            if fds:
                sent = socket.send_fds(self._sock, [line], fds)
            else:
                sent = self._sock.send(line, getattr(socket, "MSG_NOSIGNAL", 0))
        except OSError:
            return False
        return sent == len(line)

    def receive(self) -> list[tuple[Message, list[int]]]:
        """All messages that have come, each with its descriptors, which are the caller's from now on."""
        while not self.is_ended:
            try:
                data, fds, _, _ = socket.recv_fds(self._sock, 65536, _MAX_FDS, _CLOEXEC)
            except BlockingIOError:
                break
            except ConnectionError:
                self.is_ended = True
                break
            for fd in fds:
                os.set_inheritable(fd, False)
            self._fds += fds
            self._text += data
            self.is_ended = not data
        *lines, self._text = self._text.split(b"\n")
        messages = []
        for line in lines:
            message = json.loads(line)
            count = message.pop("fds", 0)
            own, self._fds = self._fds[:count], self._fds[count:]
            messages.append((message, own))
        return messages

    def signal_to(self, pid: int) -> None:
        """From now on, let the kernel send SIGNAL to that process whenever something comes, or the other end closes."""
        fd = self._sock.fileno()
        fcntl.fcntl(fd, fcntl.F_SETOWN, pid)
        if hasattr(fcntl, "F_SETSIG"):
            fcntl.fcntl(fd, fcntl.F_SETSIG, SIGNAL)
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)

    def is_hung_up(self) -> bool:
        """Whether the other process is gone, though it may have left messages."""
        poll = select.poll()
        poll.register(self._sock, 0)
        return bool(poll.poll(0))

    def close(self) -> None:
        self._sock.close()
        for fd in self._fds:
            with contextlib.suppress(OSError):
                os.close(fd)
        self._fds.clear()
