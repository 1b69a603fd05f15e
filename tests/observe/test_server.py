"""The socket of an observed process: who may come, what is answered, and how much time that may take."""

from __future__ import annotations

import json
import os
import random
import select
import socket
import stat
import subprocess
import sys
import tempfile

import pytest

from hoop.observe import places
from hoop.observe.server import Budget, Server, Wrong

IS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root can become another user")


class Time:
    """A clock, and a clock of processor time, that the test moves."""

    def __init__(self):
        self.now = 1000.0
        self.cpu = 0.0

    def work(self, seconds):
        self.now += seconds
        self.cpu += seconds


class Setting:
    """A server without a thread, and its clients. turn() is what the observer's thread would do."""

    def __init__(self, path):
        self.time = Time()
        self.cost = 0.0
        self.events = []
        self.sockets = []
        budget = Budget(lambda: self.time.now, lambda: self.time.cpu)
        self.server = Server(
            self.answer,
            lambda: {"hoop": "x"},
            lambda query: [self.events.pop(0) for _ in range(len(self.events))],
            {"view": None, "large": None},
            budget,
            str(path),
            clock=lambda: self.time.now,
        )

    def answer(self, query):
        self.time.work(self.cost)
        if query.view == "large":
            return "x" * query.number("size", 1 << 20, 1 << 30)
        if query.view != "view":
            raise Wrong(f"no such view: {query.view}")
        query.number("top", 200, 1000)
        query.text("sort", "")
        return {"top": query.fields.get("top")}

    def turn(self, rests=True):
        """One turn. Returns how long the observer would have slept if nobody had woken it."""
        rest = self.server.budget.account()
        due = self.server.next_due(rest)
        waited = self.server.descriptors(rest)
        readable = select.select(waited, [], [], 0)[0]
        if not readable and rests:
            self.time.now += due
        self.server.serve(readable)
        return due

    def turns(self, n=20):
        for _ in range(n):
            self.turn(rests=False)

    def connect(self, greeted=True):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sockets.append(sock)
        sock.connect(self.server.path)
        sock.setblocking(False)
        self.turns(2)
        if greeted:
            assert self.lines(sock) == [{"hoop": "x"}]
        return sock

    def lines(self, sock):
        """The documents that have come; an end of file is None."""
        self.turns()
        data = b""
        try:
            while chunk := sock.recv(1 << 20):
                data += chunk
                self.turns(3)
            ended = True
        except BlockingIOError:
            ended = False
        found = [json.loads(line) for line in data.splitlines()]
        return [*found, None] if ended else found

    def ask(self, sock, **request):
        sock.sendall(json.dumps(request).encode() + b"\n")
        return self.lines(sock)

    def close(self):
        for sock in self.sockets:
            sock.close()
        self.server.close()


@pytest.fixture
def setting(tmp_path):
    made = Setting(tmp_path / "a.sock")
    yield made
    made.close()
    assert not (tmp_path / "a.sock").exists()


# ---- requests ----------------------------------------------------------------------------------------


def test_an_answer(setting):
    sock = setting.connect()
    answer = [{"id": 1, "ok": {"top": 7}}]
    assert setting.ask(sock, id=1, get="view", top=7, colour="an unknown field") == answer


def test_a_line_may_come_in_pieces(setting):
    sock = setting.connect()
    for byte in b'{"id": "a", "get": "view"}\n':
        assert setting.lines(sock) == []
        sock.send(bytes([byte]))
    assert setting.lines(sock) == [{"id": "a", "ok": {"top": None}}]


def test_lines_may_come_together(setting):
    sock = setting.connect()
    sock.send(b"".join(b'{"id": %d, "get": "view"}\n' % i for i in range(50)) + b"\n \n{")
    assert [line["id"] for line in setting.lines(sock)] == list(range(50))
    sock.send(b'"get": "view"}\n')
    assert setting.lines(sock) == [{"id": None, "ok": {"top": None}}]


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ({"id": 3, "get": "nonsense"}, "no such view: nonsense"),
        ({"id": 3, "follow": "nonsense"}, "no such view: nonsense"),
        ({"id": 3}, 'a request says "get" or "follow", and the name of a view'),
        ({"id": 3, "get": 7}, 'a request says "get" or "follow", and the name of a view'),
        ({"id": 3, "get": "view", "top": "many"}, '"top" must be a whole number, and not negative'),
        ({"id": 3, "get": "view", "top": -1}, '"top" must be a whole number, and not negative'),
        ({"id": 3, "get": "view", "top": True}, '"top" must be a whole number, and not negative'),
        ({"id": 3, "get": "view", "sort": None}, '"sort" must be a text'),
        ({"id": 3, "follow": "view", "every": "x"}, '"every" must be a number of seconds'),
        ({"id": 3, "follow": "view", "every": 1e999}, '"every" must be a number of seconds'),
    ],
)
def test_a_request_that_is_wrong(setting, request_, error):
    sock = setting.connect()
    assert setting.ask(sock, **request_) == [{"id": 3, "error": error}]
    assert setting.ask(sock, id=4, get="view") == [{"id": 4, "ok": {"top": None}}]


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"\xff\xfe",
        b"[" * 60_000,
        b"1" * 5000,
        b"7",
        b"[]",
        b'"get"',
        b'{"id": [1], "get": "view"}',
    ],
)
def test_a_line_that_is_no_request(setting, line):
    sock = setting.connect()
    sock.send(line + b"\n")
    (answer,) = setting.lines(sock)
    assert answer["id"] is None
    assert answer["error"]
    assert setting.ask(sock, id=4, get="view") == [{"id": 4, "ok": {"top": None}}]


