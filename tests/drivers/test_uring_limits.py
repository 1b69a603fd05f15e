"""The io_uring driver short of memory, of descriptors and of room; forked, and interrupted."""

import os

import pytest

from hoop.drivers.capabilities import why_not

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up its privileges")

HEAD = """
import asyncio, encodings.idna, logging, os, resource, signal, socket, sys
logging.basicConfig(level=logging.INFO, format="%(name)s %(levelname)s %(message)s", stream=sys.stdout)
# One line tells of each process in which a hoop loop runs. tests/start is about that one.
logging.getLogger("hoop").addFilter(lambda record: "event loop runs in" not in record.getMessage())
import hoop

def lock_no_more_than(n_bytes):
    # Rings count against the limit for locked memory, but not root's.
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (n_bytes, n_bytes))
    os.setgroups([])
    os.setgid(61_001)
    os.setuid(61_001)

async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)
"""

NO_RING_AT_ALL = """
loop = hoop.new_event_loop("uring")
a, b = socket.socketpair()
a.setblocking(False)
calls = []
loop.add_reader(a, lambda: calls.append(a.recv(10)))
lock_no_more_than(0)
b.send(b"moved")
loop.run_until_complete(until(lambda: calls))
print(loop.driver, calls)

async def main():
    async def echo(reader, writer):
        writer.write(await reader.read(10))
        writer.close()
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"echo")
    print(await reader.read(10))
    writer.close()
    server.close()
    await server.wait_closed()

loop.run_until_complete(main())
loop.remove_reader(a)
loop.close()
"""

NO_RING_WHEN_IT_IS_NEEDED = """
path = hoop.Path("/proc/self/status")

async def main():
    lock_no_more_than(0)
    async def echo(reader, writer):
        writer.write(await reader.read(10))
        writer.close()
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    print(len(await path.read_bytes()) > 100)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"echo")
    print(await reader.read(10))
    writer.close()
    server.close()
    await server.wait_closed()

loop = hoop.new_event_loop("uring")
loop.run_until_complete(main())
print(loop.driver)
loop.close()
"""

NO_RING_FOR_A_THREAD = """
import threading
loop = hoop.new_event_loop("uring", spin_us=1000)
a, b = socket.socketpair()
a.setblocking(False)
task = loop.create_task(loop.sock_recv(a, 10))
loop.run_until_complete(asyncio.sleep(0.001))
print(loop.driver)
lock_no_more_than(0)
b.send(b"moved")

def run():
    print(loop.run_until_complete(task), loop.driver)

thread = threading.Thread(target=run)
thread.start()
thread.join()
loop.close()
"""

# sq32/cq64 fits into this, and nothing larger.
SMALL_RING = """
lock_no_more_than(24_576)
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))

class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        transports.append(transport)
    def data_received(self, data):
        self.transport.write(data)

async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=1000)
    clients = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(300)]
    await until(lambda: len(transports) == 300)
    for _ in range(5):
        for n, client in enumerate(clients):  # 300 completions, of which 64 have room
            client.send(b"%03d" % n)
        for n, client in enumerate(clients):
            client.setblocking(False)
            assert await loop.sock_recv(client, 10) == b"%03d" % n
    for client in clients:
        client.close()
    await until(lambda: not loop.counters()["transports"])
    server.close()
    await server.wait_closed()
    return loop.driver

transports = []
print(hoop.run(main()))
"""

FORKED_WITH_REQUESTS = """
async def main():
    loop = asyncio.get_running_loop()
    got = []
    class Keep(asyncio.Protocol):
        def data_received(self, data):
            got.append(data)
    ours, theirs = socket.socketpair()
    transport, _ = await loop.create_connection(Keep, sock=ours)
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    await asyncio.sleep(0.01)  # everything is under way

    pid = os.fork()
    if pid == 0:
        try:
            transport.abort()
            server.close()
            loop._run_once()
        except RuntimeError as exc:
            os._exit(42 if "fork" in str(exc) or "middle of a turn" in str(exc) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 42
    theirs.send(b"survived")
    await until(lambda: got)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.close()
    server.close()
    transport.abort()
    theirs.close()
    return got

print(hoop.run(main()))
"""

