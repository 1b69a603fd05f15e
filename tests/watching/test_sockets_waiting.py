"""How the loop's sock_* methods wait: cancelled, on closed sockets, on numbers that are another's by now."""

import asyncio
import os
import socket
import threading

import pytest
from peers import Recorder, connect, tcp_pair, turns, until


def registered() -> dict[int, int]:
    """How often each descriptor is registered with an epoll descriptor of this process."""
    found: dict[int, int] = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}") != "anon_inode:[eventpoll]":
                continue
            with open(f"/proc/self/fdinfo/{name}") as info:
                for line in info:
                    if line.startswith("tfd:"):
                        fd = int(line.split()[1])
                        found[fd] = found.get(fd, 0) + 1
        except FileNotFoundError:
            pass  # the one with which the directory was read
    return found


def at_most(fd: int, n: int) -> bool:
    return registered().get(fd, 0) <= n


def unix_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected sockets that do not block, with the lowest numbers that are free."""
    a, b = socket.socketpair()
    a.setblocking(False)
    b.setblocking(False)
    return a, b


def anew(number: int) -> tuple[socket.socket, socket.socket]:
    """A socket that has got this free number, and its peer."""
    a, b = unix_pair()
    assert number in (a.fileno(), b.fileno())
    return (a, b) if a.fileno() == number else (b, a)


async def waiting(coro):
    """A task that has come to its wait."""
    task = asyncio.create_task(coro)
    await asyncio.sleep(0)
    return task


async def is_cancelled(task) -> bool:
    await asyncio.wait([task])
    return task.cancelled()


# ---- several who wait ------------------------------------------------------------------------------


def test_two_tasks_receive_from_one_socket(run):
    async def main():
        loop = asyncio.get_running_loop()
        a, b = tcp_pair()
        with a, b:
            tasks = [await waiting(loop.sock_recv(b, 1)) for _ in range(3)]
            a.send(b"12")
            await until(lambda: sum(task.done() for task in tasks) == 2)
            a.send(b"3")
            assert sorted(await asyncio.gather(*tasks)) == [b"1", b"2", b"3"]

    run(main())


def test_a_cancelled_receiver_takes_nothing_from_the_next(run):
    """Neither the bytes, nor the news of them: also when it was woken already."""

    async def main():
        loop = asyncio.get_running_loop()
        a, b = tcp_pair()
        with a, b:
            for _ in range(200):
                first = await waiting(loop.sock_recv(b, 10))
                second = await waiting(loop.sock_recv(b, 10))
                a.send(b"data")
                while not first._fut_waiter.done():
                    await asyncio.sleep(0)
                    if first.done():
                        break
                if first.done():
                    assert first.result() == b"data"
                    second.cancel()
                    assert await is_cancelled(second)
                    continue
                first.cancel()
                assert await second == b"data"
                assert await is_cancelled(first)

    run(main())


@pytest.mark.parametrize("late", range(4))
def test_what_arrives_while_a_receiver_is_cancelled_is_not_lost(run, late):
    async def main():
        loop = asyncio.get_running_loop()
        a, b = tcp_pair()
        with a, b:
            for _ in range(100):
                task = await waiting(loop.sock_recv(b, 10))
                a.send(b"data")
                await turns(late)
                task.cancel()
                if not await is_cancelled(task):
                    assert task.result() == b"data"
                else:
                    assert await loop.sock_recv(b, 10) == b"data"

    run(main())


# ---- cancelled ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("sock_recv", (10,)),
        ("sock_recv_into", (bytearray(10),)),
        ("sock_recvfrom", (10,)),
        ("sock_recvfrom_into", (bytearray(10),)),
        ("sock_sendall", (bytes(8 << 20),)),
    ],
)
def test_a_number_is_free_after_a_cancelled_wait(run, method, arguments):
    """The socket is closed in the turn of the cancellation, and its number goes to another at once."""

    async def main():
        loop = asyncio.get_running_loop()
        for _ in range(100):
            a, b = unix_pair()
            task = await waiting(getattr(loop, method)(a, *arguments))
            number = a.fileno()
            task.cancel()
            a.close()
            b.close()
            receiver, sender = anew(number)
            with receiver, sender:
                receiving = await waiting(loop.sock_recv(receiver, 10))
                assert await is_cancelled(task)
                sender.send(b"x")
                assert await receiving == b"x"

    run(main())


def test_a_cancelled_sendto_ends(run):
    async def main():
        loop = asyncio.get_running_loop()
        a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with a, b:
            a.setblocking(False)
            b.bind("")
            sent = 0
            while True:
                task = await waiting(loop.sock_sendto(a, b"x", b.getsockname()))
                if not task.done():
                    break
                sent += 1
            task.cancel()
            assert await is_cancelled(task)
            b.setblocking(False)
            for _ in range(sent):
                assert b.recv(10) == b"x"
            with pytest.raises(BlockingIOError):
                b.recv(10)

    run(main())


def test_a_cancelled_accept_leaves_the_connection_to_the_next(run):
    async def main():
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.setblocking(False)
            for late in range(4):
                task = await waiting(loop.sock_accept(server))
                with socket.create_connection(server.getsockname()) as peer:
                    await turns(late)
                    task.cancel()
                    if await is_cancelled(task):
                        conn, address = await loop.sock_accept(server)
                    else:
                        conn, address = task.result()
                    assert address == peer.getsockname()
                    conn.close()

    run(main())


def slow_server() -> socket.socket:
    """A listener whose queue is full, so that who connects has to wait."""
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen(0)
    return server


def test_connecting_cancelled_and_begun_anew_at_once(run):
    async def main():
        loop = asyncio.get_running_loop()
        with slow_server() as server:
            fillers = []
            for _ in range(3):
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(server.getsockname())
                fillers.append(filler)
            for number_of_try in range(1000):
                with socket.socket() as sock:
                    sock.setblocking(False)
                    task = await waiting(loop.sock_connect(sock, server.getsockname()))
                    assert not task.done()
                    number = sock.fileno()
                    task.cancel()
                    if number_of_try % 2:
                        assert await is_cancelled(task)
                        assert at_most(number, 0)
                if not number_of_try % 2:
                    assert await is_cancelled(task)
            for filler in fillers:
                filler.close()

    run(main())


def test_connecting_cancelled_while_a_name_is_looked_up(run):
    async def main():
        loop = asyncio.get_running_loop()
        asked = loop.create_future()

        async def getaddrinfo(*args, **keywords):
            asked.set_result(args[0])
            await loop.create_future()

        loop.getaddrinfo = getaddrinfo
        try:
            with socket.socket() as sock:
                sock.setblocking(False)
                task = asyncio.create_task(loop.sock_connect(sock, ("a name", 1)))
                assert await asked == "a name"
                task.cancel()
                assert await is_cancelled(task)
                with pytest.raises(OSError, match="not connected"):
                    sock.getpeername()
        finally:
            del loop.getaddrinfo

    run(main())


def test_many_connections_that_fail(run):
    async def main():
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = server.getsockname()

        async def fail():
            with socket.socket() as sock:
                sock.setblocking(False)
                await loop.sock_connect(sock, address)

        before = loop.counters()["turns"]
        for _ in range(5):
            found = await asyncio.gather(*(fail() for _ in range(200)), return_exceptions=True)
            assert {type(exc) for exc in found} == {ConnectionRefusedError}
        assert loop.counters()["turns"] - before < 5000

    run(main())


def test_what_the_kernel_holds_back_is_had_by_trying(run):
    """SO_RCVLOWAT: of the first few bytes there are no news, but they are there for who asks again."""

    async def main():
        loop = asyncio.get_running_loop()
        a, b = tcp_pair()
        with a, b:
            b.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 10)
            receiving = await waiting(loop.sock_recv(b, 100))
            a.send(b"0123456789")
            assert await receiving == b"0123456789"
            a.send(b"few")  # after less was received than was asked for
            assert await loop.sock_recv(b, 100) == b"few"
            receiving = await waiting(loop.sock_recv(b, 100))
            a.send(b"few")  # after a wait that is cancelled
            await turns(3)
            receiving.cancel()
            assert await is_cancelled(receiving)
            assert await loop.sock_recv_into(b, bytearray(100)) == 3

    run(main())


# ---- closed ------------------------------------------------------------------------------------------


def test_a_socket_closed_while_a_task_waits_is_closed_for_its_peer(run):
    """The task is left hanging, as by asyncio, but nothing keeps the connection open."""

    async def main():
        loop = asyncio.get_running_loop()
        a, b = tcp_pair()
        with b:
            task = await waiting(loop.sock_recv(a, 10))
            await turns(3)
            a.close()
            assert await loop.sock_recv(b, 10) == b""
            task.cancel()
            assert await is_cancelled(task)

    run(main())


def test_closed_in_the_turn_of_the_wait(run):
    async def main():
        loop = asyncio.get_running_loop()
        a, b = tcp_pair()
        with b:
            task = asyncio.create_task(loop.sock_recv(a, 10))
            a.close()
            with pytest.raises(OSError, match="Bad file descriptor"):
                await task

    run(main())


def test_a_number_that_cannot_be_takes_no_memory(loop):
    class Mistaken(socket.socket):
        def fileno(self):
            return 1 << 30

    a, b = unix_pair()
    with (
        Mistaken(fileno=a.detach()) as mistaken,
        b,
        pytest.raises(OSError, match="Bad file descriptor"),
    ):
        loop.run_until_complete(loop.sock_recv(mistaken, 10))


def test_who_waits_for_a_closed_socket_learns_of_it_when_its_number_is_taken(run):
    async def main():
        loop = asyncio.get_running_loop()
        a, b = unix_pair()
        first = await waiting(loop.sock_recv(a, 10))
        second = await waiting(loop.sock_recv(a, 10))
        number = a.fileno()
        a.close()
        b.close()
        receiver, sender = anew(number)
        with receiver, sender:
            third = await waiting(loop.sock_recv(receiver, 10))
            for task in (first, second):
                with pytest.raises(OSError, match="Bad file descriptor"):
                    await task
            assert not third.done()
            sender.send(b"x")
            assert await third == b"x"

    run(main())


def test_a_duplicate_of_a_closed_socket_disturbs_nobody(run):
    """It keeps the closed one's registration in the kernel, and its news come under the old number."""

    async def main():
        loop = asyncio.get_running_loop()
        a, b = unix_pair()
        task = await waiting(loop.sock_recv(a, 10))
        number = a.fileno()
        duplicate = a.dup()
        a.close()
        task.cancel()
        receiver, sender = anew(number)
        with b, receiver, sender, duplicate:
            receiving = await waiting(loop.sock_recv(receiver, 10))
            before = loop.counters()["turns"]
            b.send(b"for the duplicate")
            await asyncio.sleep(0.02)
            assert not receiving.done()
            assert loop.counters()["turns"] - before < 20
            assert await loop.sock_recv(duplicate, 100) == b"for the duplicate"
            sender.send(b"x")
            assert await receiving == b"x"

    run(main())


