"""Unix sockets: what paths may be, who removes which file when, words of refusals, what is known of the peer."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
import struct

import pytest
from tcp_pair import Recorder
from tls_pair import client_context, server_context
from worlds import since, turns

UNIX, DATAGRAM = (socket.AF_UNIX, socket.SOCK_STREAM), (socket.AF_UNIX, socket.SOCK_DGRAM)
TCP = (socket.AF_INET, socket.SOCK_STREAM)


async def serving(path=None, **options):
    """A server, and a list of the protocols that it has made."""
    born = []

    def serve():
        born.append(Recorder())
        return born[-1]

    return await asyncio.get_running_loop().create_unix_server(serve, path, **options), born


async def talk(path, born):
    """A word there and back; the connection is closed afterwards."""
    transport, client = await asyncio.get_running_loop().create_unix_connection(Recorder, path)
    transport.write(b"hello")
    while not born:
        await turns()
    server = born.pop()
    assert await server.received(5) == b"hello"
    server.transport.write(b"back")
    assert await client.received(4) == b"back"
    transport.close()
    assert await client.lost is None and await server.lost is None


async def gone(server):
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("kind", (str, os.fsencode, lambda path: path), ids=("str", "bytes", "Path"))
async def test_kinds_of_paths(world, tmp_path, kind):
    server, born = await serving(kind(tmp_path / "socket"))
    await talk(kind(tmp_path / "socket"), born)
    assert server.sockets[0].getsockname() == str(tmp_path / "socket")
    await gone(server)


@pytest.mark.parametrize("kind", (str, str.encode), ids=("str", "bytes"))
async def test_abstract_addresses(world, kind):
    name = kind(f"\0weft-test-{os.getpid()}")
    server, born = await serving(name)
    await talk(name, born)
    assert server.sockets[0].getsockname() == f"\0weft-test-{os.getpid()}".encode()
    await gone(server)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.get_running_loop().create_unix_connection(Recorder, name)


async def test_a_name_of_the_kernels_choice(world):
    """An empty path, on a socket that was bound by hand: asyncio's own binding refuses it."""
    with socket.socket(*UNIX) as sock:
        sock.bind("")
        server, born = await serving(sock=sock)
        await talk(sock.getsockname(), born)
        await gone(server)


WRONG_SERVERS = {
    "nothing": {},
    "path and sock": {"path": "x", "sock": UNIX},
    "a datagram socket": {"sock": DATAGRAM},
    "a TCP socket": {"sock": TCP},
    "a number": {"path": 5},
    "no directory": {"path": "no/such/directory"},
    "a directory": {"path": "."},
    "too long": {"path": "x" * 200},
    "ssl as a bool": {"path": "x", "ssl": True},
    "ssl_handshake_timeout alone": {"path": "x", "ssl_handshake_timeout": 1},
    "ssl_shutdown_timeout alone": {"path": "x", "ssl_shutdown_timeout": 1},
}
WRONG_CONNECTIONS = {
    "nothing": {},
    "path and sock": {"path": "x", "sock": UNIX},
    "a datagram socket": {"sock": DATAGRAM},
    "a TCP socket": {"sock": TCP},
    "a number": {"path": 5},
    "no socket": {"path": "nobody"},
    "a file": {"path": __file__},
    "too long": {"path": "x" * 200},
    "ssl without a name": {"path": "x", "ssl": True},
    "a name without ssl": {"path": "x", "server_hostname": "x"},
    "ssl_handshake_timeout alone": {"path": "x", "ssl_handshake_timeout": 1},
    "ssl_shutdown_timeout alone": {"path": "x", "ssl_shutdown_timeout": 1},
}


