"""The records that a look into the program gives: numbers and texts, and no object of yours.

Times are seconds. Fields are only ever added. `as_json()` makes a record into what json.dumps() takes.
"""

from __future__ import annotations

import dataclasses
from typing import Any

SCHEMA = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Frame:
    """A place in a coroutine: the name of its function, its file, and the line that it is at."""

    name: str
    file: str
    line: int


@dataclasses.dataclass(frozen=True, slots=True)
class Wait:
    """The thing that a task waits for.

    `kind` is "task", "tasks", "sleep", "timer", "executor", "future", or the class of hoop's object in small
    letters, such as "lock" or "queue". `targets` has the ids of the tasks. `left` is the time until a timer.
    """

    kind: str
    text: str
    targets: tuple[int, ...] = ()
    left: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class TaskView:
    """An unfinished task.

    `id` is a number that no other task of the process has. `state` is "running", "ready" or "waiting", and
    `since` says for how long, to the precision of a visit to the driver. `busy` counts only the time while
    the loop was measuring. `stack` begins with the task's own coroutine and ends where it waits.
    """

    id: int
    loop: int
    name: str
    state: str
    since: float
    age: float
    polls: int
    busy: float
    coroutine: str
    stack: tuple[Frame, ...]
    waits_for: Wait | None
    awaited_by: tuple[int, ...]
    cancelling: int
    site: tuple[str, int] | None


@dataclasses.dataclass(frozen=True, slots=True)
class LoopView:
    """A loop: its thread, its counts since it was made, and how long events and timers waited.

    `thread` is None while the loop does not run. `visit` and `timer_lag` are the median, the 99th percentile
    and the longest. `tasks` counts the unfinished ones by state.
    """

    id: int
    thread: str | None
    driver: str
    age: float
    idle: float
    turns: int
    callbacks: int
    ready: int
    ready_max: int
    visit: tuple[float, float, float]
    timer_lag: tuple[float, float, float]
    tasks: dict[str, int]
    tasks_ended: dict[str, int]
    transports: int
    timers: int
    bytes_in: int
    bytes_out: int
    accepted: int
    refused: int


@dataclasses.dataclass(frozen=True, slots=True)
class Cycle:
    """Tasks that wait for each other, each for the next and the last for the first."""

    tasks: tuple[int, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """The program at one moment. `tasks` has the chosen ones, and `total` says how many there are."""

    schema: int
    pid: int
    loops: tuple[LoopView, ...]
    tasks: tuple[TaskView, ...]
    total: int
    cycles: tuple[Cycle, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the record as dictionaries and tuples."""
        return dataclasses.asdict(self)
