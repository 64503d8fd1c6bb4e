"""Peers without a loop: a socket, and one that talks TLS; both answer at once, with BlockingIOError for "not now"."""

from __future__ import annotations

import socket
import ssl
from typing import Any

from .ends import KEY_BYTES, LINGER_NOT, SIZES, End


class Bare:
    """A client of a server under test."""

    def __init__(self, plan: Any, sock: Any) -> None:
        self.plan = plan
        self.sock = sock
        self.key = plan.dice.randbytes(KEY_BYTES)
        self.offered = 0
        self.received = bytearray()
        self.over = False
        sock.setblocking(False)
        plan.bare.append(self)

    stream = End.stream

    def act(self) -> None:
        if self.over:
            return
        dice = self.plan.dice
        try:
            match dice.randrange(8):
                case 0 | 1 | 2:
                    self.offered += self.sock.send(self.stream(dice.choice(SIZES[1:]), self.offered))
                case 3 | 4 | 5:
                    self.received += self.sock.recv(dice.choice(SIZES[1:]))
                case 6:
                    self.sock.shutdown(socket.SHUT_WR)
                case 7:
                    self.close(reset=dice.random() < 0.5)
        except BlockingIOError:
            pass  # nothing there, or no room: the next deed
        except OSError:
            self.close()

    def close(self, reset: bool = False) -> None:
        if not self.over:
            self.over = True
            if reset:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
            self.sock.close()

    def drain(self) -> None:
        """Read on until the end; then it is over."""
        try:
            while not self.over:
                data = self.sock.recv(1 << 20)
                if not data:
                    self.close()
                self.received += data
        except BlockingIOError:
            return
        except OSError:
            self.close()


class TlsSocket:
    """A connected socket that talks TLS, with the names of a plain one: the handshake goes on with each call.

    Not an `ssl.SSLSocket`: on some Pythons its failed writes stay in OpenSSL's queue of errors, which belongs to the thread,
    and the next call of any other connection fails with them.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, dice: Any) -> None:
        self._sock = sock
        self._dice = dice
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        self._shaken = False
        self._unsent = b""

    def _flush(self) -> None:
        self._unsent += self._outgoing.read()
        while self._unsent:
            self._unsent = self._unsent[self._sock.send(self._unsent) :]

    def _through(self, call: Any, argument: Any) -> Any:
        self._flush()
        while True:
            try:
                if not self._shaken:
                    self._tls.do_handshake()
                    self._shaken = True
                return call(argument)
            except ssl.SSLWantReadError:
                self._flush()
                if data := self._sock.recv(1 << 16):
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()

    def send(self, data: bytes) -> int:
        sent: int = self._through(self._tls.write, data)
        try:
            self._flush()
        except BlockingIOError:
            pass  # the next call goes on
        return sent

    def recv(self, count: int) -> bytes:
        data: bytes = self._through(self._tls.read, count)
        return data

    def shutdown(self, how: int) -> None:
        """Without a good-bye, or with rubbish instead of one."""
        if self._dice.random() < 0.5:
            self._sock.send(b"this is no record" * 3)
        self._sock.shutdown(how)

    def setblocking(self, blocking: bool) -> None:
        self._sock.setblocking(blocking)

    def setsockopt(self, *args: Any) -> None:
        self._sock.setsockopt(*args)

    def getsockname(self) -> Any:
        return self._sock.getsockname()

    def close(self) -> None:
        self._sock.close()
