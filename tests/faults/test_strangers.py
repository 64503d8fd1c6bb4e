"""The detector of reused descriptors sees what it is there for."""

from __future__ import annotations

import os
import socket

import pytest
from strangers import Strangers


def a_closed_number(strangers):
    sock = socket.socket()
    fd = sock.fileno()
    sock.close()
    return fd


def test_nothing_done_is_nothing_found():
    with Strangers() as strangers:
        a_closed_number(strangers)
    assert strangers.count == 1
    strangers.check()


@pytest.mark.parametrize(
    ("use", "word"),
    [
        # Looked up when it is called: it is patched by then.
        (lambda fd: os.close(fd), "close of a number"),
        (lambda fd: os.read(fd, 3), "bytes were read"),
        (lambda fd: os.write(fd, b"hello"), "connection was used"),
    ],
)
def test_a_use_of_a_closed_number(use, word):
    with Strangers() as strangers:
        use(a_closed_number(strangers))
    with pytest.raises(AssertionError, match=word):
        strangers.check()


@pytest.mark.weft_only
def test_the_pollers_calls(world):
    with Strangers() as strangers:
        loop = strangers.new_loop(world)
        fd = a_closed_number(strangers)
        loop.add_reader(fd, print)
        strangers.look_into(loop)
        loop.remove_reader(fd)
        loop.close()
    found = "\n".join(strangers.complaints)
    for word in ("watch of", "unwatch of") + (("epoll still watches",) if world.name == "epoll" else ()):
        assert word in found
