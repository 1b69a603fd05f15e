"""WatchOp: what add_reader and add_writer take for a descriptor, and what they refuse."""

import os
import socket
import warnings

import pytest
from peers import Recorder, connect, outcome, same_as_asyncio, until


class Filenos:
    """An object with the fileno of another."""

    def __init__(self, answer):
        self.answer = answer

    def fileno(self):
        return self.answer


BAD = {
    "-1": lambda: -1,
    "text": lambda: "x",
    "bytes": lambda: b"x",
    "None": lambda: None,
    "float": lambda: 1.5,
    "object": object,
    "not open": lambda: 9_999,
    "huge": lambda: 1 << 40,
    "closed": lambda: Filenos(-1),
    "fileno gives text": lambda: Filenos("x"),
    "True": lambda: True,
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("method", ["add_reader", "add_writer", "remove_reader", "remove_writer"])
def test_what_is_no_descriptor_is_refused_as_by_asyncio(loop, bad, method):
    async def script(loop):
        what = BAD[bad]()
        kind = outcome(getattr(loop, method), what, *([len] if method[0] == "a" else []))
        if method[0] == "a" and not isinstance(kind, tuple):
            getattr(loop, method.replace("add", "remove"))(what)
        return kind[0] if isinstance(kind, tuple) else kind

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns of True as a descriptor
        same_as_asyncio(loop, script)


@pytest.mark.parametrize("method", ["add_reader", "add_writer"])
def test_a_regular_file_cannot_be_watched(loop, method, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x")

    async def script(loop):
        with path.open("rb") as file:
            found = [outcome(getattr(loop, method), f, len) for f in (file, file.fileno())]
        a, b = socket.socketpair()  # the loop has not kept anything of the number
        with a, b:
            getattr(loop, method)(a.fileno(), len)
            found.append(getattr(loop, method.replace("add", "remove"))(a.fileno()))
        return found

    assert same_as_asyncio(loop, script)[1] == (
        "PermissionError",
        "[Errno 1] Operation not permitted",
    )


@pytest.mark.parametrize("kind", ["reader", "writer"])
def test_a_closed_object_still_names_what_it_was_watched_for(loop, kind):
    """anyio wakes who waits, closes the socket, and has a callback stop the watching afterwards."""

    async def script(loop):
        add, remove = getattr(loop, f"add_{kind}"), getattr(loop, f"remove_{kind}")
        a, b = socket.socketpair()
        with a, b:
            add(a, len)
            a.close()
            found = [outcome(remove, Filenos(-1)), outcome(remove, a)]
            return [*found, outcome(remove, a)]  # the second time it is forgotten

    refused = ("ValueError", "Invalid file descriptor: -1")
    assert same_as_asyncio(loop, script) == [refused, True, refused]


def test_a_closed_object_that_was_watched_for_both_is_given_up_one_by_one(loop):
    a, b = socket.socketpair()
    with a, b:
        loop.add_reader(a, len)
        loop.add_writer(a, len)
        a.close()
        assert loop.remove_writer(a)
        assert loop.remove_reader(a)  # asyncio raises an OSError at the first already
        with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
            loop.remove_reader(a)


def test_what_is_watched_stays_open_until_it_no_longer_is(loop):
    async def script(loop):
        a, b = socket.socketpair()
        number = a.fileno()
        heard = loop.create_future()
        with b:
            loop.add_reader(a, heard.set_result, None)
            del a
            b.send(b"x")
            await heard
            with socket.socket(fileno=os.dup(number)) as copy:
                found = copy.recv(10)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the socket that nobody closed
                removed = loop.remove_reader(number)
            return found, removed, b.recv(10)

    assert same_as_asyncio(loop, script) == (b"x", True, b"")


def test_objects_with_a_fileno_and_numbers_are_the_same_descriptor(loop):
    async def script(loop):
        a, b = socket.socketpair()
        with a, b:
            found = [outcome(loop.add_reader, a, len), outcome(loop.remove_reader, a.fileno())]
            found += [outcome(loop.add_reader, a.fileno(), len), outcome(loop.remove_reader, a)]
            found += [outcome(loop.add_writer, Filenos(a.fileno()), len)]
            found += [outcome(loop.remove_writer, Filenos(a.fileno())), loop.remove_writer(a)]
            return found

    assert same_as_asyncio(loop, script) == [None, True, None, True, None, True, False]


@pytest.mark.parametrize("method", ["add_reader", "add_writer", "remove_reader", "remove_writer"])
def test_the_descriptor_of_a_transport_is_not_for_others(loop, method):
    async def script(loop):
        protocol = Recorder()
        ours, peer = socket.socketpair()
        transport = await connect(loop, ours, protocol)
        arguments = [len] if method[0] == "a" else []
        found = [outcome(getattr(loop, method), ours.fileno(), *arguments)]
        transport.close()
        await until(lambda: protocol.is_lost)
        peer.close()
        return [(kind, words.split(" is used by transport <")[0][:15]) for kind, words in found]

    assert same_as_asyncio(loop, script) == [("RuntimeError", "File descriptor")]
