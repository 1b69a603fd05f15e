"""Some of hoop's own tests in simulations. `make simulate` runs all with many seeds: see suites.py."""

from __future__ import annotations

import re

import left_out
import suites

SOME = (
    "sync/test_queues.py",
    "files/test_files.py",
    "streams/test_writer.py",
    "net/test_stream_write.py",
)


def test_hoop_s_own_tests_pass_in_simulations():
    said, failed = suites.run_tests(7, 2, *(f"tests/{name}" for name in SOME))
    assert not failed, said
    passed = re.search(r"(\d+) passed", said)
    assert passed is not None, said
    assert int(passed[1]) > 300, said


def test_what_is_left_out_is_there():
    """A test that has another name now, or is gone, is not in the lists."""
    folders = [suites.HERE.parent / folder for folder in suites.FOLDERS]
    texts = "".join(path.read_text() for folder in folders for path in folder.glob("test_*.py"))
    names = " ".join(re.findall(r"def (test_\w+)", texts))
    lists = (
        *left_out.REAL.values(),
        left_out.REAL_FILES,
        left_out.IN_ORDER,
        left_out.BY_TURNS,
        left_out.WHOLE,
    )
    listed = {name.partition("[")[0] for text in lists for name in text.split()}
    assert not [name for name in listed if name not in names]
