"""`python -m hoop.demo`: the chat room is served, driven and observed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hoop.demo


def demo(tmp_path: Path, *options: str) -> str:
    """Run a small demonstration to its end, and return what it printed."""
    pytest.importorskip("aiohttp", reason="aiohttp is not installed")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "hoop.demo", "--once"),
            *("--clients", "3", "--messages", "2", "--requests", "5", *options),
        ],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def test_all_is_delivered_and_the_commands_are_told(tmp_path):
    out = demo(tmp_path)
    assert "delivered  18 of 18 messages" in out
    assert re.search(r"^  hoop top \d+ ", out, re.MULTILINE)
    assert re.search(r"^  hoop web \d+ ", out, re.MULTILINE)
    assert "REPORT" not in out


def test_a_blocked_loop_is_reported_with_the_line(tmp_path):
    out = demo(tmp_path, "--block")
    source = Path(hoop.demo.__file__).parent / "show.py"
    (line,) = [
        n
        for n, text in enumerate(source.read_text().splitlines(), 1)
        if "# this is the line" in text
    ]
    reports = re.findall("^  REPORT .*$", out, re.MULTILINE)
    assert len(reports) >= 2
    for report in reports:
        assert re.search(rf"blocking call (\(.*\) )?in fetch_slowly {source}:{line},", report)
        assert "running guest careless" in report
        assert report.endswith("a careless guest")
    assert "is blocked" in reports[0]
    assert re.search(r"was blocked for 0\.[345]", reports[-1])  # see model.Stall


def test_on_asyncio_there_is_nothing_to_look_into(tmp_path):
    assert "hoop top" not in demo(tmp_path, "--loop", "asyncio")
