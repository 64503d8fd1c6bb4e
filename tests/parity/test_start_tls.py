"""start_tls in all its ways: over plain, foreign and TLS transports, from streams, and when it fails."""

from __future__ import annotations

import asyncio
import ssl

import pytest
from tcp_pair import Pair, Recorder
from tls_by_hand import HandPeer
from tls_pair import TLSPair, client_context, server_context
from worlds import since, turns

REFUSALS = {
    "no context": {"sslcontext": None},
    "no context of ssl": {"sslcontext": "context"},
    "no handshake time": {"ssl_handshake_timeout": 0},
    "negative handshake time": {"ssl_handshake_timeout": -1.5},
    "no shutdown time": {"ssl_shutdown_timeout": 0},
    "negative shutdown time": {"ssl_shutdown_timeout": -0.1},
    "a wrong name": {"server_hostname": ".localhost"},
}


@pytest.mark.parametrize("case", REFUSALS)
def test_words_of_refusals(world, same, case):
    async def body(world):
        loop = asyncio.get_running_loop()
        async with Pair() as pair:
            options = {"sslcontext": client_context()} | REFUSALS[case]
            try:
                await loop.start_tls(pair.transport, pair.client, **options)
            except (TypeError, ValueError) as error:
                # Nothing has happened to the connection.
                pair.transport.write(b"still plain")
                await pair.server.received(11)
                return type(error), str(error)

    assert same(body)["returned"]


def test_words_about_a_transport(world, same):
    async def body(world):
        try:
            await asyncio.get_running_loop().start_tls(asyncio.Transport(), asyncio.Protocol(), client_context())
        except TypeError as error:
            return str(error)

    assert "is not supported by start_tls()" in same(body)["returned"]


async def upgraded(pair, *, server_side=True, **options):
    """Both sides of a `Pair` upgraded, by the loop under test: (client's transport, server's transport)."""
    loop = asyncio.get_running_loop()
    accepting = loop.create_task(loop.start_tls(pair.server.transport, pair.server, server_context(), server_side=True))
    client = await loop.start_tls(pair.transport, pair.client, client_context(), server_hostname="localhost", **options)
    return client, await accepting


async def test_what_stands_where_afterwards(world):
    async with Pair() as pair:
        raw = pair.transport
        client, server = await upgraded(pair)
        assert client is not raw and client.get_protocol() is pair.client
        assert raw.get_protocol() is not pair.client
        assert client.get_extra_info("peername") == raw.get_extra_info("peername")
        assert raw.get_extra_info("ssl_object") is None
        assert client.get_extra_info("ssl_object").version() == server.get_extra_info("ssl_object").version()
        # Neither is told of a connection again.
        assert pair.client.events == pair.server.events == ["made"]
        other = Recorder()
        client.set_protocol(other)
        server.write(b"for another")
        assert await other.received(11) == b"for another"
        assert not pair.client.data
        client.set_protocol(pair.client)
        client.close()
        assert await pair.client.lost is None and await pair.server.lost is None
        assert client.is_closing() and raw.is_closing()


async def test_the_transport_below_is_closed(world):
    """By whoever kept it: the protocol hears of it, once."""
    async with Pair() as pair:
        client, server = await upgraded(pair)
        client.write(b"last words")
        pair.transport.close()
        assert await pair.client.lost is None and await pair.server.lost is None
        assert bytes(pair.server.data) == b"last words"
        assert pair.server.events == ["made", "eof", "lost"]
        assert pair.client.events == ["made", "lost"]
        assert server.is_closing()


class Foreign(asyncio.Transport):
    """Somebody else's transport, which says of itself that it takes TLS; over one of the loop's own."""

    _start_tls_compatible = True

    def __init__(self, below):
        super().__init__({"carrier": "pigeon"})
        self._below = below
        self._protocol = below.get_protocol()
        self.calls = []
        below.set_protocol(Forwarder(self))

    def get_protocol(self):
        return self._protocol

    def set_protocol(self, protocol):
        self._protocol = protocol

    def pause_reading(self):
        self.calls.append("pause_reading")
        self._below.pause_reading()

    def resume_reading(self):
        self.calls.append("resume_reading")
        self._below.resume_reading()

    def write(self, data):
        self._below.write(data)

    def close(self):
        self._below.close()

    def abort(self):
        self.calls.append("abort")
        self._below.abort()


class Forcible(Foreign):
    """With what asyncio calls besides: a private method, and `is_closing` from 3.14 on."""

    def is_closing(self):
        return self._below.is_closing()

    def _force_close(self, exc):
        self._below.abort()


