"""Finds out what a task waits for, by its coroutines and by the future that it waits for.

No code of the program runs here: see reading.py.
"""

from __future__ import annotations

import _asyncio
import _socket
import asyncio
import concurrent.futures
import functools
import gc
import os
import subprocess
import sys
import types
from asyncio import mixins
from collections import deque
from collections.abc import Iterable
from concurrent.futures.thread import _WorkItem
from typing import Any

from hoop.disk.call import SystemCall
from hoop.disk.pool import FilePool, OwedJob, PythonJob
from hoop.disk.source import FileBuffer, LineSource
from hoop.files.file import AsyncFile
from hoop.loop.executor import Job
from hoop.loop.turn import Loop
from hoop.net.stream import StreamTransport
from hoop.observe.model import Frame, Wait
from hoop.observe.reading import (
    _module,
    _mro,
    _name,
    field,
    is_done,
    is_task,
    kept,
    numbers,
    of_loop,
    peer,
    plain,
    qualname_of,
    raw,
    type_name,
    variable,
)
from hoop.processes.process import SubprocessTransport
from hoop.scheduling.coroutine import NativeCoroutine
from hoop.scheduling.future import Future, _GatheringFuture
from hoop.scheduling.handle import Handle
from hoop.scheduling.timers import TimerHandle
from hoop.streams.reader import StreamReader
from hoop.streams.writer import Ending, StreamProtocol, StreamWriter
from hoop.sync.conditions import Barrier, Condition
from hoop.sync.locks import Acquirable, Event, Lock, Semaphore
from hoop.sync.queues import Queue
from hoop.tls.transport import SSLTransport
from hoop.together.gathering import Shield
from hoop.together.groups import TaskGroup
from hoop.together.waiting import Waiting

DEPTH_MAX = 100  # coroutines of a stack; a deeper one is cut
TEXT_MAX = 200

_gathering: Any = (asyncio.tasks._GatheringFuture, _GatheringFuture)  # type: ignore[attr-defined]
_on_task_done = asyncio.TaskGroup._on_task_done
_set_result: Any = asyncio.futures._set_result_unless_cancelled  # type: ignore[attr-defined]
_buffer_of: Any = LineSource.__dict__["buffer"].__get__
_fd_of: Any = FileBuffer.fileno
_callback: Any = Handle.__dict__["_callback"].__get__
_deadline: Any = TimerHandle.__dict__["_deadline"].__get__
_fileno: Any = _socket.socket.fileno
_wait_types: Any = (Future, _asyncio.Future)
_files = (asyncio.tasks.__file__, asyncio.futures.__file__, asyncio.streams.__file__)
_cython_wait = Barrier.wait(Barrier(1))
_cython: Any = type(_cython_wait)  # the class of coroutines that Cython makes
_wrapper: Any = type(_cython_wait.__await__())  # what an `await` of one drives
_cython_wait.close()


# ---- coroutines ------------------------------------------------------------------------------------


def inner_of(coro: object) -> Any:
    """The awaitable that a suspended coroutine waits for. None if it is none whose fields are known."""
    kind = type(coro)
    if kind is types.CoroutineType or kind is _cython:
        return coro.cr_await  # type: ignore[attr-defined]
    if kind is types.GeneratorType:
        return coro.gi_yieldfrom  # type: ignore[attr-defined]
    if kind is types.AsyncGeneratorType:
        return coro.ag_await  # type: ignore[attr-defined]
    if kind is NativeCoroutine:
        return coro.awaits  # type: ignore[attr-defined]
    if kind is _wrapper:
        return next((o for o in gc.get_referents(coro) if type(o) is _cython), None)
    return None


