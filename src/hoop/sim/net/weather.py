"""How the network of a world is: its delays, which each seed draws anew, and its faults."""

from __future__ import annotations

import _socket
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from hoop.sim.driver import Choices
from hoop.sim.net.delays import Delays

PIECE_BYTES = (900, 90, 9)
Names = Mapping[str, str | Sequence[str]]
WHOLE = 1 << 18  # the room for bytes in flight, in most seeds
# Sizes of the kernel's buffer behind a socket, as SO_SNDBUF takes them: the least, and the usual.
SMALL_BUFFER, LARGE_BUFFER = 2304, 106496
SPIKE_SECONDS_MAX = 0.5
CALLS = ("emfile", "enobufs", "econnaborted", "epipe")  # faults of calls


def check_chance(name: str, chance: Any) -> None:
    """Raise TypeError or ValueError unless it is a chance, from 0 to 1."""
    if isinstance(chance, bool) or not isinstance(chance, int | float):
        raise TypeError(f"{name} must be a number, not {type(chance).__name__}")
    if not 0 <= chance <= 1:
        raise ValueError(f"{name} must be from 0 to 1, not {chance!r}")


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Faults:
    """How often things fail: chances from 0 to 1. For those that are None each seed draws one.

    hoop.sim.run(main, seed=7, faults=hoop.sim.Faults(reset=0.01))
    """

    reset: float = 0.0  # a message resets its connection, and does not arrive
    refuse: float = 0.0  # a connection is refused
    timeout: float = 0.0  # a connection gets no answer
    pieces: float | None = None  # a message arrives in pieces, so that reads are short
    partial: float | None = None  # a connection has small buffers, so that writes are partial
    spikes: float | None = None  # a message takes much longer than others
    loss: float | None = None  # a datagram is lost
    duplicate: float | None = None  # a datagram comes twice
    emfile: float = 0.0  # accept(), socket() or the opening of a file fails with EMFILE or ENFILE
    enobufs: float = 0.0  # a send fails with ENOBUFS or ENOMEM
    econnaborted: float = 0.0  # accept() fails with ECONNABORTED, and the connection is reset
    epipe: float = 0.0  # a message finds the other side gone: reads see the end, and sends EPIPE
    cancel: float = 0.0  # a task that has begun to wait is cancelled
    cancel_main: bool = False  # main tasks are, too

    def __repr__(self) -> str:
        usual = Faults.__dataclass_fields__
        given = [f"{k}={v!r}" for k, v in vars(self).items() if v != usual[k].default]
        return f"Faults({', '.join(given)})"

    def __post_init__(self) -> None:
        for name, chance in vars(self).items():
            if name == "cancel_main":
                if not isinstance(chance, bool):
                    raise TypeError(f"{name} must be True or False, not {chance!r}")
            elif chance is not None:
                check_chance(name, chance)


class Weather(Delays):
    """The parameters that one seed draws for its network."""

    def __init__(self, choices: Choices, faults: Faults) -> None:
        self.faults = faults
        self.reset, self.epipe = faults.reset, faults.epipe
        # Seconds. One range for all seeds would hide bugs: most need delays that are alike, or far apart.
        self.high = 10.0 ** (choices.choose(4) - 4) * (0.1 + 0.9 * choices.fraction())
        self.low = self.high * (0.01, 0.3, 1.0)[choices.choose(3)]
        self.spikes = drawn(choices, faults.spikes, (0.0, 0.01, 0.05))
        # No message takes longer than half a second: programs give up after a few of those.
        self.spike = min((2.0, 5.0, 20.0)[choices.choose(3)], SPIKE_SECONDS_MAX / self.high)
        self.bandwidth = (0.0, 0.0, 1e7, 1e6, 1e5)[choices.choose(5)]  # bytes a second
        self.pieces = drawn(choices, faults.pieces, (0.0, 0.0, 0.1, 1.0))
        self.piece = 1 + choices.choose(PIECE_BYTES[choices.choose(len(PIECE_BYTES))])
        self.partial = drawn(choices, faults.partial, (0.0, 0.0, 0.5, 1.0))
        # Whether the driver receives and sends for transports, and how many bytes at once.
        self.completes = choices.choose(2) == 1
        self.at_once = (16384, 4096, 1024, 512)[choices.choose(4)]
        self.window = (WHOLE, WHOLE, 65536, 4096)[choices.choose(4)]

    def buffer(self, choices: Choices) -> int:
        """The size of a connection's buffer."""
        return SMALL_BUFFER if rarely(choices, self.partial) else LARGE_BUFFER

    def parameters(self) -> dict[str, str]:
        """The parameters in words, for the report."""
        found = {"driver": "completion" if self.completes else "readiness"}
        found["latency"] = f"{self.low * 1e3:.3g} to {self.high * 1e3:.3g} ms"
        if self.spikes:
            found["spikes"] = f"{self.spikes:.2g} x {self.spike:.0f}"
        if self.bandwidth:
            found["bandwidth"] = f"{self.bandwidth / 1000:.0f} kB/s"
        if self.pieces:
            found["pieces"] = f"{self.pieces:.2g} of up to {self.piece} bytes"
        if self.partial:
            found["small buffers"] = f"{self.partial:.2g}"
        for name in ("reset", "refuse", "timeout", *CALLS):
            chance = getattr(self.faults, name)
            if chance:
                found[name] = f"{chance:.2g}"
        return found


def check_names(names: Names) -> None:
    """Raise TypeError or ValueError unless names are names with addresses."""
    if not isinstance(names, Mapping):
        raise TypeError(f"names must have addresses for names, not {type(names).__name__}")
    for name, found in names.items():
        several = isinstance(found, Sequence) and not isinstance(found, str)
        addresses: Any = found if several else [found]
        if not all(isinstance(text, str) for text in (name, *addresses)):
            raise TypeError(f"names must have addresses for names, not {found!r} for {name!r}")
        for text in addresses:
            try:
                _socket.getaddrinfo(text, None, 0, 0, 0, _socket.AI_NUMERICHOST)
            except (_socket.gaierror, UnicodeError):
                raise ValueError(f"names must have addresses, not {text!r} for {name!r}") from None


def rarely(choices: Choices, chance: float) -> bool:
    """Whether something happens that has this chance."""
    return chance > 0 and choices.rarely(chance)


def drawn(choices: Choices, asked: float | None, usual: tuple[float, ...]) -> float:
    """The chance of something: what is asked for, or one of the usual. It always takes one draw."""
    found = usual[choices.choose(len(usual))]
    return found if asked is None else asked
