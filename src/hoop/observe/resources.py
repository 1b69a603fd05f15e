"""The things that the loops of this process hold: connections, servers, timers, threads, children, sites.

Each function may be called from any thread, and makes at most `top` records. All is read from tables of the
loops. No system call is made for a connection, and no code of the program runs.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import heapq
import itertools
import os
import time
from collections.abc import Iterator
from typing import Any

from hoop.disk.call import SystemCall
from hoop.disk.pool import FilePool
from hoop.insight import sites as counted
from hoop.loop.running import SleepTimer
from hoop.loop.turn import Loop
from hoop.net.datagram import DatagramTransport
from hoop.net.listener import AcceptOp
from hoop.net.names import THREADS_MAX, Resolver
from hoop.net.stream import StreamTransport
from hoop.observe import labels
from hoop.observe.model import (
    ChildView,
    ConnectionView,
    JobView,
    PoolView,
    ResourceView,
    ServerView,
    SiteView,
    TimerView,
)
from hoop.observe.reading import kept, numbers, of_loop, peer, raw, type_name
from hoop.observe.snapshot import Pace, loops_now, read_in_slices, seconds
from hoop.observe.waits import (
    coroutines_of,
    futures_of,
    holder_of,
    host_of,
    items_in,
    kind_of,
    name_of_item,
    place_of,
    program_of,
    queued_in,
    resource_of,
    stack_of,
    state_of,
    text_of,
    title_of,
)
from hoop.pipes.end import PipeOp
from hoop.pipes.reader import ReadPipe
from hoop.pipes.writer import WritePipe
from hoop.processes.process import ChildWatch
from hoop.scheduling.handle import Handle
from hoop.scheduling.timers import TimerHandle
from hoop.tls.layer import TlsLayer

TOP = 200
ASYNCIO = os.path.dirname(asyncio.__file__) + os.sep
MINUTE_NS = 60_000_000_000
LEAK_MINUTES = 6
LEAK_ALIVE = 100
_callback: Any = Handle.__dict__["_callback"].__get__
_deadline: Any = TimerHandle.__dict__["_deadline"].__get__
_statistics = {
    StreamTransport: StreamTransport._statistics,
    DatagramTransport: DatagramTransport._statistics,
}


# ---- connections and servers ---------------------------------------------------------------------------


def address(value: Any) -> str:
    """The address of a socket as text; "" if it has none."""
    if type(value) is bytes:
        value = os.fsdecode(value)  # an abstract name begins with a zero byte
    return peer(value)


def connections(top: int = TOP) -> tuple[ConnectionView, ...]:
    """Return the open connections, those that were idle longest first."""
    found: list[ConnectionView] = []
    for number, loop in loops_now():
        now = time.monotonic_ns()
        servers_of = {id(op["server"]): op["fd"] for op in listeners(loop) if op["server"]}
        pace = Pace(loop)
        for transport in Loop._open_transports(loop):
            pace.step()
            view = view_connection(number, transport, servers_of, now)
            if view is not None:
                found.append(view)
        found.extend(pipe_ends(number, loop, now))
    found.sort(key=lambda view: view.idle, reverse=True)
    return tuple(found[:top])


def view_connection(
    loop: int, transport: Any, servers_of: dict[int, int], now: int
) -> ConnectionView | None:
    """The row of a transport; None if it is closed, or none of hoop's."""
    read = next((f for cls, f in _statistics.items() if issubclass(type(transport), cls)), None)
    if read is None:
        return None
    facts: dict[str, Any] = read(transport)
    if facts["fd"] < 0:
        return None
    protocol = facts["protocol"]
    tls: dict[str, Any] = {}
    if type(protocol) is TlsLayer:
        tls = TlsLayer._statistics(protocol)
        protocol = tls["protocol"]
    cipher = tls.get("cipher")
    return ConnectionView(
        id=facts["fd"],
        loop=loop,
        kind="tls" if tls else facts["kind"],
        fd=facts["fd"],
        local=address(facts["local"]),
        peer=address(facts["peer"]),
        age=seconds(now, facts["born"]),
        idle=seconds(now, facts["active"]),
        bytes_in=facts["bytes_in"],
        bytes_out=facts["bytes_out"],
        buffered=facts["buffered"] + tls.get("queued", 0),
        reading_paused=bool(facts["reading_paused"] or tls.get("reading_paused")),
        writing_paused=bool(facts["writing_paused"] or tls.get("writing_paused")),
        tls_version=tls.get("version") or "",
        cipher=cipher[0] if type(cipher) is tuple and cipher else "",
        protocol="" if protocol is None else type_name(protocol),
        server=servers_of.get(id(facts["server"])) if facts["server"] is not None else None,
        label=labels.labelled(facts["context"]),
    )


