"""Functions for the program under test. They ask the world that runs, and do little or nothing outside."""

from __future__ import annotations

import random as _random
from typing import Any

from hoop.sim import swaps
from hoop.sim.driver import Choices
from hoop.sim.event_loop import SimEventLoop
from hoop.sim.net.weather import check_chance

SHARES = (0.01, 0.05, 0.2, 0.5)  # of a fault: each seed draws one


class World:
    """The world that runs."""

    def __init__(self, loop: SimEventLoop, happened: dict[str, bool]) -> None:
        self.loop = loop
        self.happened = happened
        self.numbers = loop.script.stream("random")
        self.faults: dict[str, tuple[Choices, float]] = {}


_world: World | None = None


def enter(world: World | None) -> None:
    """A world begins to run, or none does any more."""
    global _world
    _world = world


def _here() -> World | None:
    return _world if _world is not None and swaps.is_inside() else None


def add_happened(known: dict[str, bool], found: dict[str, bool]) -> None:
    """Add what has happened in a run, or in a process, to what is known of sometimes()."""
    for message, held in found.items():
        known[message] = known.get(message, False) or held


def now() -> float:
    """Return the virtual seconds since the world began.

    Raises RuntimeError outside of a simulation.
    """
    world = _here()
    if world is None:
        raise RuntimeError("no simulation runs in this thread")
    return world.loop.now()


def always(condition: object, message: str) -> None:
    """Fail the run with an AssertionError if a condition does not hold. Does nothing outside of a simulation.

    hoop.sim.always(balance >= 0, "a balance is negative")
    """
    if not condition and _here() is not None:
        raise AssertionError(message)


def sometimes(condition: object, message: str) -> None:
    """Note whether a condition held. explore() fails if it has held in no run of any seed.

    So a test cannot pass without having tested anything. Does nothing outside of a simulation.

        hoop.sim.sometimes(attempt > 1, "a request was tried again")
    """
    check_text("message", message)
    world = _here()
    if world is not None:
        add_happened(world.happened, {message: bool(condition)})


def random() -> float:
    """Return a number from 0 to 1, without 1. Shrinking tries 0 in its place, unlike for random.random().

    Outside of a simulation it is random.random().

        await asyncio.sleep(hoop.sim.random())
    """
    world = _here()
    if world is None:
        return _random.random()
    number = world.numbers.fraction()
    if world.loop.script.explains:
        world.loop.script.say(f"hoop.sim.random() is {number:.3g}")
    return number


def fault(name: str, share: float | None = None) -> bool:
    """Return whether something is to go wrong here: as often as `share` says, or as the seed draws.

    Always False outside of a simulation. The report says how often each fault came about.

        if hoop.sim.fault("cache is cold"):
            cache.clear()
    """
    check_text("name", name)
    if share is not None:
        check_chance("share", share)
    world = _here()
    if world is None:
        return False
    found = world.faults.get(name)
    if found is None:
        found = world.faults[name] = _fault(world, name)
    choices, often = found
    comes = choices.rarely(often if share is None else share)
    if comes:
        world.loop.injected[name] = world.loop.injected.get(name, 0) + 1
        _tell(world.loop, name)
    return comes


def check_text(name: str, text: object) -> None:
    """Raise TypeError unless an argument is a string."""
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a string, not {type(text).__name__}")


def _fault(world: World, name: str) -> tuple[Choices, float]:
    script = world.loop.script
    world.loop.injected.setdefault(name, 0)
    share = SHARES[Choices(script.seed, sum(name.encode())).choose(len(SHARES))]
    world.loop.parameters[name] = f"{100 * share:g}%"
    return script.stream(f"fault {name}"), share


def _tell(loop: Any, name: str) -> None:
    if loop.script.explains:
        loop.script.say(f"the fault {name!r} comes")


__all__ = ["World", "always", "enter", "fault", "now", "random", "sometimes"]
