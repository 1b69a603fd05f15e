"""The exceptions of a simulation."""

from __future__ import annotations


class SimError(Exception):
    """The base class of the errors that a simulation finds in a program, or in a test of it."""


class Deadlock(SimError):
    """No task can go on: nothing is ready, and no timer is set. The text shows what each task waits for."""


class Livelock(SimError):
    """The loop took 100,000 turns, and never waited. The text shows what each task waits for."""


class TimeLimit(SimError):
    """More virtual time passed than `limit` allows. The text shows what each task waits for."""


class Unsimulated(SimError):
    """The program asked for something real, which no seed decides. The text says what to do."""

    def __init__(self, call: str, advice: str) -> None:
        super().__init__(f"{call} is not simulated: {advice}")
        self.call = call


class NotDeterministic(SimError):
    """Two runs of one seed differed. The text shows the first difference."""


class LeftOpen(SimError):
    """A task was cancelled, and something is open, pending or held since. The text says at which await."""


class NeverHappened(SimError):
    """A condition given to sometimes() held in no run of any seed."""


class Stuck(SimError):
    """A turn of the loop took 30 seconds of real time, or what `stuck` says. The text shows where it is."""


class PowerLoss(BaseException):
    """The power of the simulated disk went. The run is over: run another one with the same disk."""
