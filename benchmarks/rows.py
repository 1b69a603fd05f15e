"""The table of comparisons: every row with its workload, its load and its contestants.

Nothing is run here. There are three kinds of rows. `served`: a contestant is a server, and a C client loads
it. `work`: the contestant does the work by itself. `idle`: a server holds connections on which nothing
happens. In options and parameters `{name}` stands for a path or address that compare.py makes when a row
first asks for it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from loops import HOOP, LOOPS, OBSERVED, SPINNING

Role = Literal["floor", "ours", "other"]

MAIN = (*HOOP, "asyncio", "uvloop")
KIB = 1024
IDLE_CONNECTIONS, IDLE_FEWER_CONNECTIONS = 10_000, 500


@dataclass(frozen=True)
class Contestant:
    """A way of doing the row's operation. The others are measured against the `floor`."""

    label: str
    role: Role
    what: str  # `module:function` in workloads, or a C program if there is no loop.
    loop: str = ""  # One of loops.py, or `none` for Python without a loop.
    parameters: Mapping[str, object] = field(default_factory=dict)
    options: tuple[str, ...] = ()  # Of a C program.


@dataclass(frozen=True)
class Load:
    """The C client's work: closed loops, one request in flight on each connection."""

    connections: int = 1
    message_bytes: int = 64
    options: tuple[str, ...] = ()  # See client.c.
    address: str = "0"  # The server's address: a TCP port, a path, or `udp`.


@dataclass(frozen=True)
class Row:
    """One operation to measure. The contestant with less of the figures in `judged` is better."""

    name: str
    group: str
    title: str
    kind: Literal["served", "work", "idle"]
    contestants: tuple[Contestant, ...]
    load: Load = Load()
    parameters: Mapping[str, object] = field(default_factory=dict)  # Of every worker in the row.
    judged: tuple[str, ...] = ("cpu_us", "wall_us")
    unit: str = "request"
    step: int = 1  # Of work: operations come in multiples of this.
    once: int = 0  # Of work: exactly so many operations, each time in a new process.
    pinned: bool = True  # False with threads, children or spinning: they need another CPU.
    default: bool = True
    # How many connections, tasks or timers there are, in a family of rows that differ in nothing else.
    size: int = 0
    rounds: int = 0  # 0: as many as rows of its kind have.

    @property
    def anew(self) -> bool:
        """Whether every sample needs a new process, because memory that was freed must not count twice."""
        return self.kind == "idle" or self.once > 0

    @property
    def family(self) -> str:
        """The name without the size, of a row that has one."""
        return self.name.rpartition("-")[0] if self.size else ""


def role_of(loop: str) -> Role:
    return "ours" if loop in (*HOOP, *SPINNING, *OBSERVED) else "other"


def on(
    loops: Iterable[str], what: str, name: str = "", **parameters: object
) -> tuple[Contestant, ...]:
    """The same on several loops, under the loop's name or with another after it."""
    return tuple(
        Contestant(f"{loop} {name}".strip(), role_of(loop), what, loop, parameters)
        for loop in loops
    )


# ---- servers ----

C_EPOLL = Contestant("C epoll", "floor", "srv_epoll")
C_URING = Contestant("C io_uring", "floor", "srv_uring")
C_UDP = Contestant("C epoll", "floor", "srv_udp")
C_HTTP = Contestant("C epoll", "floor", "srv_epoll", options=("-m", "{response}"))
C_TLS = Contestant("C epoll", "floor", "srv_epoll", options=("-t", "{certificate}", "-k", "{key}"))
THREADS = Contestant("threads", "other", "servers:threads", "none")
TLS = {"certificate": "{certificate}", "key": "{key}"}
HTTP = ("-m", "{request}", "-r", "0")


def size(message_bytes: int) -> str:
    return f"{message_bytes // KIB} KiB" if message_bytes >= KIB else f"{message_bytes} B"


def native_streams(loops: Iterable[str] = HOOP) -> tuple[Contestant, ...]:
    return on(loops, "servers:streams", "native", library="hoop")


def echo_contestants(server: str, loops: Iterable[str]) -> tuple[Contestant, ...]:
    contestants = (C_EPOLL, C_URING, *on(loops, f"servers:{server}"))
    return (*contestants, *native_streams()) if server == "streams" else contestants


