"""Takes the pictures of docs/insight.md: `python tests/cli/pictures.py FOLDER`.

The folder is that of the server's file, and is seen in the pictures.

The server runs under load for two minutes, so that the strip of the page has something to show.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import browser  # noqa: E402
import serving  # noqa: E402
from test_web import serving_page  # noqa: E402

from hoop.cli import client  # noqa: E402
from hoop.cli.feed import Feed  # noqa: E402
from hoop.cli.top import Top  # noqa: E402

DOCS = ROOT / "docs"
MINUTES = 2.0


async def terminal(feed: Feed, picture: Path, program: serving.Observed) -> None:
    """Save the terminal's screen as SVG, while the loop is blocked."""
    app = Top(feed)
    async with app.run_test(size=(110, 30)) as pilot:
        await pilot.pause(3)
        with program.blocked():
            while not any(not stall["over"] for stall in app.stalls.values()):
                await pilot.pause(0.1)
            await pilot.pause(0.5)
            picture.write_text(app.export_screenshot(title="hoop top"))


def main() -> None:
    """Take all pictures."""
    shop = Path(sys.argv[1]) / "shop.py"
    shutil.copy(serving.SERVER, shop)
    serving.SERVER = shop
    runtime = Path(tempfile.mkdtemp())
    os.environ["XDG_RUNTIME_DIR"] = str(runtime)
    with (
        serving.serving_program(runtime) as program,
        serving_page(program.pid) as server,
        browser.browser() as page,
    ):
        page.open(server.url, 1280, 860)
        end = time.monotonic() + 60 * MINUTES
        time.sleep(60 * MINUTES / 3)
        with program.blocked():
            time.sleep(0.3)
        while time.monotonic() < end:
            time.sleep(0.5)
        with program.blocked():
            page.wait_for("document.querySelector('#stall.now .place') !== null")
            time.sleep(1)
            page.picture(DOCS / "insight-web-light.png")
            page.paint(True)
            page.wait_for("document.documentElement.dataset.theme === 'dark'")
            page.picture(DOCS / "insight-web-dark.png")
        page.paint(False)
        time.sleep(3)
        while page.run("document.querySelectorAll('#drawer ul.tree .node').length") < 4:
            page.press("Escape")
            page.run(
                "[...document.querySelectorAll('#rows tr')]"
                ".find(e => e.textContent.includes('Lock held by'))?.click()"
            )
            time.sleep(0.2)
        page.picture(DOCS / "insight-tree.png")
        page.press("Escape")
        page.resize(360, 720)
        page.run("scrollTo(0, 0)")
        time.sleep(0.5)
        page.picture(DOCS / "insight-phone.png")
        feed = Feed(lambda: client.connect(program.pid))
        feed.start()
        drawn = runtime / "top.svg"
        asyncio.run(terminal(feed, drawn, program))
        feed.end()
        feed.join()
        page.open(f"file://{drawn}", 1100, 620)
        page.run("document.documentElement.setAttribute('width', '100%'); 0")
        time.sleep(0.5)
        page.picture(DOCS / "insight-top.png")
    shutil.rmtree(runtime)
    shop.unlink()


if __name__ == "__main__":
    main()
