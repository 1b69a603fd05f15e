"""WatchOp: what add_reader and add_writer take for a descriptor, and what they refuse."""

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
