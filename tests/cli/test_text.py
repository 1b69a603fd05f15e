"""The tables of the commands fit the terminal, here one of 80 columns, and send it nothing that it obeys."""

from __future__ import annotations

import dataclasses
import time

import pyte
import pytest

from hoop.cli import text
from hoop.observe import model

LONG = "a_rather_long_name_of_something_that_somebody_has_written"
EVIL = "evil\x1b[31mred\x1b]0;title\x07\n\r\x9b1m名前が長い名前が長い名前が長い名前が長い" + LONG


def frames(n):
    return tuple(model.Frame(f"Cls.{LONG}{i}", f"/srv/of/{EVIL}/file{i}.py", i) for i in range(n))


def task(number, waits_for=None, awaited_by=(), state="waiting", **more):
    row = model.TaskView(
        id=number,
        loop=0,
        name=EVIL,
        state=state,
        since=1.5 * number,
        age=4000.0,
        polls=123456,
        busy=0.0,
        coroutine=f"Server.{EVIL}",
        stack=frames(3),
        waits_for=waits_for,
        awaited_by=awaited_by,
        cancelling=0,
        site=(f"/srv/{EVIL}.py", 7),
        label=f"GET /{EVIL}",
    )
    return dataclasses.replace(row, **more)


STALL = model.Stall(
    cause="C code with the GIL",
    loop="MainThread",
    began=1.0,
    lasted=12.25,
    file=f"/srv/{EVIL}/pages.py",
    line=88,
    function=f"Page.{LONG}",
    task=f"Task-1 {EVIL}",
    label=EVIL,
    created_at=f"/srv/{EVIL}.py:22",
    stack=tuple(f"/srv/{EVIL}{i}.py:{i} Page.{LONG}" for i in range(12)),
    await_stack=(),
    over=True,
    cpu=12.0,
    waited=0.5,
    elsewhere=(EVIL, f"/srv/x.py:7 {LONG}"),
)
LOOP = model.LoopView(
    id=0,
    thread=EVIL,
    driver="uring",
    age=7800.0,
    idle=100.0,
    turns=10**9,
    callbacks=10**10,
    ready=12,
    ready_max=34000,
    visit=(0.0002, 0.0041, 0.212),
    timer_lag=(0.0, 0.005, 0.1),
    tasks={"running": 1, "ready": 20000, "waiting": 100000},
    tasks_ended={"made": 10**7, "ended": 10**7, "failed": 4000, "cancelled": 1},
    transports=310,
    timers=88000,
    bytes_in=10**12,
    bytes_out=10**13,
    accepted=10**6,
    refused=1,
    connections={"tcp": 300, "unix": 10, "tls": 20},
    recent=model.Rates(10.0, idle=0.62, turns=8123.0, bytes_in=21e6, bytes_out=88e6),
    blocked=0.4,
)
TASKS = [
    task(1, model.Wait("tasks", "2 tasks", (2, 3))),
    task(2, model.Wait("lock", f"Lock {EVIL}", owner=99), (1,)),
    task(3, model.Wait("task", "task 4", (4,)), (1, 4)),
    task(4, model.Wait("task", "task 3", (3,)), (3,), busy=0.2),
    task(123456, state="running"),
]
ANSWERS = {
    "overview": model.Overview(
        1,
        4711,
        f"{EVIL}.py",
        "0.1.0",
        "3.13.0",
        7800.0,
        loops=(LOOP, LOOP),
        gc=(model.GcView(0, 10**6, 1.0, 0.1), model.GcView(1, 9, 0.1, 0.1)),
        stalls={"python": 3, "blocking call": 1000, "long turn": 17, "C code with the GIL": 2},
        stall_seconds={"python": 3.5},
        starved=4,
        last_stall=STALL,
        cycles=1,
        observer=model.ObserverView(level=2, every=4.0, notes=(EVIL,)),
    ),
    "tasks": TASKS,
    "tree": TASKS,
    "stack": TASKS,
    "stalls": [
        STALL,
        dataclasses.replace(STALL, over=False, began=2.0, connection=EVIL, call=EVIL),
    ],
    "sites": [model.SiteView(f"/srv/{EVIL}.py", 7, EVIL, 12000, 10**7, 10**7, 4000.0, 120.0, True)],
    "connections": [
        model.ConnectionView(
            *(1, 0, "tcp", 12345),
            local=f"[::1]:{EVIL}",
            peer="[2001:db8:1234:5678::1]:51034",
            age=86000.0,
            bytes_in=10**11,
            bytes_out=10**11,
            buffered=65536,
            label=EVIL,
            reading_paused=True,
            writing_paused=True,
            protocol=EVIL,
        )
    ],
    "servers": [model.ServerView(1, 0, "tcp", 7, f"0.0.0.0:{EVIL}", 10**7, 5, 310, tls=True)],
    "locks": [model.ResourceView(1, 0, "semaphore", EVIL, 7, tuple(range(100)), 4000.0, EVIL)],
    "timers": [model.TimerView(0, -1.5, EVIL, 12), model.TimerView(0, 1e9, EVIL)],
    "pools": [
        model.PoolView(
            "executor", 0, EVIL, 8, 32, 8, 4000, (model.JobView("call", EVIL, "runs", 1.0),)
        )
    ],
    "children": [model.ChildView(4711, 0, EVIL, 4000.0, -9, (1, 2, 3))],
    "cycles": [model.Cycle((3, 4), EVIL)],
    "metrics": "# HELP hoop_x\nhoop_x 1\n",
}
EMPTY = {"overview": model.Overview(1, 4711, "a.py", "0.1.0", "3.13.0", 1.0), "metrics": ""}


