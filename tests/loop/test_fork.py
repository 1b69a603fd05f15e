"""Forks: the child never disturbs the parent's loop, and can run a loop of its own.

Each test forks in a process of its own, which has no other threads.
"""

from __future__ import annotations

import sys

import pytest

HEAD = """
import asyncio, os, signal, socket, sys
import hoop

def in_child(function):
    # Run function in a fork and return its exit status.
    pid = os.fork()
    if pid == 0:
        try:
            function()
        except BaseException as exc:
            print(type(exc).__name__, exc, file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""

CHILD_RUNS_ITS_OWN_LOOP = """
def child():
    assert asyncio._get_running_loop() is None
    assert hoop.run(asyncio.sleep(0.001, "x")) == "x"

async def main():
    assert in_child(child) == 0
    return await asyncio.sleep(0.001, "parent")

print(hoop.run(main()))
"""

INHERITED_RUNNING_LOOP = """
async def main():
    loop = asyncio.get_running_loop()

    def child():
        for run in (loop.run_forever, lambda: loop.run_until_complete(loop.create_future())):
            try:
                run()
            except RuntimeError:
                continue
            raise AssertionError("it ran")

    assert in_child(child) == 0
    return await asyncio.sleep(0.001, "parent")

print(hoop.run(main()))
"""

INHERITED_IDLE_LOOP = """
loop = hoop.new_event_loop()
loop.run_until_complete(asyncio.sleep(0))

def child():
    try:
        loop.run_forever()
    except RuntimeError as exc:
        assert "fork" in str(exc), exc
    else:
        raise AssertionError("it ran")
    assert asyncio._get_running_loop() is None
    assert hoop.run(asyncio.sleep(0.001, "x")) == "x"

assert in_child(child) == 0
print(loop.run_until_complete(asyncio.sleep(0.001, "parent")))
loop.close()
"""

CHILD_CLOSES_THE_INHERITED_LOOP = """
loop = hoop.new_event_loop()
a, b = socket.socketpair()
seen = []
loop.add_reader(a.fileno(), lambda: (seen.append(a.recv(9)), loop.stop()))

def child():
    loop.remove_reader(a.fileno())
    loop.close()

assert in_child(child) == 0
b.send(b"x")
loop.run_forever()
print(seen)
loop.remove_reader(a.fileno())
loop.close()
"""

CHILD_REMOVES_A_READER_OF_A_RUNNING_LOOP = """
async def main():
    loop = asyncio.get_running_loop()
    a, b = socket.socketpair()
    got = loop.create_future()
    loop.add_reader(a.fileno(), lambda: (got.set_result(a.recv(9)), loop.remove_reader(a.fileno())))

    def child():
        loop.remove_reader(a.fileno())
        a.close()
        b.close()

    assert in_child(child) == 0
    b.send(b"x")
    return await got

print(hoop.run(main()))
"""

CHILD_WAKES_THE_INHERITED_LOOP = """
loop = hoop.new_event_loop()
seen = []

async def main():
    def child():
        loop.call_soon_threadsafe(print, "in the child")
        loop.call_soon_threadsafe(loop.stop)

    sleeping = loop.create_task(asyncio.sleep(0.02))
    await asyncio.sleep(0)
    assert in_child(child) == 0
    await sleeping
    return "parent"

print(loop.run_until_complete(main()))
loop.close()
"""

SIGNAL_IN_THE_CHILD = """
async def main():
    loop = asyncio.get_running_loop()
    seen = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, 1)

    def child():
        os.kill(os.getpid(), signal.SIGUSR1)

    assert in_child(child) == 0
    await asyncio.sleep(0.02)
    return seen

print(hoop.run(main()))
"""

LEAVES = """
runs = [hoop.run]
if sys.version_info < (3, 14):  # from then on asyncio's own loop does not end in the child
    runs.append(asyncio.run)

def status(run, how):
    async def main():
        pid = os.fork()
        if pid == 0:
            raise how
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    return run(main())

found = [
    [status(run, how) for how in (SystemExit(), SystemExit(7), KeyboardInterrupt())]
    for run in runs
]
print(all(f == [0, 7, -signal.SIGINT] for f in found), found)
"""

CHILD_DROPS_EVERYTHING = """
import gc, warnings

async def main():
    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    def child():
        warnings.simplefilter("ignore")
        for transport in list(loop._transports.values()):
            transport.abort()
        server.close()
        gc.collect()

    in_child(child)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    data = await reader.read()
    writer.close()
    server.close()
    await server.wait_closed()
    return data

print(hoop.run(main()))
"""

CHILD_GIVES_A_CONNECTION_UP = """
async def main():
    loop = asyncio.get_running_loop()
    server = socket.create_server(("127.0.0.1", 0))
    sock = socket.socket()
    sock.setblocking(False)
    connecting = loop.sock_connect(sock, server.getsockname())
    future = connecting.send(None)

    def child():
        future.cancel()
        connecting.close()

    assert in_child(child) == 0
    while not future.done():
        await asyncio.sleep(0)
    try:
        connecting.send(None)
    except StopIteration:
        return "connected"

print(hoop.run(main()))
"""

MULTIPROCESSING = """
import multiprocessing

def child(queue):
    queue.put(hoop.run(asyncio.sleep(0.001, "child")))

async def main():
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    process = context.Process(target=child, args=(queue,))
    process.start()
    text = await asyncio.to_thread(queue.get)
    process.join()
    assert process.exitcode == 0
    return text

