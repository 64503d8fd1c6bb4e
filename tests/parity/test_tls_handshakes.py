"""What a TLS handshake agrees on, and how one fails: certificates, names, ALPN, sessions, time-outs, servers that close."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl

import pytest
from tcp_pair import Recorder
from tls_by_hand import HandPair, HandPeer
from tls_pair import CERTS, TLSPair, client_context, server_context
from worlds import since, turns

VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


def told(world):
    """What was reported so far, but for the objects themselves."""
    return [(report["message"], report["exception"], sorted(report)) for report in world.take_reports()]


def demanding_context(**options):
    """A server's, that wants a certificate of the client."""
    context = server_context(verify_mode=ssl.CERT_REQUIRED, **options)
    context.load_verify_locations(CERTS / "ca.pem")
    return context


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
@pytest.mark.parametrize("debug", (False, True))
def test_a_client_without_the_certificate_that_is_wanted(world, same, version, debug):
    """In TLS 1.3 the client believes itself connected until it reads; both ends hear the same as in asyncio."""

    async def body(world):
        loop = asyncio.get_running_loop()
        born = []

        def serve():
            born.append(Recorder())
            return born[-1]

        context = demanding_context(maximum_version=version)
        async with await loop.create_server(serve, "127.0.0.1", 0, ssl=context) as listener:
            try:
                transport, client = await loop.create_connection(
                    Recorder, *listener.sockets[0].getsockname(), ssl=client_context(), server_hostname="localhost"
                )
            except OSError as error:
                return type(error), str(error), told(world), [protocol.events for protocol in born]
            # It may be anything the kernel makes of a connection that was cut off.
            await client.lost
            return "connected", client.events[0], client.events[-1], told(world), [protocol.events for protocol in born]

    returned = same(body, debug=debug)["returned"]
    assert returned[-1] == [[]]
    assert returned[0] == ("connected" if version is ssl.TLSVersion.TLSv1_3 else "ConnectionResetError")


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
async def test_a_client_with_the_certificate_that_is_wanted(world, version):
    client_ssl = client_context()
    client_ssl.load_cert_chain(CERTS / "client.pem")
    async with TLSPair(demanding_context(maximum_version=version), client_ssl) as pair:
        assert pair.server.transport.get_extra_info("peercert")["subject"] == ((("commonName", "weft-client"),),)
        assert pair.transport.get_extra_info("ssl_object").version() == version.name.replace("_", ".")


async def test_the_name_chooses_the_context(world):
    other = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    other.load_cert_chain(CERTS / "client.pem")
    names = []

    def choose(ssl_object, name, context):
        names.append((name, context is first))
        if name == "other.test":
            ssl_object.context = other

    first = server_context(sni_callback=choose)
    for name, subject in (("localhost", "weft-server"), ("other.test", "weft-client"), ("localhost", "weft-server")):
        async with TLSPair(first, server_hostname=name) as pair:
            assert pair.transport.get_extra_info("peercert")["subject"] == ((("commonName", subject),),)
            assert pair.server.transport.get_extra_info("sslcontext") is first
            used = other if name == "other.test" else first
            assert pair.server.transport.get_extra_info("ssl_object").context is used
            pair.transport.write(b"hello")
            assert await pair.server.received(5) == b"hello"
    assert names == [("localhost", True), ("other.test", True), ("localhost", True)]


def test_a_name_that_the_server_refuses(world, same):
    async def body(world):
        loop = asyncio.get_running_loop()
        context = server_context(sni_callback=lambda *args: ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME)
        async with await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=context) as listener:
            try:
                await loop.create_connection(
                    Recorder, *listener.sockets[0].getsockname(), ssl=client_context(), server_hostname="localhost"
                )
            except OSError as error:
                return type(error), str(error), told(world)

    assert same(body, debug=True)["returned"][0] == "ConnectionResetError"


