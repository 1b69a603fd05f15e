"""Makes tables, a chart and a verdict of the samples that compare.py took. Measures nothing.

A ratio of two contestants is taken within each round, then the median over the rounds. Everything here
is of costs, so less is better, and below 1 the first is the better.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from loops import HOOP

Row = dict[str, Any]  # As Race.results() returns it.

# A difference that is smaller, or that not so many of the rounds agree on, is taken for noise.
LOSS_RATIO = 1.03
LOSS_ROUNDS = 0.75

NOTHING = "-"  # In a cell.

KEYS = {
    "cpu_us": "CPU",
    "wall_us": "time",
    "p50_us": "median latency",
    "p99_us": "p99 latency",
    "bytes_each": "memory",
}
GROUPS = {
    "echo": "Echo over TCP",
    "unix": "Unix sockets",
    "connections": "Connections",
    "tls": "TLS",
    "udp": "Datagrams",
    "http": "HTTP and WebSocket",
    "observed": "After hoop.observe.start()",
    "scheduling": "Callbacks, tasks and timers",
    "sync": "Queues and locks",
    "files": "Files",
    "processes": "Child processes",
    "memory": "Memory, and very many",
    "scale": "How cost grows",
}
CHART_SERVED = {
    "echo-protocol-64-50": "echo 64 B\nprotocol",
    "echo-protocol-16384-50": "echo 16 KiB\nprotocol",
    "echo-streams-1024-50": "echo 1 KiB\nstreams",
    "echo-sockets-1024-50": "echo 1 KiB\nsockets",
    "connect": "connections",
    "tls-1k": "TLS 1 KiB",
    "udp-64": "UDP 64 B",
    "http-uvicorn": "HTTP\nuvicorn",
}
CHART_WORK = {
    "call_soon": "call_soon",
    "sleep_zero": "sleep(0)",
    "future": "future",
    "hand_over": "task to task",
    "create_task": "create_task",
    "timer": "timer",
    "queue": "queue",
}
CHART_LABELS = (*HOOP, "asyncio", "uvloop")
COLOURS = {HOOP[0]: "#0b6e4f", HOOP[1]: "#6bbf59", "asyncio": "#b0b7bf", "uvloop": "#d98032"}


# ---- numbers ----


def middle(row: Row, label: str, key: str) -> float | None:
    """Return the median of a contestant's samples, or None if it has none."""
    values = [sample[key] for sample in row["samples"].get(label, ()) if key in sample]
    return statistics.median(values) if values else None


def ratios(row: Row, label: str, other: str, key: str) -> list[float]:
    """Return in each round the first's cost divided by the other's."""
    pairs = zip(row["samples"].get(label, ()), row["samples"].get(other, ()))
    return [a[key] / b[key] for a, b in pairs if key in a and b.get(key, 0) > 0]


def ratio(row: Row, label: str, other: str, key: str) -> float | None:
    each = ratios(row, label, other, key)
    return statistics.median(each) if each else None


def labels(row: Row, *roles: str) -> list[str]:
    """Return the contestants of these roles that have samples, in the row's order."""
    return [
        label for label, role in row["roles"].items() if role in roles and row["samples"].get(label)
    ]


def floor_of(row: Row) -> str | None:
    """Return the contestant by which the row's costs are divided: the first floor that has samples."""
    return next(iter(labels(row, "floor")), None)


def best_other(row: Row) -> str | None:
    """Return the best contestant by the deciding figure, apart from hoop and the floor."""
    key = row["judged"][0]
    costs = {label: middle(row, label, key) for label in labels(row, "other")}
    known = {label: cost for label, cost in costs.items() if cost is not None}
    return min(known, key=known.__getitem__) if known else None


def lost(row: Row, label: str, other: str, key: str) -> float | None:
    """Return the ratio by which a contestant is worse than another, or None if it is within the noise."""
    each = ratios(row, label, other, key)
    if not each:
        return None
    by = statistics.median(each)
    agreeing = sum(r > 1 for r in each) / len(each)
    return by if by > LOSS_RATIO and agreeing >= LOSS_ROUNDS else None


def losses(row: Row) -> Iterator[tuple[str, str, str, float]]:
    """Yield each loss of hoop: its contestant, the better one, the figure, and the ratio."""
    for label in labels(row, "ours"):
        for key in row["judged"]:
            for other in labels(row, "other"):
                by = lost(row, label, other, key)
                if by is not None:
                    yield label, other, key, by


# ---- text ----


def amount(key: str, value: float | None) -> str:
    if value is None:
        return NOTHING
    if key.endswith("bytes") or key.startswith("bytes"):
        for unit, size in (("MiB", 1 << 20), ("KiB", 1 << 10)):
            if abs(value) >= size:
                return f"{value / size:,.1f} {unit}"
        return f"{value:,.0f} B"
    if value < 1:
        return f"{value * 1e3:.0f} ns"
    if value < 100:
        return f"{value:.1f} µs"
    return f"{value:,.0f} µs" if value < 10_000 else f"{value / 1e3:,.1f} ms"