def pipe_ends(number: int, loop: Any, now: int) -> Iterator[ConnectionView]:
    """The pipes and terminals of a loop: those that it watches."""
    seen = set()
    for op in operations(loop):
        end = op._transport if type(op) is PipeOp else None
        if end is not None and id(end) not in seen:
            seen.add(id(end))
            yield view_pipe(number, end, now)


def view_pipe(loop: int, end: Any, now: int) -> ConnectionView:
    reads = type(end) is ReadPipe
    facts = (ReadPipe if reads else WritePipe)._statistics(end)
    return ConnectionView(
        id=facts["fd"],
        loop=loop,
        kind="pipe",
        fd=facts["fd"],
        local="read end" if reads else "write end",
        age=seconds(now, facts["born"]),
        idle=seconds(now, facts["active"]),
        bytes_in=facts["bytes_in"],
        bytes_out=facts["bytes_out"],
        buffered=facts["buffered"],
        reading_paused=facts["reading_paused"],
        writing_paused=facts["writing_paused"],
        protocol="" if facts["protocol"] is None else type_name(facts["protocol"]),
    )


def operations(loop: Any) -> list[Any]:
    """The operations that a loop's driver watches for or works on."""
    found: list[Any] = Loop._operations(loop)
    return found


def listeners(loop: Any) -> list[dict[str, Any]]:
    """The facts of the listening sockets of a loop."""
    return [AcceptOp._statistics(op) for op in operations(loop) if type(op) is AcceptOp]


def servers(top: int = TOP) -> tuple[ServerView, ...]:
    """Return the listening sockets, in the order of their descriptors."""
    found: list[ServerView] = []
    for number, loop in loops_now():
        counts: dict[int, int] = {}
        pace = Pace(loop)
        for transport in Loop._open_transports(loop):
            pace.step()
            if issubclass(type(transport), StreamTransport):
                server = StreamTransport._statistics(transport)["server"]
                if server is not None:
                    counts[id(server)] = counts.get(id(server), 0) + 1
        now = time.monotonic_ns()
        for facts in listeners(loop):
            local = facts["local"]
            factory = facts["factory"]
            found.append(
                ServerView(
                    id=facts["fd"],
                    loop=number,
                    kind="tcp" if type(local) is tuple else "unix",
                    fd=facts["fd"],
                    address=address(local),
                    accepted=facts["accepted"],
                    refused=facts["refused"],
                    connections=counts.get(id(facts["server"]), 0),
                    backlog=facts["backlog"],
                    protocol=place_of(factory),
                    tls=facts["tls"],
                    age=seconds(now, facts["born"]),
                )
            )
    found.sort(key=lambda view: view.fd)
    return tuple(found[:top])


# ---- locks, queues and the like ----------------------------------------------------------------------


class Waited:
    """A lock, queue, ... that tasks wait for, while they are collected."""

    __slots__ = ("loop", "o", "since", "waiters", "where")

    def __init__(self, loop: int, o: Any) -> None:
        self.loop = loop
        self.o = o
        self.since = 0.0
        self.where = ""
        self.waiters: list[tuple[float, int]] = []

    def view(self) -> ResourceView:
        self.waiters.sort(key=lambda one: (-one[0], one[1]))
        return ResourceView(
            id=numbers.of(self.o),
            loop=self.loop,
            kind=kind_of(self.o),
            where=self.where,
            owner=holder_of(self.o) or None,
            waiters=tuple(serial for _, serial in self.waiters),
            since=self.since,
            text=state_of(self.o),
        )


def locks(top: int = TOP) -> tuple[ResourceView, ...]:
    """Return the locks, queues, events, ... that tasks wait for, those with most waiters first."""
    found: dict[int, Waited] = {}
    for number, loop in loops_now():
        for facts in read_in_slices(loop):
            if facts.waited_for is None:
                continue
            coroutines = coroutines_of(facts.task)
            o = resource_of(coroutines)
            if o is None:
                continue
            waited = found.setdefault(id(o), Waited(number, o))
            waited.waiters.append((facts.since, facts.serial))
            if not waited.where or facts.since > waited.since:
                waited.since = facts.since
                waited.where = where_of(coroutines)
    rows = [waited.view() for waited in found.values()]
    rows.sort(key=lambda view: (len(view.waiters), view.since), reverse=True)
    return tuple(rows[:top])


def where_of(coroutines: list[Any]) -> str:
    """The function and the line at which the program waits: the innermost that is not asyncio's."""
    stack = stack_of(coroutines)
    outside = [frame for frame in stack if not frame.file.startswith(ASYNCIO)]
    frame = (outside or stack or (None,))[-1]
    return "" if frame is None else f"{frame.name} {frame.file}:{frame.line}"


