"""loop.drain(): stop accepting, close what is idle, cancel, abort, and say what did not end."""

import asyncio
import math
import socket
import ssl

import pytest
from peers import Recorder, make_certificate, until


async def serve(loop, **hooks):
    """A server, the protocols of its connections, and its address."""
    protocols = []

    def factory():
        protocols.append(Recorder(**hooks))
        return protocols[-1]

    server = await loop.create_server(factory, "127.0.0.1", 0)
    return server, protocols, server.sockets[0].getsockname()


async def connected(address, protocols):
    """A plain socket whose connection the server has accepted."""
    n = len(protocols)
    sock = socket.create_connection(address)
    await until(lambda: len(protocols) > n and protocols[n].transport is not None)
    sock.setblocking(False)
    return sock


def test_with_nothing_to_do_it_ends_at_once(loop):
    async def main():
        began = loop.time()
        outcome = await loop.drain(1000)
        assert loop.time() - began < 500
        return outcome

    outcome = loop.run_until_complete(main())
    assert (outcome.closed, outcome.cancelled, outcome.aborted, outcome.alive) == (0, (), (), ())


def test_it_stops_accepting_and_closes_idle_connections(loop):
    async def main():
        server, protocols, address = await serve(loop)
        never_spoke = await connected(address, protocols)
        answered = await connected(address, protocols)
        answered.send(b"question")
        await until(lambda: protocols[1].received == b"question")
        protocols[1].transport.write(b"answer")
        outcome = await loop.drain(1000, quiet=0)
        assert not server.is_serving()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        assert await loop.sock_recv(answered, 100) == b"answer"
        for sock in (never_spoke, answered):
            assert await loop.sock_recv(sock, 100) == b""
            sock.close()
        assert [p.lost_with for p in protocols] == [None, None]
        return outcome

    outcome = loop.run_until_complete(main())
    assert (outcome.closed, outcome.cancelled, outcome.aborted, outcome.alive) == (2, (), (), ())


def test_a_question_is_answered_before_the_connection_is_closed(loop):
    async def main():
        go_on = asyncio.Event()
        handlers = []

        async def answer(protocol):
            await go_on.wait()
            protocol.transport.write(b"answer")

        _, protocols, address = await serve(
            loop, data_received=lambda p, _: handlers.append(loop.create_task(answer(p)))
        )
        client = await connected(address, protocols)
        client.send(b"question")
        await until(lambda: handlers)
        draining = loop.create_task(loop.drain(1000, quiet=0))
        looks = 0
        while looks < 5:  # it looks, and leaves the connection alone
            await asyncio.sleep(0.02)
            looks += 1
        assert not draining.done()
        assert protocols[0].lost_with is ...
        go_on.set()
        outcome = await draining
        assert await loop.sock_recv(client, 100) == b"answer"
        assert await loop.sock_recv(client, 100) == b""
        client.close()
        assert handlers[0].done()
        assert not handlers[0].cancelled()
        return outcome

    outcome = loop.run_until_complete(main())
    assert (outcome.closed, outcome.aborted, outcome.alive) == (1, (), ())


def test_what_does_not_end_is_cancelled_then_aborted_and_reported(loop):
    async def main():
        async def obedient():
            await asyncio.Event().wait()

        async def stubborn():
            while not released.is_set():
                try:
                    await released.wait()
                except asyncio.CancelledError:
                    pass

        released = asyncio.Event()
        tasks = [loop.create_task(obedient()), loop.create_task(stubborn())]
        _, protocols, address = await serve(loop)
        client = await connected(address, protocols)
        client.send(b"a question that is never answered")
        await until(lambda: protocols[0].received)
        udp, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        )
        outcome = await loop.drain(0.2)
        assert tasks[0].cancelled()
        assert not tasks[1].done()
        assert set(outcome.cancelled) == set(tasks)
        assert outcome.alive == (tasks[1],)
        assert len(outcome.aborted) == 2
        assert str(client.getsockname()) in outcome.aborted[0]
        assert outcome.closed == 0
        assert protocols[0].is_lost
        assert udp.is_closing()
        client.close()
        released.set()
        await tasks[1]

    loop.run_until_complete(main())