@pytest.mark.parametrize("case", WRONG_SERVERS)
@pytest.mark.parametrize("method", ("create_unix_server", "create_unix_connection"))
def test_words_of_refusals(world, same, tmp_path, monkeypatch, method, case):
    monkeypatch.chdir(tmp_path)
    cases = WRONG_SERVERS if method == "create_unix_server" else WRONG_CONNECTIONS

    async def body(world):
        options = dict(cases[case])
        sock = socket.socket(*options["sock"]) if "sock" in options else None
        if sock is not None:
            options["sock"] = sock
        try:
            await getattr(asyncio.get_running_loop(), method)(Recorder, **options)
        except (OSError, TypeError, ValueError) as error:
            return type(error), getattr(error, "errno", None), str(error).split("<socket")[0]
        finally:
            if sock is not None:
                sock.close()

    if case in cases:
        assert same(body)["returned"]
        assert os.listdir() == []


# ----------------------------------------------------------------------------------------------------- the file


async def test_what_stands_at_the_path_when_a_server_comes(world, tmp_path):
    loop = asyncio.get_running_loop()
    path = tmp_path / "socket"
    # A socket that nobody listens on, and one that a living server listens on, which hears no more then.
    with socket.socket(*UNIX) as stale:
        stale.bind(str(path))
    first, _ = await serving(path, **({"cleanup_socket": False} if since(3, 13) else {}))
    second, born = await serving(path)
    await talk(path, born)
    await gone(first)
    await talk(path, born)
    await gone(second)
    # A link to a socket: the link is what is removed.
    target, link = tmp_path / "target", tmp_path / "link"
    with socket.socket(*UNIX) as sock:
        sock.bind(str(target))
    link.symlink_to(target)
    server, born = await serving(link)
    await talk(link, born)
    assert stat.S_ISSOCK(link.lstat().st_mode) and target.exists()
    await gone(server)
    # Anything else is kept.
    file = tmp_path / "file"
    file.write_text("precious")
    with pytest.raises(OSError, match=f"Address '{file}' is already in use") as caught:
        await loop.create_unix_server(Recorder, file)
    assert caught.value.errno == errno.EADDRINUSE
    assert file.read_text() == "precious"


def test_a_directory_that_lets_nothing_be_looked_at(world, same, tmp_path, log_lines):
    if os.geteuid() == 0:
        forbidden = "/proc/self/fd/0/socket"  # not even root: it is no directory
    else:
        forbidden = str(tmp_path / "closed" / "socket")
        os.mkdir(tmp_path / "closed", mode=0)

    async def body(world):
        del log_lines[:]
        try:
            await asyncio.get_running_loop().create_unix_server(Recorder, forbidden)
        except OSError as error:
            return type(error), str(error), [line for line in log_lines if "stale" in line]

    returned = same(body)["returned"]
    assert returned[2][0].startswith("ERROR Unable to check or remove stale UNIX socket")


@pytest.mark.parametrize("cleanup", (None, True, False))
@pytest.mark.parametrize("meanwhile", ("nothing", "gone", "replaced", "moved"))
async def test_the_file_when_the_server_is_closed(world, tmp_path, cleanup, meanwhile):
    if world.name == "asyncio" and not since(3, 13):
        pytest.skip("asyncio has it from 3.13 on")
    path = tmp_path / "socket"
    options = {} if cleanup is None else {"cleanup_socket": cleanup}
    server, _ = await serving(path, **options)
    if meanwhile == "gone":
        path.unlink()
    elif meanwhile == "replaced":
        (tmp_path / "other").write_text("another's")
        (tmp_path / "other").replace(path)
    elif meanwhile == "moved":
        path.rename(tmp_path / "moved")
    await gone(server)
    removes = since(3, 13) if cleanup is None else cleanup
    if meanwhile == "nothing":
        assert os.listdir(tmp_path) == ([] if removes else ["socket"])
    else:
        assert os.listdir(tmp_path) == {"gone": [], "replaced": ["socket"], "moved": ["moved"]}[meanwhile]


@pytest.mark.parametrize("cleanup", (True, False))
async def test_the_file_of_a_socket_that_was_given(world, tmp_path, cleanup):
    if world.name == "asyncio" and not since(3, 13):
        pytest.skip("asyncio has it from 3.13 on")
    path = tmp_path / "socket"
    sock = socket.socket(*UNIX)
    sock.bind(str(path))
    server, born = await serving(sock=sock, cleanup_socket=cleanup)
    assert server.sockets[0].gettimeout() == 0
    await talk(path, born)
    await gone(server)
    assert path.exists() is not cleanup


