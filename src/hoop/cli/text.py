"""The views as text for a terminal: tables that fit its width, and nothing that it would take for a command.

`render(view, answer, width)` gives the lines of a view, whose answer is as in JSON.
"""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Callable, Iterable
from typing import Any

NARROWEST = 6  # a column that gives way keeps so many places
GAP = 2
WIDE = 100  # a terminal of so many places shows more columns
FRAMES = 6  # of a stall's stack
# Frames below those of the program, which say nothing about it.
BELOW = ("/asyncio/", "/hoop/loop/", "/hoop/__init__.py", "/hoop/__main__.py", "<frozen")
LIBRARY = re.compile(r"/lib/python3\.\d+/(?!site-packages|dist-packages)|/hoop/\w+/\w+\.py$")
STATES = {"R": "runs", "S": "waits", "D": "waits in the kernel", "T": "stopped", "Z": "has ended"}


# ---- words and numbers -------------------------------------------------------------------------------


def clean(text: object) -> str:
    """Return a text without characters that the terminal would obey."""
    return "".join(c if c.isprintable() else "?" for c in str(text))


def width_of(text: str) -> int:
    """The places that a text takes in a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def cut(text: str, width: int, keep_end: bool = False) -> str:
    """Shorten a text to so many places. An ellipsis stands for what is missing."""
    if width_of(text) <= width:
        return text
    letters = list(reversed(text)) if keep_end else list(text)
    kept: list[str] = []
    room = width - 1
    for letter in letters:
        room -= width_of(letter)
        if room < 0:
            break
        kept.append(letter)
    return "…" + "".join(reversed(kept)) if keep_end else "".join(kept) + "…"


def pad(text: str, width: int, right: bool) -> str:
    space = " " * max(width - width_of(text), 0)
    return space + text if right else text + space


def seconds(value: float | None) -> str:
    """A time in the unit in which one would say it: "0.3 ms", "4.1 s", "10 min", "2 h 10 min"."""
    if value is None:
        return ""
    sign, value = ("-", -value) if value < 0 else ("", value)
    if value == 0:
        return "0"
    if value < 0.9995e-3:
        return f"{sign}{value * 1e6:.0f} µs"
    if value < 0.9995:
        milli = value * 1e3
        return f"{sign}{milli:.1f} ms" if milli < 9.95 else f"{sign}{milli:.0f} ms"
    if value < 99.95:
        return f"{sign}{value:.1f} s"
    if value < 5970:
        return f"{sign}{value / 60:.0f} min"
    minutes = round(value / 60)
    if minutes < 48 * 60:
        return f"{sign}{minutes // 60} h {minutes % 60} min"
    return f"{sign}{minutes // 1440} d"


def known(value: float) -> str:
    """A time, or nothing if it is 0."""
    return seconds(value) if value else ""


def count(value: float) -> str:
    """A number in at most five places: "12", "8.1k", "31M"."""
    for unit in ("", "k", "M", "G"):
        if abs(value) < 999.5 or unit == "G":
            break
        value /= 1000
    if not unit or abs(value) >= 9.95:
        return f"{value:.0f}{unit}"
    return f"{value:.1f}{unit}"


def size(value: float) -> str:
    """A number of bytes: "310 B", "21 MB"."""
    text = count(value)
    return f"{text[:-1]} {text[-1]}B" if text[-1:].isalpha() else f"{text} B"


def place(file: str, line: int) -> str:
    """A place in a file, without the folders."""
    return f"{file.rpartition('/')[2]}:{line}" if file else ""


# ---- tables ----------------------------------------------------------------------------------------


class Column:
    """A column: its title, whether it stands at the right, and whether it may be cut to fit."""

    def __init__(
        self, title: str, cells: Iterable[object], right: bool = False, flexible: bool = False
    ) -> None:
        self.title = title
        self.cells = [clean(cell) for cell in cells]
        self.right = right
        self.flexible = flexible
        self.width = max(map(width_of, (title, *self.cells)))
        self.keep_end = title in ("PLACE", "LOCAL", "PEER", "SOCKET")


def table(columns: list[Column], width: int) -> list[str]:
    """Make the lines of a table. Empty columns are left out, and long ones cut until all fit."""
    shown = [column for column in columns if any(column.cells)] or columns[:1]
    widths = [column.width for column in shown]
    while (over := sum(widths) + GAP * (len(widths) - 1) - width) > 0:
        flexible = [i for i, c in enumerate(shown) if c.flexible and widths[i] > NARROWEST]
        if not flexible:
            break
        widest = max(widths[i] for i in flexible)
        ones = [i for i in flexible if widths[i] == widest]
        next_widest = max([widths[i] for i in flexible if widths[i] < widest], default=NARROWEST)
        take = max(1, min(widest - next_widest, -(-over // len(ones))))
        for i in ones:
            widths[i] -= min(take, max(over, 1))
            over -= take
            if over <= 0:
                break
    lines = []
    for row in range(-1, len(shown[0].cells)):
        cells = []
        for column, w in zip(shown, widths):
            text = column.title if row < 0 else column.cells[row]
            cells.append(pad(cut(text, w, column.keep_end and row >= 0), w, column.right))
        lines.append(cut((" " * GAP).join(cells).rstrip(), width))
    return lines


def right(title: str, cells: Iterable[object]) -> Column:
    return Column(title, cells, right=True)


def flexible(title: str, cells: Iterable[object]) -> Column:
    return Column(title, cells, flexible=True)


def wrap(parts: Iterable[str], width: int, indent: int = 2) -> list[str]:
    """Put parts on as few lines as they need. Later lines are indented."""
    lines: list[str] = []
    for part in filter(None, map(clean, parts)):
        if lines and width_of(lines[-1]) + 3 + width_of(part) <= width:
            lines[-1] += "   " + part
        else:
            lines.append(cut(" " * (indent if lines else 0) + part, width))
    return lines


# ---- overview ----------------------------------------------------------------------------------------


def three(times: Iterable[float]) -> str:
    middle, late, longest = map(seconds, times)
    return f"p50 {middle}  p99 {late}  max {longest}"


def loop_lines(loop: dict[str, Any], width: int) -> list[str]:
    recent = loop["recent"]
    states = loop["tasks"]
    blocked = f"BLOCKED for {seconds(loop['blocked'])}" if loop["blocked"] else ""
    kinds = ", ".join(f"{n} {kind}" for kind, n in loop["connections"].items())
    first = [
        f"LOOP {loop['thread'] or '(does not run)'}",
        loop["driver"],
        blocked,
        f"idle {100 * recent['idle']:.0f} %" if recent else "",
        f"ready {loop['ready']} (max {loop['ready_max']})",
        f"timers {loop['timers']}",
        f"up {seconds(loop['age'])}",
    ]
    lines = wrap(first, width, 5)
    times = recent or loop
    when = f"in the last {seconds(recent['seconds'])}" if recent else "since the start"
    lines += wrap([f"     visit {three(times['visit'])}", when], width, 5)
    lines += wrap([f"     timer lag {three(times['timer_lag'])}"], width, 5)
    if recent:
        rates = [
            f"     turns {count(recent['turns'])}/s",
            f"callbacks {count(recent['callbacks'])}/s",
            f"in {size(recent['bytes_in'])}/s",
            f"out {size(recent['bytes_out'])}/s",
        ]
        lines += wrap(rates, width, 5)
    shown = ", ".join(f"{n} {state}" for state, n in states.items() if n)
    ended = loop["tasks_ended"]
    lines += wrap(
        [
            f"     tasks {sum(states.values())}" + (f" ({shown})" if shown else ""),
            f"made {count(ended['made'])}",
            f"failed {count(ended['failed'])}" if ended["failed"] else "",
            f"connections {kinds or loop['transports']}",
        ],
        width,
        5,
    )
    return lines


def overview(answer: dict[str, Any], width: int) -> list[str]:
    observer = answer["observer"]
    level = "looked at" if observer["level"] == 2 else "observed"
    lines = wrap(
        [
            answer["program"],
            f"pid {answer['pid']}",
            f"Python {answer['python']}",
            f"hoop {answer['hoop']}",
            f"up {seconds(answer['uptime'])}",
            level,
        ],
        width,
    )
    for loop in answer["loops"]:
        lines += loop_lines(loop, width)
    pauses = answer["gc"]
    if any(pause["count"] for pause in pauses):
        total = sum(pause["seconds"] for pause in pauses)
        longest = max(pause["longest"] for pause in pauses)
        many = " + ".join(str(pause["count"]) for pause in pauses)
        lines += wrap(
            [f"GC   {many} collections", f"{seconds(total)} in all", f"max {seconds(longest)}"],
            width,
            5,
        )
    stalls = answer["stalls"]
    causes = ", ".join(f"{n} {cause}" for cause, n in stalls.items())
    took = sum(answer["stall_seconds"].values())
    lines += wrap(
        [
            f"STALLS {sum(stalls.values())}" + (f" ({causes})" if causes else ""),
            f"{seconds(took)} in all" if took else "",
            f"without a processor {answer['starved']} times" if answer["starved"] else "",
            f"throttled for {seconds(answer['throttled'])}" if answer["throttled"] else "",
        ],
        width,
        5,
    )
    last = answer["last_stall"]
    if last:
        lines += stall_lines(last, width, "     ", "last: ")
    if answer["cycles"]:
        lines.append(
            cut(f"CYCLES {answer['cycles']}: `hoop cycles` shows who waits for whom", width)
        )
    if observer["every"] >= 1:
        lines.append(
            cut(f"     a look every {seconds(observer['every'])}: its budget is 2 %", width)
        )
    lines += [cut("     " + clean(note), width) for note in observer["notes"]]
    return lines


# ---- tasks -----------------------------------------------------------------------------------------


def waits(task: dict[str, Any]) -> str:
    """The words for what a task waits for."""
    waits_for = task["waits_for"]
    if waits_for is None:
        return "-" if task["state"] == "running" else ""
    text: str = waits_for["text"]
    owner = waits_for.get("owner")
    return f"{text}, owner {owner}" if owner and str(owner) not in text else text


def place_of(task: dict[str, Any]) -> str:
    """The place where a task is: its innermost frame outside of the standard library and hoop."""
    stack = task["stack"]
    if not stack:
        return ""
    theirs = [frame for frame in stack if not LIBRARY.search(frame["file"])]
    last = (theirs or stack)[-1]
    return place(last["file"], last["line"])


def at(task: dict[str, Any]) -> str:
    """Where the task's own coroutine is."""
    stack = task["stack"]
    name = task["coroutine"].rpartition(".")[2]
    return f"{name} {place(stack[0]['file'], stack[0]['line'])}" if stack else name


