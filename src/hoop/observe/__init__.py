"""Look into a running program: what blocks its loops, its tasks, and what each task waits for.

    import hoop.observe

    for task in hoop.observe.snapshot().tasks:
        print(task.id, task.state, task.coroutine, task.waits_for)

Any thread may ask, also while a loop is blocked. A snapshot runs no code of yours. Names come from code
objects and types, and no `repr()` is called.
"""

from __future__ import annotations

from hoop.observe.exports import metrics, otel
from hoop.observe.labels import asgi, label, show
from hoop.observe.model import (
    ChildView,
    ConnectionView,
    Cycle,
    Frame,
    GcView,
    JobView,
    LoopView,
    ObserverView,
    Overview,
    PoolView,
    Rates,
    ResourceView,
    ServerView,
    SiteView,
    Snapshot,
    Stall,
    TaskView,
    TimerView,
    Wait,
)
from hoop.observe.snapshot import snapshot
from hoop.observe.thread import is_on, start, stop

__all__ = [
    "ChildView",
    "ConnectionView",
    "Cycle",
    "Frame",
    "GcView",
    "JobView",
    "LoopView",
    "ObserverView",
    "Overview",
    "PoolView",
    "Rates",
    "ResourceView",
    "ServerView",
    "SiteView",
    "Snapshot",
    "Stall",
    "TaskView",
    "TimerView",
    "Wait",
    "asgi",
    "is_on",
    "label",
    "metrics",
    "otel",
    "show",
    "snapshot",
    "start",
    "stop",
]
