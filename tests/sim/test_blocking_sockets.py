"""Calls that block in a simulation: those of sockets let time pass, and others end as Stuck."""

from __future__ import annotations

import asyncio
import select
import socket

import pytest
from peers import reset, tcp_pair

import hoop.sim

ADDRESS = ("127.0.0.1", 80)


def run(body, **options):
    """Run a function that blocks in a world, as a task."""

    async def main():
        return body()

    return hoop.sim.run(main, **options)


# ---- calls that nobody can end -----------------------------------------------------------------------


def receive_from_nobody():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.recv(1)


def test_a_call_in_c_that_waits_for_ever_is_stuck():
    with pytest.raises(hoop.sim.Stuck, match=r"test_blocking_sockets\.py"):
        run(receive_from_nobody, stuck=0.05)


# ---- sockets that block ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_sockets_that_block_let_time_pass_until_what_is_sent_has_come(seed):
    def body():
        with socket.create_server(ADDRESS) as server:
            client = socket.create_connection(ADDRESS)
            accepted, address = server.accept()
        with client, accepted:
            assert address == client.getsockname()
            assert hoop.sim.now() > 0
            client.sendall(b"request")
            before = hoop.sim.now()
            assert select.select([accepted], [], [], 5) == ([accepted], [], [])
            assert before < hoop.sim.now() < before + 5
            assert accepted.recv(100) == b"request"
            accepted.sendall(b"answer")
            assert select.select([client], [], []) == ([client], [], [])
            assert client.recv(100) == b"answer"
            accepted.shutdown(socket.SHUT_WR)
            assert client.recv(100) == b""

    run(body, seed=seed, faults=hoop.sim.Faults(pieces=0.0))


def test_sockets_that_block_have_timeouts_of_virtual_time():
    def body():
        with socket.create_server(ADDRESS) as server:
            client = socket.create_connection(ADDRESS, timeout=60)
            accepted, _ = server.accept()
            server.settimeout(10)
            before = hoop.sim.now()
            with pytest.raises(TimeoutError):
                server.accept()
            assert hoop.sim.now() == pytest.approx(before + 10)
        with client, accepted:
            with pytest.raises(TimeoutError):
                client.recv(1)
            assert hoop.sim.now() == pytest.approx(before + 70)
            assert select.select([accepted], [], [], 30) == ([], [], [])
            assert hoop.sim.now() == pytest.approx(before + 100)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(ADDRESS)

    run(body)


@pytest.mark.parametrize("call", ["accept", "recv"])
def test_a_call_that_only_a_task_could_end_is_refused(call):
    def body():
        with socket.create_server(ADDRESS) as server, socket.create_connection(ADDRESS) as client:
            accepted, _ = server.accept()
            with accepted:
                server.accept() if call == "accept" else client.recv(1)

    with pytest.raises(hoop.sim.Unsimulated, match=rf"{call}\(\) that blocks"):
        run(body)


# ---- what such programs do besides -------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_a_close_without_lingering_resets_the_connection(seed):
    async def main():
        ours, theirs = tcp_pair()
        reader, writer = await asyncio.open_connection(sock=ours)
        reset(theirs)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()

    hoop.sim.run(main, seed=seed)


def test_unix_sockets_that_ask_for_no_name_have_names_that_differ():
    def body():
        socks = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        for sock in socks:
            sock.bind("")
        names = {sock.getsockname() for sock in socks}
        assert len(names) == 3
        assert all(name[:1] == b"\0" for name in names)
        for sock in socks:
            sock.close()

    run(body)