def title_of(coro: object) -> str:
    """The name of a coroutine: that of its function, or its class."""
    kind = type(coro)
    if kind is types.CoroutineType:
        return coro.cr_code.co_qualname  # type: ignore[attr-defined, no-any-return]
    if kind is types.GeneratorType:
        return coro.gi_code.co_qualname  # type: ignore[attr-defined, no-any-return]
    if kind is types.AsyncGeneratorType:
        return coro.ag_code.co_qualname  # type: ignore[attr-defined, no-any-return]
    if kind is _cython:
        return str(coro.__qualname__)  # type: ignore[attr-defined]
    if kind is NativeCoroutine and type(type(coro.owner)) is type:  # type: ignore[attr-defined]
        return coro.__qualname__  # type: ignore[attr-defined, no-any-return]
    return type_name(coro)


def frame_of(coro: object) -> Frame | None:
    """Where a coroutine is. None if it has no code in Python."""
    kind = type(coro)
    if kind is types.CoroutineType:
        code, frame = coro.cr_code, coro.cr_frame  # type: ignore[attr-defined]
    elif kind is types.GeneratorType:
        code, frame = coro.gi_code, coro.gi_frame  # type: ignore[attr-defined]
    elif kind is types.AsyncGeneratorType:
        code, frame = coro.ag_code, coro.ag_frame  # type: ignore[attr-defined]
    else:
        return None
    line = None if frame is None else frame.f_lineno
    return Frame(code.co_qualname, code.co_filename, line or code.co_firstlineno)


def coroutines_of(task: Any) -> list[Any]:
    """The task's coroutine, the one that this awaits, and so on."""
    found: list[Any] = []
    coro = raw(task, "_coro")
    while coro is not None and not issubclass(type(coro), _wait_types):
        found.append(coro)
        if len(found) == DEPTH_MAX:
            break
        coro = inner_of(coro)
    return found


def stack_of(coroutines: Iterable[Any]) -> tuple[Frame, ...]:
    """Where each of these coroutines is. Those in C are left out."""
    frames = (frame_of(coro) for coro in coroutines)
    return tuple(frame for frame in frames if frame is not None)


# ---- locks, queues and the like ------------------------------------------------------------------------

# asyncio's own classes, also after hoop.install() has put hoop's under their names.
_stock: dict[str, Any] = {
    cls.__name__: cls
    for cls in mixins._LoopBoundMixin.__subclasses__()
    if cls.__module__.startswith("asyncio.")
}
# The classes of hoop, then those of asyncio, by what they are called here.
_kinds: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("queue", (Queue, _stock["Queue"])),
    ("barrier", (Barrier, _stock["Barrier"])),
    ("condition", (Condition, _stock["Condition"])),
    ("lock", (Lock, _stock["Lock"])),
    ("semaphore", (Semaphore, _stock["Semaphore"])),
    ("event", (Event, _stock["Event"])),
)
# A condition belongs to a barrier, and an event to a queue, if one waits for them inside of its methods.
_outer = ("queue", "barrier")
# The coroutines of asyncio in which a task waits for such an object.
_waits_inside = {
    getattr(_stock[name], method).__code__
    for name, methods in (
        ("Lock", ("acquire",)),
        ("Semaphore", ("acquire",)),
        ("Event", ("wait",)),
        ("Condition", ("wait", "wait_for")),
        ("Barrier", ("wait", "_block", "_wait")),
        ("Queue", ("get", "put", "join")),
    )
    for method in methods
}


def kind_of(o: Any) -> str:
    """The name here of a lock, queue and so on; "" if it is none of these."""
    cls = type(o)
    return next((kind for kind, classes in _kinds if issubclass(cls, classes)), "")


def resource_of(coroutines: list[Any]) -> Any:
    """The lock, queue, ... that the innermost of these coroutines waits for; None if there is none."""
    found = None
    for coro in reversed(coroutines):
        kind = type(coro)
        if kind is NativeCoroutine:
            inside = coro.owner
        elif kind is types.CoroutineType and coro.cr_code in _waits_inside:
            inside = next((o for o in gc.get_referents(coro) if kind_of(o)), None)
        elif kind is _cython:
            held = [o for o in gc.get_referents(coro) if type_name(o).startswith("__pyx_scope")]
            inside = next((o for o in gc.get_referents(*held) if kind_of(o)), None)
        elif kind is _wrapper:
            continue
        else:
            break
        name = kind_of(inside)
        if name and (found is None or name in _outer):
            found = inside
    return found


