"""The pytest plugin: the mark, the options, the command to repeat a failure, and other plugins beside it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import types

import pytest

from hoop import simulating

TESTS = """
import asyncio
import pytest

seen = []


@pytest.fixture
def number():
    return 7


@pytest.mark.sim(seeds=10)
async def test_passes(number):
    await asyncio.sleep(1000)
    seen.append(number)


def test_it_ran_for_each_seed():
    assert seen == [7] * 11  # the first one runs twice


class TestClass:
    @pytest.mark.sim(seeds=3)
    async def test_of_a_class(self, number):
        await asyncio.sleep(self.one())

    def one(self):
        return 1

    @pytest.mark.sim(seeds=3)
    @staticmethod
    async def test_without_an_object(number):
        assert number == 7

    @pytest.mark.sim(seeds=3)
    @classmethod
    async def test_of_the_class_itself(cls, number):
        assert cls.one is TestClass.one

    @pytest.mark.sim(seeds=3)
    async def test_of_a_world(self, number, world):
        host = world.host("a", self.program)
        assert await host == number

    async def program(self):
        await asyncio.sleep(1)
        return 7


@pytest.mark.sim(seeds=50)
@pytest.mark.parametrize("name", ["a", "b"])
async def test_fails(name):
    order = []

    async def note(what):
        await asyncio.sleep(1)
        order.append(what)

    await asyncio.gather(note(1), note(2))
    assert order == [1, 2]


@pytest.mark.sim(seeds=5)
async def test_hangs():
    await asyncio.Event().wait()
"""

# Without it some versions of pytest-asyncio warn, and these tests take warnings for errors.
SCOPE = ("-o", "asyncio_default_fixture_loop_scope=function")


def pytest_run(folder, *arguments, plugins=(), cwd=".", **environment):
    """Run pytest on the tests above, in a process of its own."""
    (folder / "test_shop.py").write_text(TESTS)
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    words = [word for plugin in ("hoop.simulating", *plugins) for word in ("-p", plugin)]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words, *arguments],
        cwd=folder / cwd,
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} | environment,
        capture_output=True,
        text=True,
    )
    return result.stdout + result.stderr


def test_a_failure_names_the_seed_and_the_command_that_repeats_it(tmp_path):
    output = pytest_run(tmp_path, PYTHONHASHSEED="5")
    assert "3 failed, 6 passed" in output
    assert "of 50 seeds" in output
    assert "hoop.sim.errors.Deadlock: at 0.000 s" in output
    for frames in ("simulating.py", "running.py", "runners.py", "event_loop.py"):
        assert frames not in output
    found = re.search(r"again: PYTHONHASHSEED=5 pytest '(\S+)' --sim-seed=(\d+)", output)
    assert found
    assert found[1] == "test_shop.py::test_fails[a]"
    output = pytest_run(tmp_path, found[1], f"--sim-seed={found[2]}")
    assert "1 failed" in output
    assert f"sim: seed {found[2]} failed\n" in output
    assert "  order wakes" in output
    # All seeds before the first that failed pass.
    if int(found[2]):
        assert "1 passed" in pytest_run(tmp_path, found[1], f"--sim-seeds={found[2]}")


def test_the_options_change_the_seeds_and_the_order(tmp_path):
    output = pytest_run(tmp_path, "-k", "test_fails", "--sim-order=fifo")
    assert "2 passed" in output
    output = pytest_run(tmp_path, "-k", "test_fails", "--sim-order=mix", "--sim-seeds=20")
    assert "2 failed" in output
    assert "--sim-order=mix" in output


def test_the_command_repeats_a_failure_from_a_folder_below(tmp_path):
    (tmp_path / "below").mkdir()
    output = pytest_run(tmp_path, "..", "-k", "test_hangs", cwd="below")
    found = re.search(r"again: .*pytest (\S+) (--sim-seed=0)", output)
    assert found
    assert "sim: seed 0 failed\n" in pytest_run(tmp_path, *found.groups(), cwd="below")


def test_processes_of_xdist_share_those_that_were_asked_for(tmp_path):
    pytest.importorskip("xdist")
    (tmp_path / "test_more.py").write_text(XDIST)
    words = ["test_more.py", "test_shop.py", "-k", "test_fails or test_more", "--sim-workers=6"]
    words += ["-n2", "--dist=loadfile"]
    output = pytest_run(tmp_path, *words, plugins=["xdist"], PYTHONHASHSEED="random")
    assert "3 failed, 1 passed" in output
    assert re.search(r"again: pytest 'test_shop.py::test_fails\[a\]' --sim-seed=\d+", output)
    assert output.count("hoop.sim: PYTHONHASHSEED is random") == 1
    assert "in 3 processes" in output


@pytest.mark.parametrize(
    ("asked", "processes"), [(None, None), (2, None), (3, None), (9, 4), (0, 0)]
)
def test_one_process_is_the_least(asked, processes):
    config = types.SimpleNamespace(
        option=types.SimpleNamespace(sim_workers=asked), workerinput={"workercount": 2}
    )
    assert simulating.workers_of_one(config) == processes
    del config.workerinput
    assert simulating.workers_of_one(config) == asked


XDIST = """
import os
import pytest

