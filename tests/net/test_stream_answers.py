"""When the answers of many connections that are served in one turn are with the kernel.

The rule is in outbox.py: on servers seen to be quick they may wait for each other, for nothing else.
"""

import asyncio
import socket
import time

import pytest
from leaves import SHOWS, SLOW_S, hold_up, there
from peers import Recorder, end, turns, until

import hoop

# ---- by callbacks ----


class Answering:
    """Some connections of one server, whose protocols answer; what happens in which order."""

    def __init__(self, loop, count, answer):
        self.loop = loop
        self.count = count
        self.answer = answer
        self.order = []

    async def __aenter__(self):
        self.protocols = []

        def make():
            self.protocols.append(Recorder(data_received=self.answer))
            return self.protocols[-1]

        self.server = await self.loop.create_server(make, "127.0.0.1", 0)
        address = self.server.sockets[0].getsockname()
        self.peers = [socket.create_connection(address) for _ in range(self.count)]
        await until(lambda: sum(p.transport is not None for p in self.protocols) == self.count)
        by_name = {peer.getsockname(): peer for peer in self.peers}
        for protocol in self.protocols:
            protocol.peer = by_name[protocol.transport.get_extra_info("peername")]
        return self

    async def ask(self):
        """Have all connections served, in one turn if the kernel is so kind."""
        for protocol in self.protocols:
            protocol.asked = len(protocol.received)
            protocol.peer.send(b"?")
        await until(lambda: all(len(p.received) > p.asked for p in self.protocols))

    async def __aexit__(self, *_):
        for peer in self.peers:
            peer.close()
        await until(lambda: all(p.is_lost for p in self.protocols))
        await end(self.server)


def test_answers_to_many_are_there_before_anything_else_runs(loop):
    early, late = [], []

    def answer(protocol, data):
        loop.call_soon(lambda: late.append(there(protocol.peer) or protocol.early))
        protocol.transport.write(b"answer")
        protocol.early = there(protocol.peer)
        early.append(protocol.early)

    async def main():
        async with Answering(loop, 5, answer) as served:
            for n in range(20):
                early.clear()
                await served.ask()
                await turns(1)
                if n < 2:
                    assert early == [b"answer"] * 5
            assert late == [b"answer"] * 100
            if loop._driver_name() == "epoll":
                assert early == [b"answer"] * 5

    loop.run_until_complete(main())


def test_a_server_whose_callbacks_go_on_for_long_is_not_made_to_wait(loop):
    early = []

    def answer(protocol, data):
        protocol.transport.write(b"answer")
        early.append(there(protocol.peer))
        hold_up()

    async def main():
        async with Answering(loop, 3, answer) as served:
            for _ in range(15):
                await served.ask()
            assert early == [b"answer"] * 45

    loop.run_until_complete(main())


def test_a_server_that_was_trusted_and_goes_on_for_long_is_not_trusted_again_soon(loop):
    early = []
    slow = False

    def answer(protocol, data):
        protocol.transport.write(b"answer")
        if slow:
            early.append(there(protocol.peer))
            hold_up()

    async def main():
        nonlocal slow
        async with Answering(loop, 3, answer) as served:
            for _ in range(20):
                await served.ask()
                for peer in served.peers:
                    assert peer.recv(100) == b"answer"
            slow = True
            await served.ask()
            for peer in served.peers:
                if not early or early != [b"answer"] * 3:
                    there(peer)
            early.clear()
            for _ in range(5):
                await served.ask()
            assert early == [b"answer"] * 15

    loop.run_until_complete(main())


# ---- by tasks ----


def look(protocol):
    """All that the peer has got of the answer by now."""
    protocol.got += there(protocol.peer)
    return protocol.got


