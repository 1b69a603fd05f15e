"""Compares hoop with other event loops and with bare C, interleaved on the same machine.

The question it answers: how much does an operation cost on hoop, relative to the others, here and
now? Loops take turns within every round, and a ratio is taken within a round before the median is
taken over rounds, so that a neighbour's load falls on all alike. The question it cannot answer: how
fast is hoop in absolute terms, or on another machine. The raw times are of this machine, this run.
"""

from __future__ import annotations

import argparse
import atexit
import faulthandler
import fnmatch
import gc
import json
import os
import platform
import select
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loops import LOOPS, available_loops, describe_python, loop_factory, loop_version
from workloads import ECHO, SCHEDULING, Echo, Scheduling

HERE = Path(__file__).resolve().parent
FLOOR_SOURCES = HERE / "floor"
FLOOR_BUILD = HERE.parent / "build" / "floor"
FLOOR = "C epoll"  # The name of the bare C server in tables and in JSON.

# A scheduling round lasts milliseconds and an echo round most of a second: the short ones are taken
# more often, since the lowest of many is what tells a quiet moment from a loaded one.
SCHEDULING_ROUNDS_PER_ROUND = 4
SCHEDULING_TIMEOUT_S = 120
START_TIMEOUT_S = 20
CLIENT_GRACE_S = 15

Costs = dict[str, list[float]]  # By loop: the cost of an operation in each round.
EchoRounds = dict[str, list[dict[str, float]]]  # By server: what the client saw, and `cpu_us`.


class Settings:
    """How long everything takes: `--quick` shows that all works, the default is to be believed."""

    def __init__(self, quick: bool, rounds: int | None) -> None:
        self.rounds = rounds or (2 if quick else 9)
        self.scheduling_operations = 2_000 if quick else 20_000
        self.echo_s = 0.2 if quick else 0.6
        self.warm_up_s = 0.1 if quick else 0.2


# Scheduling: all loops in this process, in turns.


def time_scheduling(row: Scheduling, loop_name: str, operations: int) -> float:
    """Return what one operation of the row took on a new loop, in nanoseconds."""

    async def timed() -> float:
        started_at = time.perf_counter_ns()
        await row.run(operations)
        return (time.perf_counter_ns() - started_at) / operations

    gc.collect()
    loop = loop_factory(loop_name)()
    try:
        with row.surroundings(loop):
            return loop.run_until_complete(timed())
    finally:
        loop.close()


def run_scheduling(row: Scheduling, loops: list[str], settings: Settings) -> Costs:
    costs: Costs = {name: [] for name in loops}
    # A loop that hangs must not hang the benchmark: say where it was, and stop.
    faulthandler.dump_traceback_later(SCHEDULING_TIMEOUT_S, exit=True)
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})  # moving between CPUs is most of the noise
    for _ in range(settings.rounds * SCHEDULING_ROUNDS_PER_ROUND):
        for name in loops:
            costs[name].append(time_scheduling(row, name, settings.scheduling_operations))
    os.sched_setaffinity(0, allowed)
    faulthandler.cancel_dump_traceback_later()
    return costs


# Echo: a server process per loop, a C client that talks to them in turns.


def build_floor() -> None:
    """Compile the C server and client, unless what is there is newer than the source."""
    FLOOR_BUILD.mkdir(parents=True, exist_ok=True)
    for name in ("client", "srv_epoll"):
        source, binary = FLOOR_SOURCES / f"{name}.c", FLOOR_BUILD / name
        if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
            subprocess.run(["cc", "-O2", "-o", binary, source], check=True)


def choose_cpus() -> tuple[int, int] | None:
    """Return a CPU for the servers and one for the client, or None if there is only one."""
    cpus = sorted(os.sched_getaffinity(0))
    return (cpus[0], cpus[1]) if len(cpus) > 1 else None


