"""The loop's methods for sockets of the user's: what they give, take and refuse, as asyncio's do."""

import array
import asyncio
import inspect
import socket
import ssl
import warnings

import pytest
from peers import same_as_asyncio, tcp_pair

import hoop

METHODS = [
    "sock_accept",
    "sock_connect",
    "sock_recv",
    "sock_recv_into",
    "sock_recvfrom",
    "sock_recvfrom_into",
    "sock_sendall",
    "sock_sendto",
]
ARGUMENTS = {
    "sock_accept": (),
    "sock_connect": (("127.0.0.1", 1),),
    "sock_recv": (10,),
    "sock_recv_into": (bytearray(10),),
    "sock_recvfrom": (10,),
    "sock_recvfrom_into": (bytearray(10),),
    "sock_sendall": (b"data",),
    "sock_sendto": (b"data", ("127.0.0.1", 9)),
}


async def ending(awaitable):
    """The result of an awaitable, or the kind and text of its exception."""
    try:
        return await awaitable
    except Exception as exc:
        return type(exc).__name__, str(exc)


def pair(kind=socket.SOCK_STREAM):
    """Two connected Unix sockets that do not block."""
    a, b = socket.socketpair(socket.AF_UNIX, kind)
    a.setblocking(False)
    b.setblocking(False)
    return a, b


# ---- coroutines ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_a_coroutine_function_with_asyncios_parameters(loop, method):
    ours, theirs = getattr(loop, method), getattr(asyncio.SelectorEventLoop, method)
    if hasattr(inspect, "markcoroutinefunction"):
        assert inspect.iscoroutinefunction(ours)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert asyncio.iscoroutinefunction(ours)
    parameters = list(inspect.signature(theirs).parameters.values())[1:]
    assert [(p.name, p.default) for p in inspect.signature(ours).parameters.values()] == [
        (p.name, p.default) for p in parameters
    ]


def test_nothing_happens_before_it_is_awaited(loop):
    a, b = pair()
    with a, b:
        coro = loop.sock_sendall(a, b"x")
        assert asyncio.iscoroutine(coro)
        assert "EventLoop.sock_sendall" in repr(coro)
        coro.close()
        with pytest.raises(BlockingIOError):
            b.recv(1)
        with pytest.warns(RuntimeWarning, match=r"coroutine .*sock_recv. was never awaited"):
            loop.sock_recv(b, 1)


# ---- what is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_tls_socket_is_refused(loop, method):
    async def script(loop):
        a, b = pair()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        with b, context.wrap_socket(a, server_hostname="x", do_handshake_on_connect=False) as tls:
            return await ending(getattr(loop, method)(tls, *ARGUMENTS[method]))

    assert same_as_asyncio(loop, script)[0] == "TypeError"


@pytest.mark.parametrize("method", METHODS)
def test_a_blocking_socket_is_refused_in_debug_mode(loop, method):
    async def script(loop):
        loop.set_debug(True)
        loop.slow_callback_duration = 100
        with socket.socket() as sock:
            return await ending(getattr(loop, method)(sock, *ARGUMENTS[method]))

    assert same_as_asyncio(loop, script) == ("ValueError", "the socket must be non-blocking")


@pytest.mark.parametrize("method", METHODS)
def test_a_closed_socket_is_an_error(loop, method):
    async def script(loop):
        sock = socket.socket()
        sock.setblocking(False)
        sock.close()
        return await ending(getattr(loop, method)(sock, *ARGUMENTS[method]))

    assert same_as_asyncio(loop, script) == ("OSError", "[Errno 9] Bad file descriptor")


