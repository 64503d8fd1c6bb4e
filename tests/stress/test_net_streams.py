"""Many connections doing random things at once: every byte arrives, in order; every connection ends exactly once."""

from __future__ import annotations

import asyncio
import random
import socket

import pytest
from worlds import turns

CONNECTIONS = 30
STEPS = 60
SEEDS = range(4)


class End(asyncio.Protocol):
    """One end: checks that what it receives counts up, whatever the cuts."""

    def __init__(self):
        self.received = 0
        self.made = self.lost = 0
        self.paused = False
        self.eof = False
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        self.made += 1

    def data_received(self, data):
        assert self.made == 1
        assert not self.lost
        assert self.transport.is_reading()
        self.take(data)

    def take(self, data):
        assert data == pattern(self.received, len(data))
        self.received += len(data)

    def eof_received(self):
        assert not self.eof
        self.eof = True
        return True

    def pause_writing(self):
        assert not self.paused
        self.paused = True

    def resume_writing(self):
        assert self.paused
        self.paused = False

    def connection_lost(self, exc):
        self.lost += 1
        self.closed.set_result(exc)


class BufferedEnd(End, asyncio.BufferedProtocol):
    """The same with a buffer of its own, of changing size."""

    def get_buffer(self, sizehint):
        self.buffer = bytearray(1 + self.received % 70_000)
        return self.buffer

    def buffer_updated(self, nbytes):
        self.take(bytes(self.buffer[:nbytes]))


PERIOD = bytes(range(251))


def pattern(start, count):
    """`count` bytes of the endless pattern from `start`."""
    shift = start % len(PERIOD)
    return (PERIOD * (count // len(PERIOD) + 2))[shift : shift + count]


async def play(rng, kinds):
    """One connection: random writes of both ends, pauses, half-closes; then a clean end."""
    loop = asyncio.get_running_loop()
    left, right = socket.socketpair()
    _, first = await loop.create_connection(rng.choice(kinds), sock=left)
    _, second = await loop.connect_accepted_socket(rng.choice(kinds), right)
    ends = {first: second, second: first}
    sent = dict.fromkeys(ends, 0)
    finished = set()
    for _ in range(STEPS):
        end = rng.choice(list(ends))
        transport = end.transport
        match rng.randrange(8):
            case 0 | 1 | 2 if end not in finished:
                for _ in range(rng.randrange(1, 20)):
                    size = rng.choice((0, 1, 7, 100, 1000, 5000, 70_000))
                    data = pattern(sent[end], size)
                    transport.write(rng.choice((bytes, bytearray, memoryview))(data))
                    sent[end] += size
            case 3 if end not in finished:
                parts = []
                for _ in range(rng.randrange(5)):
                    parts.append(pattern(sent[end], rng.randrange(3000)))
                    sent[end] += len(parts[-1])
                transport.writelines(parts)
            case 4:
                transport.pause_reading()
            case 5:
                transport.resume_reading()
            case 6:
                transport.set_write_buffer_limits(high=rng.choice((0, 1000, 65536, 1_000_000)))
            case 7 if rng.random() < 0.1:
                transport.write_eof()
                finished.add(end)
        if rng.random() < 0.5:
            await turns(rng.randrange(3))
    for end, other in ends.items():
        end.transport.resume_reading()
        other.transport.resume_reading()
        if end not in finished:
            end.transport.write_eof()
    while not (first.eof and second.eof):
        await turns()
    for end, other in ends.items():
        assert other.received == sent[end]
        assert not end.paused
        assert end.transport.get_write_buffer_size() == 0
        end.transport.close()
    for end in ends:
        assert await end.closed is None
        assert (end.made, end.lost) == (1, 1)


@pytest.mark.weft_only  # asyncio tells of the same end of stream again after a resume_reading (3.13)
@pytest.mark.slow_test(60)
@pytest.mark.parametrize("seed", SEEDS)
async def test_random_connections(world, seed):
    rng = random.Random(seed)
    kinds = [End, BufferedEnd]
    await asyncio.gather(*(play(random.Random(rng.random()), kinds) for _ in range(CONNECTIONS)))