def tasks(rows: list[dict[str, Any]], width: int) -> list[str]:
    return table(
        [
            right("ID", (row["id"] for row in rows)),
            Column("STATE", (row["state"] for row in rows)),
            # A task of asyncio's own class does not know these.
            right("SINCE", (seconds(row["since"]) if row["age"] else "" for row in rows)),
            right("AGE", (seconds(row["age"]) if row["age"] else "" for row in rows)),
            *([] if width < WIDE else [right("POLLS", (count(row["polls"]) for row in rows))]),
            right("BUSY", (seconds(row["busy"]) if row["busy"] else "" for row in rows)),
            flexible("COROUTINE", map(at, rows)),
            flexible("WAITS FOR", map(waits, rows)),
            flexible("LABEL", (row["label"] for row in rows)),
        ],
        width,
    )


def tree(rows: list[dict[str, Any]], width: int) -> list[str]:
    """Each task below the one that waits for it. Those in a cycle say so."""
    by_id = {row["id"]: row for row in rows}
    shown: set[int] = set()
    lines: list[str] = []

    def children(row: dict[str, Any]) -> list[int]:
        targets = row["waits_for"]["targets"] if row["waits_for"] else []
        return [target for target in targets if target in by_id]

    above: dict[int, int] = {}  # the task below which each is shown

    def is_above(number: int, parent: int) -> bool:
        """Whether the path to the root leads through a task."""
        at = parent
        while at and at != number:
            at = above.get(at, 0)
        return at == number

    # A loop in place of a recursion: a chain of tasks may be long. Its end is shown no deeper than fits.
    def draw(root: int) -> None:
        pending: list[tuple[int, int, str, str]] = [(root, 0, "", "")]
        while pending:
            number, parent, lead, below = pending.pop()
            row = by_id[number]
            label = f"  [{row['label']}]" if row["label"] else ""
            again = number in shown
            inner = [] if again else children(row)
            wait = "" if inner else waits(row)
            end = ""
            if again:
                end = "  ⟲ CYCLE" if is_above(number, parent) else "  (see above)"
            else:
                above[number] = parent
            text = f"{number} {at(row)}{label}" + (f" ── {wait}" if wait and not end else "") + end
            lines.append(cut(clean(lead + text), width))
            shown.add(number)
            deep = width_of(below) > width // 2
            for i, child in reversed(list(enumerate(inner))):
                last = i == len(inner) - 1
                lead = below + ("└─ " if last else "├─ ")
                under = below if deep else below + ("   " if last else "│  ")
                pending.append((child, number, lead, under))

    roots = [row["id"] for row in rows if not any(w in by_id for w in row["awaited_by"])]
    for root in [*roots, *by_id]:
        if root not in shown:
            draw(root)
    return lines or ["no unfinished tasks"]