def test_news_of_a_duplicate_whose_number_is_closed_end_nothing(run):
    """The closed socket was registered for both directions, and its number is nobody's when there is room."""

    async def main():
        loop = asyncio.get_running_loop()
        a, b = tcp_pair()
        c, d = tcp_pair()
        with b, c, d:
            tasks = [
                await waiting(loop.sock_recv(a, 10)),
                await waiting(loop.sock_sendall(a, bytes(8 << 20))),
            ]
            await turns(3)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            receiving = await waiting(loop.sock_recv(c, 10))
            with a.dup():
                a.close()
                received = 0
                while received < 1 << 20:
                    received += len(await loop.sock_recv(b, 1 << 18))
                d.send(b"x")
                assert await receiving == b"x"

    run(main())


def test_who_waits_for_a_closed_socket_learns_of_it_by_a_duplicate_s_news(run):
    async def main():
        loop = asyncio.get_running_loop()
        a, b = tcp_pair()
        with b:
            receiving = await waiting(loop.sock_recv(a, 10))
            sending = await waiting(loop.sock_sendall(a, bytes(8 << 20)))
            await turns(3)
            sending.cancel()
            await asyncio.wait([sending])
            with a.dup():
                a.close()
                received = 0
                while received < 1 << 20:
                    received += len(await loop.sock_recv(b, 1 << 18))
                with pytest.raises(OSError, match="Bad file descriptor"):
                    await receiving

    run(main())


