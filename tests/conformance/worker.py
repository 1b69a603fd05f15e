"""The child process that runs one test module and reports each test as a line of JSON.

It reads its request, a JSON object, from standard input and writes events to the file descriptor
the request names. The supervisor starts it, watches it, and replaces it when it dies or stalls::

    {"event": "plan", "ids": [...]}                 the tests about to run
    {"event": "start", "id": ..., "output": ...}    one begins, with so much printed before it
    {"event": "result", "id": ..., "outcome": ..., "detail": ..., "seconds": ...}
    {"event": "done"}                               nothing is left but to exit

Instead of a plan there may be a reason for having none, after which the worker exits::

    {"event": "skip", "reason": ...}                the module is not for this platform
    {"event": "broken", "detail": ...}              it, or the loop, cannot be imported or bound
"""

from __future__ import annotations

import asyncio
import faulthandler
import importlib
import json
import os
import signal
import sys
import time
import traceback
import unittest
from collections.abc import Iterator
from typing import Any, cast

import bind
import classes

PACKAGE = "test.test_asyncio."
DETAIL_LIMIT = 6000


def full_name(module: str) -> str:
    """The import name of a module given as on the command line."""
    return module if "." in module else PACKAGE + module


def short_id(test_id: str) -> str:
    """A test's id as the reports and the exceptions file spell it."""
    return test_id.removeprefix(PACKAGE)


class Reporter(unittest.TestResult):
    """Sends each test's outcome as it happens, and writes a traceback when one stalls."""

    def __init__(self, events_fd: int, timeout: float, plan: list[str]) -> None:
        super().__init__()
        self._fd = events_fd
        # A copy, because tests may replace their standard output and error.
        self._output_fd = os.dup(2)
        self._timeout = timeout
        self._plan = plan
        self._outcome = "passed"
        self._details: list[str] = []
        self._started = 0.0
        self._running = False

    def send(self, event: str, **fields: Any) -> None:
        line = json.dumps({"event": event, **fields}) + "\n"
        data = line.encode()
        while data:
            data = data[os.write(self._fd, data) :]

    def watch(self) -> None:
        """From now, if nothing happens for too long, write where every thread is."""
        faulthandler.dump_traceback_later(self._timeout, exit=False)

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self._begin(test)

    def _begin(self, test: unittest.TestCase) -> None:
        self._outcome, self._details = "passed", []
        self._running = True
        self.send("start", id=short_id(test.id()), output=os.fstat(self._output_fd).st_size)
        self._started = time.monotonic()
        self.watch()

    def stopTest(self, test: unittest.TestCase) -> None:
        self.watch()
        if asyncio._get_running_loop() is not None:
            asyncio._set_running_loop(None)
            self._note("failed", "the test left a loop set as the running one")
        self._report(short_id(test.id()), time.monotonic() - self._started)
        self._running = False
        super().stopTest(test)

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        self._add(test, "failed", self._text(err, test))

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        self._add(test, "failed", self._text(err, test))

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        if err is not None:
            self._add(test, "failed", f"{subtest}\n{self._text(err, test)}")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        self._add(test, "skipped", reason)

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        self._add(test, "failed", "marked as an expected failure, but passes")

    def _add(self, test: unittest.TestCase, outcome: str, detail: str) -> None:
        if not self._running and isinstance(test, unittest.TestCase):
            # Python 3.12.1 skips a test without having started it.
            self._begin(test)
        if self._running:
            self._note(outcome, detail)
        else:
            self._report_fixture(test.id(), outcome, detail)

    def _note(self, outcome: str, detail: str) -> None:
        if self._outcome != "failed":
            self._outcome = outcome
        self._details.append(detail)

    def _report(self, test_id: str, seconds: float) -> None:
        detail = "\n".join(self._details)
        if len(detail) > DETAIL_LIMIT:
            detail = detail[: DETAIL_LIMIT // 2] + "\n[...]\n" + detail[-DETAIL_LIMIT // 2 :]
        fields = {"id": test_id, "outcome": self._outcome, "detail": detail}
        self.send("result", seconds=round(seconds, 3), **fields)

    def _report_fixture(self, fixture_id: str, outcome: str, detail: str) -> None:
        """Report what a class's or module's fixture did, as every test it kept from running."""
        self._outcome, self._details = outcome, [f"{fixture_id}: {detail}"]
        fixture, _, owner = fixture_id.rstrip(")").partition(" (")
        prefix = short_id(owner) + "."
        kept = [i for i in self._plan if i.startswith(prefix)] if "setUp" in fixture else []
        for test_id in kept or [f"{short_id(owner)}.({fixture})"]:
            self._report(test_id, 0.0)

    def _text(self, err: Any, test: unittest.TestCase) -> str:
        return cast(str, self._exc_info_to_string(err, test))  # type: ignore[attr-defined]


def flatten(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    """The tests of a suite, in the order in which the suite runs them."""
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from flatten(item)
        else:
            yield item


def collect(module_name: str, subject: bind.Subject, request: dict[str, Any]) -> unittest.TestSuite:
    """The tests of a module that the request asks for."""
    module = importlib.import_module(full_name(module_name))
    classes.add(module, subject)
    tests = list(flatten(unittest.defaultTestLoader.loadTestsFromModule(module)))
    if request["match"] is not None:
        tests = [test for test in tests if request["match"] in short_id(test.id())]
    if subject.name == "sim":
        tests = [t for t in tests if not any(part in t.id() for part in bind.APART_IN_SIMULATION)]
    if request["only"] is not None:
        wanted = set(request["only"])
        tests = [test for test in tests if short_id(test.id()) in wanted]
    return unittest.TestSuite(tests)


def main() -> None:
    request = json.load(sys.stdin)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    events_fd = request["events_fd"]
    os.set_inheritable(events_fd, False)
    faulthandler.enable()
    # Some tests interrupt themselves, which a run started in the background would ignore.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    plan: list[str] = []
    reporter = Reporter(events_fd, request["timeout"], plan)
    try:
        subject = bind.bind(request["loop"])
        suite = collect(request["module"], subject, request)
    except unittest.SkipTest as skip:
        reporter.send("skip", reason=str(skip))
        return
    except Exception:
        reporter.send("broken", detail=traceback.format_exc())
        return
    plan.extend(short_id(test.id()) for test in flatten(suite))
    reporter.send("plan", ids=plan)
    reporter.watch()
    if not request["list"]:
        suite.run(reporter)
    reporter.watch()
    reporter.send("done")


if __name__ == "__main__":
    main()