class Forwarder(asyncio.Protocol):
    def __init__(self, above):
        self._above = above

    def data_received(self, data):
        protocol = self._above.get_protocol()
        if isinstance(protocol, asyncio.BufferedProtocol):
            while data:
                buffer = protocol.get_buffer(len(data))
                count = min(len(buffer), len(data))
                buffer[:count] = data[:count]
                protocol.buffer_updated(count)
                data = data[count:]
        else:
            protocol.data_received(data)

    def eof_received(self):
        return self._above.get_protocol().eof_received()

    def pause_writing(self):
        self._above.get_protocol().pause_writing()

    def resume_writing(self):
        self._above.get_protocol().resume_writing()

    def connection_lost(self, exc):
        self._above.get_protocol().connection_lost(exc)


async def test_over_a_foreign_transport(world):
    async with Pair() as pair:
        pair.transport, pair.server.transport = Forcible(pair.transport), Forcible(pair.server.transport)
        client, server = await upgraded(pair)
        assert pair.transport.calls == ["pause_reading", "resume_reading"]
        assert client.get_extra_info("carrier") == "pigeon"
        client.write(b"x" * 2_000_000)
        assert await pair.server.received(2_000_000) == b"x" * 2_000_000
        server.writelines([b"back", b"", memoryview(b" again")])
        assert await pair.client.received(10) == b"back again"
        server.close()
        assert await pair.server.lost is None and await pair.client.lost is None


async def test_a_foreign_transport_whose_peer_fails_the_handshake(world):
    loop = asyncio.get_running_loop()
    async with Pair() as pair:
        foreign = Forcible(pair.transport)
        task = loop.create_task(loop.start_tls(foreign, pair.client, client_context(), server_hostname="localhost"))
        await pair.server.received(5)
        pair.server.transport.write(b"220 this is no TLS\r\n")
        with pytest.raises(ssl.SSLError):
            await task
        assert isinstance(await pair.client.lost, type(None))


@pytest.mark.weft_only  # asyncio needs the private `_force_close`, and from 3.14 on `is_closing`
async def test_a_foreign_transport_with_no_more_than_it_needs(world):
    async with Pair() as pair:
        pair.transport, pair.server.transport = Foreign(pair.transport), Foreign(pair.server.transport)
        client, server = await upgraded(pair)
        assert not client.is_closing()
        client.abort()
        assert await pair.client.lost is None
        await pair.server.lost
        assert client.is_closing() and pair.transport.calls[-1] == "abort"


@pytest.mark.weft_only
async def test_a_foreign_transport_is_aborted_by_its_public_method(world):
    async with Pair() as pair:
        foreign = Foreign(pair.transport)
        task = asyncio.ensure_future(
            asyncio.get_running_loop().start_tls(
                foreign, pair.client, client_context(), ssl_handshake_timeout=0.05, server_hostname="localhost"
            )
        )
        with pytest.raises(ConnectionAbortedError):
            await task
        assert "abort" in foreign.calls
        # The handshake was never over, so asyncio's protocols hear nothing either.
        await pair.server.lost
        pair.client.lost.set_result(None)


# -------------------------------------------------------------------------------------------------------- it fails

HOW_IT_FAILS = ("no answer", "no TLS", "end", "reset", "cancelled", "cancelled at once", "not trusted")


@pytest.mark.parametrize("how", HOW_IT_FAILS)
@pytest.mark.parametrize("debug", (False, True))
def test_a_handshake_that_fails(world, same, how, debug):
    """What the caller gets, what the protocol hears, and what is left of the transport below."""

    async def body(world):
        loop = asyncio.get_running_loop()
        async with Pair() as pair:
            peer = HandPeer(server_side=True, shakes=how == "not trusted")
            peer.connection_made(pair.server.transport)
            if how == "not trusted":
                pair.server.transport.set_protocol(peer)
                pair.server.lost = peer.lost
            context = ssl.create_default_context() if how == "not trusted" else client_context()
            options = {"ssl_handshake_timeout": 0.05} if how == "no answer" else {}
            task = loop.create_task(
                loop.start_tls(pair.transport, pair.client, context, server_hostname="localhost", **options)
            )
            if how == "cancelled at once":
                await turns()
            elif how != "not trusted":
                await pair.server.received(5)
            if how.startswith("cancelled"):
                task.cancel()
            elif how == "no TLS":
                pair.server.transport.write(b"220 this is no TLS\r\n")
            elif how == "end":
                pair.server.transport.close()
            elif how == "reset":
                peer.reset()
            (outcome,) = await asyncio.gather(task, return_exceptions=True)
            if how == "not trusted":
                peer.transport.close()
            await pair.server.lost
            await turns(5)
            seen = pair.client.events, pair.transport.is_closing(), pair.transport.get_extra_info("socket").fileno()
            if not pair.client.lost.done():
                pair.client.lost.set_result(None)
            return type(outcome), getattr(outcome, "reason", str(outcome)), seen

    expected = {"no answer": "ConnectionAbortedError", "end": "ConnectionResetError", "reset": "ConnectionResetError"}
    kind = expected.get(how, "CancelledError" if "cancelled" in how else None)
    returned = same(body, debug=debug)["returned"]
    assert returned[0] == (kind or ("SSLCertVerificationError" if how == "not trusted" else "SSLError"))


