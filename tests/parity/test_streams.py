"""asyncio's streams, sock_* calls, add_reader and add_writer on top of the loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest
from tcp_pair import Recorder
from worlds import since, turns

# ----------------------------------------------------------------------------------------------------------- streams


@contextlib.asynccontextmanager
async def connected(handler):
    """(reader, writer) of a client connected to a server that runs `handler`."""
    ended = asyncio.get_running_loop().create_future()

    async def serve(reader, writer):
        try:
            await handler(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            ended.set_result(None)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        try:
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            await ended
            await turns(3)


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def test_echo(world):
    async with connected(echo) as (reader, writer):
        writer.write(b"hello")
        await writer.drain()
        assert await reader.readexactly(5) == b"hello"


async def test_lines(world):
    async def serve(reader, writer):
        async for line in reader:
            writer.write(line.upper())
        writer.write(b"end")

    async with connected(serve) as (reader, writer):
        writer.writelines([b"one\n", b"two\n"])
        assert await reader.readline() == b"ONE\n"
        assert await reader.readuntil(b"O\n") == b"TWO\n"
        writer.write_eof()
        assert await reader.read() == b"end"
        assert reader.at_eof()


async def test_incomplete_read(world):
    async def serve(reader, writer):
        writer.write(b"short")

    async with connected(serve) as (reader, writer):
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await reader.readexactly(10)
        assert caught.value.partial == b"short"


async def test_line_over_the_limit(world):
    async def serve(reader, writer):
        writer.write(b"x" * 200_000)
        await writer.drain()

    async with connected(serve) as (reader, writer):
        with pytest.raises(ValueError, match="limit"):
            await reader.readline()
        while await reader.read(65536):
            continue


async def test_drain_waits_for_a_slow_reader(world):
    gate = asyncio.get_running_loop().create_future()

    async def serve(reader, writer):
        reader._transport.pause_reading()
        await gate
        reader._transport.resume_reading()
        total = 0
        while data := await reader.read(1 << 20):
            total += len(data)
        sizes.append(total)

    sizes = []
    async with connected(serve) as (reader, writer):
        await turns(5)
        writer.write(b"x" * 10_000_000)
        task = asyncio.ensure_future(writer.drain())
        await turns(20)
        assert not task.done()
        gate.set_result(None)
        await task
    assert sizes == [10_000_000]


async def test_big_echo(world):
    payload = bytes(range(256)) * 8000

    async with connected(echo) as (reader, writer):

        async def send():
            writer.write(payload)
            await writer.drain()
            writer.write_eof()

        sending = asyncio.ensure_future(send())
        assert await reader.read(-1) == payload
        await sending


async def test_handler_that_fails_is_reported(world):
    ended = asyncio.get_running_loop().create_future()

    async def serve(reader, writer):
        asyncio.get_running_loop().call_soon(ended.set_result, None)
        writer.transport.abort()
        raise ArithmeticError("in the handler")

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await ended
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        await turns(5)
    reports = world.take_reports()
    if since(3, 12):
        assert [type(report["exception"]) for report in reports] == [ArithmeticError]


async def test_many_clients(world):
    async with await asyncio.start_server(lambda r, w: talk(r, w), "127.0.0.1", 0) as server:
        served = []

        async def talk(reader, writer):
            writer.write(await reader.readline())
            await writer.drain()
            writer.close()
            await writer.wait_closed()
            served.append(1)

        async def client(number):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"%d\n" % number)
            line = await reader.read()
            writer.close()
            await writer.wait_closed()
            return int(line)

        assert await asyncio.gather(*(client(number) for number in range(50))) == list(range(50))
        while len(served) < 50:
            await asyncio.sleep(0)
        await turns(3)


async def test_cancelled_reader_can_read_again(world):
    async with connected(echo) as (reader, writer):
        task = asyncio.ensure_future(reader.readexactly(3))
        await turns(2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        writer.write(b"abc")
        assert await reader.readexactly(3) == b"abc"


# ------------------------------------------------------------------------------------------------------------ sock_*


@contextlib.contextmanager
def socket_pair():
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        yield left, right


async def test_sock_recv_and_sendall(world):
    loop = asyncio.get_running_loop()
    with socket_pair() as (left, right):
        receiving = asyncio.ensure_future(loop.sock_recv(left, 100))
        await turns(2)
        await loop.sock_sendall(right, b"data")
        assert await receiving == b"data"
        right.close()
        assert await loop.sock_recv(left, 100) == b""


async def test_sock_sendall_of_much(world):
    loop, size = asyncio.get_running_loop(), 5_000_000
    with socket_pair() as (left, right):

        async def receive():
            total = 0
            while total < size:
                total += len(await loop.sock_recv(left, 1 << 20))
            return total

        total, _ = await asyncio.gather(receive(), loop.sock_sendall(right, memoryview(b"x" * size)))
        assert total == size


async def test_sock_recv_into(world):
    loop, buffer = asyncio.get_running_loop(), bytearray(10)
    with socket_pair() as (left, right):
        right.send(b"12345")
        assert await loop.sock_recv_into(left, buffer) == 5
        receiving = asyncio.ensure_future(loop.sock_recv_into(left, memoryview(buffer)[5:]))
        await turns(2)
        right.send(b"67890")
        assert await receiving == 5
    assert bytes(buffer) == b"1234567890"


async def test_sock_accept_and_connect(world):
    loop = asyncio.get_running_loop()
    with socket.socket() as listener, socket.socket() as client:
        listener.setblocking(False)
        client.setblocking(False)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        accepting = asyncio.ensure_future(loop.sock_accept(listener))
        await turns(2)
        await loop.sock_connect(client, listener.getsockname())
        server, address = await accepting
        with server:
            assert address == client.getsockname()
            assert server.gettimeout() == 0
            await loop.sock_sendall(client, b"x")
            assert await loop.sock_recv(server, 1) == b"x"


async def test_sock_connect_refused(world):
    loop = asyncio.get_running_loop()
    with socket.socket() as bound, socket.socket() as client:
        bound.bind(("127.0.0.1", 0))
        client.setblocking(False)
        with pytest.raises(ConnectionRefusedError):
            await loop.sock_connect(client, bound.getsockname())


@pytest.mark.parametrize("call", ["sock_recv", "sock_accept"])
async def test_cancelled_sock_call_stops_watching(world, call):
    loop = asyncio.get_running_loop()
    with socket.socket() as listener, socket_pair() as (left, right):
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        sock = left if call == "sock_recv" else listener
        task = asyncio.ensure_future(getattr(loop, call)(*((left, 10) if call == "sock_recv" else (listener,))))
        await turns(2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await turns(2)
        assert loop.remove_reader(sock) is False
        right.send(b"kept")
        assert await loop.sock_recv(left, 10) == b"kept"


def test_blocking_socket_in_debug_mode(world, same):
    async def body(world):
        loop, words = asyncio.get_running_loop(), []
        with socket.socket() as sock:
            for call in (
                lambda: loop.sock_recv(sock, 1),
                lambda: loop.sock_sendall(sock, b"x"),
                lambda: loop.sock_connect(sock, ("127.0.0.1", 1)),
                lambda: loop.sock_accept(sock),
                lambda: loop.sock_recv_into(sock, bytearray(1)),
            ):
                try:
                    await call()
                except ValueError as error:
                    words.append(error)
        return words

    assert len(same(body, debug=True)["returned"]) == 5


# ----------------------------------------------------------------------------------------------- add_reader, add_writer


async def test_reader(world):
    loop, seen = asyncio.get_running_loop(), []
    with socket_pair() as (left, right):
        done = loop.create_future()

        def readable(name):
            seen.append((name, left.recv(100)))
            if len(seen) == 2:
                done.set_result(None)

        loop.add_reader(left, readable, "reader")
        right.send(b"one")
        while not seen:
            await asyncio.sleep(0)
        right.send(b"two")
        await done
        assert seen == [("reader", b"one"), ("reader", b"two")]
        assert loop.remove_reader(left) is True
        assert loop.remove_reader(left) is False


async def test_reader_is_level_triggered(world):
    loop, seen = asyncio.get_running_loop(), []
    with socket_pair() as (left, right):
        right.send(b"abc")
        done = loop.create_future()

        def readable():
            seen.append(left.recv(1))
            if len(seen) == 3:
                done.set_result(None)

        loop.add_reader(left.fileno(), readable)
        await done
        loop.remove_reader(left.fileno())
    assert seen == [b"a", b"b", b"c"]


async def test_reader_is_replaced(world):
    loop, seen = asyncio.get_running_loop(), []
    with socket_pair() as (left, right):
        loop.add_reader(left, seen.append, "old")
        loop.add_reader(left, lambda: (seen.append(left.recv(1)), done.set_result(None)))
        done = loop.create_future()
        right.send(b"x")
        await done
        loop.remove_reader(left)
    assert seen == [b"x"]


async def test_writer_and_reader_on_one_fd(world):
    loop, seen = asyncio.get_running_loop(), []
    with socket_pair() as (left, right):
        loop.add_reader(left, lambda: (seen.append(left.recv(1)), done.set_result(None)))
        loop.add_writer(left, lambda: (loop.remove_writer(left), right.send(b"x"), seen.append("writable")))
        done = loop.create_future()
        await done
        assert seen == ["writable", b"x"]
        assert loop.remove_writer(left) is False
        assert loop.remove_reader(left) is True


async def test_reader_removed_by_another_of_the_same_turn(world):
    loop, seen = asyncio.get_running_loop(), []
    with socket_pair() as (left, right), socket_pair() as (other, fourth):

        def first(own, their):
            seen.append(own)
            loop.remove_reader(own)
            loop.remove_reader(their)

        loop.add_reader(left, first, left, other)
        loop.add_reader(other, first, other, left)
        right.send(b"x")
        fourth.send(b"x")
        while not seen:
            await asyncio.sleep(0)
        await turns(10)
        assert len(seen) == 1


async def test_reader_that_fails_stays(world):
    loop, seen = asyncio.get_running_loop(), []
    with socket_pair() as (left, right):

        def bad():
            seen.append(left.recv(1))
            raise ArithmeticError

        loop.add_reader(left, bad)
        right.send(b"xy")
        while len(seen) < 2:
            await asyncio.sleep(0)
        assert loop.remove_reader(left) is True
    assert len(world.take_reports()) == 2


async def test_reader_of_a_hung_up_peer(world):
    loop = asyncio.get_running_loop()
    with socket_pair() as (left, right):
        done = loop.create_future()
        loop.add_reader(left, lambda: done.done() or done.set_result(left.recv(1)))
        right.close()
        assert await done == b""
        loop.remove_reader(left)


def test_transports_fd_is_refused(world, same):
    async def body(world):
        loop = asyncio.get_running_loop()
        with socket_pair() as (left, right):
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=left.dup())
            fd = transport.get_extra_info("socket").fileno()
            words = []
            for call in (
                lambda: loop.add_reader(fd, print),
                lambda: loop.add_writer(fd, print),
                lambda: loop.remove_reader(fd),
            ):
                try:
                    call()
                except RuntimeError as error:
                    words.append(str(error).split(" is used by transport")[0].replace(str(fd), "FD"))
            transport.abort()
            await turns(3)
            return words

    assert len(same(body)["returned"]) == 3


@pytest.mark.parametrize("thing", [-1, "text", None, 10**6])
def test_reader_refuses(world, same, thing):
    async def body(world):
        try:
            asyncio.get_running_loop().add_reader(thing, print)
        except Exception as error:
            return type(error)

    assert same(body)["returned"]


async def test_close_and_reopen_the_same_fd(world):
    """An fd that was closed while watched must not take the events of the stranger that gets its number."""
    loop, seen = asyncio.get_running_loop(), []
    left, right = socket.socketpair()
    loop.add_reader(left, seen.append, "old")
    loop.remove_reader(left)
    fd = left.fileno()
    left.close()
    right.close()
    with socket_pair() as (one, two):
        again = one if one.fileno() == fd else two
        peer = two if again is one else one
        loop.add_reader(again, lambda: (seen.append(again.recv(1)), done.set_result(None)))
        done = loop.create_future()
        peer.send(b"n")
        await done
        loop.remove_reader(again)
    assert seen == [b"n"]


# --------------------------------------------------------------------------------------------------------------- names


async def test_getaddrinfo(world):
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
    assert found == socket.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
    assert await loop.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV) == (
        "127.0.0.1",
        "80",
    )
    with pytest.raises(socket.gaierror):
        await loop.getaddrinfo("no.such.host.invalid", 80)


async def test_unix_sockets(world, tmp_path):
    path = str(tmp_path / "socket")
    ended = asyncio.get_running_loop().create_future()

    async def serve(reader, writer):
        writer.write(await reader.readline())
        writer.close()
        await writer.wait_closed()
        ended.set_result(None)

    async with await asyncio.start_unix_server(serve, path):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"over unix\n")
        assert await reader.readline() == b"over unix\n"
        writer.close()
        await writer.wait_closed()
        await ended
        await turns(3)


# ------------------------------------------------------------------------------------------------------------- turns


class Kept(Recorder):
    def __init__(self):
        super().__init__()
        self.keep_open_after_eof = True


def test_turns_until_the_other_end_is_told(world, same):
    """Tests of programs count them: what this loop has sent or closed is there two turns later, however busy it is."""

    async def body(world):
        loop, took = asyncio.get_running_loop(), {}

        async def count(name, is_told):
            took[name] = 0
            while not is_told():
                took[name] += 1
                await asyncio.sleep(0)

        left, right = socket.socketpair()
        _, one = await loop.create_connection(Kept, sock=left)
        _, other = await loop.create_connection(Kept, sock=right)
        one.transport.write(b"a")
        await count("write", lambda: other.data)
        other.transport.pause_reading()
        one.transport.write(b"b")
        await turns(3)
        other.transport.resume_reading()
        await count("resume_reading", lambda: other.data == b"ab")
        one.transport.write_eof()
        await count("write_eof", other.eof.done)
        other.transport.close()
        await count("close", one.eof.done)
        one.transport.close()
        await count("the end", lambda: one.lost.done() and other.lost.done())

        left, right = socket.socketpair()
        with left, right:
            right.send(b"c")
            ready = loop.create_future()
            loop.add_reader(left, lambda: ready.done() or ready.set_result(None))
            await count("add_reader", ready.done)
            loop.remove_reader(left)
        return took

    same(body)
