"""Functions that run per event look nothing up by name: shown by the C that Cython makes of them.

Four mistakes are possible. Three are an attribute that Cython does not know, a module's global that was not
declared, and a builtin that is called as an object. The fourth is arithmetic with Python's numbers, because a
constant does not fit a C int. Each compiles, works, and costs ten times the rest of the function.
"""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("Cython")

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "hoop"
LOOKUP = re.compile(
    r"__Pyx_PyObject_GetAttr\w*|__Pyx_GetModuleGlobal\w*|__Pyx_GetBuiltinName\w*|"
    r"__Pyx_PyObject_CallMethod\w*|__Pyx_PyObject_FastCallMethod\w*|__Pyx_PyObject_SetAttr\w*|"
    r"__Pyx_PyObject_GetMethod\w*|PyNumber_\w+|__Pyx_PyLong_\w+ObjC"
)

# Calls by name in hot functions that are hardly ever reached.
RARE = (
    "if f.cancel(task.cancel_message):",
    "self.outbox.clear()",
    "self.protocol.error_received(os_error(n))",
    "self.transport.resume_reading()",
    "self.waiter = self.bound_loop.create_future()",
    "loop._ensure_fd_no_transport(fd)",
    "return _fileno(sock, None) if type(sock) is Socket else sock.fileno()",
    "c.value = c.value.recv(c.extra)",
    'sending.view = memoryview(data).cast("B")',
    "error = reader.exception()",
    "fd: cython.int = _fileno(self.pipe, None) if kind is FileIO else self.pipe.fileno()",
)

