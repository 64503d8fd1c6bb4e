"""How TLS connections end: who closes first, what was still to be sent or read, what protocol and peer hear of it."""

from __future__ import annotations

import asyncio
import gc
import ssl
import weakref

import pytest
from tcp_pair import Recorder
from tls_by_hand import HandPair
from tls_pair import TLSPair, server_context
from worlds import since, turns

#: More than the kernel takes for a peer that does not read.
MUCH = 8_000_000


async def both_ends(pair):
    """What the protocol of the loop under test and its peer have seen, once the connection is over."""
    lost = await pair.server.lost
    await asyncio.wait([pair.peer.ended, pair.peer.lost], return_when=asyncio.FIRST_COMPLETED)
    return lost, pair.server.events, bytes(pair.server.data), bytes(pair.peer.data)


async def arrived(transport, size):
    """So much ciphertext waits in a transport that does not read."""
    while transport.get_read_buffer_size() < size:
        await turns()


class Failing(Recorder):
    """Says a last word in one of its methods, and raises."""

    method = ""

    def _fail(self, method):
        if method == self.method:
            self.transport.write(b"last words")
            raise ArithmeticError(method)

    def connection_made(self, transport):
        super().connection_made(transport)
        self._fail("connection_made")

    def data_received(self, data):
        super().data_received(data)
        self._fail("data_received")

    def eof_received(self):
        super().eof_received()
        self._fail("eof_received")


@pytest.mark.parametrize("method", ("connection_made", "data_received", "eof_received"))
async def test_what_a_protocol_wrote_before_it_failed_is_sent(world, method):
    async with HandPair(protocol=type("Fails", (Failing,), {"method": method})) as pair:
        if method != "connection_made":
            pair.peer.say(b"hello")
            pair.peer.notify()
        lost, events, _, heard = await both_ends(pair)
        assert isinstance(lost, ArithmeticError)
        assert heard == b"last words"
        assert events == (["made", "eof", "lost"] if method == "eof_received" else ["made", "lost"])
    (report,) = world.take_reports()
    assert report["exception"] is lost


