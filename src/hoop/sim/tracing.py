"""Traces: lines of what ran. In a file each is a JSON object, after a header with versions and settings."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import sys
import zlib
from typing import Any

from hoop.sim.settings import Settings

Choice = tuple[str, int, int]


def versions() -> dict[str, str]:
    """The versions of hoop and Python."""
    return {"hoop": sys.modules["hoop"].__version__, "python": platform.python_version()}


def hash_seed() -> str:
    """The value of PYTHONHASHSEED, which orders sets of strings; "random" if it has none."""
    return os.environ.get("PYTHONHASHSEED") or "random"


def header(seed: int, settings: Settings) -> dict[str, Any]:
    """The first line of a trace in a file."""
    return {
        "k": "header",
        **versions(),
        "seed": seed,
        **dataclasses.asdict(dataclasses.replace(settings, disk=None)),
        "disk": None if settings.disk is None else repr(settings.disk),
        "PYTHONHASHSEED": hash_seed(),
    }


def as_object(line: str) -> dict[str, Any]:
    """A line of a trace by its parts: `t` in nanoseconds, the kind `k`, the task `who`, and details `d`."""
    ns, kind, *rest = line.split(" ", 2)
    found: dict[str, Any] = {"t": int(ns), "k": kind}
    details = rest[0] if rest else ""
    if kind == "step":
        found["who"], _, found["d"] = details.rpartition(" ")
    elif kind == "choice":
        site, n, value = details.rsplit(" ", 2)
        found |= {"site": site, "n": int(n), "v": int(value)}
    elif details:
        found["d"] = details
    return found


def digest(lines: list[str]) -> str:
    """A sum over a trace, to compare traces by."""
    return f"{zlib.crc32(chr(10).join(lines).encode()):08x}"


class TraceFile:
    """A file that gets each line of a trace as it comes about."""

    def __init__(self, path: str | os.PathLike[str], seed: int, settings: Settings) -> None:
        self.path = path
        self.first = header(seed, settings)

    def __enter__(self) -> TraceFile:
        self.file = open(self.path, "w", encoding="utf-8")
        self.write(self.first)
        self.flush()
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, what: dict[str, Any]) -> None:
        """Write a line."""
        self.file.write(json.dumps(what) + "\n")

    def flush(self) -> None:
        """Have the kernel take what was written."""
        self.file.flush()

    def append(self, line: str) -> None:
        """Write a line of the trace."""
        self.write(as_object(line))


DECIDING = ("seed", "order", "depth", "step_us", "disk", "faults", "names")  # what choices mean


def read_choices(path: str | os.PathLike[str], seed: int, settings: Settings) -> list[Choice]:
    """Return the choices that a trace in a file has. Raises ValueError if it is that of other settings."""
    ours = json.loads(json.dumps(header(seed, settings)))
    found: list[Choice] = []
    theirs: dict[str, Any] = {}
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                entry = json.loads(line)
                if entry["k"] == "header":
                    theirs = entry
                elif entry["k"] == "choice":
                    found.append((str(entry["site"]), int(entry["n"]), int(entry["v"])))
            except (ValueError, KeyError, TypeError):
                raise ValueError(f"{os.fspath(path)}:{number} is no line of a trace") from None
    for name in DECIDING:
        if name in theirs and theirs[name] != ours[name]:
            raise ValueError(
                f"{os.fspath(path)} is the trace of a run with {name} {theirs[name]}, "
                f"not {ours[name]}: give run() the same {name}"
            )
    return found