def stack(rows: list[dict[str, Any]], width: int) -> list[str]:
    lines: list[str] = []
    for row in rows:
        label = f"  [{row['label']}]" if row["label"] else ""
        since = f" for {seconds(row['since'])}" if row["age"] else ""
        head = f"task {row['id']} {row['coroutine']}{label}  {row['state']}{since}"
        lines.append(cut(clean(head), width))
        for frame in row["stack"]:
            end = f":{frame['line']} {frame['name'].rpartition('.')[2]}"
            file = cut(clean(frame["file"]), max(width - 2 - width_of(end), NARROWEST), True)
            lines.append(cut(f"  {file}{clean(end)}", width))
        if row["waits_for"]:
            lines.append(cut(f"  waits for: {clean(waits(row))}", width))
        if row["site"]:
            lines.append(cut(f"  made at {clean(place(*row['site']))}", width, True))
    return lines or ["no unfinished tasks"]


def cycles(rows: list[dict[str, Any]], width: int) -> list[str]:
    """Each cycle, and below it the line at which each of its tasks waits: see with_waiters()."""
    lines = []
    for row in rows:
        ring = " → ".join(map(str, [*row["tasks"], row["tasks"][0]]))
        lines += wrap([f"⟲ {ring}", row["text"]], width)
        for task in row.get("waiters", ()):
            name = task["coroutine"].rpartition(".")[2]
            lines.append(
                cut(clean(f"  {task['id']} {name} {place_of(task)} ── {waits(task)}"), width)
            )
    return lines or ["no tasks wait for each other"]