def test_junk(setting):
    """Every line that is not blank gets one answer, whatever is in it."""
    chance = random.Random(12)
    words = [
        b'"id"',
        b":",
        b"1",
        b"{",
        b"}",
        b",",
        b'"get"',
        b'"view"',
        b'"top"',
        b"[",
        b"]",
        b"null",
    ]
    words += [
        b'"follow"',
        b"NaN",
        b"-1",
        b"1e999",
        b'"every"',
        b'"\\ud800"',
        b"\xc3",
        b"\x00",
        b" ",
    ]
    good = b'{"id": 1, "get": "view", "top": 5}'
    sock = setting.connect()
    for _ in range(1500):
        if chance.random() < 0.5:
            line = b"".join(chance.choices(words, k=chance.randrange(1, 20)))
        else:
            mutable = bytearray(good)
            for _ in range(chance.randrange(1, 4)):
                mutable[chance.randrange(len(mutable))] = chance.randrange(256)
            line = bytes(mutable)
        line = line.replace(b"\n", b"")
        sock.send(line + b"\n")
        answers = [one for one in setting.lines(sock) if "event" not in one]
        assert len(answers) == bool(line.strip()), line
    assert {"id": 4, "ok": {"top": None}} in setting.ask(sock, id=4, get="view")


def test_a_line_that_is_too_long(setting):
    sock = setting.connect()
    start = b'{"id": 1, "get": "view", "x": "'
    line = start + b"x" * (places.LINE_MAX - len(start) - 2) + b'"}'
    sock.setblocking(True)
    sock.sendall(line + b"\n")
    sock.setblocking(False)
    assert [one.get("id") for one in setting.lines(sock)] == [1]
    for _ in range(places.LINE_MAX // 1000 + 1):
        try:
            sock.send(b"x" * 1000)
        except BlockingIOError:
            setting.turns()
    error = f"a line has at most {places.LINE_MAX} bytes"
    assert setting.lines(sock) == [{"id": None, "error": error}, None]


def test_an_answer_that_is_too_long(setting):
    sock = setting.connect()
    (answer,) = setting.ask(sock, id=1, get="large", size=places.ANSWER_MAX)
    assert "ask for fewer rows" in answer["error"]
    (answer,) = setting.ask(sock, id=2, get="large", size=places.ANSWER_MAX - 100)
    assert len(answer["ok"]) == places.ANSWER_MAX - 100


# ---- follows -----------------------------------------------------------------------------------------


def test_a_follow(setting):
    sock = setting.connect()
    assert setting.ask(sock, id=1, follow="view", every=2) == [{"id": 1, "event": {"top": None}}]
    assert setting.lines(sock) == []
    setting.time.now += 1.9
    assert setting.lines(sock) == []
    setting.time.now += 0.2
    assert setting.lines(sock) == [{"id": 1, "event": {"top": None}}]
    assert setting.ask(sock, id=1, follow="view", every=50, top=3) == [
        {"id": 1, "event": {"top": 3}}
    ]
    setting.time.now += 40
    assert setting.lines(sock) == []


def test_a_follow_of_events(setting):
    sock = setting.connect()
    assert setting.ask(sock, id=1, follow="stalls") == []
    setting.events += [{"n": 1}, {"n": 2}]
    assert setting.lines(sock) == [{"id": 1, "event": {"n": 1}}, {"id": 1, "event": {"n": 2}}]


def test_follows_are_few(setting):
    sock = setting.connect()
    answers = [setting.ask(sock, id=i, follow="view", every=100)[0] for i in range(17)]
    assert ["event" in answer for answer in answers] == [True] * 16 + [False]
    assert answers[-1] == {"id": 16, "error": "a client may follow 16 views"}


def test_a_lease(setting):
    sock = setting.connect()
    assert not setting.server.looks()
    setting.ask(sock, id=1, get="view", look=True)
    setting.time.now += 4.9
    assert setting.server.looks()
    setting.time.now += 0.2
    assert not setting.server.looks()
    setting.ask(sock, id=1, follow="view", every=1000, look=True)
    setting.time.now += 900
    assert setting.server.looks()
    sock.close()
    setting.turns()
    assert not setting.server.looks()


# ---- clients -----------------------------------------------------------------------------------------


def test_a_client_that_does_not_read(setting):
    sock, other = setting.connect(), setting.connect()
    sock.send(b'{"id": 1, "get": "large"}\n' * 3)
    setting.turns()
    setting.time.now += 4.9
    assert setting.ask(other, id=2, get="view")  # others are served
    setting.time.now += 0.2
    setting.turns()
    assert len(setting.server.clients) == 1
    assert setting.ask(other, id=2, get="view")


def test_a_client_that_reads_late(setting):
    sock = setting.connect()
    sock.send(b'{"id": 1, "get": "large"}\n' * 3)
    setting.turns()
    setting.time.now += 4.9
    assert [len(one["ok"]) for one in setting.lines(sock)] == [1 << 20] * 3
    setting.time.now += 10
    assert setting.ask(sock, id=2, get="view") == [{"id": 2, "ok": {"top": None}}]


def test_nine_clients(setting):
    socks = [setting.connect() for _ in range(8)]
    ninth = setting.connect(greeted=False)
    assert setting.lines(ninth) == [{"error": "there are 8 clients already"}, None]
    for sock in socks:
        assert setting.ask(sock, id=1, get="view") == [{"id": 1, "ok": {"top": None}}]
    socks[3].close()
    setting.connect()


def test_a_client_that_goes_in_the_middle(setting):
    for sent in (b"", b'{"id"', b'{"id": 1, "get": "large"}\n' * 3):
        sock = setting.connect()
        sock.send(sent)
        sock.close()
        setting.turns()
        assert setting.server.clients == {}


# ---- the budget --------------------------------------------------------------------------------------


def test_after_work_there_is_rest():
    time = Time()
    budget = Budget(lambda: time.now, lambda: time.cpu)
    began = time.now
    time.work(0.1 + Budget.AT_ONCE / 2)
    assert budget.account() == pytest.approx(49 * 0.1, rel=0.03)
    time.now += 49 * 0.1 - 0.2
    assert budget.account() > 0
    time.now += 0.3
    assert budget.account() == 0
    assert budget.spent / (time.now - began) < 0.022
    time.now += 1000  # time without work is not saved up
    budget.account()
    time.work(0.1)
    assert budget.account() > 4


def test_clients_that_ask_without_pause(setting):
    """They get two hundredths of a processor."""
    setting.cost = 0.004
    socks = [setting.connect() for _ in range(8)]
    for sock in socks:
        sock.send(b'{"id": 1, "get": "view"}\n' * 500)
    began = setting.time.now, setting.time.cpu
    for _ in range(4000):
        setting.turn()
        setting.time.work(0.0001)  # of the watch
    passed, spent = setting.time.now - began[0], setting.time.cpu - began[1]
    assert spent > 0.5
    assert spent <= 0.02 * passed + Budget.AT_ONCE + setting.cost


def test_waking_up_alone_does_not_use_up_the_budget(setting):
    """Each turn costs as much as a rest of 15 ms earns."""
    sock = setting.connect()
    setting.cost = 0.006
    sock.send(b'{"id": 1, "get": "view"}\n' * 20)
    for _ in range(2000):
        setting.time.work(0.0003)
        setting.turn()
    assert len(setting.lines(sock)) == 20


def test_shares_are_equal(setting):
    setting.cost = 0.004
    socks = [setting.connect() for _ in range(8)]
    for sock in socks:
        sock.send(b'{"id": 1, "get": "view"}\n' * 500)
    for _ in range(4000):
        setting.turn()
    answers = []
    for sock in socks:
        try:
            answers.append(sock.recv(1 << 20).count(b"\n"))
        except BlockingIOError:
            answers.append(0)
    assert min(answers) > 5
    assert max(answers) - min(answers) <= 1


def test_a_new_client_is_greeted_while_the_observer_rests(setting):
    sock = setting.connect()
    setting.cost = 1.0
    setting.ask(sock, id=1, get="view")
    setting.time.now += 0.3
    second = setting.connect()
    assert setting.server.budget.account() > 40
    assert setting.ask(second, id=1, get="view") == []
    third = setting.connect(greeted=False)  # another one has to wait
    assert setting.lines(third) == []
    setting.time.now += 0.3
    assert setting.lines(third) == [{"hoop": "x"}]
    setting.time.now += 50
    assert setting.lines(second) == [{"id": 1, "ok": {"top": None}}]


# ---- the place of the socket ---------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A temporary folder of the test's own, in which the process's usual socket is."""
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"hoop-{os.geteuid()}"


def listens(path=None):
    """Listen and stop again. Returns the path."""
    listening, path = places.listen(path)
    listening.close()
    return path


@pytest.mark.parametrize("mask", [0o000, 0o022])
def test_modes(home, mask):
    before = os.umask(mask)
    try:
        path = listens()
    finally:
        os.umask(before)
    assert path == str(home / f"{os.getpid()}.sock")
    about = os.stat(path)
    assert (stat.S_IMODE(about.st_mode), about.st_uid) == (0o600, os.geteuid())
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_the_runtime_folder(home, tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    assert listens() == str(tmp_path / "run" / "hoop" / f"{os.getpid()}.sock")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "missing"))
    assert listens() == str(home / f"{os.getpid()}.sock")


