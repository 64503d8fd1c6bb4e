"""A random schedule of what can happen to stream connections, made from a seed, and the judge of how it ended.

    Schedule(kind, seed).run()     a coroutine; afterwards `complaints` says which rules were broken

A schedule opens a few connections to one server, by the loop's own calls, and does to their ends whatever comes up: write,
half-close, close, abort, reset, pause, resume, move the marks, cancel a connection being made, close the socket behind
the transport's back. Also from within the protocols' own callbacks. Some clients are bare sockets that do the same
without a loop. Then all is ended in order, and this must hold, beside what every `Watcher` looks at:

- connection_made, then connection_lost, each once;
- what arrived is a beginning of what was written; all of it, where the stream ended in order and its end was told;
- connections that nobody cut off tell both ends of their end. Over TLS, which has no half-close, all that was written
  arrives while both ends are open.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from .bare import Bare
from .ends import PATIENCE_S, BufferedEnd, End, Plan


class Schedule(Plan):
    """One seed's deeds on one kind of connection."""

    def __init__(self, kind: Any, seed: int) -> None:
        super().__init__(kind, seed)
        self.ends: list[End] = []
        self.bare: list[Bare] = []
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

    @property
    def received(self) -> int:
        return sum(len(end.received) for end in self.ends)

    def deeds_of(self, watcher: Any) -> list[Any]:
        return self.deeds

    def new_end(self, side: str) -> End:
        return (BufferedEnd if self.dice.random() < 0.25 else End)(self, side)

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
        self.server = await self.kind.serve(loop, lambda: self.new_end("server"))
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
                bare = Bare(self, self.kind.connect_bare(self.address, dice))
                self.by_name["client", bare.sock.getsockname()] = bare
            else:
                self.connect(loop)
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

    def connect(self, loop: Any) -> None:
        ends: list[End] = []

        def make() -> End:
            ends.append(self.new_end("client"))
            return ends[0]

        def over(task: Any) -> None:
            if task.cancelled():
                # Given up when it was there already: the loop closes it.
                for end in ends:
                    self.cut(end)

        made = self.kind.connect(loop, make, self.address, self.dice)
        self.connecting.append(loop.create_task(made))
        self.connecting[-1].add_done_callback(over)

    def close_behind_its_back(self, end: End) -> None:
        sock = self.kind.socket_of(end.transport)
        if isinstance(sock, socket.socket):
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
        # In each turn anew, too: a handshake may be over only now.
        while not all(end.lost or not end.events for end in self.ends) or len(asyncio.all_tasks()) > 1:
            for end in self.ends:
                if end.transport is not None and not end.transport.is_closing():
                    end.ends()
                    end.transport.close()
            await self.let_go()
        self.server.close()
        await self.server.wait_closed()

    def is_stuck(self, end: End) -> bool:
        """Both ends were closed with more to send than the other, which does not read any more, will ever take."""
        other = self.partner(end)
        both = (end, other) if isinstance(other, End) else ()
        return bool(both) and all(
            each.transport.is_closing() and each.transport.get_write_buffer_size() for each in both
        )

    async def let_go(self) -> None:
        """A turn of the loop, and of the bare sockets."""
        for end in self.ends:
            if self.is_stuck(end):
                end.abort()
        for bare in self.bare:
            bare.drain()
        await asyncio.sleep(0)

    def untaken(self) -> bool:
        """Whether a client still waits for the server to take its connection."""
        clients = [
            key
            for (side, key), each in self.by_name.items()
            if side == "client" and (self.kind.always_arrives or not self.has_gone(each))
        ]
        return self.server.is_serving() and any(("server", key) not in self.by_name for key in clients)

    def is_over(self, end: End) -> bool:
        if end.lost or end.eof or not end.events:
            return True
        if end.transport.can_write_eof():
            return False
        other = self.partner(end)
        if other is None or end.transport.is_closing():
            return True
        # All of it has arrived, both ways. Who has gone says so.
        return not self.has_gone(other) and len(end.received) == other.offered and len(other.received) == end.offered

    def has_gone(self, each: End | Bare) -> bool:
        if isinstance(each, Bare):
            return each.over
        return each.transport.is_closing()

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
            # Who closed first, over TLS, is told of the end too, but what came after is none of its business.
            if end.eof and not rough and id(end) not in self.cut_off and len(end.received) < other.promised:
                self.complain(f"told of an end before all of it came: {end!r} from {other!r}")
            whole = not rough and not {id(end), id(other)} & self.cut_off and other.promised >= 0
            if whole and self.is_gentle and self.kind.tells_eof and "eof" not in end.events:
                # The other may have closed on the end of stream it was told of, with bytes of this one unread.
                if not other.eof or end.offered == len(other.received):
                    self.complain(f"was not told of the end: {end!r} from {other!r}")
