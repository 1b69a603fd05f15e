"""The TLS handshake: every setting of the SSLContext, failures, time limits, cancellation."""

import asyncio
import functools
import gc
import logging
import socket
import ssl
import subprocess

import pytest
from peers import Recorder, end, outcome, reports, reset, same_as_asyncio, tcp_pair, turns, until
from tls_peers import (
    VERSIONS,
    Wire,
    accept_tls,
    certificate,
    client_context,
    connect_tls,
    server_context,
    tls_objects,
    tls_pair,
)


@functools.cache
def encrypted_key(folder):
    """A copy of the key that needs the password "secret"."""
    path = f"{folder}/encrypted.pem"
    words = f"openssl pkey -in {certificate()[1]} -aes256 -passout pass:secret -out {path}"
    subprocess.run(words.split(), check=True, capture_output=True)
    return path


async def greet(loop, client_options, server_options):
    """Connect, exchange a message; what both sides then know, or how it failed."""
    client, server = Recorder(), Recorder()
    a, b = tcp_pair()
    found = await asyncio.gather(
        connect_tls(loop, a, client, **client_options),
        accept_tls(loop, b, server, **server_options),
        return_exceptions=True,
    )
    told = []
    for one in found:
        if isinstance(one, BaseException):
            told.append((type(one).__name__, str(one).partition(" (_ssl")[0]))
            continue
        sslobj = one.get_extra_info("ssl_object")
        told.append((sslobj.version(), sslobj.cipher()[0], sslobj.selected_alpn_protocol()))
        told.append((bool(one.get_extra_info("peercert")), sslobj.server_hostname))
    failed = any(isinstance(one, BaseException) for one in found)
    if not failed:
        client.transport.write(b"hello")
        await until(lambda: server.received == b"hello" or server.is_lost)
        if not server.is_lost:
            server.transport.write(b"hello")
            await until(lambda: client.received == b"hello" or client.is_lost)
        told.append((bytes(client.received), bytes(server.received)))
    for recorder in (client, server):
        if recorder.transport is not None:
            recorder.transport.abort()
            await until(lambda: recorder.is_lost)  # noqa: B023
    await turns(5)
    for sock in (a, b):
        sock.close()
    return told


def contexts():
    """A context of a client and of a server, to be changed."""
    return client_context(), server_context()


# ---- settings: each function changes the contexts and returns options for the two sides -------------

SETTINGS = []


def setting(function):
    SETTINGS.append(function)
    return function


@setting
def nothing_special(client, server, folder):
    pass


@setting
def a_name_that_the_certificate_does_not_have(client, server, folder):
    return {"server_hostname": "example.org"}, {}


@setting
def an_address_that_the_certificate_does_not_have(client, server, folder):
    return {"server_hostname": "127.0.0.2"}, {}


@setting
def check_hostname_off(client, server, folder):
    client.check_hostname = False
    return {"server_hostname": "example.org"}, {}


@setting
def no_hostname(client, server, folder):
    client.check_hostname = False
    return {"server_hostname": ""}, {}


@setting
def no_hostname_though_it_is_checked(client, server, folder):
    return {"server_hostname": ""}, {}


@setting
def a_certificate_that_is_not_trusted(client, server, folder):
    return {"ssl": ssl.create_default_context()}, {}


@setting
def the_default_context(client, server, folder):
    return {"ssl": True}, {}


@setting
def verify_mode_none(client, server, folder):
    client = ssl.create_default_context()
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    return {"ssl": client}, {}


@setting
def a_client_certificate_that_is_required(client, server, folder):
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(certificate()[0])
    client.load_cert_chain(*certificate())


@setting
def a_client_certificate_that_is_optional(client, server, folder):
    server.verify_mode = ssl.CERT_OPTIONAL
    server.load_verify_locations(certificate()[0])


@setting
def a_client_certificate_that_is_missing(client, server, folder):
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(certificate()[0])
    server.maximum_version = ssl.TLSVersion.TLSv1_2


@setting
def an_encrypted_key(client, server, folder):
    server.load_cert_chain(certificate()[0], encrypted_key(folder), "secret")


@setting
def alpn(client, server, folder):
    client.set_alpn_protocols(["h2", "http/1.1"])
    server.set_alpn_protocols(["spdy/3", "http/1.1"])


@setting
def alpn_without_agreement(client, server, folder):
    client.set_alpn_protocols(["h2"])
    server.set_alpn_protocols(["http/1.1"])


@setting
def one_cipher(client, server, folder):
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    server.set_ciphers("ECDHE-ECDSA-CHACHA20-POLY1305")


