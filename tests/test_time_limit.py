"""The time limit of tests/conftest.py: a test that takes too long fails, and the tests after it are sound."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PYTEST = """
import sys, conftest, pytest
conftest.TIME_LIMIT = 0.5
sys.exit(pytest.main([*sys.argv[1:], "-p", "no:cacheprovider"], plugins=[conftest]))
"""


@pytest.fixture
def run_pytest(tmp_path):
    """A function that runs a test file under a short time limit: its exit status, and what it printed."""

    def run_pytest(code: str) -> tuple[int, str]:
        file = tmp_path / "test_it.py"
        file.write_text(textwrap.dedent(code))
        done = subprocess.run(
            [sys.executable, "-c", PYTEST, "--rootdir", str(tmp_path), str(file)],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
            capture_output=True,
            text=True,
            timeout=15,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    return run_pytest


def test_a_test_that_takes_too_long_fails_and_the_next_one_runs(run_pytest):
    status, printed = run_pytest(
        """
        import threading
        def test_slow(tmp_path):
            threading.Event().wait()
        def test_next(tmp_path):
            pass
        """
    )
    assert status == 1, printed
    assert "OverTime" in printed
    assert "1 failed, 1 passed" in printed


def test_a_report_that_takes_long_is_made_all_the_same(run_pytest):
    status, printed = run_pytest(
        """
        import time
        class Slow(Exception):
            def __str__(self):
                time.sleep(0.7)
                return "slow to say"
        def test_it(tmp_path):
            raise Slow
        def test_next(tmp_path):
            pass
        """
    )
    assert status == 1, printed
    assert "INTERNALERROR" not in printed
    assert "slow to say" in printed
    assert "1 failed, 1 passed" in printed


def test_a_teardown_that_takes_too_long_ends_the_session(run_pytest):
    status, printed = run_pytest(
        """
        import pytest, threading
        @pytest.fixture
        def slow(tmp_path):
            yield
            threading.Event().wait()
        def test_slow(slow):
            pass
        def test_next(tmp_path):
            pass
        """
    )
    assert status == 1, printed
    assert "test_it.py::test_slow was torn down for too long" in printed
    assert "1 passed" in printed
