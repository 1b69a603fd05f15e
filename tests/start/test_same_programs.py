"""`import hoop as asyncio` runs the kinds of program that CPython's documentation of asyncio shows.

Each prints the same on hoop, with either driver, and on asyncio.
"""

from __future__ import annotations

import contextlib
import io
import sys
import textwrap

import pytest

import hoop

# A title -> the program of that title.
PROGRAMS = {
    "hello world": """
        async def main():
            print("hello")
            await asyncio.sleep(0.001)
            print("world")

        asyncio.run(main())
    """,
    "chained coroutines": """
        async def first():
            await asyncio.sleep(0)
            return 20

        async def second(number):
            await asyncio.sleep(0)
            return number + 1

        async def main():
            print(2 * await second(await first()))

        asyncio.run(main())
    """,
    "tasks": """
        async def say(what, turns):
            for _ in range(turns):
                await asyncio.sleep(0)
            print(what)
            return turns

        async def main():
            slow = asyncio.create_task(say("slow", 5), name="the slow one")
            quick = asyncio.create_task(say("quick", 2))
            background = {slow}
            slow.add_done_callback(background.discard)
            print(await slow, await quick, slow.get_name(), background)
            print(asyncio.current_task() in asyncio.all_tasks(), slow in asyncio.all_tasks())

        asyncio.run(main())
    """,
    "cancelling": """
        async def forever():
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError as exc:
                print("cleaning up", exc.args)
                raise

        async def main():
            task = asyncio.create_task(forever())
            await asyncio.sleep(0)
            task.cancel("enough")
            try:
                await task
            except asyncio.CancelledError:
                print("cancelled", task.cancelled(), task.cancelling())

        asyncio.run(main())
    """,
    "task group": """
        async def square(number):
            await asyncio.sleep(0)
            return number * number

        async def fail():
            raise ValueError("no")

        async def main():
            async with asyncio.TaskGroup() as group:
                made = [group.create_task(square(n)) for n in range(4)]
            print([task.result() for task in made])
            try:
                async with asyncio.TaskGroup() as group:
                    waits = group.create_task(asyncio.sleep(3600))
                    group.create_task(fail())
            except* ValueError as exc:
                print(exc.exceptions, waits.cancelled())

        asyncio.run(main())
    """,
    "timeouts": """
        async def main():
            try:
                async with asyncio.timeout(0.001) as limit:
                    await asyncio.sleep(3600)
            except TimeoutError:
                print("too late", limit.expired())
            async with asyncio.timeout(None) as limit:
                limit.reschedule(asyncio.get_running_loop().time() + 3600)
            print(limit.expired(), asyncio.TimeoutError is TimeoutError)
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + 3600):
                print("in time")

        asyncio.run(main())
    """,
    "wait_for and shield": """
        async def work():
            await asyncio.sleep(0.01)
            return "worked"

        async def main():
            task = asyncio.create_task(work())
            try:
                await asyncio.wait_for(asyncio.shield(task), 0)
            except asyncio.TimeoutError:
                print("timed out", task.done())
            print(await asyncio.wait_for(task, 3600))

        asyncio.run(main())
    """,
    "gather": """
        async def factorial(name, number):
            product = 1
            for i in range(2, number + 1):
                print(f"{name}: {i}")
                await asyncio.sleep(0)
                product *= i
            if number == 5:
                raise ArithmeticError(product)
            return product

        async def main():
            print(await asyncio.gather(*(factorial(f"to {n}", n) for n in (2, 3, 4))))
            found = await asyncio.gather(factorial("x", 5), factorial("y", 1), return_exceptions=True)
            print(found)

        asyncio.run(main())
    """,
    "wait": """
        async def after(turns):
            for _ in range(turns):
                await asyncio.sleep(0)
            return turns

        async def main():
            tasks = [asyncio.create_task(after(n)) for n in (1, 20)]
            done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            print([t.result() for t in done], len(pending))
            done, pending = await asyncio.wait(tasks)
            print(sorted(t.result() for t in done), pending)

        asyncio.run(main())
    """,
    "as completed": """
        async def after(turns):
            for _ in range(turns):
                await asyncio.sleep(0)
            return turns

        async def main():
            for earliest in asyncio.as_completed([after(9), after(1), after(5)]):
                print(await earliest)

        asyncio.run(main())
    """,
    "to_thread": """
        import contextvars, threading
        name = contextvars.ContextVar("name")

        def block(word, *, twice):
            return word * (1 + twice), name.get(), threading.current_thread() is threading.main_thread()

        async def main():
            name.set("kept")
            print(await asyncio.gather(asyncio.to_thread(block, "ab", twice=True), asyncio.sleep(0, 7)))

        asyncio.run(main())
    """,
    "run_in_executor": """
        import concurrent.futures

        async def main():
            loop = asyncio.get_running_loop()
            print(await loop.run_in_executor(None, sum, range(10)))
            with concurrent.futures.ThreadPoolExecutor() as pool:
                print(await loop.run_in_executor(pool, pow, 2, 10))

        asyncio.run(main())
    """,
    "run_coroutine_threadsafe": """
        async def double(number):
            await asyncio.sleep(0)
            return 2 * number

        async def main():
            loop = asyncio.get_running_loop()

            def ask():
                return asyncio.run_coroutine_threadsafe(double(21), loop).result(10)

            print(await asyncio.to_thread(ask))

        asyncio.run(main())
    """,
    "queue and its workers": """
        async def worker(name, queue, done):
            while True:
                done.append((name, await queue.get()))
                await asyncio.sleep(0)
                queue.task_done()

        async def main():
            queue, done = asyncio.Queue(), []
            for number in range(6):
                queue.put_nowait(number)
            workers = [asyncio.create_task(worker(n, queue, done)) for n in "abc"]
            await queue.join()
            for task in workers:
                task.cancel()
            print(await asyncio.gather(*workers, return_exceptions=True))
            print(done, queue.empty())
            try:
                queue.get_nowait()
            except asyncio.QueueEmpty:
                print("empty")

        asyncio.run(main())
    """,
    "queues in order": """
        async def main():
            for kind in (asyncio.LifoQueue, asyncio.PriorityQueue):
                queue = kind(3)
                for number in (2, 1, 3):
                    await queue.put(number)
                try:
                    queue.put_nowait(4)
                except asyncio.QueueFull:
                    print("full", queue.qsize(), queue.maxsize)
                print([await queue.get() for _ in range(3)])

        asyncio.run(main())
    """,
    "lock, event and condition": """
        async def main():
            lock, event, condition = asyncio.Lock(), asyncio.Event(), asyncio.Condition()
            told = []

            async def in_turn(name):
                async with lock:
                    told.append(name)
                    await asyncio.sleep(0)
                    told.append(name)
                await event.wait()
                async with condition:
                    await condition.wait_for(lambda: len(told) > 4)
                return name

            tasks = [asyncio.create_task(in_turn(name)) for name in "ab"]
            while len(told) < 4:
                await asyncio.sleep(0)
            event.set()
            await asyncio.sleep(0)
            async with condition:
                told.append("go")
                condition.notify_all()
            print(await asyncio.gather(*tasks), told, lock.locked(), event.is_set())

        asyncio.run(main())
    """,
    "semaphore and barrier": """
        async def main():
            semaphore, barrier, inside, most = asyncio.Semaphore(2), asyncio.Barrier(3), 0, 0

            async def limited():
                nonlocal inside, most
                async with semaphore:
                    inside += 1
                    most = max(most, inside)
                    await asyncio.sleep(0)
                    inside -= 1
                async with barrier as position:
                    return position

            found = await asyncio.gather(*(limited() for _ in range(3)))
            print(sorted(found), most, barrier.n_waiting, barrier.broken)
            bounded = asyncio.BoundedSemaphore(1)
            try:
                bounded.release()
            except ValueError as exc:
                print(exc)
            await barrier.abort()
            try:
                await barrier.wait()
            except asyncio.BrokenBarrierError:
                print("broken")

        asyncio.run(main())
    """,
    "streams: echo": """
        async def echo(reader, writer):
            writer.write(await reader.readline())
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        async def main():
            server = await asyncio.start_server(echo, "127.0.0.1", 0)
            async with server:
                reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                writer.write(b"Hello World!\\n")
                await writer.drain()
                print(await reader.readline(), await reader.read(), reader.at_eof())
                writer.close()
                await writer.wait_closed()
            print(server.is_serving())

        asyncio.run(main())
    """,
    "streams: the ends": """
        async def talk(reader, writer):
            writer.write(b"a,b,rest")
            writer.write_eof()
            writer.close()
            await writer.wait_closed()

        async def main():
            async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
                reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                print(await reader.readuntil(b","), await reader.readexactly(2))
                try:
                    await reader.readexactly(9)
                except asyncio.IncompleteReadError as exc:
                    print(exc.partial, exc.expected)
                writer.close()
                await writer.wait_closed()

        asyncio.run(main())
    """,
    "protocols: TCP echo": """
        class Echo(asyncio.Protocol):
            def connection_made(self, transport):
                self.transport = transport

            def data_received(self, data):
                print("server received", data.decode())
                self.transport.write(data)
                self.transport.close()

        class Client(asyncio.Protocol):
            def __init__(self, message, lost):
                self.message, self.lost = message, lost

            def connection_made(self, transport):
                transport.write(self.message.encode())
                print("client sent", self.message)

            def data_received(self, data):
                print("client received", data.decode())

            def connection_lost(self, exc):
                print("the server closed the connection", exc)
                self.lost.set_result(True)

        async def main():
            loop = asyncio.get_running_loop()
            server = await loop.create_server(Echo, "127.0.0.1", 0)
            async with server:
                lost = loop.create_future()
                address = server.sockets[0].getsockname()
                transport, _ = await loop.create_connection(lambda: Client("Hello", lost), *address)
                await lost
                print(transport.is_closing(), isinstance(transport, asyncio.Transport))

        asyncio.run(main())
    """,
    "protocols: UDP echo": """
        class Echo(asyncio.DatagramProtocol):
            def connection_made(self, transport):
                self.transport = transport

            def datagram_received(self, data, addr):
                self.transport.sendto(data, addr)

        class Client(asyncio.DatagramProtocol):
            def __init__(self, received):
                self.received = received

            def connection_made(self, transport):
                transport.sendto(b"ping")

            def datagram_received(self, data, addr):
                self.received.set_result(data)

        async def main():
            loop = asyncio.get_running_loop()
            server, _ = await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
            address = server.get_extra_info("sockname")
            received = loop.create_future()
            client, _ = await loop.create_datagram_endpoint(
                lambda: Client(received), remote_addr=address
            )
            print(await received)
            client.close()
            server.close()
            await asyncio.sleep(0)

        asyncio.run(main())
    """,
    "a socket by a protocol, and by its reader": """
        import socket

        class Collect(asyncio.Protocol):
            def __init__(self, received):
                self.received = received

            def data_received(self, data):
                self.received.set_result(data)

        async def main():
            loop = asyncio.get_running_loop()
            ours, theirs = socket.socketpair()
            received = loop.create_future()
            transport, _ = await loop.create_connection(lambda: Collect(received), sock=ours)
            loop.call_soon(theirs.send, b"abc")
            print(await received)
            transport.close()
            theirs.close()
            left, right = socket.socketpair()
            left.setblocking(False)
            read = loop.create_future()
            loop.add_reader(left, lambda: read.done() or read.set_result(left.recv(100)))
            right.send(b"xyz")
            print(await read, loop.remove_reader(left))
            await loop.sock_sendall(left, b"back")
            print(right.recv(100))
            left.close()
            right.close()

        asyncio.run(main())
    """,
    "subprocess: shell": """
        from asyncio import subprocess

        async def run(command):
            child = await asyncio.create_subprocess_shell(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            stdout, stderr = await child.communicate()
            print(child.returncode, stdout, stderr)

        asyncio.run(run("echo out; echo err >&2; exit 3"))
    """,
    "subprocess: exec": """
        import sys

        async def main():
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-c", "print(input()[::-1])",
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            )
            child.stdin.write(b"abc\\n")
            await child.stdin.drain()
            print(await child.stdout.readline(), await child.wait())
            child = await asyncio.create_subprocess_exec("sleep", "3600")
            child.terminate()
            print(await child.wait())

        asyncio.run(main())
    """,
    "signals": """
        import os, signal

        async def main():
            loop, seen = asyncio.get_running_loop(), asyncio.Event()
            loop.add_signal_handler(signal.SIGUSR1, lambda *args: seen.set(), "an argument")
            os.kill(os.getpid(), signal.SIGUSR1)
            await seen.wait()
            print(loop.remove_signal_handler(signal.SIGUSR1), seen.is_set())

        asyncio.run(main())
    """,
    "future": """
        async def set_after(future, turns, value):
            for _ in range(turns):
                await asyncio.sleep(0)
            future.set_result(value)

        async def main():
            loop = asyncio.get_running_loop()
            future = loop.create_future()
            loop.create_task(set_after(future, 3, "... world"))
            print("hello ...", await future, asyncio.isfuture(future))
            try:
                future.set_result(0)
            except asyncio.InvalidStateError:
                print("set already")

        asyncio.run(main())
    """,
    "callbacks": """
        def show(count, loop):
            print(count)
            if count:
                loop.call_later(0, show, count - 1, loop)
            else:
                loop.stop()

        loop = asyncio.new_event_loop()
        try:
            loop.call_soon(show, 2, loop)
            loop.call_at(loop.time() + 3600, show, 99, loop).cancel()
            loop.run_forever()
        finally:
            loop.close()
        print(loop.is_closed())
    """,
    "runner": """
        async def add(a, b):
            return a + b

        with asyncio.Runner(debug=True) as runner:
            print(runner.run(add(1, 2)), runner.run(add(3, 4)), runner.get_loop().get_debug())
    """,
    "debug": """
        async def main():
            loop = asyncio.get_running_loop()
            loop.slow_callback_duration = 3600
            print(loop.get_debug())
            print(loop.create_future().get_loop() is loop)

        asyncio.run(main(), debug=True)
        asyncio.run(main(), debug=False)
    """,
    "exception handler": """
        async def main():
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda loop, context: print(repr(context["exception"])))
            loop.call_soon(lambda: 1 / 0)
            await asyncio.sleep(0)

        asyncio.run(main())
    """,
    "a generator that is left": """
        async def count():
            try:
                for number in range(9):
                    yield number
            finally:
                print("left")

        async def main():
            numbers = count()
            async for number in numbers:
                if number == 2:
                    break
            print("ended at", number)

        asyncio.run(main())
    """,
}
EAGER = """
    async def cached(answers):
        if not answers:
            await asyncio.sleep(0)
        return answers

    async def main():
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        here, later = asyncio.create_task(cached([1])), asyncio.create_task(cached([]))
        print(here.done(), later.done(), await later)

    asyncio.run(main())
"""
if sys.version_info >= (3, 12):
    PROGRAMS["eager tasks"] = EAGER