# The rows without --all, by server, message and connections, with the contestants beside the main ones.
ECHO_BY_DEFAULT: dict[tuple[str, int, int], tuple[str, ...]] = {
    ("protocol", 64, 1): LOOPS,
    ("protocol", 64, 50): LOOPS,
    ("protocol", 64, 1000): MAIN,
    ("protocol", KIB, 1): MAIN,
    ("protocol", KIB, 10): MAIN,
    ("protocol", KIB, 50): LOOPS,
    ("protocol", KIB, 100): MAIN,
    ("protocol", KIB, 1000): MAIN,
    ("protocol", 16 * KIB, 50): LOOPS,
    ("protocol", 256 * KIB, 50): MAIN,
    ("buffered", 64, 50): MAIN,
    ("buffered", 256 * KIB, 50): MAIN,
    ("streams", KIB, 50): LOOPS,
    ("streams", 16 * KIB, 50): MAIN,
    ("sockets", KIB, 50): LOOPS,
    ("sockets", 16 * KIB, 50): MAIN,
}
ECHO_SERVERS = {
    "protocol": "by Protocol",
    "buffered": "by BufferedProtocol",
    "streams": "by streams",
    "sockets": "by sock_recv and sock_sendall",
}


def echo_row(server: str, message_bytes: int, connections: int) -> Row:
    case = (server, message_bytes, connections)
    contestants = echo_contestants(server, ECHO_BY_DEFAULT.get(case, LOOPS))
    if server == "protocol" and message_bytes == 64:
        contestants = (*contestants, THREADS)
    how_many = "1 connection" if connections == 1 else f"{connections:,} connections"
    return Row(
        f"echo-{server}-{message_bytes}-{connections}",
        "echo",
        f"echo {ECHO_SERVERS[server]}, {size(message_bytes)}, {how_many}",
        "served",
        contestants,
        Load(connections, message_bytes),
        judged=("p50_us", "cpu_us") if connections == 1 else ("cpu_us", "wall_us"),
        default=case in ECHO_BY_DEFAULT,
    )


ECHO = tuple(
    echo_row(server, message_bytes, connections)
    for server in ECHO_SERVERS
    for message_bytes in (64, KIB, 16 * KIB, 256 * KIB)
    for connections in ((1, 10, 50, 100, 1000) if message_bytes == KIB else (1, 50, 1000))
)

NETWORK = (
    Row(
        "echo-spin-64-1",
        "echo",
        "echo by Protocol, 64 B, 1 connection; no server is kept to one processor, and some loops spin",
        "served",
        (C_EPOLL, C_URING, *on((*MAIN, *SPINNING), "servers:protocol")),
        judged=("p50_us", "cpu_us"),
        pinned=False,
        default=False,
    ),
    Row(
        "unix",
        "unix",
        "echo by Protocol over a Unix socket, 64 B, 50 connections",
        "served",
        (C_EPOLL, C_URING, *on(MAIN, "servers:protocol")),
        Load(50, 64, address="{socket}"),
    ),
    Row(
        "unix-streams",
        "unix",
        "echo by streams over a Unix socket, 64 B, 50 connections",
        "served",
        (C_EPOLL, C_URING, *on(MAIN, "servers:streams")),
        Load(50, 64, address="{socket}"),
        default=False,
    ),
    Row(
        "connect",
        "connections",
        "accept, echo 64 B, close; 50 at a time",
        "served",
        (C_EPOLL, C_URING, *on(LOOPS, "servers:protocol"), THREADS),
        Load(50, 64, ("-n",)),
        unit="connection",
    ),
    Row(
        "connect-streams",
        "connections",
        "accept, echo 64 B, close, by streams; 50 at a time",
        "served",
        (C_EPOLL, C_URING, *on(MAIN, "servers:streams"), *native_streams()),
        Load(50, 64, ("-n",)),
        unit="connection",
    ),
    *(
        Row(
            name,
            "tls",
            f"TLS echo, {size(message_bytes)}, 50 connections",
            "served",
            (C_TLS, *on(loops, "servers:protocol")),
            Load(50, message_bytes, ("-t",)),
            TLS,
        )
        for name, message_bytes, loops in (
            ("tls", 64, MAIN),
            ("tls-1k", KIB, LOOPS),
            ("tls-16k", 16 * KIB, MAIN),
        )
    ),
    Row(
        "tls-streams",
        "tls",
        "TLS echo by streams, 1 KiB, 50 connections",
        "served",
        (C_TLS, *on(MAIN, "servers:streams"), *native_streams()),
        Load(50, KIB, ("-t",)),
        TLS,
        default=False,
    ),
    Row(
        "tls-handshake",
        "tls",
        "TLS handshake (ECDSA P-256), echo 64 B, close; 10 at a time",
        "served",
        (C_TLS, *on(MAIN, "servers:protocol")),
        Load(10, 64, ("-t", "-n")),
        TLS,
        unit="connection",
    ),
    *(
        Row(
            f"udp-{message_bytes}",
            "udp",
            f"datagram echo, {message_bytes:,} B, 48 in flight",
            "served",
            (C_UDP, *on(LOOPS if message_bytes == 64 else MAIN, "servers:datagrams")),
            Load(48, message_bytes, address="udp"),
            unit="datagram",
        )
        for message_bytes in (64, 1200)
    ),
    Row(
        "http-uvicorn",
        "http",
        "HTTP by uvicorn with httptools, 64 connections",
        "served",
        (C_HTTP, *on(LOOPS, "web:uvicorn")),
        Load(64, options=HTTP),
    ),
    Row(
        "http-aiohttp",
        "http",
        "HTTP by aiohttp, 64 connections",
        "served",
        (C_HTTP, *on(LOOPS, "web:aiohttp")),
        Load(64, options=HTTP),
    ),
    Row(
        "http-client",
        "http",
        "HTTP client of aiohttp, 16 requests at a time",
        "work",
        on(MAIN, "web:aiohttp_client"),
        parameters={"address": "{http_server}"},
        step=16,
    ),
    Row(
        "websocket",
        "http",
        "WebSocket echo by websockets, 64 B, 50 connections",
        "served",
        on(MAIN, "web:websocket"),
        Load(50, options=("-p", "{upgrade}", "-m", "{frame}", "-r", "66")),
        unit="message",
    ),
)


