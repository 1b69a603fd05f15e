"""CPython's own tests of locks, queues and timeouts pass while woken tasks change places."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

RUNNER = Path(__file__).resolve().parent.parent / "conformance" / "run.py"


@pytest.mark.parametrize(
    "module", ["test_locks", "test_queues", "test_taskgroups", "test_timeouts"]
)
def test_cpython_s_tests_pass_in_another_order(module):
    command = [sys.executable, str(RUNNER), "--loop", "sim", "--modules", module]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
    passed = re.findall(r"^(\d+) passed", result.stdout, re.M)
    assert int(passed[-1]) >= 50, result.stdout
