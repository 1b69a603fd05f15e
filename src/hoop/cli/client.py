"""The client: finds the processes that can be looked into, connects to one, asks it, and follows it.

    for process in client.processes():
        with client.connect(process.pid) as connection:
            print(connection.ask("overview"))
            for event in connection.follow("overview", every=2):
                ...

If a process does not answer, C code may keep its GIL. Then the kernel still tells some: see `blocked`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import select
import socket
import stat
import struct
import time
from collections.abc import Iterator
from typing import Any

from hoop.observe import places

PATIENCE = 1.0  # seconds in which a process that can answer greets
LONGEST = 60.0  # seconds for an answer of one that greets, whose observer may rest
CREDENTIALS = struct.Struct("3i")


class NoSuchProcess(Exception):
    """There is no such process, or it is not observed."""


class NotAnswering(Exception):
    """The process is there, and does not answer. `pid` is its number, if that is known."""

    pid: int | None = None


class Closed(NotAnswering):
    """The process has closed the connection, or it has ended."""


class Refused(Exception):
    """The process has answered with an error."""


@dataclasses.dataclass(frozen=True, slots=True)
class Process:
    """An observed process. `path` is "" if it is only watched, or its socket is at a place of its own."""

    pid: int
    path: str
    program: str
    age: float


# ---- finding processes -----------------------------------------------------------------------------


WITH_VALUE = ("-X", "-W", "--driver", "--check-hash-based-pycs")  # the next word is no program


def program_of(pid: int) -> str:
    """The file of the program that a process runs, by the kernel's word: neither its path nor arguments."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().decode(errors="replace").split("\0")
    except OSError:
        return ""
    words = [word for word in words if word]
    for i, word in enumerate(words[1:], 1):
        if words[i - 1] in WITH_VALUE:
            continue
        if word == "-m" and i + 1 < len(words) and words[i + 1] != "hoop":
            return words[i + 1]
        if word == "-c":
            return "-c"
        if not word.startswith("-") and word not in ("run", "hoop"):
            name = os.path.basename(word)
            if name not in ("hoop", "__main__.py"):
                return name
    return os.path.basename(words[0]) if words else ""