def start(command: Sequence[str | Path], cpu: int | None) -> subprocess.Popen[str]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    atexit.register(process.kill)  # Does nothing to a process that has been waited for.
    if cpu is not None:
        os.sched_setaffinity(process.pid, {cpu})
    return process


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of all threads of a process, user and system, to the nanosecond.

    The clock's number is made as clock_getcpuclockid(3) makes it; /proc counts in ticks of 10 ms.
    """
    return time.clock_gettime((~pid << 3) | 2)


class EchoServer:
    """An echo server in a process of its own, from its start until it is stopped."""

    def __init__(self, name: str, row: Echo, cpu: int | None, lifetime_s: int) -> None:
        command: list[str | Path]
        if name == FLOOR:
            command = [FLOOR_BUILD / "srv_epoll", str(lifetime_s)]
        else:
            command = [sys.executable, HERE / "serve.py", name, row.server, str(lifetime_s)]
        self.name = name
        self._row = row
        self._process = start(command, cpu)
        self._port = self._read_port()

    def _read_port(self) -> int:
        stdout = self._process.stdout
        assert stdout is not None
        ready, _, _ = select.select([stdout], [], [], START_TIMEOUT_S)
        line = stdout.readline() if ready else ""
        if not line:
            self.stop()
            raise RuntimeError(f"the echo server on {self.name} did not start")
        return int(line)

    def measure(self, seconds: float, client_cpu: int | None) -> dict[str, float]:
        """Let the client talk to this server and return what it saw, and the CPU it took here."""
        command: list[str | Path] = [FLOOR_BUILD / "client", str(self._port)]
        command += [str(self._row.connections), str(self._row.message_bytes), str(seconds)]
        before_s = cpu_seconds(self._process.pid)
        client = start(command, client_cpu)
        output, _ = client.communicate(timeout=seconds + CLIENT_GRACE_S)
        used_s = cpu_seconds(self._process.pid) - before_s
        if client.returncode != 0:
            raise RuntimeError(f"the client of the echo server on {self.name} failed")
        seen: dict[str, float] = json.loads(output)
        seen["cpu_us"] = used_s * 1e6 / seen["requests"]
        return seen

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextmanager
def echo_servers(
    names: Iterable[str], row: Echo, cpu: int | None, lifetime_s: int
) -> Iterator[list[EchoServer]]:
    servers: list[EchoServer] = []
    try:
        for name in names:
            servers.append(EchoServer(name, row, cpu, lifetime_s))
        yield servers
    finally:
        for server in servers:
            server.stop()


def run_echo(row: Echo, loops: list[str], settings: Settings) -> EchoRounds:
    names = [FLOOR, *loops]
    server_cpu, client_cpu = choose_cpus() or (None, None)
    seconds_per_server = settings.warm_up_s + settings.rounds * settings.echo_s + CLIENT_GRACE_S
    lifetime_s = int(len(names) * (START_TIMEOUT_S + seconds_per_server))
    rounds: EchoRounds = {name: [] for name in names}
    with echo_servers(names, row, server_cpu, lifetime_s) as servers:
        for server in servers:
            server.measure(settings.warm_up_s, client_cpu)
        for _ in range(settings.rounds):
            for server in servers:
                rounds[server.name].append(server.measure(settings.echo_s, client_cpu))
    return rounds


# Reporting.


def median_ratio(subject: list[float], other: list[float]) -> float:
    """Return the median over rounds of one cost divided by the other of the same round."""
    return statistics.median(a / b for a, b in zip(subject, other, strict=True))


def table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows) + "\n"


def scheduling_line(row: Scheduling, costs: Costs) -> list[str]:
    subject, *others = costs
    cells = [f"{row.name}: {row.operation}"]
    cells += [f"{min(c):.0f} / {statistics.median(c):.0f}" for c in costs.values()]
    return cells + [f"{median_ratio(costs[subject], costs[name]):.2f}" for name in others]


def scheduling_header(loops: list[str]) -> list[str]:
    subject, *others = loops
    return ["ns per operation, min / median", *loops, *(f"{subject} ÷ {o}" for o in others)]


def echo_lines(row: Echo, rounds: EchoRounds, subject: str) -> Iterator[list[str]]:
    cpu_us = {name: [seen["cpu_us"] for seen in rounds[name]] for name in rounds}
    title = f"{row.name}: {row.server}, {row.connections} x {row.message_bytes:,} B"
    for name, all_seen in rounds.items():
        medians = {key: statistics.median(seen[key] for seen in all_seen) for key in all_seen[0]}
        yield [
            title,
            name,
            f"{min(cpu_us[name]):.2f} / {medians['cpu_us']:.2f}",
            f"{medians['per_second']:,.0f}",
            f"{medians['p50_us']:,.0f}",
            f"{medians['p99_us']:,.0f}",
            f"{median_ratio(cpu_us[subject], cpu_us[name]):.2f}",
        ]


def echo_header(subject: str) -> list[str]:
    return [
        "echo: server, connections x message",
        "server on",
        "server CPU µs per request, min / median",
        "requests/s",
        "p50 µs",
        "p99 µs",
        f"CPU: {subject} ÷ this",
    ]


def machine_facts(loops: list[str]) -> dict[str, Any]:
    cpus = choose_cpus()
    return {
        "python": describe_python(),
        "kernel": f"{platform.system()} {platform.release()}",
        "cpus": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg()[0],
        "pinned": f"servers to CPU {cpus[0]}, client to CPU {cpus[1]}" if cpus else "nothing",
        "versions": {name: loop_version(name) for name in loops},
    }


def describe(facts: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return (
        f"{facts['python']}, {facts['kernel']}, {facts['cpus']} CPUs, "
        f"load average {facts['load_average']:.1f} at the start. Loops: {versions}. "
        f"Pinned: {facts['pinned']}.\n"
    )


# Command line.


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--rows",
        default="*",
        help="comma-separated names or patterns of rows, such as 'echo*,future' (default: all)",
    )
    parser.add_argument(
        "--loops",
        default=",".join(LOOPS),
        help="comma-separated loops; the first is compared with the rest (default: %(default)s)",
    )
    parser.add_argument("--rounds", type=int, help="rounds per row (default: 9)")
    parser.add_argument("--quick", action="store_true", help="short and noisy: does all work?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample there")
    return parser.parse_args()


def choose_rows(patterns: str) -> tuple[list[Scheduling], list[Echo]]:
    wanted = patterns.split(",")

    def chosen(name: str) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in wanted)

    scheduling = [row for row in SCHEDULING if chosen(row.name)]
    echo = [row for row in ECHO if chosen(row.name)]
    if not scheduling and not echo:
        names = ", ".join(row.name for row in (*SCHEDULING, *ECHO))
        raise SystemExit(f"no row is called {patterns!r}; there are: {names}")
    return scheduling, echo


def main() -> None:
    arguments = parse_arguments()
    settings = Settings(arguments.quick, arguments.rounds)
    scheduling_rows, echo_rows = choose_rows(arguments.rows)
    loops, reasons = available_loops(arguments.loops.split(","))
    for reason in reasons:
        print(reason)
    if not loops:
        raise SystemExit("none of the loops can be used")
    # So that `atexit` ends the servers when the benchmark itself is told to end.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))

    facts = machine_facts(loops)
    print(describe(facts), flush=True)
    report: dict[str, Any] = {"machine": facts, "scheduling": {}, "echo": {}}

    if scheduling_rows:
        lines = []
        for scheduling in scheduling_rows:
            costs = run_scheduling(scheduling, loops, settings)
            report["scheduling"][scheduling.name] = costs
            lines.append(scheduling_line(scheduling, costs))
        print(table(scheduling_header(loops), lines), flush=True)

    if echo_rows:
        build_floor()
        lines = []
        for echo in echo_rows:
            rounds = run_echo(echo, loops, settings)
            report["echo"][echo.name] = rounds
            lines += echo_lines(echo, rounds, loops[0])
        print(table(echo_header(loops[0]), lines), flush=True)

    print("A ratio is a cost divided by a cost: below 1, the first is the cheaper.")
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