def shown(lines, width):
    """The lines that a terminal shows, and whether it got anything but letters."""
    screen = pyte.Screen(width, len(lines) + 5)
    pyte.Stream(screen).feed("\r\n".join(lines) + "\r\n")
    assert screen.title == ""
    assert {char.fg for row in screen.buffer.values() for char in row.values()} <= {"default"}
    assert screen.cursor.y == len(lines), "a line was too long, and the terminal has wrapped it"
    return [line.rstrip() for line in screen.display[: len(lines)]]


@pytest.mark.parametrize("width", [80, 40, 132])
@pytest.mark.parametrize("view", sorted(text.VIEWS))
def test_every_view_fits(view, width):
    lines = text.render(view, model.plain(ANSWERS[view]), width)
    assert lines
    assert max(map(text.width_of, lines)) <= width, max(lines, key=text.width_of)
    assert shown(lines, width)


@pytest.mark.parametrize("view", sorted(text.VIEWS))
def test_every_view_has_something_to_say_of_nothing(view):
    lines = text.render(view, model.plain(EMPTY.get(view, [])))
    assert len(shown(lines, 80)) == len(lines) >= 1


def test_an_age_that_is_not_known_is_not_shown():
    """That of a task made before the process was observed."""
    row = model.plain(ANSWERS["tasks"])[0]
    assert "AGE" in text.render("tasks", [row | {"age": 7200.0}], 132)[0]
    assert "AGE" not in text.render("tasks", [row | {"age": 0.0}], 132)[0]


def test_what_one_reads_of_a_blocked_process():
    found = {
        "pid": 4711,
        "dump": f"loop 1 thread 4711 blocked since 1 ns\n  File {EVIL}, line 7 in f\n",
        "threads": [{"tid": 1, "name": "python", "state": "R", "cpu": 1.4, "wchan": ""}],
    }
    lines = text.blocked(found, 80)
    assert "does not answer" in lines[0]
    assert "1.4 s" in lines[3]
    assert "line 7 in f" in lines[-1]


def test_a_tree_has_its_branches_and_its_cycle():
    rows = [
        task(1, model.Wait("tasks", "2 tasks", (2, 3)), coroutine="main", stack=(), label=""),
        task(2, model.Wait("sleep", "sleep, 4.0 s left"), (1,), coroutine="a", stack=(), label=""),
        task(3, model.Wait("lock", "Lock", owner=2), (1,), coroutine="b", stack=(), label=""),
        task(5, model.Wait("task", "task 6", (6,)), (6,), coroutine="c", stack=(), label=""),
        task(6, model.Wait("task", "task 5", (5,)), (5,), coroutine="d", stack=(), label=""),
    ]
    assert text.render("tree", model.plain(tuple(rows))) == [
        "1 main",
        "├─ 2 a ── sleep, 4.0 s left",
        "└─ 3 b ── Lock, owner 2",
        "5 c",
        "└─ 6 d",
        "   └─ 5 c  ⟲ CYCLE",
    ]


def test_a_chain_of_tasks_may_be_long():
    rows = [task(n, model.Wait("task", "", (n + 1,)), (n - 1,), label="") for n in range(1, 5000)]
    assert len(text.render("tree", model.plain(tuple(rows)))) == 4999


def test_a_stall_names_its_line():
    stall = dataclasses.replace(
        STALL,
        file="/srv/pages.py",
        function="render",
        task="Task-7 handle",
        label="GET /",
        created_at="/srv/app.py:22",
        at=time.mktime((2026, 8, 7, 14, 3, 9, 0, 0, -1)),
        elsewhere=(),
        cause="python",
        stack=(
            "/srv/pages.py:88 render",
            "/srv/app.py:44 App.handle",
            "/usr/lib/python3.13/asyncio/base_events.py:640 run_forever",
        ),
    )
    assert text.render("stalls", model.plain((stall,))) == [
        "BLOCKED for 12.2 s (over)   at 14:03:09   cause: python   loop MainThread",
        '  Task-7 handle   "GET /"   made at app.py:22',
        "  /srv/pages.py:88 render",
        "  pages.py:88 render   <- app.py:44 handle",
        "  CPU 12.0 s of 12.2 s   waited 500 ms for a processor",
    ]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, "0"),
        (0.0000004, "0 µs"),
        (0.00025, "250 µs"),
        (0.0031, "3.1 ms"),
        (0.31, "310 ms"),
        (0.99951, "1.0 s"),
        (4.05, "4.0 s"),
        (99.96, "2 min"),
        (600, "10 min"),
        (5970, "1 h 40 min"),
        (7800, "2 h 10 min"),
        (1_036_800, "12 d"),
        (-1.5, "-1.5 s"),
    ],
)
def test_times(value, said):
    assert text.seconds(value) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [(0, "0"), (999, "999"), (8100, "8.1k"), (31e6, "31M"), (999_600, "1.0M"), (5e12, "5000G")],
)
def test_numbers(value, said):
    assert text.count(value) == said


def test_sizes():
    assert [text.size(n) for n in (0, 310, 21e6)] == ["0 B", "310 B", "21 MB"]


@pytest.mark.parametrize(
    ("given", "width", "keep_end", "kept"),
    [
        ("abcdef", 6, False, "abcdef"),
        ("abcdef", 4, False, "abc…"),
        ("abcdef", 4, True, "…def"),
        ("名前名前", 6, False, "名前…"),
        ("名前名前", 6, True, "…名前"),
    ],
)
def test_what_is_cut(given, width, keep_end, kept):
    assert text.cut(given, width, keep_end) == kept
    assert text.width_of(kept) <= width
