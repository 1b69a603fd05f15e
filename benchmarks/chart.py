"""Draws README's chart from the tables of docs/benchmarks.md: docs/chart-light.svg and docs/chart-dark.svg.

    python benchmarks/chart.py

Run it after `make bench ARGS=--docs`. A test compares the pictures with the tables.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

DOCS = Path(__file__).resolve().parent.parent / "docs"
# Rows of the tables, by the beginning of their first column, and their names in the chart.
ROWS = {
    "HTTP by uvicorn with httptools, 64 connections": "HTTP by uvicorn",
    "TLS echo, 1 KiB, 50 connections": "TLS echo, 1 KiB",
    "echo by Protocol, 1 KiB, 50 connections": "TCP echo, 1 KiB",
}
COLUMNS = {"hoop-uring": "hoop", "uvloop": "uvloop", "asyncio": "asyncio"}

WIDTH, LEFT, RIGHT = 720, 160, 120
TOP, BAR, GAP, GROUP_GAP = 44, 16, 4, 20


class Theme(NamedTuple):
    """The colours of a chart. The background is the page's."""

    text: str
    faint: str
    bars: tuple[str, str, str]  # of COLUMNS, in order


THEMES = {
    "light": Theme("#1f2328", "#59636e", ("#0969da", "#8c959f", "#c4cbd3")),
    "dark": Theme("#e6edf3", "#9198a1", ("#4493f8", "#767e88", "#474e57")),
}


def figures(markdown: str) -> dict[str, dict[str, float]]:
    """The microseconds of each row of the chart, by column. KeyError if the tables lack one."""
    found: dict[str, dict[str, float]] = {}
    header: list[str] = []
    for line in markdown.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|  |"):
            header = cells
        elif line.startswith("|") and cells[0] in ROWS:
            values = dict(zip(header, cells))
            row = {COLUMNS[column]: microseconds(values[column]) for column in COLUMNS}
            found[ROWS[cells[0]]] = row
    return {name: found[name] for name in ROWS.values()}


def microseconds(cell: str) -> float:
    """The number of a cell such as "3.1 µs (0.97)"."""
    number = re.match(r"([\d.]+) µs", cell)
    if number is None:
        raise ValueError(f"not a number of microseconds: {cell}")
    return float(number[1])


def draw(rows: dict[str, dict[str, float]], theme: Theme) -> str:
    """The chart as SVG: a group of bars for each row, the shorter the better."""
    scale = (WIDTH - LEFT - RIGHT) / max(max(row.values()) for row in rows.values())
    parts: list[str] = []

    def text(x: float, y: float, words: str, color: str, more: str = "") -> None:
        parts.append(f'<text x="{x:g}" y="{y:g}" fill="{color}"{more}>{escape(words)}</text>')

    text(0, 18, "CPU time per request, in microseconds: less is better", theme.faint)
    y = TOP
    for name, row in rows.items():
        middle = y + (len(row) * (BAR + GAP) - GAP) / 2 + 5
        text(0, middle, name, theme.text, ' font-weight="600"')
        for (column, value), color in zip(row.items(), theme.bars):
            bold = ' font-weight="600"' if column == "hoop" else ""
            length = value * scale
            parts.append(
                f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2" fill="{color}"/>'
            )
            text(LEFT + round(length) + 8, y + 13, f"{column} {value:g}", theme.text, bold)
            y += BAR + GAP
        y += GROUP_GAP
    height = y - GROUP_GAP
    said = "; ".join(
        f"{name}: " + ", ".join(f"{column} {value:g} µs" for column, value in row.items())
        for name, row in rows.items()
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}"'
            f' height="{height}" role="img" font-family="system-ui, sans-serif" font-size="14">',
            f"<title>{escape(said)}</title>",
            *parts,
            "</svg>\n",
        ]
    )


def charts(markdown: str) -> dict[str, str]:
    """Each picture by the name of its file."""
    rows = figures(markdown)
    return {f"chart-{name}.svg": draw(rows, theme) for name, theme in THEMES.items()}


if __name__ == "__main__":
    for name, svg in charts((DOCS / "benchmarks.md").read_text()).items():
        (DOCS / name).write_text(svg)
        print(DOCS / name)
