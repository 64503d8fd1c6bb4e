"""The listening sockets of a supervisor: for each address one socket a slot, bound here and given to the slot's workers.

Rules for whoever edits this file:

- A slot's socket is made once and lives until all ends: closing one resets the connections that wait in it.
- Sockets of a TCP address share their port by SO_REUSEPORT. That alone would also share it with a stranger of the same
  user, so a trial without it comes first. A Unix path has one socket, for all slots.
- A program may remove the path of its Unix socket when it ends, or fails to start. It is the others' path too, and a bound
  socket can't be bound again: so each path has a spare, a hard link beside it, of which `mend` makes it anew.
- Nothing is made to listen here. A slot that has had no worker gets no connections; its first worker's `listen` puts it
  into the kernel's choice for good.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
from typing import Any

from weft._net.unix import bind_path

__all__ = ["BadAddress", "Listeners", "parse_bind"]

#: Address family, and the address as `getaddrinfo` gives it (a path, for AF_UNIX).
Key = tuple[int, Any]

# This machine has no such family, or no such address.
_ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)

_HOST_PORT = re.compile(r"(?:\[(?P<v6>[^\[\]]*)\]|(?P<host>[^\[\]:]*)):(?P<port>\d+)", re.ASCII)


class BadAddress(Exception):
    """An address that can't be listened on, said in one line."""


def parse_bind(text: str) -> list[Key]:
    """The addresses that `HOST:PORT`, `[IPV6]:PORT`, `:PORT` or `unix:PATH` names. BadAddress if there is none."""
    if text.startswith("unix:"):
        if not text[5:]:
            raise BadAddress(f"{text!r} names no path")
        return [(int(socket.AF_UNIX), os.path.abspath(text[5:]))]
    found = _HOST_PORT.fullmatch(text)
    if found is None or int(found["port"]) > 65535:
        raise BadAddress(f"{text!r} is not an address: HOST:PORT, [IPV6]:PORT, :PORT or unix:PATH")
    host = found["v6"] or found["host"] or None
    try:
        infos = socket.getaddrinfo(host, int(found["port"]), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise BadAddress(f"can't resolve {text!r}: {error.strerror}") from None
    return list(dict.fromkeys((int(family), address) for family, _, _, _, address in infos))


class Listeners:
    """The sockets of all slots."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._sockets: dict[Key, list[socket.socket]] = {}
        #: The addresses that were asked for on the command line, in its order.
        self.binds: list[Key] = []
        # What the paths of Unix sockets are: inode, and the spare link ("" where the file system has none).
        self._paths: dict[Key, tuple[int, str]] = {}

    def bind_all(self, text: str) -> None:
        """Bind what `--bind` names; BadAddress if that fails. A family that the machine lacks is passed over."""
        keys = parse_bind(text)
        bound, absent = [], None
        for key in keys:
            try:
                self._bind(key)
            except OSError as error:
                if error.errno in _ABSENT and len(keys) > 1:
                    absent = error
                    continue
                raise BadAddress(f"can't listen on {text}: {_reason(error)}") from None
            bound.append(key)
        if not bound:
            assert absent is not None
            raise BadAddress(f"can't listen on {text}: {_reason(absent)}")
        self.binds += bound

    def socket_for(self, key: Key, slot: int) -> socket.socket | None:
        """The socket of a slot for an address, bound now if need be; None for a port 0 that `--bind` does not name.

        (Whoever asks for any port wants one of its own.) OSError as from `bind`.
        """
        found = self._sockets.get(key) or self._by_bound(key)
        if found is None:
            if key[0] != socket.AF_UNIX and key[1][1] == 0:
                return None
            found = self._bind(key)
        return found[slot]

    def keep(self, used: set[Key]) -> None:
        """Close all sockets but those of these addresses and of `--bind`."""
        for key in set(self._sockets) - used - set(self.binds):
            self._close(key)

    def mend(self) -> list[str]:
        """Make the paths of Unix sockets anew that somebody has removed; gives those. One that is another's now is left."""
        mended = []
        for (_, path), (_, spare) in self._paths.items():
            if spare and not os.path.lexists(path):
                with contextlib.suppress(OSError):
                    os.link(spare, path)
                    mended.append(path)
        return mended

    def refuse(self) -> None:
        """Close all sockets, so that nobody waits in a queue once the workers have closed theirs. Paths stay until `close`."""
        for sockets in self._sockets.values():
            for sock in sockets:
                sock.close()
        self._sockets.clear()

    def close(self) -> None:
        for key in self._sockets.keys() | self._paths.keys():
            self._close(key)

    def _by_bound(self, key: Key) -> list[socket.socket] | None:
        """The sockets of a `--bind` with port 0, found by the port that it got."""
        for bind in self.binds:
            sockets = self._sockets.get(bind)
            if sockets and bind[0] == key[0] and sockets[0].getsockname() == key[1]:
                return sockets
        return None

    def _bind(self, key: Key) -> list[socket.socket]:
        family, address = key
        if key in self._sockets:
            return self._sockets[key]
        if family == socket.AF_UNIX:
            one = bind_path(address)
            one.setblocking(False)
            if not address.startswith("\0"):
                self._paths[key] = (os.stat(address).st_ino, _spare_of(address))
            self._sockets[key] = [one] * self._slots
            return self._sockets[key]
        if address[1] != 0:
            _new_socket(family, address, is_shared=False).close()
        sockets: list[socket.socket] = []
        try:
            for _ in range(self._slots):
                sockets.append(_new_socket(family, address, is_shared=True))
                address = sockets[0].getsockname()
        except BaseException:
            for sock in sockets:
                sock.close()
            raise
        self._sockets[key] = sockets
        return sockets

    def _close(self, key: Key) -> None:
        for sock in self._sockets.pop(key, ()):
            sock.close()
        inode, spare = self._paths.pop(key, (None, ""))
        if spare:
            with contextlib.suppress(OSError):
                os.unlink(spare)
        if inode is not None:
            with contextlib.suppress(FileNotFoundError):
                if os.stat(key[1]).st_ino == inode:
                    os.unlink(key[1])


def _spare_of(path: str) -> str:
    """A second, hidden name of a path, of this process; "" if there can't be one."""
    folder, name = os.path.split(path)
    spare = os.path.join(folder, f".{name}.{os.getpid()}")
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(spare)  # of a former process with this pid
        os.link(path, spare)
    except OSError:
        return ""
    return spare


def _new_socket(family: int, address: Any, *, is_shared: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, True)
        if is_shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, True)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, True)
        sock.bind(address)
    except BaseException:
        sock.close()
        raise
    return sock


def _reason(error: OSError) -> str:
    # Without a number it is Python's own word, "AF_UNIX path too long".
    return str(error) if error.strerror is None else error.strerror.lower()