def test_a_link_in_the_place_of_the_folder(home, tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    home.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError, match="a link"):
        listens()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_folder_that_others_may_enter(home):
    home.mkdir(mode=0o755)
    with pytest.raises(PermissionError, match="open to other users"):
        listens()


@needs_root
def test_a_folder_of_another_user(home):
    home.mkdir(mode=0o700)
    os.chown(home, 65534, -1)
    with pytest.raises(PermissionError, match="another user's"):
        listens()


def test_a_socket_that_is_stale(home):
    assert listens() == listens()  # its process has ended without removing it


def test_a_socket_at_which_another_process_listens(tmp_path):
    path = str(tmp_path / "a.sock")
    first, _ = places.listen(path)
    with first, pytest.raises(OSError, match="another process listens there"):
        listens(path)
    assert os.path.exists(path)


def test_a_file_is_never_removed(tmp_path):
    path = tmp_path / "a.sock"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match="no socket"):
        listens(str(path))
    assert path.read_text() == "precious"


def test_sockets_of_processes_that_ended_are_removed(home):
    listens()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    names = [f"{ended.pid}.sock", f"{os.getppid()}.sock", "notes.txt"]
    for name in names:
        if name.endswith("sock"):
            listens(str(home / name))
        else:
            (home / name).write_text("")
    listens()
    assert sorted(os.listdir(home)) == sorted([*names[1:], f"{os.getpid()}.sock"])


