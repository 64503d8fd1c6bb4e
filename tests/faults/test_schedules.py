"""1,000 random schedules a transport: nothing is lost, told twice, left behind, or done to a number that was closed.

Each seed is one program (`schedule.py`), run with every closed number taken at once by a stranger (`strangers.py`). A
failure names its seed; WEFT_SCHEDULES=20000 asks for more of them. asyncio does not keep these rules (it tells of one end
of stream again after a resume_reading), so there is no oracle here but the rules themselves.
"""

from __future__ import annotations

import itertools
import os
import socket

import leaks
import pytest
import worlds
from schedule import Schedule
from strangers import Strangers

SCHEDULES = int(os.environ.get("WEFT_SCHEDULES", "1000"))
BATCHES = 10


class Tcp:
    """Loopback, IPv4."""

    name = "tcp"
    tells_eof = has_bare_deeds = True

    async def serve(self, loop, factory):
        return await loop.create_server(factory, "127.0.0.1", 0)

    async def connect(self, loop, factory, address, dice):
        if dice.random() < 0.3:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            return await self.connect_socket(loop, factory, sock, address)
        return await loop.create_connection(factory, *address)

    async def connect_socket(self, loop, factory, sock, address):
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
        return await loop.create_connection(factory, sock=sock)

    def connect_bare(self, address):
        return socket.create_connection(address)


class Unix(Tcp):
    """Abstract addresses; a client binds to one of its own, so that its ends can be told apart."""

    name = "unix"
    numbers = itertools.count()

    def address(self):
        return f"\0weft-{os.getpid()}-{next(self.numbers)}"

    async def serve(self, loop, factory):
        return await loop.create_unix_server(factory, self.address())

    def bound(self):
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(self.address())
        return sock

    async def connect(self, loop, factory, address, dice):
        return await self.connect_socket(loop, factory, self.bound(), address)

    def connect_bare(self, address):
        sock = self.bound()
        sock.connect(address)
        return sock


KINDS = {kind.name: kind for kind in (Tcp(), Unix())}


def play(world, kind, seed):
    """One schedule, from nothing to nothing."""
    before = leaks.open_fds()
    with Strangers() as strangers:
        loop = strangers.new_loop(world)
        try:
            schedule = Schedule(kind, seed)
            loop.run_until_complete(worlds.without_orphans(schedule.run()))
            strangers.look_into(loop)
            assert not loop._poller.owners
            assert not len(loop._timers)
            assert not loop._ready_count()
        finally:
            loop.close()
    reports = world.take_reports()
    complaints = schedule.complaints + strangers.complaints + [f"reported: {report}" for report in reports]
    complaints += [f"left open: {fd} {what}" for fd, what in leaks.open_fds().items() if before.get(fd) != what]
    assert not complaints, f"{kind.name} schedule {seed}:\n  " + "\n  ".join(complaints[:12])
    return schedule, strangers


@pytest.mark.weft_only
@pytest.mark.slow_test(120)
@pytest.mark.parametrize("batch", range(BATCHES))
@pytest.mark.parametrize("kind", KINDS)
def test_schedules(world, kind, batch):
    seeds = range(batch, SCHEDULES, BATCHES)
    received = numbers = 0
    for seed in seeds:
        schedule, strangers = play(world, KINDS[kind], seed)
        received += sum(len(end.received) for end in schedule.ends)
        numbers += strangers.count
    # They did something: a judge of nothing finds nothing.
    assert received > 1_000 * len(seeds)
    assert numbers > 2 * len(seeds)
