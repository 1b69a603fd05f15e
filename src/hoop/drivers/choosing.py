"""Chooses the driver of a loop: io_uring where it works, epoll everywhere else.

The argument `driver` or the environment variable HOOP_DRIVER name one. They are read before io_uring is
touched, because some sandboxes kill a process that tries it. To be safe there, ask for epoll.
If io_uring does not work, a line in the log `hoop` says why.

The argument `spin_us` or HOOP_SPIN_US say how long a loop polls before it sleeps.
"""

from __future__ import annotations

import errno
import logging
import math
import os
from typing import Literal

from hoop.drivers import capabilities
from hoop.drivers.driver import Driver
from hoop.drivers.epoll import EpollDriver
from hoop.drivers.uring import UringDriver

DriverName = Literal["epoll", "uring"]
NAMES = ("epoll", "uring")
SPIN_US_MAX = 1_000_000

logger = logging.getLogger("hoop")
_told: set[str] = set()
_has_run = False  # whether a loop has run in this process


def choose(name: DriverName | None = None) -> Driver:
    """Make the driver of that name, else the one that HOOP_DRIVER names, else the better one that works.

    Raises ValueError for an unknown name. Raises OSError if the argument asks for io_uring and it does not
    work here. If HOOP_DRIVER asks for it, epoll is used instead, with a warning in the log.
    """
    asked = name or capabilities.setting("HOOP_DRIVER")
    if asked is not None and asked not in NAMES:
        source = "driver" if name else "HOOP_DRIVER"
        raise ValueError(f"{source} must be 'epoll' or 'uring', not {asked!r}")
    if asked == "epoll":
        return EpollDriver()
    reason = capabilities.why_not()
    if reason is None:
        without = capabilities.setting("HOOP_URING_WITHOUT")
        return UringDriver(without.replace(",", " ").split() if without else ())
    if name == "uring":
        raise OSError(errno.ENOSYS, f"io_uring cannot be used here: {reason}")
    tell(f"io_uring cannot be used here ({reason}): using epoll", asked is not None)
    return EpollDriver()


def choose_spin(spin_us: float | None = None) -> int:
    """Return for how many nanoseconds a loop spins: as the argument says, else HOOP_SPIN_US, else 0.

    Raises ValueError for less than 0 or more than a second, and TypeError for anything but a number.
    """
    source = "spin_us"
    asked: object = spin_us
    if spin_us is None:
        source = "HOOP_SPIN_US"
        asked = capabilities.setting("HOOP_SPIN_US")
        if asked is None:
            return 0
        try:
            spin_us = float(str(asked))
        except ValueError:
            spin_us = math.nan
    elif not isinstance(spin_us, (int, float)):
        raise TypeError(f"spin_us must be a number, not {type(spin_us).__name__}")
    if not 0 <= spin_us <= SPIN_US_MAX:
        raise ValueError(f"{source} must be a number from 0 to {SPIN_US_MAX}, not {asked!r}")
    return int(spin_us * 1000)


def after_failure(error: int) -> Driver:
    """Make the driver that takes over when the kernel refuses a ring, for example for want of memory."""
    tell(f"the kernel refused a loop its ring ({os.strerror(error)}): using epoll", True)
    return EpollDriver()


def tell(message: str, warn: bool) -> None:
    """Write a message to the log, once per process."""
    if message not in _told:
        _told.add(message)
        logger.log(logging.WARNING if warn else logging.INFO, message)


def tell_running(driver: str) -> None:
    """Write to the log, when the first loop of a process starts to run, that it does."""
    global _has_run
    if not _has_run:
        _has_run = True
        logger.info("hoop's event loop runs in process %d, with the driver %s", os.getpid(), driver)


def _forget_run() -> None:
    global _has_run
    _has_run = False


os.register_at_fork(after_in_child=_forget_run)
