"""Child processes: started without stopping the loop, and waited for by their pidfd.

    Popen                  a subprocess.Popen that does not wait until the child runs its program
    ChildWatch             waits on a loop for one child to end, and takes its exit status
    SubprocessTransport    asyncio's transport, on top of these two
    open_process           does all of it for the loop

The behaviour is that of the running Python's asyncio and subprocess, and most of the code is theirs. Only
the way in which the child is made is ours (spawn.py). Where that cannot do what was asked, as with
`preexec_fn`, subprocess makes the child.

The loop watches two descriptors of a child. A pipe tells whether its program runs, and a pidfd tells that it
ended. Where there can be no pidfd, a thread waits instead. The `ChildWatch` owns the pidfd, and the loop
keeps the watch in `_children` until the child has ended. Only the status of that child is taken. hoop uses
no child watcher, and leaves SIGCHLD to your program.
"""

from __future__ import annotations

import asyncio
import functools
import operator
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from asyncio import base_subprocess, unix_events
from asyncio.log import logger
from collections import deque
from typing import Any, NamedTuple

from hoop.processes import spawn
from hoop.processes.output import keep_output

Loop = Any  # a hoop.EventLoop; the module that has it imports this one

INT_MIN, INT_MAX = -(2**31), 2**31 - 1
ID_MAX = 2**32 - 1
GROUPS_MAX = 2**16
NO_ENDS = (-1,) * 6  # of a child that has the standard streams of its parent
PIPE_TURNS = 8  # enough turns to read a full pipe and its end
TAKEN = "child process pid %d exit status already read: will report returncode 255"

_stock_popen = subprocess.Popen

# If setup fails before exec, older Pythons (3.11.7, 3.12.1) always name the directory in the error.
_BLAMES_CHDIR_ALONE = "noexec:chdir" in _stock_popen._execute_child.__code__.co_consts  # type: ignore[attr-defined]
# Later ones (3.13) pass an `env` of None on to os.posix_spawn().
_GIVES_ENVIRON = "environ" in _stock_popen._posix_spawn.__code__.co_names  # type: ignore[attr-defined]


class Order(NamedTuple):
    """The arguments that subprocess.Popen passes to its _execute_child()."""

    args: Any
    executable: Any
    preexec_fn: Any
    close_fds: Any
    pass_fds: Any
    cwd: Any
    env: Any
    startupinfo: Any
    creationflags: Any
    shell: Any
    p2cread: int
    p2cwrite: int
    c2pread: int
    c2pwrite: int
    errread: int
    errwrite: int
    restore_signals: Any
    gid: int | None
    gids: list[int] | None
    uid: int | None
    umask: Any
    start_new_session: Any
    process_group: Any

    def program(self) -> tuple[Any, list[Any]]:
        """Return the program to run, and its arguments."""
        argv = [self.args] if isinstance(self.args, (str, bytes)) else list(self.args)
        if self.shell:
            argv = [self.executable or "/bin/sh", "-c", *argv]
        return (argv[0] if self.executable is None else self.executable), argv

    def audit(self, program: Any, argv: list[Any]) -> None:
        """Tell audit hooks (PEP 578) the same as subprocess would."""
        sys.audit("subprocess.Popen", program, argv, self.cwd, self.env)
        if self._subprocess_would_posix_spawn(program):
            env = os.environ if self.env is None and _GIVES_ENVIRON else self.env
            sys.audit("os.posix_spawn", program, argv, env)

    def _subprocess_would_posix_spawn(self, program: Any) -> bool:
        """Whether the running Python's subprocess would use os.posix_spawn() for this."""
        can_close_fds = getattr(subprocess, "_HAVE_POSIX_SPAWN_CLOSEFROM", False)
        return bool(
            getattr(subprocess, "_USE_POSIX_SPAWN", False)
            and os.path.dirname(program)
            and (not self.close_fds or can_close_fds)
            and not self.pass_fds
            and self.cwd is None
            and all(fd == -1 or fd > 2 for fd in (self.p2cread, self.c2pwrite, self.errwrite))
            and not self.start_new_session
            and self.process_group == -1
            and self.gid is None
            and self.gids is None
            and self.uid is None
            and self.umask < 0
        )

    def launch(self) -> tuple[Any, ...] | None:
        """Return the arguments of spawn.start() but the last.

        Returns None if only subprocess can do this, or has to refuse it with its own message.
        """
        if self.preexec_fn is not None or not spawn.CAN_SPAWN:
            return None
        # Iterators are left to subprocess, because looking at one would use it up.
        expected = (
            (self.args, (str, bytes, tuple, list)),
            (self.pass_fds, (tuple, list, set, frozenset)),
            (self.restore_signals, int),
            (self.start_new_session, int),
        )
        if not all(isinstance(value, kind) for value, kind in expected):
            return None
        try:
            return self._launch()
        except (AttributeError, IndexError, TypeError, ValueError):
            return None  # subprocess will raise the right error

    def shares_memory(self) -> bool:
        """Whether the child may share memory: not with other privileges, or if the user forbids vfork()."""
        return self.uid is None and self.gid is None and self.gids is None and _uses_vfork()

    def _launch(self) -> tuple[Any, ...]:
        program, argv = self.program()
        return (
            _candidates(program, self.env),
            [_encode(argument) for argument in argv],
            None if self.env is None else _environment(self.env),
            None if self.cwd is None else _encode(self.cwd),
            (self.p2cread, self.c2pwrite, self.errwrite),
            sorted({_number(fd, 0, INT_MAX) for fd in self.pass_fds}),
            bool(self.close_fds),
            bool(self.restore_signals),
            bool(self.start_new_session),
            _number(self.process_group, INT_MIN, INT_MAX),
            _number(self.umask, INT_MIN, INT_MAX),
            -1 if self.uid is None else _number(self.uid, 0, ID_MAX),
            -1 if self.gid is None else _number(self.gid, 0, ID_MAX),
            None if self.gids is None else _groups(self.gids),
        )


