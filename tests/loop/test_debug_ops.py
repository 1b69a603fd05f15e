"""Debug mode and what the loop does of its own accord: whatever fails or is slow is shown as the user's."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from peers import end, make_certificate, until

import hoop

# Each kind of thing that the loop runs, with a function of the user's in it that calls bug().
PROGRAM = """
import asyncio, socket, ssl, sys
import hoop

driver, kind, cert, key = sys.argv[1:]

def bug():
    handle = asyncio.get_running_loop()._current_handle
    assert handle is None or hasattr(handle, "_source_traceback"), handle
    raise ValueError("USER BUG")

class Plain(asyncio.Protocol):
    def connection_made(self, transport):
        if kind == "made": bug()
    def data_received(self, data):
        if kind in ("data", "tls data"): bug()
    def eof_received(self):
        if kind == "eof": bug()
    def connection_lost(self, exc):
        if kind in ("lost", "tls lost"): bug()

class TlsMade(asyncio.Protocol):
    def connection_made(self, transport): bug()

class Buffered(asyncio.BufferedProtocol):
    def get_buffer(self, size):
        if kind == "get_buffer": bug()
        return bytearray(100)
    def buffer_updated(self, n):
        if kind == "buffer_updated": bug()

class Datagrams(asyncio.DatagramProtocol):
    count = 0
    def datagram_received(self, data, addr):
        self.count += 1
        if self.count == (1 if kind == "datagram" else 12): bug()
    def error_received(self, exc):
        if kind == "datagram error": bug()

def factory():
    if kind == "factory": bug()
    if kind == "tls made": return TlsMade()
    return Buffered() if kind in ("get_buffer", "buffer_updated") else Plain()

async def on_stream(reader, writer):
    try:
        await reader.read(1)
        bug()
    finally:
        writer.close()

