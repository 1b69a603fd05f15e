"""Contestants in a row while they run: servers under load, work, and connections that are idle."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processes import (
    ANSWER_GRACE_S,
    BUILD,
    START_TIMEOUT_S,
    Absent,
    Failure,
    Process,
    certificate,
    floor_program,
    worker,
)
from rows import MEMORY_FROM, Contestant, Row
from workloads import files, web

Sample = dict[str, float]

OTHER_DESCRIPTORS = 100  # That a server has beside its connections, and more than enough.
CONNECT_TIMEOUT_S = 0.01  # For each connection, with its TLS handshake.

# ---- what rows name in braces ----

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
FRAME = b"\x82\xc0" + bytes(4) + b"x" * 64  # A binary message of 64 bytes, masked with zeros.
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b"
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: client\r\nAccept: */*\r\n\r\n"
CONTENT = {
    "upgrade": UPGRADE,
    "frame": FRAME,
    "request": REQUEST,
    "response": RESPONSE % (len(web.BODY), web.BODY),
}


class Places(dict[str, str]):
    """The paths and addresses that rows name, each made when it is first asked for."""

    def __init__(self, load_cpu: int | None) -> None:
        super().__init__()
        self._load_cpu = load_cpu
        self._sockets = 0

    def __missing__(self, name: str) -> str:
        if name == "socket":
            self._sockets += 1  # Not remembered: each server has its own.
            path = BUILD / f"{os.getpid()}-{self._sockets}.socket"
            return os.path.relpath(path)  # An absolute path may be too long for a socket.
        if name in ("certificate", "key"):
            self.update(certificate())
        elif name == "folder":
            folder = BUILD / "files"
            folder.mkdir(exist_ok=True)
            files.prepare(folder)
            self[name] = str(folder)
        elif name == "http_server":
            command = [floor_program("srv_epoll"), "-m", self["response"], "0"]
            self[name] = Process(command, self._load_cpu).read_line(START_TIMEOUT_S)
        else:
            path = BUILD / name
            path.write_bytes(CONTENT[name])
            self[name] = str(path)
        return self[name]

    def fill(self, value: object) -> object:
        return value.format_map(self) if isinstance(value, str) else value

    def fill_all(self, values: Mapping[str, object]) -> dict[str, Any]:
        return {name: self.fill(value) for name, value in values.items()}


@dataclass(frozen=True)
class Setting:
    """Where contestants run, and where they find what their rows name."""

    cpu: int | None
    load_cpu: int | None
    places: Places


# ---- contestants at work ----


class Entry:
    """A contestant in a row, from its start until it is stopped."""

    process: Process

    def sample(self, seconds: float) -> Sample:
        raise NotImplementedError

    def stop(self) -> None:
        self.process.stop()


def derive(answer: Sample, cpu_s: float) -> Sample:
    """Return what a table shows, of what was counted and the CPU time it took."""
    operations = answer["operations"]
    sample = {"cpu_us": cpu_s * 1e6 / operations, "wall_us": answer["wall_s"] * 1e6 / operations}
    sample["per_second"] = operations / answer["wall_s"]
    kept = ("p50_us", "p99_us", "bytes_each")
    return sample | {key: answer[key] for key in kept if key in answer}


def check_descriptors(connections: int) -> None:
    """Raise Absent if a process of this machine may not have so many connections."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if connections + OTHER_DESCRIPTORS > limit:
        raise Absent(
            f"{connections:,} connections need more descriptors than the limit of {limit:,} (ulimit -n)"
        )


