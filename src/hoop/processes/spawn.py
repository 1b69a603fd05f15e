"""Starting a child process: `start()` makes it and does not wait, `outcome()` tells whether its program runs.

The child is cloned with the parent's memory and a stack of its own: nothing is copied, however large the
parent. Everything that the child reads before exec lies in its *launch*. The launch is freed by the first
sweep after the kernel has said that the child no longer uses our memory. A pipe that exec closes tells
whether exec succeeded. _c/spawn.h has the child's side, and `hoop.processes.process` has the rest.
"""

from __future__ import annotations

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_GET_SIZE
from cython.cimports.hoop._c.linux import hoop_close
from cython.cimports.hoop._c.spawn import (
    EINVAL,
    HOOP_CAN_SPAWN,
    environ,
    hoop_clone_copying,
    hoop_clone_sharing,
    hoop_count_launches,
    hoop_failure,
    hoop_launch,
    hoop_new_launch,
    hoop_open_report,
    hoop_read_failure,
    hoop_room,
    hoop_sweep,
    hoop_take_room,
)
from cython.cimports.hoop.drivers.errors import raise_errno
from cython.cimports.libc.string import memcpy

# The step at which a child failed, as outcome() returns it.
SETUP = 0
CHDIR = 1
EXEC = 2

# False if spawn.h does not know the processor. Then subprocess starts the children.
CAN_SPAWN = bool(HOOP_CAN_SPAWN)


@cython.cfunc
def room_for(strings: list) -> cython.size_t:
    """Return how many bytes of a launch pack() will fill."""
    total: cython.size_t = hoop_room((len(strings) + 1) * cython.sizeof(cython.p_char))
    string: bytes
    for string in strings:
        total += hoop_room(len(string) + 1)  # len() refuses None
    return total


@cython.cfunc
@cython.exceptval(check=False)
def pack_string(launch: cython.pointer[hoop_launch], string: bytes) -> cython.p_char:
    n: cython.size_t = PyBytes_GET_SIZE(string) + 1
    return cython.cast(
        cython.p_char, memcpy(hoop_take_room(launch, n), PyBytes_AS_STRING(string), n)
    )


@cython.cfunc
@cython.exceptval(check=False)
def pack(launch: cython.pointer[hoop_launch], strings: list) -> cython.pp_char:
    """Copy strings into a launch, as the array of pointers that exec takes."""
    words = cython.cast(
        cython.pp_char,
        hoop_take_room(launch, (len(strings) + 1) * cython.sizeof(cython.p_char)),
    )
    i: cython.Py_ssize_t
    for i in range(len(strings)):
        words[i] = pack_string(launch, strings[i])
    words[len(strings)] = cython.NULL
    return words


@cython.cfunc
def current_environment() -> list:
    """Copy the environment, since the parent may change it while the child still reads."""
    found: list = []
    i: cython.Py_ssize_t = 0
    while environ is not cython.NULL and environ[i] is not cython.NULL:
        found.append(environ[i])
        i += 1
    return found


@cython.cfunc
@cython.exceptval(-1, check=False)
def pack_numbers(
    launch: cython.pointer[hoop_launch], stdio: tuple, pass_fds: list, groups: list | None
) -> cython.int:
    i: cython.Py_ssize_t
    for i in range(3):
        launch.stdio[i] = stdio[i]
    keep: list = sorted([*pass_fds, launch.report])
    launch.keep = cython.cast(
        cython.pointer[cython.int], hoop_take_room(launch, len(keep) * cython.sizeof(cython.int))
    )
    launch.n_keep = len(keep)
    for i in range(len(keep)):
        launch.keep[i] = keep[i]
    launch.n_groups = -1
    if groups is not None:
        launch.groups = cython.cast(
            cython.pointer[cython.uint],
            hoop_take_room(launch, len(groups) * cython.sizeof(cython.uint)),
        )
        launch.n_groups = len(groups)
        for i in range(len(groups)):
            launch.groups[i] = groups[i]
    return 0


