"""Runs a program with many seeds, or in all schedules, and reports the first run that failed."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NoReturn

from hoop.sim.errors import NeverHappened, NotDeterministic, Stuck, Unsimulated
from hoop.sim.net.weather import Faults, Names
from hoop.sim.running import Choice, Main, check_outside
from hoop.sim.search import report
from hoop.sim.search.heap import set_apart
from hoop.sim.search.isolating import IsolatedSubject, in_parallel
from hoop.sim.search.outcome import Outcome, Subject
from hoop.sim.search.shrinking import SECONDS_MAX, shrink
from hoop.sim.settings import (
    DEPTH,
    LIMIT,
    STUCK,
    Settings,
    check_count,
    check_main,
    check_seed,
    check_trace,
    seed_of_environment,
)
from hoop.sim.storage.disks import Disk
from hoop.sim.tracing import TraceFile, hash_seed

__tracebackhide__ = True  # pytest leaves the frames of this module out

SEEDS = 200
MAX_RUNS = 10_000
SCHEDULED = ("order", "hosts", "fault ")  # the sites whose choices make a schedule
UNSIMULATED = f"{Unsimulated.__module__}.{Unsimulated.__qualname__}"  # in the kinds of an Outcome
EXHAUSTIVE_ORDERS = ("single", "wakes", "starts")


@dataclasses.dataclass(frozen=True)
class Summary:
    """The runs of an exploration that has found no failure."""

    runs: int
    complete: bool  # whether all seeds, or all schedules, were run
    text: str

    def __str__(self) -> str:
        return self.text


def explore(
    main: Main[Any],
    *,
    seeds: int | Iterable[int] = SEEDS,
    order: str | None = None,
    depth: int = DEPTH,
    limit: float = LIMIT,
    step_us: tuple[int, int] = (0, 0),
    stuck: float | None = STUCK,
    exhaustive: bool = False,
    max_runs: int = MAX_RUNS,
    shrink_seconds: float = SECONDS_MAX,
    trace: str | os.PathLike[str] | None = None,
    isolate: bool = False,
    workers: int = 1,
    disk: Disk | None = None,
    faults: Faults | None = None,
    names: Names | None = None,
) -> Summary:
    """Run a coroutine function with many seeds: with as many as `seeds` says, or with those that it has.

    All seeds run, whatever happens. Then the exception of the first seed that failed is raised, with a note
    that names all of these, and the few choices that matter. These are sought for `shrink_seconds` of real
    time. The file `trace` gets the trace of that shrunk run. The first seed and the first that fails run
    twice. The order is "wakes" unless you say another. If HOOP_SIM_SEED is set, only that seed runs.

    With `exhaustive`, seed 0 runs in all schedules that the order "single" has, at most `max_runs`. The first
    that fails ends it. The summary that is returned says whether all were run. Each run begins with a copy of
    `disk`.

    With `isolate` each run has a process of its own, so that nothing is left of the run before it. The seeds
    are shared out to as many processes as `workers` says.

    Raises NotDeterministic if two runs of one seed differ, and NeverHappened for a condition of sometimes()
    that never held. For other arguments see run().

        hoop.sim.explore(main, seeds=1000, order="mix")
        print(hoop.sim.explore(main, exhaustive=True))
    """
    if order is None:
        order = "single" if exhaustive else "wakes"
    settings = Settings(
        order=order,
        depth=depth,
        limit=limit,
        step_us=step_us,
        stuck=stuck,
        disk=disk,
        faults=faults,
        names=names,
    )
    if exhaustive:
        check_count("max_runs", max_runs)
        exploration = Exploration(main, settings, [0], shrink_seconds, trace, isolate)
        return exploration.run_all_schedules(max_runs)
    named = seed_of_environment()
    chosen = seeds if named is None else [named]
    exploration = Exploration(main, settings, chosen, shrink_seconds, trace, isolate)
    exploration.workers = workers
    return exploration.run()


class Exploration:
    """The runs of one program."""

    def __init__(
        self,
        main: Main[Any],
        settings: Settings,
        seeds: int | Iterable[int],
        shrink_seconds: float = SECONDS_MAX,
        trace: str | os.PathLike[str] | None = None,
        isolate: bool = False,
    ) -> None:
        check_outside()
        check_main(main)
        if isinstance(seeds, int):
            check_count("seeds", seeds)
            seeds = range(seeds)
        if isinstance(seeds, str | bytes) or not isinstance(seeds, Iterable):
            raise TypeError(f"seeds must be a whole number, or several, not {type(seeds).__name__}")
        self.seeds: Sequence[int] = seeds if isinstance(seeds, range) else list(seeds)
        if not isinstance(seeds, range):
            for seed in self.seeds:
                check_seed(seed)
        if not self.seeds:
            raise ValueError("seeds must have at least one seed")
        if isinstance(shrink_seconds, bool) or not isinstance(shrink_seconds, int | float):
            raise TypeError(f"shrink_seconds must be a number, not {type(shrink_seconds).__name__}")
        check_trace(trace)
        if not 0 <= shrink_seconds <= 1e9:
            raise ValueError(f"shrink_seconds must be from 0 to 1e9, not {shrink_seconds!r}")
        self.subject = IsolatedSubject(main, settings) if isolate else Subject(main, settings)
        self.isolate = isolate
        self.workers = 1  # processes in which seeds run
        self.settings = settings
        self.shrink_seconds = shrink_seconds
        self.trace = trace
        self.twice = False  # whether each seed runs twice
        self.minutes: float | None = None  # other seeds run until then, or until one has failed
        self.failed: int | None = None  # the first seed that has failed
        self.is_reported = False  # whether the exception has a report
        self.again: Callable[[int], str] | None = None  # the command that runs a seed again

    # ---- seeds ----

    def run(self) -> Summary:
        """Run all seeds, and raise the exception of the first that failed."""
        check_count("workers", self.workers)
        if self.workers > 1 and self.minutes is not None:
            raise ValueError("workers have no minutes: give a number of seeds")
        self.failed = self.seeds[0]  # for an exception that ends all
        if self.workers > 1:
            runs, failed = len(self.seeds), in_parallel(self.subject, self.seeds, self.workers)
            first = None
        with self._running():
            if self.workers == 1:
                runs, failed, first = self._one_by_one()
            self.failed = failed[0] if failed else None
            if failed:
                first = first or self.subject.once(failed[0])
                if first.error is None:
                    raise NotDeterministic(f"seed {failed[0]} failed in another process only")
                self._report(f"sim: seed {failed[0]} failed{report.several(failed, runs)}", first)
            elif runs == 1 and self.trace is not None:
                with TraceFile(
                    self.trace, self.seeds[0], self.settings.of_seed(self.seeds[0])
                ) as file:
                    self.subject.once(self.seeds[0], trace=file)
        return self._passed(Summary(runs, True, f"{runs} seed{'' if runs == 1 else 's'} passed"))

    def _one_by_one(self) -> tuple[int, list[int], Outcome | None]:
        """Run the seeds. Returns how many, those that failed, and how the first of these ended."""
        failed: list[int] = []
        first: Outcome | None = None
        runs = 0
        outcome = self.check(self.seeds[0])
        with set_apart():
            for seed in self._seeds():
                self.failed = failed[0] if failed else seed
                if runs > 0:
                    outcome = self.check(seed) if self.twice else self.subject.once(seed)
                runs += 1
                if outcome.error is not None:
                    failed.append(seed)
                    first = first or outcome
                    if self.minutes is not None or isinstance(outcome.error, Stuck):
                        break
                del outcome
        return runs, failed, first

    def _seeds(self) -> Iterator[int]:
        """Yield the seeds. With a time, further ones follow until it is over."""
        yield from self.seeds
        if self.minutes is not None:
            until = time.monotonic() + 60 * self.minutes
            for seed in itertools.count(max(self.seeds) + 1):
                if time.monotonic() > until:
                    return
                yield seed

    def check(self, seed: int) -> Outcome:
        """Run one seed twice. Raises NotDeterministic if the runs differ.

        If they differ, and the first has asked for something that is not simulated, raises that. A library
        may ask for a thread once in a process, for example.
        """
        first = self.subject.once(seed, record=True, trace=[])
        if isinstance(first.error, Stuck):
            return first
        second = self.subject.once(seed, trace=[])
        if first.trace == second.trace and first.end == second.end:
            return first
        if UNSIMULATED in first.kind:
            self._raise_once(seed, first)
        how = report.difference(first, second)
        raise NotDeterministic(f"seed {seed} ran in two ways{how}") from second.error or first.error

    # ---- all schedules ----

    def run_all_schedules(self, max_runs: int) -> Summary:
        """Run seed 0 with all choices of the order, and of the faults in the program."""
        if self.settings.order not in EXHAUSTIVE_ORDERS:
            raise ValueError(
                f"exhaustive needs an order of {', '.join(EXHAUSTIVE_ORDERS)}, not {self.settings.order!r}"
            )
        given: list[Choice] | None = []
        runs = 0
        with self._running():
            while given is not None and runs < max_runs:
                outcome = self.subject.once(0, given=given, record=True)
                runs += 1
                if outcome.error is not None:
                    self.failed = 0
                    self._report(f"sim: schedule {runs} failed", outcome)
                if [choice[:2] for choice in outcome.log[: len(given)]] != [c[:2] for c in given]:
                    raise NotDeterministic(
                        f"schedule {runs} had other choices than the one before it"
                    )
                given = following(outcome.log)
        if given is None:
            text = f"all {runs} schedules were run"
        else:
            text = f"{runs} schedules were run, and there are more: max_runs ended it"
        return self._passed(Summary(runs, given is None, text))

    # ---- both ----

    def _raise_once(self, seed: int, outcome: Outcome) -> NoReturn:
        """Raise the exception of a run that the next one did not repeat."""
        error = outcome.error
        assert error is not None
        self.failed = seed
        again = self._again(seed) if self.again is None else self.again(seed)
        lines = ["not repeated: the next run of the process went another way"]
        untraced = dataclasses.replace(outcome, trace=[])
        error.add_note(report.note(f"sim: seed {seed} failed", untraced, lines, again))
        self.is_reported = True
        raise error

    def _passed(self, summary: Summary) -> Summary:
        never = [message for message, held in self.subject.happened.items() if not held]
        if never and summary.runs > 1:
            raise NeverHappened(f"in {summary.runs} runs: {', '.join(never)}")
        return summary

    def _report(self, title: str, outcome: Outcome) -> None:
        """Raise the exception of a run that failed, with the report as its note."""
        error = outcome.error
        assert error is not None
        assert self.failed is not None
        seed = self.failed
        lines: list[str] = []
        again = self._again(seed) if self.again is None else self.again(seed)
        if not isinstance(error, Stuck):
            self.subject.quiet = True
            by_schedule = bool(outcome.log) and not outcome.trace
            outcome = self._replayed(seed, outcome.log if by_schedule else None)
            lines = self._shrink(seed, outcome)
            if by_schedule and self.again is None:
                order = f"order={self.settings.order!r}{self._others()}"
                again = f"hoop.sim.run(main, {order}, choices={self.shrunk!r})"
        if self.trace is not None:
            lines.append(f"trace: {os.fspath(self.trace)}")
        error.add_note(report.note(title, outcome, lines, again))
        self.is_reported = True
        raise error

    def _replayed(self, seed: int, given: list[Choice] | None) -> Outcome:
        if given is None:
            return self.check(seed)
        return self.subject.once(seed, given=given, record=True, trace=[])

    def _shrink(self, seed: int, outcome: Outcome) -> list[str]:
        """Find the choices that matter, and tell of them. The trace is that of the shrunk run."""

        def fails(given: list[Choice]) -> list[Choice] | None:
            found = self.subject.once(seed, given=given, record=True)
            return found.log if found.kind == outcome.kind else None

        shrunk = shrink(outcome.log, fails, seconds=self.shrink_seconds)
        self.shrunk = shrunk.choices
        # If output is forgotten after each run, the last run is the one that is heard.
        self.subject.quiet = self.subject.forget is None
        if self.trace is None:
            explained = self.subject.once(seed, given=shrunk.choices, explain=True)
        else:
            with TraceFile(self.trace, seed, self.settings.of_seed(seed)) as file:
                explained = self.subject.once(seed, given=shrunk.choices, explain=True, trace=file)
        return report.story(outcome, shrunk, explained)

    def _again(self, seed: int) -> str:
        hashing = hash_seed()
        order = self.settings.of_seed(seed).order
        call = f"hoop.sim.run(main, seed={seed}, order={order!r}{self._others()})"
        return call if hashing == "random" else f"{call} with PYTHONHASHSEED={hashing}"

    def _others(self) -> str:
        """The arguments of run() that are not the usual ones, without the order."""
        settings, words = self.settings, []
        for field in dataclasses.fields(settings):
            value = getattr(settings, field.name)
            if field.name == "disk" and value is not None:
                words.append(", disk=disk")
            elif field.name != "order" and value != field.default:
                prefix = "hoop.sim." if isinstance(value, Faults) else ""
                words.append(f", {field.name}={prefix}{value!r}")
        return "".join(words)

    def _running(self) -> Any:
        """The watcher of this process. Those of isolated runs have their own."""
        return contextlib.nullcontext() if self.isolate else self.subject.watcher


def following(log: list[Choice]) -> list[Choice] | None:
    """The choices of the next schedule: the last that can be greater is. None after the last schedule."""
    for i in range(len(log) - 1, -1, -1):
        site, n, value = log[i]
        if value + 1 < n and site.startswith(SCHEDULED):
            return [*log[:i], (site, n, value + 1)]
    return None
