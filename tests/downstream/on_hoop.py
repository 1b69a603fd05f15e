"""A pytest plugin for other projects' tests: they run on hoop, and fail as a whole if none of them did.

    PYTHONPATH=tests/downstream python -m pytest -p on_hoop ../uvicorn/tests -n 0

The workflow `downstream.yml` does so every week. A project may start its loops by asyncio's policy, by
`asyncio.Runner` or by `asyncio.new_event_loop`. All of them ask the policy in the end.
"""

from __future__ import annotations

import asyncio
import warnings

import pytest

import hoop


class CountingPolicy(hoop.EventLoopPolicy):
    """hoop's policy. It counts the loops that it has made."""

    made = 0

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        CountingPolicy.made += 1
        return super().new_event_loop()


def pytest_configure(config: pytest.Config) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of policies, since Python 3.14
        asyncio.set_event_loop_policy(CountingPolicy())


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if CountingPolicy.made == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(f"loops made by hoop: {CountingPolicy.made}")
