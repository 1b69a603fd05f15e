"""Stock streams, websockets and aiosmtpd on a hoop loop: talk over real sockets, plain and with TLS."""

import asyncio
import contextlib
import smtplib
import socket
import ssl
import sys
import threading
from email.message import EmailMessage

import pytest
from peers import end

import hoop

# ---- asyncio's own streams -------------------------------------------------------------------------


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


def test_asyncio_streams_echo(run):
    async def main():
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()

        async def client(n):
            reader, writer = await asyncio.open_connection(*address)
            data = b"%d" % n * 100_000
            writer.write(data)
            writer.write_eof()
            assert await reader.read() == data
            writer.close()
            await writer.wait_closed()

        await asyncio.gather(*map(client, range(20)))
        await end(server)

    run(main())


async def connect(path: str, security, **options):
    """Streams to a Unix socket, whose server is called localhost."""
    if security.trusting:
        options |= {"ssl": security.trusting, "server_hostname": "localhost"}
    return await asyncio.open_unix_connection(path, **options)


def test_streams_keep_lines_records_and_messages_apart(run, security, tmp_path):
    """One connection, three ways of cutting the stream, and answers while more is sent."""

    async def serve(reader, writer):
        assert await reader.readline() == b"lines\n"
        while (line := await reader.readline()) != b"\n":
            writer.write(line.upper())
        for _ in range(100):
            size = int.from_bytes(await reader.readexactly(4), "big")
            body = await reader.readexactly(size)
            writer.writelines([size.to_bytes(4, "big"), body[::-1]])
            await writer.drain()
        writer.write(await reader.readuntil(b"-- end --"))
        await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):  # the other side may have gone first
            await writer.wait_closed()

    async def main():
        path = str(tmp_path / "socket")
        server = await asyncio.start_unix_server(serve, path, ssl=security.serving)
        reader, writer = await connect(path, security)
        lines = [b"line %d\n" % n for n in range(1000)]
        writer.writelines([b"lines\n", *lines, b"\n"])
        assert [await reader.readline() for _ in lines] == [line.upper() for line in lines]

        bodies = [bytes([n]) * (n * 1000) + b"!" for n in range(100)]

        async def send():
            for body in bodies:
                writer.write(len(body).to_bytes(4, "big") + body)
                await writer.drain()

        sending = asyncio.create_task(send())
        for body in bodies:
            assert int.from_bytes(await reader.readexactly(4), "big") == len(body)
            assert await reader.readexactly(len(body)) == body[::-1]
        await sending
        writer.write(b"some - of - it -- end --")
        assert await reader.read() == b"some - of - it -- end --"
        writer.close()
        await writer.wait_closed()
        await end(server)

    run(main())


def test_streams_upgrade_to_tls_in_the_middle(run, tls):
    """start_tls on both sides, after words in the clear; 4 MB each way afterwards."""

    async def serve(reader, writer):
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"go on\n")
        await writer.drain()
        await writer.start_tls(tls.serving)
        assert await reader.readexactly(5) == b"inner"
        writer.write(b"encrypted")
        await echo(reader, writer)

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"STARTTLS\n")
        assert await reader.readline() == b"go on\n"
        assert writer.get_extra_info("ssl_object") is None
        await writer.start_tls(tls.trusting, server_hostname="localhost")
        assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
        writer.write(b"inner")
        assert await reader.readexactly(9) == b"encrypted"
        data = bytes(range(256)) * 16384

        async def send():
            for at in range(0, len(data), 100_000):
                writer.write(data[at : at + 100_000])
                await writer.drain()

        sending = asyncio.create_task(send())
        assert await reader.readexactly(len(data)) == data
        await sending
        writer.close()
        await writer.wait_closed()
        await end(server)

    run(main())


def test_who_does_not_trust_the_certificate_leaves_and_the_server_goes_on(run, tls):
    async def main():
        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=tls.serving)
        address = server.sockets[0].getsockname()
        for _ in range(3):
            with pytest.raises(ssl.SSLCertVerificationError, match=r"self.signed certificate"):
                await asyncio.open_connection(*address, ssl=True)
            reader, writer = await asyncio.open_connection(*address, ssl=tls.trusting)
            writer.write(b"still there?")
            assert await reader.readexactly(12) == b"still there?"
            writer.close()
            await writer.wait_closed()
        await end(server)

    run(main())


# ---- websockets ------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_websockets_echo(run, security, compression):
    pytest.importorskip("websockets")
    from websockets.asyncio.client import connect
    from websockets.asyncio.server import serve

    async def echo(websocket):
        async for message in websocket:
            await websocket.send(message)

    options = {"compression": compression, "max_size": None}

    async def main():
        async with serve(echo, "127.0.0.1", 0, ssl=security.serving, **options) as server:
            host, port = server.sockets[0].getsockname()
            uri = f"{security.scheme('ws')}://{host}:{port}"
            async with connect(uri, ssl=security.trusting, proxy=None, **options) as websocket:
                for message in ("text", b"bytes", b"x" * 3_000_000):
                    await websocket.send(message)
                    assert await websocket.recv() == message
                assert await (await websocket.ping()) >= 0  # the latency in seconds

    run(main())


