"""The load of the I/O rows where there is no C compiler: the twin of load.c, same arguments, same dialogue.

It is slower than the servers it loads, so that they idle and poll more often: figures are comparable within a run only.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time


class Connection:
    """One closed-loop client: at most one message in flight."""

    __slots__ = ("began_ns", "received", "selector", "sent", "sock")

    def __init__(self, address: tuple[str, int], selector: selectors.BaseSelector) -> None:
        self.sock = self._connect(address)
        self.sock.setblocking(False)
        self.selector = selector
        self.sent = self.received = self.began_ns = 0
        selector.register(self.sock, selectors.EVENT_READ, self)

    def _connect(self, address: tuple[str, int]) -> socket.socket:
        host = address[0]
        if host.startswith("unix:"):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(host.removeprefix("unix:"))
            return sock
        if host.startswith("udp:"):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.connect((host.removeprefix("udp:"), address[1]))
            return sock
        sock = socket.create_connection(address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def start(self, pattern: bytes) -> None:
        self.sent = self.received = 0
        self.began_ns = time.monotonic_ns()
        self.push(pattern)

    def push(self, pattern: bytes) -> None:
        try:
            self.sent += self.sock.send(pattern[self.sent :])
        except BlockingIOError:
            pass
        waits = selectors.EVENT_READ | (selectors.EVENT_WRITE if self.sent < len(pattern) else 0)
        if self.selector.get_key(self.sock).events != waits:
            self.selector.modify(self.sock, waits, self)

    def pull(self, pattern: bytes) -> bool:
        """Whether the echo is complete."""
        try:
            data = self.sock.recv(len(pattern) - self.received)
        except BlockingIOError:
            return False
        if not data:
            raise ConnectionResetError("the server closed a connection")
        if data != pattern[self.received : self.received + len(data)]:
            raise ValueError("the echo differs")
        self.received += len(data)
        return self.received == len(pattern)


def run(selector: selectors.BaseSelector, clients: list[Connection], pattern: bytes, messages: int) -> list[int]:
    """Send so many messages in all; their latencies in ns."""
    latencies: list[int] = []
    started = min(messages, len(clients))
    for client in clients[:started]:
        client.start(pattern)
    while len(latencies) < messages:
        ready = selector.select(10.0)
        if not ready:
            raise TimeoutError("no answer for 10 s")
        for key, events in ready:
            client = key.data
            if events & selectors.EVENT_WRITE:
                client.push(pattern)
            if events & selectors.EVENT_READ and client.pull(pattern):
                latencies.append(time.monotonic_ns() - client.began_ns)
                if started < messages:
                    started += 1
                    client.start(pattern)
    return latencies


def main(arguments: list[str], connection: type[Connection] = Connection) -> int:
    host, port, connections, size, warm_up, messages = arguments[0], *map(int, arguments[1:])
    pattern = bytes((i * 31 + i // 251) & 255 for i in range(size))
    selector = selectors.DefaultSelector()
    clients = [connection((host, port), selector) for _ in range(connections)]
    run(selector, clients, pattern, warm_up * connections)
    print("warm", flush=True)
    if not sys.stdin.readline():
        return 1
    began = time.monotonic_ns()
    latencies = sorted(run(selector, clients, pattern, messages))
    wall = time.monotonic_ns() - began
    facts = {"operations": messages, "wall_ns": wall, "p50_ns": latencies[messages // 2]}
    facts |= {"p99_ns": latencies[messages * 99 // 100], "max_ns": latencies[-1]}
    print(json.dumps(facts), flush=True)
    return 0 if sys.stdin.readline() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
