"""Code that runs within OpenSSL: callbacks of an SSLContext, and SSLObjects of the program's own."""

import asyncio
import contextvars
import ssl

import pytest
from peers import Recorder, reports, tcp_pair, turns, until
from tls_peers import accept_tls, client_context, connect_tls, tls_pair


def watched(callback):
    """A client's context that calls back from within each call of OpenSSL, but not from within itself."""
    context = client_context()
    inside = False

    def on_message(connection, direction, version, content, kind, data):
        nonlocal inside
        if not inside:
            inside = True
            try:
                callback()
            finally:
                inside = False

    context._msg_callback = on_message
    return context


def lose(transport):
    transport._ssl_protocol.connection_lost(None)


def replace(transport):
    lose(transport)
    lower = transport.lower
    lower.set_protocol(asyncio.Protocol())


def write(transport):
    transport.write(b"z" * 70_000)


ACTIONS = {
    "abort": lambda transport: transport.abort(),
    "close": lambda transport: transport.close(),
    "lose": lose,
    "replace": replace,
    "write": write,
    "protocol": lambda transport: transport.set_protocol(Recorder()),
    "pause": lambda transport: transport.pause_reading(),
}


@pytest.mark.parametrize("when", ["writes", "reads"])
@pytest.mark.parametrize("action", ACTIONS)
def test_a_callback_may_do_as_it_likes_with_the_connection(loop, action, when, logged):
    """As long as nothing that was looked at before it is used after it: mostly for builds with ASan."""

    async def main():
        due = False

        def act():
            nonlocal due
            if due:
                due = False
                ACTIONS[action](client.transport)

        client, server = Recorder(), Recorder()
        transport, far = await tls_pair(loop, client, server, {"ssl": watched(act)})
        transport.lower = transport._ssl_protocol._transport
        far.write(b"x" * 40_000)
        await until(lambda: len(client.received) == 40_000)
        due = True
        for _ in range(3):
            if when == "writes":
                transport.write(b"x" * 30_000)
                transport.write(b"y" * 10)
            else:
                far.write(b"x" * 30_000)
                far.write(b"y" * 10)
            await turns(10)
        await until(lambda: not due)
        if action == "write":
            await until(lambda: len(server.received) >= 70_000)
        for each in (transport.lower, far):
            each.abort()
        del transport.lower
        await until(lambda: not loop.counters()["transports"])

    reports(loop)
    loop.run_until_complete(main())


def test_a_callback_may_use_another_connection(loop):
    """Which shares the memory of the one that is within OpenSSL."""

    async def main():
        others = []

        def act():
            for other in others:
                other.write(b"other" * 1000)

        client, server = Recorder(), Recorder()
        other, other_far = Recorder(), Recorder()
        transport, _far = await tls_pair(loop, client, server, {"ssl": watched(act)})
        second, _second_far = await tls_pair(loop, other, other_far)
        others.append(second)
        for n in range(20):
            transport.write(b"mine")
            transport.write(b"%06d" % n * 1000)
            await turns(2)
        others.clear()
        expected = b"".join(b"mine" + b"%06d" % n * 1000 for n in range(20))
        await until(lambda: len(server.received) == len(expected))
        assert server.received == expected
        assert not other_far.received.replace(b"other", b"")
        assert other_far.received
        for each in (transport, second):
            each.close()
        await until(lambda: not loop.counters()["transports"])

    loop.run_until_complete(main())


def test_received_data_cannot_be_handed_in_from_within_openssl(loop):
    async def main():
        seen = []

        def act():
            if client.transport is not None and not seen:
                with pytest.raises(RuntimeError, match="callback of an SSLContext") as caught:
                    client.transport._ssl_protocol.data_received(b"\x17\x03\x03\x00\x05hello")
                seen.append(str(caught.value))

        client, server = Recorder(), Recorder()
        transport, _ = await tls_pair(loop, client, server, {"ssl": watched(act)})
        transport.write(b"x")
        await until(lambda: server.received == b"x")
        assert seen
        transport.close()
        await until(lambda: not loop.counters()["transports"])

    loop.run_until_complete(main())


# ---- SSLObjects that are somebody else's -------------------------------------------------------------


