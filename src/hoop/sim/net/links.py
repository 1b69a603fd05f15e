"""Hosts as the network sees them, and the ways between them: slow, held, or cut."""

from __future__ import annotations

from typing import Any

from hoop.sim.driver import Choices, SimDriver
from hoop.sim.net.weather import Weather


class Place:
    """Where sockets are: a host of the world, or the world's own program."""

    __slots__ = ("address", "address6", "down", "driver", "holdings", "loop", "name", "paths")

    def __init__(self, name: str, address: str, address6: str, loop: Any) -> None:
        self.name = name
        self.address = address  # the world's own program has all others, too
        self.address6 = address6
        self.has_loop(loop)
        self.down = False  # no message comes or goes
        # Unix sockets that were bound, by path: the mode and the number of the file that it would be.
        self.paths: dict[Any, tuple[int, int]] = {}
        self.holdings: Any = None  # of the process here; None for the world's own program

    def has_loop(self, loop: Any) -> None:
        """The process here has this loop."""
        self.loop = loop
        self.driver: SimDriver = loop.sim_driver


class Road:
    """The way of messages from one place to another, once something is special about it."""

    __slots__ = ("bandwidth", "cut", "held", "high", "low")

    def __init__(self) -> None:
        self.low: float | None = None  # seconds; None for those that the seed has drawn
        self.high = 0.0
        self.bandwidth: float | None = None  # bytes a second
        self.cut = False
        self.held = False

    def over(self, weather: Weather) -> RoadIn:
        """This road in the weather of a world."""
        return RoadIn(self, weather)


class RoadIn:
    """A road with the weather of a world."""

    def __init__(self, road: Road, weather: Weather) -> None:
        self.road = road
        self.weather = weather

    def latency(self, choices: Choices, spike: bool) -> int:
        """How many nanoseconds a message takes."""
        road = self.road
        if road.low is None:
            return self.weather.latency(choices, spike)
        return 1 + int((road.low + (road.high - road.low) * choices.fraction()) * 1e9)

    def transfer(self, n: int) -> int:
        """How many nanoseconds the road needs for so many bytes."""
        if self.road.bandwidth is None:
            return self.weather.transfer(n)
        return int(n * 1e9 / self.road.bandwidth)


class Roads:
    """All roads about which something is special."""

    def __init__(self) -> None:
        self.between: dict[tuple[Place, Place], Road] = {}

    def find(self, start: Place, end: Place) -> Road | None:
        """The road from one place to another; None if nothing is special about it."""
        return self.between.get((start, end)) if self.between else None

    def make(self, start: Place, end: Place) -> Road:
        """The road from one place to another, to be changed."""
        return self.between.setdefault((start, end), Road())

    def block(self, start: Place, end: Place) -> bool:
        """Whether messages of connections have to wait."""
        if start is end:
            return False
        road = self.find(start, end)
        return start.down or end.down or (road is not None and (road.cut or road.held))


def checked(name: str, value: Any, least: float = 0.0) -> float:
    """A number that is not below `least`. Raises TypeError or ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    if not least <= value <= 1e12:
        raise ValueError(f"{name} must be {least:g} or greater, not {value!r}")
    return float(value)


__all__ = ["Place", "Road", "Roads", "checked"]
