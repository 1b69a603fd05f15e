"""EpollDriver and WatchOp: add_reader, add_writer, hang-ups, reused descriptors, fairness, fork."""

import asyncio
import os
import select
import socket

import pytest
from peers import Recorder, connect, outcome, pair, same_as_asyncio, tcp_pair, turns, until


@pytest.fixture
def ends():
    """Two connected, non-blocking sockets."""
    a, b = socket.socketpair()
    a.setblocking(False)
    b.setblocking(False)
    with a, b:
        yield a, b


def test_a_reader_is_called_for_as_long_as_there_is_something_to_read(loop, ends):
    a, b = ends
    calls = []

    async def main():
        loop.add_reader(a.fileno(), calls.append, "called")
        await turns(20)
        assert calls == []
        b.send(b"x")
        await until(lambda: len(calls) >= 5)
        a.recv(1)
        await turns(3)
        n = len(calls)
        await turns(50)
        assert len(calls) <= n + 1
        assert loop.remove_reader(a.fileno()) is True
        assert loop.remove_reader(a.fileno()) is False

    loop.run_until_complete(main())


def send_all(sock):
    """Fill the kernel's buffer."""
    try:
        while True:
            sock.send(b"x" * 1000)
    except BlockingIOError:
        pass


def receive_all(sock):
    """Empty the kernel's buffer."""
    try:
        while sock.recv(65536):
            pass
    except BlockingIOError:
        pass


def test_a_writer_is_called_for_as_long_as_the_kernel_takes_more(loop, ends):
    a, b = ends
    calls = []

    async def main():
        send_all(a)
        loop.add_writer(a.fileno(), calls.append, 1)
        await turns(50)
        assert calls == []
        receive_all(b)
        await until(lambda: len(calls) >= 3)
        assert loop.remove_writer(a.fileno())

    loop.run_until_complete(main())


def test_adding_again_replaces_the_callback(loop, ends):
    a, b = ends
    calls = []

    async def main():
        b.send(b"x")
        first = loop._add_reader(a.fileno(), calls.append, "old")
        loop.add_reader(a.fileno(), calls.append, "new")
        assert first.cancelled()
        await until(lambda: calls)
        assert loop.remove_reader(a.fileno())
        assert "old" not in calls

    loop.run_until_complete(main())


def test_replaced_and_removed_between_readiness_and_the_call(loop, ends):
    """Both are ready in one batch; the first to run changes the other."""
    a, b = ends
    c, d = socket.socketpair()
    calls = []

    async def main():
        def first():
            calls.append("first")
            loop.remove_reader(a.fileno())
            loop.remove_reader(c.fileno())

        loop.add_reader(a.fileno(), first)
        loop.add_reader(c.fileno(), first)
        b.send(b"x")
        d.send(b"x")
        await until(lambda: calls)
        await turns(20)
        assert calls == ["first"]

    with c, d:
        loop.run_until_complete(main())


def test_removed_inside_its_own_callback_and_added_again(loop, ends):
    a, b = ends
    calls = []

    async def main():
        def once():
            calls.append(1)
            assert loop.remove_reader(a.fileno())
            if len(calls) < 5:
                loop.add_reader(a.fileno(), once)

        loop.add_reader(a.fileno(), once)
        b.send(b"x")
        await until(lambda: len(calls) == 5)
        await turns(20)
        assert len(calls) == 5

    loop.run_until_complete(main())


def test_reader_and_writer_on_one_descriptor(loop, ends):
    a, b = ends
    calls = set()

    async def main():
        loop.add_writer(a.fileno(), calls.add, "writer")
        loop.add_reader(a.fileno(), calls.add, "reader")
        await until(lambda: calls)
        assert calls == {"writer"}
        b.send(b"x")
        await until(lambda: len(calls) == 2)
        assert loop.remove_writer(a.fileno())
        calls.clear()
        await until(lambda: calls)
        await turns(10)
        assert calls == {"reader"}
        assert loop.remove_reader(a.fileno())
        calls.clear()
        await turns(10)
        assert calls == set()

    loop.run_until_complete(main())


def test_a_callback_that_raises_stays(loop, ends):
    a, b = ends
    told = []
    loop.set_exception_handler(lambda _, context: told.append(str(context["exception"])))

    async def main():
        def fail():
            raise ValueError("on purpose")

        loop.add_reader(a.fileno(), fail)
        b.send(b"x")
        await until(lambda: len(told) >= 3)
        assert loop.remove_reader(a.fileno())

    loop.run_until_complete(main())
    assert set(told) == {"on purpose"}