# ---- callbacks -------------------------------------------------------------------------------------


def timers(top: int = TOP) -> tuple[TimerView, ...]:
    """Return the timers, those that are due next first."""
    rows: list[tuple[float, int, str, int]] = []
    for number, loop in loops_now():
        clock = Loop.time(loop)
        pace = Pace(loop)
        chosen: list[tuple[float, int, Any]] = []
        for order, timer in enumerate(of_loop(loop, "_scheduled")):
            pace.step()
            if not TimerHandle.cancelled(timer):
                chosen.append((_deadline(timer) - clock, order, timer))
        chosen = heapq.nsmallest(top, chosen, key=lambda one: one[:2])
        wakes = [woken_by(timer) for _, _, timer in chosen]
        tasks = waiters_of(loop, {id(future) for future in wakes if future is not None})
        for (left, _, timer), future in zip(chosen, wakes):
            rows.append((left, number, name_of_timer(timer), tasks.get(id(future), 0)))
        del chosen, wakes
    rows.sort(key=lambda row: row[0])
    return tuple(
        TimerView(loop=number, left=left, callback=name, task=task or None)
        for left, number, name, task in rows[:top]
    )


def woken_by(timer: Any) -> Any:
    """The future that a timer sets; None if it does something else."""
    if type(timer) is SleepTimer:
        return timer._future
    args = timer._args if type(timer) is TimerHandle else None
    return args[0] if type(args) is tuple and len(args) else None


def name_of_timer(timer: Any) -> str:
    if type(timer) is SleepTimer:
        return "sleep"
    return place_of(_callback(timer)) if type(timer) is TimerHandle else type_name(timer)


def waiters_of(loop: Any, futures: set[int]) -> dict[int, int]:
    """The numbers of the tasks that wait for these futures, by the addresses of the futures."""
    found: dict[int, int] = {}
    if futures:
        for facts in read_in_slices(loop):
            if id(facts.waited_for) in futures:
                found[id(facts.waited_for)] = facts.serial
    return found


# ---- threads ---------------------------------------------------------------------------------------


def pools(top: int = TOP) -> tuple[PoolView, ...]:
    """Return the threads that work for the loops: for files, for names, and in the default executor."""
    found = []
    for number, loop in loops_now():
        found += [
            files_of(number, loop, kept(loop, "_file_pool"), top),
            names_of(number, kept(loop, "_resolver"), top),
            executor_of(number, kept(loop, "_default_executor"), top),
        ]
    return tuple(view for view in found if view is not None)


def files_of(number: int, loop: Any, pool: Any, top: int) -> PoolView | None:
    """The pool for files, and the operations that the kernel does without a thread."""
    if type(pool) is not FilePool:
        return None
    now = time.monotonic_ns()
    begun = list(pool._unfinished.items())
    threads = len(pool._threads) + len(pool._alone)
    jobs = [
        JobView("file", text_of(job), "running" if i < threads else "queued", seconds(now, since))
        for i, (job, since) in enumerate(begun[:top])
    ]
    waiting = {id(job) for job, _ in begun}
    for op in operations(loop):
        if issubclass(type(op), SystemCall) and id(op) not in waiting:
            since = SystemCall._statistics(op)["since"]
            jobs.append(JobView("file", text_of(op), "in kernel", seconds(now, since)))
    return PoolView(
        kind="files",
        loop=number,
        name="hoop-files",
        threads=threads,
        threads_max=pool._threads_max,
        busy=min(len(begun), threads),
        queued=max(len(begun) - threads, 0),
        jobs=tuple(jobs[:top]),
    )


def names_of(number: int, resolver: Any, top: int) -> PoolView | None:
    """The threads that look up names."""
    if type(resolver) is not Resolver or resolver._threads is None:
        return None
    now = time.monotonic_ns()
    lookups = list(resolver._unfinished.items())
    jobs = [
        JobView(
            "name",
            host_of(what),
            "running" if is_running(lookup) else "queued",
            seconds(now, since),
        )
        for lookup, (what, since) in lookups
    ]
    busy = sum(job.state == "running" for job in jobs)
    return PoolView(
        kind="names",
        loop=number,
        name="hoop-dns",
        threads=len(resolver._threads._threads),
        threads_max=THREADS_MAX,
        busy=busy,
        queued=len(jobs) - busy,
        jobs=tuple(jobs[:top]),
    )


def is_running(job: Any) -> bool:
    """Whether a thread has begun a job of an executor."""
    return type(job) is concurrent.futures.Future and job._state == "RUNNING"


