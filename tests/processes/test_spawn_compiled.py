"""The assembly of _c/spawn.h does its work however it is compiled."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

import hoop

HEADERS = Path(hoop.__file__).parent / "_c"

PROGRAM = r"""
#include "spawn.h"
#include <sys/wait.h>

static int ran(void *exit_status) {
    hoop_raw(__NR_exit_group, *(int *)exit_status, 0, 0);
    return 0;
}
int main(void) {
    static _Alignas(16) char stack[HOOP_STACK];
    int status = 0, expected = 7, sharing = 1;
    long pid = hoop_raw_clone(CLONE_VM | CLONE_CHILD_CLEARTID | SIGCHLD, stack + HOOP_STACK, &sharing, ran,
                              &expected);
    if (pid < 0 || waitpid((pid_t)pid, &status, 0) != pid) return 1;
    return WIFEXITED(status) && WEXITSTATUS(status) == expected && !sharing ? 0 : 2;
}
"""
# With the last of these the compiler has hardly any other register left than the one of the frame.
SCARCE = "-O2 -fomit-frame-pointer " + " ".join(
    f"-ffixed-{name}" for name in ("rbx", "r9", "r12", "r13", "r14", "r15")
)
OPTIONS = ["-O0", "-O2", "-O3", "-O2 -fcf-protection=full -fstack-protector-strong", SCARCE]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the options are for x86-64")
@pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc")
@pytest.mark.parametrize("options", OPTIONS)
def test_a_child_begins_however_the_header_is_compiled(tmp_path, options):
    source, program = tmp_path / "program.c", tmp_path / "program"
    source.write_text(PROGRAM)
    include = [f"-I{HEADERS}", f"-I{sysconfig.get_path('include')}"]
    # Nothing of Python is called: what the header could call may stay unresolved.
    link = ["-Wl,--unresolved-symbols=ignore-all"]
    subprocess.run(
        ["gcc", *options.split(), *include, str(source), "-o", str(program), *link], check=True
    )
    assert subprocess.run([str(program)], check=False).returncode == 0
