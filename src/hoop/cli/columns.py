"""The columns of the tables of `hoop top`, and the await tree of one task."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from hoop.cli.text import count, place, seconds, size, tree

LIBRARY = re.compile(r"/lib/python3\.\d+/(?!site-packages|dist-packages)|/hoop/\w+/\w+\.py$")

WIDEST = 500

Row = dict[str, Any]
Column = tuple[str, str, Callable[[Row], str]]  # the field to sort by, the title, the text


def place_of(task: Row) -> str:
    """The place where a task is: its innermost frame outside of the standard library and hoop."""
    stack = task["stack"]
    if not stack:
        return ""
    theirs = [frame for frame in stack if not LIBRARY.search(frame["file"])]
    last = (theirs or stack)[-1]
    return place(last["file"], last["line"])


def wait_of(task: Row) -> str:
    """The thing that a task waits for."""
    return task["waits_for"]["text"] if task["waits_for"] else ""


def task_name(number: int | None) -> str:
    return "" if number is None else f"task {number}"


def job_text(job: Row) -> str:
    return f"{job['text']} {seconds(job['since'])}".strip()


TABLES: dict[str, tuple[Column, ...]] = {
    "tasks": (
        ("share", "BUSY", lambda r: "" if r["share"] is None else f"{r['share']:.1%}"),
        ("id", "ID", lambda r: str(r["id"])),
        ("state", "STATE", lambda r: r["state"]),
        # A task of asyncio's own class does not know these.
        ("since", "SINCE", lambda r: seconds(r["since"]) if r["age"] else ""),
        ("age", "AGE", lambda r: seconds(r["age"]) if r["age"] else ""),
        ("polls", "STEPS", lambda r: count(r["polls"])),
        ("coroutine", "COROUTINE", lambda r: f"{r['coroutine']} {place_of(r)}".strip()),
        ("label", "LABEL", lambda r: r["label"]),
        ("wait", "WAITS FOR", wait_of),
    ),
    "sites": (
        ("alive", "ALIVE", lambda r: count(r["alive"])),
        ("made", "MADE", lambda r: count(r["made"])),
        ("ended", "ENDED", lambda r: count(r["ended"])),
        ("growth", "GROWTH/MIN", lambda r: count(max(r["growth"], 0))),
        ("oldest", "OLDEST", lambda r: seconds(r["oldest"])),
        ("leaks", "LEAKS", lambda r: "leaks" if r["leaks"] else ""),
        ("place", "PLACE", lambda r: place(r["file"], r["line"])),
        ("coroutine", "COROUTINE", lambda r: r["coroutine"]),
    ),
    "connections": (
        ("bytes_out", "OUT", lambda r: size(r["bytes_out"])),
        ("bytes_in", "IN", lambda r: size(r["bytes_in"])),
        ("kind", "KIND", lambda r: r["kind"]),
        ("peer", "PEER", lambda r: r["peer"]),
        ("local", "LOCAL", lambda r: r["local"]),
        ("age", "AGE", lambda r: seconds(r["age"])),
        ("idle", "IDLE", lambda r: seconds(r["idle"])),
        ("buffered", "BUFFERED", lambda r: size(r["buffered"])),
        ("protocol", "PROTOCOL", lambda r: r["protocol"]),
        ("label", "LABEL", lambda r: r["label"]),
    ),
    "servers": (
        ("accepted", "ACCEPTED", lambda r: count(r["accepted"])),
        ("connections", "OPEN", lambda r: count(r["connections"])),
        ("refused", "REFUSED", lambda r: count(r["refused"])),
        ("address", "ADDRESS", lambda r: r["address"]),
        ("protocol", "PROTOCOL", lambda r: r["protocol"]),
    ),
    "locks": (
        ("since", "SINCE", lambda r: seconds(r["since"])),
        ("count", "WAITERS", lambda r: str(len(r["waiters"]))),
        ("kind", "KIND", lambda r: r["kind"]),
        ("owner", "OWNER", lambda r: task_name(r["owner"])),
        ("where", "WHERE", lambda r: r["where"]),
        ("text", "STATE", lambda r: r["text"]),
    ),
    "pools": (
        ("busy", "BUSY", lambda r: str(r["busy"])),
        ("threads", "THREADS", lambda r: str(r["threads"])),
        ("queued", "QUEUED", lambda r: count(r["queued"])),
        ("kind", "KIND", lambda r: f"{r['kind']} {r['name']}".strip()),
        ("doing", "DOES", lambda r: ", ".join(job_text(job) for job in r["jobs"][:3])),
    ),
    "timers": (
        ("left", "LEFT", lambda r: seconds(r["left"])),
        ("callback", "CALLBACK", lambda r: r["callback"]),
        ("task", "WAKES", lambda r: task_name(r["task"])),
    ),
    "children": (
        ("age", "AGE", lambda r: seconds(r["age"])),
        ("pid", "PID", lambda r: str(r["pid"])),
        ("program", "PROGRAM", lambda r: r["program"]),
        ("status", "STATUS", lambda r: "runs" if r["status"] is None else f"ended: {r['status']}"),
    ),
    "stalls": (
        ("at", "AGO", lambda r: seconds(r["ago"])),
        ("lasted", "LASTED", lambda r: seconds(r["lasted"]) + ("" if r["over"] else " so far")),
        ("place", "PLACE", lambda r: f"{place(r['file'], r['line'])} {r['function']}".strip()),
        ("cause", "CAUSE", lambda r: r["cause"]),
        ("task", "RUNNING", lambda r: r["task"]),
        ("label", "LABEL", lambda r: r["label"] or r["connection"]),
    ),
    "cycles": (
        ("lasted", "LASTED", lambda r: seconds(r["lasted"])),
        ("text", "TASKS", lambda r: r["text"] or " → ".join(map(str, r["tasks"]))),
    ),
}


def tree_of(rows: Iterable[Row], chosen: int) -> list[str]:
    """The await tree in which a task is, as lines: each task below the one that waits for it."""
    tasks = {row["id"]: row for row in rows}
    root, seen = chosen, {chosen}
    while above := [n for n in tasks[root]["awaited_by"] if n in tasks and n not in seen]:
        root = above[0]
        seen.add(root)
    found: dict[int, Row] = {}
    pending = [root]
    while pending:
        number = pending.pop()
        if number in tasks and number not in found:
            found[number] = tasks[number]
            wait = tasks[number]["waits_for"]
            pending += wait["targets"] if wait else []
    return tree(list(found.values()), WIDEST)
