"""The calls on sockets, in the edition that runs: "not now" is an answer, everything else an OSError."""

from __future__ import annotations

import errno
import os
import socket
import sys

import pytest

from weft._native.sock import RECV_BYTES, SEND_CHUNKS_MAX, Kernel


@pytest.fixture
def kernel():
    return Kernel()


@pytest.fixture
def pair():
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    yield left, right
    left.close()
    right.close()


@pytest.mark.parametrize("fresh_bytes", [0, 5, 70_000])
def test_recv(kernel, pair, fresh_bytes):
    left, right = pair
    assert kernel.recv(left, left.fileno(), fresh_bytes) is None
    right.send(b"hello")
    assert kernel.recv(left, left.fileno(), fresh_bytes) == b"hello"
    right.close()
    assert kernel.recv(left, left.fileno(), fresh_bytes) == b""


def test_fresh_bytes_are_of_the_size_that_came(kernel, pair):
    left, right = pair
    right.send(b"x" * 1000)
    parts = [kernel.recv(left, left.fileno(), size) for size in (1, 99, 1_000_000)]
    assert parts == [b"x", b"x" * 99, b"x" * 900]
    assert sys.getsizeof(parts[2]) == sys.getsizeof(b"") + 900
    assert {parts[2]: 1}[b"x" * 900] == 1


@pytest.mark.parametrize("fresh_bytes", [0, 1_000_000])
def test_recv_is_bounded_and_exact(kernel, fresh_bytes):
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        right.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * RECV_BYTES)
        sent = right.send(b"x" * (2 * RECV_BYTES))
        first = kernel.recv(left, left.fileno(), fresh_bytes)
        assert 0 < len(first) <= (fresh_bytes or RECV_BYTES)
        rest = b""
        while (data := kernel.recv(left, left.fileno(), fresh_bytes)) is not None:
            rest += data
        assert len(first) + len(rest) == sent


def test_recv_into(kernel, pair):
    left, right = pair
    target = bytearray(8)
    assert kernel.recv_into(left, left.fileno(), target) == -1
    right.send(b"hello")
    assert kernel.recv_into(left, left.fileno(), memoryview(target)[2:]) == 5
    assert target == b"\0\0hello\0"
    right.close()
    assert kernel.recv_into(left, left.fileno(), target) == 0
    with pytest.raises((TypeError, BufferError)):
        kernel.recv_into(left, left.fileno(), b"read-only")


def test_send_from_the_middle(kernel, pair):
    left, right = pair
    chunks = [b"spent", b"abcdef", b"ghi"]
    assert kernel.send(right, right.fileno(), chunks, 1, 2) == 7
    assert left.recv(100) == b"cdefghi"
    assert kernel.send(right, right.fileno(), chunks, 2, 1) == 2
    assert left.recv(100) == b"hi"
    assert chunks == [b"spent", b"abcdef", b"ghi"]


def test_send_takes_no_more_chunks_than_the_system_call(kernel, pair):
    left, right = pair
    assert kernel.send(right, right.fileno(), [b"x"] * (SEND_CHUNKS_MAX + 5), 0, 0) == SEND_CHUNKS_MAX
    assert len(left.recv(10_000)) == SEND_CHUNKS_MAX


@pytest.mark.parametrize("chunks", [[b"x" * 300_000], [b"x" * 100_000] * 3], ids=["one", "many"])
def test_full_socket_says_not_now(kernel, pair, chunks):
    _, right = pair
    while kernel.send(right, right.fileno(), chunks, 0, 0) > 0:
        pass
    assert kernel.send(right, right.fileno(), chunks, 0, 0) == -1
    assert kernel.send_buffer(right, right.fileno(), bytearray(10)) == -1


def test_send_buffer(kernel, pair):
    left, right = pair
    assert kernel.send_buffer(right, right.fileno(), memoryview(bytearray(b"hello"))[1:]) == 4
    assert left.recv(10) == b"ello"


def test_errors_are_raised(kernel, pair):
    left, right = pair
    right.close()
    for attempt in (
        lambda: kernel.send(left, left.fileno(), [b"x"], 0, 0),
        lambda: kernel.send(left, left.fileno(), [b"x", b"y"], 0, 0),
        lambda: kernel.send_buffer(left, left.fileno(), b"x"),
    ):
        with pytest.raises(BrokenPipeError) as raised:
            attempt()
        assert raised.value.errno == errno.EPIPE
    with socket.socket() as unconnected:
        unconnected.setblocking(False)
        for fresh_bytes in (0, 10):
            with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)):
                kernel.recv(unconnected, unconnected.fileno(), fresh_bytes)
        with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)):
            kernel.recv_into(unconnected, unconnected.fileno(), bytearray(1))
        with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
            kernel.accept(unconnected, unconnected.fileno())


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6", "AF_UNIX", "abstract", "unnamed"])
def test_accept_says_the_address_as_the_socket_module_does(kernel, family, tmp_path):
    is_unix = family not in ("AF_INET", "AF_INET6")
    kind = socket.AF_UNIX if is_unix else getattr(socket, family)
    address = {"AF_INET": ("127.0.0.1", 0), "AF_INET6": ("::1", 0)}.get(family, str(tmp_path / "listening"))
    with socket.socket(kind) as listening, socket.socket(kind) as client:
        try:
            listening.bind(address)
        except OSError:
            pytest.skip(f"no {family} here")
        listening.listen()
        listening.setblocking(False)
        assert kernel.accept(listening, listening.fileno()) is None
        if family == "AF_UNIX":
            client.bind(str(tmp_path / "client"))
        elif family == "abstract":
            client.bind("\0weft-test-client")
        client.connect(listening.getsockname())
        number, peer = kernel.accept(listening, listening.fileno())
        with socket.socket(fileno=number) as conn:
            assert peer == client.getsockname()
            assert os.get_blocking(number) is False
            assert os.get_inheritable(number) is False
            conn.send(b"x")
            assert client.recv(1) == b"x"