def test_a_closed_and_reused_number_never_reaches_the_old_callback(loop):
    """The owner closes without remove_reader, as it should not, and the number is given out again."""

    async def main():
        old, new = [], []
        for _ in range(50):
            a, b = socket.socketpair()
            number = a.fileno()
            loop.add_reader(number, old.append, 1)
            b.send(b"x")  # ready, perhaps reported already
            if len(new) % 2:
                await turns(1)
                old.clear()
            loop.remove_reader(number)
            a.close()
            b.close()
            c, d = socket.socketpair()
            if c.fileno() != number:
                c, d = d, c
            loop.add_reader(c.fileno(), new.append, 1)
            await turns(5)
            assert old == []
            n = len(new)
            d.send(b"x")
            await until(lambda: len(new) > n)  # noqa: B023
            assert old == []
            assert loop.remove_reader(c.fileno())
            c.close()
            d.close()

    loop.run_until_complete(main())


def test_a_number_closed_behind_our_back_can_be_watched_again(loop):
    async def main():
        old, new = [], []
        a, b = socket.socketpair()
        number = a.fileno()
        loop.add_reader(number, old.append, 1)
        a.close()
        b.close()
        c, d = socket.socketpair()
        assert number in (c.fileno(), d.fileno())
        here, there = (c, d) if c.fileno() == number else (d, c)
        with c, d:
            assert loop.remove_reader(number)
            loop.add_reader(number, new.append, 1)
            there.send(b"x")
            await until(lambda: new)
            assert loop.remove_reader(here.fileno())
        assert old == []

    loop.run_until_complete(main())


@pytest.mark.parametrize("method", ["add_reader", "add_writer"])
def test_hang_ups_and_errors_reach_whoever_waits(loop, method):
    async def script(loop):
        found = []
        a, b = tcp_pair()
        while method == "add_writer":
            try:
                a.send(b"x" * 1000)
            except BlockingIOError:
                break
        getattr(loop, method)(a.fileno(), found.append, 1)
        await turns(5)
        before = bool(found)
        b.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        b.close()
        await until(lambda: found)
        getattr(loop, method.replace("add", "remove"))(a.fileno())
        a.close()
        return before

    assert same_as_asyncio(loop, script) is False


def test_the_end_of_a_pipe_is_told_to_its_reader(loop):
    async def main():
        r, w = os.pipe()
        calls = []
        loop.add_reader(r, calls.append, 1)
        os.close(w)
        await until(lambda: len(calls) > 2)
        loop.remove_reader(r)
        os.close(r)

    loop.run_until_complete(main())


def test_a_firehose_does_not_starve_a_hundred_pings(loop):
    """Counted in turns: between two answers of any ping, the firehose is read a bounded number of times."""

    async def main():
        reads = [0]
        hose, source = tcp_pair()
        hose_protocol = Recorder(data_received=lambda p, data: reads.__setitem__(0, reads[0] + 1))
        await connect(loop, hose, hose_protocol)
        block = memoryview(bytes(1 << 20))

        def pour():
            try:
                source.send(block)
            except BlockingIOError:
                pass

        loop.add_writer(source.fileno(), pour)
        echoes = [Recorder(data_received=lambda p, d: p.transport.write(d)) for _ in range(100)]
        peers = [(await pair(loop, echo))[1] for echo in echoes]
        await until(lambda: reads[0] > 10)
        for _ in range(10):
            began = reads[0], loop.counters()["turns"]
            waiting = set(peers)
            for peer in peers:
                peer.send(b"ping")
            while waiting:
                await asyncio.sleep(0)
                for peer in select.select(list(waiting), [], [], 0)[0]:
                    assert peer.recv(10) == b"ping"
                    waiting.discard(peer)
            assert loop.counters()["turns"] - began[1] < 200
            assert reads[0] - began[0] < 100
        assert reads[0] > 20
        loop.remove_writer(source.fileno())
        source.close()
        for peer in peers:
            peer.close()
        await until(lambda: all(p.is_lost for p in [*echoes, hose_protocol]))

    loop.run_until_complete(main())


@pytest.mark.parametrize("act", ["close", "remove", "drop"])
def test_a_forked_child_does_not_take_the_parents_descriptors_from_epoll(loop, ends, act):
    a, b = ends
    calls = []

    async def main():
        loop.add_reader(a.fileno(), calls.append, 1)
        await turns(2)

    loop.run_until_complete(main())
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if act == "close":
                loop.close()
            elif act == "remove":
                loop.remove_reader(a.fileno())
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0

    async def after():
        b.send(b"x")
        await until(lambda: calls)
        assert loop.remove_reader(a.fileno())

    loop.run_until_complete(after())


def test_a_forked_child_may_not_run_the_parents_loop_but_one_of_its_own(loop, new_loop):
    r, w = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(w, str(outcome(loop.run_forever)).encode())
            own = new_loop()
            os.write(w, own.run_until_complete(asyncio.sleep(0, b"own loop")))
        except BaseException as exc:
            os.write(w, repr(exc).encode())
        finally:
            os._exit(0)
    os.close(w)
    with os.fdopen(r) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    assert text.startswith("('RuntimeError'")
    assert text.endswith("own loop")