@setting
def no_common_cipher(client, server, folder):
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    server.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")


@setting
def only_tls_1_2(client, server, folder):
    server.maximum_version = ssl.TLSVersion.TLSv1_2


@setting
def only_tls_1_3(client, server, folder):
    client.minimum_version = ssl.TLSVersion.TLSv1_3


@setting
def no_common_version(client, server, folder):
    client.minimum_version = ssl.TLSVersion.TLSv1_3
    server.maximum_version = ssl.TLSVersion.TLSv1_2


@setting
def no_tickets(client, server, folder):
    server.num_tickets = 0
    server.options |= ssl.OP_NO_TICKET


@setting
def an_sni_callback_that_changes_the_context(client, server, folder):
    other = server_context(ssl.TLSVersion.TLSv1_2)
    other.set_alpn_protocols(["chosen"])
    client.set_alpn_protocols(["chosen"])

    def choose(sslobj, name, context):
        assert (name, context) == ("localhost", server)
        sslobj.context = other

    server.sni_callback = choose


@setting
def an_sni_callback_that_refuses(client, server, folder):
    server.sni_callback = lambda *args: ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME


@setting
def a_server_side_name_is_no_matter(client, server, folder):
    server.check_hostname = False


@pytest.mark.parametrize("change", SETTINGS, ids=[one.__name__ for one in SETTINGS])
def test_settings_of_the_context_are_honoured_as_in_asyncio(loop, change, tmp_path):
    async def script(loop):
        client, server = contexts()
        options = change(client, server, tmp_path) or ({}, {})
        return await greet(loop, {"ssl": client, **options[0]}, {"ssl": server, **options[1]})

    same_as_asyncio(loop, script)


def test_the_table_of_settings_tells_success_from_failure(loop, tmp_path):
    """The control: some of these must fail, and in their own way."""

    def result(change):
        client, server = contexts()
        options = change(client, server, tmp_path) or ({}, {})
        both = greet(loop, {"ssl": client, **options[0]}, {"ssl": server, **options[1]})
        return str(loop.run_until_complete(both))

    assert "(b'hello', b'hello')" in result(nothing_special)
    assert "Hostname mismatch" in result(a_name_that_the_certificate_does_not_have)
    assert "IP address mismatch" in result(an_address_that_the_certificate_does_not_have)
    assert "self-signed certificate" in result(a_certificate_that_is_not_trusted)
    assert "CERTIFICATE" in result(a_client_certificate_that_is_missing)
    assert "NO_SHARED_CIPHER" in result(no_common_cipher)
    assert "'chosen'" in result(an_sni_callback_that_changes_the_context)
    assert "TLSv1.2" in result(only_tls_1_2)


def test_a_key_log_is_written(loop, tmp_path):
    async def main():
        client = client_context()
        client.keylog_filename = str(tmp_path / "keys")
        await greet(loop, {"ssl": client}, {})
        assert "CLIENT_TRAFFIC_SECRET_0" in (tmp_path / "keys").read_text()

    loop.run_until_complete(main())


def test_sessions_are_used_again(loop):
    """asyncio has no argument for a session; a context may give one to what it wraps."""
    sessions = []

    class Remembering(ssl.SSLContext):
        def wrap_bio(self, *args, **options):
            return super().wrap_bio(*args, **options, session=sessions[-1] if sessions else None)

    async def main():
        server = server_context()
        client = Remembering(ssl.PROTOCOL_TLS_CLIENT)
        client.load_verify_locations(certificate()[0])
        reused = []
        for _ in range(2):
            one, other = Recorder(), Recorder()
            await tls_pair(loop, one, other, {"ssl": client}, {"ssl": server})
            other.transport.write(b"behind the session tickets")
            await until(lambda: one.received)  # noqa: B023
            sslobj = one.transport.get_extra_info("ssl_object")
            reused.append(sslobj.session_reused)
            sessions.append(sslobj.session)
            one.transport.close()
            await until(lambda: one.is_lost and other.is_lost)  # noqa: B023
        assert reused == [False, True]

    loop.run_until_complete(main())


def test_authentication_after_the_handshake(loop):
    async def main():
        client, server = contexts()
        client.post_handshake_auth = True
        client.load_cert_chain(*certificate())
        server.post_handshake_auth = True
        server.verify_mode = ssl.CERT_REQUIRED
        server.load_verify_locations(certificate()[0])
        one, other = Recorder(), Recorder()
        await tls_pair(loop, one, other, {"ssl": client}, {"ssl": server})
        sslobj = other.transport.get_extra_info("ssl_object")
        assert sslobj.getpeercert() is None
        sslobj.verify_client_post_handshake()
        other.transport.write(b"who are you?")
        await until(lambda: one.received)
        one.transport.write(b"me")
        await until(lambda: other.received)
        assert ("DNS", "localhost") in sslobj.getpeercert()["subjectAltName"]
        one.transport.abort()
        await until(lambda: one.is_lost and other.is_lost)

    loop.run_until_complete(main())


