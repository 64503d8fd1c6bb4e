"""The load of the TLS rows: `load_fallback` over TLS sockets, same arguments, same dialogue.

It costs more CPU than the servers it loads, and runs on another core: only the servers' own CPU time is a result.
"""

from __future__ import annotations

import selectors
import socket
import ssl
import sys

from benchmarks import load_fallback
from benchmarks.servers import CERTIFICATES


class TLSClient(load_fallback.Connection):
    """One closed-loop client over TLS."""

    __slots__ = ()

    def _connect(self, address: tuple[str, int]) -> socket.socket:
        context = ssl.create_default_context(cafile=str(CERTIFICATES / "ca.pem"))
        return context.wrap_socket(super()._connect(address), server_hostname="localhost")

    def push(self, pattern: bytes) -> None:
        waits = selectors.EVENT_READ
        try:
            while self.sent < len(pattern):
                self.sent += self.sock.send(pattern[self.sent :])
        except ssl.SSLWantWriteError:
            waits |= selectors.EVENT_WRITE
        if self.selector.get_key(self.sock).events != waits:
            self.selector.modify(self.sock, waits, self)

    def pull(self, pattern: bytes) -> bool:
        # To the last byte: what is left in OpenSSL would not make the socket readable.
        try:
            while not super().pull(pattern):
                pass
        except ssl.SSLWantReadError:
            return False
        return True


if __name__ == "__main__":
    sys.exit(load_fallback.main(sys.argv[1:], TLSClient))
