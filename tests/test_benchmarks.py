"""The benchmarks run, judge rightly, and survive contestants that do not."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import hoop

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
SOURCE = Path(hoop.__file__).parent.parent

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")


@pytest.fixture
def load(monkeypatch):
    """A function that imports a module of the benchmarks, which is forgotten after the test."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(BENCHMARKS)):
            del sys.modules[name]


def run_script(script: str, *arguments: str, path: Path | None = None) -> str:
    """Run a script of the benchmarks on this hoop and return what it printed."""
    done = subprocess.run(
        [sys.executable, BENCHMARKS / script, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, filter(None, (path, SOURCE))))},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


# ---- the table of rows -------------------------------------------------------------------------------


def test_no_two_rows_have_one_name(load):
    names = [row.name for row in load("rows").ROWS]
    assert len(set(names)) == len(names)


def test_no_two_contestants_of_a_row_have_one_label(load):
    for row in load("rows").ROWS:
        labels = [contestant.label for contestant in row.contestants]
        assert len(set(labels)) == len(labels), row.name


def test_what_contestants_do_exists(load):
    find = load("workloads").find
    for row in load("rows").ROWS:
        for contestant in row.contestants:
            if contestant.loop:
                assert callable(find(contestant.what)), row.name
            else:
                assert (BENCHMARKS / "floor" / f"{contestant.what}.c").exists(), row.name


def test_every_group_has_a_heading(load):
    headings = load("report").GROUPS
    assert {row.group for row in load("rows").ROWS} == set(headings)


def test_the_chart_draws_rows_that_are_measured_by_default(load):
    report = load("report")
    measured = {row.name for row in load("rows").ROWS if row.default}
    assert {*report.CHART_SERVED, *report.CHART_WORK} <= measured


# ---- the verdict ---------------------------------------------------------------------------------------


def made_up_row(**cpu_us: list[float]) -> dict:
    roles = {"floor": "floor", "ours": "ours", "other": "other"}
    return {
        "name": "row",
        "group": "echo",
        "title": "a row",
        "unit": "request",
        "judged": ["cpu_us"],
        "roles": {name: roles[name] for name in cpu_us},
        "samples": {name: [{"cpu_us": x} for x in values] for name, values in cpu_us.items()},
        "failures": {},
        "absent": {},
    }


def test_a_ratio_is_the_median_of_the_ratios_of_the_rounds(load):
    row = made_up_row(ours=[1.0, 20.0, 3.0], other=[2.0, 10.0, 3.0])
    assert load("report").ratio(row, "ours", "other", "cpu_us") == 1.0


@pytest.mark.parametrize(
    ("ours", "loses"),
    [
        ([1.1, 1.1, 1.1, 1.1], True),
        ([1.02, 1.02, 1.02, 1.02], False),  # within what is taken for noise
        ([1.5, 1.5, 0.9, 0.9], False),  # the rounds do not agree
        ([0.9, 0.9, 0.9, 0.9], False),
    ],
)
def test_a_loss_is_beyond_noise_and_the_rounds_agree_on_it(load, ours, loses):
    row = made_up_row(ours=ours, other=[1.0] * 4)
    assert bool(list(load("report").losses(row))) is loses


def test_the_floor_is_not_what_hoop_loses_to(load):
    row = made_up_row(floor=[1.0] * 4, ours=[2.0] * 4)
    assert list(load("report").losses(row)) == []


def test_a_report_names_losses_and_failures(load):
    report = load("report")
    row = made_up_row(floor=[1.0] * 4, ours=[3.0] * 4, other=[2.0] * 4)
    row["failures"] = {"crasher": "it ended with -11"}
    facts = {
        "date": "today",
        "kernel": "Linux",
        "machine": "x",
        "cpus": 2,
        "python": "Python",
        "versions": {"ours": "1"},
        "absent": {"rival": "No module named 'rival'"},
        "load_average": 0.0,
        "pinned": "nothing",
        "minutes": 1.0,
        "command": "make bench",
    }
    text = report.document({"facts": facts, "rows": [row]}, chart=None)
    assert "- **a row** (`row`): ours 1.50 times the CPU of other." in text
    assert "- crasher, in `row`: failed: it ended with -11." in text
    assert "- rival: not here: No module named 'rival'." in text
    assert "| `row` | ours | 3.0 µs | 3.00 |" in text


def test_growth_is_cost_divided_by_the_least_of_the_sizes_up_to_it(load):
    rows = []
    for size, cost in ((1, 4.0), (10, 2.0), (100, 3.0)):
        row = made_up_row(ours=[cost], other=[1.0])
        rows.append({**row, "family": "scale-made-up", "size": size})
    (text,) = load("report").growth_tables([*rows, made_up_row(ours=[9.0])])
    assert text.splitlines()[2:] == [
        "| 1 | 1.00 | 1.00 |",
        "| 10 | 1.00 | 1.00 |",
        "| 100 | 1.50 | 1.00 |",
    ]