class Served(Entry):
    """A server, and the client that loads it; both stay for all rounds."""

    def __init__(self, row: Row, contestant: Contestant, setting: Setting) -> None:
        check_descriptors(row.load.connections)
        self._connections = row.load.connections
        self._bytes_each: float | None = None
        places, load_cpu = setting.places, setting.load_cpu
        cpu = setting.cpu if row.pinned else None
        address = str(places.fill(row.load.address))
        if contestant.loop:
            parameters = {**row.parameters, **contestant.parameters, "address": address}
            filled = places.fill_all(parameters)
            command = worker("serve", contestant.loop, contestant.what, filled)
        else:
            options = [str(places.fill(option)) for option in contestant.options]
            bind = "0" if address == "udp" else address
            command = [floor_program(contestant.what), *options, bind]
        datagrams = address == "udp"
        self._client: Process | None = None
        self.process = Process(command, cpu)
        try:
            self._started_at = self.process.read_line(START_TIMEOUT_S)
            self.idle_bytes = self.process.resident_bytes()
            load = [floor_program("client_udp" if datagrams else "client")]
            load += ["-w" if datagrams else "-c", str(row.load.connections)]
            load += ["-b", str(row.load.message_bytes)]
            load += [str(places.fill(option)) for option in row.load.options]
            self._client = Process([*load, self._started_at], load_cpu)
            self._client.read_line(START_TIMEOUT_S + self._connections * CONNECT_TIMEOUT_S)
        except BaseException:
            self.stop()
            raise

    def sample(self, seconds: float) -> Sample:
        assert self._client is not None
        before_s = self.process.cpu_seconds()
        try:
            answer = self._client.ask(seconds, seconds + ANSWER_GRACE_S)
        except Failure as failure:
            raise self._blame(failure) from failure
        cpu_s = self.process.cpu_seconds() - before_s
        sample = {**derive(answer, cpu_s), "peak_bytes": float(self.process.peak_bytes())}
        if self._connections >= MEMORY_FROM:
            if self._bytes_each is None:  # Only once: a later one would find memory that was freed.
                grown = self.process.resident_bytes() - self.idle_bytes
                self._bytes_each = grown / self._connections
            sample["bytes_each"] = self._bytes_each
        return sample

    def _blame(self, failure: Failure) -> Failure:
        """Return why the client failed: because the server did, if it has ended."""
        try:
            self.process.read_line(1)
        except Failure as reason:
            if "no answer" not in str(reason):
                return Failure(f"the server: {reason}")
        return Failure(f"its client: {failure}")

    def stop(self) -> None:
        if self._client is not None:
            self._client.stop()
        self.process.stop()
        if "/" in getattr(self, "_started_at", ""):
            Path(self._started_at).unlink(missing_ok=True)


class Working(Entry):
    """A worker that does the work whenever it is asked to, and takes the time itself."""

    def __init__(self, row: Row, contestant: Contestant, setting: Setting) -> None:
        parameters = {**row.parameters, **contestant.parameters, "step": row.step}
        parameters["once"] = row.once
        filled = setting.places.fill_all(parameters)
        command = worker("work", contestant.loop, contestant.what, filled)
        self.process = Process(command, setting.cpu if row.pinned else None)
        try:
            self.process.read_line(START_TIMEOUT_S)
        except BaseException:
            self.stop()
            raise

    def sample(self, seconds: float) -> Sample:
        answer = self.process.ask(seconds, seconds + ANSWER_GRACE_S)
        return {
            **derive(answer, answer["cpu_s"]),
            "peak_bytes": float(self.process.peak_bytes()),
        }


class Idle(Entry):
    """A new server for each sample, with many connections that have each sent one message."""

    def __init__(self, row: Row, contestant: Contestant, setting: Setting) -> None:
        self._served = Served(row, contestant, setting)
        self._connections = row.load.connections
        self.process = self._served.process

    def sample(self, seconds: float) -> Sample:
        self._served.sample(0)
        grown = self.process.resident_bytes() - self._served.idle_bytes
        return {
            "bytes_each": grown / self._connections,
            "peak_bytes": float(self.process.peak_bytes()),
        }

    def stop(self) -> None:
        self._served.stop()


KINDS: dict[str, Callable[[Row, Contestant, Setting], Entry]] = {
    "served": Served,
    "work": Working,
    "idle": Idle,
}
