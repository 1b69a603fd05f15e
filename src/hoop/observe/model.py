"""The records that a look into the program gives: numbers and texts, and no object of yours.

    Snapshot      loops, tasks and cycles              Overview     what one reads first
    ResourceView  a lock, event, queue, ...            PoolView     threads, and what they do
    ConnectionView, ServerView, TimerView, ChildView, SiteView, Stall

Times are seconds. An `age`, a `since` and an `idle` end at the moment of the look. Fields are only ever
added, and each of these has a default, which also says that nothing is known. `as_json()` makes a record
into what json.dumps() takes.
"""

from __future__ import annotations

import dataclasses
from typing import Any

SCHEMA = 1


def plain(value: Any) -> Any:
    """Make records into dictionaries, and tuples into lists. All else stays as it is."""
    if isinstance(value, Record):
        fields: tuple[str, ...] = value.__slots__
        return {name: plain(getattr(value, name)) for name in fields}
    if isinstance(value, (tuple, list)):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    return value


class Record:
    """Has as_json(). Each record is a frozen dataclass, whose slots are its fields."""

    __slots__ = ()

    def as_json(self) -> dict[str, Any]:
        """Return the record as dictionaries and lists."""
        made: dict[str, Any] = plain(self)
        return made


# ---- tasks -----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Frame(Record):
    """A place in a coroutine: the name of its function, its file, and the line that it is at."""

    name: str
    file: str
    line: int


@dataclasses.dataclass(frozen=True, slots=True)
class Wait(Record):
    """The thing that a task waits for.

    `kind` is one of "task", "tasks", "sleep", "timer", "executor", "future", "name", "file", "child",
    "connection" and "socket". Else it is the class of hoop's object in small letters, such as "lock".

    `targets` has the ids of the tasks. `left` is the time until a timer. `owner` is the id of the task that
    holds the lock. `resource` is the id of a ResourceView. `peer` and `fd` are those of a connection.
    """

    kind: str
    text: str
    targets: tuple[int, ...] = ()
    left: float | None = None
    owner: int | None = None
    resource: int | None = None
    peer: str = ""
    fd: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class TaskView(Record):
    """An unfinished task.

    `id` is a number that no other task of the process has. `state` is "running", "ready" or "waiting", and
    `since` says for how long, to the precision of a visit to the driver. `stack` begins with the task's own
    coroutine and ends where it waits. `site` is where it was made. `label` names the request that it serves.

    `busy`, `scheduled` and `waited` say how long it ran, was ready, and waited, while the loop was measuring.
    """

    id: int
    loop: int
    name: str
    state: str
    since: float
    age: float
    polls: int
    busy: float
    coroutine: str
    stack: tuple[Frame, ...]
    waits_for: Wait | None
    awaited_by: tuple[int, ...]
    cancelling: int
    site: tuple[str, int] | None
    scheduled: float = 0.0
    waited: float = 0.0
    label: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class SiteView(Record):
    """A place that makes tasks. `alive` are unfinished, `oldest` is the age of the oldest of these.

    `growth` is by how many they became more per minute. `leaks` means that there are more than 100, and that
    they grew in each of the last six minutes.
    """

    file: str
    line: int
    coroutine: str = ""
    alive: int = 0
    made: int = 0
    ended: int = 0
    oldest: float = 0.0
    growth: float = 0.0
    leaks: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Cycle(Record):
    """Tasks that wait for each other, each for the next and the last for the first.

    `text` says it in words. `lasted` is the time since it was found first, by two looks a second apart.
    """

    tasks: tuple[int, ...]
    text: str = ""
    lasted: float = 0.0


