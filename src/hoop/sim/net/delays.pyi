from hoop.sim.driver import Choices

class Delays:
    high: float
    low: float
    spikes: float
    spike: float
    bandwidth: float
    pieces: float
    piece: int
    window: int
    def latency(self, choices: Choices, spike: bool) -> int: ...
    def transfer(self, n: int) -> int: ...
    def cut(self, data: bytes, choices: Choices) -> list[bytes]: ...
