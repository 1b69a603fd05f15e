"""A headless Chromium, driven through pipes by its DevTools protocol. Nothing has to be installed but it."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    *("--headless=new", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-extensions", "--hide-scrollbars", "--disable-dev-shm-usage", "--no-proxy-server"),
    "--no-sandbox",  # as root there is none
)
WITHIN = 15.0

# Chromium reads its commands from descriptor 3 and writes to 4. This puts the pipes there, and then runs it.
START = """
import fcntl, os, sys
kept = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1:3]]
for fd, to in zip(kept, (3, 4)):
    os.dup2(fd, to)
os.execv(sys.argv[3], sys.argv[3:])
"""


def path() -> str | None:
    """Where Chromium is; None if it is not installed."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """A page in the browser. `requests` are the addresses that it asked for, `errors` its complaints."""

    def __init__(self, sends: int, receives: int) -> None:
        self.sends = sends
        self.receives = receives
        self.came = b""
        self.number = 0
        self.session: str | None = None
        self.requests: list[str] = []
        self.errors: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        found = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = found["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def receive(self, until: float) -> dict[str, Any]:
        """The next message."""
        while b"\0" not in self.came:
            ready, _, _ = select.select([self.receives], [], [], max(until - time.monotonic(), 0))
            if not ready:
                raise TimeoutError("the browser does not answer")
            data = os.read(self.receives, 1 << 20)
            if not data:
                raise ConnectionError("the browser has ended")
            self.came += data
        line, _, self.came = self.came.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        self.note(message)
        return message

    def note(self, message: dict[str, Any]) -> None:
        """Keep requests and complaints."""
        given, method = message.get("params", {}), message.get("method")
        if method == "Network.requestWillBeSent":
            self.requests.append(given["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            details = given["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Runtime.consoleAPICalled" and given["type"] in ("error", "warning"):
            self.errors.append(str([one.get("value") for one in given["args"]]))
        elif method == "Log.entryAdded" and given["entry"]["level"] in ("error", "warning"):
            self.errors.append(f"{given['entry']['text']} {given['entry'].get('url', '')}")

    def call(self, method: str, **given: Any) -> dict[str, Any]:
        """Call a method of the protocol."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": given}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.sends, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + WITHIN
        while (answer := self.receive(until)).get("id") != self.number:
            pass
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def run(self, code: str) -> Any:
        """Run JavaScript in the page, and return its value."""
        done = self.call("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def wait_for(self, code: str) -> Any:
        """Run JavaScript again and again until its value is true, and return that."""
        until = time.monotonic() + WITHIN
        while not (value := self.run(code)):
            assert time.monotonic() < until, (
                f"never true: {code}\n{self.run('document.body.innerText')}"
            )
            time.sleep(0.05)
        return value

    def open(self, url: str, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Open a page in a window of that size."""
        self.resize(width, height)
        self.paint(dark)
        self.call("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    def resize(self, width: int, height: int) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def paint(self, dark: bool) -> None:
        """Prefer dark or light pages."""
        wanted = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[wanted])

    def press(self, key: str) -> None:
        """Press a key, as its name in JavaScript is."""
        text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def click(self, selector: str) -> None:
        """Click with the mouse into the middle of an element."""
        at = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'nearest'}); const r = e.getBoundingClientRect();"
            "return [r.x + r.width / 2, r.y + r.height / 2] })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call(
                "Input.dispatchMouseEvent", type=kind, x=at[0], y=at[1], button="left", clickCount=1
            )

    def picture(self, file: Path) -> None:
        """Write a picture of the window, as PNG."""
        taken = self.call("Page.captureScreenshot", format="png")
        file.write_bytes(base64.b64decode(taken["data"]))


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """Start Chromium, and end it."""
    program = path()
    assert program is not None
    with contextlib.ExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        commands, sends = os.pipe()
        receives, answers = os.pipe()
        process = subprocess.Popen(
            [
                *(sys.executable, "-S", "-c", START, str(commands), str(answers)),
                *(program, *FLAGS, f"--user-data-dir={home}", "about:blank"),
            ],
            pass_fds=(commands, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": home},
            start_new_session=True,
        )
        os.close(commands)
        os.close(answers)
        try:
            yield Browser(sends, receives)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            os.close(sends)
            os.close(receives)