BAD = {
    "less than nothing": ("sock_recv", (-1,)),
    "no number": ("sock_recv", ("x",)),
    "a huge number": ("sock_recv", (1 << 100,)),
    "a float": ("sock_recv", (1.5,)),
    "a read-only buffer": ("sock_recv_into", (b"x",)),
    "no buffer": ("sock_recv_into", (5,)),
    "no buffer from": ("sock_recvfrom_into", (5,)),
    "too small a buffer": ("sock_recvfrom_into", (bytearray(2), 3)),
    "text": ("sock_sendall", ("text",)),
    "None": ("sock_sendall", (None,)),
    "every second byte": ("sock_sendall", (memoryview(b"abcd")[::2],)),
    "text to": ("sock_sendto", ("text", "/nowhere")),
    "no address": ("sock_sendto", (b"x", 5)),
    "to nowhere": ("sock_sendto", (b"x", "/nowhere/at/all")),
    "connect to nowhere": ("sock_connect", ("/nowhere/at/all",)),
    "connect to a number": ("sock_connect", (5,)),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_arguments_raise_what_asyncio_raises(loop, bad):
    method, arguments = BAD[bad]

    async def script(loop):
        a, b = pair(socket.SOCK_DGRAM)
        with a, b:
            return await ending(getattr(loop, method)(a, *arguments))

    assert isinstance(same_as_asyncio(loop, script), tuple)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
@pytest.mark.parametrize(
    "method", ["sock_recv", "sock_recv_into", "sock_recvfrom", "sock_recvfrom_into"]
)
def test_a_listener_has_no_data(loop, method, family):
    async def script(loop):
        with socket.socket(family) as sock:
            sock.bind(("127.0.0.1", 0) if family == socket.AF_INET else "")
            sock.listen()
            sock.setblocking(False)
            return await ending(getattr(loop, method)(sock, *ARGUMENTS[method]))

    assert same_as_asyncio(loop, script)[0] == "OSError"


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_connected_socket_accepts_nothing(loop, kind):
    async def script(loop):
        a, b = pair(kind)
        with a, b:
            return await ending(loop.sock_accept(a))

    assert same_as_asyncio(loop, script)[0] == "OSError"


@pytest.mark.parametrize("method", ["sock_recv", "sock_recv_into", "sock_recvfrom"])
def test_the_descriptor_of_a_transport_is_refused(loop, method):
    async def script(loop):
        a, b = pair()
        with b:
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=a)
            same = socket.socket(fileno=transport.get_extra_info("socket").fileno())
            try:
                kind, text = await ending(getattr(loop, method)(same, *ARGUMENTS[method]))
            finally:
                same.detach()
                transport.close()
                await asyncio.sleep(0)
        return kind, text.partition(" is used by transport ")[1]

    assert same_as_asyncio(loop, script) == ("RuntimeError", " is used by transport ")


def test_a_closed_loop_is_an_error(new_loop):
    loop = new_loop()
    loop.close()
    a, b = pair()
    with a, b, pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.sock_recv(a, 1).send(None)


def test_what_only_says_that_it_is_a_socket_goes_asyncios_way(run):
    class Wrapped:
        __class__ = socket.socket

        def __init__(self, sock):
            self.sock = sock

        def __getattr__(self, name):
            return getattr(self.sock, name)

    async def main():
        loop = asyncio.get_running_loop()
        a, b = pair()
        with a, b:
            receiving = asyncio.create_task(loop.sock_recv(Wrapped(a), 10))
            await asyncio.sleep(0)
            await loop.sock_sendall(Wrapped(b), b"x")
            assert await receiving == b"x"

    run(main())


# ---- receiving -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 3, 100, 1 << 18, (1 << 18) + 1, 1 << 22])
def test_at_most_so_much_is_received(loop, size):
    async def script(loop):
        a, b = pair()
        with a, b:
            await loop.sock_sendall(a, b"abc")
            got = [await loop.sock_recv(b, size)]
            buffer = bytearray(min(size, 100))
            a.send(b"later")
            got.append(await loop.sock_recv_into(b, buffer))
            return got, bytes(buffer)

    same_as_asyncio(loop, script)


@pytest.mark.parametrize("make", [pair, tcp_pair])
@pytest.mark.parametrize("size", [1, 4, 100])
def test_everything_arrives_and_then_the_end(run, make, size):
    """Also when the last bytes and the end arrive as one piece of news."""

    async def main():
        loop = asyncio.get_running_loop()
        a, b = make()
        with a, b:
            for data in (b"ab", b"cdefgh", b"i"):
                receiving = asyncio.create_task(loop.sock_recv(b, size))
                await asyncio.sleep(0)
                a.sendall(data)
                if data == b"i":
                    a.shutdown(socket.SHUT_WR)
                got = await receiving
                while len(got) < len(data):
                    got += await loop.sock_recv(b, size)
                assert got == data
            assert await loop.sock_recv(b, size) == b""
            assert await loop.sock_recv(b, size) == b""

    run(main())


