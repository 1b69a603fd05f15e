"""All schedules, faults, the cost of turns, files of traces, runs that are stuck, and wrong arguments."""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
import random
import re
import subprocess
import traceback

import planted
import pytest

import hoop.sim


def orders_of(count, seen):
    """A program that notes the order in which its tasks run, after a wait."""

    async def main():
        order = []
        opened = asyncio.Event()

        async def note(what):
            await opened.wait()
            order.append(what)

        tasks = [asyncio.create_task(note(i)) for i in range(count)]
        await asyncio.sleep(1)
        opened.set()
        await asyncio.gather(*tasks)
        seen.append(tuple(order))

    return main


# ---- all schedules ---------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["wakes", "single"])
def test_all_schedules_are_run(order):
    seen = []
    summary = hoop.sim.explore(orders_of(3, seen), exhaustive=True, order=order)
    assert set(seen) == set(itertools.permutations(range(3)))
    assert summary.complete
    assert summary.runs == len(seen)
    assert str(summary) == f"all {summary.runs} schedules were run"
    if order == "wakes":
        assert summary.runs == 6


@pytest.mark.parametrize("order", ["wakes", "starts", "single", "pct"])
@pytest.mark.parametrize("kind", ["callback", "watcher"])
def test_a_task_runs_after_the_callbacks_that_its_future_had_before(order, kind):
    """asyncpg needs it: a callback ends the timeout of a query, and the next query begins another."""

    async def main():
        loop = asyncio.get_running_loop()
        first, second = loop.create_future(), loop.create_future()
        if kind == "callback":
            told = loop.create_future()
            second.add_done_callback(told.set_result)
        else:
            told = hoop.gather(second)

        async def wait_for(future):
            await future
            return told.done()

        tasks = [asyncio.create_task(wait_for(future)) for future in (first, first, second)]
        await asyncio.sleep(1)
        first.set_result(None)
        second.set_result(None)
        assert await tasks[2]
        await told

    hoop.sim.explore(main, seeds=20, order=order)


def test_the_limit_of_runs_is_told():
    seen = []
    summary = hoop.sim.explore(orders_of(5, seen), exhaustive=True, max_runs=10)
    assert (summary.runs, summary.complete, len(seen)) == (10, False, 10)
    assert "there are more: max_runs ended it" in summary.text


@pytest.mark.parametrize(
    "program",
    [planted.relies_on_turn_before, planted.six_steps_ahead, planted.relies_on_first_waiter],
)
def test_a_planted_bug_is_in_one_of_all_schedules(program):
    with pytest.raises(ExceptionGroup) as caught:
        hoop.sim.explore(functools.partial(program, False), exhaustive=True)
    note = caught.value.__notes__[0]
    assert note.startswith("sim: schedule ")
    choices = eval(note.partition("choices=")[2][:-1])
    with pytest.raises(ExceptionGroup):
        hoop.sim.run(functools.partial(program, False), order="single", choices=choices)
    assert hoop.sim.explore(functools.partial(program, True), exhaustive=True).complete


def test_faults_are_among_the_schedules():
    seen = []

    async def main():
        seen.append((hoop.sim.fault("a"), hoop.sim.fault("b", 0.5)))

    hoop.sim.explore(main, exhaustive=True)
    assert sorted(seen) == [(False, False), (False, True), (True, False), (True, True)]


def test_addresses_in_the_names_of_tasks_are_no_difference():
    kept = []

    async def main():
        kept.append(object())
        task = asyncio.create_task(asyncio.sleep(1), name=f"the task of {kept[-1]!r}")
        await asyncio.wait([task])

    trace = []
    hoop.sim.explore(main, seeds=1, faults=hoop.sim.Faults(cancel=1.0))
    hoop.sim.run(main, seed=0, trace=trace, faults=hoop.sim.Faults(cancel=1.0))
    named = [line for line in trace if "the task of" in line]
    assert {line.split()[1] for line in named} == {"step", "cancel"}
    assert all("0x..." in line for line in named)


def test_schedules_that_do_not_repeat_are_told():
    runs = []

    async def main():
        runs.append(1)
        await orders_of(2 + len(runs), [])()

    with pytest.raises(hoop.sim.NotDeterministic, match="schedule 2 had other choices"):
        hoop.sim.explore(main, exhaustive=True)


def test_runs_that_differ_show_the_exception_of_the_second():
    runs = []

    async def main():
        runs.append(1)
        if len(runs) > 1:
            raise KeyError("left behind")

    with pytest.raises(hoop.sim.NotDeterministic) as caught:
        hoop.sim.explore(main)
    assert repr(caught.value.__cause__) == "KeyError('left behind')"