def test_two_sockets_of_one_number(run):
    async def main():
        loop = asyncio.get_running_loop()
        a, b = tcp_pair()
        with a, b:
            same = socket.socket(fileno=b.fileno())
            tasks = [await waiting(loop.sock_recv(sock, 1)) for sock in (b, same, b)]
            before = loop.counters()["turns"]
            await asyncio.sleep(0.02)
            assert loop.counters()["turns"] - before < 20
            a.send(b"123")
            assert sorted(await asyncio.gather(*tasks)) == [b"1", b"2", b"3"]
            same.detach()

    run(main())


# ---- what else watches the descriptor ------------------------------------------------------------------


def test_a_reader_and_a_receiver_are_both_told(run):
    async def main():
        loop = asyncio.get_running_loop()
        a, b = tcp_pair()
        told = []
        with a, b:
            receiving = await waiting(loop.sock_recv(b, 10))
            loop.add_reader(b, told.append, 1)
            a.send(b"x")
            assert await receiving == b"x"
            assert loop.remove_reader(b)
            receiving = await waiting(loop.sock_recv(b, 10))
            assert not loop.remove_reader(b)
            loop.add_writer(b, told.append, 2)
            await until(lambda: 2 in told)
            assert loop.remove_writer(b)
            a.send(b"y")
            assert await receiving == b"y"

    run(main())