def test_tasks_that_a_cancelled_task_starts_are_cancelled_too(loop):
    async def main():
        later = []

        async def starts_another():
            try:
                await asyncio.Event().wait()
            finally:
                later.append(loop.create_task(asyncio.Event().wait()))

        loop.create_task(starts_another())
        await asyncio.sleep(0)
        outcome = await loop.drain(1000)
        assert len(outcome.cancelled) == 2
        assert outcome.alive == ()
        assert later[0].cancelled()

    loop.run_until_complete(main())


def test_who_waits_for_the_caller_is_left_alone(loop):
    async def main():
        bystander = loop.create_task(asyncio.Event().wait())
        outcome = await loop.create_task(loop.drain(1000))
        assert outcome.cancelled == (bystander,)
        return "reached the end"

    assert loop.run_until_complete(main()) == "reached the end"


def test_serve_forever_ends(loop):
    async def main():
        server, protocols, address = await serve(loop)
        serving = loop.create_task(server.serve_forever())
        client = await connected(address, protocols)
        await loop.drain(1000, quiet=0)
        assert serving.cancelled()
        client.close()

    loop.run_until_complete(main())


def test_a_second_call_hastens_the_first(loop):
    async def main():
        _, protocols, address = await serve(loop)
        client = await connected(address, protocols)
        client.send(b"never answered")
        await until(lambda: protocols[0].received)
        first = loop.create_task(loop.drain(math.inf))
        await asyncio.sleep(0)
        second = await loop.drain(0)
        assert second == await first
        assert len(second.aborted) == 1
        client.close()

    loop.run_until_complete(main())


def test_cancelled_it_stops_where_it_is(loop):
    async def main():
        server, protocols, address = await serve(loop)
        client = await connected(address, protocols)
        client.send(b"not answered yet")
        await until(lambda: protocols[0].received)
        draining = loop.create_task(loop.drain(1000))
        await asyncio.sleep(0)
        waiting = loop.create_task(loop.drain(1000))
        await asyncio.sleep(0)
        draining.cancel()
        await asyncio.wait([draining, waiting])
        assert draining.cancelled()
        assert waiting.cancelled()
        assert not server.is_serving()
        assert protocols[0].lost_with is ...
        protocols[0].transport.abort()
        outcome = await loop.drain(1000)  # a new one
        assert outcome.aborted == ()
        client.close()

    loop.run_until_complete(main())


def test_a_tls_connection_is_closed_properly(loop, tmp_path):
    certificate, key = make_certificate(tmp_path)
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_side.load_cert_chain(certificate, key)
    client_side = ssl.create_default_context(cafile=certificate)

    async def main():
        served = Recorder()
        server = await loop.create_server(lambda: served, "127.0.0.1", 0, ssl=server_side)
        reader, writer = await asyncio.open_connection(
            *server.sockets[0].getsockname(), ssl=client_side, server_hostname="localhost"
        )
        await until(lambda: served.transport)
        served.transport.write(b"hello")
        outcome = await loop.drain(1000, quiet=0)
        assert await reader.read() == b"hello"  # and then the end, not an error
        assert served.lost_with is None
        writer.close()
        await writer.wait_closed()
        assert outcome.closed == 1
        assert outcome.aborted == ()

    loop.run_until_complete(main())


@pytest.mark.parametrize("seconds", [-1, -0.001, math.nan])
def test_odd_times_are_refused(loop, seconds):
    async def main():
        with pytest.raises(ValueError, match="deadline must be a number of seconds"):
            await loop.drain(seconds)
        with pytest.raises(ValueError, match="quiet must be a number of seconds"):
            await loop.drain(1, quiet=seconds)

    loop.run_until_complete(main())