def test_the_rows_of_a_family_differ_in_their_size(load):
    families: dict[str, list[int]] = {}
    for row in load("rows").ROWS:
        if row.size:
            assert row.name == f"{row.family}-{row.size}"
            families.setdefault(row.family, []).append(row.size)
    assert all(len(sizes) > 2 and sizes == sorted(set(sizes)) for sizes in families.values())


def test_more_connections_than_descriptors_is_said(load, monkeypatch):
    entries = load("entries")
    monkeypatch.setattr(entries.resource, "getrlimit", lambda _: (20_000, 20_000))
    entries.check_descriptors(19_000)
    with pytest.raises(load("processes").Absent, match=r"50,000 connections .* limit of 20,000"):
        entries.check_descriptors(50_000)


# ---- running it ------------------------------------------------------------------------------------------

CRASHES = "import os; os.abort()"
CRASHES_WHEN_SERVING = """
    import asyncio, os, sys

    class Loop(asyncio.SelectorEventLoop):
        async def create_server(self, *args, **kwargs):
            print("out of luck", file=sys.stderr, flush=True)
            sys.exit(1)

    new_event_loop = Loop
"""


@needs_compiler
def test_all_that_is_there_is_compared_and_who_crashes_is_a_line(tmp_path):
    (tmp_path / "zuvloop.py").write_text(CRASHES)
    (tmp_path / "rsloop.py").write_text(
        textwrap.dedent(CRASHES_WHEN_SERVING) + "__version__ = 'none'\n"
    )
    rows = (
        "--rows",
        "echo-protocol-64-50,call_soon",
        "--loops",
        "hoop-epoll,asyncio,zuvloop,rsloop",
    )
    printed = run_script("compare.py", "--quick", *rows, "--output", str(tmp_path), path=tmp_path)
    results = json.loads((tmp_path / "samples.json").read_text())
    echo, call_soon = results["rows"]
    assert {"C epoll", "hoop-epoll", "asyncio", "threads"} <= set(echo["samples"])
    assert set(call_soon["samples"]) >= {"hoop-epoll", "asyncio"}
    echo["failures"].pop("C io_uring", None)  # where the kernel refuses it
    assert echo["failures"] == {"rsloop": "out of luck"}
    assert results["facts"]["absent"]["zuvloop"] == "it ended with -6"
    assert all(
        sample["cpu_us"] > 0
        for row in results["rows"]
        for s in row["samples"].values()
        for sample in s
    )
    assert "rsloop failed (out of luck)" in printed
    assert "zuvloop: not here: it ended with -6" in (tmp_path / "benchmarks.md").read_text()


@needs_compiler
def test_a_report_can_be_made_again(tmp_path):
    rows = ("--rows", "call_soon", "--loops", "hoop-epoll")
    run_script("compare.py", "--quick", *rows, "--output", str(tmp_path))
    first = (tmp_path / "benchmarks.md").read_text()
    run_script("compare.py", "--from", str(tmp_path / "samples.json"), "--output", str(tmp_path))
    assert (tmp_path / "benchmarks.md").read_text() == first


@needs_compiler
def test_a_message_to_all_and_a_herd_are_measured(tmp_path):
    rows = ("--rows", "scale-broadcast-100,scale-herd-100,scale-writers-16,scale-timers-1000")
    run_script("compare.py", "--quick", *rows, "--loops", "hoop-epoll", "--output", str(tmp_path))
    results = json.loads((tmp_path / "samples.json").read_text())
    for row in results["rows"]:
        assert row["failures"] == {}, row["name"]
        assert row["samples"]["hoop-epoll"], row["name"]


def test_instructions_of_work_can_be_counted():
    run_script("worker.py", "count", "hoop-epoll", "scheduling:socket_pair", '{"operations": 100}')


def test_simulations_are_measured():
    printed = run_script("simulation.py", "--quick", "--rows", "small,small-server")
    rows = re.findall(
        r"^\| a small test: .* \| .* m?s \| [\d,.]+ \| [\d,]+ \|", printed, re.MULTILINE
    )
    assert len(rows) == 2
    assert "small-server: 12 operations a run" in printed


def test_a_short_soak_finds_nothing():
    printed = run_script("soak.py", "--minutes", "0.05")
    assert "all that was sent came back, and nothing was left over" in printed


def test_chart_shows_the_tables(load):
    """By hand: `python benchmarks/chart.py`."""
    docs = BENCHMARKS.parent / "docs"
    drawn = load("chart").charts((docs / "benchmarks.md").read_text())
    assert set(drawn) == {"chart-light.svg", "chart-dark.svg"}
    assert {name: (docs / name).read_text() for name in drawn} == drawn
