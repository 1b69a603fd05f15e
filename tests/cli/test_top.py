"""`hoop top`, the screen for the terminal. The pilot of Textual presses each key, and tmux shows it once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import uuid

import pytest
from serving import GUILTY, SERVER

from hoop.cli import client, commands
from hoop.cli import feed as feeds
from hoop.cli.feed import Feed

pytest.importorskip("textual", reason="Textual is not installed: the extra hoop[top]")

from textual.widgets import DataTable, Input, Static, Tabs

from hoop.cli import top
from hoop.cli.top import TABLES, Details, Top


@pytest.fixture
def feed(observed, monkeypatch):
    """The feed of the server, for the screen. Both look more often than they do for people."""
    monkeypatch.setattr(top, "EVERY", 0.25)
    monkeypatch.setattr(feeds, "EVERY", 0.25)
    made = Feed(lambda: client.connect(observed.pid))
    made.start()
    yield made
    made.end()
    made.join()


@pytest.fixture
def screen(run, feed):
    """A function that runs a test with the screen's pilot, on a hoop loop."""

    def with_pilot(test, size=(120, 40)):
        async def main():
            app = Top(feed)
            app.animation_level = "none"
            async with app.run_test(size=size) as pilot:
                await until(pilot, lambda: app.query_one(DataTable).row_count > 5)
                await test(app, pilot)

        run(main())

    return with_pilot


async def until(pilot, condition) -> None:
    """Wait until something is so on the screen. The test's time limit ends it."""
    while not condition():
        await pilot.pause(0.05)


def text_of(app: Top, name: str) -> str:
    return str(app.query_one(name, Static).render())


def column(app: Top, name: str) -> list[str]:
    return [str(cell) for cell in app.query_one(DataTable).get_column(name)]


def test_it_shows_the_program_and_its_tasks(screen):
    async def test(app, pilot):
        await until(pilot, lambda: "visit p50" in text_of(app, "#head"))
        assert SERVER.name in text_of(app, "#head")
        await until(pilot, lambda: any(t.startswith("GET /report") for t in column(app, "label")))
        assert any("observed_server.py:" in text for text in column(app, "coroutine"))
        await until(pilot, lambda: any(text for text in column(app, "share")))

    screen(test)


def test_s_sorts_by_the_next_column_and_r_the_other_way(screen):
    async def test(app, pilot):
        await pilot.press("p", "s")  # paused, and by id
        ids = [int(text) for text in column(app, "id")]
        assert ids == sorted(ids)
        await pilot.press("r")
        ids = [int(text) for text in column(app, "id")]
        assert ids == sorted(ids, reverse=True)
        titles = [str(one.label) for one in app.query_one(DataTable).columns.values()]
        assert [title for title in titles if "▾" in title] == ["ID ▾"]
        for _ in TABLES["tasks"]:
            await pilot.press("s")
        assert app.sorts["tasks"] == ("id", True)

    screen(test)


def test_a_click_on_a_title_sorts(screen):
    async def test(app, pilot):
        await pilot.press("p")
        await pilot.click(DataTable, offset=(10, 0))
        assert app.sorts["tasks"] == ("id", True)
        await pilot.click(DataTable, offset=(10, 0))
        assert app.sorts["tasks"] == ("id", False)

    screen(test)


def test_slash_filters_and_escape_gives_it_up(screen):
    async def test(app, pilot):
        await pilot.press("slash", *"er.s", "enter")
        await until(pilot, lambda: app.query_one(DataTable).row_count == 1)
        assert isinstance(app.focused, DataTable)
        await pilot.press("escape")
        await until(pilot, lambda: app.query_one(DataTable).row_count > 5)
        assert app.query_one(Input).value == ""

    screen(test)


def test_right_and_left_show_the_other_tables(screen):
    async def test(app, pilot):
        names = list(TABLES)
        for name in [*names[1:], names[0]]:
            await pilot.press("right")
            await until(pilot, lambda name=name: app.view == name)
            assert app.query_one(Tabs).active == name
            assert len(app.query_one(DataTable).columns) == len(TABLES[name])
        await pilot.press("left")
        await until(pilot, lambda: app.view == names[-1])

    screen(test)


def test_p_keeps_the_table(screen):
    async def test(app, pilot):
        await pilot.press("p")
        assert "paused" in text_of(app, "#head")
        await until(pilot, lambda: not app.asks)
        before = column(app, "since")
        await pilot.pause(0.6)  # time for two looks
        assert column(app, "since") == before
        await pilot.press("p")
        await until(pilot, lambda: column(app, "since") != before)
        assert "paused" not in text_of(app, "#head")

    screen(test)


