"""The commands: what they print of a program in another process, and their exit status."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap

import pyte
import pytest

import hoop.__main__
from hoop.cli import client, commands, text

PROGRAM = """
import asyncio, os, re, sys, time
import hoop, hoop.observe
from hoop.observe import server as observer

observer.Budget.SHARE = 1.0  # nobody waits until the observer has rested

async def holder(lock):
    async with lock:
        await asyncio.sleep(1000)

async def taker(lock):
    async with lock:
        pass

async def crossed(mine, other):
    async with mine:
        await asyncio.sleep(0)
        async with other:
            pass

async def echo(reader, writer):
    while data := await reader.read(100):
        writer.write(data)

async def main():
    lock = hoop.Lock()
    server = await hoop.start_server(echo, "127.0.0.1", 0)
    tasks = [asyncio.create_task(holder(lock), name="holder"),
             asyncio.create_task(taker(lock), name="taker")]
    reader, writer = await hoop.open_connection(*server.sockets[0].getsockname())
    writer.write(b"x")
    await reader.read(1)
    time.sleep(0.2)  # the loop is blocked once
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    orders = asyncio.Queue()
    loop.add_reader(0, lambda: orders.put_nowait(os.read(0, 100)))
    while order := await orders.get():
        if order == b"hang":
            re.match("(a+)+$", "a" * 40 + "b")
        elif order == b"cross":
            a, b = hoop.Lock(), hoop.Lock()
            tasks += [asyncio.create_task(crossed(a, b)), asyncio.create_task(crossed(b, a))]
            await asyncio.sleep(0.01)
            print("crossed", flush=True)

hoop.run(main(), observe=True)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A temporary folder in which the sockets of these tests are."""
    tmp_path_factory.getbasetemp()  # before the temporary folder is another one
    with tempfile.TemporaryDirectory() as made, pytest.MonkeyPatch.context() as patch:
        patch.delenv("XDG_RUNTIME_DIR", raising=False)
        patch.delenv("HOOP_OBSERVE", raising=False)
        patch.setenv("TMPDIR", made)
        patch.setattr(tempfile, "tempdir", made)
        yield made


class Program:
    """An observed program in a process of its own."""

    def __init__(self, path):
        self.child = subprocess.Popen(
            [sys.executable, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.child.stdout.readline() == b"ready\n"
        self.pid = str(self.child.pid)

    def hang(self):
        """Have C code keep the GIL."""
        self.order(b"hang")

    def cross(self):
        """Have two tasks wait for each other's lock."""
        self.order(b"cross")
        assert self.child.stdout.readline() == b"crossed\n"

    def order(self, word):
        self.child.stdin.write(word)
        self.child.stdin.flush()

    def end(self):
        self.child.kill()
        self.child.wait()
        self.child.stdin.close()
        self.child.stdout.close()


@pytest.fixture(scope="module")
def code(folder):
    path = os.path.join(folder, "program.py")
    with open(path, "w") as file:
        file.write(textwrap.dedent(PROGRAM))
    return path


@pytest.fixture(scope="module")
def program(code):
    """One program for all tests that only look."""
    made = Program(code)
    yield made
    made.end()


@pytest.fixture
def own_program(code):
    """A program that the test may stop."""
    made = Program(code)
    yield made
    made.end()


@pytest.fixture(autouse=True)
def terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


def on_screen(printed):
    """The lines that a terminal of 80 columns shows, none of them wrapped."""
    lines = printed.splitlines()
    screen = pyte.Screen(80, len(lines) + 1)
    pyte.Stream(screen).feed("\r\n".join(lines) + "\r\n")
    assert screen.cursor.y == len(lines), printed
    return [line.rstrip() for line in screen.display[: len(lines)]]


@pytest.mark.parametrize(
    ("command", "seen"),
    [
        ("overview", r"^program\.py   pid \d+   Python .*\n(.*\n)*LOOP MainThread   (epoll|uring)"),
        ("overview", r"^STALLS 1 \(1 blocking call\)(.*\n)* +/.*/program\.py:34 main$"),
        ("tasks", r"^ *ID  STATE .*\n(.*\n)* *\d+  waiting .* holder p"),
        ("tree", r"^\d+ main program.py"),
        ("stack", r"^task \d+ taker  waiting for .*\n  /.*/program\.py:13 taker$"),
        (
            "stalls",
            r"^BLOCKED for .* \(over\)(.*\n)* .*cause: blocking call(.*\n)*  /.*program.py:34 main$",
        ),
        ("cycles", r"^no tasks wait for each other$"),
    ],
)
def test_a_view(program, capsys, command, seen):
    assert hoop.__main__.main([command, program.pid]) == 0
    printed = capsys.readouterr().out
    assert re.search(seen, "\n".join(on_screen(printed)), re.MULTILINE), printed


def test_a_cycle_names_the_lines_of_its_tasks(own_program, capsys):
    own_program.cross()
    assert commands.main("cycles", [own_program.pid]) == 0
    printed = capsys.readouterr().out
    one, *waiters = on_screen(printed)
    first, second = re.match(
        r"⟲ (\d+) → (\d+) → \1   \1 waits for a lock held by \2,", one
    ).groups()
    assert f"{second} waits for a lock held by {first}" in printed
    for number, line in zip((first, second), waiters[-2:]):
        assert re.match(rf"  {number} crossed program\.py:\d+ ── .*Lock", line), printed