def _uses_vfork() -> bool:
    return bool(getattr(subprocess, "_USE_VFORK", True))  # Python 3.14 no longer has this switch


def _candidates(program: Any, env: Any) -> list[bytes]:
    """List the paths at which to look for a program."""
    name = _encode(program)
    if os.path.dirname(name):
        return [name]
    return [os.path.join(_encode(folder), name) for folder in os.get_exec_path(env)]


def _environment(env: Any) -> list[bytes]:
    found = []
    for key, value in env.items():
        name = _encode(key)
        if b"=" in name:
            raise ValueError(key)
        found.append(name + b"=" + _encode(value))
    return found


def _encode(text: Any) -> bytes:
    found = os.fsencode(text)
    if type(found) is not bytes:
        found = bytes(memoryview(found))  # spawn.start() takes only bytes
    if b"\0" in found:
        raise ValueError(text)
    return found


def _groups(gids: list[int]) -> list[int]:
    if len(gids) > GROUPS_MAX:
        raise ValueError(gids)
    return [_number(gid, 0, ID_MAX) for gid in gids]


def _number(number: int, least: int, most: int) -> int:
    if not isinstance(number, int) or not least <= number <= most:
        raise ValueError(number)
    return number


class Popen(_stock_popen[bytes]):
    """A subprocess.Popen that does not wait until the child runs its program: await started() for that."""

    _report = -1  # readable once the child runs its program or has failed; -1 once that is known
    _failed = False  # the child reported a failure, and is about to exit
    _program: Any
    _cwd: Any

    def _execute_child(self, *given: Any) -> None:
        order = Order(*given)
        launch = order.launch()
        if launch is None:
            super()._execute_child(*given)  # type: ignore[misc]  # waits for the child
            return
        self._program, argv = order.program()
        self._cwd = order.cwd
        order.audit(self._program, argv)
        launch = (*launch, not order.shares_memory())
        self.pid, self._report = spawn.start(*launch)
        self._child_created = True
        ends = given[10:16]  # p2cread to errwrite
        if ends != NO_ENDS:
            self._close_pipe_fds(*ends)  # type: ignore[attr-defined]

    async def started(self, loop: Loop) -> None:
        """Wait until the child runs its program. If it cannot, raises the error that subprocess.Popen()
        would.
        """
        if self._report < 0:
            return
        readable = loop.create_future()
        watch: Any = None
        try:
            watch = loop._watch_kept(self._report, _wake, readable)
            await readable
        finally:
            if watch is not None:
                loop._unwatch_kept(watch)
            report, self._report = self._report, -1
            failure = spawn.outcome(report)
        if failure is not None:
            self._failed = True
            raise self._error(*failure)

    def _error(self, number: int, step: int) -> OSError:
        blamed: tuple[Any, ...] = ()
        if step == spawn.EXEC:
            blamed = (self._program,)
        elif step == spawn.CHDIR or not _BLAMES_CHDIR_ALONE:
            blamed = (self._cwd,)
        return OSError(number, os.strerror(number), *blamed)

    def abandon(self) -> None:
        """Kill a child that the caller will never get, and close its pipes."""
        for pipe in (self.stdin, self.stdout, self.stderr):
            if pipe is not None:
                pipe.close()
        if self._failed:
            return
        try:
            self.kill()
        except (ProcessLookupError, PermissionError):
            pass  # it runs as another user already, and has to end by itself


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class ChildWatch:
    """Waits on a loop for a child to end, by its pidfd or, if the kernel gives none, in a thread.

    It waits for this child only. The result of the future `ended` is the `returncode`.
    """

    def __init__(self, loop: Loop, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.ended: asyncio.Future[int] = loop.create_future()
        self.born = time.monotonic_ns()
        self.transport: weakref.ref[SubprocessTransport] | None = None  # for tools that observe
        self._loop = loop
        self._pidfd = -1
        self._watch: Any = None
        try:
            self._pidfd = os.pidfd_open(process.pid)
            self._watch = loop._watch_kept(self._pidfd, self._on_exit)
        except OSError:
            self._close_pidfd()
            name = f"hoop-waitpid-{process.pid}"
            threading.Thread(target=self._wait_in_thread, name=name, daemon=True).start()
        loop._children.add(self)

    def close(self) -> None:
        """Stop waiting."""
        self._loop._children.discard(self)
        self._close_pidfd()

    def send_signal(self, number: int) -> None:
        """Send a signal to the child. It never goes to another process that got the same number later."""
        try:
            if self._pidfd >= 0:
                sys.audit("os.kill", self.process.pid, operator.index(number))  # as asyncio does
                signal.pidfd_send_signal(self._pidfd, number)
            elif self.process.returncode is None:
                os.kill(self.process.pid, number)
        except ProcessLookupError:
            pass  # the child has ended

    def take_if_ended(self) -> None:
        """Keep the status for _on_exit() if the child has ended, before somebody else takes it."""
        if self._has_ended():
            self._take_status()

    def _on_exit(self) -> None:
        returncode = self._take_status()
        self.close()
        if not self.ended.done():
            self.ended.set_result(returncode)

    def _has_ended(self) -> bool:
        # Without the lock, which a thread in Popen.wait() holds until the child has ended.
        try:
            return os.waitid(*self._which(), os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return False  # somebody else took the status

    def _which(self) -> tuple[int, int]:
        """The child, as waitid() takes it."""
        return (os.P_PIDFD, self._pidfd) if self._pidfd >= 0 else (os.P_PID, self.process.pid)

    def _take_status(self) -> int:
        process: Any = self.process
        with process._waitpid_lock:  # another thread of the program may be waiting, too
            if process.returncode is None:
                try:
                    info: Any = os.waitid(*self._which(), os.WEXITED)
                except ChildProcessError:
                    process.returncode = 255
                    logger.warning(TAKEN, process.pid)
                else:
                    exited = info.si_code == os.CLD_EXITED
                    process.returncode = info.si_status if exited else -info.si_status
            return int(process.returncode)

    def _close_pidfd(self) -> None:
        if self._pidfd >= 0:
            if self._watch is not None:
                self._loop._unwatch_kept(self._watch)
            os.close(self._pidfd)
            self._pidfd = -1

    def _wait_in_thread(self) -> None:
        try:
            os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            pass  # somebody else took the status
        try:
            self._loop.call_soon_threadsafe(self._on_exit)
        except RuntimeError:
            if not self._loop.is_closed():
                raise
            logger.warning("Loop %r that handles pid %r is closed", self._loop, self.process.pid)
            self._take_status()


class SubprocessTransport(unix_events._UnixSubprocessTransport):  # type: ignore[name-defined,misc]
    """asyncio's transport for a child that was started already. connect_pipes() connects its pipes."""

    def __init__(
        self,
        loop: Loop,
        protocol: asyncio.BaseProtocol,
        args: Any,
        watch: ChildWatch,
        extra: dict[str, Any] | None,
    ) -> None:
        asyncio.SubprocessTransport.__init__(self, extra)
        self._closed = self._finished = False
        self._loop = loop
        self._protocol: Any = protocol
        self._watch = watch
        self._proc: Any = watch.process
        self._pid = watch.process.pid
        self._returncode: int | None = None
        self._exit_waiters: list[asyncio.Future[int | None]] | None = []
        self._pending_calls: deque[tuple[Any, tuple[Any, ...]]] | None = deque()
        files = enumerate((self._proc.stdin, self._proc.stdout, self._proc.stderr))
        self._unconnected = {fd: file for fd, file in files if file is not None}
        self._pipes: dict[int, Any] = dict.fromkeys(self._unconnected)
        self._pipes_connected = False
        self._extra["subprocess"] = self._proc
        if loop.get_debug():
            program = args if isinstance(args, (bytes, str)) else args[0]
            logger.debug("process %r created: pid %s", program, self._pid)

    async def _wait(self) -> int | None:
        # Not asyncio's: it keeps the waiters in a list or in a set, which depends on the version of Python.
        lost_next = self._finished and self._proc is not None and self._pending_calls is None
        if self._returncode is not None and not lost_next:
            return self._returncode
        # If connection_lost() is about to be called, wait for it: send_signal() raises only after that.
        waiter = self._loop.create_future()
        waiters: Any = self._exit_waiters
        waiters.append(waiter)
        try:
            return await waiter  # type: ignore[no-any-return]
        finally:
            if waiter in waiters:
                waiters.remove(waiter)

    async def connect_pipes(self) -> None:
        """Connect the child's pipes, then the protocol. If it is cancelled, close() closes all of them."""
        loop = self._loop
        for fd, file in list(self._unconnected.items()):
            connect: Any = loop.connect_read_pipe
            kind: Any = base_subprocess.ReadSubprocessPipeProto
            if fd == 0:
                connect, kind = loop.connect_write_pipe, base_subprocess.WriteSubprocessPipeProto
            _, self._pipes[fd] = await connect(functools.partial(kind, self, fd), file)
            del self._unconnected[fd]
        self._pipes_connected = True
        calls, self._pending_calls = self._pending_calls, None
        loop.call_soon(self._protocol.connection_made, self)
        if self._pipes:
            loop.call_soon(keep_output, self._protocol, self)
        for callback, data in calls or ():
            loop.call_soon(callback, *data)
        await asyncio.sleep(0)  # until the protocol is connected

    def close(self) -> None:
        """Close the pipes, and kill the child if it has not ended."""
        super().close()
        while self._unconnected:
            _, file = self._unconnected.popitem()
            file.close()

    def _process_exited(self, returncode: int) -> None:
        super()._process_exited(returncode)
        if self._exit_waiters is None:  # in later versions of Python: all of them have been woken
            self._exit_waiters = []
        self._tell_waiters(PIPE_TURNS)

    def _tell_waiters(self, turns: int) -> None:
        """End wait(), after the transport has seen the ends of the child's pipes.

        A pipe that a grandchild has inherited does not end. So this waits for a few turns only, and the
        loop closes such a pipe when it is closed.
        """
        if any(pipe is None or not pipe.disconnected for pipe in self._pipes.values()):
            if turns:
                self._loop.call_soon(self._tell_waiters, turns - 1)
                return
            self._loop._keep_ended_child(self)
        self._wake_waiters()

    def _wake_waiters(self) -> None:
        waiters, self._exit_waiters = self._exit_waiters or [], []  # None after connection_lost()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(self._returncode)

    def _call_connection_lost(self, exc: BaseException | None) -> None:
        if self._loop._ended_children is not None:
            self._loop._ended_children.discard(self)
        try:
            super()._call_connection_lost(exc)
        finally:
            self._wake_waiters()

    def send_signal(self, signal: int) -> None:
        """Send a signal to the child, if it has not ended. ProcessLookupError after connection_lost."""
        self._check_proc()
        self._watch.send_signal(signal)

    def terminate(self) -> None:
        """Ask the child to end, with SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the child, with SIGKILL."""
        self.send_signal(signal.SIGKILL)


async def open_process(
    loop: Loop,
    protocol: asyncio.BaseProtocol,
    args: Any,
    shell: bool,
    stdin: Any,
    stdout: Any,
    stderr: Any,
    bufsize: int,
    extra: dict[str, Any] | None = None,
    **kwargs: Any,
) -> SubprocessTransport:
    """Start a child process and make its transport. If that fails or is cancelled, no child is left."""
    kwargs |= {"stdin": stdin, "stdout": stdout, "stderr": stderr, "bufsize": bufsize}
    watch = await _start(loop, args, shell, kwargs)
    transport = SubprocessTransport(loop, protocol, args, watch, extra)
    watch.transport = weakref.ref(transport)
    watch.ended.add_done_callback(lambda ended: transport._process_exited(ended.result()))
    try:
        await transport.connect_pipes()
    except (KeyboardInterrupt, SystemExit):
        raise
    except GeneratorExit:
        transport.close()
        raise
    except BaseException:
        transport.close()
        await transport._wait()
        raise
    return transport


async def _start(loop: Loop, args: Any, shell: bool, kwargs: dict[str, Any]) -> ChildWatch:
    if subprocess.Popen is not _stock_popen:
        # The program has replaced subprocess.Popen, perhaps by a mock: call that one.
        process = subprocess.Popen(args, shell=shell, universal_newlines=False, **kwargs)
        return ChildWatch(loop, process)
    child = Popen(args, shell=shell, universal_newlines=False, **kwargs)
    watch = ChildWatch(loop, child)
    try:
        await child.started(loop)
    except (GeneratorExit, KeyboardInterrupt, SystemExit):
        child.abandon()
        raise
    except BaseException:
        child.abandon()
        await asyncio.wait((watch.ended,))
        raise
    return watch