def test_a_path_that_is_too_long_for_the_kernel(tmp_path):
    folder = tmp_path / ("x" * 200)
    setting = Setting(folder / "a.sock")
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        setting.sockets.append(sock)
        sock.connect(f"/proc/self/fd/{descriptor}/a.sock")
        sock.setblocking(False)
        assert setting.lines(sock) == [{"hoop": "x"}]
    finally:
        os.close(descriptor)
        setting.close()
    assert list(folder.iterdir()) == []


def test_a_name_that_is_too_long(tmp_path):
    with pytest.raises(OSError, match="too long"):
        listens(str(tmp_path / ("x" * 120)))


def test_a_socket_that_another_has_replaced_is_kept(tmp_path):
    setting = Setting(tmp_path / "a.sock")
    os.unlink(setting.server.path)
    (tmp_path / "a.sock").write_text("another's")
    setting.close()
    assert (tmp_path / "a.sock").read_text() == "another's"


@needs_root
def test_another_user_is_told_to_go():
    """Even if somebody has opened the folder and the socket to all."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        setting = Setting(os.path.join(folder, "a.sock"))
        os.chmod(setting.server.path, 0o666)
        code = (
            "import os, socket, sys; os.setgid(65534); os.setuid(65534)\n"
            "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
            'try: s.sendall(b\'{"id": 1, "get": "view"}\\n\')\n'
            "except OSError: pass\n"
            "print(s.recv(1000).decode())"
        )
        child = subprocess.Popen(
            [sys.executable, "-c", code, setting.server.path], stdout=subprocess.PIPE, text=True
        )
        while child.poll() is None:
            setting.turn(rests=False)
            select.select([], [], [], 0.01)
        told = child.stdout.read()
        child.stdout.close()
        setting.close()
    assert told.strip() == '{"error":"this process is another user\'s"}'