def test_websockets_broadcast_reaches_every_client_in_order(run, security):
    pytest.importorskip("websockets")
    from websockets.asyncio.client import connect
    from websockets.asyncio.server import broadcast, serve

    members = set()

    async def join(websocket):
        members.add(websocket)
        await websocket.send("welcome")
        await websocket.wait_closed()
        members.discard(websocket)

    async def member(uri, joined):
        async with connect(uri, ssl=security.trusting, proxy=None) as websocket:
            assert await websocket.recv() == "welcome"
            joined.release()
            found = [message async for message in websocket]
            assert websocket.close_code == 1001  # the server went away
            return found

    async def main():
        joined = asyncio.Semaphore(0)
        async with serve(join, "127.0.0.1", 0, ssl=security.serving) as server:
            host, port = server.sockets[0].getsockname()
            uri = f"{security.scheme('ws')}://{host}:{port}"
            clients = [asyncio.create_task(member(uri, joined)) for _ in range(10)]
            for _ in clients:
                await joined.acquire()
            for n in range(200):
                broadcast(members, f"news {n}")
        expected = [f"news {n}" for n in range(200)]
        assert await asyncio.gather(*clients) == [expected] * 10
        assert members == set()

    run(main())


# ---- aiosmtpd --------------------------------------------------------------------------------------


class Mailbox:
    """Keeps what aiosmtpd receives, with whether it came encrypted."""

    def __init__(self):
        self.found = []

    async def handle_DATA(self, server, session, envelope):
        assert type(asyncio.get_running_loop()) is hoop.EventLoop
        encrypted = session.ssl is not None
        self.found.append((envelope.mail_from, envelope.rcpt_tos, envelope.content, encrypted))
        return f"250 kept {len(self.found)}"


def letters(n: int) -> list[EmailMessage]:
    """Mails, each longer than the one before."""
    made = []
    for i in range(n):
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = "ann@localhost", "bob@localhost", f"letter {i}"
        mail.set_content(f"line of letter {i}\n" * (1 + 500 * i))
        made.append(mail)
    return made


@pytest.mark.parametrize("encryption", ["none", "starttls", "tls"])
def test_aiosmtpd_receives_mail(run, tls, encryption):
    aiosmtpd = pytest.importorskip("aiosmtpd.smtp")
    mailbox = Mailbox()
    options = {}
    if encryption == "starttls":
        options = {"tls_context": tls.serving, "require_starttls": True}
    implicit = tls.serving if encryption == "tls" else None

    def deliver(port):
        """The part of a blocking client, in a thread of its own."""
        if encryption == "tls":
            client = smtplib.SMTP_SSL("127.0.0.1", port, context=tls.trusting, timeout=10)
        else:
            client = smtplib.SMTP("127.0.0.1", port, timeout=10)
        with client:
            if encryption == "starttls":
                with pytest.raises(smtplib.SMTPSenderRefused, match="STARTTLS"):
                    client.send_message(letters(1)[0])
                client.starttls(context=tls.trusting)
            assert client.ehlo()[0] == 250
            for mail in letters(5):
                assert client.send_message(mail) == {}

    async def main():
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: aiosmtpd.SMTP(mailbox, hostname="hoop.localhost", loop=loop, **options),
            *("127.0.0.1", 0),
            ssl=implicit,
        )
        await asyncio.to_thread(deliver, server.sockets[0].getsockname()[1])
        await end(server)

    run(main())
    sent = [mail.as_bytes().replace(b"\n", b"\r\n") for mail in letters(5)]
    assert [content for _, _, content, _ in mailbox.found] == sent
    for sender, recipients, _, encrypted in mailbox.found:
        assert (sender, recipients) == ("ann@localhost", ["bob@localhost"])
        assert encrypted == (encryption == "starttls")  # of implicit TLS aiosmtpd knows nothing


def test_aiosmtpd_controller_runs_the_loop_in_its_own_thread(loop, tmp_path):
    controllers = pytest.importorskip("aiosmtpd.controller")
    mailbox = Mailbox()
    path = str(tmp_path / "socket")
    controller = controllers.UnixSocketController(mailbox, unix_socket=path, loop=loop)
    controller.start()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        lines = client.makefile("rwb")
        assert lines.readline().startswith(b"220 ")
        for said, answer in [
            (b"HELO me", b"250 "),
            (b"MAIL FROM:<ann@localhost>", b"250 OK"),
            (b"RCPT TO:<bob@localhost>", b"250 OK"),
            (b"DATA", b"354 "),
            (b"Subject: x\r\n\r\n..dots\r\n.", b"250 kept 1"),
            (b"QUIT", b"221 Bye"),
        ]:
            lines.write(said + b"\r\n")
            lines.flush()
            assert lines.readline().startswith(answer)
        lines.close()
    controller.stop()
    assert loop.is_closed()
    assert mailbox.found == [
        ("ann@localhost", ["bob@localhost"], b"Subject: x\r\n\r\n.dots\r\n", False)
    ]


@pytest.mark.skipif(
    sys.version_info < (3, 12, 1), reason="wait_closed() of this Python waits for nothing"
)
@pytest.mark.parametrize("client", ["greeted", "silent"])
@pytest.mark.parametrize("encrypted", [False, True])
def test_aiosmtpd_controller_stops_with_an_idle_connection(loop, tmp_path, tls, client, encrypted):
    """It cancels all tasks, closes the server and waits: a connection in its handshake must end too."""
    controllers = pytest.importorskip("aiosmtpd.controller")
    path = str(tmp_path / "socket")
    context = tls.serving if encrypted else None
    controller = controllers.UnixSocketController(
        Mailbox(), unix_socket=path, loop=loop, ssl_context=context
    )
    controller.start()
    with socket.socket(socket.AF_UNIX) as idle:
        idle.settimeout(10)
        idle.connect(path)
        if client == "greeted":
            if encrypted:
                idle = tls.trusting.wrap_socket(idle, server_hostname="localhost")
            assert idle.recv(100).startswith(b"220 ")
        stopping = threading.Thread(target=controller.stop)
        stopping.start()
        with contextlib.suppress(ConnectionResetError):
            while idle.recv(100):
                pass
        idle.close()
        stopping.join(5)
        assert not stopping.is_alive()
    assert loop.is_closed()