print(hoop.run(main()))
"""

CHILD_OF_A_THREAD = """
import threading

def child():
    assert hoop.run(asyncio.sleep(0.001, "x")) == "x"

async def main():
    return await asyncio.to_thread(in_child, child)

print(hoop.run(main()))
"""

NOTHING_IS_SENT_TWICE = """
def fork():
    if os.fork() == 0:
        sys.exit(0)  # through the loop, which sends what waits
    os.wait()

class Datagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.transport.sendto(data, addr)
        if data == b"400":
            fork()

async def main():
    loop = asyncio.get_running_loop()
    ours, peer = socket.socketpair()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    for n in range(100):  # to write twice a turn becomes its habit
        transport.write(b"1")
        transport.write(b"2")
        await asyncio.sleep(0)
    assert len(peer.recv(1000)) == 200
    transport.write(b"3")
    fork()
    print(peer.recv(200, socket.MSG_DONTWAIT), end=" ")
    transport.write(b"4")
    print(peer.recv(200, socket.MSG_DONTWAIT))

    endpoint, _ = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
    peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    peer.connect(endpoint.get_extra_info("sockname"))
    peer.settimeout(0)
    answers = []
    for first in range(0, 600, 60):
        for n in range(first, first + 60):
            peer.send(b"%d" % n)
        while len(answers) < first + 60:
            await asyncio.sleep(0)
            try:
                answers.append(int(peer.recv(100)))
            except BlockingIOError:
                pass
    assert answers == list(range(600)), answers
    endpoint.close()
    transport.close()

loop = hoop.new_event_loop()
try:
    loop.run_until_complete(main())
except SystemExit:
    os._exit(0)
loop.run_until_complete(asyncio.sleep(0.001))
loop.close()
"""


@pytest.mark.parametrize(
    ("code", "printed"),
    [
        (CHILD_RUNS_ITS_OWN_LOOP, "parent"),
        (INHERITED_RUNNING_LOOP, "parent"),
        (INHERITED_IDLE_LOOP, "parent"),
        (CHILD_CLOSES_THE_INHERITED_LOOP, "[b'x']"),
        (CHILD_REMOVES_A_READER_OF_A_RUNNING_LOOP, "b'x'"),
        (CHILD_WAKES_THE_INHERITED_LOOP, "parent"),
        (SIGNAL_IN_THE_CHILD, "[]"),
        (CHILD_DROPS_EVERYTHING, "b''"),
        (CHILD_GIVES_A_CONNECTION_UP, "connected"),
        (MULTIPROCESSING, "child"),
        (CHILD_OF_A_THREAD, "0"),
        (NOTHING_IS_SENT_TWICE, "b'3' b'4'"),
    ],
    ids=[
        "child runs its own loop",
        "child cannot run the inherited running loop",
        "child cannot run the inherited idle loop",
        "child closes the inherited loop",
        "child removes a reader",
        "child wakes the inherited loop",
        "signal in the child",
        "child drops everything",
        "child gives a connection up",
        "multiprocessing",
        "child of a thread",
        "nothing is sent twice",
    ],
)
def test_fork(python, driver, monkeypatch, code, printed):
    monkeypatch.setenv("HOOP_DRIVER", driver)
    assert python(HEAD + code, "-W", "ignore::DeprecationWarning") == printed + "\n"


RETURNS = """
async def other():
    await asyncio.sleep(0.001)

async def main(how):
    loop = asyncio.get_running_loop()
    tasks = [asyncio.create_task(other()) for _ in range(2)]
    await asyncio.sleep(0)
    pid = os.fork()
    if pid == 0:
        print(len(asyncio.all_tasks(loop)), end=" ", flush=True)
        if how == "raise":
            raise LookupError("in the child")
        return "child"
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    await asyncio.gather(*tasks)
    return status

parent = os.getpid()
for run in (asyncio.run, hoop.run):
    for how in ("return", "raise"):
        try:
            ended = run(main(how))
        except LookupError as exc:
            ended = repr(exc)
        if os.getpid() != parent:
            assert asyncio.run(asyncio.sleep(0, 1)) == hoop.run(asyncio.sleep(0, 1)) == 1
            print(ended, end=" ", flush=True)
            os._exit(7)
        print(ended)
"""


def test_child_that_returns_from_a_coroutine_ends_as_on_asyncio(python, driver, monkeypatch):
    monkeypatch.setenv("HOOP_DRIVER", driver)
    known = "0" if sys.version_info >= (3, 14) else "3"
    ends = [f"{known} child 7", f"{known} LookupError('in the child') 7"]
    printed = python(HEAD + RETURNS, "-W", "error")
    assert printed.splitlines() == ends * 2


STAYS = """
import signal

async def main():
    loop = asyncio.get_running_loop()
    pid = os.fork()
    if pid == 0:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        signal.signal(signal.SIGALRM, lambda *_: sys.exit(9))
        await loop.create_future()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

print(hoop.run(main()))
"""


def test_child_that_waits_in_a_coroutine_hears_signals(python, driver, monkeypatch):
    monkeypatch.setenv("HOOP_DRIVER", driver)
    assert python(HEAD + STAYS, "-W", "error") == "9\n"


def test_child_that_leaves_inside_a_coroutine_has_asyncio_s_status(python, driver, monkeypatch):
    monkeypatch.setenv("HOOP_DRIVER", driver)
    printed = python(HEAD + LEAVES, "-W", "error")
    assert printed.startswith("True"), printed
