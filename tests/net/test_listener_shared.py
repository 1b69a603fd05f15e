"""AcceptOp: one listening socket for several loops, and the addresses of whoever connects."""

import asyncio
import contextlib
import socket
import ssl
import threading

import pytest
from peers import Recorder, end, make_certificate, reset, same_as_asyncio, turns, until

import hoop


class Worker:
    """A thread with a loop of its own that accepts on a shared socket, and answers with its name."""

    def __init__(self, new_loop, listening, name):
        self.name, self.answered, self.blocked = name, 0, threading.Event()
        self.go_on = threading.Event()
        self.loop = new_loop()
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self.run, args=(listening,))

    def run(self, listening):
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self.serve(listening))

    async def serve(self, listening):
        self.stopped = asyncio.Event()
        server = await asyncio.start_server(self.answer, sock=listening)
        await turns(3)
        self.ready.set()
        await self.stopped.wait()
        await end(server)

    async def answer(self, reader, writer):
        if await reader.readexactly(1) == b"B":
            self.blocked.set()
            self.go_on.wait(10)
        self.answered += 1
        writer.write(self.name)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    def stop(self):
        self.loop.call_soon_threadsafe(self.stopped.set)
        self.thread.join(10)


@contextlib.contextmanager
def workers(new_loop, count):
    """That many workers, and where they listen."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=128)
    listening.setblocking(False)
    where = listening.getsockname()
    made = [Worker(new_loop, listening.dup(), b"%d" % n) for n in range(count)]
    listening.close()
    for worker in made:
        worker.thread.start()
        assert worker.ready.wait(10)
    try:
        yield made, where
    finally:
        for worker in made:
            worker.go_on.set()
            worker.stop()


def ask(where, question=b"q"):
    with socket.create_connection(where, 5) as client:
        client.sendall(question)
        return client.recv(5)


def test_every_loop_on_one_socket_gets_connections(new_loop):
    with workers(new_loop, 2) as (made, where):
        for _ in range(2000):
            ask(where)
            if all(worker.answered for worker in made):
                break
        assert all(worker.answered for worker in made)


def test_while_one_loop_is_blocked_the_others_accept(new_loop):
    """An accept request of io_uring, or EPOLLEXCLUSIVE, would give the next ones to the loop that is busy."""
    with workers(new_loop, 2) as (made, where), socket.create_connection(where, 5) as first:
        first.sendall(b"B")
        while not any(worker.blocked.wait(0.001) for worker in made):
            pass
        (busy,) = [worker for worker in made if worker.blocked.is_set()]
        answers = {ask(where) for _ in range(20)}
        assert answers == {worker.name for worker in made if worker is not busy}
        busy.go_on.set()
        assert first.recv(5) == busy.name


# ---- who has connected ---------------------------------------------------------------------------------


def listen(family, folder):
    """A listening socket, and its family."""
    if family == socket.AF_UNIX:
        listening = socket.socket(family)
        listening.bind(str(folder / "listening"))
    elif family == "abstract":
        family = socket.AF_UNIX
        listening = socket.socket(family)
        listening.bind("")
    else:
        host = "127.0.0.1" if family == socket.AF_INET else "::1"
        listening = socket.create_server((host, 0), family=family)
    listening.listen(100)
    return listening, family


NAMES = {
    "IPv4": (socket.AF_INET, None),
    "IPv6": (socket.AF_INET6, None),
    "Unix, unnamed": (socket.AF_UNIX, None),
    "Unix, a path": (socket.AF_UNIX, "path"),
    "Unix, abstract": ("abstract", ""),
}


@pytest.mark.parametrize("gone", [True, False], ids=["gone", "there"])
@pytest.mark.parametrize("kind", NAMES)
def test_the_peers_address_is_known(loop, kind, gone, tmp_path):
    """Even of one that reset the connection before it was accepted: accept4 gives it."""
    if kind == "IPv6" and not socket.has_ipv6:
        pytest.skip("there is no IPv6 here")

    async def script(loop):
        folder = tmp_path / type(loop).__module__
        folder.mkdir()
        listening, family = listen(NAMES[kind][0], folder)
        expected, clients = [], []
        for n in range(20):
            client = socket.socket(family)
            if NAMES[kind][1] == "path":
                client.bind(str(folder / f"client{n}"))
            elif NAMES[kind][1] == "":
                client.bind("")
            client.connect(listening.getsockname())
            expected.append(client.getsockname())
            if gone:
                reset(client)
            else:
                clients.append(client)
        found = []

        class Asking(asyncio.Protocol):
            def connection_made(self, transport):
                found.append(transport.get_extra_info("peername"))
                transport.close()

        server = await loop.create_server(Asking, sock=listening)
        await until(lambda: len(found) == 20)
        server.close()
        await server.wait_closed()
        await turns(5)
        for client in clients:
            client.close()
        return found == expected, {type(name) for name in found}

    assert same_as_asyncio(loop, script)[0]


def test_the_peers_address_is_known_by_tls_too(driver, tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*make_certificate(tmp_path))
    found, expected = [], []

    class Noting(hoop.EventLoop):
        def _make_ssl_transport(self, *args, **kwargs):
            found.append(kwargs["extra"]["peername"])
            return super()._make_ssl_transport(*args, **kwargs)

    async def main():
        server = await loop.create_server(Recorder, "127.0.0.1", 0, ssl=context)
        for _ in range(5):
            client = socket.create_connection(server.sockets[0].getsockname())
            expected.append(client.getsockname())
            reset(client)
        await until(lambda: len(found) == 5)
        await end(server)

    loop = Noting(driver)
    loop.run_until_complete(main())
    loop.close()
    assert found == expected