@cython.cfunc
@cython.exceptval(check=False)
def drop(launch: cython.pointer[hoop_launch]) -> cython.void:
    """Free the launch of a child that was not made."""
    if launch.report >= 0:
        hoop_close(launch.report)
    if launch.reader >= 0:
        hoop_close(launch.reader)
    launch.sharing = 0
    hoop_sweep()


@cython.cfunc
@cython.exceptval(check=False)
def clone(launch: cython.pointer[hoop_launch], copies: cython.bint) -> cython.int:
    """Make the child. Returns its process number, or -errno."""
    pid: cython.int = -EINVAL
    if not copies:
        # Keep the GIL: this takes some 20 µs, and a busy thread might not give the GIL back for
        # milliseconds. Nor must another thread fork now, because its child would inherit the report pipe
        # and hold it open.
        pid = hoop_clone_sharing(launch)
    if pid == -EINVAL:  # or this kernel cannot share memory here, as between two time namespaces
        with cython.nogil:
            pid = hoop_clone_copying(launch)
        if pid >= 0:
            launch.sharing = 0
    return pid


@cython.cfunc
@cython.exceptval(-1, check=False)
def raise_if(result: cython.int) -> cython.int:
    return raise_errno(result) if result < 0 else 0


def start(
    programs: list,
    argv: list,
    env: list | None,
    cwd: bytes | None,
    stdio: tuple,
    pass_fds: list,
    close_fds: cython.bint,
    restore_signals: cython.bint,
    new_session: cython.bint,
    process_group: cython.int,
    umask: cython.int,
    uid: cython.longlong,
    gid: cython.longlong,
    groups: list | None,
    copies: cython.bint,
):
    """Make a child process. Returns its process number, and a descriptor to watch: when it is readable,
    call outcome().

    `programs` are paths to try in turn. They and the other strings are bytes without a zero byte.
    `pass_fds` is in ascending order. -1 or None leave a property as it is; without `env` the child gets the
    parent's environment.

    With `copies` the child works on a copy of the parent's memory, as after fork(). That is needed if it
    changes to another user, and takes longer the larger the parent is. Raises OSError if no child can be
    made.
    """
    launch: cython.pointer[hoop_launch]
    pid: cython.int
    if env is None:
        env = current_environment()
    total: cython.size_t = room_for(programs) + room_for(argv) + room_for(env)
    if cwd is not None:
        total += hoop_room(len(cwd) + 1)
    total += hoop_room((len(pass_fds) + 1) * cython.sizeof(cython.int))
    if groups is not None:
        total += hoop_room(len(groups) * cython.sizeof(cython.uint))
    launch = hoop_new_launch(total)
    if launch is cython.NULL:
        raise MemoryError
    try:
        raise_if(hoop_open_report(launch))
        launch.programs = pack(launch, programs)
        launch.argv = pack(launch, argv)
        launch.envp = pack(launch, env)
        if cwd is not None:
            launch.cwd = pack_string(launch, cwd)
        pack_numbers(launch, stdio, pass_fds, groups)
        launch.closes = close_fds
        launch.restores_signals = restore_signals
        launch.new_session = new_session
        launch.process_group = process_group
        launch.umask = umask
        launch.uid = uid
        launch.gid = gid
        pid = clone(launch, copies)
        raise_if(pid)
    except BaseException:
        drop(launch)
        raise
    hoop_close(launch.report)  # outcome() frees the launch, or a later start()
    return pid, launch.reader


def outcome(reader: cython.int):
    """Tell whether a child runs its program: None if so, else an errno and the step that failed.

    Call it once, when the descriptor of start() is readable or is no longer wanted. It closes the
    descriptor.
    """
    failure: hoop_failure
    n: cython.int = hoop_read_failure(reader, cython.address(failure))
    hoop_close(reader)
    hoop_sweep()
    if n == cython.cast(cython.int, cython.sizeof(hoop_failure)):
        return failure.error, failure.step
    return None


def count_launches() -> int:
    """Return how many children may still be on the way to their program. For tests."""
    hoop_sweep()
    return hoop_count_launches()
