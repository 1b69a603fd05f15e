"""Loops that nobody closes: the garbage collector finds them, or the end of the process does."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

SIMPLE = """
import asyncio, gc, sys
import hoop

def forget():
    loop = asyncio.SelectorEventLoop() if "{driver}" == "asyncio" else hoop.new_event_loop("{driver}")
    gc.collect()  # what the loop makes from now on is younger
    loop.run_until_complete(asyncio.sleep(0))

forget()
{end}
"""

# The loops cannot close themselves, so that all is freed in the order that the collector likes.
BUSY = """
import asyncio, gc, os, signal, socket
import hoop

class Loop(hoop.EventLoop):
    def close(self):
        if not self.is_closed():
            raise RuntimeError("not today")

def spare():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    return ours, theirs

async def nothing(loop):
    pass

async def tasks(loop):
    queue, lock = asyncio.Queue(), hoop.Lock()
    await lock.acquire()
    waits = queue.get(), lock.acquire(), asyncio.sleep(3600)
    return queue, lock, [loop.create_task(wait) for wait in waits]

async def callbacks(loop):
    return loop.call_soon(print), loop.call_later(3600, print)

async def signals(loop):
    loop.add_signal_handler(signal.SIGUSR1, print)

async def readers(loop):
    ours, theirs = spare()
    loop.add_reader(theirs, print)
    return ours, theirs

async def pipes(loop):
    read_end, write_end = os.pipe()
    return await loop.connect_read_pipe(asyncio.Protocol, open(read_end, "rb", 0)), write_end

async def sockets(loop):
    ours, theirs = spare()
    return loop.create_task(loop.sock_recv(ours, 10)), theirs

async def datagrams(loop):
    return await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))

async def servers(loop):
    server = await asyncio.start_server(lambda reader, writer: reader.read(), "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    stock = await asyncio.open_connection(*address)
    native = await hoop.open_connection(*address)
    return server, stock, native, [loop.create_task(one[0].read()) for one in (stock, native)]

async def children(loop):
    child = await asyncio.create_subprocess_exec("/bin/cat", stdin=-1, stdout=-1)
    waits = child.wait(), child.stdout.read()
    return child, [loop.create_task(wait) for wait in waits], child.kill()

async def files(loop):
    return await hoop.open("/proc/self/status", "rb")

EACH = nothing, tasks, callbacks, signals, readers, pipes, sockets, datagrams, servers, children, files

def forget(actions):
    async def main():
        loop.kept = [loop, *[await action(loop) for action in actions]]
        await asyncio.sleep(0)

    loop = Loop("{driver}")
    loop.run_until_complete(main())

for actions in [*zip(EACH), EACH]:
    forget(actions)
    {end}
"""


def run(program: str, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", *options, "-c", program],
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize("end", ["gc.collect()", "# left to the end of the process"])
def test_one_that_has_run_says_what_asyncios_says(driver, end):
    said = [
        re.findall(
            r"^Exception.*|^\w+Error.*|ResourceWarning: unclosed [<a-z. ]+",
            run(SIMPLE.format(driver=which, end=end), "-W", "always"),
            re.MULTILINE,
        )
        for which in ("asyncio", driver)
    ]
    assert [len(lines) for lines in said] == [1, 1], said
    assert all(lines[0].startswith("ResourceWarning: unclosed event loop") for lines in said)


@pytest.mark.parametrize("end", ["gc.collect()", "# left to the end of the process"])
def test_one_that_cannot_be_closed_is_freed_with_all_that_it_does(driver, end):
    said = run(BUSY.format(driver=driver, end=end), "-W", "ignore")
    # At the end of the process it depends on the order whether there is still somebody to be told.
    assert said.count("RuntimeError: not today") == 12 or end.startswith("#")