async def test_modes_and_the_umask(world, tmp_path):
    before = os.umask(0o077)
    try:
        server, _ = await serving(tmp_path / "socket")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "socket").stat().st_mode) == 0o700
    await gone(server)


# ------------------------------------------------------------------------------------------------- connections


async def test_what_is_known_of_both_ends(world, tmp_path):
    loop = asyncio.get_running_loop()
    path = tmp_path / "socket"
    server, born = await serving(path)
    transport, client = await loop.create_unix_connection(Recorder, path)
    while not born:
        await turns()
    accepted = await born[0].made
    assert transport.get_extra_info("peername") == accepted.get_extra_info("sockname") == str(path)
    assert transport.get_extra_info("sockname") == accepted.get_extra_info("peername") == ""
    credentials = accepted.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    assert struct.unpack("3i", credentials) == (os.getpid(), os.getuid(), os.getgid())
    assert accepted.get_extra_info("socket").family == socket.AF_UNIX
    assert transport.can_write_eof()
    transport.write(b"half")
    born[0].keep_open_after_eof = True
    transport.write_eof()
    await born[0].eof
    accepted.write(b"the other half")
    assert await client.received(14) == b"the other half"
    accepted.close()
    assert await born[0].lost is None and await client.lost is None
    await gone(server)


async def test_a_socket_that_is_connected_already(world):
    """By create_unix_connection, create_connection and connect_accepted_socket alike."""
    loop = asyncio.get_running_loop()
    for take in (
        lambda sock: loop.create_unix_connection(Recorder, sock=sock),
        lambda sock: loop.create_connection(Recorder, sock=sock),
        lambda sock: loop.connect_accepted_socket(Recorder, sock),
    ):
        ours, theirs = socket.socketpair()
        transport, protocol = await take(ours)
        assert ours.gettimeout() == 0
        transport.write(b"hello")
        await turns(2)
        with theirs:
            assert theirs.recv(10) == b"hello"
        assert await protocol.lost is None


@pytest.mark.weft_only  # asyncio says that the connection is made; it fails when it is used
async def test_a_full_backlog_is_waited_for(world, tmp_path):
    loop = asyncio.get_running_loop()
    path = str(tmp_path / "socket")
    with socket.socket(*UNIX) as listening:
        listening.bind(path)
        listening.listen(0)
        listening.setblocking(False)
        connecting = [loop.create_task(loop.create_unix_connection(Recorder, path)) for _ in range(10)]
        done, waiting = await asyncio.wait(connecting, timeout=0.02)
        assert len(done) == 1 and len(waiting) == 9
        one = waiting.pop()
        one.cancel()
        with pytest.raises(asyncio.CancelledError):
            await one
        connecting.remove(one)
        peers = [(await loop.sock_accept(listening))[0] for _ in connecting]
        for number, task in enumerate(connecting):
            (await task)[0].write(b"%d" % number)
        heard = [await loop.sock_recv(peer, 10) for peer in peers]
        assert sorted(heard) == [b"%d" % number for number in range(9)]
        for peer in peers:
            peer.close()
        for task in connecting:
            assert await task.result()[1].lost is None


@pytest.mark.weft_only  # asyncio leaves the socket to the garbage collector
async def test_a_path_with_a_zero_within(world):
    with pytest.raises(ValueError, match="embedded null"):
        await asyncio.get_running_loop().create_unix_server(Recorder, "a\0b")


async def test_streams_over_tls(world, tmp_path):
    path = str(tmp_path / "socket")
    done = asyncio.get_running_loop().create_future()

    async def serve(reader, writer):
        writer.write((await reader.readline()).upper())
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        done.set_result(None)

    server = await asyncio.start_unix_server(serve, path, ssl=server_context())
    reader, writer = await asyncio.open_unix_connection(path, ssl=client_context(), server_hostname="localhost")
    writer.write(b"hello\n")
    assert await reader.read() == b"HELLO\n"
    writer.close()
    await writer.wait_closed()
    await done
    await gone(server)