@pytest.mark.parametrize("how", ("close", "abort"))
@pytest.mark.parametrize("when", ("just before", "long before"))
async def test_a_connection_that_is_over(world, how, when):
    """There is no transport to give: None, which aiohttp asks about."""
    if world.name == "asyncio" and when == "long before":
        pytest.skip("asyncio waits for ever")
    loop = asyncio.get_running_loop()
    async with Pair() as pair:
        getattr(pair.transport, how)()
        if when == "long before":
            await pair.client.lost
        assert await loop.start_tls(pair.transport, pair.client, client_context(), server_hostname="localhost") is None
        assert await pair.client.lost is None
        assert pair.client.events == ["made", "lost"]


async def test_a_server_whose_client_is_silent(world):
    loop = asyncio.get_running_loop()
    async with Pair() as pair:
        with pytest.raises(ConnectionAbortedError, match=r"taking longer than 0.05 seconds: aborting the connection"):
            await loop.start_tls(
                pair.server.transport, pair.server, server_context(), server_side=True, ssl_handshake_timeout=0.05
            )
        await pair.client.lost
        if not pair.server.lost.done():
            pair.server.lost.set_result(None)


# ---------------------------------------------------------------------------------------------------- TLS over TLS


async def test_tls_in_tls_ends_from_the_inside(world):
    async with TLSPair() as pair:
        client, server = await upgraded(pair)
        assert client.get_extra_info("ssl_object") is not pair.transport.get_extra_info("ssl_object")
        client.write(b"last words")
        client.close()
        assert await pair.client.lost is None and await pair.server.lost is None
        assert bytes(pair.server.data) == b"last words"
        assert pair.transport.is_closing() and server.is_closing()


@pytest.mark.parametrize("how", ("close", "abort"))
async def test_tls_in_tls_ends_from_below(world, how):
    async with TLSPair() as pair:
        client, _ = await upgraded(pair)
        client.write(b"last words")
        getattr(pair.transport, how)()
        await pair.client.lost
        await pair.server.lost
        assert bytes(pair.server.data) == b"last words"


@pytest.mark.weft_only  # asyncio's TLS transport could not be forced before 3.13, and its connection then hangs
async def test_tls_in_tls_with_garbage_inside(world):
    async with TLSPair() as pair:
        await upgraded(pair)
        pair.server.transport.write(b"this is no record" * 10)
        assert isinstance(await pair.client.lost, ssl.SSLError)
        await pair.server.lost


# --------------------------------------------------------------------------------------------------------- streams


async def upgrading_server(handler):
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


async def test_writers_start_tls_on_both_sides(world):
    done = asyncio.get_running_loop().create_future()

    async def handler(reader, writer):
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"go ahead\n")
        await writer.drain()
        await writer.start_tls(server_context())
        writer.write(await reader.readline())
        await writer.drain()
        version = writer.get_extra_info("ssl_object").version()
        assert await reader.read() == b""
        writer.close()
        done.set_result(version)

    server, port = await upgrading_server(handler)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"STARTTLS\n")
    assert await reader.readline() == b"go ahead\n"
    await writer.start_tls(client_context(), server_hostname="localhost")
    assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
    writer.write(b"secret\n")
    assert await reader.readline() == b"secret\n"
    writer.close()
    await writer.wait_closed()
    assert await done == "TLSv1.3"
    server.close()
    await server.wait_closed()


async def test_a_clients_hello_that_was_read_already(world):
    """A client that does not wait for an answer: its hello stands in the reader before start_tls is called."""
    if world.name == "asyncio" and not since(3, 14):
        pytest.skip("asyncio loses it before 3.14")
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    async def handler(reader, writer):
        assert await reader.readline() == b"STARTTLS\n"
        while len(reader._buffer) < 100:
            await turns()
        await writer.start_tls(server_context())
        writer.write(await reader.readexactly(6))
        await writer.drain()
        end = await reader.read()
        writer.close()
        done.set_result(end)

    server, port = await upgrading_server(handler)
    peer = HandPeer(shakes=False)
    await loop.create_connection(lambda: peer, "127.0.0.1", port)
    peer.transport.write(b"STARTTLS\n")
    peer.start()
    await peer.shaken
    peer.say(b"secret")
    assert await peer.heard(6) == b"secret"
    peer.notify()
    assert await done == b""
    await peer.ended
    peer.transport.close()
    await peer.lost
    server.close()
    await server.wait_closed()