class AnsweringByTasks(Answering):
    """The same, but each request makes a task, which answers in its first step."""

    def __init__(self, loop, step, between=None, count=4):
        super().__init__(loop, count, self.serve)
        self.step = step
        self.between = between

    def serve(self, protocol, data):
        self.tasks.append(self.loop.create_task(self.step(self, protocol)))
        if self.between and len(self.tasks) == 2:
            self.loop.call_soon(self.between, self)

    async def ask(self):
        self.tasks = []
        self.order = []  # of those that have begun to answer
        self.early = []  # what the peer had got then
        for protocol in self.protocols:
            there(protocol.peer)
            protocol.got = b""
        await super().ask()
        await asyncio.gather(*self.tasks)
        await turns(1)

    def reply(self, protocol, *writes):
        for data in writes:
            protocol.transport.write(data)
        self.order.append(protocol)
        self.early.append(look(protocol))

    async def ask_until(self, is_seen):
        """Until it is so. A busy machine may make a server look as if it were slow."""
        for _ in range(1000):
            await self.ask()
            if is_seen():
                return
        raise AssertionError("it was never seen")

    async def learn_to_wait(self):
        await self.ask_until(lambda: b"" in self.early)


def test_what_tasks_answer_waits_for_others_of_them_and_for_nothing_else(loop):
    seen = []

    def between(served):
        seen.extend(look(protocol) for protocol in served.order)

    async def step(served, protocol):
        served.reply(protocol, b"answer")

    async def main():
        async with AnsweringByTasks(loop, step, between) as served:
            await served.ask()
            assert served.early == [b"answer"] * 4
            await served.ask_until(lambda: served.early[:2] == [b"", b""])
            assert all(look(protocol) == b"answer" for protocol in served.order)
        assert set(seen) == {b"answer"}

    loop.run_until_complete(main())


def test_what_tasks_answer_is_there_before_a_task_that_serves_nobody_runs(loop):
    seen = set()

    async def step(served, protocol):
        served.reply(protocol, b"answer")

    async def main():
        async with AnsweringByTasks(loop, step) as served:

            async def stand_by():
                while True:
                    seen.update(look(protocol) for protocol in served.order)
                    await asyncio.sleep(0)

            served.order = []
            standing_by = loop.create_task(stand_by())
            await served.learn_to_wait()
            standing_by.cancel()
        assert seen == {b"answer"}

    loop.run_until_complete(main())


def test_a_task_that_goes_on_for_long_after_its_answer_is_not_trusted_again_soon(loop):
    slow = False

    async def step(served, protocol):
        served.reply(protocol, b"answer")
        if slow:
            hold_up()

    async def main():
        nonlocal slow
        async with AnsweringByTasks(loop, step) as served:
            await served.learn_to_wait()
            slow = True
            for _ in range(3):  # unless it was so busy here that trust was lost before
                await served.ask()
            for _ in range(10):
                await served.ask()
                assert served.early == [b"answer"] * 4
            slow = False
            for _ in range(10):
                await served.ask()
                assert served.early == [b"answer"] * 4

    loop.run_until_complete(main())


def test_tasks_that_compute_for_long_before_they_answer_are_never_made_to_wait(loop):
    async def step(served, protocol):
        hold_up()
        served.reply(protocol, b"answer")

    async def main():
        async with AnsweringByTasks(loop, step) as served:
            for _ in range(20):
                await served.ask()
                assert served.early == [b"answer"] * 4

    loop.run_until_complete(main())


def test_a_task_that_blocks_after_its_answer_is_not_trusted_again_soon(loop):
    slow = False

    async def step(served, protocol):
        served.reply(protocol, b"answer")
        if slow:
            time.sleep(SLOW_S)

    async def main():
        nonlocal slow
        async with AnsweringByTasks(loop, step) as served:
            await served.learn_to_wait()
            slow = True
            for _ in range(3):
                await served.ask()
            for _ in range(10):
                await served.ask()
                assert served.early == [b"answer"] * 4

    loop.run_until_complete(main())


def test_the_answers_of_asyncios_own_tasks_wait_too(loop):
    class Served(AnsweringByTasks):
        def serve(self, protocol, data):
            protocol.asked_for.set_result(None)

    async def answer_all(served, protocol):
        while True:
            await protocol.asked_for
            protocol.asked_for = loop.create_future()
            served.reply(protocol, b"answer")

    async def main():
        async with Served(loop, None) as served:
            tasks = []
            for protocol in served.protocols:
                protocol.asked_for = loop.create_future()
                tasks.append(asyncio.Task(answer_all(served, protocol), loop=loop))
            await turns(1)
            await served.learn_to_wait()
            await turns(2)
            assert [look(protocol) for protocol in served.order] == [b"answer"] * 4
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    loop.run_until_complete(main())


