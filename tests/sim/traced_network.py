"""Prints the sums of the traces of eight runs with connections. test_network.py runs it in two processes."""

from __future__ import annotations

import asyncio
import zlib

import hoop
import hoop.sim

FAULTS = hoop.sim.Faults(reset=0.005, refuse=0.05)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(700):
            writer.write(data[::-1])
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def ask(n: int) -> None:
    try:
        reader, writer = await hoop.open_connection("localhost", 80)
    except OSError:  # of each address that "localhost" has
        return
    try:
        for size in range(1, 2000, 500):
            writer.write(bytes([n]) * size)
            await reader.readexactly(size)
    except (ConnectionError, EOFError):
        pass
    finally:
        writer.close()


async def main() -> None:
    server = await hoop.start_server(serve, "127.0.0.1", 80)
    async with server:
        await asyncio.gather(*(ask(n) for n in range(5)))
        await asyncio.sleep(10)


for seed in range(8):
    trace: list[str] = []
    hoop.sim.run(main, seed=seed, order="mix", trace=trace, faults=FAULTS)
    print(len(trace), zlib.crc32("\n".join(trace).encode()))
