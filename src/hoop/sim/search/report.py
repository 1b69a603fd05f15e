"""Says in a few lines which seed failed, what it had drawn, which choices matter, and how to run it again."""

from __future__ import annotations

import itertools

from hoop.sim.search.outcome import Outcome
from hoop.sim.search.shrinking import Shrunk, that_matter
from hoop.sim.tracing import digest, hash_seed, versions

SEEDS_SHOWN = 10
CHOICES_SHOWN = 6
STEPS_SHOWN = 5
WIDTH = 100
OF_ALL = (
    "network",
    "scale",
    "disk scale",
    "share of threads",
)  # sites whose choices hold for the whole run
FRACTIONS = 1 << 30  # how many values a choice has that stands for a number from 0 to 1
BEFORE = 3  # lines of a trace before the first difference


def several(failed: list[int], runs: int) -> str:
    """How many seeds have failed, and which."""
    if runs < 2:
        return ""
    shown = ", ".join(map(str, failed[:SEEDS_SHOWN])) + (
        ", ..." if len(failed) > SEEDS_SHOWN else ""
    )
    return f" ({len(failed)} of {runs} seeds: {shown})"


def drawn(outcome: Outcome) -> str:
    """All that the seed has drawn for the whole run, with the order first."""
    of = versions()
    parts = [f"{name} {text}" for name, text in outcome.parameters.items()]
    parts += [f"PYTHONHASHSEED {hash_seed()}", f"hoop {of['hoop']}, Python {of['python']}"]
    lines = [parts[0]]
    for part in parts[1:]:
        if len(lines[-1]) + len(part) < WIDTH:
            lines[-1] += f"   {part}"
        else:
            lines.append(f"  {part}")
    return "\n  ".join(lines)


def injected(outcome: Outcome) -> str:
    """How often each fault came about, with a mark at those that never did."""
    return ", ".join(
        f"{count} {name}{'' if count else ' (!)'}" for name, count in outcome.injected.items()
    )


def _line(at: int, shrunk: Shrunk, explained: Outcome) -> str:
    """A choice in words, with its time."""
    site, n, value = shrunk.choices[at]
    share = f"{100 * value / n:.0f}% of the most" if n == FRACTIONS else f"{value} of 0 to {n - 1}"
    plain = f"a turn takes {value} µs more" if site == "step" else f"{site}: {share}"
    ns, text = explained.said.get(at, (None, plain))
    return f"  {'' if ns is None else f'{ns * 1e-9:.3f} s':>10}  {text}"


def last_steps(outcome: Outcome) -> list[str]:
    """The tasks that ran last, each with its time."""
    found = []
    for line in outcome.trace[: outcome.lines]:
        ns, kind, *rest = line.split(" ", 2)
        if kind == "step":
            found.append(f"  {f'{int(ns) * 1e-9:.6f} s':>13}  {' '.join(rest)}")
    return found[-STEPS_SHOWN:]


def story(outcome: Outcome, shrunk: Shrunk, explained: Outcome) -> list[str]:
    """The choices that matter: when each was made, and what it did."""
    matter = that_matter(shrunk.choices)
    verb = "matters" if len(matter) == 1 else "matter"
    runs = "1 run" if shrunk.runs == 1 else f"{shrunk.runs} runs"
    some = "" if shrunk.complete else ", or fewer: the time for it ended"
    lines = [f"shrunk: {len(outcome.log)} choices -> {len(matter)} that {verb}, in {runs}{some}"]
    if not matter:
        lines[0] += "; the plain order fails, too, so look at times"
        lines += ["the last steps:", *last_steps(outcome)]
    whole = [at for at in matter if shrunk.choices[at][0] in OF_ALL]
    if whole:
        with_them = [f"{name} {text}" for name, text in explained.parameters.items()][1:]
        lines.append(f"  with {', '.join(with_them) or 'the times of this seed'}")
    told = [_line(at, shrunk, explained) for at in matter if at not in whole]
    grouped = [(line, sum(1 for _ in same)) for line, same in itertools.groupby(told)]
    for line, times in grouped[:CHOICES_SHOWN]:
        lines.append(line if times == 1 else f"{line}  ({times} times)")
    if len(grouped) > CHOICES_SHOWN:
        lines.append(f"  and {sum(times for _, times in grouped[CHOICES_SHOWN:])} more")
    if whole and not any(at in explained.said for at in matter):
        lines += ["the last steps:", *last_steps(outcome)]
    return lines


def note(title: str, outcome: Outcome, shrunk: list[str], again: str) -> str:
    """The report of a run that failed."""
    lines = [title, drawn(outcome)]
    if outcome.injected:
        lines.append(f"injected: {injected(outcome)}")
    if outcome.trace:
        lines.append(f"replayed: same trace (crc {digest(outcome.trace)})")
    return "\n  ".join([*lines, *shrunk, f"again: {again}"])


def difference(first: Outcome, second: Outcome) -> str:
    """The place where two runs part, with some lines before it."""
    a, b = ([*outcome.trace, outcome.end] for outcome in (first, second))
    at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    lines = [f"  both:   {line}" for line in a[max(at - BEFORE, 0) : at]]
    lines += [
        f"  {name} {run[at]}" for name, run in (("first: ", a), ("second:", b)) if at < len(run)
    ]
    return "\n" + "\n".join(lines)


__all__ = ["difference", "note", "several", "story"]