def table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows) + "\n"


def line(row: Row) -> str:
    """Return a row's result, in one line."""
    key = row["judged"][0]
    costs = [f"{label} {amount(key, middle(row, label, key))}" for label in row["samples"]]
    out = [f"{label} failed ({reason})" for label, reason in row["failures"].items()]
    out += [f"no {label} ({reason})" for label, reason in row["absent"].items()]
    return f"{row['name']}: {', '.join(costs)}" + "".join(f"; {text}" for text in out)


def describe(facts: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return (
        f"{facts['date']}; {facts['kernel']}, {facts['machine']}, {facts['cpus']} CPUs; "
        f"{facts['python']}; {versions}. "
        f"Load average at the start: {facts['load_average']:.1f}. Pinned: {facts['pinned']}."
    )


def subject_cell(row: Row, loop: str) -> str:
    """Return how hoop on this loop compares with the best of the others: each of its ways to do it."""
    other, key = best_other(row), row["judged"][0]
    cells = []
    for label in labels(row, "ours"):
        by = ratio(row, label, other, key) if other and label.startswith(loop) else None
        if by is not None:
            way = label.removeprefix(loop).strip()
            number = f"**{by:.2f}** ✗" if lost(row, label, str(other), key) else f"{by:.2f}"
            cells.append(f"{way} {number}".strip())
    return f"{', '.join(cells)} ({other})" if cells else NOTHING


def group_table(rows: list[Row]) -> str:
    columns = list(
        dict.fromkeys(label for row in rows for label in row["roles"] if label in row["samples"])
    )
    subjects = [loop for loop in HOOP if any(column.startswith(loop) for column in columns)]
    header = ["", "of", *columns, *(f"{loop} ÷ best other" for loop in subjects)]
    lines = []
    for row in rows:
        key, floor = row["judged"][0], floor_of(row)
        cells = [row["title"], f"{KEYS[key]} per {row['unit']}"]
        for label in columns:
            by = ratio(row, label, floor, key) if floor else None
            cell = amount(key, middle(row, label, key))
            cells.append(
                "failed" if label in row["failures"] else f"{cell} ({by:.2f})" if by else cell
            )
        lines.append([*cells, *(subject_cell(row, loop) for loop in subjects)])
    return table(header, lines)


def growth_tables(rows: list[Row]) -> Iterator[str]:
    """Yield a table for each family of rows: cost by size, divided by the least of the sizes up to it.

    1.00 means that no smaller size is cheaper, and nothing grows.
    """
    families: dict[str, list[Row]] = {}
    for row in rows:
        if row.get("family") and row["samples"]:
            families.setdefault(row["family"], []).append(row)
    for family, members in families.items():
        columns = list(dict.fromkeys(label for row in members for label in row["samples"]))
        least: dict[str, float] = {}
        lines = []
        for row in sorted(members, key=lambda row: int(row["size"])):
            cells = [f"{row['size']:,}"]
            for label in columns:
                cost = middle(row, label, row["judged"][0])
                if cost is not None:
                    least[label] = min(cost, least.get(label, cost))
                cells.append(f"{cost / least[label]:.2f}" if cost and least[label] else NOTHING)
            lines.append(cells)
        yield table((f"`{family}-`", *columns), lines)


def loss_lines(rows: list[Row]) -> list[str]:
    """Return a line for each row in which hoop is worse than another, at anything that is judged."""
    lines = []
    for row in rows:
        found = [
            f"{label} {by:.2f} times the {KEYS[key]} of {other}"
            for label, other, key, by in losses(row)
        ]
        if found:
            lines.append(f"- **{row['title']}** (`{row['name']}`): {', '.join(found)}.")
    return lines


def absent_lines(results: dict[str, Any]) -> list[str]:
    """Return a line for each contestant that failed or was not there, saying why and where."""
    lines = [
        f"- {name}: not here: {reason}." for name, reason in results["facts"]["absent"].items()
    ]
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in results["rows"]:
        for how, found in (("failed", row["failures"]), ("not here", row["absent"])):
            for label, reason in found.items():
                reasons.setdefault((label, f"{how}: {reason}"), []).append(f"`{row['name']}`")
    lines += [
        f"- {label}, in {', '.join(names)}: {text}." for (label, text), names in reasons.items()
    ]
    return lines


def detail_lines(row: Row) -> Iterator[list[str]]:
    floor = floor_of(row)
    for label in labels(row, "floor", "ours", "other"):
        by = ratio(row, label, floor, "cpu_us") if floor else None
        per_second = middle(row, label, "per_second")
        yield [
            f"`{row['name']}`",
            label,
            amount("cpu_us", middle(row, label, "cpu_us")),
            f"{by:.2f}" if by else NOTHING,
            f"{per_second:,.0f}" if per_second else NOTHING,
            amount("p50_us", middle(row, label, "p50_us")),
            amount("p99_us", middle(row, label, "p99_us")),
            amount("bytes_each", middle(row, label, "bytes_each")),
            amount("peak_bytes", middle(row, label, "peak_bytes")),
        ]


DETAIL_HEADER = (
    "row",
    "contestant",
    "CPU per operation",
    "÷ floor",
    "operations/s",
    "p50",
    "p99",
    "memory each",
    "peak memory",
)


def document(results: dict[str, Any], chart: str | None) -> str:
    """Return the whole report in Markdown. The chart is a picture beside it, by its file's name."""
    facts, rows = results["facts"], results["rows"]
    parts = [
        f"# Benchmarks on {facts['python'].partition(' (')[0]}\n",
        f"Made by `{facts['command']}` in {facts['minutes']:.0f} minutes: {describe(facts)}\n",
        "Every number is of that machine in that hour. Believe the ratios: the contestants took turns "
        "within every round, and a ratio is the median over the rounds of one cost divided by another. "
        "Numbers in parentheses, or as “÷ floor”, are relative to the floor. That is a bare C server which "
        "does the least possible work, or blocking calls for files. Where C epoll and C io_uring are both "
        "there, C epoll is 1.00. [The README of the benchmarks](../benchmarks/README.md) explains how the "
        "numbers were measured, and what they cannot tell.\n",
    ]
    if chart:
        parts.append(f"![CPU per operation, relative to bare C and to asyncio]({chart})\n")
    parts.append("## Where hoop loses\n")
    found = loss_lines(rows)
    parts.append(
        f"Worse by more than {LOSS_RATIO - 1:.0%} in the median, and worse in {LOSS_ROUNDS:.0%} of the "
        "rounds at least:\n"
        if found
        else f"Nowhere by more than {LOSS_RATIO - 1:.0%}, in these rows and on this machine.\n"
    )
    if found:
        parts.append("\n".join(found) + "\n")
    for group, heading in GROUPS.items():
        members = [row for row in rows if row["group"] == group and row["samples"]]
        if members:
            parts += [f"## {heading}\n", group_table(members)]
    growth = list(growth_tables(rows))
    if growth:
        parts += [
            "## Cost by size\n",
            "What each costs, divided by the least cost of its size and all smaller ones: 1.00 is no "
            "growth.\n",
            *growth,
        ]
    absent = absent_lines(results)
    if absent:
        parts += ["## Failed, or not installed\n", "\n".join(absent) + "\n"]
    details = [cells for row in rows for cells in detail_lines(row)]
    parts += ["## All of it\n", table(DETAIL_HEADER, details)]
    return "\n".join(parts)


# ---- the chart ----


def draw(results: dict[str, Any], path: Path) -> bool:
    """Draw the chart, if matplotlib is there and there is anything to draw. Return whether."""
    rows = {row["name"]: row for row in results["rows"]}
    served = {
        name: text for name, text in CHART_SERVED.items() if name in rows and floor_of(rows[name])
    }
    work = {name: text for name, text in CHART_WORK.items() if name in rows}
    panels = [
        (served, "server CPU per request, less is better; bare C epoll = 1", None),
        (work, "CPU per operation of the loop, less is better; asyncio = 1", "asyncio"),
    ]
    panels = [panel for panel in panels if panel[0]]
    if not panels:
        return False
    try:
        import matplotlib
    except ImportError:
        print("there is no matplotlib to draw a chart with")
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(panels), 1, figsize=(10, 3.6 * len(panels)), squeeze=False)
    for axis, (names, title, base) in zip(axes[:, 0], panels):
        drawn_labels = [
            x for x in CHART_LABELS if any(rows[name]["samples"].get(x) for name in names)
        ]
        width = 0.8 / len(drawn_labels)
        for i, label in enumerate(drawn_labels):
            heights = [
                ratio(rows[name], label, base or str(floor_of(rows[name])), "cpu_us") or 0
                for name in names
            ]
            places = [
                place + (i - (len(drawn_labels) - 1) / 2) * width for place in range(len(names))
            ]
            bars = axis.bar(places, heights, width * 0.92, label=label, color=COLOURS[label])
            axis.bar_label(bars, [f"{h:.2f}" if h else "" for h in heights], fontsize=6, padding=1)
        axis.axhline(1, color="#444444", linewidth=0.8, linestyle="--")
        axis.set_xticks(range(len(names)), list(names.values()), fontsize=8)
        axis.set_title(title, fontsize=10, loc="left")
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(
            frameon=False,
            fontsize=8,
            ncols=len(drawn_labels),
            loc="lower right",
            bbox_to_anchor=(1, 1),
        )
    figure.text(0.01, 0.005, describe(results["facts"]), fontsize=5, color="#666666")
    figure.tight_layout(rect=(0, 0.015, 1, 1))
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
    return True
