"""TLS against the `openssl` program, which can do what Python's ssl can't: renegotiate (TLS 1.2), change keys (TLS 1.3)."""

from __future__ import annotations

import asyncio
import shutil
import ssl

import pytest
from tcp_pair import Recorder
from tls_pair import CERTS, client_context, server_context

pytestmark = [
    pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl program"),
    pytest.mark.slow_test(60),
]

#: What `-msg` prints of a change of keys by the program, and by us.
THEIR_UPDATE = b">>> TLS 1.3, Handshake [length 0005], KeyUpdate"
OUR_UPDATE = b"<<< TLS 1.3, Handshake [length 0005], KeyUpdate"
#: SSL_OP_ALLOW_CLIENT_RENEGOTIATION, which Python has a name for from 3.12 on. Before OpenSSL 3 it was always allowed.
ALLOW_CLIENT_RENEGOTIATION = 0x100


class Program:
    """`openssl s_server` or `s_client`, run in `folder`: what is said to it, and what it prints."""

    def __init__(self, folder, *arguments):
        self._folder = folder
        self._arguments = arguments
        self.printed = bytearray()

    async def __aenter__(self):
        self._process = await asyncio.create_subprocess_exec(
            "openssl",
            *self._arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=self._folder,
        )
        return self

    async def __aexit__(self, *args):
        self._process.stdin.close()
        if self._process.returncode is None:
            self._process.kill()
        await self._process.stdout.read()
        await self._process.wait()

    def say(self, line):
        """A line for the peer, or a single letter that is a command."""
        self._process.stdin.write(line + b"\n")

    async def prints(self, word, count=1):
        """`word` has been printed so many times."""
        while self.printed.count(word) < count:
            some = await self._process.stdout.read(1 << 16)
            assert some, bytes(self.printed)
            self.printed += some


async def ends(protocol):
    protocol.transport.abort()
    await protocol.lost


class Client:
    """A `Recorder` of the loop under test that is connected to `openssl s_server`."""

    def __init__(self, folder, *arguments):
        self.path = str(folder / "socket")
        files = ("-cert", str(CERTS / "server.pem"), "-key", str(CERTS / "server.pem"))
        # It takes no long path.
        self.program = Program(folder, "s_server", "-unix", "socket", "-msg", *files, *arguments)

    async def __aenter__(self):
        await self.program.__aenter__()
        await self.program.prints(b"ACCEPT")
        self.transport, self.protocol = await asyncio.get_running_loop().create_unix_connection(
            Recorder, self.path, ssl=client_context(), server_hostname="localhost"
        )
        return self

    async def __aexit__(self, *args):
        await ends(self.protocol)
        await self.program.__aexit__(*args)


class Served:
    """A `Recorder` of the loop under test to which `openssl s_client` is connected."""

    def __init__(self, folder, context, *arguments):
        self.path = str(folder / "socket")
        self.context = context
        self.program = Program(folder, "s_client", "-unix", "socket", "-msg", "-servername", "localhost", *arguments)

    async def __aenter__(self):
        loop = asyncio.get_running_loop()
        accepted = loop.create_future()

        def serve():
            accepted.set_result(Recorder())
            return accepted.result()

        self.listener = await loop.create_unix_server(serve, self.path, ssl=self.context)
        await self.program.__aenter__()
        self.protocol = await accepted
        self.transport = await self.protocol.made
        return self

    async def __aexit__(self, *args):
        await ends(self.protocol)
        await self.program.__aexit__(*args)
        self.listener.close()
        await self.listener.wait_closed()


def renegotiable_context():
    context = server_context(maximum_version=ssl.TLSVersion.TLSv1_2)
    context.options |= ALLOW_CLIENT_RENEGOTIATION
    return context


async def speaks_both_ways(pair, word):
    """Data goes both ways, and the protocol stays what it was."""
    before = len(pair.protocol.data)
    pair.program.say(b"to us: " + word)
    assert (await pair.protocol.received(before + len(word) + 8))[before:] == b"to us: " + word + b"\n"
    pair.transport.write(b"to them: " + word + b"\n")
    await pair.program.prints(b"to them: " + word)
    assert pair.protocol.events == ["made"]


async def test_a_server_renegotiates(world, tmp_path):
    async with Client(tmp_path, "-tls1_2") as pair:
        certificate = pair.transport.get_extra_info("peercert")
        await speaks_both_ways(pair, b"before")
        for times in (2, 3):
            pair.program.say(b"r")
            # Both sides finish once in each handshake.
            await pair.program.prints(b"Finished", times * 2)
            assert pair.transport.get_extra_info("peercert") == certificate
            await speaks_both_ways(pair, b"after %d" % times)


async def test_a_server_renegotiates_while_much_is_written(world, tmp_path):
    async with Client(tmp_path, "-tls1_2") as pair:
        await speaks_both_ways(pair, b"before")
        for number in range(40):
            if number in (10, 20):
                pair.program.say(b"r")
            pair.transport.write(b"~" * 25_000)
            await pair.program.prints(b"~", (number + 1) * 25_000)
        await pair.program.prints(b"Finished", 6)
        await speaks_both_ways(pair, b"after")


async def test_a_client_renegotiates(world, tmp_path):
    async with Served(tmp_path, renegotiable_context(), "-tls1_2") as pair:
        await speaks_both_ways(pair, b"before")
        pair.program.say(b"R")
        await pair.program.prints(b"RENEGOTIATING")
        await pair.program.prints(b"Finished", 4)
        await speaks_both_ways(pair, b"after")


@pytest.mark.skipif(ssl.OPENSSL_VERSION_INFO < (3,), reason="it can't be refused")
async def test_a_client_that_may_not_renegotiate(world, tmp_path):
    """As OpenSSL has it by default: the client is told no, and leaves."""
    context = server_context(maximum_version=ssl.TLSVersion.TLSv1_2)
    async with Served(tmp_path, context, "-tls1_2") as pair:
        await speaks_both_ways(pair, b"before")
        pair.program.say(b"R")
        await pair.protocol.lost
        await pair.program.prints(b"no renegotiation")
        pair.protocol.lost = asyncio.get_running_loop().create_future()
        pair.protocol.lost.set_result(None)


@pytest.mark.parametrize("side", (Client, Served))
@pytest.mark.parametrize("command", (b"k", b"K"))
async def test_the_peer_changes_keys(world, tmp_path, side, command):
    """And with the capital letter asks us to do so, too."""
    arguments = (tmp_path, "-tls1_3") if side is Client else (tmp_path, server_context(), "-tls1_3")
    async with side(*arguments) as pair:
        await speaks_both_ways(pair, b"before")
        for times in (1, 2):
            pair.program.say(command)
            await pair.program.prints(THEIR_UPDATE, times)
            await speaks_both_ways(pair, b"after %d" % times)
        assert pair.program.printed.count(OUR_UPDATE) == (2 if command == b"K" else 0)
