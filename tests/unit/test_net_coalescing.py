"""What a callback writes leaves in one system call; and nobody can see that it left later than in asyncio."""

from __future__ import annotations

import asyncio
import contextvars
import socket
import threading

import pytest
from worlds import turns

pytestmark = pytest.mark.weft_only

SMALL = 1024
LIMIT = 64 * 1024


class Log(asyncio.Protocol):
    """Notes what it is told."""

    def __init__(self):
        self.events = []

    def connection_made(self, transport):
        self.transport = transport

    def pause_writing(self):
        self.events.append("pause")

    def resume_writing(self):
        self.events.append("resume")

    def data_received(self, data):
        self.events.append(data)

    def connection_lost(self, exc):
        self.events.append(("lost", exc))


class Wire:
    """A transport and the bare socket at its other end."""

    def __init__(self, factory=Log):
        self.factory = factory

    async def __aenter__(self):
        ours, self.peer = socket.socketpair()
        self.peer.setblocking(False)
        loop = asyncio.get_running_loop()
        self.transport, self.protocol = await loop.create_connection(self.factory, sock=ours)
        self.counters = loop._counters
        self.before = self.counters.sends
        return self

    async def __aexit__(self, *args):
        self.transport.abort()
        await turns(2)
        self.peer.close()

    @property
    def sends(self):
        return self.counters.sends - self.before

    def arrived(self):
        """What the peer has now."""
        try:
            return self.peer.recv(1 << 20)
        except BlockingIOError:
            return b""


async def test_one_call_for_all_that_a_callback_wrote(world):
    async with Wire() as wire:
        for _ in range(16):
            wire.transport.write(b"x" * SMALL)
        wire.transport.writelines([b"y", bytearray(b"z"), memoryview(b"-")])
        assert wire.sends == 0
        assert wire.arrived() == b""
        await turns()
        assert wire.sends == 1
        assert wire.arrived() == b"x" * 16 * SMALL + b"yz-"


async def test_each_callback_has_its_own_call(world):
    async with Wire() as wire:
        loop = asyncio.get_running_loop()
        loop.call_soon(wire.transport.write, b"a")
        loop.call_soon(lambda: wire.events.append(wire.arrived()))
        loop.call_soon(wire.transport.write, b"b")
        wire.events = []
        await turns()
        assert wire.events == [b"a"]
        assert wire.sends == 2
        assert wire.arrived() == b"b"


async def test_big_writes_leave_at_once(world):
    async with Wire() as wire:
        wire.transport.write(b"x" * LIMIT)
        assert wire.sends == 0
        wire.transport.write(b"y")
        assert wire.sends == 1
        assert len(wire.arrived()) == LIMIT + 1


async def test_many_tiny_writes_leave_at_once(world):
    async with Wire() as wire:
        for _ in range(3000):
            wire.transport.write(b"x")
        assert wire.sends == 2
        await turns()
        assert wire.sends == 3
        assert wire.arrived() == b"x" * 3000


async def test_size_of_the_buffer_counts_only_what_the_kernel_refused(world):
    async with Wire() as wire:
        wire.transport.write(b"x" * SMALL)
        assert wire.transport.get_write_buffer_size() == 0
        assert wire.arrived() == b"x" * SMALL
        await turns()
        assert wire.sends == 1


async def test_low_limits_flush_before_they_are_judged(world):
    async with Wire() as wire:
        wire.transport.set_write_buffer_limits(high=0)
        wire.transport.write(b"x" * SMALL)
        assert wire.sends == 1
        assert wire.protocol.events == []
        wire.transport.set_write_buffer_limits()
        wire.transport.write(b"y" * SMALL)
        wire.transport.set_write_buffer_limits(high=10)
        assert wire.sends == 2
        assert wire.protocol.events == []


async def test_unlimited_buffer(world):
    async with Wire() as wire:
        wire.transport.set_write_buffer_limits(high=float("inf"), low=0)
        wire.transport.write(b"x" * 10_000_000)
        assert wire.protocol.events == []
        assert wire.transport.get_write_buffer_limits() == (0, float("inf"))


async def test_full_kernel(world):
    async with Wire() as wire:
        data = bytes(range(256)) * 4096
        for start in range(0, len(data), 1000):
            wire.transport.write(data[start : start + 1000])
        assert wire.protocol.events == ["pause"]
        assert 0 < wire.transport.get_write_buffer_size() < len(data)
        got = b""
        while len(got) < len(data):
            got += wire.arrived()
            await turns()
        assert got == data
        assert wire.protocol.events == ["pause", "resume"]
        assert wire.transport.get_write_buffer_size() == 0


async def test_close_and_abort_send_what_this_callback_wrote(world):
    for end in ("close", "abort", "write_eof"):
        async with Wire() as wire:
            wire.transport.write(b"last words")
            getattr(wire.transport, end)()
            assert wire.arrived() == b"last words", end
            assert wire.sends == 1


