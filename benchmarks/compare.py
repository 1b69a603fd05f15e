"""Compares hoop with other event loops and with bare C, interleaved on the same machine.

The question it answers: how much does an operation cost on hoop, relative to the others, here and now?
Contestants take turns within every round. Ratios are taken within a round, and then their median over all
rounds, so a neighbour's load falls on all alike. The question it cannot answer: how fast is hoop in
absolute terms, or on another machine? The raw times are of this machine and this run.
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import report
from entries import KINDS, Entry, Places, Sample, Setting
from loops import LOOPS, OBSERVED, SPINNING, describe_python
from processes import (
    BUILD,
    START_TIMEOUT_S,
    Absent,
    Failure,
    Process,
    build_floor,
    choose_cpus,
    worker,
)
from rows import ROWS, Contestant, Row

DOCS = Path(__file__).resolve().parent.parent / "docs"
NAME = "benchmarks"  # of a report and its chart


class Settings:
    """How long everything takes: `--quick` only shows that all works, the default is for numbers."""

    def __init__(self, quick: bool, rounds: int | None) -> None:
        self.given_rounds = rounds or (2 if quick else 0)
        self.served_rounds = rounds or (2 if quick else 7)
        self.served_s = 0.1 if quick else 0.35
        self.work_rounds = rounds or (2 if quick else 13)
        self.work_s = 0.02 if quick else 0.05
        self.slow_work_s = 0.02 if quick else 0.2  # Files and processes: other threads take part.
        self.fresh_rounds = min(rounds or 3, 1 if quick else 3)
        self.warm_up_s = 0.05 if quick else 0.2
        self.share = 50 if quick else 1  # Of the million timers and ten thousand connections.

    def rounds(self, row: Row) -> int:
        if row.rounds:
            return self.given_rounds or row.rounds
        if row.anew:
            return self.fresh_rounds
        return self.served_rounds if row.kind == "served" else self.work_rounds

    def seconds(self, row: Row) -> float:
        if row.kind == "served":
            return self.served_s
        return self.work_s if row.pinned else self.slow_work_s

    def scaled(self, row: Row) -> Row:
        """Return the row as it is, or with a share of its timers or connections."""
        if not row.anew or self.share == 1:
            return row
        load = dataclasses.replace(row.load, connections=row.load.connections // self.share or 1)
        return dataclasses.replace(row, load=load, once=row.once // self.share)


# ---- rounds ----


class Race:
    """One row under way: its contestants in turns, their samples, and the failures.

    A contestant that fails is out from then on, with all its samples. The report has the reason.
    """

    def __init__(
        self, row: Row, loops: Collection[str], setting: Setting, settings: Settings
    ) -> None:
        self._row = row
        self._contestants = [c for c in row.contestants if c.loop in (*loops, "", "none")]
        self._setting = setting
        self._rounds = settings.rounds(row)
        self._seconds = settings.seconds(row)
        self._warm_up_s = settings.warm_up_s
        self._entries: dict[str, Entry] = {}
        self._samples: dict[str, list[Sample]] = {}
        self._failures: dict[str, str] = {}
        self._absent: dict[str, str] = {}

    def run(self) -> None:
        try:
            for contestant in self._contestants:
                with self._excused(contestant.label):
                    self._start(contestant)
            for _ in range(self._rounds):
                for contestant in self._contestants:
                    if contestant.label in self._samples:
                        with self._excused(contestant.label):
                            self._measure(contestant)
        finally:
            for entry in self._entries.values():
                entry.stop()

    @contextmanager
    def _excused(self, label: str) -> Iterator[None]:
        """Put a contestant out of the race if it fails here."""
        try:
            yield
        except (Failure, OSError) as reason:
            reasons = self._absent if isinstance(reason, Absent) else self._failures
            reasons[label] = str(reason)
            self._samples.pop(label, None)
            if label in self._entries:
                self._entries.pop(label).stop()

    def _start(self, contestant: Contestant) -> None:
        if not self._row.anew:
            entry = KINDS[self._row.kind](self._row, contestant, self._setting)
            self._entries[contestant.label] = entry
            entry.sample(self._warm_up_s)
        self._samples[contestant.label] = []

    def _measure(self, contestant: Contestant) -> None:
        if self._row.anew:
            entry = KINDS[self._row.kind](self._row, contestant, self._setting)
            self._entries[contestant.label] = entry
        entry = self._entries[contestant.label]
        self._samples[contestant.label].append(entry.sample(self._seconds))
        if self._row.anew:
            self._entries.pop(contestant.label).stop()

    def results(self) -> dict[str, Any]:
        """Return what the report needs, as JSON has it."""
        row = self._row
        return {
            "name": row.name,
            "group": row.group,
            "title": row.title,
            "judged": row.judged,
            "unit": row.unit,
            "family": row.family,
            "size": row.size,
            "roles": {c.label: c.role for c in self._contestants},
            "samples": self._samples,
            "failures": self._failures,
            "absent": self._absent,
        }


# ---- command line ----


def available_loops(names: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the version of each loop that turns here, and of each other one why it does not.

    Each is tried in a process of its own: one that crashes is not there.
    """
    versions, absent = {}, {}
    for name in names:
        process = Process(worker("check", name), None)
        try:
            versions[name] = process.read_line(START_TIMEOUT_S)
        except Failure as reason:
            absent[name] = str(reason)
        finally:
            process.stop()
    return versions, absent


