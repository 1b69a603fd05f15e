"""What runs per event looks nothing up by name: shown by the C that Cython makes of it.

An attribute that Cython does not know, a module's global that was not declared, a builtin that is called
as an object: each compiles, works, and costs ten times the rest of the function.
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
CORE = ROOT / "src" / "hoop" / "_core"
LOOKUP = re.compile(
    r"__Pyx_PyObject_GetAttr\w*|__Pyx_GetModuleGlobal\w*|__Pyx_GetBuiltinName\w*|"
    r"__Pyx_PyObject_CallMethod\w*|__Pyx_PyObject_FastCallMethod\w*|__Pyx_PyObject_SetAttr\w*|"
    r"__Pyx_PyObject_GetMethod\w*"
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
)

# (module whose C is read, module that declares the class, class or None, function)
HOT = [
    ("task", "task", "Task", "run"),
    ("task", "task", None, "_advance"),
    ("task", "task", None, "_wait_for"),
    ("task", "task", None, "is_exact"),
    ("task", "base", "LoopBase", "enter"),
    ("future", "future", "Future", "schedule"),
    ("future", "handle", "ReadyRing", "push"),
    ("loop", "loop", "Loop", "run_once"),
    ("loop", "loop", "Loop", "run_ready"),
    ("loop", "loop", "Loop", "look"),
    ("loop", "handle", "ReadyRing", "push"),
    ("handle", "handle", "Handle", "run"),
    ("handle", "handle", None, "new_handle"),
    ("base", "base", "LoopBase", "soon"),
    ("base", "base", "LoopBase", "flush_dirty"),
    ("base", "base", "LoopBase", "flush_waiting"),
    ("base", "base", "LoopBase", "steps_for_reply"),
    ("op", "op", "Op", "run"),
    ("receiver", "receiver", "RecvOp", "on_ready"),
    ("receiver", "receiver", "Receiver", "on_readable"),
    ("receiver", "receiver", "Receiver", "on_received"),
    ("receiver", "receiver", "Receiver", "receive_whole"),
    ("receiver", "receiver", "Receiver", "deliver"),
    ("stream", "stream", "StreamTransport", "send"),
    ("stream", "stream", "StreamTransport", "queue"),
    ("stream", "stream", "StreamTransport", "send_now"),
    ("stream", "stream", "StreamTransport", "go_on"),
    ("stream", "stream", "StreamTransport", "flush"),
    ("outbox", "outbox", "Outbox", "is_to_wait"),
    ("outbox", "outbox", "Outbox", "is_to_wait_for_others"),
    ("outbox", "outbox", "Outbox", "is_to_wait_as_reply"),
    ("outbox", "outbox", "Outbox", "is_to_wait_for_next"),
    ("outbox", "outbox", "Outbox", "join_wait"),
    ("outbox", "outbox", "Outbox", "ends_reply"),
    ("outbox", "outbox", None, "served"),
    ("outbox", "outbox", "Outbox", "end_wait"),
    ("outbox", "outbox", "Outbox", "callback_ended"),
    ("outbox", "outbox", "Outbox", "add_chunk"),
    ("outbox", "outbox", "Outbox", "send_some"),
    ("coroutine", "coroutine", None, "new_coroutine"),
    ("coroutine", "coroutine", "NativeCoroutine", "advance"),
    ("reader", "reader", "StreamReader", "add"),
    ("reader", "reader", "StreamReader", "add_chunk"),
    ("reader", "reader", "StreamReader", "extend"),
    ("reader", "reader", "StreamReader", "arrived"),
    ("reader", "reader", "StreamReader", "wake_waiter"),
    ("reader", "reader", "StreamReader", "take"),
    ("reader", "reader", "StreamReader", "drop"),
    ("reader", "reader", "StreamReader", "find"),
    ("reader", "reader", "StreamReader", "wait"),
    ("reader", "reader", None, "_counted"),
    ("reader", "reader", None, "_until"),
    ("reader", "reader", "Read", "begin"),
    ("reader", "reader", "Read", "go_on"),
    ("reader", "reader", "ReadExactly", "go_on"),
    ("reader", "reader", "Until", "go_on"),
    ("writer", "writer", "StreamProtocol", "on_bytes"),
    ("writer", "writer", "StreamProtocol", "on_chunk"),
    ("writer", "writer", "Drain", "begin"),
    ("feeder", "feeder", "Feeder", "on_bytes"),
    ("uring", "uring", "UringDriver", "poll"),
    ("datagram", "datagram", "DatagramTransport", "receive"),
    ("datagram", "datagram", "DatagramTransport", "send"),
    ("datagram", "datagram", "DatagramTransport", "deliver"),
    ("datagram", "datagram", "DatagramTransport", "go_on"),
    ("datagram", "datagram", "DatagramTransport", "may_hold"),
    ("letters", "letters", "Letters", "queue"),
    ("letters", "letters", "Letters", "gather"),
    ("records", "records", "Records", "feed_record"),
    ("records", "records", "Records", "next_record"),
    ("records", "records", "Records", "unread"),
    ("records", "records", "Records", "decrypt_record"),
    ("records", "records", "Records", "add"),
    ("records", "records", "Records", "encrypt_record"),
    ("records", "records", "Records", "consume"),
    ("records", "records", "Records", "take"),
    ("tls_layer", "tls_layer", "TlsLayer", "on_bytes"),
    ("tls_layer", "tls_layer", "TlsLayer", "take_in"),
    ("tls_layer", "tls_layer", "TlsLayer", "decrypt"),
    ("tls_layer", "tls_layer", "TlsLayer", "deliver"),
    ("tls_outbox", "tls_outbox", "TlsOutbox", "queue"),
    ("tls_outbox", "tls_outbox", "TlsOutbox", "flush"),
    ("tls_outbox", "tls_outbox", "TlsOutbox", "seal_batch"),
    ("readiness", "readiness", "SocketTable", "slot_of"),
    ("readiness", "readiness", "SocketTable", "take_events"),
    ("readiness", "readiness", "SocketTable", "tell"),
    ("sockets", "sockets", None, "descriptor_of"),
    ("sockets", "sockets", None, "receive_some"),
    ("sockets", "sockets", None, "slot_of"),
    ("sockets", "sockets", None, "wait_ready"),
    ("sockets", "sockets", "Receive", "attempt"),
    ("sockets", "sockets", "SendAll", "attempt"),
    ("running", "running", "SleepTimer", "run"),
    ("epoll", "epoll", "EpollDriver", "poll"),
    ("epoll", "epoll", None, "push_ready"),
    ("buffer", "buffer", "Buffer", "has"),
    ("buffer", "buffer", "Buffer", "has_line"),
    ("buffer", "buffer", "Buffer", "line_bytes"),
    ("buffer", "buffer", "Buffer", "take"),
    ("buffer", "buffer", "Buffer", "fill_cached"),
    ("file", "file", None, "line_iternext"),
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
cythonize([Extension(f"hoop._core.{module}", [f"src/hoop/_core/{module}.py"])], include_path=["src"],
          build_dir=out, compiler_directives=directives, quiet=True)
"""


@pytest.fixture(scope="session")
def c_source(tmp_path_factory):
    """A function that gives the C of a module of the core: the build's if it is current, else made now."""

    @functools.cache
    def source(module: str) -> str:
        inputs = [CORE / f"{module}.py", *CORE.rglob("*.pxd"), ROOT / "setup.py"]
        built = ROOT / "build" / "cython-release" / "src" / "hoop" / "_core" / f"{module}.c"
        newest = max(path.stat().st_mtime for path in inputs)
        if built.exists() and built.stat().st_mtime > newest:
            return built.read_text()
        out = tmp_path_factory.mktemp("c")
        command = [sys.executable, "-c", GENERATE, module, str(out), repr(directives())]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        return next(out.rglob(f"{module}.c")).read_text()

    return source


def c_name(module: str, cls: str | None, function: str) -> str:
    """The name that Cython gives a C function or method."""
    parts = ["hoop", "_core", module, *([cls] if cls else [])]
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
    source = c_source("task")
    assert lookups(source) != []
    assert len(body(source, c_name("task", "Task", "run"))) > 500
