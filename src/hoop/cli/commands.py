"""The commands that look into an observed process: `hoop ps`, `hoop tasks PID`, and so on.

Exit status: 1 there is no such process, 2 the command is wrong, 3 the process does not answer.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from typing import Any

from hoop.cli import client, text

CYCLES_AFTER = 1.1  # seconds
NO_PROCESS, WRONG, NO_ANSWER = 1, 2, 3

HELP = {
    "ps": "list the observed processes",
    "overview": "loops, garbage collection and the last stall",
    "tasks": "the unfinished tasks, and what each waits for",
    "tree": "which task waits for which",
    "stack": "where each task waits, or the one of --task",
    "stalls": "what has blocked a loop; with --follow as it happens",
    "sites": "the places that make tasks, and how many are left of each",
    "connections": "open connections",
    "servers": "listening sockets",
    "locks": "locks, events and queues with tasks that wait for them",
    "timers": "timers, those due first",
    "pools": "threads for files, names and executors, and their work",
    "children": "child processes",
    "cycles": "tasks that wait for each other",
    "metrics": "the numbers as text for Prometheus",
    "top": "a screen that shows all that in the terminal (pip install 'hoop[top]')",
    "web": "a page that shows all that in the browser",
}
SORTS = ("age", "since", "polls", "busy")


def parser_of(command: str) -> argparse.ArgumentParser:
    """The options of a command."""
    made = argparse.ArgumentParser(f"hoop {command}", description=HELP[command], allow_abbrev=False)
    if command != "ps":
        made.add_argument(
            "process",
            nargs="?",
            help="its pid, or the path of its socket; not needed if there is only one",
        )
    if command == "web":
        made.add_argument("--port", type=whole, default=0, help="of 127.0.0.1; else a free one")
    if command not in ("top", "web"):
        made.add_argument("--json", action="store_true", help="print JSON")
    if command == "metrics":
        made.add_argument("--all", action="store_true", help="of all processes, with a label pid")
        made.add_argument("--listen", metavar="HOST:PORT", help="serve them as /metrics there")
    if command not in ("ps", "overview", "metrics", "top", "web"):
        made.add_argument("--top", type=whole, help="so many rows at most")
    if command == "tasks":
        made.add_argument("--sort", choices=SORTS, help="the greatest first; by age if not given")
        made.add_argument("--label", help="only those with such a label: GET *")
    if command == "stack":
        made.add_argument("--task", type=whole, help="the id of a task")
    if command == "stalls":
        made.add_argument("--follow", action="store_true", help="go on with those to come")
    return made


def whole(given: str) -> int:
    """A number that is not negative, from the command line."""
    if not given.isdigit():
        raise argparse.ArgumentTypeError(f"{given!r} is no whole number")
    return int(given)


def width() -> int:
    return max(shutil.get_terminal_size((80, 24)).columns, 40)


def show(lines: Sequence[str]) -> None:
    """Print lines at once. Letters that the terminal does not have become question marks."""
    encoding = sys.stdout.encoding or "utf-8"
    out = "\n".join(lines) + "\n"
    sys.stdout.write(out.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()


def show_json(value: Any) -> None:
    show([json.dumps(value)])


def complain(lines: Sequence[str]) -> None:
    print("\n".join(lines), file=sys.stderr)


def main(command: str, arguments: Sequence[str]) -> int:
    """Do a command, and return the exit status."""
    options = parser_of(command).parse_args(arguments)
    try:
        if command == "ps":
            return ps(options)
        if command in ("top", "web"):
            return screen(command, options)
        if command == "metrics" and (options.all or options.listen):
            return metrics_of_all(options)
        return look(command, options)
    except client.NoSuchProcess as exc:
        complain([f"hoop: {exc}"])
        return NO_PROCESS
    except (client.Refused, client.Closed) as exc:
        complain([f"hoop: {text.clean(exc)}"])
        return NO_ANSWER
    except client.NotAnswering as exc:
        tell_of_silence(exc, options)
        return NO_ANSWER
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


def look(command: str, options: argparse.Namespace) -> int:
    """Ask a process for a view, and print it."""
    fields = {
        name: value
        for name in ("top", "sort", "label", "task")
        if (value := getattr(options, name, None)) is not None
    }
    with client.connect(options.process) as connection:
        if command == "stalls" and options.follow:
            for stall in connection.follow("stalls"):
                if options.json:
                    show_json(stall)
                else:
                    show(text.render("stalls", [stall], width()))
            return 0
        answer = connection.ask(command, **fields)
        if command == "cycles":  # those that a second look finds again
            time.sleep(CYCLES_AFTER)
            answer = connection.ask(command, **fields)
            if not options.json:
                answer = [with_waiters(connection, row) for row in answer]
    if options.json:
        show_json(answer)
    else:
        show(text.render(command, answer, width()))
    return 0


def with_waiters(connection: client.Connection, cycle: dict[str, Any]) -> dict[str, Any]:
    """A cycle with its tasks as `waiters`, but those that have ended meanwhile."""
    waiters = []
    for number in cycle["tasks"]:
        try:
            waiters += connection.ask("stack", task=number)
        except client.Refused:
            pass
    return {**cycle, "waiters": waiters}


def screen(command: str, options: argparse.Namespace) -> int:
    """Show a screen until it is left. Without Textual print an overview every two seconds."""
    if command == "web":
        from hoop.cli import web

        web.serve(options.process, options.port)
        return 0
    if importlib.util.find_spec("textual") is not None:
        client.find(options.process)
        # Without a terminal, Textual would wait for keys that never come.
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            complain(["hoop: hoop top needs a terminal: hoop overview prints to a pipe or a file"])
            return WRONG
        from hoop.cli import top

        top.run(options.process)
        return 0
    complain(["hoop: for more than this overview, pip install 'hoop[top]'"])
    with client.connect(options.process) as connection:
        for answer in connection.follow("overview", every=2):
            clear = "\x1b[H\x1b[2J" if sys.stdout.isatty() else ""
            show(
                [
                    clear + line if n == 0 else line
                    for n, line in enumerate(text.render("overview", answer, width()))
                ]
            )
    return 0


def metrics_of_all(options: argparse.Namespace) -> int:
    """Print or serve the numbers of all processes."""
    from hoop.cli import scraping

    if not options.listen:
        show(scraping.metrics_of_all().splitlines())
        return 0
    try:
        scraping.serve(options.listen)
    except (ValueError, OSError) as exc:
        complain([f"hoop: cannot listen at {options.listen}: {exc}"])
        return WRONG
    return 0


def tell_of_silence(exc: client.NotAnswering, options: argparse.Namespace) -> None:
    """Tell what the kernel knows of a process that does not answer."""
    pid = exc.pid
    if pid is None:
        complain([f"hoop: {exc}"])
        return
    found = client.blocked(pid)
    if options.json:
        show_json({"error": str(exc), **found})
    else:
        complain(text.blocked(found, width()))


# ---- hoop ps ---------------------------------------------------------------------------------------


def ps(options: argparse.Namespace) -> int:
    """List the observed processes. Those that answer are asked for an overview."""
    rows = [row_of(process) for process in client.processes()]
    if options.json:
        show_json(rows)
        return 0
    if not rows:
        show(["no process is observed: start one with HOOP_OBSERVE=1"])
        return 0
    show(
        text.table(
            [
                text.right("PID", (row["pid"] for row in rows)),
                text.flexible("PROGRAM", (row["program"] for row in rows)),
                text.right("AGE", (text.seconds(row["age"]) for row in rows)),
                text.right("LOOPS", (shown(row["loops"]) for row in rows)),
                text.right("TASKS", (shown(row["tasks"]) for row in rows)),
                text.right("STALLS", (shown(row["stalls"]) for row in rows)),
                text.Column("STATE", (row["state"] for row in rows)),
            ],
            width(),
        )
    )
    return 0


def shown(value: int | None) -> str:
    return "" if value is None else text.count(value)


def row_of(process: client.Process) -> dict[str, Any]:
    """The row of a process in `hoop ps`."""
    row: dict[str, Any] = {
        "pid": process.pid,
        "path": process.path,
        "program": process.program,
        "age": process.age,
        "loops": None,
        "tasks": None,
        "stalls": None,
        "state": "watched, without a socket",
    }
    if not process.path:
        return row
    try:
        with client.Connection(process.path) as connection:
            answer = connection.ask("overview")
    except client.NoSuchProcess:
        row["state"] = "its socket is stale"
    except client.NotAnswering:
        row["state"] = "does not answer"
    except (client.Refused, client.Closed) as exc:
        row["state"] = text.clean(exc)
    else:
        blocked = max([loop["blocked"] for loop in answer["loops"]], default=0)
        row["program"] = answer["program"]
        row["loops"] = len(answer["loops"])
        row["tasks"] = sum(sum(loop["tasks"].values()) for loop in answer["loops"])
        row["stalls"] = sum(answer["stalls"].values())
        row["state"] = f"blocked for {text.seconds(blocked)}" if blocked else "answers"
    return row
