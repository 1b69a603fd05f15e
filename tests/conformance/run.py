"""Runs CPython's own asyncio tests, those of the running interpreter, on an event loop.

    python tests/conformance/run.py                     the core modules, on hoop
    python tests/conformance/run.py --all               every module of test.test_asyncio
    python tests/conformance/run.py --modules test_locks,test_queues -k Barrier --verbose
    python tests/conformance/run.py --baseline          the tests that fail on stock asyncio here

Every module runs in a process of its own. Wherever a test makes a loop it gets the loop under test
(see bind.py). CPython's task and future tests get hoop's Task and Future (see classes.py). A test
that hangs or crashes is counted as such, and the tests after it still run. There are two excuses for
a test that does not pass. Either exceptions.toml lists it, or a second run shows that it fails on
stock asyncio on this machine too. A listed test that passes is a failure.

The last line is ``N passed, M failed``; the exit status is 1 unless M is 0.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import importlib.util
import os
import pkgutil
import sys
import threading
from pathlib import Path

import bind
import report
import verdict
import worker
from supervisor import BAD, Job, ModuleRun, Stopped, run_module

CORE = (
    "test_tasks",
    "test_futures",
    "test_futures2",
    "test_taskgroups",
    "test_timeouts",
    "test_waitfor",
    "test_locks",
    "test_queues",
    "test_eager_task_factory",
    "test_context",
    "test_pep492",
    "test_runners",
)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    summary, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--modules", metavar="A,B", help="the modules to run (default: the core)")
    which.add_argument("--all", action="store_true", help="every module of test.test_asyncio")
    parser.add_argument("--loop", choices=bind.LOOPS, default="hoop", help="the loop under test")
    parser.add_argument("-k", metavar="SUBSTRING", help="only tests with this in their id")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="modules at a time")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds a test may take")
    parser.add_argument("--list", action="store_true", help="list the tests, run nothing")
    parser.add_argument("--baseline", action="store_true", help="list what stock asyncio fails")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write every result here too")
    parser.add_argument("--verbose", action="store_true", help="show tracebacks and reasons")
    options = parser.parse_args(arguments)
    if options.baseline:
        options.loop = "asyncio"
    return options


def choose_modules(options: argparse.Namespace) -> list[str]:
    """The modules to run, without those of the core that this Python does not have."""
    if options.modules:
        return [name.strip() for name in options.modules.split(",") if name.strip()]
    if options.all:
        package = importlib.util.find_spec(worker.PACKAGE.rstrip("."))
        assert package is not None, "this Python comes without its test package"
        names = [m.name for m in pkgutil.iter_modules(package.submodule_search_locations)]
        return [name for name in names if name.startswith("test_")]
    return [name for name in CORE if importlib.util.find_spec(worker.full_name(name))]


def run_jobs(jobs: list[Job], at_a_time: int) -> list[ModuleRun]:
    """Run several modules, some of them side by side; results are in the jobs' order."""
    stop = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(max(1, at_a_time)) as pool:
        futures = [pool.submit(run_module, job, stop) for job in jobs]
        try:
            for future in concurrent.futures.as_completed(futures):
                run = future.result()
                tally = report.final_line([run])
                print(f"{run.module}: {tally} ({run.seconds:.1f} s)", file=sys.stderr, flush=True)
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
        return [future.result() for future in futures]


def judge(runs: list[ModuleRun], jobs: list[Job], at_a_time: int) -> None:
    """Tell failures from exceptions, and from what stock asyncio fails on this machine too."""
    if jobs and jobs[0].loop in ("hoop", "sim"):
        exceptions = verdict.Exceptions.read()
        for run, job in zip(runs, jobs, strict=True):
            exceptions.apply(run, complete=job.match is None)
    again = [
        (run, dataclasses.replace(job, loop="asyncio", only=failing))
        for run, job in zip(runs, jobs, strict=True)
        if (failing := verdict.rerun_on_stock(run))
    ]
    if again:
        print("repeating on stock asyncio what did not pass", file=sys.stderr, flush=True)
        stock = run_jobs([job for _, job in again], at_a_time)
        for (run, _), on_stock in zip(again, stock, strict=True):
            verdict.excuse(run, on_stock.results)


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    jobs = [
        Job(name, options.loop, options.timeout, options.k, list_only=options.list)
        for name in choose_modules(options)
    ]
    runs = run_jobs(jobs, options.jobs)
    if options.list:
        for run in runs:
            broken = [f"{r.id}: {r.outcome}: {r.detail.strip()}" for r in run.results]
            print(*run.plan, *broken, sep="\n")
        return int(any(r.outcome in BAD for run in runs for r in run.results))
    if options.loop != "asyncio":
        judge(runs, jobs, options.jobs)
    if options.json:
        report.write_json(runs, options.loop, options.json)
    report.print_details(runs, options.verbose, sys.stdout)
    report.print_summary(runs, options.loop, sys.stdout)
    counts = report.count(runs)
    return int(not options.baseline and any(counts[outcome] for outcome in verdict.WRONG))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (KeyboardInterrupt, Stopped):
        sys.exit(130)
