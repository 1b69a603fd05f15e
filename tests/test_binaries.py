"""The compiled modules need no newer libc than the wheels promise."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import hoop

PROMISED = (2, 28)  # manylinux_2_28, which `make wheels` builds for
EXTENSIONS = sorted(Path(hoop.__file__).parent.rglob("*.so"))
OURS = [path for path in EXTENSIONS if f"{sys.implementation.cache_tag}-" in path.name]
VERSIONED = re.compile(r"GLIBC_(\d+)\.(\d+)[^ ]*\)?\s+(\w+)$", re.MULTILINE)


needs_objdump = pytest.mark.skipif(
    shutil.which("objdump") is None, reason="objdump, of binutils, is not here"
)


def symbols(path: Path) -> str:
    """List the symbols that an extension has, and those that it needs, by objdump."""
    command = ["objdump", "-T", path]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@needs_objdump
@pytest.mark.skipif(sys.prefix.endswith("-asan"), reason="the sanitizers need what they need")
def test_no_symbol_is_newer_than_the_libc_of_the_wheels():
    """A function of a newer libc would keep the wheel from older systems. Call the kernel instead."""
    assert OURS
    newer = {}
    seen = 0
    for path in OURS:
        found = VERSIONED.findall(symbols(path))
        seen += len(found)
        too_new = [name for major, minor, name in found if (int(major), int(minor)) > PROMISED]
        if too_new:
            newer[path.name] = too_new
    assert newer == {}
    assert seen > len(OURS)  # a small module may call nothing of libc, most call something


@needs_objdump
def test_no_symbol_is_missing_in_musl():
    """These functions exist in glibc only."""
    only_glibc = {"renameat2", "gettid", "epoll_pwait2"}
    for path in OURS:
        used = {line.split()[-1] for line in symbols(path).splitlines() if "*UND*" in line}
        assert used & only_glibc == set(), path.name
