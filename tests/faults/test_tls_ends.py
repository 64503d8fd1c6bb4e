"""How a TLS connection ends when one side has paused, is slow, or goes on talking: nothing lost, nothing stalls."""

from __future__ import annotations

import asyncio

import pytest
from tcp_pair import Recorder
from tls_pair import TLSPair
from worlds import turns

DATA = bytes(range(256)) * 800


class Small(Recorder, asyncio.BufferedProtocol):
    """Reads a few bytes at a time."""

    def get_buffer(self, sizehint):
        self.buffer = bytearray(1_000)
        return self.buffer

    def buffer_updated(self, nbytes):
        self.data_received(bytes(self.buffer[:nbytes]))


def end_without_good_bye(protocol):
    """The end of the stream below: what a peer's `close` is that does not wait for an answer."""
    protocol.transport._ssl_protocol._transport.close()


async def below_has_ended(protocol):
    """Wait until `protocol`, which does not read, has got the end of the stream below."""
    below = protocol.transport._ssl_protocol._transport
    while "read=polling" in repr(below):
        await turns()


@pytest.mark.weft_only  # asyncio loses all but one buffer
async def test_a_small_buffer_gets_all_of_a_peer_that_has_gone(world):
    async with TLSPair(protocol=Small) as pair:
        pair.client.transport.write(DATA)
        await turns()
        end_without_good_bye(pair.client)
        assert await pair.server.lost is None
        assert bytes(pair.server.data) == DATA
        assert pair.server.events == ["made", "eof", "lost"]


@pytest.mark.weft_only
async def test_a_small_buffer_that_pauses_in_between(world):
    class Pausing(Small):
        def buffer_updated(self, nbytes):
            super().buffer_updated(nbytes)
            if len(self.data) % 3_000 == 0:
                self.transport.pause_reading()
                asyncio.get_running_loop().call_soon(self.transport.resume_reading)

    async with TLSPair(protocol=Pausing) as pair:
        pair.client.transport.write(DATA)
        await turns()
        end_without_good_bye(pair.client)
        assert await pair.server.lost is None
        assert bytes(pair.server.data) == DATA


@pytest.mark.weft_only  # asyncio never ends it
async def test_close_ends_a_connection_that_was_paused_when_its_peer_left(world):
    async with TLSPair() as pair:
        pair.server.transport.pause_reading()
        pair.client.transport.write(b"never read")
        await turns()
        end_without_good_bye(pair.client)
        await below_has_ended(pair.server)
        pair.server.transport.close()
        assert await pair.server.lost is None
        assert pair.server.data == b""


async def test_a_pause_keeps_what_a_peer_sent_before_it_left(world):
    async with TLSPair() as pair:
        pair.server.transport.pause_reading()
        pair.client.transport.write(b"read late")
        await turns()
        end_without_good_bye(pair.client)
        if world.weft_loop:
            await below_has_ended(pair.server)
        pair.server.transport.resume_reading()
        assert await pair.server.lost is None
        assert pair.server.data == b"read late"


@pytest.mark.weft_only  # asyncio cuts the connection off, with what it still held
async def test_a_peer_that_goes_on_talking_gets_what_was_written_before_the_close(world):
    async with TLSPair() as pair:
        pair.server.transport.pause_reading()
        pair.client.transport.write(DATA * 20)
        while not pair.client.transport.get_write_buffer_size():
            pair.client.transport.write(DATA * 20)
            await turns()
        pair.client.transport.write(b"last")
        pair.client.transport.close()
        pair.server.transport.write(b"more" * 100_000)
        await turns(5)
        pair.server.transport.resume_reading()
        assert await pair.client.lost is None
        assert await pair.server.lost is None
        assert pair.server.data.endswith(b"last")
        assert pair.client.data == b""


@pytest.mark.weft_only
async def test_an_error_above_does_not_drop_what_was_written_before_it(world):
    """What a callback wrote has its chance to be sent although the connection is cut off in that callback."""
    async with TLSPair() as pair:
        pair.client.transport.write(b"sent")
        pair.client.transport._force_close(ConnectionError("given up"))
        assert isinstance(await pair.client.lost, ConnectionError)
        await pair.server.lost
        assert pair.server.data == b"sent"


@pytest.mark.weft_only  # with asyncio the server hears the end of the handshake when the client writes
async def test_a_client_that_pauses_at_once_ends_its_handshake(world):
    class PausedAtOnce(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.pause_reading()

    async with TLSPair(protocol=PausedAtOnce) as pair:
        assert pair.server.events == ["made"]