@pytest.mark.parametrize("how", ("close", "abort"))
async def test_what_is_written_in_connection_made_is_sent_by(world, how):
    class Brief(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.write(b"hello and goodbye")
            getattr(transport, how)()

    async with HandPair(protocol=Brief) as pair:
        if how == "close":
            await pair.peer.notified
            pair.peer.notify()
        lost, events, _, heard = await both_ends(pair)
        assert lost is None
        assert heard == b"hello and goodbye"
        assert events == (["made", "eof", "lost"] if how == "close" else ["made", "lost"])


async def test_a_close_that_the_peer_answers(world):
    async with HandPair() as pair:
        pair.transport.write(b"x")
        pair.transport.close()
        await pair.peer.notified
        assert not pair.server.lost.done()
        pair.peer.notify()
        assert await both_ends(pair) == (None, ["made", "eof", "lost"], b"", b"x")


async def test_a_close_that_the_peer_answers_by_a_reset(world):
    async with HandPair() as pair:
        pair.transport.close()
        await pair.peer.notified
        pair.peer.reset()
        assert isinstance(await pair.server.lost, ConnectionResetError)


@pytest.mark.parametrize("end", ("notify", "finish"))
async def test_an_end_said_by_the_peer(world, end):
    """By close_notify it may still be answered; an end of the stream below is the end."""

    class Answering(Recorder):
        def eof_received(self):
            super().eof_received()
            self.transport.write(b"answer")

    async with HandPair(protocol=Answering) as pair:
        pair.peer.say(b"question")
        getattr(pair.peer, end)()
        answer = b"answer" if end == "notify" else b""
        assert await both_ends(pair) == (None, ["made", "eof", "lost"], b"question", answer)


@pytest.mark.parametrize("end", ("notify", "finish"))
async def test_an_end_said_while_nobody_reads_is_heard_later(world, end):
    async with HandPair() as pair:
        pair.transport.pause_reading()
        pair.peer.say(b"the last of it")
        getattr(pair.peer, end)()
        await arrived(pair.transport, 30)
        await turns(200)
        assert pair.server.events == ["made"]
        pair.transport.resume_reading()
        assert await both_ends(pair) == (None, ["made", "eof", "lost"], b"the last of it", b"")


@pytest.mark.parametrize("end", ("say", "notify"))
async def test_closed_with_data_that_nobody_read(world, end):
    async with HandPair() as pair:
        pair.transport.pause_reading()
        pair.peer.say(b"never read")
        if end == "notify":
            pair.peer.notify()
        await arrived(pair.transport, 30 if end == "notify" else 10)
        pair.transport.write(b"answer")
        pair.transport.close()
        await ended_by_unread_data(world, pair)


async def ended_by_unread_data(world, pair):
    """asyncio lets OpenSSL refuse it; Weft throws it away, and waits for the peer's own end."""
    if world.weft_loop:
        await pair.peer.notified
        pair.peer.notify()
    lost, events, data, heard = await both_ends(pair)
    assert (data, heard) == (b"", b"answer")
    if world.weft_loop:
        assert (lost, events) == (None, ["made", "eof", "lost"])
    else:
        assert isinstance(lost, ssl.SSLError) and lost.reason == "APPLICATION_DATA_AFTER_CLOSE_NOTIFY"
        assert events == ["made", "lost"]


@pytest.mark.weft_only  # in asyncio close does nothing then, and connection_lost never comes
async def test_closed_after_an_end_that_nobody_read(world):
    async with HandPair() as pair:
        pair.transport.pause_reading()
        pair.peer.say(b"never read")
        pair.peer.finish()
        await arrived(pair.transport, 10)
        await turns(200)
        pair.transport.close()
        assert await both_ends(pair) == (None, ["made", "eof", "lost"], b"", b"")


async def test_data_from_the_peer_after_close(world):
    async with HandPair() as pair:
        pair.transport.write(b"answer")
        pair.transport.close()
        pair.peer.say(b"too late")
        await ended_by_unread_data(world, pair)


@pytest.mark.weft_only  # asyncio drops what is not sent yet
@pytest.mark.parametrize("peer", ("say", "notify"))
async def test_much_that_waits_is_sent_although_the_peer(world, peer):
    async with HandPair() as pair:
        pair.peer.transport.pause_reading()
        pair.transport.write(b"a" * MUCH)
        if peer == "say":
            pair.transport.close()
            pair.peer.say(b"too late")
        else:
            pair.peer.notify()
            await pair.server.eof
        await turns(200)
        assert not pair.server.lost.done()
        pair.peer.transport.resume_reading()
        assert len(await pair.peer.heard(MUCH)) == MUCH
        await pair.peer.notified
        if peer == "say":
            pair.peer.notify()
        assert await pair.server.lost is None


async def test_a_close_that_nobody_reads_is_bounded(world):
    async with HandPair(ssl_shutdown_timeout=0.1) as pair:
        pair.peer.transport.pause_reading()
        pair.transport.write(b"x" * MUCH)
        pair.transport.close()
        lost = await pair.server.lost
        assert isinstance(lost, TimeoutError) and str(lost) == "SSL shutdown timed out"


async def test_an_abort_ends_a_close_that_waits(world):
    async with HandPair() as pair:
        pair.peer.transport.pause_reading()
        pair.transport.write(b"x" * MUCH)
        pair.transport.close()
        await turns(2)
        pair.transport.abort()
        assert await pair.server.lost is None


@pytest.mark.parametrize("method", ("close_clients", "abort_clients"))
async def test_a_server_that_ends_its_clients(world, method):
    """It knows the connections below TLS: no close_notify is said. What was written is sent."""
    async with HandPair() as pair:
        if world.name == "asyncio" and not since(3, 13):
            pytest.skip("asyncio has it from 3.13 on")
        pair.transport.write(b"last words")
        getattr(pair.listener, method)()
        assert await both_ends(pair) == (None, ["made", "lost"], b"", b"last words")
        assert not pair.peer.notified.done()


async def test_what_is_known_after_a_fatal_error(world):
    """OpenSSL tells nothing of the certificate then; who logs the end of a connection still asks."""
    async with TLSPair() as pair:
        known = {
            name: pair.transport.get_extra_info(name) for name in ("peercert", "cipher", "sslcontext", "ssl_object")
        }
        assert known["peercert"]["subject"] == ((("commonName", "weft-server"),),)
        pair.server.transport.get_extra_info("socket")._sock.send(b"this is no record" * 10)
        assert isinstance(await pair.client.lost, ssl.SSLError)
        assert {name: pair.transport.get_extra_info(name) for name in known} == known
        assert pair.transport.get_extra_info("peername", "unknown") == "unknown"


async def test_a_lost_transport_answers(world):
    async with HandPair() as pair:
        pair.transport.abort()
        await pair.server.lost
        pair.transport.write(b"dropped")
        pair.transport.writelines([b"dropped"])
        pair.transport.pause_reading()
        assert not pair.transport.is_reading()
        pair.transport.resume_reading()
        assert pair.transport.get_write_buffer_size() == pair.transport.get_read_buffer_size() == 0
        assert pair.transport.get_protocol() is None
        assert pair.transport.is_closing()


@pytest.mark.parametrize("how", ("close", "abort", "error"))
async def test_what_is_over_is_freed(world, how):
    """By Weft without the garbage collector."""
    freed = []

    async def once():
        async with TLSPair() as pair:
            for protocol in (pair.client, pair.server):
                transport = protocol.transport
                parts = (protocol, transport, transport.get_extra_info("ssl_object"))
                freed.extend(weakref.ref(part) for part in parts)
            if how == "error":
                pair.server.transport.get_extra_info("socket")._sock.send(b"this is no record" * 10)
            else:
                getattr(pair.transport, how)()
            await pair.client.lost
        vars(pair).clear()  # its listener knows it, and it its listener

    gc.disable()
    try:
        await once()
        await turns(3)
        if world.name == "asyncio":
            gc.collect()
        assert [reference() for reference in freed] == [None] * 6
    finally:
        gc.enable()


@pytest.mark.parametrize("upgrade", (False, True))
async def test_what_failed_is_freed(world, upgrade):
    """A handshake that fails leaves nothing behind but its error; by Weft without the garbage collector."""
    loop = asyncio.get_running_loop()
    freed = []

    async def once(address):
        context = ssl.create_default_context()
        client = asyncio.Protocol()
        freed.append(weakref.ref(context))
        try:
            if upgrade:
                transport, _ = await loop.create_connection(lambda: client, *address)
                await loop.start_tls(transport, client, context, server_hostname="localhost")
            else:
                await loop.create_connection(lambda: client, *address, ssl=context, server_hostname="localhost")
        except ssl.SSLCertVerificationError as error:
            return str(error)

    async with await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=server_context()) as listener:
        gc.disable()
        try:
            assert await once(listener.sockets[0].getsockname())
            await turns(5)
            if world.name == "asyncio":
                gc.collect()
            assert [reference() for reference in freed] == [None]
        finally:
            gc.enable()