async def serve(loop):
    context = None
    if kind.startswith("tls"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
    if kind == "stream":
        server = await asyncio.start_server(on_stream, "127.0.0.1", 0)
    elif kind == "native stream":
        server = await hoop.start_server(on_stream, "127.0.0.1", 0)
    else:
        server = await loop.create_server(factory, "127.0.0.1", 0, ssl=context)
    address = server.sockets[0].getsockname()
    if context is not None:
        client = ssl.create_default_context()
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection(*address, ssl=context and client)
    await asyncio.sleep(0.05)
    writer.write(b"x")
    await asyncio.sleep(0.05)
    if kind == "eof": writer.write_eof()
    await asyncio.sleep(0.05)
    writer.close()
    await asyncio.sleep(0.05)
    server.close()

async def main():
    loop = asyncio.get_running_loop()
    a, b = socket.socketpair()
    with a, b:
        a.setblocking(False), b.setblocking(False)
        if kind == "reader":
            def reader():
                loop.remove_reader(a)
                bug()
            loop.add_reader(a, reader)
            b.send(b"x")
            await asyncio.sleep(0.05)
        elif kind == "writer":
            def writer():
                loop.remove_writer(a)
                bug()
            loop.add_writer(a, writer)
            await asyncio.sleep(0.05)
        elif kind == "socket":
            async def receive():
                await loop.sock_recv(a, 1)
                bug()
            task = loop.create_task(receive())
            await asyncio.sleep(0)
            b.send(b"x")
            await asyncio.sleep(0.05)
            del task
        elif kind == "file":
            async def read():
                async with hoop.open(__file__) as file:
                    await file.read()
                bug()
            task = loop.create_task(read())
            await asyncio.sleep(0.1)
            del task
        elif kind == "signal":
            import os, signal
            loop.add_signal_handler(signal.SIGUSR1, bug)
            os.kill(os.getpid(), signal.SIGUSR1)
            await asyncio.sleep(0.05)
        elif kind in ("soon", "timer"):
            loop.call_soon(bug) if kind == "soon" else loop.call_later(0, bug)
            await asyncio.sleep(0.05)
        elif kind.startswith("datagram"):
            transport, _ = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind(("127.0.0.1", 0))
            if kind == "datagram error":
                address = sock.getsockname()
                sock.close()
                peer, _ = await loop.create_datagram_endpoint(Datagrams, remote_addr=address)
                peer.sendto(b"x")
                await asyncio.sleep(0.05)
                peer.close()
            for n in range(15 if kind != "datagram error" else 0):
                sock.sendto(b"x", transport.get_extra_info("sockname"))
            await asyncio.sleep(0.05)
            transport.close()
            sock.close()
        else:
            await serve(loop)
    await asyncio.sleep(0.01)

with asyncio.Runner(loop_factory=lambda: hoop.new_event_loop(driver)) as runner:
    runner.run(main())
"""

KINDS = [
    "made", "data", "eof", "lost", "get_buffer", "buffer_updated", "factory", "stream", "native stream",
    "tls made", "tls data", "tls lost", "datagram", "datagrams", "datagram error", "reader", "writer",
    "socket", "file", "signal", "soon", "timer",
]  # fmt: skip


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.mark.parametrize("kind", KINDS)
def test_the_users_traceback_is_shown_once(driver, tmp_path, certificate, kind):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-X", "dev", str(program), driver, kind, *certificate],
        env={**os.environ, "PYTHONPATH": str(Path(hoop.__file__).parent.parent)},
        capture_output=True,
        text=True,
        timeout=15,
    )
    # asyncio, too, reports this one twice: as the failure of the connection, and of accepting it.
    times = 2 if kind == "tls made" else 1
    assert done.stderr.count("ValueError: USER BUG\n") == times, done.stderr
    assert "in bug\n" in done.stderr
    assert "During handling" not in done.stderr
    assert "AssertionError" not in done.stderr
    assert "Op object" not in done.stderr
    assert (done.returncode, done.stdout) == (0, "")


class Plain(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)

    def eof_received(self):
        """Let it be closed."""


class Buffered(asyncio.BufferedProtocol):
    def get_buffer(self, sizehint):
        return bytearray(100)

    def buffer_updated(self, nbytes):
        """Take it."""

    def connection_lost(self, exc):
        """Take it."""


class Datagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        """Take it."""

    def datagram_received(self, data, addr):
        """Take it."""


def made_plain():
    return Plain()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_slow_reports_name_the_protocols_method(loop, logged, certificate, tls):
    async def named(*names):
        for name in names:
            await until(
                lambda: any(
                    message.startswith(f"Executing <Handle {name}() at {__file__}:")  # noqa: B023
                    for message in logged.messages
                )
            )

    async def main():
        contexts = [None, None]
        if tls:
            contexts[0] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            contexts[0].load_cert_chain(*certificate)
            contexts[1] = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            contexts[1].check_hostname, contexts[1].verify_mode = False, ssl.CERT_NONE
        loop.slow_callback_duration = 0.0
        server = await loop.create_server(made_plain, "127.0.0.1", 0, ssl=contexts[0])
        transport, _ = await loop.create_connection(
            Buffered, *server.sockets[0].getsockname(), ssl=contexts[1]
        )
        transport.write(b"x")
        await named("Plain.data_received", "Buffered.buffer_updated")
        if not tls:
            transport.write_eof()
            await named("Plain.eof_received", "Buffered.connection_lost")
        transport.close()
        await end(server)

    loop.set_debug(True)
    loop.run_until_complete(main())


def test_the_slowest_of_several_is_named(loop, logged):
    class Slow(asyncio.Protocol):
        def connection_made(self, transport):
            if which == "made":
                busy()

    def factory():
        if which == "factory":
            busy()
        return Slow()

    def busy():
        until = loop.time() + 0.02
        while loop.time() < until:
            pass

    async def main():
        nonlocal which
        server = await loop.create_server(factory, "127.0.0.1", 0)
        for which in ("factory", "made"):
            logged.records.clear()
            client = socket.create_connection(server.sockets[0].getsockname())
            await asyncio.sleep(0.05)
            client.close()
            name = "Slow.connection_made" if which == "made" else "factory"
            assert f"{name}() at {__file__}" in "\n".join(logged.messages)
        await asyncio.sleep(0.01)
        server.close()

    which = None
    loop.set_debug(True)
    loop.slow_callback_duration = 0.015
    loop.run_until_complete(main())


def test_slow_reports_of_datagrams_and_watches(loop, logged):
    async def main():
        loop.slow_callback_duration = 0.0
        transport, _ = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.connect(transport.get_extra_info("sockname"))
        loop.add_writer(sock, watched)
        sock.send(b"x")
        await until(lambda: any("datagram_received()" in text for text in logged.messages))
        await until(lambda: any("watched()" in text for text in logged.messages))
        loop.remove_writer(sock)
        transport.close()
        sock.close()
        await until(lambda: not loop.counters()["transports"])

    def watched():
        """Do nothing."""

    loop.set_debug(True)
    loop.run_until_complete(main())
    for name in ("Datagrams.connection_made", "Datagrams.datagram_received"):
        assert any(
            message.startswith(f"Executing <Handle {name}() at {__file__}:")
            for message in logged.messages
        ), name
    assert any(
        ".watched() at " in message and "created at" in message for message in logged.messages
    )


def test_the_current_handle_is_what_asyncio_has_there_or_nothing(loop):
    async def main():
        seen.append(loop._current_handle)
        await asyncio.sleep(0)

    seen = []
    loop.set_debug(True)
    handle = loop.call_soon(lambda: seen.append(loop._current_handle))
    task = loop.create_task(main())
    loop.run_until_complete(task)
    assert seen == [handle, task]
    assert loop._current_handle is None
    loop.set_debug(False)
    loop.call_soon(lambda: seen.append(loop._current_handle))
    loop.run_until_complete(asyncio.sleep(0))
    assert seen[2] is None