def innermost_owner(task: Any) -> Any:
    """The object whose native method a task waits in; None if it waits in no such method."""
    coro = raw(task, "_coro")
    owner = None
    for _ in range(DEPTH_MAX):
        kind = type(coro)
        if kind is types.CoroutineType:
            coro, owner = coro.cr_await, None
        elif kind is NativeCoroutine:
            coro, owner = coro.awaits, coro.owner
        else:
            after = inner_of(coro)
            if after is None:
                break
            coro, owner = after, None
    return owner


def holder_of(o: Any) -> int:
    """The number of the task that holds a lock; 0 if it is none, or asyncio's, which do not know it."""
    return int(_taken_by(o)) if issubclass(type(o), Lock) else 0


_taken_by: Any = Lock.__dict__["_taken_by"].__get__


def of_ours(cls: Any, o: Any, name: str, theirs: str | None = None) -> Any:
    """A field of one of hoop's objects, or of asyncio's of the same kind."""
    if issubclass(type(o), cls):
        return cls.__dict__[name].__get__(o)
    return field(o, theirs or name)


def state_of(o: Any) -> str:
    """How a lock, queue, ... stands, in a few words."""
    kind = kind_of(o)
    if kind == "queue":
        items = of_ours(Queue, o, "_queue")
        size = len(items) if type(items) in (deque, list) else 0
        most = of_ours(Queue, o, "maxsize", "_maxsize")
        return f"{size} of {most}" if type(most) is int and most > 0 else f"{size} items"
    if kind == "lock":
        if of_ours(Lock, o, "_locked") is not True:
            return "free"
        if not issubclass(type(o), Lock):
            return "held; asyncio.Lock does not note by whom"
        return f"held by {holder_of(o)}" if holder_of(o) else "held"
    if kind == "semaphore":
        value = of_ours(Semaphore, o, "_value")
        return f"{value} free" if type(value) is int else ""
    if kind == "event":
        return "set" if of_ours(Event, o, "_value") is True else "not set"
    if kind == "barrier":
        inside = of_ours(Barrier, o, "_count")
        parties = of_ours(Barrier, o, "parties", "_parties")
        return f"{inside} of {parties}" if type(inside) is type(parties) is int else ""
    return ""


# ---- threads and children ------------------------------------------------------------------------------

_run_item = _WorkItem.run.__code__


def place_of(callback: Any) -> str:
    """The name of a function, with its file and line if it is of Python. Asks no object of the program's."""
    while True:
        kind = type(callback)
        if kind is functools.partial:
            callback = callback.func
        elif kind is types.MethodType:
            callback = callback.__func__
        else:
            break
    if kind is types.FunctionType:
        code = callback.__code__
        return f"{code.co_qualname} {code.co_filename}:{code.co_firstlineno}"
    if kind is types.BuiltinFunctionType:
        return str(callback.__name__)
    if issubclass(kind, type):
        return qualname_of(callback)
    return "" if callback is None else type_name(callback)


def callable_name(function: Any) -> str:
    """The qualified name of a function, also of a method or one in C; of another object that of its class."""
    while type(function) is functools.partial:
        function = function.func
    kind = type(function)
    if kind is types.MethodType:
        return callable_name(function.__func__)
    if kind is types.FunctionType:
        return str(function.__qualname__)
    if kind is types.BuiltinFunctionType:
        owner = function.__self__
        if issubclass(type(owner), type):
            return f"{qualname_of(owner)}.{function.__name__}"
        if owner is not None and type(owner) is not types.ModuleType:
            return f"{qualname_of(type(owner))}.{function.__name__}"
        module = function.__module__
        return f"{module}.{function.__name__}" if type(module) is str else str(function.__name__)
    if kind is types.MethodWrapperType:
        return f"{qualname_of(type(function.__self__))}.{function.__name__}"
    return qualname_of(function if issubclass(kind, type) else kind)