def test_what_waits_as_an_answer_is_sent_once_it_has_waited_for_a_while(loop):
    async def step(served, protocol):
        served.reply(protocol, b"answer")
        if served.is_long:
            hold_up(0.0008)  # not yet too long
            served.late.append([look(other) for other in served.order[:-1]])

    async def main():
        async with AnsweringByTasks(loop, step) as served:
            served.late = []
            served.is_long = False
            await served.learn_to_wait()
            served.is_long = True
            await served.ask()
            for answers in served.late:
                assert answers == [b"answer"] * len(answers)

    loop.run_until_complete(main())


def test_only_the_first_write_of_a_task_waits(loop):
    async def step(served, protocol):
        served.reply(protocol, b"answer")
        if served.goes_on:
            for n in range(3):
                protocol.transport.write(b"%d" % n)
                assert look(protocol) == b"answer012"[: 7 + n]
            for n in range(3, 6):
                await asyncio.sleep(0)
                protocol.transport.write(b"%d" % n)
                await asyncio.sleep(0)
                assert look(protocol) == b"answer012345"[: 7 + n]

    async def main():
        async with AnsweringByTasks(loop, step) as served:
            served.goes_on = False
            await served.learn_to_wait()
            served.goes_on = True
            await served.ask()

    loop.run_until_complete(main())


def test_head_and_body_wait_as_one_answer(loop):
    async def step(served, protocol):
        served.reply(protocol, b"head", b"body")
        if served.goes_on:
            for n in range(3):
                protocol.transport.write(b"%d" % n)
                assert look(protocol) == b"headbody012"[: 9 + n]

    async def main():
        async with AnsweringByTasks(loop, step) as served:
            served.goes_on = False
            await served.ask()
            assert served.early == [b"headbody"] * 4
            await served.learn_to_wait()
            served.goes_on = True
            await served.ask()

    loop.run_until_complete(main())


def test_a_task_that_was_not_woken_by_what_came_never_waits(loop):
    async def step(served, protocol):
        await asyncio.sleep(0)  # as a database would wake it
        served.reply(protocol, b"answer")

    async def main():
        async with AnsweringByTasks(loop, step) as served:
            for _ in range(60):
                await served.ask()
                assert served.early == [b"answer"] * 4

    loop.run_until_complete(main())


@pytest.mark.parametrize("way", SHOWS)
def test_whatever_would_show_that_an_answer_waits_has_it_sent(loop, way):
    async def step(served, protocol):
        served.reply(protocol, b"answer")
        if served.shows:
            assert SHOWS[way](protocol.transport)
            assert look(protocol) == b"answer"

    async def main():
        async with AnsweringByTasks(loop, step) as served:
            served.shows = False
            await served.learn_to_wait()
            served.shows = True
            await served.ask()

    loop.run_until_complete(main())


@pytest.mark.parametrize("library", [asyncio, hoop], ids=["asyncio", "hoop"])
def test_what_many_servers_of_streams_drained_has_left(loop, library):
    early = []

    async def serve(reader, writer):
        peer = by_name[writer.get_extra_info("peername")]
        while await reader.readexactly(1) != b".":
            writer.write(b"answer")
            await writer.drain()
            early.append(there(peer))
        writer.close()

    by_name = {}

    async def main():
        server = await library.start_server(serve, "127.0.0.1", 0)
        for _ in range(4):
            peer = socket.create_connection(server.sockets[0].getsockname())
            by_name[peer.getsockname()] = peer
        for n in range(60):
            for peer in by_name.values():
                peer.send(b"?")
            await until(lambda n=n: len(early) == 4 * n + 4)
        assert set(early) == {b"answer"}
        for peer in by_name.values():
            peer.send(b".")
            await asyncio.to_thread(peer.recv, 1)
            peer.close()
        await end(server)

    loop.run_until_complete(main())
