"""The pieces of `weft.workers` that need no second process: back-off, addresses, sockets, channel."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from pathlib import Path

import pytest

from weft.workers import _worker
from weft.workers._backoff import Backoff
from weft.workers._channel import SIGNAL, Channel
from weft.workers._listeners import BadAddress, Listeners, parse_bind
from weft.workers._say import say
from weft.workers._worker import VARIABLE, Worker, join


def test_backoff_doubles_and_forgets() -> None:
    backoff = Backoff()
    assert [backoff.after(0.0) for _ in range(9)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    assert backoff.after(6.0) == 0.0
    assert backoff.after(1.0) == 0.1


@pytest.mark.parametrize("text", ["", "8000", "host:", "[::1]", "1.2.3.4:65536", "unix:", "a:b:1"])
def test_bad_addresses(text: str) -> None:
    with pytest.raises(BadAddress):
        parse_bind(text)


def test_addresses() -> None:
    assert parse_bind("127.0.0.1:80") == [(int(socket.AF_INET), ("127.0.0.1", 80))]
    assert parse_bind("unix:/run/x") == [(int(socket.AF_UNIX), "/run/x")]


def test_a_socket_for_each_slot_on_one_port() -> None:
    listeners = Listeners(2)
    try:
        listeners.bind_all("127.0.0.1:0")
        key = listeners.binds[0]
        first, second = (listeners.socket_for(key, slot) for slot in range(2))
        assert first is not None and second is not None and first is not second
        assert first.getsockname() == second.getsockname()
        assert listeners.socket_for((key[0], first.getsockname()), 1) is second
        assert Listeners(2).socket_for(key, 0) is None
        first.listen()
        other = Listeners(1)
        with pytest.raises(BadAddress, match="already in use"):
            other.bind_all(f"127.0.0.1:{first.getsockname()[1]}")
        listeners.keep(set())
        assert first.fileno() != -1
    finally:
        listeners.close()


def test_a_unix_path_is_removed_by_its_owner(tmp_path: object) -> None:
    path = f"{tmp_path}/s"
    listeners = Listeners(2)
    listeners.bind_all(f"unix:{path}")
    assert listeners.socket_for(listeners.binds[0], 0) is listeners.socket_for(listeners.binds[0], 1)
    spare = f"{tmp_path}/.s.{os.getpid()}"
    assert os.path.samefile(path, spare)
    os.unlink(spare)  # whoever tidies up takes nothing with it
    listeners.close()
    assert not os.path.exists(path)


def test_a_removed_unix_path_is_made_anew(tmp_path: Path) -> None:
    """By whoever looks; what has become another's is left to him."""
    path = tmp_path / "s"
    listeners = Listeners(1)
    listeners.bind_all(f"unix:{path}")
    sock = listeners.socket_for(listeners.binds[0], 0)
    assert sock is not None
    sock.listen()
    assert listeners.mend() == []
    path.unlink()
    assert listeners.mend() == [str(path)]
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    path.unlink()
    path.write_text("another's")
    assert listeners.mend() == []
    listeners.close()
    assert os.listdir(tmp_path) == ["s"] and path.read_text() == "another's"


def test_a_reader_that_stops_reading_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with open(reader, "rb", 0) as read, open(writer, "w", encoding="utf-8") as stderr:
        size = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                size += os.write(writer, bytes(4096))
        os.set_blocking(writer, True)
        monkeypatch.setattr(sys, "stderr", stderr)
        saying = threading.Thread(target=say, args=("nobody hears this",))
        saying.start()
        saying.join(5)
        is_stopped = saying.is_alive()
        while size:
            size -= len(read.read(size))
        saying.join()
        assert not is_stopped
        say("but this")
        assert read.read(4096) == b"weft workers: but this\n"


def test_a_channel_knows_that_the_other_end_is_closed() -> None:
    """Also when messages of it are still to be read; and it can have a signal sent for whatever happens."""
    came: list[int] = []
    previous = signal.signal(SIGNAL, lambda number, _: came.append(number))
    one, two = socket.socketpair()
    left, right = Channel(one), Channel(two)
    try:
        right.signal_to(os.getpid())
        assert not right.is_hung_up() and not came
        left.send({"a": 1})
        assert came and not right.is_hung_up()
        came.clear()
        left.close()
        assert came and right.is_hung_up()
        assert right.receive() == [({"a": 1}, [])]
    finally:
        right.close()
        signal.signal(SIGNAL, previous)


def test_an_answer_that_comes_too_late_is_not_the_next_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = socket.socketpair()
    supervisor, channel = Channel(one), Channel(two)
    worker = Worker(channel, 0, 1, 30.0)
    late, own = socket.socket(), socket.socket()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(_worker, "ANSWER_S", 0.0)
            with pytest.raises(TimeoutError):
                worker.sockets()
        (question, _), *_ = supervisor.receive()
        supervisor.send({"do": "answer", "number": question["number"]}, [late.fileno()])
        supervisor.send({"do": "answer", "number": question["number"] + 1}, [own.fileno()])
        (sock,) = worker.sockets()
        with sock:
            assert os.fstat(sock.fileno()).st_ino == os.fstat(own.fileno()).st_ino
            assert worker.is_ours(own) and not worker.is_ours(late)
        assert not worker.is_draining
    finally:
        for each in (late, own, supervisor, channel):
            each.close()


@pytest.mark.parametrize("kind", ["closed", "a file", "another's pair"])
def test_a_stray_environment_makes_no_worker(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A child of a worker may have its environment, and any descriptor under the number that it names."""
    one, two = socket.socketpair()
    reader, writer = os.pipe()
    os.close(writer)
    fd = {"closed": writer, "a file": reader, "another's pair": one.fileno()}[kind]
    monkeypatch.setenv(VARIABLE, f"{fd}:{os.getppid()}:0:2:30.0")
    try:
        assert join() is None
        assert VARIABLE not in os.environ
    finally:
        os.close(reader)
        one.close()
        two.close()


def test_channel_carries_messages_and_descriptors() -> None:
    one, two = socket.socketpair()
    left, right = Channel(one), Channel(two)
    reader, writer = os.pipe()
    left.send({"a": 1})
    left.send({"b": 2}, [reader])
    (first, none), (second, (copy,)) = right.receive()
    assert (first, none, second) == ({"a": 1}, [], {"b": 2})
    assert not os.get_inheritable(copy)
    for fd in (reader, writer, copy):
        os.close(fd)
    left.close()
    assert right.receive() == [] and right.is_ended
    right.close()
