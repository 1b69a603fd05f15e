"""Stopping a server the usual way (cancel every task, close, wait) while a connection is being accepted."""

from __future__ import annotations

import asyncio
import socket

import pytest
from peers import Recorder, same_as_asyncio, turns, until
from tls_peers import client_context, server_context


def cancel_all_but(kept: asyncio.Task | None) -> None:
    """The same steps as aiosmtpd's Controller.stop()."""
    for task in asyncio.all_tasks() - {kept}:
        task.cancel()


def idle_client(server: asyncio.Server) -> socket.socket:
    return socket.create_connection(server.sockets[0].getsockname())


@pytest.mark.parametrize("moment", ["factory", "connection_made"])
def test_cancelled_in_its_accepting_turn_a_connection_ends(run, moment):
    """It is asyncio's _accept_connection2() that is cancelled there."""

    async def main():
        loop = asyncio.get_running_loop()
        here = asyncio.current_task()
        made = []

        def cancel_next_turn(*_):
            loop.call_soon(cancel_all_but, here)

        def factory():
            hooks = {"eof_received": lambda _: True}
            if moment == "factory":
                cancel_next_turn()
            else:
                hooks["connection_made"] = cancel_next_turn
            made.append(Recorder(**hooks))
            return made[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0)
        with idle_client(server):
            await until(lambda: made and made[0].is_lost)
        assert made[0].events == ["connection_made", "connection_lost"]
        assert made[0].lost_with is None
        server.close()
        await asyncio.wait_for(server.wait_closed(), 5)

    run(main())


def test_the_task_of_accepting_is_gone_after_two_turns_and_the_connection_stays(run):
    async def main():
        loop = asyncio.get_running_loop()
        made = []
        server = await loop.create_server(
            lambda: made.append(Recorder()) or made[-1], "127.0.0.1", 0
        )
        with idle_client(server):
            await until(lambda: made and made[0].events)
            await turns(3)
            assert asyncio.all_tasks() == {asyncio.current_task()}
            cancel_all_but(asyncio.current_task())
            await turns(3)
            assert not made[0].is_lost
            made[0].transport.close()
        server.close()
        await server.wait_closed()
        await until(lambda: made[0].is_lost)

    run(main())


def test_a_connection_that_comes_in_the_turn_that_stops_the_loop_is_not_accepted(loop):
    """aiosmtpd again: cancel and stop, then close the server and wait for its connections."""
    made = []

    async def serve():
        return await loop.create_server(lambda: made.append(Recorder()) or made[-1], "127.0.0.1", 0)

    server = loop.run_until_complete(serve())
    with idle_client(server):
        loop.call_soon(loop.stop)
        loop.run_forever()
        assert made == []
        server.close()
        loop.run_until_complete(asyncio.wait_for(server.wait_closed(), 5))
    assert made == []


def test_a_loop_that_is_stopped_every_turn_accepts_all_the_same(loop):
    made = []

    async def serve():
        return await loop.create_server(lambda: made.append(Recorder()) or made[-1], "127.0.0.1", 0)

    server = loop.run_until_complete(serve())
    for n in range(1, 4):
        with idle_client(server):
            for _ in range(100):
                loop.call_soon(loop.stop)
                loop.run_forever()
                if len(made) == n and made[-1].events:
                    break
            assert len(made) == n
            made[-1].transport.abort()
    server.close()
    loop.run_until_complete(server.wait_closed())


async def cancelled_in_the_handshake(debug: bool) -> list[object]:
    """Cancel everything while a client has connected and not shaken hands; what is reported of it."""
    loop = asyncio.get_running_loop()
    loop.set_debug(debug)
    reported = []
    loop.set_exception_handler(
        lambda _, context: reported.append(
            (context["message"], type(context["exception"]), sorted(context))
        )
    )
    protocol = Recorder()
    asked = []
    server = await loop.create_server(
        lambda: asked.append(1) or protocol, "127.0.0.1", 0, ssl=server_context()
    )
    with idle_client(server):
        await until(lambda: asked)
        await turns(3)
        assert len(asyncio.all_tasks()) == 2
        cancel_all_but(asyncio.current_task())
        server.close()
        await asyncio.wait_for(server.wait_closed(), 5)
        await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})
        await turns(3)
    loop.set_debug(False)
    return [reported, protocol.events]


@pytest.mark.parametrize("debug", [False, True])
def test_cancelled_in_its_handshake_a_connection_ends(loop, debug):
    reported, events = same_as_asyncio(loop, lambda _: cancelled_in_the_handshake(debug))
    assert events == []
    assert len(reported) == debug


def test_cancelled_as_soon_as_its_protocol_is_made(run):
    """Before the task of the handshake has had its first turn."""

    async def main():
        loop = asyncio.get_running_loop()
        here = asyncio.current_task()
        protocol = Recorder()

        def factory():
            loop.call_soon(cancel_all_but, here)
            return protocol

        server = await loop.create_server(factory, "127.0.0.1", 0, ssl=server_context())
        with idle_client(server) as client:
            client.setblocking(False)
            assert await loop.sock_recv(client, 1) == b""
        server.close()
        await asyncio.wait_for(server.wait_closed(), 5)
        assert protocol.events == []

    run(main())


def test_a_program_may_end_while_a_client_does_not_shake_hands(run):
    clients = []

    async def main():
        loop = asyncio.get_running_loop()
        asked = []
        server = await loop.create_server(
            lambda: asked.append(1) or Recorder(), "127.0.0.1", 0, ssl=server_context()
        )
        clients.append(idle_client(server))
        await until(lambda: asked)
        server.close()

    run(main())
    with clients.pop() as client:
        assert client.recv(1) == b""


def test_a_handshake_that_succeeds_ends_its_task(run):
    async def main():
        loop = asyncio.get_running_loop()
        protocol = Recorder()
        server = await loop.create_server(lambda: protocol, "127.0.0.1", 0, ssl=server_context())
        transport, _ = await loop.create_connection(
            Recorder,
            *server.sockets[0].getsockname(),
            ssl=client_context(),
            server_hostname="localhost",
        )
        await until(lambda: protocol.events)
        await turns(3)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        cancel_all_but(asyncio.current_task())
        await turns(3)
        assert not protocol.is_lost
        transport.close()
        server.close()
        await server.wait_closed()
        await until(lambda: protocol.is_lost)

    run(main())