def path_of(fd: int) -> str:
    """The name of an open file, as the kernel knows it."""
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return f"descriptor {fd}"


def host_of(what: Any) -> str:
    """The host of a lookup, which may be an address with its port."""
    if type(what) is bytes:
        what = what.decode("ascii", "replace")
    if type(what) is str:
        return plain(what)
    return peer(what)


def name_of_item(item: Any) -> str:
    """The function of an executor's work item; "" if it is none."""
    if type(item) is not _WorkItem:
        return ""
    function = getattr(item, "fn", None)
    if function is None:  # Python 3.14
        task = getattr(item, "task", None)
        function = task[0] if type(task) is tuple and task else None
    return place_of(function)


def program_of(process: Any) -> str:
    """The program of a child, without its arguments."""
    args: Any = process.args if issubclass(type(process), subprocess.Popen) else None
    first = args[0] if type(args) in (list, tuple) and len(args) else args
    if type(first) is bytes:
        first = os.fsdecode(first)
    if type(first) is not str:
        return ""
    return plain(first if first is not args else (first.split() or [""])[0])


def futures_of(watch: Any) -> list[Any]:
    """The futures that the end of a child will set."""
    transport = watch.transport() if watch.transport is not None else None
    waiters = transport._exit_waiters if type(transport) is SubprocessTransport else ()
    return [watch.ended, *(waiters or ())]


def items_in(executor: Any) -> list[Any]:
    """The work items that the threads of an executor are at, found in the frames of the threads."""
    found = []
    frames = sys._current_frames()
    for thread in list(executor._threads):
        frame = frames.get(thread.ident)
        while frame is not None and frame.f_code is not _run_item:
            frame = frame.f_back
        if frame is not None:
            found.append(variable(frame, "self"))
    return found


def queued_in(executor: Any) -> list[Any]:
    """The work items that wait in the queue of an executor. The queue itself has no way to look at them."""
    found = []
    for o in gc.get_referents(executor._work_queue):
        found += o if type(o) is list else [o]
    return [item for item in found if type(item) is _WorkItem]


def name_of_job(loop: Any, source: Any) -> str:
    """The function of a job in a loop's executor, by the job's future; "" if it is not found."""
    executor = kept(loop, "_default_executor")
    if type(executor) is not concurrent.futures.ThreadPoolExecutor:
        return ""
    items = [*queued_in(executor), *items_in(executor)]
    return next((name_of_item(one) for one in items if getattr(one, "future", None) is source), "")


def text_of(job: Any) -> str:
    """A file operation in words: its name, and its path or that of its file."""
    if issubclass(type(job), SystemCall):
        facts = SystemCall._statistics(job)
        path = facts["path"]
        return plain(
            f"{facts['call']} {path_of(facts['fd']) if path is None else os.fsdecode(path)}"
        )
    call: Any = None
    args: tuple[Any, ...] = ()
    if type(job) is PythonJob:
        call, args = job._call, job._args
    elif type(job) is OwedJob:
        call = job._call
    while type(call) is functools.partial:
        call, args = call.func, call.args + args
    if type(call) is types.MethodType and call.__func__ is AsyncFile._waiting and len(args) > 1:
        what = place_of(args[1]).partition(" ")[0].rpartition(".")[2]
        return plain(f"{what} {path_of(_fd_of(_buffer_of(call.__self__)))}")
    what = place_of(call).partition(" ")[0].rpartition(".")[2]
    if args and type(args[0]) in (str, bytes):
        what = f"{what} {os.fsdecode(args[0])}"
    return plain(what)