# ---- stalls ----------------------------------------------------------------------------------------


def short(frame: str) -> str:
    """A frame of a stall, as "pages.py:88 render"."""
    where, _, name = frame.partition(" ")
    return f"{where.rpartition('/')[2]} {name.rpartition('.')[2]}"


def stall_lines(stall: dict[str, Any], width: int, indent: str = "", first: str = "") -> list[str]:
    """A report: how long and why, where, and for whom."""
    over = " (over)" if stall["over"] else ", and still is"
    call = f" ({stall['call']})" if stall["call"] else ""
    room = width - len(indent)
    lines = wrap(
        [
            f"{first}BLOCKED for {seconds(stall['lasted'])}{over}",
            f"at {time.strftime('%H:%M:%S', time.localtime(stall['at']))}" if stall["at"] else "",
            f"cause: {stall['cause']}{call}",
            f"loop {stall['loop']}",
            stall["task"],
            f'"{stall["label"]}"' if stall["label"] else "",
            stall["connection"],
            f"made at {place(*split(stall['created_at']))}" if stall["created_at"] else "",
        ],
        room,
    )
    if stall["file"]:
        lines.append(
            "  "
            + cut(
                f"{clean(stall['file'])}:{stall['line']} {clean(stall['function'])}", room - 2, True
            )
        )
    frames = stall["stack"]
    frames = [short(frame) for frame in frames if not any(part in frame for part in BELOW)]
    if len(frames) > 1:
        lines += wrap([f"  {frames[0]}", *(f"<- {one}" for one in frames[1:FRAMES])], room, 4)
    if stall["elsewhere"]:
        name, *rest = stall["elsewhere"]
        lines += wrap([f"  thread {name} has the GIL:", *map(short, rest[:3])], room, 4)
    times = [f"  CPU {seconds(stall['cpu'])} of {seconds(stall['lasted'])}"]
    if stall["waited"] >= 0.001:
        times.append(f"waited {seconds(stall['waited'])} for a processor")
    return [indent + line for line in (*lines, *wrap(times, room, 4))]


