"""A random schedule of what can happen to datagram endpoints, made from a seed, and the judge of how it ended.

    Schedule(kind, seed).run()     a coroutine; afterwards `complaints` says which rules were broken

A schedule opens a few endpoints, bound, or connected to one of the others, and bare sockets. They send to one another, close,
abort, move the marks, are cancelled while being made, send what is too long, also from within the protocols' callbacks.
Then all that was sent is waited for and all is closed, and this must hold, beside what every `Watcher` looks at:

- connection_made, then connection_lost, each once;
- a datagram comes whole, from the address of its sender, once, and not before one that was sent earlier;
- every datagram comes, unless its receiver closed, its sender aborted, or error_received told the sender otherwise. So
  that no kernel need drop one, nobody sends more than `WAITING_BYTES` to a receiver that has not read them. Over UDP a busy
  kernel may drop some all the same: `missing` counts them, and who plays many schedules judges how many that were.
"""

from __future__ import annotations

import asyncio
import collections
import itertools
import os
import socket
from typing import Any

from .ends import PATIENCE_S, Plan, Watcher

SIZES = (1, 7, 100, 1_000, 1_400, 20_000)
TOO_LONG_BYTES = 300_000
WAITING_BYTES = 40_000
WAITING_COUNT = 60
#: By then all that waits has come: some hundred datagrams at most, sixteen of them in a turn.
LAST_TURNS = 300


class Udp:
    """Loopback, IPv4. The kernel drops what does not fit."""

    name = "udp"
    family = socket.AF_INET
    forgets = False
    #: Where other traffic fills the kernel's queue, it drops some.
    loses = True

    def new_address(self) -> Any:
        return ("127.0.0.1", 0)

    def key(self, address: Any) -> Any:
        return address


class UnixDatagrams:
    """Abstract addresses. The kernel makes a sender wait whose receiver has ten datagrams unread."""

    name = "unix datagrams"
    family = socket.AF_UNIX
    #: A connected socket that learns that its peer has gone drops what it has not read.
    forgets = True
    loses = False
    numbers = itertools.count()

    def new_address(self) -> Any:
        return f"\0weft-datagrams-{os.getpid()}-{next(self.numbers)}"

    def key(self, address: Any) -> Any:
        return address if isinstance(address, bytes) else address.encode()


KINDS = (Udp(), UnixDatagrams())


class Party:
    """Who sends and receives: what others have sent it, in order, by the key of their address."""

    plan: Any

    def __init__(self) -> None:
        self.key: Any = None
        self.coming: dict[Any, collections.deque[bytes]] = collections.defaultdict(collections.deque)
        self.received = 0
        self.deaf = False  # closed, aborted: hears no more
        self.leaky = False  # was told that something could not be sent: what it sends may be missing
        self.forgetful = False  # its kernel has thrown away what waited for it

    def waiting(self) -> tuple[int, int]:
        """How many datagrams are on their way here, and their bytes."""
        return sum(map(len, self.coming.values())), sum(len(data) for queue in self.coming.values() for data in queue)

    def takes(self, size: int) -> bool:
        count, waiting = self.waiting()
        return count < WAITING_COUNT and waiting + size < WAITING_BYTES

    def came(self, data: bytes, address: Any) -> None:
        self.received += len(data)
        sender = self.plan.by_key.get(address)
        queue = self.coming[address]
        excused = self.forgetful or (sender is not None and sender.leaky)
        if (excused or self.plan.kind.loses) and data in queue:
            while queue[0] != data:
                queue.popleft()
                self.plan.missing += not excused
        if not queue or queue[0] != data:
            self.plan.complain(
                f"{self!r} got {data[:20]!r}, {len(data)} bytes, and not {list(queue)[:1]}, from {sender!r}"
            )
        else:
            queue.popleft()


