"""Catches whoever uses the number of a descriptor after its owner has closed it.

Every number that is closed within `with Strangers(world)` is at once taken by a stranger: a connected socket with bytes to
be read, so that a poller that still watches the number reports it. Afterwards each stranger must be as it was: open, its
bytes unread, nothing sent through it. Along the way every call of the loop's poller and kernel door (`_io/ops`) that names
a stranger's number is noted, and so is a second close. The kernel's own list of what an epoll set watches is read too,
as the tables of a poller could be wrong.

Both editions: the pollers and `Ops` let themselves be subclassed in Python, compiled too.
"""

from __future__ import annotations

import _socket
import importlib
import os
import socket
from typing import Any
from unittest import mock

import worlds

BYTES = b"not yours"
_close = os.close


class Stranger:
    """A socket on a number that was another's, and the peer through which it is examined."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        one, other = _socket.socketpair()
        if other.fileno() == fd:
            one, other = other, one
        if one.fileno() != fd:
            os.dup2(one.fileno(), fd, inheritable=False)
            one.close()
        else:
            one.detach()
        self._peer = other
        self._peer.setblocking(False)
        self._peer.send(BYTES)
        self._inode = os.fstat(fd).st_ino

    def complaints(self) -> list[str]:
        """What was done to the stranger; frees its number."""
        try:
            inode = os.fstat(self.fd).st_ino
        except OSError:
            inode = -1
        said = []
        if inode != self._inode:
            said.append(f"fd {self.fd}: a stranger's descriptor was closed")
        else:
            mine = _socket.socket(fileno=self.fd)
            mine.setblocking(False)
            try:
                left = mine.recv(100)
            except BlockingIOError:
                left = b""
            if left != BYTES:
                said.append(f"fd {self.fd}: a stranger's bytes were read: {left!r} is left")
            try:
                said.append(f"fd {self.fd}: a stranger's connection was used: its peer got {self._peer.recv(100)!r}")
            except BlockingIOError:
                pass  # nothing was sent, and nothing shut down
            mine.close()
        self.leave()
        return said

    def leave(self) -> None:
        self._peer.close()


class Strangers:
    """`with Strangers() as strangers:` around a loop of `strangers.new_loop(world)`; `check` raises what was found."""

    def __init__(self) -> None:
        self.complaints: list[str] = []
        self.count = 0
        self._held: dict[int, Stranger] = {}
        self._patches: list[Any] = []

    def __enter__(self) -> Strangers:
        real_close = socket.socket._real_close  # type: ignore[attr-defined]

        def closing_socket(sock: socket.socket, *args: Any) -> None:
            fd = sock.fileno()
            real_close(sock, *args)
            if fd >= 0:
                self.settle(fd)

        self._patches = [mock.patch.object(socket.socket, "_real_close", closing_socket)]
        self._patches.append(mock.patch("os.close", self.close))
        for patch in self._patches:
            patch.start()
        return self

    def __exit__(self, *args: Any) -> None:
        for patch in reversed(self._patches):
            patch.stop()
        held, self._held = self._held, {}
        for stranger in held.values():
            self.complaints += stranger.complaints()

    def close(self, fd: int) -> None:
        """`os.close`, and the number's next owner."""
        self.note("close", fd)
        _close(fd)
        self.settle(fd)

    def settle(self, fd: int) -> None:
        """`fd` was just closed: a stranger takes the number."""
        self.count += 1
        if former := self._held.get(fd):
            self.complaints.append(f"fd {fd}: a stranger's descriptor was closed")
            former.leave()
        self._held[fd] = Stranger(fd)

    def note(self, call: str, fd: Any) -> None:
        if fd in self._held:
            self.complaints.append(f"fd {fd}: {call} of a number that its owner has closed")

    def new_loop(self, world: worlds.World) -> Any:
        """A loop of `world`, observed if it is Weft's; the world takes its reports."""
        if not world.weft_loop:
            return world.new_loop()
        return world.new_loop(_observed_poller(self, world.poller))

    def look_into(self, loop: Any) -> None:
        """The kernel's set must not hold a stranger."""
        set_fd = getattr(getattr(loop, "_poller", None), "set_fd", -1)
        if set_fd < 0:
            return
        with open(f"/proc/self/fdinfo/{set_fd}", encoding="ascii") as lines:
            watched = [int(line.split()[1]) for line in lines if line.startswith("tfd:")]
        for fd in watched:
            self.note("epoll still watches", fd)

    def check(self) -> None:
        assert not self.complaints, "\n".join(self.complaints[:20])


def _observed_poller(strangers: Strangers, name: str) -> Any:
    io = importlib.import_module("weft._io")
    ops_class = importlib.import_module("weft._io.ops").Ops
    sample = io.make_poller(name)
    plain = type(sample)
    sample.close()

    def watch(self: Any, fd: int, direction: int, runnable: Any) -> Any:
        strangers.note("watch", fd)
        return plain.watch(self, fd, direction, runnable)

    def unwatch(self: Any, fd: int, direction: int) -> Any:
        strangers.note("unwatch", fd)
        return plain.unwatch(self, fd, direction)

    def observed_call(call: str) -> Any:
        original = getattr(ops_class, call)

        def method(self: Any, *args: Any) -> Any:
            # (sock, fd, ...), or (fd, ...) where there is no socket.
            for argument in args[:2]:
                if type(argument) is int:
                    strangers.note(call, argument)
                    break
            return original(self, *args)

        return method

    calls = [call for call in dir(ops_class) if not call.startswith("_") and callable(getattr(ops_class, call))]
    observed_ops = type("ObservedOps", (ops_class,), {call: observed_call(call) for call in calls})
    observed = type("ObservedPoller", (plain,), {"watch": watch, "unwatch": unwatch})
    before = _epoll_sets()
    poller = observed()
    poller.ops = observed_ops()
    made = _epoll_sets() - before
    poller.set_fd = made.pop() if len(made) == 1 else -1
    return poller


def _epoll_sets() -> set[int]:
    """The epoll sets that this process has open."""
    if not os.path.isdir("/proc/self/fd"):
        return set()
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            if "[eventpoll]" in os.readlink(f"/proc/self/fd/{name}"):
                found.add(int(name))
        except FileNotFoundError:
            continue  # the descriptor of the listing itself
    return found