# ---- loops -----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Rates(Record):
    """The doings of a loop in the last seconds. `seconds` says how many these are, 10 at most.

    `idle` is a share of the time, from 0 to 1. The numbers from `turns` on are per second.
    """

    seconds: float
    visit: tuple[float, float, float] = (0.0, 0.0, 0.0)
    timer_lag: tuple[float, float, float] = (0.0, 0.0, 0.0)
    idle: float = 0.0
    turns: float = 0.0
    callbacks: float = 0.0
    bytes_in: float = 0.0
    bytes_out: float = 0.0
    tasks_made: float = 0.0
    accepted: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class LoopView(Record):
    """A loop: its thread, its counts since it was made, and how long events and timers waited.

    `thread` is None while the loop does not run. `visit` and `timer_lag` are the median, the 99th percentile
    and the longest. `tasks` counts the unfinished ones by state, `connections` those open by kind.

    `recent` is None until the observer has looked twice. `uring` has numbers of the driver. `blocked` is the
    time for which the loop is blocked now. `born` is a number that stays the loop's.
    """

    id: int
    thread: str | None
    driver: str
    age: float
    idle: float
    turns: int
    callbacks: int
    ready: int
    ready_max: int
    visit: tuple[float, float, float]
    timer_lag: tuple[float, float, float]
    tasks: dict[str, int]
    tasks_ended: dict[str, int]
    transports: int
    timers: int
    bytes_in: int
    bytes_out: int
    accepted: int
    refused: int
    sleeps: int = 0
    wakes: int = 0
    connections: dict[str, int] = dataclasses.field(default_factory=dict)
    uring: dict[str, int] = dataclasses.field(default_factory=dict)
    recent: Rates | None = None
    blocked: float = 0.0
    born: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot(Record):
    """The program at one moment. `tasks` has the chosen ones, and `total` says how many there are."""

    schema: int
    pid: int
    loops: tuple[LoopView, ...]
    tasks: tuple[TaskView, ...]
    total: int
    cycles: tuple[Cycle, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class GcView(Record):
    """Garbage collections of one generation while the program was observed, and the seconds they took."""

    generation: int
    count: int
    seconds: float
    longest: float


@dataclasses.dataclass(frozen=True, slots=True)
class ObserverView(Record):
    """The observer thread. `every` is the shortest time between two looks that its budget allows now.

    `cpu` is the processor time that it has used. `notes` says what it cannot do here, and why.
    """

    level: int = 0
    threshold: float = 0.0
    cpu: float = 0.0
    clients: int = 0
    every: float = 0.0
    path: str = ""
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Overview(Record):
    """The things that one reads first of a program.

    `stalls` counts them by cause, `stall_seconds` adds up how long they lasted. `last_stall` is the last
    report, as in `hoop stalls`. `starved` counts how often a loop had no processor. `throttled` are the
    seconds for which the kernel kept the control group from its processors.
    """

    schema: int
    pid: int
    program: str
    hoop: str
    python: str
    uptime: float
    loops: tuple[LoopView, ...] = ()
    gc: tuple[GcView, ...] = ()
    stalls: dict[str, int] = dataclasses.field(default_factory=dict)
    stall_seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    starved: int = 0
    last_stall: Stall | None = None
    cycles: int = 0
    observer: ObserverView = ObserverView()
    throttled: float = 0.0


# ---- what tasks wait for and work with -----------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class ResourceView(Record):
    """A lock, event, condition, semaphore, barrier or queue that tasks wait for.

    `where` is the function and line at which its oldest waiter waits. `owner` is the id of the task that
    holds it. `waiters` has the ids of the tasks, those that wait longest first. `since` says for how long the
    first one waits. `text` tells its state, such as "3 of 10" for a queue.
    """

    id: int
    loop: int
    kind: str
    where: str = ""
    owner: int | None = None
    waiters: tuple[int, ...] = ()
    since: float = 0.0
    text: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class ConnectionView(Record):
    """An open connection. `kind` is "tcp", "unix", "udp", "pipe" or "tls".

    `idle` is the time since bytes last moved. `buffered` are bytes that wait to be sent. `server` is the id
    of the ServerView that accepted it.
    """

    id: int
    loop: int
    kind: str
    fd: int
    local: str = ""
    peer: str = ""
    age: float = 0.0
    idle: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    buffered: int = 0
    reading_paused: bool = False
    writing_paused: bool = False
    tls_version: str = ""
    cipher: str = ""
    protocol: str = ""
    server: int | None = None
    label: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class ServerView(Record):
    """A listening socket."""

    id: int
    loop: int
    kind: str
    fd: int
    address: str = ""
    accepted: int = 0
    refused: int = 0
    connections: int = 0
    backlog: int = 0
    protocol: str = ""
    tls: bool = False
    age: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class TimerView(Record):
    """A timer. `left` is negative if it is overdue. `task` is the id of the task that it wakes."""

    loop: int
    left: float
    callback: str = ""
    task: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class JobView(Record):
    """A file, a name or a function that a thread works at. `since` is for how long."""

    kind: str
    text: str = ""
    state: str = ""
    since: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class PoolView(Record):
    """Threads that work for a loop. `kind` is "files", "names" or "executor"."""

    kind: str
    loop: int | None = None
    name: str = ""
    threads: int = 0
    threads_max: int = 0
    busy: int = 0
    queued: int = 0
    jobs: tuple[JobView, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class ChildView(Record):
    """A child process. `status` is None until it has ended."""

    pid: int
    loop: int
    program: str = ""
    age: float = 0.0
    status: int | None = None
    waiters: tuple[int, ...] = ()


# ---- stalls ----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Stall(Record):
    """A time in which a loop could not run. Of `file`, `line` and `function` see `innermost` in stalls.py.

    They are empty, as is `stack`, if the loop had gone on when the report could be made, and no stack was
    noted.

    A busy loop does not visit its driver in every turn. If it did not in this one, the time counts from when
    the watcher first saw the turn. That is at most 50 ms after its beginning.
    """

    cause: str  # "python", "blocking call", "long turn", ...: see cause_of() in stalls.py
    loop: str  # the name of its thread
    began: float  # on the clock of time.monotonic()
    lasted: float  # seconds, until now if it is not over
    file: str
    line: int
    function: str
    task: str  # the task, callback or operation that the loop runs
    label: str  # of the request that it serves
    created_at: str  # where the task was made
    stack: tuple[str, ...]  # of the loop's thread, innermost first
    await_stack: tuple[str, ...]  # the coroutines in it
    over: bool
    cpu: float = 0.0  # seconds that the thread computed
    waited: float = 0.0  # seconds that it waited for a processor
    elsewhere: tuple[str, ...] = ()  # if another thread has the GIL: its name, and its stack
    connection: str = ""  # the peer, if what runs serves a connection
    call: str = ""  # the system call that it waits in, and where in the kernel
    number: int = 0  # the reports of one stall have one number
    at: float = 0.0  # when it began, on the clock of time.time()

    def __str__(self) -> str:
        took = f"{self.lasted:.2f} s"
        lasted = f"was blocked for {took}" if self.over else f"is blocked, for {took} so far,"
        where = f" in {self.function} {self.file}:{self.line}" if self.file else ""
        made = f", made at {self.created_at}" if self.created_at else ""
        label = f", {self.label}" if self.label else ""
        peer = f", of {self.connection}" if self.connection else ""
        call = f" ({self.call})" if self.call else ""
        other = f", thread {self.elsewhere[0]}" if self.elsewhere else ""
        return (
            f"the loop of {self.loop} {lasted} by {self.cause}{call}{other}{where}"
            f", running {self.task or 'nothing'}{made}{label}{peer}"
        )
