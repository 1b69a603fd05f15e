"""Runs an asyncio program in a world that a seed decides: time, the order of tasks, random numbers.

    import hoop.sim

    hoop.sim.run(main, seed=7)  # the same each time
    hoop.sim.explore(main, seeds=200)  # fails with the first seed that fails

With pytest write `@pytest.mark.sim(seeds=200)` above an async test. See docs/simulation.md.
"""

from hoop.sim.errors import (
    Deadlock,
    LeftOpen,
    Livelock,
    NeverHappened,
    NotDeterministic,
    PowerLoss,
    SimError,
    Stuck,
    TimeLimit,
    Unsimulated,
)
from hoop.sim.event_loop import SimEventLoop
from hoop.sim.hosts.host import Host
from hoop.sim.hosts.world import Link, World
from hoop.sim.net.weather import Faults
from hoop.sim.points import always, fault, now, random, sometimes
from hoop.sim.running import run
from hoop.sim.search.cancelling import cancel_each
from hoop.sim.search.exploring import Summary, explore
from hoop.sim.search.worlds import SeededWorld, worlds
from hoop.sim.storage.disks import Disk
from hoop.sim.storage.mounting import disk, until_power_loss

__all__ = [
    "Deadlock",
    "Disk",
    "Faults",
    "Host",
    "LeftOpen",
    "Link",
    "Livelock",
    "NeverHappened",
    "NotDeterministic",
    "PowerLoss",
    "SeededWorld",
    "SimError",
    "SimEventLoop",
    "Stuck",
    "Summary",
    "TimeLimit",
    "Unsimulated",
    "World",
    "always",
    "cancel_each",
    "disk",
    "explore",
    "fault",
    "now",
    "random",
    "run",
    "sometimes",
    "until_power_loss",
    "worlds",
]