SHUT_DOWN = """
    async def main():
        queue = asyncio.Queue()
        await queue.put(1)
        queue.shutdown()
        print(await queue.get())
        try:
            await queue.get()
        except asyncio.QueueShutDown:
            print("shut down")

    asyncio.run(main())
"""
if sys.version_info >= (3, 13):
    PROGRAMS["a queue that is shut down"] = SHUT_DOWN


@pytest.fixture(scope="module")
def asyncio_prints():
    """A function that runs a program on asyncio, in a process of its own once, and returns its output."""
    printed: dict[str, str] = {}

    def asyncio_prints(name: str, python) -> str:
        if name not in printed:
            printed[name] = python("import asyncio\n" + textwrap.dedent(PROGRAMS[name]))
        return printed[name]

    return asyncio_prints


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_prints_what_it_prints_on_asyncio(name, driver, monkeypatch, python, asyncio_prints):
    monkeypatch.setenv("HOOP_DRIVER", driver)
    code = "import hoop as asyncio\n" + textwrap.dedent(PROGRAMS[name])
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(code, name, "exec"), {"__name__": "__main__"})
    expected = asyncio_prints(name, python)
    assert expected
    assert output.getvalue() == expected


def test_every_program_uses_names_that_hoop_has():
    """No program imports asyncio itself, except its module `subprocess`, of which hoop has no own."""
    for name, program in PROGRAMS.items():
        assert "import asyncio" not in program, name
    assert hoop.subprocess is sys.modules["asyncio.subprocess"]