def test_a_transport_has_the_descriptor_for_itself(run):
    async def main():
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.setblocking(False)
            a = socket.socket()
            a.setblocking(False)
            connecting = await waiting(loop.sock_connect(a, server.getsockname()))
            conn, _ = await loop.sock_accept(server)
            await connecting
            assert at_most(a.fileno(), 0)
            recorder = Recorder()
            transport = await connect(loop, a, recorder)
            with conn:
                await loop.sock_sendall(conn, b"to the transport")
                await until(lambda: recorder.received == b"to the transport")
                transport.write(b"back")
                assert await loop.sock_recv(conn, 10) == b"back"
                transport.close()
                await until(lambda: recorder.is_lost)
                assert await loop.sock_recv(conn, 10) == b""

    run(main())


def test_what_nobody_waits_for_is_forgotten(run):
    async def main():
        loop = asyncio.get_running_loop()
        a, b = tcp_pair()
        with a, b:
            receiving = await waiting(loop.sock_recv(b, 10))
            a.send(b"x")
            assert await receiving == b"x"
            assert not at_most(b.fileno(), 0)
            for _ in range(10):
                a.send(b"x")
                await asyncio.sleep(0.001)
            assert at_most(b.fileno(), 0)
            got = b""
            while len(got) < 10:
                got += await loop.sock_recv(b, 100)
            receiving = await waiting(loop.sock_recv(b, 10))
            a.send(b"more")
            assert await receiving == b"more"

    run(main())


def test_a_sender_is_not_forgotten_while_nobody_receives(run):
    """News of what arrives are for nobody, and there are many, while a task waits to send."""

    async def main():
        loop = asyncio.get_running_loop()
        a, b = tcp_pair()
        with a, b:
            receiving = await waiting(loop.sock_recv(a, 10))
            b.send(b"x")
            await receiving
            sending = await waiting(loop.sock_sendall(a, bytes(8 << 20)))
            for _ in range(10):
                b.send(b"x")
                await asyncio.sleep(0.001)
            got = 0
            while got < 8 << 20:
                got += len(await loop.sock_recv(b, 1 << 18))
            await sending

    run(main())


# ---- loops and threads -----------------------------------------------------------------------------------


def test_another_thread_goes_on_with_the_loop(loop):
    a, b = tcp_pair()
    with a, b:
        task = loop.create_task(loop.sock_recv(b, 10))
        loop.run_until_complete(turns(3))
        found = []
        a.send(b"x")
        thread = threading.Thread(target=lambda: found.append(loop.run_until_complete(task)))
        thread.start()
        thread.join(10)
        assert found == [b"x"]


def test_a_loop_is_closed_with_tasks_that_wait(new_loop, logged):
    loop = new_loop()
    a, b = tcp_pair()
    with a, b:
        tasks = [loop.create_task(loop.sock_recv(b, 10)) for _ in range(3)]
        loop.run_until_complete(turns(3))
        loop.close()
        a.send(b"x")
        assert not any(task.done() for task in tasks)
        assert registered().get(b.fileno(), 0) == 0


def test_connecting_goes_on_by_hand_after_the_loop_was_closed(new_loop):
    loop = new_loop()
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as sock:
        sock.setblocking(False)
        connecting = loop.sock_connect(sock, server.getsockname())
        future = connecting.send(None)
        loop.run_until_complete(until(future.done))
        loop.close()
        with pytest.raises(StopIteration):
            connecting.send(None)
