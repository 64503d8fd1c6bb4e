"""A random schedule of what can happen to stream connections, made from a seed, and the judge of how it ended.

    Schedule(transports, seed).run()     a coroutine; afterwards `complaints` says which rules were broken

A schedule opens a few connections to one server, by the loop's own calls, and does to their ends whatever comes up: write,
half-close, close, abort, reset, pause, resume, move the marks, cancel a connection being made, close the socket behind
the transport's back. Also from within the protocols' own callbacks. Some clients are bare sockets that do the same
without a loop. Then all is ended in order, and this must hold:

- connection_made, then connection_lost, each once; nothing before, between or after that does not belong there;
- what arrived is a beginning of what was written; all of it, where the stream ended in order and its end was told;
- pause_writing and resume_writing alternate;
- connections that nobody cut off tell both ends of their end.
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


class End(asyncio.Protocol):
    """One end of a connection, and what it should have seen."""

    def __init__(self, schedule: Schedule, side: str) -> None:
        self.schedule = schedule
        self.side = side
        self.key = schedule.dice.randbytes(KEY_BYTES)
        self.offered = 0  # written while it could be; the last of it may have been dropped
        self.promised = -1  # what was written when this end ended its stream in order
        self.received = bytearray()
        self.transport: Any = None
        self.events: list[str] = []
        self.rough = False  # cut off by this end, or by who holds its socket
        self.eof = self.lost = False
        self.paused = False
        self.depth = 0
        schedule.ends.append(self)

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
        part = self.schedule.dice.choice((bytes, bytearray, memoryview))(self.stream(size, self.offered))
        self.offered += size
        return part

    # -- what the loop tells --

    def note(self, event: str) -> None:
        self.events.append(event)
        if event != "made" and self.events[0] != "made":
            self.schedule.complain(f"{event} before connection_made: {self!r}")
        if self.lost:
            self.schedule.complain(f"{event} after connection_lost: {self!r}")

    def connection_made(self, transport: Any) -> None:
        if self.events:
            self.schedule.complain(f"connection_made comes late: {self!r}")
        self.note("made")
        self.transport = transport
        self.schedule.made(self)
        self.react()

    def data_received(self, data: bytes) -> None:
        if self.events[-1:] != ["data"]:
            self.note("data")
        if self.eof or self.lost:
            self.schedule.complain(f"data after the end: {self!r}")
        self.received += data
        self.react()

    def eof_received(self) -> bool:
        if self.eof:
            self.schedule.complain(f"eof_received twice: {self!r}")
        self.note("eof")
        self.eof = True
        self.react()
        stays = self.schedule.dice.random() < 0.7
        if not stays:
            self.ends()
        return stays

    def pause_writing(self) -> None:
        self.note("pause")
        if self.paused:
            self.schedule.complain(f"pause_writing twice: {self!r}")
        self.paused = True
        self.react()

    def resume_writing(self) -> None:
        self.note("resume")
        if not self.paused:
            self.schedule.complain(f"resume_writing without a pause: {self!r}")
        self.paused = False
        self.react()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.note(f"lost {exc!r}")
        self.lost = True
        self.react()  # whatever is done now does nothing
        if exc is not None and not isinstance(exc, OSError):
            self.schedule.complain(f"lost for a reason that is no OSError: {self!r}")

    def react(self) -> None:
        """Now and then something is done from within the callback."""
        if self.depth < 3 and self.schedule.dice.random() < self.schedule.liveliness:
            self.depth += 1
            self.act()
            self.depth -= 1

    # -- what is done to it --

    def act(self) -> None:
        self.schedule.dice.choice(self.schedule.deeds)(self)

    def write(self) -> None:
        if self.promised >= 0 and self.transport.can_write_eof() and not self.transport.is_closing():
            return  # after write_eof: RuntimeError, which the parity tests look at
        dice = self.schedule.dice
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
                self.schedule.complain(f"{error!r}: {self!r}")

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
        if not self.depth:
            self.ends()
        self.schedule.cut(self)
        self.transport.close()

    def abort(self) -> None:
        self.rough = True
        self.schedule.cut(self)
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

    def move_marks(self) -> None:
        high = self.schedule.dice.choice((0, 1_000, 65_536, 1_000_000))
        self.transport.set_write_buffer_limits(high=high, low=self.schedule.dice.choice((None, 0, high)))

    def ask(self) -> None:
        """What only looks must change nothing."""
        repr(self.transport)
        self.transport.get_write_buffer_size()
        self.transport.get_extra_info("peername")
        self.transport.is_reading()


class Bare:
    """A client without a loop: a socket."""

    def __init__(self, schedule: Schedule, sock: socket.socket) -> None:
        self.schedule = schedule
        self.sock = sock
        self.key = schedule.dice.randbytes(KEY_BYTES)
        self.offered = 0
        self.received = bytearray()
        self.over = False
        sock.setblocking(False)
        schedule.bare.append(self)

    stream = End.stream

    def act(self) -> None:
        if self.over:
            return
        dice = self.schedule.dice
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


class Schedule:
    """One seed's deeds on one kind of transport."""

    def __init__(self, kind: Any, seed: int) -> None:
        self.kind = kind
        self.dice = random.Random(f"{kind.name} {seed}")
        #: How often a callback does something itself.
        self.liveliness = self.dice.choice((0.0, 0.1, 0.4))
        self.ends: list[End] = []
        self.bare: list[Bare] = []
        self.complaints: list[str] = []
        self.cut_off: set[int] = set()  # ids of ends whose connection was ended before all was over
        self.connecting: list[Any] = []
        self.by_name: dict[tuple[str, Any], Any] = {}
        gentle = [End.write] * 6 + [End.pause_reading, End.resume_reading, End.move_marks, End.ask, End.write_eof]
        rough = [End.close, End.abort, End.reset]
        # Half of the schedules let every connection live to its end, so that the judge sees whole streams.
        self.deeds = gentle * 2 if self.dice.random() < 0.5 else gentle + rough

    @property
    def is_gentle(self) -> bool:
        return End.abort not in self.deeds

    def complain(self, what: str) -> None:
        self.complaints.append(what)

    def cut(self, end: End) -> None:
        self.cut_off.add(id(end))

    def made(self, end: End) -> None:
        """Ends find each other by the client's address, which both know."""
        key = end.transport.get_extra_info("sockname" if end.side == "client" else "peername")
        self.by_name[end.side, key] = end

    def partner(self, end: End) -> Any:
        side, other = ("client", "server") if end.side == "client" else ("server", "client")
        for (where, key), each in self.by_name.items():
            if where == side and each is end:
                return self.by_name.get((other, key))
        return None

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        self.server = await self.kind.serve(loop, lambda: End(self, "server"))
        self.address = self.server.sockets[0].getsockname()
        for _ in range(self.dice.randrange(10, 40)):
            self.step(loop)
            if self.dice.random() < 0.6:
                for _ in range(self.dice.randrange(1, 4)):
                    await asyncio.sleep(0)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self.finish()
        except TimeoutError:
            self.complain(f"did not end: {[end for end in self.ends if not end.lost]}")
            for end in self.ends:
                if end.transport is not None:
                    end.transport.abort()
            await asyncio.sleep(0)
        for bare in self.bare:
            bare.close()
        self.judge()

    def step(self, loop: Any) -> None:
        dice = self.dice
        alive = [end for end in self.ends if end.transport is not None]
        choice = dice.random()
        if self.server.is_serving() and len(self.connecting) + len(self.bare) < 4 and (choice < 0.25 or not alive):
            if dice.random() < 0.3:
                bare = Bare(self, self.kind.connect_bare(self.address))
                self.by_name["client", bare.sock.getsockname()] = bare
            else:
                made = self.kind.connect(loop, lambda: End(self, "client"), self.address, dice)
                self.connecting.append(loop.create_task(made))
        elif choice < 0.30 and self.connecting and not self.is_gentle:
            dice.choice(self.connecting).cancel()
        elif choice < 0.32 and not self.is_gentle:
            self.server.close()
        elif choice < 0.35 and self.bare and self.kind.has_bare_deeds:
            dice.choice(self.bare).act()
        elif choice < 0.37 and alive and not self.is_gentle:
            self.close_behind_its_back(dice.choice(alive))
        elif alive:
            dice.choice(alive).act()

    def close_behind_its_back(self, end: End) -> None:
        sock = getattr(end.transport, "_sock", None)
        if isinstance(sock, socket.socket) and hasattr(end.transport, "_stream"):
            end.rough = True
            self.cut(end)
            sock.close()

    async def finish(self) -> None:
        """End everything in order, and wait until it has ended."""
        self.liveliness = 0.0
        await asyncio.gather(*self.connecting, return_exceptions=True)
        while not all(self.is_over(end) for end in self.ends) or self.untaken():
            # In each turn anew: a connection that the server takes only now is to end as well.
            for end in self.ends:
                if end.transport is not None:
                    end.transport.resume_reading()
                    if end.promised < 0:
                        end.write_eof()
            await self.let_go()
        for end in self.ends:
            if end.transport is not None:
                end.transport.close()
        while not all(end.lost or not end.events for end in self.ends):
            await self.let_go()
        self.server.close()
        await self.server.wait_closed()

    async def let_go(self) -> None:
        """A turn of the loop, and of the bare sockets."""
        for bare in self.bare:
            bare.drain()
        await asyncio.sleep(0)

    def untaken(self) -> bool:
        """Whether a client still waits for the server to take its connection."""
        clients = [key for side, key in self.by_name if side == "client"]
        return self.server.is_serving() and any(("server", key) not in self.by_name for key in clients)

    def is_over(self, end: End) -> bool:
        if end.lost or end.eof or not end.events:
            return True
        return not end.transport.can_write_eof()

    def judge(self) -> None:
        for end in self.ends:
            if end.events and (end.events[0] != "made" or not end.events[-1].startswith("lost")):
                self.complain(f"not made and lost: {end!r}")
            other = self.partner(end)
            if other is None:
                if end.received:
                    self.complain(f"bytes from nobody: {end!r}")
                continue
            if end.received != other.stream(len(end.received)) or len(end.received) > other.offered:
                self.complain(f"what arrived was not written: {end!r} from {other!r}")
            if isinstance(other, Bare):
                if other.received != end.stream(len(other.received)) or len(other.received) > end.offered:
                    self.complain(f"what a bare socket got was not written: {end!r}")
                continue
            rough = end.rough or other.rough
            if end.eof and not rough and len(end.received) < other.promised:
                self.complain(f"told of an end before all of it came: {end!r} from {other!r}")
            whole = not rough and not {id(end), id(other)} & self.cut_off and other.promised >= 0
            if whole and self.is_gentle and self.kind.tells_eof and "eof" not in end.events:
                # The other may have closed on the end of stream it was told of, with bytes of this one unread.
                if not other.eof or end.offered == len(other.received):
                    self.complain(f"was not told of the end: {end!r} from {other!r}")