@pytest.mark.parametrize("in_group", [False, True])
def test_a_process_that_is_asked_for_once_is_told_by_its_name(in_group):
    begun = []

    async def begin_process():
        if not begun:
            begun.append(1)
            subprocess.run(["true"], check=True)

    async def main():
        if in_group:
            async with asyncio.TaskGroup() as group:
                group.create_task(begin_process())
        else:
            await begin_process()

    kind = ExceptionGroup if in_group else hoop.sim.Unsimulated
    with pytest.raises(kind) as caught:
        hoop.sim.explore(main)
    assert "subprocess.Popen()" in "".join(traceback.format_exception(caught.value))
    assert "not repeated" in caught.value.__notes__[0]
    assert "same trace" not in caught.value.__notes__[0]
    assert "seed 0" in caught.value.__notes__[0]


def test_addresses_in_the_text_of_an_exception_are_no_difference():
    kept = []

    async def main():
        kept.append(object())
        raise AssertionError(f"where 1 = {kept[-1]}.sold")

    with pytest.raises(AssertionError, match="sold") as caught:
        hoop.sim.explore(main, seeds=2)
    assert "replayed: same trace" in caught.value.__notes__[0]


# ---- faults and numbers ----------------------------------------------------------------------------


def test_faults_come_as_often_as_the_seed_says_and_never_outside():
    assert not any(hoop.sim.fault("x", 1.0) for _ in range(10))
    counts = []

    async def main():
        counts.append(sum(hoop.sim.fault("x") for _ in range(200)))
        assert not hoop.sim.fault("never", 0.0)
        assert hoop.sim.fault("sure", 1.0)

    hoop.sim.explore(main, seeds=50)
    assert min(counts) < 10
    assert max(counts) > 80
    counts.clear()
    hoop.sim.run(main, seed=3)
    hoop.sim.run(main, seed=3)
    assert counts[0] == counts[1]


def test_the_report_counts_faults_and_marks_those_that_never_came():
    async def main():
        for _ in range(20):
            await asyncio.sleep(1)
            hoop.sim.fault("harmless", 0.5)
            hoop.sim.fault("unheard of", 0.0)
            if hoop.sim.fault("fatal", 0.1):
                raise ValueError

    with pytest.raises(ValueError) as caught:  # noqa: PT011
        hoop.sim.explore(main, seeds=20)
    note = caught.value.__notes__[0]
    assert " harmless, 0 unheard of (!), 1 fatal\n" in note
    assert "1 that matters" in note
    assert "the fault 'fatal' comes" in note


def test_the_time_that_a_turn_takes_is_told_in_words():
    async def main():
        await asyncio.sleep(0)
        assert hoop.sim.now() < 20e-6

    with pytest.raises(AssertionError, match="assert") as caught:
        hoop.sim.explore(main, seeds=20, step_us=(1, 20))
    assert re.search(r"a turn takes \d+ µs more\n", caught.value.__notes__[0])


def test_numbers_are_shrunk_to_nothing_where_they_do_not_matter():
    hoop.sim.random()
    small = []

    async def main():
        a = hoop.sim.random()
        await asyncio.sleep(2)
        b = hoop.sim.random()
        small.append(a)
        assert b < 0.5

    with pytest.raises(AssertionError, match="assert") as caught:
        hoop.sim.explore(main, seeds=20)
    assert "1 that matters" in caught.value.__notes__[0]
    assert re.search(r"2\.000 s  hoop\.sim\.random\(\) is 0\.[5-9]", caught.value.__notes__[0])
    assert small[-1] == 0.0
    assert 0 <= min(small) < max(small) < 1


@pytest.mark.parametrize(
    ("arguments", "error"), [(("x", 2), ValueError), (("x", -0.1), ValueError), ((7,), TypeError)]
)
def test_wrong_faults_are_refused(arguments, error):
    async def main():
        hoop.sim.fault(*arguments)

    with pytest.raises(error):
        hoop.sim.run(main)


# ---- the cost of turns -----------------------------------------------------------------------------


def test_turns_may_take_time():
    async def main():
        for _ in range(100):
            await asyncio.sleep(0)
        return hoop.sim.now()

    assert hoop.sim.run(main) == 0
    assert 100e-6 <= hoop.sim.run(main, step_us=(1, 9)) <= 110 * 9e-6
    assert hoop.sim.run(main, step_us=(5, 5)) == pytest.approx(500e-6, rel=0.1)
    assert hoop.sim.run(main, step_us=(1, 9)) == hoop.sim.run(main, step_us=(1, 9))


# ---- traces in files -------------------------------------------------------------------------------