# (module whose C is read, module that declares the class, class or None, function)
HOT = [
    ("scheduling.task", "scheduling.task", "Task", "run"),
    ("scheduling.task", "scheduling.task", None, "_advance"),
    ("scheduling.task", "scheduling.task", None, "_wait_for"),
    ("scheduling.task", "scheduling.task", None, "is_exact"),
    ("scheduling.task", "scheduling.base", "LoopBase", "enter"),
    ("scheduling.future", "scheduling.future", "Future", "schedule"),
    ("scheduling.future", "scheduling.future", "Future", "tell"),
    ("scheduling.notice", "scheduling.notice", "Notice", "run"),
    ("scheduling.notice", "scheduling.notice", None, "new_notice"),
    ("scheduling.future", "drivers.ready", "ReadyRing", "push"),
    ("loop.turn", "loop.turn", "Loop", "run_once"),
    ("loop.turn", "loop.turn", "Loop", "run_ready"),
    ("loop.turn", "loop.turn", "Loop", "look"),
    ("loop.turn", "drivers.ready", "ReadyRing", "push"),
    ("loop.calls", "loop.calls", None, "create_task"),
    ("loop.calls", "loop.calls", "LoopCalls", "start_task"),
    ("loop.running", "loop.running", None, "create_plain_task"),
    ("together.groups", "together.groups", None, "create_task"),
    ("scheduling.handle", "scheduling.handle", "Handle", "run"),
    ("scheduling.handle", "scheduling.handle", None, "new_handle"),
    ("scheduling.base", "scheduling.base", "LoopBase", "soon"),
    ("scheduling.base", "scheduling.base", "LoopBase", "flush_dirty"),
    ("scheduling.base", "scheduling.base", "LoopBase", "flush_waiting"),
    ("scheduling.base", "scheduling.base", "LoopBase", "steps_for_reply"),
    ("drivers.op", "drivers.op", "Op", "run"),
    ("net.receiver", "net.receiver", "RecvOp", "on_ready"),
    ("net.receiver", "net.receiver", "Receiver", "on_readable"),
    ("net.receiver", "net.receiver", "Receiver", "on_received"),
    ("net.receiver", "net.receiver", "Receiver", "receive_whole"),
    ("net.receiver", "net.receiver", "Receiver", "deliver"),
    ("pipes.end", "pipes.end", "PipeEnd", "was_closed"),
    ("pipes.reader", "pipes.reader", "ReadPipe", "read"),
    ("pipes.reader", "pipes.reader", "ReadPipe", "read_whole"),
    ("pipes.reader", "pipes.reader", "ReadPipe", "receive"),
    ("pipes.writer", "pipes.writer", "WritePipe", "send"),
    ("pipes.writer", "pipes.writer", "WritePipe", "go_on"),
    ("pipes.writer", "pipes.writer", "WritePipe", "put"),
    ("pipes.writer", "pipes.writer", "WritePipe", "send_queue"),
    ("pipes.writer", "pipes.writer", "WritePipe", "consume"),
    ("net.stream", "net.stream", "StreamTransport", "send"),
    ("net.stream", "net.stream", "StreamTransport", "queue"),
    ("net.stream", "net.stream", "StreamTransport", "send_now"),
    ("net.stream", "net.stream", "StreamTransport", "go_on"),
    ("net.stream", "net.stream", "StreamTransport", "flush"),
    ("net.outbox", "net.outbox", "Outbox", "is_to_wait"),
    ("net.outbox", "net.outbox", "Outbox", "is_to_wait_for_others"),
    ("net.outbox", "net.outbox", "Outbox", "is_to_wait_as_reply"),
    ("net.outbox", "net.outbox", "Outbox", "is_to_wait_for_next"),
    ("net.outbox", "net.outbox", "Outbox", "join_wait"),
    ("net.outbox", "net.outbox", "Outbox", "ends_reply"),
    ("net.outbox", "net.outbox", None, "served"),
    ("net.outbox", "net.outbox", "Outbox", "end_wait"),
    ("net.outbox", "net.outbox", "Outbox", "callback_ended"),
    ("net.outbox", "net.outbox", "Outbox", "add_chunk"),
    ("net.outbox", "net.outbox", "Outbox", "send_some"),
    ("scheduling.coroutine", "scheduling.coroutine", None, "new_coroutine"),
    ("scheduling.coroutine", "scheduling.coroutine", "NativeCoroutine", "advance"),
    ("streams.incoming", "streams.incoming", "Incoming", "add"),
    ("streams.incoming", "streams.incoming", "Incoming", "add_chunk"),
    ("streams.incoming", "streams.incoming", "Incoming", "extend"),
    ("streams.incoming", "streams.incoming", "Incoming", "arrived"),
    ("streams.incoming", "streams.incoming", "Incoming", "wake_waiter"),
    ("streams.incoming", "streams.incoming", "Incoming", "take"),
    ("streams.incoming", "streams.incoming", "Incoming", "drop"),
    ("streams.incoming", "streams.incoming", "Incoming", "find"),
    ("streams.incoming", "streams.incoming", "Incoming", "wait"),
    ("streams.reader", "streams.reader", None, "_counted"),
    ("streams.reader", "streams.reader", None, "_until"),
    ("streams.reading", "streams.reading", "Read", "begin"),
    ("streams.reading", "streams.reading", "Read", "go_on"),
    ("streams.reading", "streams.reading", "ReadExactly", "go_on"),
    ("streams.reading", "streams.reading", "Until", "go_on"),
    ("streams.writer", "streams.writer", "StreamProtocol", "on_bytes"),
    ("streams.writer", "streams.writer", "StreamProtocol", "on_chunk"),
    ("streams.writer", "streams.writer", "Drain", "begin"),
    ("net.feeder", "net.feeder", "Feeder", "on_bytes"),
    ("drivers.uring", "drivers.uring", "UringDriver", "poll"),
    ("drivers.uring", "drivers.uring", "UringDriver", "settle"),
    ("drivers.requests", "drivers.requests", "Requests", "ask_for_queued"),
    ("drivers.requests", "drivers.requests", "Requests", "ask"),
    ("net.datagram", "net.datagram", "DatagramTransport", "receive"),
    ("net.sender", "net.sender", "DatagramSender", "send"),
    ("net.datagram", "net.datagram", "DatagramTransport", "deliver"),
    ("net.datagram", "net.datagram", "DatagramTransport", "go_on"),
    ("net.datagram", "net.datagram", "DatagramTransport", "may_hold"),
    ("net.letters", "net.letters", "Letters", "queue"),
    ("net.letters", "net.letters", "Letters", "gather"),
    ("tls.records", "tls.records", "Records", "feed_record"),
    ("tls.records", "tls.records", "Records", "next_record"),
    ("tls.records", "tls.records", "Records", "unread"),
    ("tls.records", "tls.records", "Records", "decrypt_record"),
    ("tls.records", "tls.records", "Records", "add"),
    ("tls.records", "tls.records", "Records", "encrypt_record"),
    ("tls.records", "tls.records", "Records", "consume"),
    ("tls.records", "tls.records", "Records", "take"),
    ("tls.inbox", "tls.inbox", "TlsInbox", "on_bytes"),
    ("tls.inbox", "tls.inbox", "TlsInbox", "take_in"),
    ("tls.inbox", "tls.inbox", "TlsInbox", "decrypt"),
    ("tls.inbox", "tls.inbox", "TlsInbox", "deliver"),
    ("tls.outbox", "tls.outbox", "TlsOutbox", "queue"),
    ("tls.outbox", "tls.outbox", "TlsOutbox", "flush"),
    ("tls.outbox", "tls.outbox", "TlsOutbox", "seal_batch"),
    ("watching.readiness", "watching.readiness", "SocketTable", "slot_of"),
    ("watching.readiness", "watching.readiness", "SocketTable", "take_events"),
    ("watching.readiness", "watching.readiness", "SocketTable", "tell"),
    ("watching.sockets", "watching.sockets", None, "descriptor_of"),
    ("watching.sockets", "watching.sockets", None, "receive_some"),
    ("watching.sockets", "watching.sockets", None, "slot_of"),
    ("watching.sockets", "watching.sockets", None, "wait_ready"),
    ("watching.sockets", "watching.sockets", "Receive", "attempt"),
    ("watching.sockets", "watching.sockets", "SendAll", "attempt"),
    ("loop.running", "loop.running", "SleepTimer", "run"),
    ("drivers.epoll", "drivers.epoll", "EpollDriver", "poll"),
    ("drivers.epoll", "drivers.epoll", None, "push_ready"),
    ("disk.window", "disk.window", "Window", "has"),
    ("disk.window", "disk.window", "Window", "has_line"),
    ("disk.window", "disk.window", "Window", "line_bytes"),
    ("disk.buffer", "disk.buffer", "Buffer", "take"),
    ("disk.window", "disk.window", "Window", "fill_cached"),
    ("disk.source", "disk.source", None, "line_iternext"),
]