async def test_error_of_a_late_send_is_the_connections_end(world):
    async with Wire() as wire:
        wire.peer.close()
        wire.transport.write(b"x")
        assert not wire.transport.is_closing()
        await turns()
        assert wire.transport.is_closing()
        await turns()
        [(name, exc)] = wire.protocol.events
        assert name == "lost"
        assert isinstance(exc, BrokenPipeError)


def test_write_while_the_loop_does_not_run_leaves_at_once(world):
    with world.runner() as runner:
        loop = runner.get_loop()
        wire = runner.run(Wire().__aenter__())
        wire.transport.write(b"x")
        assert wire.arrived() == b"x"
        assert not loop.is_running()
        runner.run(wire.__aexit__())


def test_last_words_before_an_exit_are_sent(world):
    with world.runner() as runner:
        loop = runner.get_loop()
        wire = runner.run(Wire().__aenter__())

        def leave():
            wire.transport.write(b"bye")
            raise SystemExit(3)

        loop.call_soon(leave)
        with pytest.raises(SystemExit):
            loop.run_forever()
        assert wire.arrived() == b"bye"
        runner.run(wire.__aexit__())


async def test_write_from_a_wrong_thread_leaves_at_once(world):
    """Not allowed, but asyncio would have sent it: nobody's callback returns here that could."""
    async with Wire() as wire:
        thread = threading.Thread(target=wire.transport.write, args=(b"x",))
        thread.start()
        thread.join()
        assert wire.arrived() == b"x"


async def test_wrong_item_in_writelines_writes_nothing(world):
    async with Wire() as wire:
        with pytest.raises(TypeError):
            wire.transport.writelines([b"a", "b"])
        await turns()
        assert wire.arrived() == b""


async def test_echo_is_one_call_in_and_one_out(world):
    class Echo(Log):
        def data_received(self, data):
            self.transport.write(b"head")
            self.transport.write(data)

    async with Wire(Echo) as wire:
        await turns()
        recvs = wire.counters.recvs
        for number in range(1, 6):
            wire.peer.send(b"message")
            while (answer := wire.arrived()) == b"":
                await turns()
            assert answer == b"headmessage"
            assert wire.sends == number
        assert wire.counters.recvs - recvs == 5


async def test_pause_and_resume_cost_no_system_call(world):
    """The descriptor stays watched; a message in the pause waits for the resume."""
    async with Wire() as wire:
        await turns()
        poller = asyncio.get_running_loop()._poller
        number = wire.transport.get_extra_info("socket").fileno()
        reader = poller.watched(number, 1)
        assert reader is not None
        wire.transport.pause_reading()
        assert poller.watched(number, 1) is reader
        wire.transport.resume_reading()
        wire.transport.pause_reading()
        wire.peer.send(b"x")
        while poller.watched(number, 1) is not None:
            await turns()
        assert wire.protocol.events == []
        wire.transport.resume_reading()
        while not wire.protocol.events:
            await turns()
        assert wire.protocol.events == [b"x"]


async def test_each_connection_has_a_context_of_its_own(world):
    """What a protocol sets in one callback it finds in the next one, and no other connection does."""
    seen = contextvars.ContextVar("seen", default=0)

    class Counting(Log):
        def connection_made(self, transport):
            super().connection_made(transport)
            seen.set(10)

        def data_received(self, data):
            seen.set(seen.get() + 1)
            self.events.append(seen.get())

    seen.set(5)
    async with Wire(Counting) as one, Wire(Counting) as other:
        for wire in (one, other, one):
            count = len(wire.protocol.events)
            wire.peer.send(b"x")
            while len(wire.protocol.events) == count:
                await turns()
        assert one.protocol.events == [11, 12]
        assert other.protocol.events == [11]
        assert seen.get() == 5


async def test_socket_closed_by_who_passed_it_in(world):
    """The number must not become another connection's while the transport uses it."""
    loop = asyncio.get_running_loop()
    ours, peer = socket.socketpair()
    number = ours.fileno()
    transport, protocol = await loop.create_connection(Log, sock=ours)
    ours.close()
    left, right = socket.socketpair()
    with peer, left, right:
        assert number not in (left.fileno(), right.fileno())
        transport.write(b"to the peer")
        await turns()
        assert peer.recv(100) == b"to the peer"
        transport.close()
        await turns(2)
        assert protocol.events == [("lost", None)]
        assert peer.recv(1) == b""


async def test_one_owner_of_a_descriptor(world):
    async with Wire() as wire:
        loop = asyncio.get_running_loop()
        number = wire.transport.get_extra_info("socket").fileno()
        with pytest.raises(RuntimeError, match=f"File descriptor {number} is used by transport"):
            loop.add_reader(number, print)
        sock = socket.socket(fileno=socket.dup(number))
        with sock:
            sock.setblocking(False)
            loop.add_reader(sock, print)
            assert loop.remove_reader(sock)
