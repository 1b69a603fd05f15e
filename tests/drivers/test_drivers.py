"""Which driver a loop gets, and what happens where the kernel refuses io_uring."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import hoop
from hoop.drivers.capabilities import why_not

TESTS = Path(__file__).resolve().parent.parent
needs_uring = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))

TELL = """
import asyncio, logging, sys
logging.basicConfig(level=logging.INFO, format="%(name)s %(levelname)s %(message)s")
# One line tells of each process in which a hoop loop runs. tests/start is about that one.
logging.getLogger("hoop").addFilter(lambda record: "event loop runs in" not in record.getMessage())
import hoop

async def main():
    reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
    writer.write(b"x")
    got = await reader.read(10)
    writer.close()
    return got

async def echo(reader, writer):
    writer.write(await reader.read(10))
    writer.close()

loops = [hoop.new_event_loop(), hoop.new_event_loop()]
for loop in loops:
    server = loop.run_until_complete(asyncio.start_server(echo, "127.0.0.1", 0))
    got = loop.run_until_complete(main())
    server.close()
    loop.run_until_complete(server.wait_closed())
    print(loop.driver, got)
    loop.close()
"""


def tell(*launcher, code=TELL, **environment):
    """The output and the log of a program, in a process of its own."""
    inherited = {
        k: v for k, v in os.environ.items() if k not in ("HOOP_DRIVER", "HOOP_URING_WITHOUT")
    }
    source = str(Path(hoop.__file__).parent.parent)
    return subprocess.run(
        [*launcher, sys.executable, "-X", "faulthandler", "-c", code],
        env={**inherited, "PYTHONPATH": source, **environment},
        capture_output=True,
        text=True,
        timeout=15,
    )


def refused(how):
    return sys.executable, str(TESTS / "refused.py"), how


@needs_uring
def test_io_uring_is_the_default_where_it_works():
    done = tell()
    assert (done.stdout, done.stderr) == ("uring b'x'\n" * 2, "")


def test_the_environment_asks_for_epoll():
    done = tell(HOOP_DRIVER="epoll")
    assert (done.stdout, done.stderr) == ("epoll b'x'\n" * 2, "")


def test_who_asks_for_epoll_never_touches_io_uring():
    """Where the first system call of io_uring would end the process."""
    assert tell(*refused("KILL")).returncode != 0
    done = tell(*refused("KILL"), HOOP_DRIVER="epoll")
    assert (done.returncode, done.stdout) == (0, "epoll b'x'\n" * 2)
    code = TELL.replace("new_event_loop()", "new_event_loop('epoll')")
    assert tell(*refused("KILL"), code=code).stdout == "epoll b'x'\n" * 2


@pytest.mark.parametrize("how", ["EPERM", "ENOSYS", "ENTER"])
def test_epoll_takes_over_where_io_uring_is_refused_and_the_log_says_why_once(how):
    done = tell(*refused(how))
    assert done.stdout == "epoll b'x'\n" * 2, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("hoop INFO io_uring cannot be used here (io_uring_")
    reason = "Function not implemented" if how == "ENOSYS" else "Operation not permitted"
    assert lines[0].endswith(f"{reason}): using epoll")


def test_who_asked_for_io_uring_by_environment_is_warned():
    done = tell(*refused("EPERM"), HOOP_DRIVER="uring")
    assert done.stdout == "epoll b'x'\n" * 2
    assert done.stderr.startswith("hoop WARNING io_uring cannot be used here")


def test_who_asked_for_io_uring_by_argument_gets_an_exception():
    done = tell(*refused("EPERM"), code="import hoop\nhoop.new_event_loop('uring')")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("OSError: [Errno 38] io_uring cannot be used here: io_uring_setup: ")


@pytest.mark.parametrize(
    ("argument", "environment", "words"),
    [
        ("select", None, "driver must be 'epoll' or 'uring', not 'select'"),
        (None, "kqueue", "HOOP_DRIVER must be 'epoll' or 'uring', not 'kqueue'"),
    ],
)
def test_a_driver_that_there_is_not(monkeypatch, argument, environment, words):
    monkeypatch.delenv("HOOP_DRIVER", raising=False)
    if environment:
        monkeypatch.setenv("HOOP_DRIVER", environment)
    with pytest.raises(ValueError, match=words):
        hoop.new_event_loop(argument)


def test_the_argument_beats_the_environment(monkeypatch):
    monkeypatch.setenv("HOOP_DRIVER", "kqueue")
    hoop.new_event_loop("epoll").close()