def test_a_trace_goes_to_a_file_and_comes_back_as_choices(tmp_path):
    path = tmp_path / "trace.jsonl"
    seen = []
    hoop.sim.run(orders_of(4, seen), seed=5, trace=path)
    first, *lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert first["hoop"]
    assert first["python"].startswith("3.")
    assert (first["seed"], first["order"]) == (5, "wakes")
    assert {"t": 0, "k": "step", "who": "Task-1", "d": "orders_of.<locals>.main"} in lines
    assert any(
        line["k"] == "choice" and line["site"] == "order" and line["n"] == 4 for line in lines
    )
    hoop.sim.run(orders_of(4, seen), seed=5, choices=str(path))
    assert seen[0] == seen[1] != (0, 1, 2, 3)
    hoop.sim.run(orders_of(4, seen), seed=5, choices=[])
    assert seen[2] == (0, 1, 2, 3)


def test_a_seed_that_passes_alone_is_traced_too(tmp_path):
    path = tmp_path / "trace.jsonl"
    hoop.sim.explore(orders_of(2, []), seeds=[5], trace=path)
    first, *lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert first["seed"] == 5
    assert {"choice", "step", "timer"} <= {line["k"] for line in lines}


def test_a_trace_of_other_settings_is_refused(tmp_path):
    path = tmp_path / "trace.jsonl"
    given = {"order": "single", "step_us": (1, 9), "names": {"db": "10.0.0.2"}}
    given["faults"] = hoop.sim.Faults(reset=0.5)
    hoop.sim.run(orders_of(4, []), seed=5, trace=path, **given)
    hoop.sim.run(orders_of(4, []), seed=5, choices=path, **given)
    for name in given:
        others = {other: value for other, value in given.items() if other != name}
        with pytest.raises(ValueError, match=rf"trace of a run with {name} .* the same {name}"):
            hoop.sim.run(orders_of(4, []), seed=5, choices=path, **others)
    with pytest.raises(ValueError, match="with seed 5, not 6: give"):
        hoop.sim.run(orders_of(4, []), seed=6, choices=path, **given)


def test_the_call_that_repeats_a_run_has_all_that_was_given():
    async def main():
        raise KeyError

    given = {"limit": 60.0, "step_us": (1, 9), "disk": hoop.sim.Disk(), "names": {"db": "::2"}}
    with pytest.raises(KeyError) as caught:
        hoop.sim.explore(main, seeds=2, order="fifo", **given)
    call = caught.value.__notes__[0].partition("again: ")[2].partition(" with PYTHON")[0]
    with pytest.raises(KeyError):
        eval(call, {"hoop": hoop, "main": main, "disk": given["disk"]})
    for name in given:
        assert f", {name}=" in call


@pytest.mark.parametrize("text", ["x", "[]", '{"k": "choice", "site": "a"}', "{}"])
def test_a_file_that_is_no_trace_is_refused(tmp_path, text):
    (tmp_path / "trace").write_text(text)
    with pytest.raises(ValueError, match="trace:1 is no line of a trace"):
        hoop.sim.run(asyncio.sleep, choices=tmp_path / "trace")


# ---- stuck -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("swallow", [False, True])
def test_code_that_does_not_come_back_is_stuck(swallow):
    async def spin():
        while True:
            try:
                sum(range(100))
            except Exception:
                if not swallow:
                    raise

    async def main():
        await asyncio.sleep(2)
        await asyncio.gather(spin(), asyncio.sleep(1))

    where = r"(?s)at 2\.000 s.*for 0\.05 s of real.*in spin"
    function = hoop.sim.run if swallow else hoop.sim.explore
    with pytest.raises(hoop.sim.Stuck, match=where) as caught:
        function(main, stuck=0.05)
    if not swallow:
        assert "sim: seed 0 failed\n" in caught.value.__notes__[0]


@pytest.mark.parametrize("stuck", [None, 60, 0.5e9])
def test_a_run_whose_turns_end_is_not_stuck(stuck):
    async def main():
        for _ in range(20):
            await asyncio.sleep(1000)
        return hoop.sim.now()

    assert hoop.sim.run(main, stuck=stuck, limit=1e6) == pytest.approx(20_000)


# ---- seeds from elsewhere, and wrong arguments -----------------------------------------------------


def test_a_seed_of_the_environment_is_the_only_one(monkeypatch):
    seen = []

    async def main():
        seen.append(random.random())

    monkeypatch.setenv("HOOP_SIM_SEED", "7")
    summary = hoop.sim.explore(main, seeds=50)
    assert str(summary) == "1 seed passed"
    hoop.sim.run(main, seed=7)
    assert len(set(seen)) == 1
    monkeypatch.setenv("HOOP_SIM_SEED", "seven")
    with pytest.raises(ValueError, match="HOOP_SIM_SEED must be a whole number, not 'seven'"):
        hoop.sim.explore(main)


async def nothing():
    pass