# ---- the same, observed ----

OBSERVABLE = (
    "echo-protocol-64-50",
    "echo-protocol-1024-50",
    "echo-streams-1024-50",
    "tls-1k",
    "http-uvicorn",
    "http-aiohttp",
)


def observed_row(row: Row, loop: str) -> Row:
    """Compare a loop with the same loop after hoop.observe.start()."""
    what = next(c.what for c in row.contestants if c.loop == loop)
    return dataclasses.replace(
        row,
        name=f"observed-{row.name}-{loop.removeprefix('hoop-')}",
        group="observed",
        title=f"{row.title}, {loop}",
        contestants=(
            Contestant(loop, "floor", what, loop),
            Contestant("observed", "ours", what, f"{loop}-observed"),
        ),
        judged=("cpu_us", "wall_us"),
        default=False,
    )


WATCHED = tuple(
    observed_row(row, loop) for row in (*ECHO, *NETWORK) if row.name in OBSERVABLE for loop in HOOP
)


# ---- the loop by itself ----


def scheduling_row(
    name: str,
    title: str,
    contestants: tuple[Contestant, ...],
    default: bool = True,
    group: str = "scheduling",
) -> Row:
    return Row(
        name,
        group,
        title,
        "work",
        contestants,
        judged=("cpu_us",),
        unit="operation",
        step=100,
        default=default,
    )


def sync_contestants(what: str, loops: Iterable[str] = MAIN) -> tuple[Contestant, ...]:
    """Those of asyncio on each loop, and hoop's own."""
    return (*on(loops, what, library="asyncio"), *on(HOOP[:1], what, "native", library="hoop"))