@pytest.mark.parametrize(
    ("offered", "spoken", "chosen"),
    [
        (["h2", "http/1.1"], ["http/1.1"], "http/1.1"),
        (["h2", "http/1.1"], ["http/1.1", "h2"], "http/1.1"),
        (["h2"], ["http/1.1"], None),
        (["h2"], None, None),
        (None, ["h2"], None),
    ],
)
async def test_application_protocols(world, offered, spoken, chosen):
    server_ssl, client_ssl = server_context(), client_context()
    if offered:
        client_ssl.set_alpn_protocols(offered)
    if spoken:
        server_ssl.set_alpn_protocols(spoken)
    async with TLSPair(server_ssl, client_ssl) as pair:
        for protocol in (pair.client, pair.server):
            assert protocol.transport.get_extra_info("ssl_object").selected_alpn_protocol() == chosen


# -------------------------------------------------------------------------------------------------------- sessions


class Remembering(ssl.SSLContext):
    """A client's context that resumes its last session: all that asyncio lets a client do is to make the SSLObject."""

    session = None

    def wrap_bio(self, *args, **options):
        made = super().wrap_bio(*args, **options)
        if self.session is not None:
            made.session = self.session
        return made


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
async def test_a_client_resumes_its_session(world, version):
    client_ssl = Remembering(ssl.PROTOCOL_TLS_CLIENT)
    client_ssl.load_verify_locations(CERTS / "ca.pem")
    server_ssl = server_context(maximum_version=version)
    reused = []
    for _ in range(3):
        async with TLSPair(server_ssl, client_ssl) as pair:
            # TLS 1.3 sends the session after the handshake, before the first data.
            pair.server.transport.write(b"hello")
            await pair.client.received(5)
            ours, theirs = (side.transport.get_extra_info("ssl_object") for side in (pair.client, pair.server))
            assert ours.session_reused == theirs.session_reused
            reused.append(ours.session_reused)
            client_ssl.session = ours.session
            assert pair.transport.get_extra_info("peercert")["subject"] == ((("commonName", "weft-server"),),)
    assert reused == [False, True, True]


@pytest.mark.parametrize("count", (0, 1, 10))
async def test_tickets_arrive_among_the_data(world, count):
    async with TLSPair(server_context(num_tickets=count)) as pair:
        pair.transport.write(b"x" * 100_000)
        pair.server.transport.write(b"y" * 100_000)
        assert await pair.server.received(100_000) == b"x" * 100_000
        assert await pair.client.received(100_000) == b"y" * 100_000
        assert pair.transport.get_extra_info("ssl_object").session.has_ticket is (count > 0)


class Counting(ssl.SSLObject):
    """Somebody's own SSLObject, as instrumentation and trust stores make them."""

    def read(self, *args):
        self.reads = getattr(self, "reads", 0) + 1
        return super().read(*args)

    def write(self, data):
        self.written = getattr(self, "written", 0) + len(data)
        return super().write(data)


async def test_an_ssl_object_of_ones_own(world):
    client_ssl = client_context(sslobject_class=Counting)
    async with TLSPair(client_ssl=client_ssl) as pair:
        ssl_object = pair.transport.get_extra_info("ssl_object")
        assert type(ssl_object) is Counting
        pair.transport.write(b"hello")
        await pair.server.received(5)
        pair.server.transport.write(b"x" * 50_000)
        await pair.client.received(50_000)
        assert ssl_object.reads > 0 and ssl_object.written == 5


# -------------------------------------------------------------------------------------------- servers and time-outs


async def silent_client(listener):
    """A connection on which nobody says anything."""
    sock = socket.socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, listener.sockets[0].getsockname())
    return sock


async def end_of(sock):
    """The end of a socket's stream, in order or not."""
    try:
        return await asyncio.get_running_loop().sock_recv(sock, 100)
    except ConnectionResetError:
        return b""
    finally:
        sock.close()


@pytest.mark.loop_debug
async def test_a_client_that_is_silent_is_cut_off(world):
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(
        Recorder, "127.0.0.1", 0, ssl=server_context(), ssl_handshake_timeout=0.05, backlog=5
    )
    assert await end_of(await silent_client(listener)) == b""
    await turns(5)
    listener.close()
    await listener.wait_closed()
    (report,) = world.take_reports()
    assert report["message"] == "Error on transport creation for incoming connection"
    assert isinstance(report["exception"], ConnectionAbortedError)
    assert set(report) >= {"protocol", "transport"}


