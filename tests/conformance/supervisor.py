"""Runs one test module in worker processes, and outlives every hang and crash in them.

The supervisor kills a worker, with all its children, if it says nothing for the time a test may
take. It notices a worker that dies. Either way the test that was running has failed, and a new
worker runs the tests that are left.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).resolve().parent
SOURCES = HERE.parent.parent / "src"
WORKER = HERE / "worker.py"
# The seconds that a stalled worker gets, past the limit, to write the traceback of every thread.
GRACE = 3.0
TAIL = 4000

BAD = ("failed", "hung", "crashed")


@dataclasses.dataclass
class Result:
    """The outcome of one test."""

    id: str
    outcome: str
    detail: str = ""
    seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Job:
    """A module to run: on which loop, which of its tests, how long each may take."""

    module: str
    loop: str
    timeout: float
    match: str | None = None
    only: tuple[str, ...] | None = None
    list_only: bool = False


@dataclasses.dataclass
class ModuleRun:
    """The results of one module; ``plan`` has every test that was to run."""

    module: str
    plan: list[str] = dataclasses.field(default_factory=list)
    results: list[Result] = dataclasses.field(default_factory=list)
    seconds: float = 0.0


class Stopped(Exception):
    """The run was interrupted while a worker was at work."""


class _Worker:
    """One worker process: its events, and the test it is at."""

    def __init__(self, job: Job, only: list[str] | None, log: IO[bytes]) -> None:
        self.job = job
        self.log = log
        self.plan: list[str] = []
        self.results: list[Result] = []
        self.current: str | None = None
        self.finished = False
        self._log_mark = 0
        self._buffer = b""
        self._events, write_end = os.pipe()
        os.set_blocking(self._events, False)
        request = {
            "events_fd": write_end,
            "loop": job.loop,
            "module": job.module,
            "match": job.match,
            "only": only,
            "list": job.list_only,
            "timeout": job.timeout,
        }
        self._process = subprocess.Popen(
            [sys.executable, "-u", "-W", "default", str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            pass_fds=(write_end,),
            env=_environment(),
            start_new_session=True,
        )
        os.close(write_end)
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode())
            self._process.stdin.close()
        except BrokenPipeError:
            pass

    def watch(self, stop: threading.Event) -> str | None:
        """Follow the worker to its end; say how it died if it did not end well."""
        try:
            limit = self.job.timeout + GRACE
            deadline = time.monotonic() + limit
            while self._process.poll() is None:
                if stop.is_set():
                    raise Stopped
                if time.monotonic() > deadline:
                    return f"hung: no sign of life for {limit:g} s"
                if select.select([self._events], [], [], 0.2)[0] and self._drain():
                    deadline = time.monotonic() + limit
            self._drain()
            return _describe_exit(self._process.returncode)
        finally:
            self._kill()
            os.close(self._events)

    def output(self) -> str:
        """The worker's output since the current test began, or the end of it."""
        self.log.seek(max(self._log_mark, self.log.seek(0, os.SEEK_END) - TAIL))
        return self.log.read().decode(errors="replace")

    def _drain(self) -> bool:
        """Take the events there are; whether there were any."""
        alive = False
        while True:
            try:
                data = os.read(self._events, 1 << 16)
            except BlockingIOError:
                return alive
            if not data:
                # Every writer is gone: wait for the exit status without spinning.
                time.sleep(0.02)
                return alive
            alive = True
            *lines, self._buffer = (self._buffer + data).split(b"\n")
            for line in lines:
                self._take(json.loads(line))

    def _take(self, event: dict[str, Any]) -> None:
        kind = event.pop("event")
        if kind == "plan":
            self.plan = event["ids"]
        elif kind == "start":
            self.current = event["id"]
            self._log_mark = event["output"]
        elif kind == "result":
            self.results.append(Result(**event))
            self.current = None
        elif kind == "skip":
            whole = f"{self.job.module}.(module)"
            self.results.append(Result(whole, "skipped", event["reason"]))
            self.finished = True
        elif kind == "broken":
            whole = f"{self.job.module}.(module)"
            self.results.append(Result(whole, "failed", event["detail"]))
            self.finished = True
        else:
            self.finished = True

    def _kill(self) -> None:
        # The children a test left behind share the worker's process group.
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()


def run_module(job: Job, stop: threading.Event) -> ModuleRun:
    """Run a module's tests to the last one, with as many workers as that takes."""
    run = ModuleRun(job.module)
    began = time.monotonic()
    only = None if job.only is None else list(job.only)
    while only is None or only:
        with tempfile.TemporaryFile() as log:
            worker = _Worker(job, only, log)
            death = worker.watch(stop)
            run.plan = run.plan or worker.plan
            run.results += worker.results
            if death is None and worker.finished:
                break
            death = death or "crashed: left without finishing the module"
            verdict = death.partition(":")[0]
            detail = f"{death}\n{worker.output()}"
        if worker.current is not None:
            run.results.append(Result(worker.current, verdict, detail))
        elif worker.results and not worker.finished:
            # Between tests: what the last one left to be closed or collected is at fault.
            last = worker.results[-1]
            last.outcome, last.detail = verdict, f"after the test, {detail}\n{last.detail}"
        else:
            where = "(exit)" if worker.finished else "(start)"
            run.results.append(Result(f"{job.module}.{where}", verdict, detail))
            break
        seen = {result.id for result in run.results}
        only = [test_id for test_id in run.plan if test_id not in seen]
    if not job.list_only:
        seen = {result.id for result in run.results}
        unrun = [test_id for test_id in run.plan if test_id not in seen]
        run.results += [Result(i, "failed", "never ran: see the module's others") for i in unrun]
    run.seconds = time.monotonic() - began
    return run


def _environment() -> dict[str, str]:
    """The worker's environment: this one, with the checkout's hoop if none is installed."""
    environment = dict(os.environ)
    environment.pop("PYTHONASYNCIODEBUG", None)
    if importlib.util.find_spec("hoop") is None:
        paths = [environment.get("PYTHONPATH"), str(SOURCES)]
        environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    return environment


def _describe_exit(status: int) -> str | None:
    if status == 0:
        return None
    if status < 0:
        return f"crashed: killed by signal {-status} ({signal.strsignal(-status)})"
    return f"crashed: exit status {status}"