def age_of(pid: int) -> float:
    """The seconds since a process was started; 0.0 if that is not known."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            started = int(file.read().rpartition(")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return 0.0
    return max(time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK"), 0.0)


def folders() -> list[str]:
    """The folders in which sockets of the user may be; for root those of all users."""
    uid = os.geteuid()
    found = [places.folder_of(uid), places.temporary_folder_of(uid)]
    if uid == 0:
        for parent, pattern in (
            ("/run/user", r"\d+"),
            (places.temporary_folder_of(0), r"hoop-\d+"),
        ):
            parent = parent if parent == "/run/user" else os.path.dirname(parent)
            try:
                names = os.listdir(parent)
            except OSError:
                continue
            for name in names:
                if re.fullmatch(pattern, name):
                    inner = os.path.join(parent, name)
                    found.append(os.path.join(inner, "hoop") if parent == "/run/user" else inner)
    return list(dict.fromkeys(found))


def sockets() -> dict[int, str]:
    """The sockets in these folders whose processes live, by pid."""
    found: dict[int, str] = {}
    for folder in folders():
        try:
            about = os.lstat(folder)
            names = os.listdir(folder) if stat.S_ISDIR(about.st_mode) else []
        except OSError:
            continue
        if about.st_uid not in (os.geteuid(), 0) and os.geteuid() != 0:
            continue
        for name in names:
            match = places.NAME.fullmatch(name)
            if match and os.path.exists(f"/proc/{match[1]}"):
                found.setdefault(int(match[1]), os.path.join(folder, name))
    return found


def memfd_of(pid: int) -> str | None:
    """The file into which a blocked thread of the process dumps its stack; None if it is not watched."""
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)
    except OSError:
        return None
    for name in names:
        try:
            if os.readlink(f"{folder}/{name}").startswith(f"/memfd:{places.MEMFD}"):
                return f"{folder}/{name}"
        except OSError:
            pass  # it was closed meanwhile
    return None


def processes() -> list[Process]:
    """The observed processes of this user, the oldest first. For root those of all users."""
    found = sockets()
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) not in found and memfd_of(int(name)):
            found[int(name)] = ""
    rows = [Process(pid, path, program_of(pid), age_of(pid)) for pid, path in found.items()]
    return sorted(rows, key=lambda row: (-row.age, row.pid))


def find(target: str | int | None) -> tuple[int | None, str]:
    """The pid, if it is known, and the socket of a process, given by its pid or the path of its socket.

    Without a target it is the only observed process. Raises NoSuchProcess.
    """
    if target is None:
        answering = [process for process in processes() if process.path]
        if len(answering) != 1:
            many = "no process is observed" if not answering else "several processes are observed"
            raise NoSuchProcess(f"{many}: `hoop ps` lists them")
        return answering[0].pid, answering[0].path
    if isinstance(target, str) and not target.isdigit():
        if not os.path.exists(target):
            raise NoSuchProcess(f"there is no socket {target}")
        return None, target
    pid = int(target)
    if not os.path.exists(f"/proc/{pid}"):
        raise NoSuchProcess(f"there is no process {pid}")
    path = sockets().get(pid)
    if path is None:
        if memfd_of(pid):
            raise NoSuchProcess(
                f"process {pid} is watched, and has no socket here: was it HOOP_OBSERVE=watch,"
                " or start(path=...)?"
            )
        raise NoSuchProcess(
            f"process {pid} is not observed: start it with HOOP_OBSERVE=1, or with hoop.observe.start()"
        )
    return pid, path


# ---- asking ----------------------------------------------------------------------------------------


class Connection:
    """A connection to an observed process. `hello` is its first line. `pid` is told by the kernel."""

    def __init__(self, path: str, patience: float = PATIENCE) -> None:
        self.path = path
        self.patience = patience
        self.buffer = bytearray()
        self.numbers = 0
        self.pid = 0
        self.sock = open_socket(path, patience)
        try:
            self.pid, uid, _ = CREDENTIALS.unpack(
                self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
            )
            if uid not in (0, os.geteuid()) and os.geteuid() != 0:
                raise Refused(f"{path} is another user's")
            self.hello = self.read(patience)
            if "hoop" not in self.hello:
                raise Refused(str(self.hello.get("error", f"no observed process is at {path}")))
        except BaseException:
            self.sock.close()
            raise

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection, and with it all follows."""
        self.sock.close()

    def fileno(self) -> int:
        """The descriptor of the socket, to be waited for."""
        return self.sock.fileno()

    def read(self, timeout: float) -> dict[str, Any]:
        """Return the next document. Raises NotAnswering if it does not come in time, or never will."""
        end = time.monotonic() + timeout
        looked_for = 0
        while (at := self.buffer.find(b"\n", looked_for)) < 0:
            looked_for = len(self.buffer)
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.sock], [], [], left)[0]:
                raise self.silent("it does not answer")
            try:
                data = self.sock.recv(1 << 18)
            except ConnectionError:
                data = b""
            if not data:
                raise Closed("it has closed the connection")
            self.buffer += data
        line = bytes(self.buffer[:at])
        del self.buffer[: at + 1]
        try:
            document = json.loads(line)
        except ValueError:
            raise Refused(f"no observed process is at {self.path}") from None
        return document if type(document) is dict else {}

    def send(self, verb: str, view: str, **fields: Any) -> int:
        """Send a request, and return its id."""
        self.numbers += 1
        request = {"id": self.numbers, verb: view, **fields}
        try:
            self.sock.sendall(json.dumps(request).encode() + b"\n")
        except OSError as exc:
            raise Closed(f"it takes no request: {exc}") from None
        return self.numbers

    def silent(self, text: str) -> NotAnswering:
        """The exception that says so of this process."""
        exc = NotAnswering(text)
        exc.pid = self.pid or None
        return exc

    def patiently(self) -> dict[str, Any]:
        """As read(). A process whose observer rests has more time, if it greets another client meanwhile."""
        end = time.monotonic() + LONGEST
        while True:
            try:
                return self.read(self.patience)
            except Closed:
                raise
            except NotAnswering:
                if time.monotonic() > end or not greets(self.path, self.patience):
                    raise

    def ask(self, view: str, **fields: Any) -> Any:
        """Return a view. Raises Refused if the process says that it cannot, and NotAnswering."""
        number = self.send("get", view, **fields)
        while True:
            answer = self.patiently()
            if answer.get("id") == number:
                if "error" in answer:
                    raise Refused(str(answer["error"]))
                return answer.get("ok")

    def follow(self, view: str, every: float = 1.0, **fields: Any) -> Iterator[Any]:
        """Give a view again and again, or each report of a stall if that is the view."""
        number = self.send("follow", view, every=every, **fields)
        while True:
            if b"\n" not in self.buffer:
                wait = None if view == "stalls" else every + self.patience
                ready, _, _ = select.select([self.sock], [], [], wait)
                if not ready and not greets(self.path, self.patience):
                    raise self.silent("it does not answer")
                if not ready:
                    continue
            event = self.patiently()
            if event.get("id") == number:
                if "error" in event:
                    raise Refused(str(event["error"]))
                yield event.get("event")


