"""Name resolution: the same answers as the socket module, on threads of the loop's own."""

import asyncio
import itertools
import socket
import threading

import pytest

HOSTS = [
    None,
    "127.0.0.1",
    b"127.0.0.1",
    "127.1",
    "0x7f.1",
    "::1",
    "fe80::1%lo",
    "fe80::1%1",
    "::ffff:127.0.0.1",
    "localhost",
    "",
]
PORTS = [None, 0, 80, "80", b"80", "http", "no such service", 1 << 20]
FAMILIES = [socket.AF_UNSPEC, socket.AF_INET, socket.AF_INET6]
KINDS = [0, socket.SOCK_STREAM, socket.SOCK_DGRAM]
FLAGS = [0, socket.AI_PASSIVE, socket.AI_CANONNAME, socket.AI_NUMERICHOST, socket.AI_NUMERICSERV]


def outcome(call, *args):
    try:
        return call(*args)
    except Exception as exc:
        return type(exc), str(exc)


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: repr(host)[:20])
def test_the_answers_are_those_of_the_socket_module(run, host):
    async def main():
        loop = asyncio.get_running_loop()
        # localhost may have no IPv6 address in the hosts file, and a name server takes its time.
        families = FAMILIES if host != "localhost" else [socket.AF_UNSPEC, socket.AF_INET]
        for port, family, kind, flags in itertools.product(PORTS, families, KINDS, FLAGS):
            expected = outcome(socket.getaddrinfo, host, port, family, kind, 0, flags)
            try:
                found = await loop.getaddrinfo(host, port, family=family, type=kind, flags=flags)
            except Exception as exc:
                found = type(exc), str(exc)
            assert found == expected, (host, port, family, kind, flags)

    run(main())


def test_getnameinfo(run):
    async def main():
        flags = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
        assert await asyncio.get_running_loop().getnameinfo(("127.0.0.1", 80), flags) == (
            "127.0.0.1",
            "80",
        )

    run(main())


def test_a_literal_needs_no_thread(run):
    async def main():
        before = threading.active_count()
        await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 80)
        assert threading.active_count() == before

    run(main())


def test_a_lookup_does_not_wait_for_the_default_executor(run):
    async def main():
        loop = asyncio.get_running_loop()
        release = threading.Event()
        busy = [loop.run_in_executor(None, release.wait) for _ in range(64)]
        try:
            assert await loop.getaddrinfo("localhost", 80)
        finally:
            release.set()
        await asyncio.gather(*busy)

    run(main())


def test_a_lookup_can_be_cancelled(run, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args: release.wait())

    async def main():
        lookup = asyncio.ensure_future(asyncio.get_running_loop().getaddrinfo("localhost", 80))
        await asyncio.sleep(0)
        lookup.cancel()
        with pytest.raises(asyncio.CancelledError):
            await lookup
        release.set()

    run(main())
    for thread in threading.enumerate():
        if thread.name.startswith("hoop-dns"):
            thread.join()


def test_a_lookup_on_a_closed_loop_is_refused(new_loop):
    loop = new_loop()
    loop.close()
    lookup = loop.getaddrinfo("localhost", 80)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        lookup.send(None)