@pytest.fixture
def folder(tmp_path_factory):
    return tmp_path_factory.getbasetemp()


@pytest.mark.sim(seeds=60)
async def test_more_seeds(folder):
    (folder / f"process-{os.getpid()}").touch()


def test_more_processes(folder):
    '''xdist runs it in the process of the test before.'''
    pytest.fail(f"in {len(list(folder.glob('process-*')))} processes")
"""


MORE = """
import asyncio
import pytest
import hoop.sim

runs = []


async def three():
    order = []

    async def note(what):
        await asyncio.sleep(1)
        order.append(what)

    await asyncio.gather(note(1), note(2), note(3))
    return order


@pytest.mark.sim(exhaustive=True, max_runs=100, stuck=60.0)
async def test_every_schedule():
    runs.append(await three())
    assert len(set(map(tuple, runs))) < 6


@pytest.mark.sim(seeds=3, step_us=(1, 20), shrink_seconds=1.0)
async def test_fails():
    assert await three() != [3, 1, 2]


@pytest.mark.sim(exhaustive=True, order="pct")
async def test_wrong_order():
    pass
"""


def test_more_options(tmp_path):
    (tmp_path / "test_more.py").write_text(MORE)
    options = ("--sim-twice", "--sim-minutes=1", "--sim-trace=trace.jsonl")
    output = pytest_run(tmp_path, "test_more.py", *options, PYTHONHASHSEED="")
    assert "3 failed" in output
    assert "sim: schedule 6 failed" in output
    assert "again: pytest test_more.py::test_every_schedule\n" in output
    assert "exhaustive needs an order of single, wakes, starts, not 'pct'" in output
    assert "turns of 1 to 20 µs" in output
    assert "(1 of " in output  # the time ends with the first that fails
    assert output.count("PYTHONHASHSEED is random") == 1
    trace = (tmp_path / "trace.jsonl").read_text()
    first, *lines = [json.loads(line) for line in trace.splitlines()]
    assert first["k"] == "header"
    assert first["step_us"] == [1, 20]
    assert {line["k"] for line in lines} == {"choice", "step", "timer", "call"}
    again = re.search(r"test_more.py::test_fails --sim-seed=(\d+)", output)
    assert again
    output = pytest_run(tmp_path, "test_more.py::test_fails", HOOP_SIM_SEED=again[1])
    assert f"sim: seed {again[1]} failed\n" in output


@pytest.mark.parametrize(
    ("plugins", "arguments"),
    [
        (["pytest_asyncio.plugin"], [*SCOPE, "-o", "asyncio_mode=auto"]),
        (["pytest_asyncio.plugin"], [*SCOPE, "-o", "asyncio_mode=strict"]),
        (["anyio.pytest_plugin"], []),
        (["anyio.pytest_plugin"], ["-o", "anyio_mode=auto"]),
    ],
    ids=["asyncio-auto", "asyncio-strict", "anyio", "anyio-auto"],
)
def test_it_works_beside_other_plugins(tmp_path, plugins, arguments):
    pytest.importorskip(plugins[0].partition(".")[0])
    output = pytest_run(tmp_path, *arguments, plugins=plugins)
    assert "3 failed, 6 passed" in output


OUTCOMES = """
import signal
import pytest
import hoop.sim
from hoop.sim.calls import real


