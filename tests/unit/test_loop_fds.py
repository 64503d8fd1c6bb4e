"""add_reader and add_writer: asyncio's rules, on any descriptor that can be polled."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest
from worlds import turns


@pytest.fixture
def pair():
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    with left, right:
        yield left, right


async def test_reader_is_called_while_there_is_something(world, pair):
    loop = asyncio.get_running_loop()
    left, right = pair
    seen, enough = [], loop.create_future()

    def readable(tag):
        seen.append(tag)
        if len(seen) == 2:
            left.recv(10)
            enough.set_result(None)

    loop.add_reader(left, readable, "tag")
    right.send(b"x")
    await enough
    await turns(3)
    assert seen == ["tag", "tag"]
    assert loop.remove_reader(left) is True
    assert loop.remove_reader(left) is False


async def test_writer(world, pair):
    loop = asyncio.get_running_loop()
    writable = loop.create_future()

    def once():
        loop.remove_writer(pair[0].fileno())
        writable.set_result(None)

    loop.add_writer(pair[0].fileno(), once)
    await writable
    assert loop.remove_writer(pair[0]) is False


async def test_both_on_one_descriptor(world, pair):
    loop = asyncio.get_running_loop()
    left, right = pair
    readable, writable = loop.create_future(), loop.create_future()
    loop.add_reader(left, lambda: readable.done() or readable.set_result(None))
    loop.add_writer(left, lambda: writable.done() or writable.set_result(None))
    right.send(b"x")
    await readable
    await writable
    assert loop.remove_writer(left) and loop.remove_reader(left)


async def test_a_second_reader_replaces_the_first(world, pair):
    loop = asyncio.get_running_loop()
    left, right = pair
    came = loop.create_future()
    loop.add_reader(left, came.set_result, "first")
    loop.add_reader(left, lambda: came.done() or came.set_result("second"))
    right.send(b"x")
    assert await came == "second"
    loop.remove_reader(left)


async def test_removed_in_the_turn_in_which_it_is_due(world):
    loop = asyncio.get_running_loop()
    (a, b), (c, d) = socket.socketpair(), socket.socketpair()
    seen, came = [], loop.create_future()

    def one(mine, other):
        seen.append(mine)
        came.set_result(None)
        loop.remove_reader(mine)
        loop.remove_reader(other)

    with a, b, c, d:
        loop.add_reader(a, one, a, c)
        loop.add_reader(c, one, c, a)
        b.send(b"x")
        d.send(b"x")
        await came
        # More turns than a busy loop may go without asking the kernel.
        await turns(100)
        assert len(seen) == 1


async def test_pipes(world):
    loop = asyncio.get_running_loop()
    out, into = os.pipe()
    came = loop.create_future()
    loop.add_reader(out, lambda: came.done() or came.set_result(os.read(out, 10)))
    os.write(into, b"x")
    assert await came == b"x"
    loop.remove_reader(out)
    os.close(out)
    os.close(into)


@pytest.mark.parametrize("wrong", [object(), "spam"])
def test_what_is_no_descriptor(world, loop, wrong):
    with pytest.raises(ValueError, match=r"^Invalid file object: "):
        loop.add_reader(wrong, print)


def test_a_negative_descriptor(world, loop):
    with pytest.raises(ValueError, match=r"^Invalid file descriptor: -1$"):
        loop.add_reader(-1, print)


def test_a_regular_file_cannot_be_polled(world, loop, tmp_path):
    with open(tmp_path / "file", "wb") as file, pytest.raises(PermissionError):
        loop.add_reader(file, print)


async def test_a_descriptor_of_a_transport_is_refused(world, pair):
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=pair[0])
    fd = pair[0].fileno()
    for use in (
        lambda: loop.add_reader(fd, print),
        lambda: loop.add_writer(fd, print),
        lambda: loop.remove_reader(fd),
        lambda: loop.remove_writer(fd),
    ):
        with pytest.raises(RuntimeError, match=rf"^File descriptor {fd} is used by transport <"):
            use()
    transport.close()
    await turns(2)


async def test_removed_after_it_was_closed(world):
    """By the object: its number may be another's by now, and nothing happens to that."""
    loop = asyncio.get_running_loop()
    left, right = socket.socketpair()
    loop.add_reader(left, print)
    left.close()
    assert loop.remove_reader(left) is True
    for remove in (loop.remove_reader, loop.remove_writer):
        with pytest.raises(ValueError, match=r"^Invalid file descriptor: -1$"):
            remove(left)
    right.close()
    left, right = socket.socketpair()
    number = left.fileno()
    loop.add_writer(number, print)
    left.close()
    with pytest.raises(ValueError, match=r"^Invalid file descriptor: -1$"):
        loop.remove_writer(left)
    assert loop.remove_writer(number) is True
    right.close()


@pytest.mark.weft_only  # asyncio takes the new owner's callback away
async def test_removed_after_another_has_the_number(world):
    loop = asyncio.get_running_loop()
    old, peer = socket.socketpair()
    loop.add_reader(old, print)
    number = old.fileno()
    old.close()
    peer.close()
    one, other = socket.socketpair()
    with one, other:
        new = one if one.fileno() == number else other
        assert new.fileno() == number
        came = loop.create_future()
        loop.add_reader(new, lambda: came.done() or came.set_result(new.recv(1)))
        with pytest.raises(ValueError, match=r"^Invalid file descriptor: -1$"):
            loop.remove_reader(old)
        (one if new is other else other).send(b"x")
        assert await came == b"x"
        assert loop.remove_reader(new) is True


@pytest.mark.weft_only
async def test_private_names_that_others_use(world, pair):
    loop = asyncio.get_running_loop()
    came = loop.create_future()
    handle = loop._add_writer(pair[0].fileno(), came.set_result, None)
    assert isinstance(handle, asyncio.Handle)
    await came
    assert loop._remove_writer(pair[0].fileno()) is True
    assert loop._transports == {}
    loop._ensure_fd_no_transport(pair[0].fileno())