def machine_facts(versions: dict[str, str], absent: dict[str, str]) -> dict[str, Any]:
    cpus = choose_cpus()
    return {
        "date": time.strftime("%d %B %Y"),
        "python": describe_python(),
        "kernel": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cpus": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg()[0],
        "pinned": f"servers to CPU {cpus[0]}, clients to CPU {cpus[1]}" if cpus else "nothing",
        "versions": versions,
        "absent": absent,
    }


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--rows",
        default="*",
        help="comma-separated names, groups or patterns, such as 'echo-*,tls,future' (default: all)",
    )
    parser.add_argument(
        "--all", action="store_true", help="also the rows that are not in the selection"
    )
    parser.add_argument("--list", action="store_true", help="print the rows, and stop")
    parser.add_argument(
        "--loops",
        default=",".join((*LOOPS, *SPINNING, *OBSERVED)),
        help="comma-separated loops (default: %(default)s)",
    )
    parser.add_argument("--rounds", type=int, help="rounds per row")
    parser.add_argument("--quick", action="store_true", help="short and noisy: does all work?")
    parser.add_argument(
        "--output",
        type=Path,
        default=BUILD / "results",
        help="folder for report, chart and samples",
    )
    parser.add_argument(
        "--docs",
        nargs="?",
        const=NAME,
        metavar="NAME",
        help=f"put report and chart into docs/ too, as NAME.md and NAME.png (default: {NAME})",
    )
    parser.add_argument(
        "--from", dest="samples", type=Path, metavar="JSON", help="measure nothing: report on this"
    )
    return parser.parse_args(arguments)


def choose_rows(patterns: str, everything: bool) -> list[Row]:
    """Return the rows whose name or group matches. A row that is named is chosen, selected or not."""
    wanted = patterns.split(",")
    chosen = []
    for row in ROWS:
        by_name = any(
            fnmatch.fnmatchcase(row.name, pattern) for pattern in wanted if pattern != "*"
        )
        by_group = any(fnmatch.fnmatchcase(row.group, pattern) for pattern in wanted)
        if by_name or (by_group and (row.default or everything)):
            chosen.append(row)
    if not chosen:
        raise SystemExit(f"no row is called {patterns!r}; --list prints what there is")
    return chosen


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    rows = choose_rows(arguments.rows, arguments.all)
    names = arguments.loops.split(",")
    known = (*LOOPS, *SPINNING, *OBSERVED)
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise SystemExit(f"unknown loops: {', '.join(unknown)}; there are: {', '.join(known)}")
    versions, absent = available_loops(names)
    if not versions:
        raise SystemExit("\n".join(f"{name}: {reason}" for name, reason in absent.items()))
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (limit, limit)
    )  # And with it, of all that is started.
    build_floor()
    facts = machine_facts(versions, absent)
    print(report.describe(facts), flush=True)
    settings = Settings(arguments.quick, arguments.rounds)
    cpu, load_cpu = choose_cpus() or (None, None)
    setting = Setting(cpu, load_cpu, Places(load_cpu))
    began = time.monotonic()
    measured = []
    for i, row in enumerate(rows, 1):
        race = Race(settings.scaled(row), versions, setting, settings)
        race.run()
        measured.append(race.results())
        print(f"[{i}/{len(rows)}, {time.monotonic() - began:.0f} s]", end=" ")
        print(report.line(measured[-1]), flush=True)
    facts["minutes"] = (time.monotonic() - began) / 60
    facts["command"] = (
        f"make bench ARGS='{' '.join(sys.argv[1:])}'" if sys.argv[1:] else "make bench"
    )
    return {"facts": facts, "rows": measured}


def write(results: dict[str, Any], path: Path) -> None:
    """Write the report, and its chart beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    chart = path.with_name(f"{path.stem}.png")
    drawn = report.draw(results, chart)
    path.write_text(report.document(results, chart.name if drawn else None))
    print(f"wrote {os.path.relpath(path)}")


def main() -> None:
    arguments = parse_arguments()
    if arguments.list:
        for row in choose_rows(arguments.rows, True):
            print(f"{row.name:24}{'' if row.default else '(--all) '}{row.title}")
        return
    results = json.loads(arguments.samples.read_text()) if arguments.samples else measure(arguments)
    write(results, arguments.output / f"{NAME}.md")
    if arguments.docs:
        write(results, DOCS / f"{arguments.docs}.md")
    (arguments.output / "samples.json").write_text(json.dumps(results) + "\n")


if __name__ == "__main__":
    main()
