"""The descriptors of a program that ends: they are given back at once, and none is closed twice."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

import hoop
import hoop.sim
from hoop.disk.call import devices
from hoop.files import opening


async def hold_one_of_each(folder, looked=None):
    """Hold a descriptor of each kind, and the loop's own. Then do something with a file again and again."""
    loop = asyncio.get_running_loop()
    async with await asyncio.start_server(answer, None, 80):
        reader, writer = await asyncio.open_connection("localhost", 80)
        writer.write(b"question\n")
        await reader.readline()
        await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("0.0.0.0", 53))
        one, other = socket.socketpair()
        one.setblocking(False)
        loop.add_reader(one, print)
        receiving = asyncio.create_task(loop.sock_recv(one, 1))
        lone, raw = socket.socket(), os.open(folder, os.O_RDONLY)
        text = open(f"{folder}/text", "w")  # noqa: SIM115 - nobody closes it
        ours = await hoop.open(f"{folder}/ours", "w")
        try:
            text.write("never flushed")
            await ours.write("never flushed, too")
            while looked is None:
                async with hoop.open(f"{folder}/again", "w") as file:
                    await file.write("something")
                await asyncio.sleep(2)
            looked.append(len(os.listdir("/proc/self/fd")))
            await asyncio.Event().wait()
        finally:
            os.close(raw)
            for held in (one, other, lone, text):
                held.close()
            await receiving


async def answer(reader, writer):
    writer.write(await reader.readline())
    await reader.read()


def folder_of(tmp_path, disk):
    """A folder on the real disk, or on a simulated one."""
    if disk is None:
        return str(tmp_path)
    disk.write("/data/text", b"")
    return "/data"


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_a_process_that_ends_gives_back_all_descriptors(tmp_path, seed, on_disk):
    disk = hoop.sim.Disk() if on_disk else None
    folder = folder_of(tmp_path, disk)

    async def main(world):
        opens, counts = [], []
        host = world.host("db", lambda: hold_one_of_each(folder, opens))
        for silent in (False, True, False, True):
            await asyncio.sleep(100)
            host.crash(silent=silent)
            counts.append(len(os.listdir("/proc/self/fd")))
            host.restart()
        await asyncio.sleep(100)
        assert counts[2:] == counts[:2]  # a crash of the machine takes those of the disk, too
        assert opens[3:] == opens[1:3]
        assert opens[1] >= counts[0] + 15
        kept = host.disk.read("/data/ours") if on_disk else (tmp_path / "ours").read_bytes()
        assert kept == b""

    hoop.sim.run(main, seed=seed, disk=disk)


@pytest.mark.parametrize("on_disk", [False, True])
def test_what_dead_tasks_close_at_the_end_is_nobody_elses(tmp_path, on_disk):
    """The numbers of their descriptors belong to others by then."""
    disk = hoop.sim.Disk() if on_disk else None
    folder = folder_of(tmp_path, disk)

    async def main(world):
        host = world.host("db", lambda: hold_one_of_each(folder))
        for _ in range(10):
            await asyncio.sleep(10 + hoop.sim.random())
            host.restart()
        host.crash()
        return [os.open(os.devnull, os.O_RDONLY) for _ in range(50)]

    for seed in range(2):
        opened = hoop.sim.run(main, seed=seed, disk=disk and disk.copy())
        for fd in opened:
            assert os.stat(fd).st_rdev == os.stat(os.devnull).st_rdev
            os.close(fd)


def test_a_file_that_is_being_opened_is_closed_by_a_crash(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"content")

    def is_open():
        links = (f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd"))
        return str(path) in {os.readlink(link) for link in links if os.path.islink(link)}

    async def program():
        async with hoop.open(path, "rb"):
            await asyncio.Event().wait()

    async def main(world):
        host = world.host("db", program)
        for moment in range(1, 12):
            await asyncio.sleep(moment * 0.0003)
            devices().clear()  # so that the next open takes all steps
            opening.folders.clear()
            host.restart()
            assert not is_open()
        await asyncio.sleep(100)
        assert is_open()
        host.crash()
        assert not is_open()

    for seed in range(8):
        hoop.sim.run(main, seed=seed)


def test_a_program_that_makes_its_own_host_crash_goes_on_until_its_next_await(tmp_path):
    seen = []

    async def program(world):
        with open(tmp_path / "text", "w") as file, socket.socket() as sock:
            world.find("db").crash()
            file.write("written")
            file.flush()
            seen.append(sock.fileno())
            await asyncio.sleep(0)
            seen.append("never")

    async def main(world):
        world.host("db", lambda: program(world))
        await asyncio.sleep(1)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(seen[0])
        assert len(seen) == 1

    hoop.sim.run(main)
    assert (tmp_path / "text").read_text() == "written"
