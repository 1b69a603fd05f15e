"""anyio on a hoop loop: its task groups, threads, streams, TLS, processes, files and signals."""

import asyncio
import os
import signal
import socket
import sys
import threading

import pytest

import hoop

anyio = pytest.importorskip("anyio")
from anyio import from_thread, lowlevel, to_thread  # noqa: E402
from anyio.abc import SocketAttribute, UNIXSocketStream  # noqa: E402
from anyio.streams.buffered import BufferedByteReceiveStream  # noqa: E402
from anyio.streams.file import FileReadStream  # noqa: E402
from anyio.streams.stapled import StapledByteStream  # noqa: E402
from anyio.streams.text import TextStream  # noqa: E402
from anyio.streams.tls import TLSAttribute, TLSListener, TLSStream  # noqa: E402


# anyio takes eager tasks from the Python that brought them.
@pytest.fixture(params=["lazy", "eager"] if sys.version_info >= (3, 12) else ["lazy"])
def arun(request, new_loop):
    """A function that has anyio run an async function: anyio.run() with hoop as loop_factory.

    Once as usual, and once with tasks that take their first step at once.
    """

    def arun(function):
        async def main():
            if request.param == "eager":
                asyncio.get_running_loop().set_task_factory(hoop.eager_task_factory)
            assert type(asyncio.get_running_loop()) is hoop.EventLoop
            with anyio.fail_after(15):
                return await function()

        return anyio.run(main, backend="asyncio", backend_options={"loop_factory": new_loop})

    return arun


# ---- tasks and threads -----------------------------------------------------------------------------


def test_task_groups_start_fail_and_cancel(arun):
    async def main():
        seen = []

        async def serve(name, *, task_status):
            try:
                task_status.started(f"{name} is up")
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await lowlevel.checkpoint()
                    seen.append(f"{name} is down")

        async def fail():
            await lowlevel.checkpoint()
            raise ValueError("on purpose")

        async def work():
            async with anyio.create_task_group() as group:
                assert await group.start(serve, "a") == "a is up"
                assert await group.start(serve, "b") == "b is up"
                group.start_soon(fail)

        with pytest.raises(ExceptionGroup) as found:
            await work()
        assert [str(exc) for exc in found.value.exceptions] == ["on purpose"]
        assert sorted(seen) == ["a is down", "b is down"]

        with anyio.move_on_after(0.01) as scope:
            await anyio.sleep_forever()
        assert scope.cancelled_caught
        with pytest.raises(TimeoutError), anyio.fail_after(0.01):
            await anyio.Event().wait()

    arun(main)


def test_memory_streams_limits_and_locks_hand_over_in_order(arun):
    async def main():
        send, receive = anyio.create_memory_object_stream[int](3)
        limiter = anyio.CapacityLimiter(2)
        busy, most, found = 0, 0, []

        async def produce(part):
            async with part:
                for n in range(100):
                    await part.send(n)

        async def consume(part):
            nonlocal busy, most
            async with part:
                async for n in part:
                    async with limiter:
                        busy += 1
                        most = max(most, busy)
                        await lowlevel.checkpoint()
                        busy -= 1
                    found.append(n)

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(produce, send.clone())
                group.start_soon(consume, receive.clone())
            send.close()
            receive.close()
        assert sorted(found) == sorted([*range(100)] * 3)
        assert most == 2

    arun(main)


def test_threads_are_reached_and_reach_back(arun):
    async def main():
        loop = asyncio.get_running_loop()
        ours = threading.get_ident()

        async def in_loop(n):
            await lowlevel.checkpoint()
            assert asyncio.get_running_loop() is loop
            return n * n

        def in_thread(n):
            assert threading.get_ident() != ours
            squared = from_thread.run(in_loop, n)
            return squared + from_thread.run_sync(lambda: 1 if threading.get_ident() == ours else 0)

        found = []

        async def one(n):
            found.append(await to_thread.run_sync(in_thread, n))

        async with anyio.create_task_group() as group:
            for n in range(100):
                group.start_soon(one, n)
        assert sorted(found) == [n * n + 1 for n in range(100)]

        asking = threading.Event()

        def until_cancelled():
            asking.set()
            while True:
                from_thread.check_cancelled()

        with anyio.move_on_after(0.02) as scope:
            await to_thread.run_sync(until_cancelled)
        assert asking.is_set()
        assert scope.cancelled_caught

    arun(main)


def test_a_blocking_portal_serves_other_threads(new_loop):
    async def name_of_loop(n):
        await lowlevel.checkpoint()
        return n, type(asyncio.get_running_loop())

    async def serve(*, task_status):
        task_status.started("started")
        await anyio.sleep_forever()

    options = {"loop_factory": new_loop}
    with from_thread.start_blocking_portal("asyncio", options) as portal:
        futures = [portal.start_task_soon(name_of_loop, n) for n in range(100)]
        assert [future.result(10) for future in futures] == [
            (n, hoop.EventLoop) for n in range(100)
        ]
        future, value = portal.start_task(serve)
        assert value == "started"
        future.cancel()


# ---- streams ---------------------------------------------------------------------------------------


async def echo(stream):
    async with stream:
        async for data in stream:
            await stream.send(data.upper())


