"""`hoop web`: the page in a real browser, of a server under load, and the small server of the page."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import threading
from collections.abc import Iterator

import browser
import pytest
from serving import GUILTY, HOLDS, SERVER, serving_program

from hoop.cli import client, web
from hoop.cli.feed import Feed


@contextlib.contextmanager
def serving_page(pid: int) -> Iterator[web.Server]:
    """Serve the page of a process."""
    feed = Feed(lambda: client.connect(pid))
    with web.Server(feed) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        feed.start()
        try:
            yield server
        finally:
            server.shutdown()
            feed.end()
            feed.join()
            thread.join()
    for thread in threading.enumerate():
        if "process_request_thread" in thread.name:
            thread.join(5)


@pytest.fixture
def server(observed) -> Iterator[web.Server]:
    with serving_page(observed.pid) as served:
        yield served


@pytest.fixture(autouse=True)
def nothing_left():
    """Count no descriptors: a browser opens and closes connections to the page's server when it likes."""


# ---- the HTTP server ---------------------------------------------------------------------------------


def ask(server: web.Server, path: str, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=15)
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    response.body = response.read() if "events" not in path else b""
    connection.close()
    return response


def test_it_listens_on_this_machine_only(server):
    assert server.server_address[0] == "127.0.0.1"
    assert server.url == f"http://127.0.0.1:{server.server_address[1]}/{server.token}/"


@pytest.mark.parametrize("path", ["/", "/x/", "/favicon.ico", "/x/events", "/x/get/tasks"])
def test_without_the_token_there_is_nothing(server, path):
    answer = ask(server, path)
    assert answer.status == 404
    assert b"<html" not in answer.body


@pytest.mark.parametrize("path", ["", "get/tasks", "events"])
@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "", "127.0.0.1.evil.example"])
def test_another_host_is_refused(server, host, path):
    """A page of another site may have its name lead to this machine."""
    assert ask(server, f"/{server.token}/{path}", Host=host).status == 421


@pytest.mark.parametrize("host", ["localhost:9000", "127.0.0.1", "[::1]:5"])
def test_a_forwarded_port_works(server, host):
    assert ask(server, f"/{server.token}/", Host=host).status == 200


def test_the_page_may_do_nothing_else(server):
    answer = ask(server, f"/{server.token}/")
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-store"
    assert b"http://" not in answer.body.replace(b"http://www.w3.org/2000/svg", b"")
    assert b"https://" not in answer.body


def test_tables_are_answered_with_rows(server):
    answer = ask(server, f"/{server.token}/get/tasks?top=2&sort=age")
    rows = json.loads(answer.body)["rows"]
    assert len(rows) == 2
    assert {"id", "coroutine", "label"} <= set(rows[0])


@pytest.mark.parametrize("path", ["get/nonsense", "get/", "other", "get/overview"])
def test_there_is_nothing_else(server, path):
    assert ask(server, f"/{server.token}/{path}").status == 404


def test_it_only_answers_get(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=15)
    connection.request("POST", f"/{server.token}/get/tasks")
    assert connection.getresponse().status == 501
    connection.close()


# ---- the page in a browser -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium() -> Iterator[browser.Browser]:
    if browser.path() is None:
        pytest.skip("there is no Chromium; Debian's package is chromium")
    with browser.browser() as found:
        yield found


@pytest.fixture
def page(chromium, server) -> Iterator[browser.Browser]:
    """The page, open in the browser. After the test it has complained of nothing and asked nobody else."""
    chromium.errors.clear()
    chromium.requests.clear()
    chromium.open(server.url)
    chromium.wait_for("document.querySelectorAll('#rows tr').length > 5")
    yield chromium
    assert chromium.errors == []
    assert {url for url in chromium.requests if not url.startswith((server.url, "data:"))} == set()
    chromium.open("about:blank#")
    chromium.requests.clear()


def test_numbers_move(page):
    page.wait_for("document.querySelector('#tile-callbacks .value').textContent !== '\\u2013'")
    texts = "[...document.querySelectorAll('.tile .value')].map(e => e.textContent).join()"
    before = page.run(texts)
    page.wait_for(f"{texts} !== {json.dumps(before)}")
    assert page.run("document.querySelector('#state').textContent") == "live"
    assert page.run("document.querySelector('#program').textContent") == SERVER.name
    page.wait_for("document.querySelector('#tile-idle path.curve') !== null")


def cells(page: browser.Browser, n: int) -> list[str]:
    """The texts of a column."""
    return page.run(
        f"[...document.querySelectorAll('#rows tr')].map(r => r.children[{n}].textContent)"
    )


def test_a_table_is_sorted_by_a_click(page):
    page.click("th button[data-field=id]")
    page.wait_for("document.querySelector('th[aria-sort=ascending] [data-field=id]') !== null")
    page.click("#pause")
    ids = [int(text) for text in cells(page, 1)]
    assert ids == sorted(ids)
    page.click("th button[data-field=id]")
    ids = [int(text) for text in cells(page, 1)]
    assert ids == sorted(ids, reverse=True)
    page.click("#pause")