class Endpoint(Party, Watcher, asyncio.DatagramProtocol):
    """An endpoint of the loop."""

    def __init__(self, plan: Any, peer: Any) -> None:
        Party.__init__(self)
        Watcher.__init__(self, plan)
        #: The only one to send to; None for anybody.
        self.peer: Any = peer
        #: What is being sent at this moment: an error told meanwhile is about that.
        self.sending: list[Any] = []
        plan.endpoints.append(self)

    def __repr__(self) -> str:
        return f"<endpoint {self.key} of {self.peer and self.peer.key} events={self.events} {self.transport!r}>"

    def note(self, event: str) -> None:
        # In connection_lost one may still send and move the marks, as with asyncio, and hear what came of it.
        if not (self.lost and self.depth):
            super().note(event)

    def connection_made(self, transport: Any) -> None:
        self.key = self.plan.kind.key(transport.get_extra_info("sockname"))
        # The kernel may give the port of one that was closed, and what that one sent may be missing.
        self.leaky = self.key in self.plan.by_key
        self.plan.by_key[self.key] = self
        super().connection_made(transport)

    def datagram_received(self, data: bytes, address: Any) -> None:
        if self.events[-1:] != ["data"]:
            self.note("data")
        self.came(data, self.plan.kind.key(address))
        self.react()

    def error_received(self, exc: Exception) -> None:
        self.note(f"error {exc!r}")
        if not isinstance(exc, OSError):
            self.plan.complain(f"an error that is no OSError: {self!r}")
        self.leaky = True
        self.forgetful = self.peer is not None and self.plan.kind.forgets
        if self.sending and self.sending[-1]:
            self.sending[-1].pop()
        self.react()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.deaf = True
        super().connection_lost(exc)
        if exc is not None:
            self.plan.complain(f"lost by an error: {self!r}")

    def send(self) -> None:
        plan = self.plan
        target = self.peer or plan.dice.choice(plan.hearers(self))
        for _ in range(plan.dice.choice((1, 1, 3, 10))):
            data = plan.new_data(plan.dice.choice(SIZES))
            if not target.takes(len(data)):
                return
            queue = target.coming[self.key] if not target.deaf else collections.deque()
            queue.append(data)
            # Until the descriptor is closed asyncio sends it nevertheless, where there is no address given.
            self.leaky = self.leaky or self.transport.is_closing()
            self.sending.append(queue)
            self.transport.sendto(data, None if self.peer else plan.address_of(target))
            self.sending.pop()

    def send_too_long(self) -> None:
        if not self.peer:
            return
        self.sending.append(None)
        self.transport.sendto(bytes(TOO_LONG_BYTES))
        self.sending.pop()

    def close(self) -> None:
        self.deaf = True
        self.transport.close()

    def abort(self) -> None:
        self.deaf = self.leaky = self.rough = True
        self.transport.abort()

    def ask(self) -> None:
        repr(self.transport)
        self.transport.get_write_buffer_size()
        self.transport.get_extra_info("sockname")


class Bare(Party):
    """A socket without a loop."""

    def __init__(self, plan: Any, sock: socket.socket) -> None:
        super().__init__()
        self.plan = plan
        self.sock = sock
        sock.setblocking(False)
        self.key = plan.kind.key(sock.getsockname())
        plan.by_key[self.key] = self
        plan.bare.append(self)

    def act(self) -> None:
        if self.deaf:
            return
        if self.plan.dice.random() < 0.6:
            target = self.plan.dice.choice(self.plan.hearers(self))
            data = self.plan.new_data(self.plan.dice.choice(SIZES))
            if isinstance(target, Endpoint) and not target.deaf and target.takes(len(data)):
                try:
                    self.sock.sendto(data, self.plan.address_of(target))
                except OSError:
                    return  # no room, or gone
                target.coming[self.key].append(data)
        elif self.plan.is_gentle or self.plan.dice.random() < 0.8:
            self.read(1)
        else:
            self.close()

    def read(self, count: int) -> None:
        try:
            for _ in range(count):
                data, address = self.sock.recvfrom(1 << 20)
                self.came(data, self.plan.kind.key(address))
        except BlockingIOError:
            return

    def close(self) -> None:
        if not self.deaf:
            self.deaf = True
            self.sock.close()