# ---- failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello",
        b"\x80\x2e\x01\x03\x01" + bytes(41),  # as SSL 2.0 said hello
        b"",
    ],
)
@pytest.mark.parametrize("how", ["fin", "reset"])
def test_a_client_that_speaks_no_tls_fails_as_in_asyncio(loop, words, how):
    async def script(loop):
        a, b = tcp_pair()
        protocol = Recorder()
        accepting = asyncio.ensure_future(accept_tls(loop, b, protocol))
        a.send(words)
        if how == "fin":
            a.shutdown(socket.SHUT_WR)
        else:
            await turns(5)
            reset(a)
        found = (await asyncio.gather(accepting, return_exceptions=True))[0]
        await turns(5)
        a.close()
        return repr(found).partition(" (_ssl")[0], protocol.events

    same_as_asyncio(loop, script)


def test_a_server_says_nothing_of_failed_handshakes_but_in_debug_mode(loop):
    async def script(loop):
        told = reports(loop)
        found = []
        for debug in (False, True):
            loop.set_debug(debug)
            server = await loop.create_server(Recorder, "127.0.0.1", 0, ssl=server_context())
            with socket.create_connection(server.sockets[0].getsockname()) as client:
                client.send(b"GET / HTTP/1.1\r\n\r\n")
                client.setblocking(False)
                try:
                    answer = await loop.sock_recv(client, 100)
                except ConnectionResetError:
                    answer = b""
                assert answer == b""
            await turns(10)
            server.close()
            await server.wait_closed()
            loop.set_debug(False)
            found.append([(text, kind, keys) for text, kind, _, keys in told])
        return found

    same_as_asyncio(loop, script)


@pytest.mark.parametrize("debug", [False, True])
def test_a_protocol_factory_that_fails_closes_the_connection(loop, debug):
    async def main():
        told = reports(loop)
        loop.set_debug(debug)

        def fail():
            raise ValueError("no protocol today")

        server = await loop.create_server(fail, "127.0.0.1", 0, ssl=server_context())
        with socket.create_connection(server.sockets[0].getsockname()) as client:
            client.setblocking(False)
            assert await loop.sock_recv(client, 1) == b""
        loop.set_debug(False)
        expected = "Error on transport creation for incoming connection"
        assert [text for text, *_ in told] == [expected] * debug
        await end(server)

    loop.run_until_complete(main())


# ---- time limits and cancellation -------------------------------------------------------------------


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_handshake_has_a_time_limit(loop, side):
    async def script(loop):
        a, b = tcp_pair()
        protocol = Recorder()
        connect = connect_tls if side == "client" else accept_tls
        with a:
            found = await asyncio.gather(
                connect(loop, b, protocol, ssl_handshake_timeout=0.05), return_exceptions=True
            )
            await turns(5)
            a.setblocking(False)
            said = await loop.sock_recv(a, 65536)
            gone = await loop.sock_recv(a, 1) if said else b""
        return repr(found), protocol.events, bool(said), gone

    same_as_asyncio(loop, script)


def test_a_servers_handshake_has_a_time_limit(loop):
    async def main():
        server = await loop.create_server(
            Recorder, "127.0.0.1", 0, ssl=server_context(), ssl_handshake_timeout=0.05
        )
        with socket.create_connection(server.sockets[0].getsockname()) as client:
            client.setblocking(False)
            assert await loop.sock_recv(client, 1) == b""
        await end(server)

    loop.run_until_complete(main())