async def test_without_debug_mode_nobody_hears_of_it(world):
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(Recorder, "127.0.0.1", 0, ssl=server_context())
    sock = await silent_client(listener)
    await loop.sock_sendall(sock, b"GET / HTTP/1.1\r\n\r\n")
    assert await end_of(sock) == b""
    await turns(5)
    listener.close()
    await listener.wait_closed()


@pytest.mark.weft_only  # asyncio leaves the socket to the garbage collector
@pytest.mark.parametrize("wrong", (0, -1))
@pytest.mark.loop_debug
async def test_a_time_that_cannot_be_is_told_with_each_connection(world, wrong):
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(Recorder, "127.0.0.1", 0, ssl=server_context(), ssl_handshake_timeout=wrong)
    assert await end_of(await silent_client(listener)) == b""
    while not world.reports:
        await turns()
    (report,) = world.take_reports()
    assert str(report["exception"]) == f"ssl_handshake_timeout should be a positive number, got {wrong}"
    listener.close()
    await listener.wait_closed()


@pytest.mark.parametrize("name", ("ssl_handshake_timeout", "ssl_shutdown_timeout"))
@pytest.mark.parametrize("wrong", (0, -0.5))
async def test_times_that_a_client_cannot_have(world, name, wrong):
    if world.name == "asyncio" and not since(3, 14):
        pytest.skip("asyncio leaves the socket to the garbage collector before 3.14")
    loop = asyncio.get_running_loop()
    async with await loop.create_server(asyncio.Protocol, "127.0.0.1", 0) as listener:
        with pytest.raises(ValueError, match=f"{name} should be a positive number, got {wrong}"):
            await loop.create_connection(
                Recorder,
                *listener.sockets[0].getsockname(),
                ssl=client_context(),
                server_hostname="localhost",
                **{name: wrong},
            )


async def test_a_server_that_closes_lets_handshakes_finish(world):
    """And `wait_closed` waits for them, as for all connections."""
    loop = asyncio.get_running_loop()
    accepted = loop.create_future()

    def serve():
        accepted.set_result(Recorder())
        return accepted.result()

    listener = await loop.create_server(serve, "127.0.0.1", 0, ssl=server_context())
    peer = HandPeer(shakes=False)
    await loop.create_connection(lambda: peer, *listener.sockets[0].getsockname())
    protocol = await accepted
    if world.name == "asyncio":
        await turns(2)  # its task makes the transport
    listener.close()
    waiting = loop.create_task(listener.wait_closed())
    await turns(3)
    assert waiting.done() is not since(3, 12)
    peer.start()
    await peer.shaken
    peer.say(b"hello")
    assert await protocol.received(5) == b"hello"
    assert waiting.done() is not since(3, 12)
    protocol.transport.close()
    await peer.notified
    peer.notify()
    assert await protocol.lost is None
    await waiting
    await peer.ended
    peer.transport.close()
    await peer.lost


@pytest.mark.weft_only  # asyncio drops the connection, or fails to count it
async def test_a_server_that_closes_when_it_has_just_accepted(world):
    loop = asyncio.get_running_loop()
    accepted = loop.create_future()

    def serve():
        accepted.set_result(Recorder())
        loop.call_soon(listener.close)
        return accepted.result()

    listener = await loop.create_server(serve, "127.0.0.1", 0, ssl=server_context())
    peer = HandPeer()
    await loop.create_connection(lambda: peer, *listener.sockets[0].getsockname())
    protocol = await accepted
    waiting = loop.create_task(listener.wait_closed())
    await peer.shaken
    await protocol.made
    assert waiting.done() is not since(3, 12)
    protocol.transport.abort()
    assert await protocol.lost is None
    await waiting
    peer.transport.abort()
    await peer.lost


OBJECT = re.compile(r"<.*>")
MILLISECONDS = re.compile(r"\d+\.\d ms")


@pytest.mark.loop_debug
async def test_what_the_log_says(world, log_lines):
    async with HandPair() as pair:
        pair.peer.finish()
        await pair.server.lost
    lines = [OBJECT.sub("<>", MILLISECONDS.sub("N ms", line)) for line in log_lines if "SSL" in line or "EOF" in line]
    assert lines == [
        "DEBUG <> starts SSL handshake",
        "DEBUG <>: SSL handshake took N ms",
        "DEBUG <> received EOF",
        "DEBUG <> received EOF",
        "DEBUG <> received EOF",
    ]
