"""The choices of a run are recorded, given back, and shrunk to the few that matter."""

from __future__ import annotations

import asyncio
import functools
import json
import re

import planted
import pytest

import hoop.sim
from hoop.sim.driver import Script
from hoop.sim.search import report
from hoop.sim.search.outcome import Outcome, kinds_of
from hoop.sim.search.shrinking import Shrunk, shrink, that_matter, trimmed

# ---- the script ------------------------------------------------------------------------------------


def test_a_script_records_what_the_seed_draws_and_gives_it_back():
    script = Script(7, record=True)
    streams = [script.stream(site) for site in ("a", "b", "a")]
    drawn = [stream.choose(10) for stream in streams for _ in range(3)]
    assert [(site, n) for site, n, _ in script.log] == [("a", 10)] * 3 + [("b", 10)] * 3 + [
        ("a", 10)
    ] * 3
    assert [value for _, _, value in script.log] == drawn
    again = Script(8, given=script.log)
    streams = [again.stream(site) for site in ("a", "b", "a")]
    assert [stream.choose(10) for stream in streams for _ in range(3)] == drawn


def test_what_is_missing_or_does_not_fit_is_the_plain_choice():
    script = Script(7, given=[("a", 10, 9), ("b", 2, 1), ("a", 10, 3)], record=True)
    a, b, c = (script.stream(site) for site in "abc")
    assert [a.choose(5), b.rarely(0.5), a.choose(5), a.choose(5), b.rarely(1.0), c.fraction()] == [
        *(0, True, 3, 0, False, 0.0)
    ]
    assert [value for _, _, value in script.log] == [0, 1, 3, 0, 0, 0]


def test_a_stream_draws_the_same_whether_somebody_records_it_or_not():
    plain, recorded = (
        [Script(3, record=record).stream("x").fraction() for _ in range(5)]
        for record in (False, True)
    )
    assert plain == recorded


def test_shares_are_kept():
    stream = Script(1).stream("x")
    assert not any(stream.rarely(0.0) for _ in range(1000))
    assert all(stream.rarely(1.0) for _ in range(1000))
    assert 150 < sum(stream.rarely(0.2) for _ in range(1000)) < 250


# ---- shrinking -------------------------------------------------------------------------------------


def failing(needed, seen=None):
    """A program that fails if these places have choices that are not plain."""

    def fails(choices):
        if seen is not None:
            seen.append(choices)
        return choices if needed <= set(that_matter(choices)) else None

    return fails


@pytest.mark.parametrize("needed", [set(), {0}, {99}, {3, 50}, set(range(0, 100, 9))])
def test_only_what_matters_is_left(needed):
    shrunk = shrink([("order", 5, 4)] * 100, failing(needed))
    assert set(that_matter(shrunk.choices)) == needed
    assert shrunk.complete
    assert shrunk.runs <= 200
    assert not shrunk.choices or shrunk.choices[-1][2]


def test_shrinking_ends_after_so_many_runs_or_seconds():
    seen = []
    shrunk = shrink([("order", 5, 4)] * 100, failing({3, 50}, seen), runs_max=5)
    assert (len(seen), shrunk.runs, shrunk.complete) == (5, 5, False)
    shrunk = shrink([("order", 5, 4)] * 100, failing({3, 50}, seen), seconds=0)
    assert (len(seen), shrunk.runs, shrunk.complete) == (5, 0, False)
    assert len(shrunk.choices) == 100


def test_a_run_that_comes_to_other_choices_goes_on_from_these():
    def fails(choices):
        return [("order", 2, 1)] * 3 if len(that_matter(choices)) <= 8 else None

    shrunk = shrink([("order", 5, 4)] * 10, fails, runs_max=50)
    assert len(that_matter(shrunk.choices)) <= 3


def test_plain_choices_at_the_end_are_left_out():
    assert trimmed([("a", 2, 1), ("a", 2, 0), ("a", 2, 0)]) == [("a", 2, 1)]
    assert trimmed([("a", 2, 0)]) == []


# ---- the report ------------------------------------------------------------------------------------

