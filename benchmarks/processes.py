"""Contestants and load clients as processes: starting, asking, and the kernel's figures about them."""

from __future__ import annotations

import atexit
import json
import os
import resource
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "build" / "benchmarks"
FLOOR_SOURCES = HERE / "floor"

START_TIMEOUT_S = 30
ANSWER_GRACE_S = 60
STDERR_BYTES_MAX = 64 * 1024
UNAVAILABLE = 3  # worker.py's exit status if a loop or a package is missing here.


class Failure(Exception):
    """A contestant failed; the message says how, in a line."""


class Absent(Failure):
    """A contestant cannot be had here; the message says why."""


class Process:
    """A process that answers lines with lines, from its start until it is stopped.

    A pipe keeps what fits of its standard error, for the message if the process fails. More output does not
    block it. If a CPU is given, the process is pinned to it.
    """

    def __init__(self, command: Sequence[str], cpu: int | None) -> None:
        stderr_read, stderr_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr_write,
                bufsize=0,
            )
        finally:
            os.close(stderr_write)
        self._stderr = stderr_read
        self._unread = b""
        self.pid = self._process.pid
        atexit.register(self._process.kill)  # Does nothing to a process that has been waited for.
        if cpu is not None:
            os.sched_setaffinity(self.pid, {cpu})

    def read_line(self, timeout_s: float) -> str:
        """Return its next line. Raises Failure if there is none in time, or no more."""
        assert self._process.stdout is not None
        stdout = self._process.stdout.fileno()
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._unread:
            left_s = deadline - time.monotonic()
            ready, _, _ = select.select([stdout], [], [], max(0, left_s))
            if not ready:
                raise Failure(f"no answer in {timeout_s:.0f} s{self._last_words()}")
            more = os.read(stdout, 65536)
            if not more:
                status = self._process.wait()
                reason = Absent if status == UNAVAILABLE else Failure
                said = self._last_words().removeprefix(": ")
                raise reason(
                    said if status in (1, UNAVAILABLE) and said else f"it ended with {status}"
                )
            self._unread += more
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()

    def ask(self, question: object, timeout_s: float) -> dict[str, float]:
        """Send a line and return what its answer in JSON says."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{question}\n".encode())
        except BrokenPipeError:
            pass  # It has ended: reading says how.
        answer: dict[str, float] = json.loads(self.read_line(timeout_s))
        return answer

    def _last_words(self) -> str:
        """Return ": " and the last line of its standard error, if there is one."""
        try:
            said = os.read(self._stderr, STDERR_BYTES_MAX).decode(errors="replace").strip()
        except BlockingIOError:
            said = ""
        return f": {said.splitlines()[-1][:200]}" if said else ""

    def cpu_seconds(self) -> float:
        """Return the CPU time of all its threads, user and system, to the nanosecond.

        The clock's number is made as clock_getcpuclockid(3) makes it; /proc counts in ticks of 10 ms.
        """
        return time.clock_gettime((~self.pid << 3) | 2)

    def resident_bytes(self) -> int:
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * resource.getpagesize()

    def peak_bytes(self) -> int:
        """Return the most memory that was ever resident."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise Failure("it has no memory any more")

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()
        os.close(self._stderr)


# ---- programs and files that are made once ----


def build_floor() -> None:
    """Compile the C programs that are not there or older than their sources.

    One that does not compile is left out: its rows say so.
    """
    BUILD.mkdir(parents=True, exist_ok=True)
    newest_header = (FLOOR_SOURCES / "common.h").stat().st_mtime
    for source in FLOOR_SOURCES.glob("*.c"):
        binary = BUILD / source.stem
        newest = max(source.stat().st_mtime, newest_header)
        if not binary.exists() or binary.stat().st_mtime < newest:
            command = ["cc", "-O2", "-o", str(binary), str(source), "-ldl"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                print(f"{source.name} does not compile here:\n{done.stderr}", file=sys.stderr)


def floor_program(name: str) -> str:
    """Return the path of a compiled C program. Raises Absent if it could not be compiled."""
    if not (BUILD / name).exists():
        raise Absent(f"{name}.c does not compile here")
    return str(BUILD / name)


def certificate() -> dict[str, str]:
    """Return the paths of a certificate and its key, for this run only. Raises Absent without openssl."""
    paths = {"certificate": str(BUILD / "certificate.pem"), "key": str(BUILD / "key.pem")}
    if shutil.which("openssl") is None:
        raise Absent("there is no openssl to make a certificate with")
    command = ["openssl", "req", "-x509", "-nodes", "-days", "7", "-subj", "/CN=localhost"]
    command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-out", paths["certificate"], "-keyout", paths["key"]]
    subprocess.run(command, check=True, capture_output=True)
    return paths


def choose_cpus() -> tuple[int, int] | None:
    """Return a CPU for the contestant and one for the load, or None if there is only one."""
    cpus = sorted(os.sched_getaffinity(0))
    return (cpus[0], cpus[1]) if len(cpus) > 1 else None


def worker(
    command: str, loop: str, what: str = "", parameters: dict[str, Any] | None = None
) -> list[str]:
    """Return the command line of a worker."""
    line = [sys.executable, str(HERE / "worker.py"), command, loop]
    return line if parameters is None else [*line, what, json.dumps(parameters)]