def executor_of(number: int | None, executor: Any, top: int) -> PoolView | None:
    """A ThreadPoolExecutor: the functions in its queue, and those that its threads run."""
    if type(executor) is not concurrent.futures.ThreadPoolExecutor:
        return None
    running = [name_of_item(item) for item in items_in(executor)]
    queued = [name_of_item(item) for item in queued_in(executor)]
    jobs = [JobView("function", name, "running") for name in running]
    jobs += [JobView("function", name, "queued") for name in queued]
    prefix = executor._thread_name_prefix
    return PoolView(
        kind="executor",
        loop=number,
        name=prefix if type(prefix) is str else "",
        threads=len(executor._threads),
        threads_max=executor._max_workers,
        busy=len(running),
        queued=len(queued),
        jobs=tuple(jobs[:top]),
    )


# ---- children --------------------------------------------------------------------------------------


def children(top: int = TOP) -> tuple[ChildView, ...]:
    """Return the child processes, the oldest first."""
    found = []
    now = time.monotonic_ns()
    for number, loop in loops_now():
        watches = list(kept(loop, "_children") or ())
        ends = {id(future) for watch in watches for future in futures_of(watch)}
        tasks = waiters_of(loop, ends)
        for watch in watches:
            if type(watch) is ChildWatch:
                process = watch.process
                status = getattr(process, "returncode", None)
                found.append(
                    ChildView(
                        pid=process.pid,
                        loop=number,
                        program=program_of(process),
                        age=seconds(now, watch.born),
                        status=status if type(status) is int else None,
                        waiters=tuple(
                            tasks[id(future)] for future in futures_of(watch) if id(future) in tasks
                        ),
                    )
                )
    found.sort(key=lambda view: view.age, reverse=True)
    return tuple(found[:top])


# ---- sites -----------------------------------------------------------------------------------------


class Growth:
    """How many unfinished tasks each site had in the last minutes. `take()` is to be called now and then."""

    def __init__(self) -> None:
        self.samples: list[tuple[int, dict[tuple[Any, ...], int]]] = []

    def take(self, now: int | None = None) -> None:
        """Take a sample, if the last one is a minute old."""
        at = time.monotonic_ns() if now is None else now
        if self.samples and at - self.samples[-1][0] < MINUTE_NS:
            return
        alive = {key: made - ended for key, (made, ended, _) in site_counts().items()}
        self.samples.append((at, alive))
        del self.samples[: -LEAK_MINUTES - 1]

    def of(self, key: tuple[Any, ...], alive: int, now: int) -> tuple[float, bool]:
        """By how many tasks a site grew per minute, and whether it seems to leak."""
        counts = [sample.get(key, 0) for _, sample in self.samples]
        if not counts:
            return 0.0, False
        minutes = (now - self.samples[0][0]) / MINUTE_NS
        grew = len(counts) > LEAK_MINUTES and all(a < b for a, b in itertools.pairwise(counts))
        growth = (alive - counts[0]) / minutes if minutes >= 1 else 0.0
        return growth, grew and alive > LEAK_ALIVE


growth = Growth()


def site_counts() -> dict[tuple[Any, ...], tuple[int, int, set[int]]]:
    """For each file, line and function: how many tasks it made, how many ended, and the numbers of its sites.

    Python adapts its code, so one call in a line may count as several sites.
    """
    found: dict[tuple[Any, ...], tuple[int, int, set[int]]] = {}
    for number, code, file, line, made, ended in counted.counts():
        key = file, line, code.co_qualname
        before = found.get(key, (0, 0, set()))
        found[key] = before[0] + made, before[1] + ended, before[2] | {number}
    return found


def sites(top: int = TOP) -> tuple[SiteView, ...]:
    """Return the places that made tasks while the program was observed, those with most unfinished first."""
    now = time.monotonic_ns()
    growth.take(now)
    oldest: dict[int, int] = {}
    names: dict[int, str] = {}
    for _, loop in loops_now():
        for facts in read_in_slices(loop):
            if facts.site and facts.born < oldest.get(facts.site, now):
                oldest[facts.site] = facts.born
                names[facts.site] = title_of(raw(facts.task, "_coro"))
    found = []
    for (file, line, name), (made, ended, places) in site_counts().items():
        born = min((oldest[n] for n in places if n in oldest), default=now)
        rate, leaks = growth.of((file, line, name), made - ended, now)
        coroutine = next((names[n] for n in places if n in names), "")
        found.append(
            SiteView(
                file=file,
                line=line,
                coroutine=coroutine,
                alive=made - ended,
                made=made,
                ended=ended,
                oldest=seconds(now, born),
                growth=rate,
                leaks=leaks,
            )
        )
    found.sort(key=lambda view: (view.alive, view.made), reverse=True)
    return tuple(found[:top])