class Wrapper:
    """An SSLObject that is none, and forwards; `read` and `write` are as given."""

    def __init__(self, inner, **methods):
        self.inner = inner
        self.__dict__.update(methods)

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def read(self, n=1024, buffer=None):
        return self.inner.read(n) if buffer is None else self.inner.read(n, buffer)


class Subclass(ssl.SSLObject):
    """One that looks at what goes through."""

    def read(self, n=1024, buffer=None):
        found = super().read(n, buffer)
        seen.append(found if isinstance(found, int) else len(found))
        return found

    def write(self, data):
        seen.append(-len(data))
        return super().write(data)


seen: list[int] = []


class Context(ssl.SSLContext):
    """A context that makes what `wrapper` makes of an SSLObject."""

    wrapper = Wrapper

    def wrap_bio(self, *args, **kwargs):
        return self.wrapper(super().wrap_bio(*args, **kwargs))


def context_of(wrapper):
    context = Context(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.wrapper = wrapper
    return context


def subclassing():
    context = context_of(lambda made: made)
    context.sslobject_class = Subclass
    return context


@pytest.mark.parametrize("context", [lambda: context_of(Wrapper), subclassing])
def test_an_sslobject_that_is_none_of_python_s_own(loop, context):
    async def main():
        client, server = Recorder(), Recorder()
        transport, far = await tls_pair(loop, client, server, {"ssl": context()})
        transport.write(b"x" * 100_000)
        transport.write(b"y")
        far.write(b"z" * 100_000)
        await until(lambda: len(server.received) == 100_001 and len(client.received) == 100_000)
        transport.close()
        await until(lambda: client.is_lost and server.is_lost)
        assert client.lost_with is server.lost_with is None

    del seen[:]
    loop.run_until_complete(main())
    if context is subclassing:  # its methods are called, as by asyncio
        assert min(seen) < 0 < max(seen)


@pytest.mark.parametrize(
    ("method", "result"),
    [
        ("read", b"x" * 1_000_000),
        ("read", "text"),
        ("write", 1_000_000),
        ("write", -5),
        ("write", "many"),
    ],
)
def test_an_sslobject_that_lies_about_how_much_ends_the_connection(loop, method, result):
    async def main():
        told = reports(loop)

        def lying(made):
            return Wrapper(made, **{method: lambda *_: result})

        client, server = Recorder(), Recorder()
        a, b = tcp_pair()
        options = {"ssl": context_of(lying), "server_hostname": "localhost"}
        await asyncio.gather(
            connect_tls(loop, a, client, **options),
            accept_tls(loop, b, server),
            return_exceptions=True,
        )
        if not client.is_lost:
            client.transport.write(b"x" * 1000)
            await turns(2)
        if server.transport is not None:
            server.transport.write(b"x")
        await until(lambda: not loop.counters()["transports"])
        assert client.lost_with is not None
        assert [message for message, *_ in told] == ["Fatal error on SSL protocol"] * len(told)

    loop.run_until_complete(main())


def test_every_callback_runs_in_the_context_that_was_given(loop):
    """asyncio gives one from Python 3.15 on."""
    var = contextvars.ContextVar("var", default="nowhere")
    seen = {}

    def noting(name):
        return lambda *_: seen.setdefault(name, var.get())

    async def main():
        names = ("connection_made", "data_received", "connection_lost")
        client = Recorder(**{name: noting(name) for name in names})
        server = Recorder()
        ours, theirs = tcp_pair()
        ours.setblocking(False)
        context = contextvars.copy_context()
        context.run(var.set, "given")
        options = {"server_hostname": "localhost", "context": context}
        accepting = loop.create_task(accept_tls(loop, theirs, server))
        transport = loop._make_ssl_transport(ours, client, client_context(), None, **options)
        await accepting
        await until(lambda: client.transport)
        assert not transport._ssl_protocol._app_reading_paused
        transport.pause_reading()
        assert transport._ssl_protocol._app_reading_paused
        transport.resume_reading()
        server.transport.write(b"x")
        await until(lambda: client.received)
        transport.close()
        await until(lambda: client.is_lost and server.is_lost)
        await turns(2)

    loop.run_until_complete(main())
    assert seen == dict.fromkeys(("connection_made", "data_received", "connection_lost"), "given")