def test_urgent_data_ends_a_piece_early_and_hides_nothing(run):
    async def main():
        loop = asyncio.get_running_loop()
        a, b = tcp_pair()
        with a, b:
            receiving = asyncio.create_task(loop.sock_recv(b, 100))
            await asyncio.sleep(0)
            a.send(b"before")
            a.send(b"!", socket.MSG_OOB)
            a.send(b"after")
            got = await receiving
            while len(got) < 11:
                got += await loop.sock_recv(b, 100)
            assert got == b"beforeafter"

    run(main())


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_datagrams_come_with_their_senders(run, family):
    async def main():
        loop = asyncio.get_running_loop()
        host = "127.0.0.1" if family == socket.AF_INET else "::1"
        with socket.socket(family, socket.SOCK_DGRAM) as a, socket.socket(family, 2) as b:
            for sock in (a, b):
                sock.setblocking(False)
                sock.bind((host, 0))
            for wait in (False, True, True):
                receiving = asyncio.create_task(loop.sock_recvfrom(b, 100))
                if wait:
                    await asyncio.sleep(0)
                assert await loop.sock_sendto(a, b"hello", b.getsockname()) == 5
                assert await receiving == (b"hello", a.getsockname())
                buffer = bytearray(100)
                filling = asyncio.create_task(loop.sock_recvfrom_into(b, buffer, 3 * wait))
                if wait:
                    await asyncio.sleep(0)
                await loop.sock_sendto(a, b"hello", b.getsockname())
                size, address = await filling
                assert (bytes(buffer[:size]), address) == (
                    b"hel" if wait else b"hello",
                    a.getsockname(),
                )

    run(main())


def test_a_large_datagram_is_not_cut(run):
    async def main():
        loop = asyncio.get_running_loop()
        a, b = pair(socket.SOCK_SEQPACKET)
        with a, b:
            for sock in (a, b):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            data = bytes(150_000)
            await loop.sock_sendall(a, data)
            assert await loop.sock_recv(b, 1 << 18) == data
            await loop.sock_sendall(a, data)
            assert await loop.sock_recv(b, 1 << 19) == data
            await loop.sock_sendall(a, b"")
            assert await loop.sock_recv(b, 10) == b""

    run(main())


def test_a_buffer_may_grow_while_it_waits(run):
    async def main():
        loop = asyncio.get_running_loop()
        a, b = pair()
        with a, b:
            buffer = bytearray(2)
            receiving = asyncio.create_task(loop.sock_recv_into(b, buffer))
            await asyncio.sleep(0)
            buffer.extend(bytes(2))
            await loop.sock_sendall(a, b"abcd")
            assert await receiving == 4
            assert buffer == b"abcd"

    run(main())


def test_a_subclass_receives_and_sends_by_its_own_methods(run):
    class Shouting(socket.socket):
        def recv(self, n):
            return super().recv(n).upper()

        def send(self, data):
            return super().send(bytes(data)[:2])

    async def main():
        loop = asyncio.get_running_loop()
        a, b = pair()
        ours = Shouting(fileno=a.detach())
        with ours, b:
            receiving = asyncio.create_task(loop.sock_recv(ours, 10))
            await asyncio.sleep(0)
            await loop.sock_sendall(b, b"abc")
            assert await receiving == b"ABC"
            await loop.sock_sendall(ours, b"12345")
            assert await loop.sock_recv(b, 10) == b"12345"

    run(main())


# ---- sending -------------------------------------------------------------------------------------------


class Wide:
    """Eight megabytes, item by item of two bytes."""

    data = bytes(range(256)) * 32768

    @classmethod
    def view(cls):
        numbers = array.array("H")
        numbers.frombytes(cls.data)
        return memoryview(numbers)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: Wide.view()], ids=str)