def file_jobs(loop: Any) -> list[tuple[Any, str]]:
    """The futures of file operations that are under way, and the operations in words."""
    found = []
    pool = kept(loop, "_file_pool")
    begun = list(pool._unfinished) if type(pool) is FilePool else []
    for job in {id(one): one for one in (*begun, *Loop._operations(loop))}.values():
        if issubclass(type(job), SystemCall):
            found.append((SystemCall._statistics(job)["waiter"], text_of(job)))
        elif type(job) is PythonJob:
            found.append((job.future, text_of(job)))
    return found


# ---- who waits for whom ----------------------------------------------------------------------------


class Graph:
    """Collects from all tasks who waits for whom: for tasks, and for the holders of locks."""

    def __init__(self) -> None:
        self.told: dict[
            int, list[int]
        ] = {}  # by the address of a future: the tasks that would set it
        self.any_will_do: set[int] = set()  # futures that one task of several sets
        self.waiting: dict[int, int] = {}  # the address of the future that a task waits for
        self.direct: dict[int, tuple[int, ...]] = {}
        self.holders: dict[int, int] = {}
        self.polls: dict[int, int] = {}

    def add(self, task: Any, serial: int, polls: int, waited: Any) -> None:
        """Note what a task waits for, and who is told when it ends."""
        for callback, _ in raw(task, "_callbacks") or ():
            future, is_any = told_by(callback)
            if future is not None:
                self.told.setdefault(id(future), []).append(serial)
                if is_any:
                    self.any_will_do.add(id(future))
        if waited is None:
            return
        self.polls[serial] = polls
        if is_task(waited):
            self.direct[serial] = (raw(waited, "_serial"),)
        elif type(waited) in _gathering:
            self.direct[serial] = tuple(
                raw(child, "_serial")
                for child in waited._children
                if is_task(child) and not is_done(child)
            )
        else:
            self.waiting[serial] = id(waited)
            holder = holder_of(innermost_owner(task))
            if holder:
                self.holders[serial] = holder

    def targets(self, serial: int) -> tuple[int, ...]:
        """The unfinished tasks that a task waits for."""
        return self.direct.get(serial) or tuple(self.told.get(self.waiting.get(serial, 0), ()))

    def awaited_by(self) -> dict[int, list[int]]:
        """For each task those that wait for it, without those that wait for its locks."""
        found: dict[int, list[int]] = {}
        for serial in (*self.direct, *self.waiting):
            for target in self.targets(serial):
                found.setdefault(target, []).append(serial)
        return found

    def needs(self) -> dict[int, tuple[int, ...]]:
        """For each task those without all of which it cannot go on."""
        found: dict[int, tuple[int, ...]] = {}
        for serial in self.polls:
            targets = self.targets(serial)
            if len(targets) > 1 and self.waiting.get(serial) in self.any_will_do:
                continue
            if serial in self.holders:
                targets = (self.holders[serial],)
            if targets:
                found[serial] = targets
        return found

    def say(self, cycle: tuple[int, ...]) -> str:
        """A cycle in words."""
        steps = zip(cycle, (*cycle[1:], cycle[0]))
        return ", ".join(
            f"{a} waits for a lock held by {b}"
            if self.holders.get(a) == b and b not in self.targets(a)
            else f"{a} awaits {b}"
            for a, b in steps
        )


