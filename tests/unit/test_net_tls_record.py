"""TLS records without I/O: whatever the pieces in which ciphertext comes, the plaintext is what was sent."""

from __future__ import annotations

import random

import pytest
from tls_pair import client_context, server_context

from weft._native.filling import Filling
from weft._net.tls.record import RECORD_BYTES, RecordLayer


def shaken_hands(**options):
    """Both sides of a connection, after the handshake."""
    client = RecordLayer(client_context(**options), False, "localhost")
    server = RecordLayer(server_context(), True, None)
    done = False
    while not done:
        done = client.handshake()
        server.feed(client.take())
        server.handshake()
        client.feed(server.take())
    return client, server


def records(layer, data):
    """`data` as ciphertext."""
    view = memoryview(data)
    while len(view):
        view = view[layer.send(view) :]
    return layer.take()


def received(layer, dice):
    """What `layer` has, read in one way or another."""
    if dice.random() < 0.5:
        data = layer.receive()
        assert layer.receive() == b"", "that was not all"
        return data
    room = bytearray(dice.choice((1, 100, RECORD_BYTES, 100_000)))
    count = layer.receive_into(memoryview(room))
    return bytes(room[:count])


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
@pytest.mark.parametrize("seed", range(20))
def test_any_pieces_of_ciphertext(version, seed):
    import ssl

    dice = random.Random(seed)
    client, server = shaken_hands(maximum_version=ssl.TLSVersion[version])
    sent = got = b""
    wire = b""
    for _ in range(30):
        data = dice.randbytes(dice.choice((1, 100, RECORD_BYTES - 1, RECORD_BYTES, RECORD_BYTES + 1, 100_000, 300_000)))
        sent += data
        wire += records(client, data)
        while wire and dice.random() < 0.8:
            count = dice.choice((1, 4, 5, 6, 1000, RECORD_BYTES, 40_000, 100_000, 250_000))
            server.feed(wire[:count])
            wire = wire[count:]
            if dice.random() < 0.7:
                got += received(server, dice)
    server.feed(wire)
    while more := received(server, dice):
        got += more
    assert got == sent
    assert server.incoming_size() == 0
    assert not server.ended


def test_the_end_is_told_behind_the_last_data():
    client, server = shaken_hands()
    wire = records(client, b"x" * 200_000)
    assert not client.shutdown()
    server.feed(wire + client.take())
    assert server.receive() == b"x" * 200_000
    assert server.ended


@pytest.mark.parametrize("size", [1, 300_000])
def test_filling(size):
    filling = Filling(size)
    filling.view[:1] = b"a"
    assert len(filling.view) == size
    assert filling.cut(1) == b"a"
    for count in (0, size):
        filling = Filling(size)
        filling.view[:] = b"b" * size
        assert filling.cut(count) == b"b" * count
