"""`hoop top`: the screen of an observed process in the terminal, made with Textual, the extra `hoop[top]`."""

from __future__ import annotations

import os
import threading
import time
from typing import Any, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Input, Static, Tab, Tabs

from hoop.cli import client
from hoop.cli.columns import TABLES as ALL
from hoop.cli.columns import Column, Row, prepare, tree_of, wait_of
from hoop.cli.feed import Feed
from hoop.cli.text import clean, count, place, seconds, size

ROWS = 200
EVERY = 1.0
SORTS = {"age": "age", "since": "since", "polls": "polls", "share": "busy"}
TABLES = {
    view: tuple(column for column in columns if "page" not in column.more.split())
    for view, columns in ALL.items()
}


class Details(ModalScreen[None]):
    """All that is known of one row."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter", "dismiss", "Back"),
    ]

    def __init__(self, title: str, lines: list[str]) -> None:
        super().__init__()
        self.heading = title
        self.lines = lines

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="details"):
            yield Static(Text(self.heading, style="bold"), id="title")
            yield Static(Text("\n".join(self.lines)), id="lines")
        yield Footer()


class Top(App[None]):
    """The screen. The feed's events come in a thread, rows are asked for in another one."""

    CSS = """
    #head { padding: 0 1; height: auto; }
    #stall { padding: 0 1; height: auto; border-left: thick $success; }
    #stall.over { border-left: thick $warning; background: $warning 15%; }
    #stall.now { border-left: thick $error; background: $error 25%; }
    #filter { display: none; height: 3; }
    #filter.shown { display: block; }
    DataTable { height: 1fr; }
    Details { align: center middle; }
    #details { width: 90%; height: 90%; border: round $accent; background: $surface; padding: 0 1; }
    #title { padding-bottom: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("slash", "filter", "Filter"),
        Binding("s", "sort", "Sort"),
        Binding("r", "reverse", "Reverse"),
        Binding("p", "pause", "Pause"),
        Binding("right", "tab(1)", "Next", priority=True),
        Binding("left", "tab(-1)", "Previous", priority=True, show=False),
        Binding("escape", "leave", "Leave", show=False),
    ]
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, feed: Feed) -> None:
        super().__init__()
        self.feed = feed
        self.view = "tasks"
        self.rows: list[Row] = []
        self.sorts = {
            name: (columns[0].field, is_upwards(columns[0])) for name, columns in TABLES.items()
        }
        self.before: dict[int, Row] = {}
        self.overview: Row | None = None
        self.stalls: dict[int, Row] = {}
        self.silent: Row | None = None
        self.trouble = "connecting"
        self.paused = False
        self.asked = threading.Event()
        self.asks = False  # an answer is awaited
        self.headed = ("", "", False)

    def compose(self) -> ComposeResult:
        yield Static(id="head")
        yield Static(id="stall")
        yield Tabs(*(Tab(name.capitalize(), id=name) for name in TABLES))
        yield Input(placeholder="Filter", id="filter")
        yield DataTable(id="rows", cursor_type="row", zebra_stripes=True)
        yield Footer()

    def on_mount(self) -> None:
        self.query_one(DataTable).focus()
        for work in (self.listen, self.ask):
            self.run_worker(work, thread=True, exit_on_error=True)
        self.set_interval(0.2, self.show_stall)
        self.show_head()

    def on_unmount(self) -> None:
        self.feed.end()
        self.asked.set()

    # ---- in threads of their own ----

    def listen(self) -> None:
        """Take the events of the feed."""
        for event in self.feed.events():
            if event is not None and not self.feed.ended:
                self.call_from_thread(self.take, *event)

    def ask(self) -> None:
        """Ask for the rows of the table, about once a second and when another one was chosen."""
        while not self.feed.ended:
            view, (field, _) = self.view, self.sorts[self.view]
            if view != "stalls" and not self.paused:
                fields: dict[str, Any] = {"top": ROWS, "look": True}
                if view == "tasks":
                    fields["sort"] = SORTS.get(field, "since")
                self.asks = True
                answer = self.feed.ask(view, fields)
                if not self.feed.ended:
                    self.call_from_thread(self.take_rows, view, answer.get("rows"))
                self.asks = False
            every = self.overview["observer"]["every"] if self.overview else 0.0
            self.asked.wait(max(EVERY, every))
            self.asked.clear()

    # ---- news ----

    def take(self, kind: str, value: Any) -> None:
        """Take an event of the feed."""
        if kind == "overview":
            self.overview, self.silent, self.trouble = value, None, ""
            self.show_head()
        elif kind == "stall":
            self.stalls[value["number"]] = value
        elif kind == "silent":
            began = self.silent["at"] if self.silent else time.time()
            self.silent = {**value, "at": began}
        elif kind == "trouble":
            self.trouble = value["text"]
            self.show_head()
        self.show_stall()
        if kind == "stall" and self.view == "stalls":
            self.show_rows()

    def take_rows(self, view: str, rows: list[Row] | None) -> None:
        if view == self.view and rows is not None:
            rows = [prepare(view, row) for row in rows]
            if view == "tasks":
                rows = [{**row, "share": self.share_of(row)} for row in rows]
                self.before = {row["id"]: row for row in rows}
            self.rows = rows
            self.show_rows()

    def share_of(self, task: Row) -> float | None:
        """The share of the time since the last look in which a task ran."""
        before = self.before.get(task["id"])
        if before is None or task["age"] <= before["age"]:
            return None
        return float(min((task["busy"] - before["busy"]) / (task["age"] - before["age"]), 1.0))

    # ---- what is shown ----

    def is_taken_down(self) -> bool:
        """Whether the widgets are gone: Textual removes them first, and news may still come."""
        return not self.query("#stall")

    def show_head(self) -> None:
        """Write the lines above the table."""
        if self.is_taken_down():
            return
        view = self.overview
        if view is None or self.trouble:
            self.query_one("#head", Static).update(Text(self.trouble, style="bold red"))
            return
        said = Text.assemble(
            (f"{view['program'] or 'hoop'} ", "bold"),
            f"pid {view['pid']}   {view['python']}   up {seconds(view['uptime'])}"
            f"   hoop {view['hoop']}" + ("   paused" if self.paused else ""),
        )
        for loop in view["loops"]:
            said.append("\n")
            said.append_text(loop_line(loop))
        longest = max((one["longest"] for one in view["gc"]), default=0.0)
        said.append(
            f"\nGC {count(sum(one['count'] for one in view['gc']))} times, longest {seconds(longest)}"
            f"   STALLS {sum(view['stalls'].values())}   CYCLES {view['cycles']}"
            f"   starved {view['starved']}"
        )
        self.query_one("#head", Static).update(said)

    def show_stall(self) -> None:
        """Write which line blocks the loop, or did so last."""
        if self.is_taken_down():
            return
        stall = max(self.stalls.values(), key=lambda one: one["at"], default=None)
        shown = self.query_one("#stall", Static)
        if self.silent is not None:
            said, kind = silent_text(self.silent), "now"
        elif stall is not None:
            said, kind = stall_text(stall), "over" if stall["over"] else "now"
        else:
            said, kind = Text("No loop was blocked"), ""
        if said != getattr(self, "said", None):
            self.said = said
            shown.set_classes(kind)
            shown.update(said)

    def show_rows(self) -> None:
        """Fill the table. The cursor stays on its row."""
        if self.is_taken_down():
            return
        table = self.query_one(DataTable)
        columns, (field, up) = TABLES[self.view], self.sorts[self.view]
        if self.view == "stalls":
            now = time.time()
            self.rows = [
                prepare("stalls", {**one, "ago": now - one["at"]}) for one in self.stalls.values()
            ]
        key = (
            table.coordinate_to_cell_key(table.cursor_coordinate).row_key
            if table.row_count
            else None
        )
        at, top = table.cursor_row, table.scroll_y
        if self.headed != (self.view, field, up):
            self.headed = (self.view, field, up)
            table.clear(columns=True)
            for column in columns:
                mark = (" ▴" if up else " ▾") if column.field == field else ""
                table.add_column(column.title.upper() + mark, key=column.field)
        wanted = self.query_one("#filter", Input).value.lower()
        lines = []
        for row in self.rows:
            texts = [clean(column.text(row)) for column in columns]
            if not wanted or any(wanted in text.lower() for text in texts):
                lines.append((sort_key(row, field, columns, texts), texts, key_of(row)))
        lines.sort(key=lambda line: line[0], reverse=not up)
        table.clear()
        for _, texts, name in lines:
            table.add_row(*(Text(text, style=style_of(text)) for text in texts), key=name)
        found = next(
            (n for n, line in enumerate(lines) if key is not None and line[2] == key.value), at
        )
        table.move_cursor(row=min(found, max(len(lines) - 1, 0)), animate=False, scroll=False)
        table.scroll_to(y=top, animate=False)

    # ---- keys ----

    def on_tabs_tab_activated(self, event: Tabs.TabActivated) -> None:
        self.view = event.tab.id or "tasks"
        self.rows = []
        self.show_rows()
        self.asked.set()

    def action_tab(self, by: int) -> None:
        """Show the next table, or the one before."""
        if isinstance(self.screen, Details) or isinstance(self.focused, Input):
            return
        names = list(TABLES)
        self.query_one(Tabs).active = names[(names.index(self.view) + by) % len(names)]

    def action_sort(self) -> None:
        """Sort by the next column."""
        columns = TABLES[self.view]
        at = [column.field for column in columns].index(self.sorts[self.view][0])
        following = columns[(at + 1) % len(columns)]
        self.sort_by(following.field, is_upwards(following))

    def action_reverse(self) -> None:
        field, up = self.sorts[self.view]
        self.sort_by(field, not up)

    def on_data_table_header_selected(self, event: DataTable.HeaderSelected) -> None:
        field, up = str(event.column_key.value), self.sorts[self.view]
        column = next(one for one in TABLES[self.view] if one.field == field)
        self.sort_by(field, not up[1] if up[0] == field else is_upwards(column))

    def sort_by(self, field: str, up: bool) -> None:
        self.sorts[self.view] = (field, up)
        self.show_rows()
        self.asked.set()

    def action_pause(self) -> None:
        """Keep the table as it is, or go on."""
        self.paused = not self.paused
        self.show_head()
        self.asked.set()

    def action_filter(self) -> None:
        """Let a text be typed that the shown rows have."""
        self.query_one("#filter").add_class("shown")
        self.query_one("#filter").focus()

    def on_input_changed(self) -> None:
        self.show_rows()

    def on_input_submitted(self) -> None:
        self.query_one(DataTable).focus()

    def action_leave(self) -> None:
        """Give up the filter."""
        field = self.query_one("#filter", Input)
        field.value = ""
        field.remove_class("shown")
        self.query_one(DataTable).focus()

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        row = next((one for one in self.rows if key_of(one) == event.row_key.value), None)
        if row is not None:
            title, lines = details_of(self.view, row, self.rows)
            self.push_screen(Details(clean(title), [clean(line) for line in lines]))


# ---- texts -------------------------------------------------------------------------------------------


def key_of(row: Row) -> str:
    """A name for a row that it has the next time, too."""
    names = (
        "id",
        "number",
        "pid",
        "fd",
        "file",
        "line",
        "left",
        "callback",
        "kind",
        "name",
        "tasks",
    )
    return " ".join(str(row[name]) for name in names if name in row)


def is_upwards(column: Column) -> bool:
    """Whether the smallest comes first when one sorts by a column."""
    return "up" in column.more.split()


def sort_key(
    row: Row, field: str, columns: tuple[Column, ...], texts: list[str]
) -> tuple[bool, Any]:
    """The value to sort a row by: its number, or else its text."""
    value = row.get(field)
    if value is None or isinstance(value, int | float):
        return False, -1 if value is None else value
    at = [column.field for column in columns].index(field)
    return True, texts[at]


def style_of(text: str) -> str:
    return {"running": "bold green", "ready": "bold yellow", "leaks": "bold red"}.get(text, "")


def loop_line(loop: Row) -> Text:
    """The line of a loop."""
    recent = loop["recent"]
    said = Text.assemble(("LOOP ", "bold"), f"{loop['thread'] or loop['id']} {loop['driver']}")
    if loop["blocked"]:
        said.append(f"   BLOCKED {seconds(loop['blocked'])}", "bold red")
    if recent is not None:
        p50, p99, longest = map(seconds, recent["visit"])
        said.append(
            f"   idle {recent['idle']:.0%}   visit p50 {p50} p99 {p99} max {longest}"
            f"   lag p99 {seconds(recent['timer_lag'][1])}   callbacks {count(recent['callbacks'])}/s"
            f"   in {size(recent['bytes_in'])}/s out {size(recent['bytes_out'])}/s"
        )
    said.append(f"   ready {loop['ready']} (max {count(loop['ready_max'])})")
    states = ", ".join(f"{count(n)} {state}" for state, n in loop["tasks"].items() if n)
    said.append(f"   tasks {states or 0}")
    return said


def stall_text(stall: Row) -> Text:
    """A stall in three lines, the guilty line first."""
    lasted = seconds(
        stall["lasted"] if stall["over"] else max(time.time() - stall["at"], stall["lasted"])
    )
    if stall["over"]:
        ago = seconds(max(round(time.time() - stall["at"]), 1))
        head = f"The loop was blocked for {lasted}, {ago} ago"
    else:
        head = f"BLOCKED for {lasted}, and still is"
    where = place(stall["file"], stall["line"]) or "no code of Python's"
    facts = [stall["cause"] + (f" ({stall['call']})" if stall["call"] else ""), stall["task"]]
    facts += [stall["label"], stall["connection"]]
    if stall["created_at"]:
        facts.append(f"made at {os.path.basename(stall['created_at'])}")
    stack = " <- ".join(os.path.basename(line) for line in stall["stack"][:4])
    return Text.assemble(
        (head, "bold"),
        "   ",
        (where, "bold reverse"),
        f" in {stall['function']}()" if stall["function"] else "",
        "\n" + "   ".join(fact for fact in facts if fact),
        f"\n{stack}" if stack else "",
    )


def silent_text(silent: Row) -> Text:
    """The lines for a process that does not answer."""
    stack = silent["stack"]
    return Text.assemble(
        (
            f"NO ANSWER for {seconds(round(time.time() - silent['at']) or 1)}: code holds the GIL",
            "bold",
        ),
        "   ",
        (os.path.basename(stack[0]) if stack else "no stack is known", "bold reverse"),
        "\n" + " <- ".join(os.path.basename(line) for line in stack[:4]),
    )


def details_of(view: str, row: Row, rows: list[Row]) -> tuple[str, list[str]]:
    """A title and lines for one row."""
    if view == "stalls":
        facts = (
            "cause",
            "call",
            "loop",
            "task",
            "label",
            "connection",
            "created_at",
            "cpu",
            "waited",
        )
        lines = [f"{name:11} {row[name]}" for name in facts if row[name]]
        for title in ("stack", "await_stack", "elsewhere"):
            if row[title]:
                lines += ["", title.replace("_", " "), *(f"  {line}" for line in row[title])]
        return f"{row['file']}:{row['line']} {row['function']}", lines
    if view != "tasks":
        lines = [f"{name:15} {value}" for name, value in row.items() if value not in ("", None, [])]
        return view.capitalize(), lines
    lines = [
        f"state       {row['state']}" + (f" for {seconds(row['since'])}" if row["age"] else ""),
        f"waits for   {wait_of(row)}",
        f"label       {row['label']}",
        f"name        {row['name']}",
        f"made at     {'{}:{}'.format(*row['site']) if row['site'] else ''}",
        f"age         {seconds(row['age'])}, {row['polls']} steps, busy {seconds(row['busy'])}",
        "",
        "where it is, innermost first",
        *(f"  {f['file']}:{f['line']} {f['name']}" for f in reversed(row["stack"])),
        "",
        "await tree",
        *(f"  {line}" for line in tree_of(rows, row["id"])),
    ]
    return f"Task {row['id']} {row['coroutine']}", lines


def run(process: str | int | None) -> None:
    """Show the screen of a process until it is left. Raises what client.connect() does."""
    with client.connect(process) as connection:
        path = connection.path
    feed = Feed(lambda: client.Connection(path))
    feed.start()
    try:
        Top(feed).run()
    finally:
        feed.end()
