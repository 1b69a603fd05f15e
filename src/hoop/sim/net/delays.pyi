from typing import final

from hoop.sim.driver import Choices

@final
class Agenda:
    def clear(self) -> None: ...

class Delays:
    high: float
    low: float
    spikes: float
    spike: float
    bandwidth: float
    pieces: float
    piece: int
    window: int
    reset: float
    epipe: float
    def latency(self, choices: Choices, spike: bool) -> int: ...
    def transfer(self, n: int) -> int: ...