class Schedule(Plan):
    """One seed's deeds on a few endpoints."""

    def __init__(self, kind: Any, seed: int) -> None:
        super().__init__(kind, seed)
        self.endpoints: list[Endpoint] = []
        self.bare: list[Bare] = []
        self.by_key: dict[Any, Any] = {}
        self.connecting: list[Any] = []
        self.is_gentle = self.dice.random() < 0.5
        self.deeds = [Endpoint.send] * 6 + [Endpoint.move_marks, Endpoint.ask, Endpoint.send_too_long]
        if self.is_gentle:
            self.deeds = [Endpoint.send] * 6 + [Endpoint.move_marks, Endpoint.ask]
        else:
            self.deeds += [Endpoint.close, Endpoint.abort]

    @property
    def received(self) -> int:
        return sum(party.received for party in [*self.endpoints, *self.bare])

    def deeds_of(self, watcher: Any) -> list[Any]:
        return self.deeds

    def new_data(self, size: int) -> bytes:
        self.count += 1
        return (b"%d:" % self.count * (size // 2 + 1))[:size]

    def hearers(self, sender: Any) -> list[Any]:
        """To whom `sender` may send: who is bound, hears anybody, or is connected to it. Itself is one."""
        return [each for each in self.by_key.values() if isinstance(each, Bare) or each.peer in (None, sender)]

    def address_of(self, party: Any) -> Any:
        return party.key

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(self.dice.randrange(10, 40)):
            self.step(loop)
            if self.dice.random() < 0.6:
                for _ in range(self.dice.randrange(1, 4)):
                    await asyncio.sleep(0)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self.finish()
        except TimeoutError:
            self.complain(f"did not end: {self.endpoints}")
            for party in [*self.endpoints, *self.bare]:
                if party.key and any(party.coming.values()):
                    self.complain(f"not all came to {party!r}: {party.waiting()}")
            for end in self.endpoints:
                if end.transport is not None:
                    end.transport.abort()
            await asyncio.sleep(0)
        for bare in self.bare:
            bare.close()
        for end in self.endpoints:
            if end.events and (end.events[0] != "made" or not end.events[-1].startswith("lost")):
                self.complain(f"not made and lost: {end!r}")

    def step(self, loop: Any) -> None:
        dice = self.dice
        alive = [end for end in self.endpoints if end.transport is not None]
        choice = dice.random()
        if len(self.endpoints) < 5 and (choice < 0.2 or not alive):
            self.open(loop)
        elif len(self.bare) < 2 and choice < 0.25:
            sock = socket.socket(self.kind.family, socket.SOCK_DGRAM)
            sock.bind(self.kind.new_address())
            Bare(self, sock)
        elif choice < 0.28 and self.connecting and not self.is_gentle:
            dice.choice(self.connecting).cancel()
        elif choice < 0.4 and self.bare and alive:
            dice.choice(self.bare).act()
        elif alive:
            dice.choice(alive).act()

    def open(self, loop: Any) -> None:
        bound = [each for each in self.by_key.values() if not each.deaf and getattr(each, "peer", None) is None]
        peer = self.dice.choice(bound) if bound and self.dice.random() < 0.4 else None
        local = self.kind.new_address()
        remote = None
        if peer is not None:
            remote = self.address_of(peer)
            remote = remote.decode() if isinstance(remote, bytes) else remote
        made = loop.create_datagram_endpoint(
            lambda: Endpoint(self, peer), local_addr=local, remote_addr=remote, family=self.kind.family
        )
        self.connecting.append(loop.create_task(made))

    async def finish(self) -> None:
        """Wait until all that was sent has come, then close everything, and wait until it has ended."""
        self.liveliness = 0.0
        await asyncio.gather(*self.connecting, return_exceptions=True)
        turns = 0
        while owed := sum(map(self.owed, self.by_key.values())):
            if self.kind.loses and turns == LAST_TURNS:
                self.missing += owed
                break
            turns += 1
            await self.let_go()
        for end in self.endpoints:
            if end.transport is not None:
                end.transport.close()
        while not all(end.lost or not end.events for end in self.endpoints):
            await self.let_go()

    def owed(self, party: Any) -> int:
        """How much must still come to `party`."""
        if party.deaf or party.forgetful:
            return 0
        return sum(len(queue) for key, queue in party.coming.items() if not self.by_key[key].leaky)

    async def let_go(self) -> None:
        for bare in self.bare:
            if not bare.deaf:
                bare.read(100)
        await asyncio.sleep(0)