PENDING = "the same with 10,000 pending"
SCHEDULING = (
    *(
        scheduling_row(name, title, sync_contestants(f"scheduling:{name}", LOOPS))
        for name, title in (
            ("sleep_zero", "`await sleep(0)`"),
            ("create_task", "`await create_task(...)` of an empty coroutine"),
        )
    ),
    *(
        scheduling_row(name, title, on(loops, f"scheduling:{name}"))
        for name, title, loops in (
            ("call_soon", "a callback schedules the next one", LOOPS),
            ("bare_yield", "`await` something that yields once", MAIN),
            ("future", "await a future set by `call_soon(set_result)`", MAIN),
            ("hand_over", "one task wakes another through a future", LOOPS),
            ("many_tasks", "`sleep(0)` with 100 tasks ready", MAIN),
            ("timer", "`call_later(60, ...)` and cancel it", LOOPS),
            ("timer_pending", PENDING, MAIN),
            ("call_threadsafe", "`call_soon_threadsafe` on a loop that is awake", MAIN),
            ("socket_pair", "64 B between two transports of one loop", MAIN),
        )
    ),
    scheduling_row(
        "queue",
        "an item through a Queue of ten",
        sync_contestants("scheduling:queue"),
        group="sync",
    ),
    scheduling_row(
        "lock", "a Lock from task to task", sync_contestants("scheduling:lock"), group="sync"
    ),
    *(
        scheduling_row(name, title, sync_contestants(f"together:{name}"), group="sync")
        for name, title in (
            ("timeout", "`async with timeout(60)` around `sleep(0)`"),
            ("task_group", "a task in a TaskGroup of ten"),
            ("gather", "a coroutine in a `gather()` of ten"),
            ("wait_for", "`wait_for()` of a coroutine that sleeps 0"),
            ("wait", "a task in a `wait()` for ten"),
            ("as_completed", "a coroutine in an `as_completed()` of ten"),
            ("shield", "`shield()` of an empty coroutine"),
        )
    ),
    *(
        scheduling_row(name, title, contestants, group="sync")
        for name, title, contestants in (
            (
                "to_thread",
                "`to_thread()` of a function that returns at once",
                on(MAIN, "together:to_thread", library="asyncio"),
            ),
            (
                "from_thread",
                "`run_coroutine_threadsafe()` of an empty coroutine",
                sync_contestants("together:from_thread"),
            ),
        )
    ),
    Row(
        "sleepers",
        "sync",
        "a task that sleeps, 10,000 at once",
        "work",
        sync_contestants("together:sleepers"),
        judged=("cpu_us",),
        unit="task",
        step=10_000,
    ),
    Row(
        "timers_million",
        "memory",
        "1,000,000 timers armed and fired",
        "work",
        on(MAIN, "scheduling:timers_firing"),
        judged=("cpu_us", "bytes_each"),
        unit="timer",
        once=1_000_000,
    ),
)

IDLE = (
    Row(
        "idle",
        "memory",
        f"{IDLE_CONNECTIONS:,} idle TCP connections",
        "idle",
        (C_EPOLL, *on(MAIN, "servers:protocol")),
        Load(IDLE_CONNECTIONS, 64),
        judged=("bytes_each",),
        unit="connection",
    ),
    Row(
        "idle-streams",
        "memory",
        f"{IDLE_FEWER_CONNECTIONS:,} idle connections of streams; a thread each",
        "idle",
        (C_EPOLL, *on(MAIN, "servers:streams"), *native_streams(), THREADS),
        Load(IDLE_FEWER_CONNECTIONS, 64),
        judged=("bytes_each",),
        unit="connection",
    ),
    Row(
        "idle-tls",
        "memory",
        f"{IDLE_FEWER_CONNECTIONS:,} idle TLS connections",
        "idle",
        (C_TLS, *on(MAIN, "servers:protocol")),
        Load(IDLE_FEWER_CONNECTIONS, 64, ("-t",)),
        TLS,
        judged=("bytes_each",),
        unit="connection",
    ),
)


# ---- how cost grows ----

CONNECTED = (1, 10, 100, 1000, 10_000, 50_000)
MANY = (1000, 10_000, 100_000, 1_000_000)
MEMORY_FROM = 1000  # connections; fewer take too little memory to tell
BROADCAST_BYTES = KIB


def growing_server(
    name: str,
    title: str,
    size: int,
    contestants: tuple[Contestant, ...],
    options: tuple[str, ...] = (),
    message_bytes: int = 64,
    **parameters: object,
) -> Row:
    """A row of so many connections, judged by memory too if that can be told."""
    return Row(
        f"scale-{name}-{size}",
        "scale",
        f"{title}, {size:,} connections" if size > 1 else f"{title}, 1 connection",
        "served",
        contestants,
        Load(size, message_bytes, options),
        parameters,
        judged=("cpu_us", "bytes_each") if size >= MEMORY_FROM else ("cpu_us",),
        default=False,
        size=size,
        rounds=3 if size >= MEMORY_FROM else 5,
    )


def growing_work(
    name: str, title: str, size: int, contestants: tuple[Contestant, ...], unit: str
) -> Row:
    """A row of so many at once: many times in one process, or once in a new one if they are very many."""
    return Row(
        f"scale-{name}-{size}",
        "scale",
        f"{title}, {size:,} at once",
        "work",
        contestants,
        parameters={"at_once": size},
        judged=("cpu_us",),
        unit=unit,
        step=size,
        once=size if size >= 100_000 else 0,
        default=False,
        size=size,
        rounds=3,
    )