def test_enter_shows_a_task_with_its_await_tree(screen):
    async def test(app, pilot):
        await pilot.press("p", "slash", *"p.p", "enter")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, Details))
        lines = str(app.screen.query_one("#lines", Static).render())
        assert "await tree" in lines
        assert " part observed_server.py:" in lines
        assert " run_asgi " in lines
        for key in ("escape", "enter"):
            await pilot.press(key)
            await until(pilot, lambda key=key: isinstance(app.screen, Details) == (key == "enter"))
        await pilot.press("q")
        await until(pilot, lambda: not isinstance(app.screen, Details))

    screen(test)


def test_news_that_come_while_it_is_left(screen):
    """On a slow machine they come after Textual has removed the widgets."""

    async def test(app, pilot):
        await app.screen.remove_children()
        app.take("trouble", {"text": "it does not answer"})
        app.take("stall", {"number": 1, "at": 0.0})
        app.take_rows(app.view, [])

    screen(test)


def test_q_leaves(screen):
    async def test(app, pilot):
        await pilot.press("q")
        await until(pilot, lambda: not app.is_running)

    screen(test)


def test_a_blocked_loop_is_shown_while_it_is_blocked(screen, observed):
    async def test(app, pilot):
        with observed.blocked():
            await until(pilot, lambda: text_of(app, "#stall").startswith("BLOCKED for"))
            text = text_of(app, "#stall")
            assert app.query_one("#stall").has_class("now")
        assert f"{SERVER.name}:{GUILTY}" in text
        assert "GET /block 127.0.0.1:" in text
        await until(pilot, lambda: app.query_one("#stall").has_class("over"))
        while app.view != "stalls":
            await pilot.press("left")
            await pilot.pause()
        await until(pilot, lambda: app.query_one(DataTable).row_count > 0)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, Details))
        assert f"{SERVER.name}:{GUILTY}" in str(app.screen.query_one("#title", Static).render())

    screen(test)


# ---- for real ----------------------------------------------------------------------------------------


def test_in_tmux(observed):
    if shutil.which("tmux") is None:
        pytest.skip("there is no tmux; Debian's package is tmux")
    tmux = ["tmux", "-L", f"hoop-{uuid.uuid4().hex}", "-f", os.devnull]
    top = f"{sys.executable} -m hoop top {observed.pid}"
    subprocess.run([*tmux, "new-session", "-d", "-x", "80", "-y", "24", top], check=True)
    try:
        pane = ""
        end = time.monotonic() + 15
        while (
            not ("waiting" in pane and SERVER.name in pane.split("\n")[0] and "q Quit" in pane)
            and time.monotonic() < end
        ):
            time.sleep(0.1)
            pane = captured(tmux)
        lines = pane.splitlines()
        assert SERVER.name in lines[0], pane
        assert any(line.startswith(" BUSY ▾") for line in lines), pane
        assert "q Quit" in lines[-1]
        assert max(map(len, lines)) <= 80
        subprocess.run([*tmux, "send-keys", "q"], check=True)
        while captured(tmux) and time.monotonic() < end:
            time.sleep(0.1)
        assert captured(tmux) == ""
    finally:
        subprocess.run([*tmux, "kill-server"], stderr=subprocess.DEVNULL, check=False)


def captured(tmux: list[str]) -> str:
    """The text of the terminal; "" once there is none."""
    done = subprocess.run(
        [*tmux, "capture-pane", "-p"], capture_output=True, text=True, check=False
    )
    return done.stdout


def test_without_textual_the_overview_is_printed_anew(observed):
    code = (
        "import sys, importlib.util\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name: None if name == 'textual' else find(name)\n"
        "from hoop.cli import commands\n"
        "sys.exit(commands.main('top', sys.argv[1:]))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(observed.pid)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    heads = 0
    for line in process.stdout:
        heads += SERVER.name in line
        if heads == 2:
            break
    process.kill()
    _, complaint = process.communicate()
    assert "pip install 'hoop[top]'" in complaint


def test_it_needs_a_terminal(observed):
    done = subprocess.run(
        [sys.executable, "-m", "hoop", "top", str(observed.pid)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=15,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "needs a terminal" in done.stderr


def test_there_must_be_a_process(capsys):
    assert commands.main("top", ["999999999"]) == 1
    assert commands.main("web", ["999999999"]) == 1
    assert "no process" in capsys.readouterr().err