def directives() -> dict[str, object]:
    """The compiler directives of setup.py, read and not run."""
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "DIRECTIVES":
            return ast.literal_eval(node.value)
    raise AssertionError("setup.py has no DIRECTIVES")


GENERATE = """
import sys
from Cython.Build import cythonize
from setuptools import Extension
module, out, directives = sys.argv[1], sys.argv[2], eval(sys.argv[3])
path = "src/hoop/" + module.replace(".", "/") + ".py"
cythonize([Extension(f"hoop.{module}", [path])], include_path=["src"],
          build_dir=out, compiler_directives=directives, quiet=True)
"""


@pytest.fixture(scope="session")
def c_source(tmp_path_factory):
    """A function that gives the C of a module of the core: the build's if it is current, else made now."""

    @functools.cache
    def source(module: str) -> str:
        place = Path(*module.split("."))
        inputs = [SOURCE / f"{place}.py", *SOURCE.rglob("*.pxd"), ROOT / "setup.py"]
        built = ROOT / "build" / "cython-release" / "src" / "hoop" / f"{place}.c"
        newest = max(path.stat().st_mtime for path in inputs)
        if built.exists() and built.stat().st_mtime > newest:
            return built.read_text()
        out = tmp_path_factory.mktemp("c")
        command = [sys.executable, "-c", GENERATE, module, str(out), repr(directives())]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        return next(out.rglob(f"{place.name}.c")).read_text()

    return source


def c_name(module: str, cls: str | None, function: str) -> str:
    """The name that Cython gives a C function or method."""
    parts = ["hoop", *module.split("."), *([cls] if cls else [])]
    return "__pyx_f_" + "_".join(f"{len(part)}{part}" for part in parts) + f"_{function}"


def body(source: str, name: str) -> str:
    """The body of a C function."""
    found = re.search(
        rf"^(?:static|CYTHON_INLINE)[^;{{}}]*\b{re.escape(name)}\([^;{{}}]*\) *\{{\n(.*?)^\}}$",
        source,
        re.MULTILINE | re.DOTALL,
    )
    assert found is not None, f"there is no {name} in the C"
    return found[1]


def lookups(c: str) -> list[str]:
    """The look-ups in some C, with the line of Python that each belongs to."""
    found = []
    line = ""
    for text in c.splitlines():
        if "# <<<<" in text:
            line = text.partition("# <<<<")[0].strip(" *")
        if line not in RARE:
            found += [f"{match[0]} in: {line}" for match in LOOKUP.finditer(text)]
    return found


@pytest.mark.parametrize(
    ("module", "declared_in", "cls", "function"),
    [pytest.param(*hot, id=f"{hot[0]}-{hot[2] or hot[1]}.{hot[3]}") for hot in HOT],
)
def test_nothing_is_looked_up_by_name(c_source, module, declared_in, cls, function):
    found = lookups(body(c_source(module), c_name(declared_in, cls, function)))
    assert found == []


def test_a_look_up_would_be_seen(c_source):
    """The control: Task.get_stack() does look things up."""
    source = c_source("scheduling.task")
    assert lookups(source) != []
    assert len(body(source, c_name("scheduling.task", "Task", "run"))) > 500