class Waits:
    """Says what the tasks of a loop wait for, for those that are shown."""

    def __init__(self, loop: Any, graph: Graph) -> None:
        self.loop = loop
        self.graph = graph
        self.now = Loop.time(loop)
        self._deadlines: dict[int, float] | None = None
        self._jobs: dict[int, Wait] | None = None

    def wait_of(self, task: Any, serial: int, coroutines: list[Any]) -> Wait | None:
        """Say what a task waits for; None if it waits for nothing."""
        waited: Any = raw(task, "_fut_waiter")
        if waited is None:
            return None
        targets = self.graph.targets(serial)
        if is_task(waited):
            targets = (raw(waited, "_serial"),)
            return Wait("task", f"task {targets[0]}", targets)
        if targets:
            return Wait("tasks", f"{len(targets)} tasks", targets)
        resource = resource_of(coroutines)
        if resource is not None:
            return self.resource_wait(resource, coroutines)
        last = coroutines[-1] if coroutines else None
        if type(last) is NativeCoroutine:
            return self.native_wait(last)
        return self.future_wait(waited, last)

    def resource_wait(self, resource: Any, coroutines: list[Any]) -> Wait:
        """A lock, queue, ..., with its state, the method, and how many wait."""
        kind = kind_of(resource)
        owner = holder_of(resource)
        state = state_of(resource)
        title = title_of(coroutines[-1])[:TEXT_MAX]
        if kind == "lock":
            waiters = of_ours(Acquirable, resource, "_waiters")
            many = len(waiters) if type(waiters) is deque else 0
            text = f"{type_name(resource)} {state}" + (f" ({many} wait)" if many > 1 else "")
        else:
            text = f"{title}, {state}" if state else title
        return Wait(kind, text, owner=owner or None, resource=numbers.of(resource))

    def native_wait(self, coro: Any) -> Wait:
        """Say what the innermost coroutine waits for, which is one of hoop's own in C."""
        owner = coro.owner
        if issubclass(type(owner), TimerHandle):
            left = _deadline(owner) - self.now
            return Wait("sleep", f"sleep, {left:.1f} s left", left=left)
        title = title_of(coro)[:TEXT_MAX]
        if issubclass(type(owner), (StreamReader, StreamWriter, StreamProtocol)):
            cls: Any = next(
                c
                for c in (StreamReader, StreamWriter, StreamProtocol)
                if issubclass(type(owner), c)
            )
            fd, peer = end_of(cls.__dict__["_transport"].__get__(owner))
            return Wait("connection", f"{title} of {peer or fd}", peer=peer, fd=fd)
        if issubclass(type(owner), Loop):
            sock = coro.value
            fd = _fileno(sock) if issubclass(type(sock), _socket.socket) else None
            return Wait("socket", title.rpartition(".")[2], fd=fd)
        return Wait(own_class(owner).lower(), title)

    def future_wait(self, waited: Any, last: Any) -> Wait:
        """Say what will set a future."""
        if type(last) is types.CoroutineType and _is_stock_sleep(last.cr_code):
            timer = next((o for o in gc.get_referents(last) if type(o) is TimerHandle), None)
            if timer is not None:
                left = _deadline(timer) - self.now
                return Wait("sleep", f"sleep, {left:.1f} s left", left=left)
        job = self.jobs().get(id(waited))
        if job is not None:
            return job
        for told, _ in raw(waited, "_callbacks") or () if type(waited) is Future else ():
            source = closed_over(told, "source")
            if type(source) in (concurrent.futures.Future, Job):
                return self.thread_wait(source)
        deadline = self.deadlines().get(id(waited))
        if deadline is not None:
            left = deadline - self.now
            return Wait("timer", f"a timer, {left:.1f} s left", left=left)
        return Wait("future", "a future that nobody known will set")

    def thread_wait(self, source: Any) -> Wait:
        """A job of an executor: a look-up of a name, or a function of the program's."""
        resolver = kept(self.loop, "_resolver")
        lookup = getattr(resolver, "_unfinished", {}).get(source)
        if lookup is not None:
            return Wait("name", f"the name {host_of(lookup[0])}")
        name = name_of_job(self.loop, source)
        return Wait("executor", f"{name} in an executor" if name else "a function in an executor")

    def jobs(self) -> dict[int, Wait]:
        """By the address of a future: the file operation or the child that will set it."""
        if self._jobs is None:
            self._jobs = {}
            for future, job in file_jobs(self.loop):
                for one in (future, *shields_of(future)):
                    self._jobs[id(one)] = Wait("file", job)
            for watch in list(kept(self.loop, "_children") or ()):
                about = f"the child {watch.process.pid} {program_of(watch.process)}".rstrip()
                for future in futures_of(watch):
                    self._jobs[id(future)] = Wait("child", about)
        return self._jobs

    def deadlines(self) -> dict[int, float]:
        """By the address of a future: when a timer will set it."""
        if self._deadlines is None:
            self._deadlines = {}
            timer: Any
            for timer in of_loop(self.loop, "_scheduled"):
                if type(timer) is not TimerHandle or _callback(timer) is not _set_result:
                    continue
                args = timer._args
                if args:  # else it was cancelled meanwhile
                    self._deadlines[id(args[0])] = _deadline(timer)
        return self._deadlines