def split(text: str) -> tuple[str, int]:
    file, _, line = text.rpartition(":")
    return file, int(line) if line.isdigit() else 0


def stalls(rows: list[dict[str, Any]], width: int) -> list[str]:
    newest: dict[tuple[str, float], dict[str, Any]] = {}
    for row in rows:  # the newest report of each
        newest.setdefault((row["loop"], row["began"]), row)
    lines = [line for row in newest.values() for line in stall_lines(row, width)]
    return lines or ["no loop was blocked"]


# ---- all else --------------------------------------------------------------------------------------


def sites(rows: list[dict[str, Any]], width: int) -> list[str]:
    return table(
        [
            right("ALIVE", (row["alive"] for row in rows)),
            right("MADE", (count(row["made"]) if row["made"] else "" for row in rows)),
            right("ENDED", (count(row["ended"]) if row["ended"] else "" for row in rows)),
            right("OLDEST", (seconds(row["oldest"]) for row in rows)),
            right("PER MIN", (f"{row['growth']:+.0f}" if row["growth"] else "" for row in rows)),
            flexible("COROUTINE", (row["coroutine"] for row in rows)),
            flexible("PLACE", (place(row["file"], row["line"]) for row in rows)),
            Column("", ("grows" if row["leaks"] else "" for row in rows)),
        ],
        width,
    )


def connections(rows: list[dict[str, Any]], width: int) -> list[str]:
    paused = [
        ("r" if row["reading_paused"] else "") + ("w" if row["writing_paused"] else "")
        for row in rows
    ]
    return table(
        [
            right("FD", (row["fd"] for row in rows)),
            Column("KIND", (row["tls_version"] or row["kind"] for row in rows)),
            flexible("PEER", (row["peer"] for row in rows)),
            flexible("LOCAL", (row["local"] for row in rows)),
            right("AGE", (seconds(row["age"]) for row in rows)),
            right("IDLE", (seconds(row["idle"]) for row in rows)),
            right("IN", (size(row["bytes_in"]) for row in rows)),
            right("OUT", (size(row["bytes_out"]) for row in rows)),
            right("UNSENT", (size(row["buffered"]) if row["buffered"] else "" for row in rows)),
            Column("PAUSED", paused),
            flexible("PROTOCOL", (row["protocol"] for row in rows)),
            flexible("LABEL", (row["label"] for row in rows)),
        ],
        width,
    )


def servers(rows: list[dict[str, Any]], width: int) -> list[str]:
    return table(
        [
            right("FD", (row["fd"] for row in rows)),
            Column("KIND", (row["kind"] + (" tls" if row["tls"] else "") for row in rows)),
            flexible("LOCAL", (row["address"] for row in rows)),
            right("ACCEPTED", (count(row["accepted"]) for row in rows)),
            right("REFUSED", (count(row["refused"]) if row["refused"] else "" for row in rows)),
            right("OPEN", (row["connections"] for row in rows)),
            right("AGE", (seconds(row["age"]) if row["age"] else "" for row in rows)),
            flexible("PROTOCOL", (row["protocol"] for row in rows)),
        ],
        width,
    )


def locks(rows: list[dict[str, Any]], width: int) -> list[str]:
    oldest = (", ".join(map(str, row["waiters"][:5])) for row in rows)
    return table(
        [
            Column("KIND", (row["kind"] for row in rows)),
            right("OWNER", (row["owner"] or "" for row in rows)),
            right("WAIT", (len(row["waiters"]) for row in rows)),
            right("SINCE", (seconds(row["since"]) for row in rows)),
            flexible("OLDEST", oldest),
            flexible("PLACE", (row["where"] for row in rows)),
            flexible("STATE", (row["text"] for row in rows)),
        ],
        width,
    )