@pytest.mark.sim(seeds=20)
async def test_raises():
    with pytest.raises(ValueError):
        int("x" if hoop.sim.random() > 0.2 else "1")


@pytest.mark.sim(seeds=20)
async def test_says_so():
    pytest.fail("always")


@pytest.mark.sim(seeds=20)
async def test_is_skipped():
    pytest.skip("not here")


@pytest.mark.sim(seeds=20)
async def test_is_expected():
    pytest.xfail("known")


def over(*_):
    pytest.fail("the time is over")


signal.signal(signal.SIGALRM, over)


@pytest.mark.sim(seeds=20)
async def test_takes_too_long():
    real(signal.raise_signal, signal.SIGALRM)
"""


@pytest.mark.parametrize("how", [(), ("--sim-workers=2",)], ids=["", "workers"])
def test_outcomes_of_pytest_are_those_of_a_seed(tmp_path, how):
    (tmp_path / "test_outcomes.py").write_text(OUTCOMES)
    output = pytest_run(tmp_path, "test_outcomes.py", "-rs", *how)
    assert "3 failed, 1 skipped, 1 xfailed" in output
    assert re.search(r"SKIPPED \[1\] .*: not here\n", output)
    assert re.search(r"sim: seed \d+ failed \(\d+ of 20 seeds", output)
    assert output.count("sim: seed 0 failed (20 of 20 seeds") == 1
    assert "test_outcomes.py::test_says_so --sim-seed=0" in output
    assert "sim: seed 0 ended so" in output  # the time of a test ends it
    assert "test_outcomes.py::test_takes_too_long --sim-seed=0" in output


OUTPUT = """
import asyncio
import itertools
import logging
import os
import pytest

runs = itertools.count(1)


async def fails():
    raise OSError("nobody asks")


@pytest.mark.sim(seeds=20)
async def test_writes(capsys, caplog):
    print("printed to the test")
    logging.warning("a warning")
    assert capsys.readouterr().out == "printed to the test\\n"
    assert "a warning" in caplog.text


@pytest.mark.sim(seeds=20)
async def test_is_heard():
    run = next(runs)
    print(f"run {run} printed")
    os.write(2, f"run {run} wrote\\n".encode())
    logging.warning("run %s warned", run)
    asyncio.ensure_future(fails())
    await asyncio.sleep(1)
    assert False
"""


def test_only_the_output_of_the_last_run_is_shown(tmp_path):
    (tmp_path / "test_output.py").write_text(OUTPUT)
    output = pytest_run(tmp_path, "test_output.py")
    assert "1 failed, 1 passed" in output
    found = re.findall(r"run (\d+) (printed|wrote|warned)", output)
    assert {what for _, what in found} == {"printed", "wrote", "warned"}
    assert len(found) == 3
    assert len({run for run, _ in found}) == 1
    assert len(re.findall("OSError: nobody asks", output)) == 1


def test_a_wrong_word_in_the_mark_is_told(tmp_path):
    (tmp_path / "test_wrong.py").write_text(
        "import pytest\n\n\n@pytest.mark.sim(seed=3)\nasync def test_a():\n    pass\n"
    )
    output = pytest_run(tmp_path, "test_wrong.py")
    assert "takes seeds, order, limit" in output


def test_pytest_finds_the_plugin_by_itself():
    import importlib.metadata

    (found,) = importlib.metadata.entry_points(group="pytest11", name="hoop.simulating")
    assert found.load().pytest_addoption