BUGS = [
    # The program, the order, and how many choices matter at most: none if its random numbers do it.
    (planted.lost_update, "wakes", 0),
    (planted.pool_of_connections, "wakes", 0),
    (planted.relies_on_first_waiter, "wakes", 1),
    (planted.relies_on_turn_before, "pct", 2),
    (planted.relies_on_order_of_start, "starts", 1),
    (planted.six_steps_ahead, "single", 6),
    (planted.shutdown_loses_item, "mix", 0),
    (planted.lock_released_twice, "mix", 0),
    (planted.waiters_forgotten, "mix", 0),
]


def fails(program, seed, order):
    try:
        hoop.sim.run(program, seed=seed, order=order)
    except (Exception, BaseExceptionGroup):
        return True
    return False


@pytest.mark.parametrize(
    ("program", "order", "most"), BUGS, ids=lambda v: getattr(v, "__name__", "")
)
def test_a_planted_bug_is_found_shrunk_and_replayed(program, order, most, tmp_path):
    wrong = functools.partial(program, False)
    trace = tmp_path / "trace.jsonl"
    seed = next(seed for seed in range(200) if fails(wrong, seed, order))
    with pytest.raises(BaseException) as caught:  # noqa: PT011, each bug has its own
        hoop.sim.explore(wrong, seeds=[seed], order=order, trace=trace)
    (note,) = caught.value.__notes__
    assert len(note.splitlines()) <= 15
    first, *lines = [json.loads(line) for line in trace.read_text().splitlines()]
    left = [line["v"] for line in lines if line["k"] == "choice" and line["v"]]
    assert len(left) <= most
    assert f"{len(left)} that matter" in note
    # The seed fails alone, and the shrunk run fails from its file.
    for given in ({}, {"choices": trace}):
        with pytest.raises(caught.type) as again:
            hoop.sim.run(wrong, seed=first["seed"], order=first["order"], **given)
        assert kinds_of(again.value) == kinds_of(caught.value)
    hoop.sim.run(functools.partial(program, True), seed=first["seed"], order=first["order"])


def test_the_report_says_what_ran_before_what():
    with pytest.raises(ExceptionGroup) as caught:
        hoop.sim.explore(functools.partial(planted.relies_on_first_waiter, False))
    (note,) = caught.value.__notes__
    title, drawn, replayed, shrunk, story, again = note.splitlines()
    assert title.startswith("sim: seed 2 failed (1")
    assert drawn.startswith("  order wakes   PYTHONHASHSEED ")
    assert "Python 3." in drawn
    assert replayed.startswith("  replayed: same trace (crc ")
    assert "choices -> 1 that matters" in shrunk
    assert story.split(maxsplit=2)[:2] == ["1.000", "s"]
    one, _, other = story.partition("  ran before  ")
    assert "Task-3 [planted.py:" in one
    assert "await Event.wait]" in one
    assert other.startswith("Task-2 [planted.py:")
    assert again.startswith("  again: hoop.sim.run(main, seed=2, order='wakes')")


def test_another_error_is_not_taken_for_the_same():
    """With the plain choices the program fails, too, but in another way."""

    async def main():
        order = []

        async def note(what):
            await asyncio.sleep(1)
            order.append(what)

        await asyncio.gather(*(note(i) for i in range(3)))
        assert order == [2, 1, 0], "plain"
        raise ValueError("the error")

    async def of_interest():
        try:
            await main()
        except AssertionError:
            return

    with pytest.raises(ValueError, match="the error") as found:
        hoop.sim.explore(of_interest, seeds=200)
    assert "1 that matters" in found.value.__notes__[0]