@pytest.mark.parametrize("after", range(1, 7))
@pytest.mark.parametrize("how", ["create_connection", "connect_accepted_socket", "start_tls"])
def test_cancelled_at_any_turn_of_the_handshake(loop, how, after):
    """Cancelling closes the connection and leaves nothing; a protocol is told its end if its beginning."""

    async def main():
        protocol = Recorder()
        a, b = tcp_pair()
        wire = Wire(
            loop, b, server_context() if how != "connect_accepted_socket" else client_context()
        )
        with b:
            if how == "create_connection":
                task = asyncio.ensure_future(connect_tls(loop, a, protocol))
            elif how == "connect_accepted_socket":
                task = asyncio.ensure_future(accept_tls(loop, a, protocol))
            else:
                plain, _ = await loop.create_connection(lambda: protocol, sock=a)
                task = asyncio.ensure_future(
                    loop.start_tls(plain, protocol, client_context(), server_hostname="localhost")
                )
            talking = asyncio.ensure_future(wire.handshake())
            await turns(after)
            task.cancel()
            found = (await asyncio.gather(task, return_exceptions=True))[0]
            if not isinstance(found, asyncio.CancelledError):
                found.abort()  # it was too late
            talking.cancel()
            await asyncio.gather(talking, return_exceptions=True)
            b.close()  # cancelled after the handshake, it says goodbye and waits for an answer
            await until(lambda: not loop.counters()["transports"])
            await turns(3)
            made, lost = (
                name in protocol.events for name in ("connection_made", "connection_lost")
            )
            assert made == lost
            assert loop.counters()["timers"] == 0 or not any(
                not timer.cancelled() for timer in loop._scheduled
            )

    loop.run_until_complete(main())


def test_a_server_closed_during_handshakes_leaves_them_alone(loop):
    async def main():
        server = await loop.create_server(Recorder, "127.0.0.1", 0, ssl=server_context())
        sock = socket.create_connection(server.sockets[0].getsockname())
        sock.setblocking(False)
        wire = Wire(loop, sock, client_context())
        with sock:
            hello = wire.hello()
            await loop.sock_sendall(sock, hello[:50])
            await until(lambda: loop.counters()["transports"])
            server.close()
            await turns(2)
            await loop.sock_sendall(sock, hello[50:])
            await wire.handshake()
            await wire.unwrap()
        await end(server)

    loop.run_until_complete(main())


@pytest.mark.skipif(not hasattr(asyncio.Server, "close_clients"), reason="from Python 3.13 on")
@pytest.mark.parametrize("how", ["close_clients", "abort_clients"])
def test_clients_closed_during_handshakes(loop, how):
    async def main():
        server = await loop.create_server(Recorder, "127.0.0.1", 0, ssl=server_context())
        with socket.create_connection(server.sockets[0].getsockname()) as client:
            client.setblocking(False)
            await until(lambda: loop.counters()["transports"])
            server.close()
            getattr(server, how)()
            await server.wait_closed()
            assert outcome(client.recv, 1) in (
                b"",
                ("ConnectionResetError", "[Errno 104] Connection reset by peer"),
            )

    loop.run_until_complete(main())


def test_closed_before_the_transport_below_is_connected(loop):
    """create_connection makes the transport a turn before its connection; cancelled then, it closes."""

    async def main():
        a, b = tcp_pair()
        protocol = Recorder()
        with b:
            transport = loop._make_ssl_transport(
                a, protocol, client_context(), None, server_hostname="localhost"
            )
            assert repr(transport) == "<SSLTransport unconnected>"
            transport.close()
            assert transport.is_closing()
            b.setblocking(False)
            assert await loop.sock_recv(b, 100) == b""
        assert protocol.events == []

    loop.run_until_complete(main())


def test_debug_mode_logs_the_handshake(loop):
    texts = []
    logger = logging.getLogger("asyncio")
    handler = logging.Handler()
    handler.emit = lambda record: texts.append(record.getMessage())

    async def main():
        loop.set_debug(True)
        client, server = Recorder(), Recorder()
        await tls_pair(loop, client, server)
        client.transport.abort()
        await until(lambda: client.is_lost and server.is_lost)
        loop.set_debug(False)

    logger.addHandler(handler)
    before = logger.level
    logger.setLevel(logging.DEBUG)
    logger.propagate = False  # pytest would keep the records, and they the connections
    try:
        loop.run_until_complete(main())
    finally:
        logger.setLevel(before)
        logger.propagate = True
        logger.removeHandler(handler)
    for words in ("starts SSL handshake", "SSL handshake took"):
        assert sum(text.startswith("<TlsLayer ") and words in text for text in texts) == 2


@pytest.mark.parametrize("version", VERSIONS)
def test_a_connection_is_freed_when_it_is_lost_without_the_collector(loop, version):
    async def one():
        client, server = Recorder(), Recorder()
        await tls_pair(loop, client, server, server_options={"ssl": server_context(version)})
        client.transport.write(b"data")
        client.transport.close()
        await until(lambda: client.is_lost and server.is_lost)
        client.transport = server.transport = None
        await turns(2)

    loop.run_until_complete(one())
    gc.collect()
    alive = tls_objects()
    gc.disable()
    try:
        loop.run_until_complete(one())
        assert tls_objects() == alive
    finally:
        gc.enable()
