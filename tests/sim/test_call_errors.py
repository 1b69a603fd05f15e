"""Calls that fail in a simulation, as on a machine that runs out of something; and cancelled tasks."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import pathlib
import shutil
import socket
import traceback

import pytest

import hoop
import hoop.sim

HOST, PORT = "10.0.0.1", 80
FULL = (errno.EMFILE, errno.ENFILE)
NO_ROOM = (errno.ENOBUFS, errno.ENOMEM)


def of_both_drivers(main, seeds=24, **faults):
    """Run a program with some seeds. Returns how often what has happened. Both styles of driver have run."""
    drivers = set()
    injected = {}

    async def noting():
        loop = asyncio.get_running_loop()
        await main()
        drivers.add(loop.parameters["driver"])
        for kind, count in loop.injected.items():
            injected[kind] = injected.get(kind, 0) + count

    before = len(os.listdir("/proc/self/fd"))
    hoop.sim.explore(noting, seeds=seeds, faults=hoop.sim.Faults(**faults))
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before
    assert drivers == {"readiness", "completion"}
    return injected


def check(exc, errnos):
    """Raise what is none of these errors."""
    if exc.errno not in errnos:
        raise exc


class Noting(asyncio.Protocol):
    """Notes how its connection ends."""

    def __init__(self):
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, exc):
        self.lost.set_result(exc)


class Greeting(Noting):
    """Says hello to those who connect."""

    def connection_made(self, transport):
        super().connection_made(transport)
        transport.write(b"hello")
        transport.close()


async def listen():
    """A listening socket, once the kernel has a descriptor for it."""
    while True:
        try:
            sock = socket.socket()
        except OSError as exc:
            check(exc, FULL)
            continue
        sock.setblocking(False)
        sock.bind((HOST, PORT))
        sock.listen()
        return sock


async def connect(make):
    """A connection, once the kernel has a descriptor for it."""
    while True:
        try:
            return await asyncio.get_running_loop().create_connection(make, HOST, PORT)
        except OSError as exc:
            check(exc, FULL)


def test_a_server_without_descriptors_waits_a_second_and_accepts():
    waits = []

    async def main():
        loop = asyncio.get_running_loop()
        reports = []
        loop.set_exception_handler(lambda _, report: reports.append(report))
        made = []

        def make():
            made.append(loop.time())
            return Greeting()

        async with await loop.create_server(make, sock=await listen()):
            reader, writer = None, None
            while reader is None:
                try:
                    reader, writer = await asyncio.open_connection(HOST, PORT)
                except OSError as exc:
                    check(exc, FULL)
            began = loop.time()
            assert await reader.read() == b"hello"
            writer.close()
        for report in reports:
            assert report["message"] == "socket.accept() out of system resource"
            assert report["exception"].errno in FULL
        assert made[0] - began >= len(reports) * 0.99 - 1
        waits.append(len(reports))

    injected = of_both_drivers(main, emfile=0.3)
    assert max(waits) >= 2
    assert injected["EMFILE or ENFILE"] > sum(waits)


def test_sock_accept_raises_what_accept_does():
    async def main():
        loop = asyncio.get_running_loop()
        listening = await listen()
        asking = asyncio.create_task(connect(Noting))
        codes = set()
        while True:
            try:
                sock, address = await loop.sock_accept(listening)
                break
            except OSError as exc:
                codes.add(exc.errno)
        assert codes <= set(FULL)
        transport, protocol = await asking
        assert address == transport.get_extra_info("sockname")
        sock.close()
        assert await protocol.lost is None
        listening.close()

    assert of_both_drivers(main, emfile=0.3)["EMFILE or ENFILE"] > 10


@pytest.mark.parametrize("streams", [False, True], ids=["sock_accept", "server"])
def test_a_connection_that_is_aborted_before_it_is_accepted(streams):
    async def main():
        loop = asyncio.get_running_loop()
        listening = await listen()
        if streams:
            server = await loop.create_server(Greeting, sock=listening)
        for _ in range(4):
            try:
                _, protocol = await loop.create_connection(Noting, HOST, PORT)
            except ConnectionResetError:  # it comes together with the connection
                if not streams:
                    with pytest.raises(ConnectionAbortedError):
                        await loop.sock_accept(listening)
                continue
            if streams:
                error = await protocol.lost
            else:
                try:
                    sock, _ = await loop.sock_accept(listening)
                    sock.close()
                except ConnectionAbortedError:
                    error = await protocol.lost
                    assert isinstance(error, ConnectionResetError)
                    continue
                error = await protocol.lost
                assert error is None
            assert error is None or isinstance(error, ConnectionResetError)
        if streams:
            server.close()
            await server.wait_closed()
        listening.close()

    assert of_both_drivers(main, econnaborted=0.3)["ECONNABORTED"] > 10


def test_a_send_that_finds_no_memory_ends_the_connection_of_a_transport():
    errors = []

    async def main():
        loop = asyncio.get_running_loop()
        served = []

        def make():
            served.append(Noting())
            return served[-1]

        async with await loop.create_server(make, HOST, PORT):
            transport, protocol = await connect(Noting)
            await asyncio.sleep(1)
            for _ in range(100):
                transport.write(b"x" * 3000)
                await asyncio.sleep(1)
                if protocol.lost.done():
                    break
            transport.abort()
            error = await protocol.lost
            assert error is None or error.errno in NO_ROOM
            errors.append(error)
            await served[0].lost

    injected = of_both_drivers(main, enobufs=0.1)
    assert injected["ENOBUFS or ENOMEM"] == sum(error is not None for error in errors) > 15


def test_a_send_of_a_socket_finds_no_memory():
    failed = []

    async def main():
        loop = asyncio.get_running_loop()
        async with await loop.create_server(Noting, HOST, PORT):
            with socket.socket() as sock:
                sock.setblocking(False)
                await loop.sock_connect(sock, (HOST, PORT))
                for _ in range(10):
                    for send in (loop.sock_sendall(sock, b"x"), None):
                        await asyncio.sleep(1)
                        try:
                            assert sock.send(b"y") == 1 if send is None else await send is None
                        except OSError as exc:
                            check(exc, NO_ROOM)
                            failed.append(send is None)
            await asyncio.sleep(100)  # the server sees the end

    assert of_both_drivers(main, enobufs=0.2)["ENOBUFS or ENOMEM"] == len(failed)
    assert set(failed) == {False, True}


@pytest.mark.parametrize("connected", [False, True], ids=["anybody", "connected"])
def test_a_datagram_that_finds_no_memory_is_told_to_its_protocol(connected):
    counts = []

    class Counting(asyncio.DatagramProtocol):
        def __init__(self):
            self.got, self.errors = 0, []

        def datagram_received(self, data, address):
            self.got += 1

        def error_received(self, exc):
            self.errors.append(exc)

    async def main():
        loop = asyncio.get_running_loop()
        receiving, receiver = await loop.create_datagram_endpoint(Counting, local_addr=(HOST, PORT))
        address = (HOST, PORT) if connected else None
        sending, sender = await loop.create_datagram_endpoint(
            Counting, local_addr=("10.0.0.2", PORT), remote_addr=address
        )
        await asyncio.sleep(1)
        for _ in range(20):
            sending.sendto(b"x", None if connected else (HOST, PORT))
            await asyncio.sleep(1)
        assert {error.errno for error in sender.errors} <= set(NO_ROOM)
        assert receiver.got == 20 - len(sender.errors)
        counts.append(len(sender.errors))
        sending.close()
        receiving.close()
        await asyncio.sleep(1)

    injected = of_both_drivers(main, enobufs=0.2, loss=0.0, duplicate=0.0)
    assert injected["ENOBUFS or ENOMEM"] == sum(counts) > 20


def test_a_send_to_a_process_that_is_gone_fails_with_epipe():
    async def main():
        loop = asyncio.get_running_loop()
        served = []

        def make():
            served.append(Noting())
            return served[-1]

        async with await loop.create_server(make, HOST, PORT):
            with socket.socket() as sock:
                sock.setblocking(False)
                await loop.sock_connect(sock, (HOST, PORT))
                await loop.sock_sendall(sock, b"x")
                assert await loop.sock_recv(sock, 100) == b""
                with pytest.raises(BrokenPipeError):
                    await loop.sock_sendall(sock, b"y")
            assert isinstance(await served[0].lost, ConnectionResetError)

    assert of_both_drivers(main, epipe=1.0)["EPIPE"] >= 24


def test_a_transport_whose_peer_is_gone_is_lost():
    async def main():
        loop = asyncio.get_running_loop()
        async with await loop.create_server(Noting, HOST, PORT):
            transport, protocol = await connect(Noting)
            transport.write(b"x")
            assert await protocol.lost is None

    of_both_drivers(main, epipe=1.0)


async def read_by_hoop(path):
    async with hoop.open(path, "rb") as file:
        return await file.read()


async def read_by_open(path):
    with open(path, "rb") as file:
        return file.read()


async def read_by_os(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.read(fd, 100)
    finally:
        os.close(fd)


async def read_a_copy(path):
    shutil.copyfile(path, path + "2")
    return pathlib.Path(path + "2").read_bytes()


@pytest.mark.parametrize(
    "read", [read_by_hoop, hoop.read_bytes, read_by_open, read_by_os, read_a_copy]
)
def test_the_opening_of_a_file_finds_no_descriptor(read):
    disk = hoop.sim.Disk()
    disk.write("/data/file", b"text")
    failed = []

    async def main():
        while True:
            try:
                assert await read("/data/file") == b"text"
                return
            except OSError as exc:
                failed.append((exc.errno, exc.filename.rstrip("2")))

    hoop.sim.explore(main, seeds=20, faults=hoop.sim.Faults(emfile=0.3), disk=disk)
    assert set(failed) == {(error, "/data/file") for error in FULL}


def test_a_source_opens_though_no_descriptor_is_left():
    async def main():
        assert pathlib.Path(__file__).read_text()
        try:
            raise ValueError
        except ValueError:
            assert "raise ValueError" in traceback.format_exc()

    hoop.sim.run(main, faults=hoop.sim.Faults(emfile=1.0), disk=hoop.sim.Disk())


# ---- tasks that are cancelled ------------------------------------------------------------------------


def test_tasks_are_cancelled_where_they_wait_and_main_tasks_are_not():
    ends = []

    async def main():
        async def work():
            for _ in range(10):
                await asyncio.sleep(0.1)

        tasks = [asyncio.create_task(work()) for _ in range(5)]
        await asyncio.wait(tasks)
        for _ in range(50):
            await asyncio.sleep(0.1)
        ends.extend(task.cancelled() for task in tasks)
        counted.append(asyncio.get_running_loop().injected["cancellations"])

    counted = []
    hoop.sim.explore(main, seeds=20, faults=hoop.sim.Faults(cancel=0.03))
    assert {False, True} == set(ends)
    assert sum(counted) >= sum(ends)


def test_main_tasks_are_cancelled_if_that_is_asked_for():
    async def main():
        for _ in range(50):
            await asyncio.sleep(0.1)

    with pytest.raises(asyncio.CancelledError):
        hoop.sim.run(main, seed=1, faults=hoop.sim.Faults(cancel=0.5, cancel_main=True))


def test_tasks_of_hosts_are_cancelled_and_their_main_tasks_are_not():
    cancelled = []

    async def program():
        async def work():
            await asyncio.sleep(1)

        tasks = [asyncio.create_task(work()) for _ in range(3)]
        await asyncio.wait(tasks)
        cancelled.extend(task.cancelled() for task in tasks)

    async def main(world):
        hosts = [world.host(name, program) for name in "ab"]
        for host in hosts:
            await host

    hoop.sim.explore(main, seeds=10, faults=hoop.sim.Faults(cancel=0.3))
    assert {False, True} == set(cancelled)


def test_a_lock_that_a_cancelled_task_keeps_is_found():
    async def main():
        lock = asyncio.Lock()

        async def use():
            await lock.acquire()
            await asyncio.sleep(0.1)
            lock.release()

        await asyncio.wait([asyncio.create_task(use()) for _ in range(5)])

    with pytest.raises(hoop.sim.Deadlock) as caught:
        hoop.sim.explore(main, seeds=50, faults=hoop.sim.Faults(cancel=0.03))
    assert "is cancelled [" in "\n".join(caught.value.__notes__)


def test_faults_that_never_happen_are_told():
    async def main():
        assert asyncio.get_running_loop().injected == dict.fromkeys(
            ("EPIPE", "cancellations", "EMFILE or ENFILE", "ENOBUFS or ENOMEM", "ECONNABORTED"), 0
        )
        raise ZeroDivisionError

    faults = hoop.sim.Faults(emfile=0.1, enobufs=0.1, econnaborted=0.1, epipe=0.1, cancel=1e-9)
    with pytest.raises(ZeroDivisionError) as caught:
        hoop.sim.explore(main, seeds=1, faults=faults)
    assert "0 EMFILE or ENFILE (!)" in caught.value.__notes__[0]