def test_many_choices_are_cut_to_a_readable_list():
    async def main():
        for _ in range(30):
            order = []

            async def note(what, order=order):
                await asyncio.sleep(1)
                order.append(what)

            await asyncio.gather(note(0), note(1))
            if order == [0, 1]:
                return
        raise ValueError

    given = [("order", 2, 1)] * 30
    with pytest.raises(ValueError):  # noqa: PT011
        hoop.sim.run(main, choices=given)
    of_many = Outcome(log=[("x", 9, 1)] * 500)
    lines = report.story(
        of_many, Shrunk([("x", 9, i) for i in range(1, 9)] * 3, 7, False), Outcome()
    )
    assert len(lines) == 8
    assert lines[0] == (
        "shrunk: 500 choices -> 24 that matter, in 7 runs, or fewer: the time for it ended"
    )
    assert lines[-1] == "  and 18 more"


def test_the_last_steps_are_shown_if_the_plain_order_fails_too():
    async def main():
        await asyncio.sleep(1)
        task = asyncio.create_task(asyncio.sleep(0.5), name="other")
        await task
        raise ValueError

    with pytest.raises(ValueError) as caught:  # noqa: PT011
        hoop.sim.explore(main)
    lines = caught.value.__notes__[0].splitlines()
    at = lines.index("  the last steps:")
    assert lines[at + 1].split() == ["0.000000", "s", "Task-1", lines[at + 1].split()[-1]]
    assert [line.split()[:3] for line in lines[at + 2 : -1]] == [
        ["1.000000", "s", "Task-1"],
        ["1.000000", "s", "other"],
        ["1.500000", "s", "other"],
        ["1.500000", "s", "Task-1"],
    ]


def test_the_last_steps_are_shown_if_only_the_speed_of_the_network_matters():
    async def serve(reader, writer):
        writer.close()

    async def main():
        async with await asyncio.start_server(serve, "10.0.0.1", 80):
            reader, writer = await asyncio.open_connection("10.0.0.1", 80)
            await reader.read()
            writer.close()
            assert hoop.sim.now() < 0.05

    with pytest.raises(AssertionError) as caught:
        hoop.sim.explore(main, seeds=50)
    lines = caught.value.__notes__[0].splitlines()
    at = lines.index("  the last steps:")
    assert any(line.startswith("    with ") for line in lines[:at])
    assert all(" s  Task-" in line for line in lines[at + 1 : -1])


async def update_over_the_network():
    """Two clients read a number of a server, and write it back one higher."""
    numbers = {"x": 0}

    async def serve(reader, writer):
        try:
            while line := await reader.readline():
                if line.startswith(b"set"):
                    numbers["x"] = int(line.split()[1])
                writer.write(b"%d\n" % numbers["x"])
        finally:
            writer.close()

    async def add():
        reader, writer = await asyncio.open_connection("10.0.0.1", 80)
        writer.write(b"get\n")
        number = int(await reader.readline())
        writer.write(b"set %d\n" % (number + 1))
        await reader.readline()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "10.0.0.1", 80), asyncio.TaskGroup() as group:
        group.create_task(add())
        await asyncio.sleep(0.005)
        group.create_task(add())
    assert numbers["x"] == 2


def test_choices_of_the_network_are_shrunk_too(tmp_path, logged):
    trace = tmp_path / "trace"
    with pytest.raises(AssertionError) as caught:
        hoop.sim.explore(update_over_the_network, seeds=40, trace=trace)
    note = caught.value.__notes__[0]
    assert len(note.splitlines()) <= 15
    assert max(map(len, note.splitlines())) <= 110
    found = re.search(r"shrunk: (\d+) choices -> (\d+) that matter", note)
    assert int(found[2]) < 6 < int(found[1])
    assert re.search(r"^    with .*latency ", note, re.M)
    seed = json.loads(trace.read_text().splitlines()[0])["seed"]
    with pytest.raises(AssertionError):
        hoop.sim.run(update_over_the_network, seed=seed, choices=trace)


def test_the_log_has_what_tasks_raise_at_the_end_once(logged):
    async def main():
        async def wait():
            try:
                await asyncio.sleep(1000)
            finally:
                raise KeyError("at the end")

        task = asyncio.create_task(wait())
        task.add_done_callback(lambda task: None)
        await asyncio.sleep(1)

    hoop.sim.explore(main, seeds=20)
    assert logged.text.count("unhandled exception during asyncio.run() shutdown") == 1