@pytest.mark.parametrize("make", [pair, tcp_pair])
def test_all_of_it_is_sent_to_a_slow_peer(run, make, kind):
    async def main():
        loop = asyncio.get_running_loop()
        a, b = make()
        with a, b:
            sending = asyncio.create_task(loop.sock_sendall(a, kind(Wide.data)))
            got = bytearray()
            while len(got) < len(Wide.data):
                got += await loop.sock_recv(b, 1 << 20)
            assert await sending is None
            assert got == Wide.data

    run(main())


def test_both_directions_of_a_socket_at_once(run):
    async def main():
        loop = asyncio.get_running_loop()
        a, b = tcp_pair()

        async def receive(sock):
            got = 0
            while got < len(Wide.data):
                got += len(await loop.sock_recv(sock, 1 << 16))

        with a, b:
            await asyncio.gather(
                *(loop.sock_sendall(sock, Wide.data) for sock in (a, b)),
                *(receive(sock) for sock in (a, b)),
            )

    run(main())


def test_the_users_buffer_is_held_while_it_is_sent_and_no_longer(run):
    async def main():
        loop = asyncio.get_running_loop()
        a, b = pair()
        with a, b:
            data = bytearray(8 << 20)
            sending = asyncio.create_task(loop.sock_sendall(a, data))
            await asyncio.sleep(0)
            with pytest.raises(BufferError):
                data.append(1)
            sending.cancel()
            assert await asyncio.wait([sending])
            data.append(1)

    run(main())


def test_datagrams_wait_for_room(run):
    async def main():
        loop = asyncio.get_running_loop()
        a, b = pair(socket.SOCK_DGRAM)
        with a, b:
            b.bind("\0hoop-" + hoop.__name__ + str(a.fileno()))

            async def send():
                for number in range(2000):
                    assert await loop.sock_sendto(a, b"%04d" % number, b.getsockname()) == 4

            sending = asyncio.create_task(send())
            for number in range(2000):
                assert await loop.sock_recv(b, 10) == b"%04d" % number
            await sending

    run(main())


# ---- connecting ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_connecting_looks_names_up(run, host):
    async def main():
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.create_server((host, 0), family=family) as server, socket.socket(family) as a:
            server.setblocking(False)
            a.setblocking(False)
            accepting = asyncio.create_task(loop.sock_accept(server))
            assert await loop.sock_connect(a, (host, server.getsockname()[1])) is None
            conn, address = await accepting
            with conn:
                assert conn.gettimeout() == 0
                assert address == a.getsockname()

    run(main())


def test_an_abstract_address_is_connected_to(run):
    async def main():
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as a:
            server.bind("")  # the kernel chooses an abstract one
            server.listen()
            server.setblocking(False)
            a.setblocking(False)
            await loop.sock_connect(a, server.getsockname())
            conn, _ = await loop.sock_accept(server)
            conn.close()

    run(main())


def test_a_refused_connection_says_so(loop):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()

    async def script(loop):
        with socket.socket() as sock:
            sock.setblocking(False)
            first = await ending(loop.sock_connect(sock, address))
            return first, await ending(loop.sock_connect(sock, ("no such name", 1)))

    assert same_as_asyncio(loop, script)[0][0] == "ConnectionRefusedError"


def test_a_blocking_listener_does_not_block_the_loop(run):
    async def main():
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as server:
            accepting = asyncio.create_task(loop.sock_accept(server))
            await asyncio.sleep(0)
            with socket.create_connection(server.getsockname()):
                conn, _ = await accepting
                receiving = asyncio.create_task(loop.sock_recv(conn, 5))
                await asyncio.sleep(0)
                receiving.cancel()
                conn.close()

    run(main())


def test_sendfile_still_works(run, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(Wide.data)

    async def main():
        loop = asyncio.get_running_loop()
        a, b = tcp_pair()

        async def receive():
            got = bytearray()
            while data := await loop.sock_recv(b, 1 << 18):
                got += data
            return got

        with a, b, path.open("rb") as file:
            receiving = asyncio.create_task(receive())
            assert await loop.sock_sendfile(a, file) == len(Wide.data)
            a.shutdown(socket.SHUT_WR)
            assert await receiving == Wide.data

    run(main())
