"""`hoop metrics --all` gathers the numbers of all processes, and `--listen` serves them."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import threading

import pytest

from hoop.cli import commands, scraping

PROGRAM = """
import asyncio, hoop
async def main():
    await asyncio.sleep(0.01)
    print("ready", flush=True)
    await asyncio.sleep(60)
hoop.run(main(), observe=True)
"""


def alone(patch, folder):
    """Let the command find no process but those whose sockets are in this folder."""
    patch.setenv("XDG_RUNTIME_DIR", str(folder))
    patch.setenv("TMPDIR", str(folder))
    patch.setattr("tempfile.tempdir", str(folder))


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    """Two observed processes, and their pids."""
    with pytest.MonkeyPatch.context() as patch:
        alone(patch, tmp_path_factory.mktemp("run"))
        found = [
            subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        assert [one.stdout.readline() for one in found] == ["ready\n"] * 2
        yield sorted(one.pid for one in found)
        for one in found:
            one.kill()
            one.wait()
            one.stdout.close()


def pids_of(text: str) -> list[int]:
    """The pids for which there is a sample of a loop's turns."""
    parser = pytest.importorskip(
        "prometheus_client.parser", reason="prometheus_client is not installed"
    )
    families = {family.name: family for family in parser.text_string_to_metric_families(text)}
    return sorted(int(sample.labels["pid"]) for sample in families["hoop_loop_turns"].samples)


def test_all_processes_are_in_one_text(processes, capsys):
    assert commands.main("metrics", ["--all"]) == 0
    assert pids_of(capsys.readouterr().out) == processes


def test_prometheus_can_fetch_them(processes):
    with scraping.server_of("127.0.0.1:0") as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        connection = http.client.HTTPConnection(*server.server_address, timeout=10)
        try:
            connection.request("GET", "/metrics")
            answer = connection.getresponse()
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            assert pids_of(answer.read().decode()) == processes
            connection.close()
            connection.request("GET", "/")
            assert connection.getresponse().status == 404
        finally:
            connection.close()
            server.shutdown()
            thread.join()


def test_one_that_ended_is_left_out(processes, tmp_path, monkeypatch):
    alone(monkeypatch, tmp_path)
    (tmp_path / "hoop").mkdir(mode=0o700)
    (tmp_path / "hoop" / f"{os.getpid()}.sock").touch()
    assert scraping.metrics_of_all() == ""


@pytest.mark.parametrize("address", ["9464", "127.0.0.1:", "127.0.0.1:x"])
def test_an_address_has_a_host_and_a_port(address, capsys):
    assert commands.main("metrics", ["--listen", address]) == 2
    assert "HOST:PORT" in capsys.readouterr().err