@pytest.mark.parametrize("command", sorted(hoop.__main__.LOOKS - {"ps", "top", "web"}))
def test_a_view_as_json(program, capsys, command):
    status = commands.main(command, [program.pid, "--json"])
    out, err = capsys.readouterr()
    if status:
        assert "has no" in err  # its part of hoop is not there
        return
    answer = json.loads(out)
    if command == "overview":
        assert answer["pid"] == program.child.pid
    on_screen("\n".join(text.render(command, answer, 80)))


def test_options(program, capsys):
    assert commands.main("tasks", [program.pid, "--json", "--sort", "polls", "--top", "1"]) == 0
    (most,) = json.loads(capsys.readouterr().out)
    assert commands.main("stack", [program.pid, "--json", "--task", str(most["id"])]) == 0
    assert [task["id"] for task in json.loads(capsys.readouterr().out)] == [most["id"]]
    assert commands.main("tasks", [program.pid, "--json", "--label", "GET *"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert commands.main("stack", [program.pid, "--task", "987654"]) == 3
    assert "no unfinished task has the id 987654" in capsys.readouterr().err


def test_by_the_path_of_the_socket(program, capsys):
    path = client.sockets()[program.child.pid]
    assert commands.main("overview", [path, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pid"] == program.child.pid


def test_ps(program, capsys):
    assert commands.main("ps", []) == 0
    lines = on_screen(capsys.readouterr().out)
    (row,) = [line.split() for line in lines if line.split()[0] == program.pid]
    assert row[1] == "program.py"
    assert row[-1] == "answers"
    assert commands.main("ps", ["--json"]) == 0
    rows = {row["pid"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows[program.child.pid]["loops"] == 1


def test_the_command_itself(program):
    """In a process of its own, where a reader closes the pipe early."""
    command = [sys.executable, "-m", "hoop", "stack", program.pid]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    child.stdout.close()
    assert child.stderr.read() == b""
    child.stderr.close()
    assert child.wait() == 0


@pytest.mark.parametrize(
    "options", [["-X", "dev", "-W", "error"], ["-m", "hoop", "run", "--driver", "epoll"], []]
)
def test_the_name_of_the_program_is_no_option(tmp_path, options):
    file = tmp_path / "shop.py"
    file.write_text("print(flush=True)\ninput()\n")
    command = [sys.executable, *options, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        assert client.program_of(child.pid) == "shop.py"
        child.communicate(b"\n")


# ---- what goes wrong ---------------------------------------------------------------------------------


def test_no_such_process(folder, capsys):
    assert commands.main("tasks", ["999999999"]) == 1
    assert capsys.readouterr().err == "hoop: there is no process 999999999\n"
    assert commands.main("tasks", [str(os.getpid())]) == 1
    assert "is not observed: start it with HOOP_OBSERVE=1" in capsys.readouterr().err
    assert commands.main("tasks", [os.path.join(folder, "a.sock")]) == 1
    assert "there is no socket" in capsys.readouterr().err


def test_nobody_listens(folder, capsys):
    import socket

    path = os.path.join(folder, "left.sock")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)
    assert commands.main("tasks", [path]) == 1
    assert "nobody listens" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["tasks", "--nonsense"], ["tasks", "--top", "-1"], ["stalls", "--sort", "age"], ["ps", "1"]],
)
def test_usage(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        hoop.__main__.main(arguments)
    assert caught.value.code == 2
    assert "usage: hoop" in capsys.readouterr().err


def test_a_socket_of_another_program(folder, capsys):
    import socket
    import threading

    path = os.path.join(folder, "other.sock")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen()

        def serve():
            sock, _ = other.accept()
            sock.sendall(b"220 mail.example.org\r\n")
            sock.close()

        server = threading.Thread(target=serve)
        server.start()
        assert commands.main("tasks", [path]) == 3
        server.join()
    assert "no observed process is at" in capsys.readouterr().err


def test_a_process_that_is_stopped(own_program, capsys):
    os.kill(own_program.child.pid, signal.SIGSTOP)
    os.waitpid(own_program.child.pid, os.WUNTRACED)  # until it has stopped
    assert commands.main("tasks", [own_program.pid]) == 3
    lines = on_screen(capsys.readouterr().err)
    assert "does not answer" in lines[0]
    assert any(re.search(rf"^ *{own_program.pid}  .*stopped", line) for line in lines), lines


def test_c_code_that_keeps_the_gil(own_program, capsys):
    """The stack of the thread is in the watcher's memory file."""
    own_program.hang()
    found = ""
    while "in main" not in found:
        commands.main("tasks", [own_program.pid])  # it answers until it has read its order
        found = capsys.readouterr().err
    assert "blocked for" in found
    assert re.search(r'File ".*program\.py", line 41 in main', found), found
    assert commands.main("tasks", [own_program.pid, "--json"]) == 3
    silence = json.loads(capsys.readouterr().out)
    assert "line 41 in main" in silence["dump"]
    assert silence["threads"][0]["tid"] == own_program.child.pid
    assert commands.main("ps", []) == 0
    assert "does not answer" in capsys.readouterr().out


def test_following_stalls(own_program, monkeypatch, capsys):
    """The reports that are there come first, then those to come, until the process ends."""
    shown = []

    def show(lines):
        shown.append(lines)
        own_program.child.kill()

    monkeypatch.setattr(commands, "show", show)
    assert commands.main("stalls", [own_program.pid, "--follow"]) == 3
    assert shown[0][0].startswith("BLOCKED for")
    assert "it has closed the connection" in capsys.readouterr().err