async def shout(stream):
    """Send half a megabyte over a stream whose other end echoes in capitals, and read as it comes."""
    data = b"abcdefgh" * 65536

    async def send():
        for at in range(0, len(data), 50_000):
            await stream.send(data[at : at + 50_000])

    async with anyio.create_task_group() as group:
        group.start_soon(send)
        buffered = BufferedByteReceiveStream(stream)
        assert await buffered.receive_exactly(len(data)) == data.upper()
    await stream.send(b"line\nrest")
    assert await buffered.receive_until(b"\n", 100) == b"LINE"
    assert await buffered.receive_exactly(4) == b"REST"


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_streams_echo(arun, security, tmp_path, kind):
    async def main():
        if kind == "tcp":
            listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
            address = listener.extra(SocketAttribute.local_address)
        else:
            listener = await anyio.create_unix_listener(tmp_path / "socket")
        if security.serving:
            listener = TLSListener(listener, security.serving)

        async def client():
            if kind == "unix":
                stream = await anyio.connect_unix(tmp_path / "socket")
                if security.trusting:
                    stream = await TLSStream.wrap(
                        stream, hostname="localhost", ssl_context=security.trusting
                    )
            elif security.trusting:
                stream = await anyio.connect_tcp(*address, ssl_context=security.trusting)
                subject = stream.extra(TLSAttribute.peer_certificate)["subject"]
                assert subject == ((("commonName", "localhost"),),)
            else:
                stream = await anyio.connect_tcp(*address)
            async with stream:
                await shout(stream)

        async with (
            anyio.create_task_group() as handlers,  # which end as their clients do
            anyio.create_task_group() as serving,
        ):
            serving.start_soon(listener.serve, echo, handlers)
            async with anyio.create_task_group() as group:
                for _ in range(5):
                    group.start_soon(client)
            serving.cancel_scope.cancel()
        await listener.aclose()

    arun(main)


def test_half_a_connection_ends_before_the_other(arun):
    async def main():
        async def serve(stream):
            async with stream:
                found = b"".join([data async for data in stream])
                await stream.send(b"you sent %d" % len(found))

        async with (
            await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
            anyio.create_task_group() as group,
        ):
            group.start_soon(listener.serve, serve)
            address = listener.extra(SocketAttribute.local_address)
            async with await anyio.connect_tcp(*address) as stream:
                await stream.send(b"x" * 300_000)
                await stream.send_eof()
                assert b"".join([data async for data in stream]) == b"you sent 300000"
                with pytest.raises(anyio.EndOfStream):
                    await stream.receive()
            group.cancel_scope.cancel()

    arun(main)


def test_datagrams_are_answered(arun):
    async def main():
        async with await anyio.create_udp_socket(local_host="127.0.0.1") as server:
            host, port = server.extra(SocketAttribute.local_address)

            async def serve():
                async for data, sender in server:
                    await server.sendto(data.upper(), *sender)

            async with anyio.create_task_group() as group:
                group.start_soon(serve)
                async with await anyio.create_connected_udp_socket(host, port) as client:
                    for n in range(100):
                        await client.send(b"packet %d" % n)
                        assert await client.receive() == b"PACKET %d" % n
                group.cancel_scope.cancel()

    arun(main)


@pytest.mark.parametrize("waits_for", ["receive", "send"])
def test_a_unix_stream_is_closed_under_a_task_that_waits_for_it(arun, waits_for):
    async def main():
        left, right = socket.socketpair()
        with right:
            stream = await UNIXSocketStream.from_socket(left)

            async def wait():
                more_than_it_takes = b"x" * 10_000_000
                waiting = (
                    stream.receive() if waits_for == "receive" else stream.send(more_than_it_takes)
                )
                with pytest.raises(anyio.ClosedResourceError):
                    await waiting

            async with anyio.create_task_group() as group:
                group.start_soon(wait)
                await anyio.wait_all_tasks_blocked()
                await stream.aclose()

    arun(main)


def test_sockets_are_waited_for_without_a_stream(arun):
    async def main():
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            right.setblocking(False)

            async def fill():
                sent = 0
                while sent < 1_000_000:
                    await anyio.wait_writable(left)
                    sent += left.send(b"x" * (1_000_000 - sent))

            async with anyio.create_task_group() as group:
                group.start_soon(fill)
                found = 0
                while found < 1_000_000:
                    await anyio.wait_readable(right)
                    found += len(right.recv(65536))
            assert found == 1_000_000

    arun(main)


# ---- processes, files, signals -----------------------------------------------------------------------

UPPER = "import sys\nfor line in sys.stdin: print(line.upper(), end='', flush=True)\nsys.exit(3)"


def test_processes_talk_and_end(arun):
    async def main():
        done = await anyio.run_process([sys.executable, "-c", "print('out')"])
        assert (done.returncode, done.stdout, done.stderr) == (0, b"out\n", b"")
        async with await anyio.open_process([sys.executable, "-c", UPPER]) as process:
            text = TextStream(StapledByteStream(process.stdin, process.stdout))
            for n in range(20):
                await text.send(f"line {n}\n")
                assert await text.receive() == f"LINE {n}\n"
            await process.stdin.aclose()
            assert await process.wait() == 3
        async with await anyio.open_process(["sleep", "60"]) as process:
            process.terminate()
            assert await process.wait() == -signal.SIGTERM

    arun(main)


def test_files_are_read_and_written(arun, tmp_path):
    async def main():
        path = anyio.Path(tmp_path / "file")
        async with await anyio.open_file(path, "w") as file:
            await file.writelines(f"line {n}\n" for n in range(1000))
        async with await anyio.open_file(path) as file:
            assert [line async for line in file] == [f"line {n}\n" for n in range(1000)]
        async with await FileReadStream.from_path(path) as stream:
            assert b"".join([data async for data in stream]) == await path.read_bytes()
        await path.rename(tmp_path / "other")
        assert [entry.name async for entry in anyio.Path(tmp_path).iterdir()] == ["other"]

    arun(main)


def test_signals_are_received(arun):
    async def main():
        with anyio.open_signal_receiver(signal.SIGUSR1, signal.SIGUSR2) as signals:
            for number in [signal.SIGUSR1, signal.SIGUSR2] * 3:
                os.kill(os.getpid(), number)
                assert await anext(signals) == number

    arun(main)
