"""The columns of the tables of `hoop top` and of the page of `hoop web`, and the await tree of one task.

The page gets what describe() says of the columns, and each row with its texts: see with_texts().
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from hoop.cli.text import count, known, place, place_of, seconds, size, tree

WIDEST = 500

Row = dict[str, Any]


class Column(NamedTuple):
    """A column: the field that rows are sorted by, the title, and the text of a row.

    `more` has words: "right" for numbers, "code" for places, "up" if the smallest comes first. "wide" columns
    are left out on a phone, and "page" ones are on the page alone.
    """

    field: str
    title: str
    text: Callable[[Row], str]
    more: str = ""


def wait_of(task: Row) -> str:
    """The thing that a task waits for."""
    return task["waits_for"]["text"] if task["waits_for"] else ""


def task_name(number: int | None) -> str:
    return "" if number is None else f"task {number}"


def job_text(job: Row) -> str:
    return f"{job['text']} {known(job['since'])}".strip()


def paused(connection: Row) -> str:
    ways = ("reading", "writing")
    return ", ".join(way for way in ways if connection[f"{way}_paused"])


TABLES: dict[str, tuple[Column, ...]] = {
    "tasks": (
        Column(
            "share",
            "Busy",
            lambda r: "" if r.get("share") is None else f"{r['share']:.1%}",
            "right wide",
        ),
        Column("id", "ID", lambda r: str(r["id"]), "right wide up"),
        Column("state", "State", lambda r: r["state"], "up"),
        # A task of asyncio's own class does not know these.
        Column("since", "Since", lambda r: seconds(r["since"]) if r["age"] else "", "right"),
        Column("age", "Age", lambda r: known(r["age"]), "right wide"),
        Column("polls", "Steps", lambda r: count(r["polls"]), "right wide"),
        Column("scheduled", "Sched", lambda r: known(r["scheduled"]), "right wide page"),
        Column("coroutine", "Coroutine", lambda r: f"{r['coroutine']} {r['place']}", "code up"),
        Column("waits", "Waits for", lambda r: r["waits"], "up"),
        Column("label", "Label", lambda r: r["label"], "up"),
    ),
    "sites": (
        Column("alive", "Alive", lambda r: count(r["alive"]), "right"),
        Column("made", "Made", lambda r: count(r["made"]), "right"),
        Column("ended", "Ended", lambda r: count(r["ended"]), "right wide"),
        Column("growth", "Growth/min", lambda r: count(max(r["growth"], 0)), "right"),
        Column("oldest", "Oldest", lambda r: seconds(r["oldest"]), "right wide"),
        Column("leaks", "Leaks", lambda r: "leaks" if r["leaks"] else ""),
        Column("place", "Place", lambda r: r["place"], "code up"),
        Column("coroutine", "Coroutine", lambda r: r["coroutine"], "code wide up"),
    ),
    "connections": (
        Column("bytes_out", "Out", lambda r: size(r["bytes_out"]), "right"),
        Column("bytes_in", "In", lambda r: size(r["bytes_in"]), "right"),
        Column("kind", "Kind", lambda r: r["tls_version"] or r["kind"], "up"),
        Column("peer", "Peer", lambda r: r["peer"], "code up"),
        Column("local", "Local", lambda r: r["local"], "code wide up"),
        Column("age", "Age", lambda r: seconds(r["age"]), "right wide"),
        Column("idle", "Idle", lambda r: seconds(r["idle"]), "right"),
        Column(
            "buffered",
            "Unsent",
            lambda r: size(r["buffered"]) if r["buffered"] else "",
            "right wide",
        ),
        Column("paused", "Paused", paused, "wide page"),
        Column("fd", "FD", lambda r: str(r["fd"]), "right wide page up"),
        Column("protocol", "Protocol", lambda r: r["protocol"], "wide up"),
        Column("label", "Label", lambda r: r["label"], "wide up"),
    ),
    "servers": (
        Column("accepted", "Accepted", lambda r: count(r["accepted"]), "right"),
        Column("connections", "Open", lambda r: count(r["connections"]), "right"),
        Column("refused", "Refused", lambda r: count(r["refused"]), "right wide"),
        Column("kind", "Kind", lambda r: r["kind"] + (", TLS" if r["tls"] else ""), "up"),
        Column("address", "Address", lambda r: r["address"], "code up"),
        Column("age", "Age", lambda r: known(r["age"]), "right wide page"),
        Column("protocol", "Protocol", lambda r: r["protocol"], "wide up"),
    ),
    "locks": (
        Column("since", "Since", lambda r: seconds(r["since"]), "right"),
        Column("count", "Waiters", lambda r: str(r["count"]), "right"),
        Column("kind", "Kind", lambda r: r["kind"], "up"),
        Column("owner", "Owner", lambda r: task_name(r["owner"])),
        Column("where", "Where", lambda r: r["where"], "code up"),
        Column("text", "State", lambda r: r["text"], "wide"),
    ),
    "pools": (
        Column("busy", "Busy", lambda r: str(r["busy"]), "right"),
        Column(
            "threads",
            "Threads",
            lambda r: str(r["threads"]) + (f" of {r['threads_max']}" if r["threads_max"] else ""),
            "right",
        ),
        Column("queued", "Queued", lambda r: count(r["queued"]), "right"),
        Column("kind", "Kind", lambda r: f"{r['kind']} {r['name']}".strip(), "up"),
        Column("doing", "Does", lambda r: r["doing"]),
    ),
    "timers": (
        Column("left", "Left", lambda r: seconds(r["left"]), "right up"),
        Column("callback", "Callback", lambda r: r["callback"], "code up"),
        Column("task", "Wakes", lambda r: task_name(r["task"])),
    ),
    "children": (
        Column("age", "Age", lambda r: seconds(r["age"]), "right"),
        Column("pid", "PID", lambda r: str(r["pid"]), "right"),
        Column("program", "Program", lambda r: r["program"], "code up"),
        Column(
            "status",
            "Status",
            lambda r: "runs" if r["status"] is None else f"ended: {r['status']}",
        ),
    ),
    "stalls": (
        Column("at", "When", lambda r: f"{seconds(r['ago'])} ago" if "ago" in r else "", "right"),
        Column(
            "lasted",
            "Lasted",
            lambda r: seconds(r["lasted"]) + ("" if r["over"] else " so far"),
            "right",
        ),
        Column("place", "Place", lambda r: f"{r['place']} {r['function']}".strip(), "code up"),
        Column("cause", "Cause", lambda r: r["cause"]),
        Column("task", "Running", lambda r: r["task"], "wide"),
        Column("label", "Label", lambda r: r["label"] or r["connection"]),
    ),
    "cycles": (
        Column("lasted", "Lasted", lambda r: seconds(r["lasted"]), "right"),
        Column("text", "Tasks that wait for each other", lambda r: r["text"]),
    ),
}


def prepare(view: str, row: Row) -> Row:
    """Add to a row what its columns show or sort by."""
    if view == "tasks":
        return {**row, "waits": wait_of(row), "place": place_of(row)}
    if view in ("sites", "stalls"):
        return {**row, "place": place(row["file"], row["line"])}
    if view == "locks":
        return {**row, "count": len(row["waiters"])}
    if view == "pools":
        return {**row, "doing": ", ".join(job_text(job) for job in row["jobs"][:3])}
    if view == "cycles" and not row["text"]:
        return {**row, "text": " → ".join(map(str, [*row["tasks"], row["tasks"][0]]))}
    return row


def with_texts(view: str, row: Row) -> Row:
    """A row as the page takes it: with the texts of its cells, but those that only the page knows."""
    row = prepare(view, row)
    return {**row, "cells": [column.text(row) for column in TABLES[view]]}


def describe() -> dict[str, Any]:
    """The tables as the page takes them, with titles and columns. Rows are sorted by the first column."""
    return {
        view: [view.capitalize(), [[c.field, c.title, c.more.split()] for c in columns]]
        for view, columns in TABLES.items()
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