A_CHILD_THAT_STAYS = """
# It keeps a copy of the ring's descriptor: closing the loop must end its connections all the same.
loop = hoop.new_event_loop("uring")
async def begin():
    ours, theirs = socket.socketpair()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    await asyncio.sleep(0.01)
    return transport, theirs
transport, theirs = loop.run_until_complete(begin())
r, w = os.pipe()
pid = os.fork()
if pid == 0:
    transport.get_extra_info("socket")._sock.close()
    theirs.close()
    os.close(w)
    os.read(r, 1)
    os._exit(0)
os.close(r)
transport.abort()
loop.run_until_complete(asyncio.sleep(0))
loop.run_until_complete(asyncio.sleep(0))
loop.close()
theirs.settimeout(5)
print(theirs.recv(1))
os.close(w)
os.waitpid(pid, 0)
"""

INTERRUPTED = """
async def main():
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    await asyncio.sleep(10)

signal.signal(signal.SIGALRM, signal.default_int_handler)
try:
    hoop.run(main())
except KeyboardInterrupt:
    print("interrupted")
"""

INTERRUPTED_IN_ANOTHER_THREAD = """
import threading
# The loop of a thread sleeps; signals are the main thread's.
loop = hoop.new_event_loop("uring")
thread = threading.Thread(target=loop.run_forever)
thread.start()
signal.signal(signal.SIGALRM, lambda *_: loop.call_soon_threadsafe(loop.stop))
signal.setitimer(signal.ITIMER_REAL, 0.05)
thread.join()
loop.close()
print("stopped")
"""

LEFT_WITH_EVERYTHING_OPEN = """
import warnings
warnings.simplefilter("ignore")
async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    for _ in range(10):
        a, b = socket.socketpair()
        for sock in (a, b):
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=sock)
            transport.write(b"x" * 3_000_000)
            transport.pause_reading()
        readers.append(socket.socketpair())
        loop.add_reader(readers[-1][0], print)
    await asyncio.sleep(0.01)
readers = []
loop = hoop.new_event_loop("uring")
loop.run_until_complete(main())
loop.close()
print("closed")
"""


@pytest.mark.parametrize(
    ("code", "printed"),
    [
        pytest.param(
            NO_RING_AT_ALL,
            "hoop WARNING the kernel refused a loop its ring (Cannot allocate memory): using epoll\n"
            "epoll [b'moved']\nb'echo'",
            marks=as_root,
        ),
        pytest.param(
            NO_RING_WHEN_IT_IS_NEEDED,
            "hoop WARNING the kernel refused a loop its ring (Cannot allocate memory): using epoll\n"
            "True\nb'echo'\nepoll",
            marks=as_root,
        ),
        pytest.param(
            NO_RING_FOR_A_THREAD,
            "uring\n"
            "hoop WARNING the kernel refused a loop its ring (Cannot allocate memory): using epoll\n"
            "b'moved' epoll",
            marks=as_root,
        ),
        pytest.param(SMALL_RING, "uring", marks=as_root),
        (FORKED_WITH_REQUESTS, "[b'survived']"),
        (A_CHILD_THAT_STAYS, "b''"),
        (INTERRUPTED, "interrupted"),
        (INTERRUPTED_IN_ANOTHER_THREAD, "stopped"),
        (LEFT_WITH_EVERYTHING_OPEN, "closed"),
    ],
    ids=[
        "no memory for any ring: epoll takes over with what is watched",
        "no memory for a ring in the middle of a run: epoll takes over",
        "no memory for the ring of another thread: epoll goes on waiting for a socket",
        "memory for a small ring: more completions than it has room for",
        "a forked child leaves the parent's requests alone",
        "a child that stays does not keep connections open",
        "an interrupt ends a sleep",
        "a loop in a thread, and a signal",
        "a loop closed with everything under way",
    ],
)
def test_limits(python, monkeypatch, code, printed):
    monkeypatch.setenv("HOOP_DRIVER", "uring")
    assert python(HEAD + code, "-W", "ignore::DeprecationWarning") == printed + "\n"