def test_rows_are_filtered(page):
    page.press("/")
    page.wait_for("document.activeElement.id === 'filter'")
    page.run(
        "document.activeElement.value = 'no such text'; filter.dispatchEvent(new Event('input'))"
    )
    page.wait_for("document.querySelectorAll('#rows tr').length === 0")
    assert page.run("document.querySelector('#empty').textContent") == "No row has this text."
    page.run("filter.value = ''; filter.dispatchEvent(new Event('input'))")
    page.wait_for("document.querySelectorAll('#rows tr').length > 5")


def test_a_request_of_uvicorn_has_its_label(page):
    page.wait_for(
        "[...document.querySelectorAll('#rows td')]"
        ".some(e => e.textContent.startsWith('GET /report 127.0.0.1:'))"
    )


def test_the_drawer_shows_the_await_tree(page):
    page.wait_for(
        "(() => { const line = [...document.querySelectorAll('#rows tr')]"
        ".find(e => e.textContent.includes('Shop.part'));"
        "if (line) line.click(); return Boolean(line) })()"
    )
    page.wait_for("document.querySelectorAll('#drawer ul.tree .node').length > 1")
    tree = page.run("document.querySelector('#drawer ul.tree').textContent")
    assert "Shop.part" in tree
    assert "run_asgi" in tree
    page.press("Escape")
    page.wait_for("document.querySelector('#drawer').hidden")


@pytest.mark.parametrize(
    "tab",
    ["sites", "connections", "servers", "locks", "pools", "timers", "children", "stalls", "cycles"],
)
def test_each_table_opens(page, tab):
    page.click(f"#tab-{tab}")
    page.wait_for(f"document.querySelector('#tab-{tab}').getAttribute('aria-selected') === 'true'")
    heads = page.run("[...document.querySelectorAll('th')].map(e => e.textContent)")
    assert len(heads) > 1
    page.wait_for(
        "!document.querySelector('#empty').hidden || document.querySelector('#rows tr') !== null"
    )


def test_a_blocked_loop_is_shown_while_it_is_blocked(page, observed):
    with observed.blocked("/block?key=secret"):
        page.wait_for("document.querySelector('#stall.now .place') !== null")
        text = page.run("document.querySelector('#stall').innerText")
    assert f"{SERVER.name}:{GUILTY}" in text
    assert "BLOCKED for" in text
    assert "render" in text
    assert "GET /block 127.0.0.1:" in text
    assert "secret" not in text
    size = page.run(
        "parseFloat(getComputedStyle(document.querySelector('#stall .place')).fontSize)"
    )
    assert size >= 24
    page.wait_for("document.querySelector('#stall').className === 'over'")
    assert f"{SERVER.name}:{GUILTY}" in page.run("document.querySelector('#stall').innerText")
    page.wait_for("document.querySelector('.tile path.mark') !== null")


def test_a_process_that_cannot_answer_is_shown(page, observed):
    """The line is shown as well: the watcher has written it down for those outside."""
    with observed.blocked("/hold"):
        page.wait_for("document.querySelector('#state').textContent === 'no answer'")
        # The page may ask before the watcher has written.
        page.wait_for(
            f"document.querySelector('#stall').innerText.includes('{SERVER.name}:{HOLDS}')"
        )
        text = page.run("document.querySelector('#stall').innerText")
    assert "BLOCKED for" in text
    assert "the process cannot answer" in text
    assert "as the system tells:\n" in text
    page.wait_for("document.querySelector('#state').textContent === 'live'")
    page.wait_for("document.querySelector('#stall').className === 'over'")


@pytest.mark.parametrize("dark", [False, True])
def test_it_is_light_and_dark(page, dark):
    page.paint(dark)
    page.wait_for(f"document.documentElement.dataset.theme === '{'dark' if dark else 'light'}'")
    paper = page.run("getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, paper[4:-1].split(","))) < 128) == dark
    page.click("#theme")
    page.wait_for(f"document.documentElement.dataset.theme === '{'light' if dark else 'dark'}'")
    page.click("#theme")


def test_it_fits_a_phone(page):
    page.resize(360, 740)
    page.wait_for("innerWidth === 360")
    assert page.run("document.documentElement.scrollWidth") == 360
    page.wait_for("document.querySelector('#rows tr') !== null")
    page.run("document.querySelector('#rows tr').click()")
    page.wait_for("!document.querySelector('#drawer').hidden")
    assert page.run("document.querySelector('#drawer').getBoundingClientRect().width") == 360
    page.press("Escape")
    page.resize(1280, 900)


def test_it_says_when_the_program_has_ended(chromium, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with serving_program(tmp_path) as program, serving_page(program.pid) as server:
        chromium.open(server.url)
        chromium.wait_for("document.querySelector('#state').textContent === 'live'")
        os.kill(program.pid, 9)
        chromium.wait_for("document.querySelector('#state').className === 'lost'")
        assert chromium.errors == []
        chromium.open("about:blank#")
