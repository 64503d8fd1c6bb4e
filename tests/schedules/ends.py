"""The protocols of the schedules: each watches the order in which it is told things, and does things itself.

Whatever the transport, `Watcher` complains of what does not belong there: anything before connection_made or after
connection_lost, either of them twice, pause_writing and resume_writing that do not alternate.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from typing import Any

SIZES = (0, 1, 7, 100, 1_000, 5_000, 70_000, 300_000)
LINGER_NOT = struct.pack("ii", 1, 0)
#: Loop time in which everything must have ended; a test that needs it fails.
PATIENCE_S = 5.0
KEY_BYTES = 997


class Plan:
    """What every schedule has: the dice of its seed, what broke the rules, and what may be done to an end."""

    def __init__(self, kind: Any, seed: int) -> None:
        self.kind = kind
        self.dice = random.Random(f"{kind.name} {seed}")
        #: How often a callback does something itself.
        self.liveliness = self.dice.choice((0.0, 0.1, 0.4))
        self.complaints: list[str] = []
        #: What is only counted, datagrams sent and datagrams missing: it is for many schedules to judge.
        self.count = self.missing = 0

    def complain(self, what: str) -> None:
        self.complaints.append(what)

    def deeds_of(self, watcher: Any) -> list[Any]:
        """What may be done to it, each as often as it is likely."""
        raise NotImplementedError

    def made(self, watcher: Any) -> None:
        """Its transport is there."""


class Watcher:
    """A protocol that keeps what it was told, in order."""

    def __init__(self, plan: Any) -> None:
        self.plan = plan
        self.transport: Any = None
        self.events: list[str] = []
        self.rough = False  # cut off by this end, or by who holds its socket
        self.lost = False
        self.paused = False
        self.depth = 0

    def note(self, event: str) -> None:
        self.events.append(event)
        if event != "made" and self.events[0] != "made":
            self.plan.complain(f"{event} before connection_made: {self!r}")
        if self.lost:
            self.plan.complain(f"{event} after connection_lost: {self!r}")

    def connection_made(self, transport: Any) -> None:
        if self.events:
            self.plan.complain(f"connection_made comes late: {self!r}")
        self.note("made")
        self.transport = transport
        self.plan.made(self)
        self.react()

    def pause_writing(self) -> None:
        self.note("pause")
        if self.paused:
            self.plan.complain(f"pause_writing twice: {self!r}")
        self.paused = True
        self.react()

    def resume_writing(self) -> None:
        self.note("resume")
        if not self.paused:
            self.plan.complain(f"resume_writing without a pause: {self!r}")
        self.paused = False
        self.react()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.note(f"lost {exc!r}")
        self.lost = True
        self.react()  # whatever is done now does nothing
        if exc is not None and not isinstance(exc, OSError):
            self.plan.complain(f"lost for a reason that is no OSError: {self!r}")

    def react(self) -> None:
        """Now and then something is done from within the callback."""
        if self.depth < 3 and self.plan.dice.random() < self.plan.liveliness:
            self.depth += 1
            self.act()
            self.depth -= 1

    def act(self) -> None:
        self.plan.dice.choice(self.plan.deeds_of(self))(self)

    def move_marks(self) -> None:
        high = self.plan.dice.choice((0, 1_000, 65_536, 1_000_000))
        self.transport.set_write_buffer_limits(high=high, low=self.plan.dice.choice((None, 0, high)))


class End(Watcher, asyncio.Protocol):
    """One end of a stream: a connection's, or a pipe's."""

    def __init__(self, plan: Any, side: str) -> None:
        super().__init__(plan)
        self.side = side
        self.key = plan.dice.randbytes(KEY_BYTES)
        self.offered = 0  # written while it could be; the last of it may have been dropped
        self.promised = -1  # what was written when this end ended its stream in order
        self.received = bytearray()
        self.eof = False
        plan.ends.append(self)

    def __repr__(self) -> str:
        return (
            f"<{self.side} offered={self.offered} promised={self.promised} received={len(self.received)}"
            f" rough={self.rough} events={self.events} {self.transport!r}>"
        )

    def stream(self, count: int, start: int = 0) -> bytes:
        """`count` bytes of the endless stream of this end."""
        shift = start % KEY_BYTES
        return (self.key * (count // KEY_BYTES + 2))[shift : shift + count]

    def part(self, size: int) -> Any:
        """The next `size` bytes to write, as one of the types that a transport takes."""
        part = self.plan.dice.choice((bytes, bytearray, memoryview))(self.stream(size, self.offered))
        self.offered += size
        return part

    # -- what the loop tells --

    def data_received(self, data: bytes) -> None:
        if self.events[-1:] != ["data"]:
            self.note("data")
        if self.eof or self.lost:
            self.plan.complain(f"data after the end: {self!r}")
        self.received += data
        self.react()

    def told_of_eof(self) -> None:
        if self.eof:
            self.plan.complain(f"eof_received twice: {self!r}")
        self.note("eof")
        self.eof = True
        self.react()

    def eof_received(self) -> bool:
        self.told_of_eof()
        if not self.transport.can_write_eof():
            return False  # it can't stay, and what was written just now may come too late
        stays = self.plan.dice.random() < 0.7
        if not stays:
            self.ends()
        return stays

    # -- what is done to it --

    def write(self) -> None:
        if self.promised >= 0 and self.transport.can_write_eof() and not self.transport.is_closing():
            return  # after write_eof: RuntimeError, which the parity tests look at
        dice = self.plan.dice
        sizes = [dice.choice(SIZES) for _ in range(dice.choice((1, 1, 1, 3, 10)))]
        sizes = [min(size, 5_000) for size in sizes] if len(sizes) > 1 else sizes
        try:
            if dice.random() < 0.3:
                self.transport.writelines([self.part(size) for size in sizes])
            else:
                for size in sizes:
                    # Made only now: the write before may have paused the protocol, which may have written more.
                    self.transport.write(self.part(size))
        except RuntimeError as error:
            # Ended by write_eof, here or within a callback of this very write.
            if self.promised < 0:
                self.plan.complain(f"{error!r}: {self!r}")

    def ends(self) -> None:
        """The stream of this end ends here, in order."""
        if self.promised < 0 and not self.lost:
            self.promised = self.offered

    def write_eof(self) -> None:
        if not self.transport.can_write_eof() or self.depth:
            return  # within pause_writing, only some of the parts are written
        if not self.transport.is_closing():
            self.ends()
        try:
            self.transport.write_eof()
        except OSError:
            pass  # the peer has reset the connection: asyncio lets that pass, too

    def close(self) -> None:
        if not (self.depth or self.transport.is_closing()):
            self.ends()
        self.plan.cut(self)
        self.transport.close()

    def abort(self) -> None:
        self.rough = True
        self.plan.cut(self)
        self.transport.abort()

    def reset(self) -> None:
        sock = self.transport.get_extra_info("socket")
        if not self.lost and sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
        self.abort()

    def pause_reading(self) -> None:
        self.transport.pause_reading()

    def resume_reading(self) -> None:
        self.transport.resume_reading()

    def ask(self) -> None:
        """What only looks must change nothing."""
        repr(self.transport)
        self.transport.get_write_buffer_size()
        self.transport.get_extra_info("peername")
        self.transport.is_reading()


class BufferedEnd(End, asyncio.BufferedProtocol):
    """The same with a buffer of its own, of changing size."""

    def get_buffer(self, sizehint: int) -> bytearray:
        self.buffer = bytearray(1 + len(self.received) % 9_973)
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(self.buffer[:nbytes]))