SCALE = (
    *(
        growing_server(
            "echo", "echo by Protocol, 64 B", n, (C_EPOLL, *on(MAIN, "servers:protocol"))
        )
        for n in CONNECTED
    ),
    *(
        growing_server(
            "tls", "TLS echo, 64 B", n, (C_TLS, *on(MAIN, "servers:protocol")), ("-t",), **TLS
        )
        for n in CONNECTED
    ),
    *(
        growing_server(
            "herd",
            "connect all at once, echo 64 B, close",
            n,
            (C_EPOLL, *on(MAIN, "servers:protocol")),
            ("-n", "-s"),
        )
        for n in (100, 1000, 10_000)
    ),
    *(
        growing_server(
            "broadcast",
            f"ask, and one message of {size(BROADCAST_BYTES)} to all",
            n,
            on(MAIN, "scale:broadcast"),
            ("-r", str(BROADCAST_BYTES), "-s"),
            1,
            clients=n,
            answer_bytes=BROADCAST_BYTES,
        )
        for n in (100, 1000, 10_000)
    ),
    *(
        dataclasses.replace(
            growing_work(
                "slow",
                "one message of 512 KiB to clients that do not read",
                n,
                on(MAIN, "scale:slow_clients"),
                "client",
            ),
            once=n,
            judged=("bytes_each", "cpu_us"),
        )
        for n in (10, 100, 1000)
    ),
    *(
        growing_work(
            "writers",
            "16 KiB and drain(), to one connection",
            n,
            (
                *on(MAIN, "scale:writers", library="asyncio"),
                *on(HOOP, "scale:writers", "native", library="hoop"),
            ),
            "write",
        )
        for n in (1, 4, 16, 64)
    ),
    *(
        growing_work(name, title, n, on(MAIN, f"scale:{what}"), unit)
        for name, title, what, unit in (
            ("tasks", "a task that takes three turns", "tasks", "task"),
            (
                "cancelled-tasks",
                "a task that sleeps, found by `all_tasks()` and cancelled",
                "cancelled_tasks",
                "task",
            ),
            ("timers", "a timer that fires", "timers", "timer"),
            ("cancelled-timers", "a timer that is cancelled", "cancelled_timers", "timer"),
        )
        for n in MANY
    ),
)


# ---- files and processes ----


def file_contestants(what: str) -> tuple[Contestant, ...]:
    """hoop's files, and the others' ways: on hoop and uvloop, for both have a default executor."""
    blocking = Contestant("blocking calls", "floor", what, "asyncio", {"library": "blocking"})
    return (
        blocking,
        *on(HOOP, what, "hoop.open", library="hoop"),
        *(
            Contestant(f"{loop} {library}", "other", what, loop, {"library": library})
            for loop, library in (
                (HOOP[0], "to_thread"),
                ("uvloop", "to_thread"),
                ("uvloop", "aiofiles"),
                ("uvloop", "anyio"),
            )
        ),
    )


def file_row(
    name: str, title: str, what: str, unit: str, step: int = 1, **parameters: object
) -> Row:
    return Row(
        name,
        "files",
        title,
        "work",
        file_contestants(f"files:{what}"),
        parameters={"folder": "{folder}", **parameters},
        judged=("wall_us", "cpu_us"),
        unit=unit,
        step=step,
        pinned=False,
    )


FILES = (
    file_row("file-small", "open, read 4 KiB, close; one at a time", "small", "file", at_once=1),
    file_row(
        "file-small-16", "open, read 4 KiB, close; 16 at a time", "small", "file", 16, at_once=16
    ),
    file_row("file-lines", "lines of text, one by one", "lines", "line", 1000),
    file_row("file-sequential", "64 MiB in chunks of 256 KiB", "sequential", "MiB", 64),
    file_row(
        "file-scattered", "4 KiB from anywhere, 32 readers", "scattered", "read", 32, at_once=32
    ),
)

PROCESSES = tuple(
    Row(
        name,
        "processes",
        title,
        "work",
        on(MAIN, f"children:{name}"),
        judged=("wall_us", "cpu_us"),
        unit=unit,
        pinned=False,
    )
    for name, title, unit in (
        ("spawn", "start `true` and wait for its end", "process"),
        ("pipe", "through `cat` and back", "MiB"),
    )
)

ROWS = (*ECHO, *NETWORK, *WATCHED, *SCHEDULING, *FILES, *PROCESSES, *IDLE, *SCALE)
