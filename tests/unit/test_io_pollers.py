"""The contract of a poller, on each poller: what is reported when, and what becomes of numbers that are reused."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from weft._core.handle import Handle
from weft._io import READ, WRITE, available_pollers, make_poller


@pytest.fixture(params=available_pollers())
def poller(request):
    poller = make_poller(request.param)
    yield poller
    poller.close()


@pytest.fixture
def pair():
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    yield left, right
    left.close()
    right.close()


class _Loop:
    """As much of a loop as a handle asks for."""

    def get_debug(self):
        return False


def a_handle(name="handle"):
    return Handle(print, (name,), _Loop())


def ready(poller, timeout_ns=0):
    found = []
    poller.poll(timeout_ns, found)
    return found


def test_names():
    best = make_poller()
    assert best.name == available_pollers()[0]
    best.close()
    with pytest.raises(ValueError, match="unknown poller 'nosuch': this platform has"):
        make_poller("nosuch")


def test_level_triggered(poller, pair):
    left, right = pair
    reader = a_handle()
    assert poller.watch(left.fileno(), READ, reader) is None
    assert ready(poller) == []
    right.send(b"x")
    assert ready(poller) == [reader]
    assert ready(poller) == [reader]
    left.recv(1)
    assert ready(poller) == []


def test_both_directions_are_apart(poller, pair):
    left, right = pair
    reader, writer = a_handle("reader"), a_handle("writer")
    poller.watch(left.fileno(), READ, reader)
    poller.watch(left.fileno(), WRITE, writer)
    assert ready(poller) == [writer]
    right.send(b"x")
    assert ready(poller) == [reader, writer]
    assert poller.watched(left.fileno(), READ) is reader
    assert poller.unwatch(left.fileno(), WRITE) is writer
    assert ready(poller) == [reader]
    assert poller.unwatch(left.fileno(), READ) is reader
    assert poller.unwatch(left.fileno(), READ) is None
    assert ready(poller) == []


def test_replaced_runnable_is_returned(poller, pair):
    left, right = pair
    first, second = a_handle("first"), a_handle("second")
    poller.watch(left.fileno(), READ, first)
    assert poller.watch(left.fileno(), READ, second) is first
    right.send(b"x")
    assert ready(poller) == [second]


def test_hang_up_wakes_reader_and_writer(poller, pair):
    left, right = pair
    reader, writer = a_handle("reader"), a_handle("writer")
    poller.watch(left.fileno(), READ, reader)
    poller.watch(left.fileno(), WRITE, writer)
    right.close()
    assert ready(poller) == [reader, writer]


def test_number_closed_behind_its_back_can_be_watched_again(poller):
    """Whoever forgets to unwatch must not break the next owner of the number."""
    for kept in (READ, WRITE):
        left, right = socket.socketpair()
        number = left.fileno()
        poller.watch(number, kept, a_handle("stale"))
        left.close()
        right.close()
        left, right = socket.socketpair()
        try:
            assert left.fileno() == number
            fresh = a_handle("fresh")
            poller.watch(number, READ, fresh)
            right.send(b"x")
            assert ready(poller) == [fresh]
            assert poller.unwatch(number, READ) is fresh
            assert poller.watched(number, WRITE) is None or poller.unwatch(number, WRITE) is not None
        finally:
            left.close()
            right.close()


def test_number_closed_and_unwatched_by_half_can_be_watched_again(poller):
    left, right = socket.socketpair()
    number = left.fileno()
    poller.watch(number, READ, a_handle())
    poller.watch(number, WRITE, a_handle())
    left.close()
    right.close()
    poller.unwatch(number, READ)
    left, right = socket.socketpair()
    try:
        again, peer = (left, right) if left.fileno() == number else (right, left)
        assert again.fileno() == number
        reader = a_handle("reader")
        poller.watch(number, READ, reader)
        peer.send(b"x")
        assert ready(poller) == [reader]
        poller.unwatch(number, READ)
    finally:
        left.close()
        right.close()


def test_closed_number_is_unwatched_quietly(poller):
    left, right = socket.socketpair()
    number = left.fileno()
    both = a_handle("reader"), a_handle("writer")
    poller.watch(number, READ, both[0])
    poller.watch(number, WRITE, both[1])
    left.close()
    right.close()
    assert poller.unwatch(number, READ) is both[0]
    assert poller.unwatch(number, WRITE) is both[1]


def test_refusals(poller, tmp_path):
    with pytest.raises(ValueError):
        poller.watch(-1, READ, a_handle())
    assert poller.unwatch(-1, READ) is None
    assert poller.watched(12345, READ) is None
    assert poller.unwatch(12345, READ) is None
    left, right = socket.socketpair()
    number = left.fileno()
    left.close()
    right.close()
    with pytest.raises((OSError, ValueError)):
        poller.watch(number, READ, a_handle())
    with open(tmp_path / "file", "w") as file, pytest.raises(PermissionError):
        poller.watch(file.fileno(), READ, a_handle())
    assert ready(poller) == []


def test_high_number(poller, pair):
    left, right = pair
    high = os.dup(left.fileno())
    number = 900
    os.dup2(high, number)
    os.close(high)
    try:
        reader = a_handle()
        poller.watch(number, READ, reader)
        right.send(b"x")
        assert ready(poller) == [reader]
        poller.unwatch(number, READ)
    finally:
        os.close(number)


def test_wake_ends_a_blocking_poll(poller):
    waker = threading.Thread(target=poller.wake)
    waker.start()
    assert ready(poller, -1) == []
    waker.join()


def test_wakes_coalesce_and_re_arm(poller):
    for _ in range(3):
        poller.wake()
        poller.wake()
        assert ready(poller, -1) == []
    assert ready(poller, 0) == []


def test_a_wake_that_meets_the_end(poller, monkeypatch):
    """Another thread has looked whether there is anybody to wake, and the loop's closes before the wake itself."""
    write = os.write

    def late(fd, data):
        poller.close()
        return write(fd, data)

    monkeypatch.setattr(os, "write", late)
    poller.wake()
    poller.close()


def test_timeout_is_waited_for(poller):
    # Would block for ever if a short time-out were rounded to "for ever", and spin if it were rounded to zero.
    assert ready(poller, 1) == []
    assert ready(poller, 2_000_000) == []


def test_closed(poller, pair):
    left, _ = pair
    poller.watch(left.fileno(), READ, a_handle())
    poller.close()
    poller.close()
    poller.wake()
    assert poller.unwatch(left.fileno(), READ) is None
    with pytest.raises(RuntimeError, match="closed"):
        poller.watch(left.fileno(), READ, a_handle())
    with pytest.raises(RuntimeError, match="closed"):
        ready(poller)


# The hang guard has a thread, of which 3.15 warns.
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_forget_in_a_child_leaves_the_parents_set_alone(poller, pair):
    left, right = pair
    reader = a_handle()
    poller.watch(left.fileno(), READ, reader)
    child = os.fork()
    if child == 0:
        try:
            poller.forget()
            poller.unwatch(left.fileno(), READ)
            poller.wake()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    right.send(b"x")
    assert ready(poller) == [reader]
    poller.wake()
    assert ready(poller, -1) == [reader]