def open_socket(path: str, timeout: float) -> socket.socket:
    """Connect to a socket of a path of any length."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    folder = -1
    try:
        sock.settimeout(timeout)
        if len(os.fsencode(path)) > places.PATH_MAX:
            folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
        sock.connect(places.address_of(folder, path))
        sock.settimeout(None)
    except BaseException as exc:
        sock.close()
        if isinstance(exc, (FileNotFoundError, ConnectionRefusedError)):
            raise NoSuchProcess(f"nobody listens at {path}") from None
        if isinstance(exc, PermissionError):
            raise Refused(f"{path} is another user's") from None
        if isinstance(exc, (TimeoutError, BlockingIOError)):
            raise NotAnswering("it takes no connection") from None
        raise
    finally:
        if folder >= 0:
            os.close(folder)
    return sock


def greets(path: str, timeout: float) -> bool:
    """Whether the process at a path greets, be it to say that it has too many clients."""
    try:
        Connection(path, timeout).close()
    except Refused:
        return True
    except (NotAnswering, NoSuchProcess):
        return False
    return True


def connect(target: str | int | None = None, patience: float = PATIENCE) -> Connection:
    """Connect to a process, given by its pid or the path of its socket.

    Raises NoSuchProcess, Refused, or NotAnswering, whose `pid` is that of the process.
    """
    pid, path = find(target)
    try:
        return Connection(path, patience)
    except NotAnswering as exc:
        exc.pid = pid
        raise


# ---- a process that does not answer ------------------------------------------------------------------


def threads_of(pid: int) -> list[dict[str, Any]]:
    """The threads of a process as the kernel tells them: name, state, seconds of CPU, and where it waits."""
    found = []
    try:
        tids = sorted(int(name) for name in os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return []
    for tid in tids:
        folder = f"/proc/{pid}/task/{tid}"
        try:
            with open(f"{folder}/stat") as file:
                text = file.read()
        except OSError:
            continue  # it has ended
        words = text.rpartition(")")[2].split()
        ticks = os.sysconf("SC_CLK_TCK")
        found.append(
            {
                "tid": tid,
                "name": text[text.index("(") + 1 : text.rindex(")")],
                "state": words[0],
                "cpu": (int(words[11]) + int(words[12])) / ticks,
                "wchan": wchan_of(folder),
            }
        )
    return found


def wchan_of(folder: str) -> str:
    """The function of the kernel in which a thread waits; "" if it does not, or that is not to be known."""
    try:
        with open(f"{folder}/wchan") as file:
            name = file.read()
    except OSError:
        return ""
    return "" if name == "0" else name


def blocked(pid: int) -> dict[str, Any]:
    """Tell what the kernel knows of a process that does not answer.

    `dump` is what its watcher and its blocked thread have written, "" if nothing. `threads` see threads_of().
    """
    dump = ""
    memfd = memfd_of(pid)
    if memfd is not None:
        try:
            with open(memfd, "rb") as file:
                dump = file.read(100_000).decode(errors="replace")
        except OSError:
            pass  # it is gone, or another user's
    return {"pid": pid, "dump": since(dump), "threads": threads_of(pid)}


def since(dump: str) -> str:
    """The watcher's line with the time that has passed, in place of a time on the kernel's clock."""

    def passed(found: re.Match[str]) -> str:
        return f"for {(time.monotonic_ns() - int(found[1])) / 1e9:.1f} s"

    return re.sub(r"since (\d+) ns of CLOCK_MONOTONIC", passed, dump, count=1)