WRONG_SETTINGS = [
    ({"depth": 0}, ValueError, "depth must be a number from 1 to 1000"),
    ({"limit": 0}, ValueError, "limit must be greater than 0"),
    ({"limit": "1"}, TypeError, "limit must be a number, not str"),
    ({"stuck": -1}, ValueError, "stuck must be greater than 0"),
    ({"stuck": True}, TypeError, "stuck must be a number, not bool"),
    ({"step_us": 5}, ValueError, "step_us must be two numbers"),
    ({"step_us": (5, 1)}, ValueError, "step_us must be two numbers"),
    ({"step_us": (0.5, 1)}, ValueError, "step_us must be two numbers"),
]


def test_wrong_settings_are_refused():
    for wrong, error, text in WRONG_SETTINGS:
        for function in (hoop.sim.run, hoop.sim.explore):
            with pytest.raises(error, match=text):
                function(nothing, **wrong)


WRONG_EXPLORATIONS = [
    ({"seeds": 0}, ValueError, "seeds must be 1 or greater"),
    ({"seeds": True}, TypeError, "seeds must be a whole number"),
    ({"seeds": "x"}, TypeError, "seeds must be a whole number, or several, not str"),
    ({"seeds": 1.5}, TypeError, "seeds must be a whole number, or several, not float"),
    ({"seeds": []}, ValueError, "at least one seed"),
    ({"seeds": ["1"]}, TypeError, "a seed must be a whole number, not str"),
    ({"shrink_seconds": -1}, ValueError, "shrink_seconds must be from 0"),
    ({"exhaustive": True, "order": "mix"}, ValueError, "not 'mix'"),
    ({"exhaustive": True, "max_runs": 0}, ValueError, "max_runs must be 1 or greater"),
    ({"exhaustive": True, "max_runs": 1.5}, TypeError, "max_runs must be a whole number"),
]


def test_wrong_explorations_are_refused():
    for wrong, error, text in WRONG_EXPLORATIONS:
        with pytest.raises(error, match=text):
            hoop.sim.explore(nothing, **wrong)


@pytest.mark.parametrize("function", [hoop.sim.run, hoop.sim.explore])
def test_main_must_be_a_coroutine_function(function):
    with pytest.raises(TypeError, match=r"main, not main\(\)"):
        function(nothing())
    with pytest.raises(TypeError, match="must be a coroutine function, not int"):
        function(7)
    with pytest.raises(TypeError, match="seed must be a whole number"):
        hoop.sim.run(nothing, seed="7")
    with pytest.raises(TypeError, match=r"choices must be a sequence, or a file .*, not int"):
        hoop.sim.run(nothing, choices=5)
    for wrong in ([1], [("order", 1)], [("order", 1, -1)], [(1, 2, 3)], ["abc"]):
        with pytest.raises(TypeError, match=r"choices must be \(site, n, value\)"):
            hoop.sim.run(nothing, choices=wrong)


# ---- tasks of asyncio's own class -----------------------------------------------------------------


async def woken_together(make):
    """The order in which tasks run that one future has woken. A callback was added before they waited."""
    loop = asyncio.get_running_loop()
    done, ran = loop.create_future(), []

    async def wait(i):
        await done
        ran.append(i)

    done.add_done_callback(lambda _: ran.append("callback"))
    tasks = [make(wait(i), loop) for i in range(4)]
    await asyncio.sleep(1)
    done.set_result(None)
    for task in tasks:
        await task
    return tuple(ran)


async def begun_together(make):
    """The order in which tasks take their first steps."""
    ran = []

    async def note(i):
        ran.append(i)

    for task in [make(note(i), asyncio.get_running_loop()) for i in range(4)]:
        await task
    return tuple(ran)


def own_task(coroutine, loop):
    return asyncio.Task(coroutine, loop=loop)


def waits_for_own_future(coroutine, loop):
    """A task of hoop's that awaits a future of asyncio's."""
    return loop.create_task(through(asyncio.Future(loop=loop), coroutine))


async def through(future, coroutine):
    asyncio.get_running_loop().call_later(1, future.set_result, None)
    await future
    await coroutine


@pytest.mark.parametrize(
    ("program", "make", "moved"),
    [
        (woken_together, own_task, {"wakes", "starts", "single", "pct"}),
        (begun_together, own_task, {"starts", "single", "pct"}),
        (begun_together, waits_for_own_future, {"wakes", "starts", "single", "pct"}),
    ],
)
@pytest.mark.parametrize("order", ["fifo", "wakes", "starts", "single", "pct"])
def test_tasks_that_asyncio_steps_or_wakes_change_places(program, make, moved, order):
    found = [
        hoop.sim.run(functools.partial(program, make), seed=seed, order=order)
        for seed in [*range(8)] * 2
    ]
    assert found[:8] == found[8:]
    assert (len(set(found)) > 2) == (order in moved)
    if program is woken_together:
        assert {ran[0] for ran in found} == {"callback"}