def timers(rows: list[dict[str, Any]], width: int) -> list[str]:
    return table(
        [
            right("IN", (seconds(row["left"]) for row in rows)),
            right("TASK", (row["task"] or "" for row in rows)),
            flexible("CALLS", (row["callback"] for row in rows)),
            right("LOOP", (row["loop"] for row in rows)),
        ],
        width,
    )


def pools(rows: list[dict[str, Any]], width: int) -> list[str]:
    lines = table(
        [
            Column("POOL", (row["kind"] for row in rows)),
            flexible("NAME", (row["name"] for row in rows)),
            right("THREADS", (row["threads"] for row in rows)),
            right("MOST", (row["threads_max"] or "" for row in rows)),
            right("BUSY", (row["busy"] for row in rows)),
            right("QUEUED", (row["queued"] for row in rows)),
        ],
        width,
    )
    jobs = [(row["kind"], job) for row in rows for job in row["jobs"]]
    if jobs:
        lines += [
            "",
            *table(
                [
                    Column("POOL", (kind for kind, _ in jobs)),
                    Column("STATE", (job["state"] for _, job in jobs)),
                    right(
                        "SINCE",
                        (known(job["since"]) for _, job in jobs),
                    ),
                    flexible("DOES", (job["text"] or job["kind"] for _, job in jobs)),
                ],
                width,
            ),
        ]
    return lines


def children(rows: list[dict[str, Any]], width: int) -> list[str]:
    return table(
        [
            right("PID", (row["pid"] for row in rows)),
            flexible("PROGRAM", (row["program"] for row in rows)),
            right("AGE", (seconds(row["age"]) for row in rows)),
            right("STATUS", ("" if row["status"] is None else row["status"] for row in rows)),
            flexible("WAITED FOR BY", (", ".join(map(str, row["waiters"])) for row in rows)),
        ],
        width,
    )


def metrics(answer: str, width: int) -> list[str]:
    return answer.rstrip("\n").split("\n")


VIEWS: dict[str, Callable[[Any, int], list[str]]] = {
    "overview": overview,
    "tasks": tasks,
    "tree": tree,
    "stack": stack,
    "stalls": stalls,
    "sites": sites,
    "connections": connections,
    "servers": servers,
    "locks": locks,
    "timers": timers,
    "pools": pools,
    "children": children,
    "cycles": cycles,
    "metrics": metrics,
}
NOTHING = {
    "tasks": "no unfinished tasks",
    "sites": "no place has made tasks while the program was observed",
    "connections": "no connections",
    "servers": "no servers",
    "locks": "no task waits for a lock, an event or a queue",
    "timers": "no timers",
    "pools": "no threads work for the loops",
    "children": "no children",
}


def render(view: str, answer: Any, width: int = 80) -> list[str]:
    """Return the lines of a view."""
    if view in NOTHING and not answer:
        return [NOTHING[view]]
    return VIEWS[view](answer, width)


# ---- a process that does not answer ------------------------------------------------------------------


def blocked(found: dict[str, Any], width: int) -> list[str]:
    """The lines about a process that does not answer: see client.blocked()."""
    lines = [
        f"process {found['pid']} does not answer: C code may keep its GIL, or it is stopped.",
        "Its threads, as the kernel tells them:",
    ]
    threads = found["threads"]
    lines += table(
        [
            right("TID", (thread["tid"] for thread in threads)),
            Column("NAME", (thread["name"] for thread in threads)),
            Column("STATE", (STATES.get(t["state"].upper(), t["state"]) for t in threads)),
            right("CPU", (seconds(thread["cpu"]) for thread in threads)),
            flexible("WAITS IN", (thread["wchan"] for thread in threads)),
        ],
        width,
    )
    if found["dump"]:
        lines.append("Its watcher has noted this, and the blocked thread its stack:")
        noted = found["dump"].rstrip("\n").split("\n")
        lines += ["  " + cut(clean(line), width - 2, keep_end=True) for line in noted]
    else:
        lines.append("Its watcher has noted nothing.")
    return lines
