"""Prints the events that audit hooks (PEP 578) see while a loop does this and that.

The argument names the loop: `python audited.py asyncio` (or `epoll`, `uring`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import tempfile

import hoop

LOCAL = "127.0.0.1"
FAMILIES = ("open", "fcntl", "os", "signal", "socket", "subprocess")
PLAIN = (int, str, type(None))

events: list | None = None


def comparable(value):
    """Without what differs from run to run: ports, flags, objects."""
    if isinstance(value, tuple):
        return [comparable(one) for one in value]
    if isinstance(value, list):
        return ["list", *map(comparable, value)]
    if isinstance(value, bytes):
        return ["bytes", *value]
    if type(value) is int and value > 1023:
        return "number"
    return value if type(value) in PLAIN else type(value).__name__


def hook(name, args):
    if events is not None and name.partition(".")[0] in FAMILIES:
        # Descriptors and process ids are small numbers, and other ones each time.
        args = args[1:] if name in ("open", "os.kill") else args
        events.append([name, comparable(args)])


class Answers(asyncio.Protocol):
    def connection_made(self, transport):
        assert transport.get_extra_info("socket") is not None
        transport.write(b"x")
        transport.close()


class Tells(asyncio.DatagramProtocol):
    def __init__(self):
        self.received = asyncio.get_running_loop().create_future()

    def datagram_received(self, data, addr):
        if not self.received.done():
            self.received.set_result(data)


class Child(asyncio.SubprocessProtocol):
    def __init__(self):
        self.lost = asyncio.get_running_loop().create_future()

    def connection_lost(self, exc):
        self.lost.set_result(None)


def made(*args, bound=False):
    sock = socket.socket(*args)
    sock.setblocking(False)
    if bound:
        sock.bind((LOCAL, 0))
    return sock


async def talk(server, reader, writer):
    assert await reader.read() == b"x"
    writer.close()
    await writer.wait_closed()
    server.close()


async def connect(loop):
    server = await loop.create_server(Answers, LOCAL, 0)
    await talk(server, *await asyncio.open_connection(*server.sockets[0].getsockname()))


async def connect_by_name(loop):
    server = await loop.create_server(Answers, "localhost", 0, family=socket.AF_INET)
    port = server.sockets[0].getsockname()[1]
    await talk(server, *await asyncio.open_connection("localhost", port, family=socket.AF_INET))


async def connect_with_all_options(loop):
    server = await loop.create_server(Answers, LOCAL, 0)
    port = server.sockets[0].getsockname()[1]
    options = {"local_addr": (LOCAL, 0), "happy_eyeballs_delay": 5}
    await talk(server, *await asyncio.open_connection(LOCAL, port, **options))


async def be_refused(loop):
    with made(bound=True) as sock, contextlib.suppress(ConnectionRefusedError):
        await asyncio.open_connection(*sock.getsockname())


async def connect_unix(loop):
    server = await loop.create_unix_server(Answers, "./stream")
    await talk(server, *await asyncio.open_unix_connection("./stream"))
    server = await loop.create_unix_server(Answers, "./stream")
    server.close()


async def connect_a_given_socket(loop):
    ours, theirs = socket.socketpair()
    one, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    other, _ = await loop.connect_accepted_socket(asyncio.Protocol, theirs)
    one.write(b"x")
    one.write_eof()
    one.close()
    other.close()
    await asyncio.sleep(0)


async def send_datagrams(loop):
    server, protocol = await loop.create_datagram_endpoint(Tells, local_addr=(LOCAL, 0))
    address = server.get_extra_info("sockname")
    client, _ = await loop.create_datagram_endpoint(Tells, remote_addr=address)
    client.sendto(b"x")
    client.sendto(b"x", address)
    server.sendto(b"x", address)
    server.sendto(b"x", ("localhost", address[1]))
    await protocol.received
    client.close()
    server.close()


async def send_unix_datagrams(loop):
    unix = {"family": socket.AF_UNIX}
    server, protocol = await loop.create_datagram_endpoint(Tells, local_addr="./datagram", **unix)
    client, _ = await loop.create_datagram_endpoint(Tells, remote_addr="./datagram", **unix)
    client.sendto(b"x")
    server.sendto(b"x", "./datagram")
    await protocol.received
    client.close()
    server.close()


async def use_sockets(loop):
    with made(bound=True) as listening, made() as sock, made() as named:
        listening.listen()
        port = listening.getsockname()[1]
        await loop.sock_connect(sock, (LOCAL, port))
        peer, _ = await loop.sock_accept(listening)
        await loop.sock_connect(named, ("localhost", port))
        with peer:
            await loop.sock_sendall(sock, b"abcdefghij")
            assert await loop.sock_recv(peer, 5) == b"abcde"
            assert await loop.sock_recv_into(peer, bytearray(5)) == 5


async def use_datagram_sockets(loop):
    with made(socket.AF_INET, socket.SOCK_DGRAM, bound=True) as sock:
        await loop.sock_sendto(sock, b"x", sock.getsockname())
        await loop.sock_sendto(sock, b"x", ("localhost", sock.getsockname()[1]))
        await loop.sock_recvfrom(sock, 5)
        await loop.sock_recvfrom_into(sock, bytearray(5))


async def send_files(loop):
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with theirs, open("file", "w+b") as file:
        file.write(b"x")
        file.flush()
        await loop.sock_sendfile(ours, file)
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        await loop.sendfile(transport, file)
        transport.close()
        await asyncio.sleep(0)


async def use_pipes(loop):
    reading, writing = os.pipe()
    writer, _ = await loop.connect_write_pipe(asyncio.Protocol, os.fdopen(writing, "wb", 0))
    reader, _ = await loop.connect_read_pipe(asyncio.Protocol, os.fdopen(reading, "rb", 0))
    writer.write(b"x")
    writer.close()
    reader.close()
    await asyncio.sleep(0)


async def watch_descriptors(loop):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        loop.add_reader(ours, int)
        loop.add_writer(ours, int)
        loop.remove_reader(ours)
        loop.remove_writer(ours)


async def resolve(loop):
    await loop.getaddrinfo("localhost", 80)
    await loop.getaddrinfo(LOCAL, 80, type=socket.SOCK_STREAM)
    await loop.getaddrinfo("::1", "80")
    await loop.getaddrinfo(b"127.0.0.1", None)
    await loop.getaddrinfo(None, 80)
    for name in ("127.0.0.1.invalid", "1:2", "1" * 300):  # they look like addresses and are none
        with contextlib.suppress(OSError, UnicodeError):
            await loop.getaddrinfo(name, 80, flags=socket.AI_NUMERICHOST)
    await loop.getnameinfo((LOCAL, 80))
    await loop.getnameinfo((LOCAL, 80), socket.NI_NUMERICHOST)


async def run_children(loop):
    child = await asyncio.create_subprocess_exec("/bin/sleep", "9", cwd="/", env={"A": "B"})
    child.send_signal(signal.SIGCONT)
    child.terminate()
    await child.wait()
    child = await asyncio.create_subprocess_shell("exec sleep 9", stdout=asyncio.subprocess.PIPE)
    child.kill()
    await child.communicate()
    with contextlib.suppress(ProcessLookupError):
        child.kill()


async def make_children_in_all_ways(loop):
    for options in (
        {},
        {"close_fds": False},
        {"close_fds": False, "env": {"A": "B"}},
        {"close_fds": False, "cwd": "/"},
        {"close_fds": False, "umask": 0o77},
        {"close_fds": False, "start_new_session": True},
        {"close_fds": False, "process_group": 0},
        {"close_fds": False, "stdin": asyncio.subprocess.DEVNULL},
        {"close_fds": False, "executable": "/bin/true"},
        {"pass_fds": (1,)},
        {"preexec_fn": int},
    ):
        await (await asyncio.create_subprocess_exec("true", **options)).wait()
        await (await asyncio.create_subprocess_exec("/bin/true", "x", **options)).wait()
    await (await asyncio.create_subprocess_exec(b"/bin/true")).wait()


async def make_no_child(loop):
    for program in ("/does/not/exist", "does-not-exist"):
        with contextlib.suppress(FileNotFoundError):
            await asyncio.create_subprocess_exec(program)


async def close_a_child(loop):
    transport, protocol = await loop.subprocess_exec(Child, "/bin/cat")
    transport.close()
    await protocol.lost


async def handle_signals(loop):
    handled = loop.create_future()
    loop.add_signal_handler(signal.SIGUSR1, handled.set_result, None)
    os.kill(os.getpid(), signal.SIGUSR1)
    await handled
    loop.remove_signal_handler(signal.SIGUSR1)


ACTIONS = [
    *(connect, connect_by_name, connect_with_all_options, be_refused, connect_unix),
    *(connect_a_given_socket, send_datagrams, send_unix_datagrams, use_sockets),
    *(use_datagram_sockets, send_files, use_pipes, watch_descriptors, resolve, run_children),
    *(make_children_in_all_ways, make_no_child, close_a_child, handle_signals),
]


async def main():
    global events
    loop = asyncio.get_running_loop()
    await loop.getaddrinfo("localhost", 80)  # the first one opens files
    told = {}
    for action in ACTIONS:
        events = []
        await action(loop)
        told[action.__name__], events = events, None
    print(json.dumps(told))


if __name__ == "__main__":
    which = sys.argv[1]
    sys.addaudithook(hook)

    def new_loop():
        return asyncio.SelectorEventLoop() if which == "asyncio" else hoop.new_event_loop(which)

    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=new_loop) as runner:
        os.chdir(folder)
        runner.run(main())
        os.chdir("/")