_tasks_file = asyncio.tasks.__file__


def _is_stock_sleep(code: types.CodeType) -> bool:
    """Whether this is asyncio's own sleep(), of which hoop.install() takes the name away."""
    return code.co_name == "sleep" and code.co_filename == _tasks_file


def end_of(transport: Any) -> tuple[int | None, str]:
    """The descriptor and the peer of a transport, as far as they are known without asking anybody."""
    facts: Any = None
    if issubclass(type(transport), StreamTransport):
        facts = StreamTransport._statistics(transport)
    elif type(transport) is SSLTransport:
        facts = SSLTransport._statistics(transport)
    if facts is None:
        return None, ""
    return facts["fd"], peer(facts["peer"])


def own_class(o: object) -> str:
    """The name of hoop's class from which an object's class derives; else "other"."""
    for cls in _mro.__get__(type(o)):
        module = _module.__get__(cls)
        if type(module) is str and module.split(".")[0] == "hoop":
            return str(_name.__get__(cls))
    return "other"


def told_by(callback: Any) -> tuple[object | None, bool]:
    """The future of which a task's callback is to set the result, if asyncio made the callback.

    Also says whether one of several tasks may be enough for that.
    """
    if type(callback) is types.BuiltinMethodType:
        if type(callback.__self__) is TaskGroup:
            return callback.__self__._on_completed_fut, False  # type: ignore[attr-defined]
        if type(callback.__self__) is Waiting:
            return callback.__self__._waiter, True
        if type(callback.__self__) is Shield:
            return callback.__self__._outer, False
        return None, False
    if type(callback) is types.MethodType:
        group = callback.__self__
        if callback.__func__ is _on_task_done and type(group) is asyncio.TaskGroup:
            return group._on_completed_fut, False  # type: ignore[attr-defined]
        return None, False
    waiter = closed_over(callback, "waiter")  # of wait()
    if waiter is not None:
        return waiter, True
    return closed_over(callback, "outer"), False  # of shield()


def shields_of(future: Any) -> list[Any]:
    """The futures of asyncio.shield() that protect a future."""
    if type(future) is not Future:
        return []
    found = [
        told.__self__._outer
        if type(told) is types.BuiltinMethodType and type(told.__self__) is Shield
        else closed_over(told, "outer")
        for told, _ in raw(future, "_callbacks") or ()
    ]
    return [outer for outer in found if outer is not None]


def kept_by(told: Any) -> Any:
    """The transport of a server's connection, if hoop's streams made this callback of a task; else None."""
    return told._transport if type(told) is Ending else None


def closed_over(function: Any, name: str) -> object | None:
    """A variable that a function of asyncio's own closes over."""
    if type(function) is not types.FunctionType or function.__code__.co_filename not in _files:
        return None
    names = function.__code__.co_freevars
    if name not in names or function.__closure__ is None:
        return None
    try:
        return function.__closure__[names.index(name)].cell_contents  # type: ignore[no-any-return]
    except ValueError:  # an empty cell
        return None
